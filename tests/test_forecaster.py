"""The forecaster: network, estimator, files, backtest, command line."""

from __future__ import annotations

import csv
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import rnncore
from rnncore import Forecaster
from rnncore.cli import main
from rnncore.data.series import Series, read_series
from rnncore.data.windows import WindowBatch
from rnncore.estimators import NotFittedError
from rnncore.estimators.backtest import backtest
from rnncore.estimators.forecaster_source import known_of, source_of, windows_in, windows_of
from rnncore.estimators.plot_forecast import format_forecasts, plot_forecasts
from rnncore.models import LanguageNetwork
from rnncore.models.forecaster_network import ForecasterNetwork, ForecasterSettings

RNG = np.random.default_rng
NAN = float("nan")
SMALL: dict[str, Any] = {"look_back": 24, "horizon": 6, "segment": 6, "hidden_size": 8, "epochs": 3,
                         "batch_size": 32, "learning_rate": 5e-3}  # fmt: skip


def wave(count: int, seed: int = 0, noise: float = 0.1) -> np.ndarray:
    """Return a season of 12 on a slope, with noise."""
    t = np.arange(count)
    return np.sin(2 * np.pi * t / 12) + t / 100 + noise * RNG(seed).standard_normal(count)


def fitted(X: Any = None, **changed: Any) -> Forecaster:
    return Forecaster(**{**SMALL, **changed}).fit(wave(240) if X is None else X)


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"highway": "trained", "validation_fraction": 0.2}, {"head": "gaussian"},
        {"cell": "lstm", "num_layers": 2, "dropout": 0.1}, {"scaling": "window", "segment": 4},
        {"centre": "mean"}, {"refit": True, "validation_fraction": 0.2}, {"interval": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_it_predicts_a_season_on_a_slope(changed: dict[str, Any]) -> None:
    forecaster = fitted(**changed)
    truth = wave(246, noise=0)[240:]
    [found] = forecaster.predict(wave(240))
    assert np.abs(found.median - truth).max() < 0.25
    assert (found.low <= found.median).all() and (found.median <= found.high).all()
    assert (found.high > found.low).all() == (forecaster.interval > 0)
    assert forecaster.score(wave(246)) > 0.5


def test_the_network_itself_learns() -> None:
    # What no linear autoregression sees: the next value is the larger one of the last two.
    rng, y = RNG(0), [0.0, 1.0]
    for _ in range(1500):
        y.append(0.9 * max(y[-1], y[-2]) + rng.normal() - 1.2 * (y[-1] > 2))
    settings: dict[str, Any] = {"look_back": 4, "horizon": 1, "segment": 1, "batch_size": 32}
    errors = []
    for epochs in (0.02, 12):
        forecaster = Forecaster(**settings, epochs=epochs, learning_rate=0.01).fit(y[:1200])
        [row] = backtest(forecaster, y, 300, baselines=(), fitted=True).rows
        errors.append(row.mase)
    assert errors[1] < 0.98 * errors[0]


def test_the_highway_begins_as_the_autoregression_that_fits() -> None:
    y = [1.0, 2.0]
    for _ in range(100):
        y.append(1.5 * y[-1] - 0.9 * y[-2] + 1)
    network = fitted(np.array(y), epochs=0.001, dtype="float64", look_back=6).network_
    windows = windows_of(network, [Series("series", y)], [[50, 70]])
    network.widening[:] = 0
    found = network.forecast(windows)[..., 1]
    np.testing.assert_allclose(found, [y[50:56], y[70:76]], rtol=0.02, atol=0.02)


def network_and_batch(**changed: Any) -> tuple[ForecasterNetwork, Any]:
    covariates = RNG(3).standard_normal((60, 2))
    series = [
        Series(name, wave(50, seed), covariates=covariates, covariate_names=("u", "v"))
        for seed, name in enumerate("ab")
    ]
    series[0].values[20:40:3] = NAN
    values = {"look_back": 6, "horizon": 5, "segment": 3, "hidden_size": 3, "dtype": "float64",
              "highway": "trained", "series_vectors": "each", **changed}  # fmt: skip
    settings = ForecasterSettings(**values)
    network = ForecasterNetwork(known_of(series, settings), settings, seed=0)
    rng = RNG(4)  # a head of zeros would hide what lies before it
    with network.changing_weights() as flat:
        flat += 0.1 * rng.standard_normal(flat.shape)
    source = source_of(network, series, 0.0, batch_size=5)
    return network, source.batch(1)


@pytest.mark.parametrize("head", ["quantile", "gaussian"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gradients(cell: str, head: str) -> None:
    network, batch = network_and_batch(cell=cell, head=head)
    assert np.isnan(batch[-1]).any(), "some targets are not known"
    errors = rnncore.check_gradients(network, lambda: network.loss(*batch))
    names = {name.partition(".")[0] for name in errors}
    assert names == {"reader", "rnn", "places", "vectors", "ahead", "head", "linear"}


def test_unknown_targets_do_not_count() -> None:
    network, batch = network_and_batch()
    *arrays, targets = batch
    [(total, count)], _ = network.measure(*arrays, targets, None)
    assert count == np.isfinite(targets).sum()
    out = network.out(WindowBatch(*arrays))
    e = targets[..., None] - np.asarray(out)
    q = np.array(network.forecaster_settings.quantiles)
    assert total == pytest.approx(np.nansum(np.maximum(q * e, (q - 1) * e).mean(-1)))


def test_intervals_are_calibrated_on_what_was_held_out() -> None:
    y = wave(600, noise=0.5)
    forecaster = fitted(y, validation_fraction=0.3, epochs=1, highway="trained")
    network = forecaster.network_
    source = source_of(network, [Series("series", y)], 0.3)
    assert source.held_out is not None
    windows = windows_in(source.held_out)
    found = network.forecast(windows)
    truth = windows.unscaled(slice(None), windows.targets(slice(None))[..., None])[..., 0]
    inside = ((truth >= found[..., 0]) & (truth <= found[..., 2])).mean(0)
    assert (inside >= 0.89).all(), "at every step"
    assert (network.widening >= 0).all() and network.widening.any()


def test_nothing_held_out_is_trained_on() -> None:
    y = wave(200)
    other = y.copy()
    other[150:] += 100
    one, two = (
        ForecasterNetwork(known_of([Series("s", x)], s, 0.25), s, seed=0)
        for x in (y, other) for s in [ForecasterSettings(look_back=24, horizon=6)]
    )  # fmt: skip
    assert one.known == two.known
    sources = [source_of(n, [Series("s", x)], 0.25) for n, x in ((one, y), (two, other))]
    for number in range(sources[0].per_epoch):
        for a, b in zip(*(source.batch(number) for source in sources), strict=True):
            np.testing.assert_array_equal(a, b)
    assert sources[0].fingerprint != sources[1].fingerprint
    assert sources[0].held_out is not None
    assert windows_in(sources[0].held_out).places[:, 1].min() == 150


def test_several_series_and_one_that_is_new() -> None:
    series = {"up": wave(200), "down": -5 * wave(200, 1), "flat": np.full(200, 3.0)}
    forecaster = fitted(series, series_vectors="each")
    up, down, flat = forecaster.predict(series)
    assert [one.name for one in (up, down, flat)] == ["up", "down", "flat"]
    assert np.abs(up.median - wave(206, noise=0)[200:]).max() < 0.3
    assert np.abs(down.median + 5 * wave(206, noise=0)[200:]).max() < 2
    [alone] = forecaster.predict({"down": series["down"]})
    np.testing.assert_allclose(alone.median, down.median, rtol=1e-5)
    [new] = forecaster.predict({"new": 7 * wave(200, 2)})
    assert np.abs(new.median - 7 * wave(206, noise=0)[200:]).max() < 4
    assert np.isfinite(flat.median).all()


def test_covariates_that_are_known_ahead_help() -> None:
    rng = RNG(0)
    w = rng.integers(0, 2, 400).astype(float)
    y = 10 * w + 0.1 * rng.standard_normal(400)
    series = Series("y", y[:390], covariates=w[:, None], covariate_names=("w",))
    forecaster = fitted([series], segment=1, look_back=6, epochs=12, hidden_size=16,
                        learning_rate=0.01)  # fmt: skip
    [found] = forecaster.predict([series])
    assert np.abs(found.median - 10 * w[390:396]).max() < 2
    with pytest.raises(ValueError, match="expected the covariates of 11 steps ahead of 'y', got"):
        forecaster.predict([series], 11)
    with pytest.raises(ValueError, match=r"the covariates\s+\('w',\) that the model has learnt"):
        forecaster.predict(y)


def test_beyond_the_horizon_it_goes_on_from_its_medians() -> None:
    forecaster, y = fitted(), wave(240)
    [far] = forecaster.predict(y, 15)
    [near] = forecaster.predict(y)
    np.testing.assert_allclose(far.median[:6], near.median)
    [next_] = forecaster.predict(np.r_[y, near.median])
    np.testing.assert_allclose(far.median[6:12], next_.median, rtol=1e-5)
    widths = far.high - far.low
    assert (widths[6:12] > next_.high - next_.low).all() and len(far.dates) == 15


def test_a_stream_says_what_predict_says() -> None:
    y = wave(150)
    forecaster = fitted(y)
    stream = forecaster.stream(y[:60])
    for end in (61, 62):
        found = stream.step(y[end - 1])
        [expected] = forecaster.predict({"series": y[:end]})
        np.testing.assert_allclose(found.median, expected.median, rtol=1e-4, atol=1e-5)
        assert found.dates == expected.dates
    found, [expected] = stream.process(y[62:140]), forecaster.predict({"series": y[:140]})
    np.testing.assert_allclose(found.high, expected.high, rtol=1e-4, atol=1e-5)
    assert found.dates == expected.dates and np.isfinite(stream.step(NAN).median).all()
    with pytest.raises(ValueError, match="history: expected one series"):
        forecaster.stream({"a": y, "b": y})
    with pytest.raises(ValueError, match="expected 24 values or more"):
        forecaster.stream(y[:20])
    with pytest.raises(TypeError, match="history: expected a file, a Series"):
        forecaster.stream()


def test_a_file_holds_it(tmp_path: Path) -> None:
    forecaster, path = fitted(validation_fraction=0.2, cell="lstm"), tmp_path / "forecaster"
    forecaster.save(path)
    [expected] = forecaster.predict(wave(240))
    for again in (Forecaster.load(path), pickle.loads(pickle.dumps(forecaster))):
        [found] = again.predict(wave(240))
        np.testing.assert_array_equal(found.median, expected.median)
        np.testing.assert_array_equal(found.low, expected.low)
        assert again.look_back == 24 and again.cell == "lstm"
    assert isinstance(rnncore.load(path), Forecaster)


@pytest.mark.parametrize(
    "forged",
    [
        {"hidden_size": 10**6}, {"look_back": 10**6}, {"horizon": 12}, {"segment": 4},
        {"num_layers": 10**6}, {"cell": "lstm"}, {"highway": "none"}, {"head": "what"},
        {"widening": [[0.0]]}, {"known": {}}, {"interval": 0.0}, {"series_vectors": "each"},
        {"transform": 5},
    ],
    ids=str,
)  # fmt: skip
def test_a_file_of_other_sizes_is_refused(tmp_path: Path, forged: dict[str, Any]) -> None:
    network, path = fitted(epochs=1).network_, tmp_path / "forecaster"
    description = {**network.describe(), **forged}
    rnncore.files.save(path, network.state_dict(), {"kind": "forecaster", "model": description})
    with pytest.raises(rnncore.FileError, match=r"expected a forecaster, but .* something else"):
        rnncore.load(path)


def test_the_habits_of_estimators() -> None:
    forecaster = Forecaster(horizon=3)
    assert repr(forecaster) == "Forecaster(horizon=3)"
    assert Forecaster(**forecaster.get_params()).get_params() == forecaster.get_params()
    for ask in (lambda: forecaster.predict(wave(100)), lambda: forecaster.stream(wave(100))):
        with pytest.raises(NotFittedError, match="call fit with data"):
            ask()
    one, two, other = (fitted(seed=k).network_.flat_params for k in (0, 0, 1))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    sklearn = pytest.importorskip("sklearn")
    assert sklearn.base.clone(forecaster).get_params() == forecaster.get_params()


@pytest.mark.parametrize(
    ("X", "changed", "match"),
    [
        (wave(20), {}, "expected 25 values or more to train on, .* but 'series' has 20 of 20"),
        (wave(30), {"validation_fraction": 0.5}, "'series' has 15 of 30"),
        (np.r_[wave(24), np.full(5, NAN)], {}, "expected known values to predict"),
        (wave(90), {"segment": 5}, "look_back: expected a multiple of segment = 5, got 24"),
        (wave(90) - 9, {"transform": "log"}, "expected values above 0 for the transform 'log'"),
        (wave(90), {"head": "what"}, "head: expected one of quantile, gaussian"),
        (wave(90), {"validation_fraction": 1.0}, "validation_fraction: expected"),
    ],
)
def test_bad_data(X: Any, changed: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        fitted(X, **changed)


def test_backtests_stand_beside_baselines() -> None:
    y = wave(300, noise=0.2)
    found = backtest(Forecaster(**SMALL), y, 60, (1, 6), season=12, every=2)
    assert found.origins == 28 and len(found.rows) == 8
    rows = {(row.name, row.steps): row for row in found.rows}
    assert rows["Forecaster", 6].mase < rows["naive with drift", 6].mase
    assert 0.6 < rows["Forecaster", 6].coverage <= 1
    assert np.isnan(rows["autoregression", 6].coverage)
    naive = [
        np.abs(y[k : k + 6] - y[k - 12 : k - 6]).mean() for k in range(240, 295, 2)
    ]  # fmt: skip
    scale = np.abs(y[12:240] - y[:228]).mean()
    assert rows["seasonal naive", 6].mase == pytest.approx(np.mean(naive) / scale)
    table = str(found).splitlines()
    assert table[0].startswith("| 28 origins | MASE, 1 to 1 |") and len(table) == 6
    with pytest.raises(ValueError, match="baselines: expected one of seasonal naive"):
        backtest(Forecaster(**SMALL), y, 60, baselines=["magic"])
    with pytest.raises(ValueError, match="steps, test: expected steps up to the horizon 6"):
        backtest(Forecaster(**SMALL), y, 60, (7,))


def test_models_of_statsforecast() -> None:
    pytest.importorskip("statsforecast")
    found = backtest(
        Forecaster(**SMALL), wave(120), 8, season=12, baselines=["AutoETS"], every=2
    )  # fmt: skip
    assert found.rows[1].name == "AutoETS" and found.rows[1].mase < 1.5


# The command line


def run(*words: Any) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    days = np.datetime64("2020-01-01") + np.arange(240)
    path = tmp_path / "data.csv"
    lines = [f"{day},{a:.4f},{b:.4f}" for day, a, b in zip(days, wave(240), wave(240, 1) * 3,
                                                           strict=True)]  # fmt: skip
    lines[100] = f"{days[100]},,"
    del lines[50]
    path.write_text("day,a,b\n" + "\n".join(lines) + "\n")
    return path


OPTIONS = ["--look-back", 24, "--horizon", 6, "--segment", 6, "--hidden-size", 8,
           "--batch-size", 32, "--learning-rate", 0.005]  # fmt: skip


def test_train_series_and_forecast(file: Path) -> None:
    out = file.parent / "out"
    done = run("train", "series", file, *OPTIONS, "--epochs", 2, "--output", out)
    assert done.exit_code == 0, done.output
    assert "2 series of 480 values, 1 day" in done.output and "from 2020-01-01" in done.output
    assert "4 missing" in done.output and "Let it predict:" in done.output
    model, table, picture = (out / name for name in ("model.safetensors", "f.csv", "f.png"))
    said = run("forecast", model, file, "--steps", 8)
    assert said.exit_code == 0, said.output
    rows = list(csv.DictReader(io.StringIO(said.output)))
    assert len(rows) == 16 and rows[0]["series"] == "a" and rows[0]["date"] == "2020-08-28"
    truth = wave(246, noise=0)[240:]
    found = np.array([float(row["forecast"]) for row in rows[:6]])
    assert np.abs(found - truth).max() < 0.4
    assert all(float(r["low"]) <= float(r["forecast"]) <= float(r["high"]) for r in rows)
    again = run("forecast", model, file, "--steps", 8, "--output", table, "--picture", picture)
    assert again.exit_code == 0 and again.output == "" and table.read_text() == said.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    one = run("forecast", model, file, "--column", "b")
    assert [row["series"] for row in csv.DictReader(io.StringIO(one.output))] == ["b"] * 6


def test_train_series_in_two_parts(file: Path) -> None:
    whole, parts = file.parent / "whole", file.parent / "parts"
    begin = ["train", "series", file, "--held-out", 0.25]
    fixed = [*OPTIONS, "--schedule", "constant", "--dropout", 0.1, "--average", 0.9]
    assert run(*begin, *fixed, "--steps", 12, "--output", whole).exit_code == 0
    assert run(*begin, *fixed, "--steps", 5, "--output", parts).exit_code == 0
    done = run(*begin, "--resume", parts / "last.safetensors", "--steps", 12)
    assert done.exit_code == 0, done.output
    for name in ("last.safetensors", "model.safetensors"):
        one, two = (rnncore.files.load(folder / name) for folder in (whole, parts))
        assert one.tensors.keys() == two.tensors.keys()
        assert all(np.array_equal(one.tensors[key], two.tensors[key]) for key in one.tensors)
        assert one.metadata["model"] == two.metadata["model"]
    last = parts / "last.safetensors"
    for words, match in (
        ([*begin, "--horizon", 7], "--horizon: expected 6"),
        ([*begin[:3], "--held-out", 0.3], "expected the very data"),
        ([*begin[:3], "--column", "a"], "expected the very data"),
    ):
        done = run(*words, "--resume", last, "--steps", 20)
        assert done.exit_code == 2 and match in done.output, (words, done.output)
    more = run(*begin, "--init-from", last, "--epochs", 1, "--output", file.parent / "more")
    assert more.exit_code == 0, more.output


def test_errors_of_the_commands(file: Path) -> None:
    folder = file.parent
    (folder / "bad.csv").write_text("day,a\n2020-01-01,1\n2020-01-02,high\n")
    (folder / "short.csv").write_text("day,a\n2020-01-01,1\n2020-01-02,2\n")
    (folder / "weekly.csv").write_text(
        "day,a\n" + "".join(f"{np.datetime64('2020-01-01') + 7 * k},{k}\n" for k in range(60))
    )
    text = folder / "text.safetensors"
    LanguageNetwork(rnncore.data.Vocabulary("ab"), hidden_size=4).save(text)
    model = folder / "out" / "model.safetensors"
    begun = run("train", "series", file, *OPTIONS, "--column", "a", "--steps", 2, "--output",
                folder / "out")  # fmt: skip
    assert begun.exit_code == 0, begun.output
    for words, match in (
        (["train", "series", folder / "missing"], "missing"),
        (["train", "series", folder / "bad.csv"], "bad.csv, line 3: expected a number in column"),
        (["train", "series", folder / "short.csv"], "'a' has 0 of 2"),
        (["train", "series", file, "--column", "c"], "expected a column 'c'"),
        (["train", "series", file, "--segment", 5], "look_back: expected a multiple of segment"),
        (["train", "series", file, "--init-from", text], "expected a forecaster"),
        (["forecast", text, file], "expected a forecaster, but"),
        (["forecast", file, file], "data.csv"),
        (["forecast", model, folder / "short.csv"], "expected 24 values or more"),
        (["forecast", model, folder / "weekly.csv"], "expected steps of 1 day and"),
        (["forecast", model, folder / "bad.csv"], "bad.csv, line 3"),
        (["forecast", model, file, "--steps", 10**7], "steps: expected dates up to the year 9999"),
        (["forecast", model, file, "--steps", 10**20], "steps: expected dates up to the year 9999"),
    ):
        where = folder / "x"
        done = run(*words, "--output", where)
        assert done.exit_code == 2, (words, done.output)
        assert match in done.output and "Traceback" not in done.output, (words, done.output)
        assert not where.exists()


def test_an_output_that_cannot_be_written(file: Path) -> None:
    out = file.parent / "out"
    begun = run("train", "series", file, *OPTIONS, "--column", "a", "--steps", 1, "--output", out)
    assert begun.exit_code == 0, begun.output
    for where in (file.parent / "gone" / "x.csv", out):
        done = run("forecast", out / "model.safetensors", file, "--output", where)
        assert done.exit_code == 2 and "Errno" not in done.output
        assert f"Error: '{where}': " in done.output and "name another file" in done.output


def test_a_picture_needs_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="matplotlib: expected to be installed"):
        plot_forecasts(tmp_path / "x.png", [], [])


def test_forecasts_as_csv() -> None:
    text = format_forecasts(fitted({'a, "b"': wave(100)}).predict({'a, "b"': wave(100)}, 2))
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["series", "date", "forecast", "low", "high"]
    assert [row[:2] for row in rows[1:]] == [['a, "b"', "101"], ['a, "b"', "102"]]


def test_real_series(data_folder: Path) -> None:
    path = data_folder / "series" / "co2-weekly.csv"
    if not path.exists():
        pytest.skip(f"no {path}")
    series = read_series(path)
    assert len(series[0].values) == 2284 and series[0].gaps == 59
    forecaster = Forecaster(look_back=104, horizon=52, segment=52, hidden_size=16, epochs=2)
    found = backtest(forecaster, series, 456, (52,), season=52, every=4)
    ours, *others = [row.mase for row in found.rows]
    assert ours < 0.5 and ours < min(others) + 0.05
