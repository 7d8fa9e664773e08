"""Series: CSV files, dates, gaps, covariates, windows, measures, baselines."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnncore.data.series import Series, read_series, series_of
from rnncore.data.times import FORMS, Times, form_of, parsed
from rnncore.data.windows import WindowForm, Windows, mean_and_scale
from rnncore.estimators import Forecaster
from rnncore.estimators.accuracy import coverage, mase, owa, seasonal_error, smape
from rnncore.estimators.backtest import backtest
from rnncore.estimators.baselines import (
    Autoregression,
    naive2,
    naive_with_drift,
    seasonal_naive,
    statsforecast_model,
)
from rnncore.models.autoregression import fit_autoregression, iterated

RNG = np.random.default_rng
NAN = float("nan")


def written(folder: Path, text: str) -> Path:
    path = folder / "series.csv"
    path.write_text(text)
    return path


def test_dates_are_kept_and_gaps_are_found(tmp_path: Path) -> None:
    path = written(tmp_path, "day,a,b\n2020-02-27,1,5\n2020-02-28,,6\n2020-03-01,4,7\n")
    a, b = read_series(path)
    assert (a.name, b.name) == ("a", "b")
    np.testing.assert_array_equal(a.values, [1, NAN, NAN, 4])
    np.testing.assert_array_equal(b.values, [5, 6, NAN, 7])
    assert a.filled().tolist() == [1, 2, 3, 4] and (a.gaps, b.gaps) == (2, 1)
    assert [a.date(k) for k in (0, 2, 4)] == ["2020-02-27", "2020-02-29", "2020-03-02"]
    assert [one.name for one in read_series(path, ["b"])] == ["b"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_date_is_read_and_written_alike(form: str) -> None:
    moment = datetime(1749, 3, 1) if form != "%Y" else datetime(1749, 1, 1)
    text = moment.strftime(form)
    found = form_of(text)
    assert found is not None and parsed(text, found) == moment
    assert Times(moment, 12, "months", found).text(0) == text
    assert form_of("x" + text) is None and form_of("") is None


@pytest.mark.parametrize(
    ("dates", "step", "after"),
    [
        (["2000", "2001", "2003"], "12 months", "2004"),
        (["2020-01-31", "2020-02-29", "2020-03-31"], "1 month", "2020-04-30"),
        (["2020-01-05", "2020-01-12", "2020-01-26"], "7 days", "2020-02-02"),
        (["2020-01-01 22:00", "2020-01-01 23:00", "2020-01-02 00:00"], "1:00:00",
         "2020-01-02 01:00"),
        (["20200101", "20200102", "20200103"], "1 day", "20200104"),
    ],
)  # fmt: skip
def test_steps(tmp_path: Path, dates: list[str], step: str, after: str) -> None:
    lines = "".join(f"{date},1\n" for date in dates)
    [series] = read_series(written(tmp_path, "when,x\n" + lines))
    assert series.times is not None and series.times.step_text == step
    assert series.date(len(series.values)) == after


def test_the_calendar_turns_with_the_day_the_week_and_the_year() -> None:
    hourly = Times(datetime(2000, 1, 3), 3600, "seconds", "%Y-%m-%d %H:%M")  # a Monday
    waves = hourly.calendar(24 * 7 + 1)
    assert waves.shape[1] == hourly.calendar_size == 6
    np.testing.assert_allclose(waves[0, :4], [0, 1, 0, 1], atol=1e-12)
    np.testing.assert_allclose(waves[6, :2], [1, 0], atol=1e-12)  # a quarter of a day
    np.testing.assert_allclose(waves[24, :2], waves[0, :2], atol=1e-9)
    np.testing.assert_allclose(waves[168, :4], waves[0, :4], atol=1e-9)
    assert Times(datetime(2000, 1, 1), 12, "months", "%Y").calendar_size == 0
    assert Times(datetime(2000, 1, 1), 1, "months", "%Y-%m").calendar_size == 2


def test_covariates_may_go_on_after_the_values(tmp_path: Path) -> None:
    path = written(tmp_path, "day,x,w\n2020-01-01,1,7\n2020-01-02,2,8\n2020-01-03,,9\n")
    [series] = read_series(path, covariates=["w"])
    assert series.values.tolist() == [1, 2] and series.covariates is not None
    assert series.covariates.ravel().tolist() == [7, 8, 9]
    [plain] = read_series(path, ["x"])
    assert len(plain.values) == 3  # a gap, since nothing says that it is ahead


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("d,x\n2020-01-01,1\n2020-01-02,high\n",
         "line 3: expected a number in column 'x', got 'high'"),
        ("d,x\n2020-01-01,1\n2020-01-01,2\n", "line 3: .* got '2020-01-01' a second time"),
        ("d,x\n2020-01-02,1\n2020-01-01,2\n", "line 3: .* after '2020-01-02'"),
        ("d,x\n2020-01-01,1\n2020-01-02\n", "line 3: expected 2 cells as in line 1, got 1"),
        ("d,x\n2020-01-01,1\n01.02.2020,2\n", "line 3: expected a date written as in line 2"),
        ("d,x\n2020-01-01,1\n2020-01-02,inf\n", "line 3: expected a finite number"),
        ("d,x\n2020-01-01 00:00,1\n2020-01-01 01:00,2\n2020-01-01 02:00,2\n2020-01-01 02:30,3\n",
         "line 5: expected a date whole steps of 1:00:00 after the first"),
        ("x,x\n1,2\n2,3\n", "line 1: expected distinct names of columns, got 'x' twice"),
        ("d,x\n2020-01-01,\n2020-01-02,\n", "expected numbers in column 'x', got none"),
        ("d\n2020-01-01\n2020-01-02\n", "expected a column of values"),
        ("d,x\n", "expected a line of names and lines of numbers, got 1 lines"),
        ('d,x\n2020-01-01,"1\n', "line 2: expected CSV, but"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"series.csv.*{expected}"):
        read_series(written(tmp_path, text))


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, "d,x\n2020-01-01,1\n2020-01-02,2\n")
    for keywords in ({"columns": ["y"]}, {"covariates": ["y"]}, {"date": "y"}):
        with pytest.raises(ValueError, match=r"expected a column 'y', got 'd', 'x'"):
            read_series(path, **keywords)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="line 2: expected a date such as 2020-01-31, got '1'"):
        read_series(path, date="x")
    path = written(tmp_path, "d,x,w\n2020-01-01,1,1\n2020-01-02,2,1\n2020-01-04,2,1\n")
    with pytest.raises(ValueError, match="there is no row for 2020-01-03"):
        read_series(path, ["x"], ["w"])
    path = written(tmp_path, "d,x,w\n2020-01-01,1,1\n2020-01-02,2,\n")
    with pytest.raises(ValueError, match="line 3: expected a number in column 'w', got ''"):
        read_series(path, ["x"], ["w"])


def test_other_separators_and_no_dates(tmp_path: Path) -> None:
    one, two = read_series(written(tmp_path, '"a";"b"\n1;2\n3;NA\n'))
    assert one.values.tolist() == [1, 3] and two.gaps == 1
    assert one.times is None and one.date(2) == "3"


def test_what_holds_series() -> None:
    y = np.arange(5.0)
    assert series_of("X", y)[0].values.tolist() == y.tolist()
    assert [one.name for one in series_of("X", {"a": y, "b": y})] == ["a", "b"]
    one = Series("a", y)
    assert series_of("X", one) == [one]
    with pytest.raises(ValueError, match="distinct names"):
        series_of("X", [one, one])
    for wrong in (5, [[y]], [y, y], None, []):
        with pytest.raises(TypeError, match="X: expected a file, a Series"):
            series_of("X", wrong)
    with pytest.raises(ValueError, match="a: expected a series of numbers"):
        Series("a", [NAN, NAN])
    with pytest.raises(ValueError, match="a: expected covariates of 5 steps"):
        Series("a", y, covariates=np.zeros((4, 1)), covariate_names=("w",))


def test_tables_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    index = pandas.date_range("2020-01-31", periods=4, freq="ME")
    table = pandas.DataFrame({"a": [1.0, 2, NAN, 4], "b": [1.0, 2, 3, 4]}, index=index)
    a, b = series_of("X", table)
    assert (a.gaps, b.gaps) == (1, 0) and a.date(4) == "2020-05-31"
    assert series_of("X", table["b"])[0].name == "b"
    with pytest.raises(ValueError, match="expected dates at even steps"):
        series_of("X", table.iloc[[0, 1, 3]])


def test_windows_read_what_stands_before_their_origin() -> None:
    values = np.arange(20.0) ** 2
    values[7] = NAN
    form = WindowForm(look_back=4, horizon=3, segment=2, covariates=1)
    covariates = np.arange(24.0)[:, None]
    series = Series("a", values, covariates=covariates, covariate_names=("w",))
    windows = Windows([series], form, [3.0], [2.0], [0], [[4, 6, 20]], np.float64)
    batch, targets = windows.windows([0, 2]), windows.targets([0, 1, 2])
    np.testing.assert_allclose(batch.segments[:, 0, :2].ravel(), (values[:4] - 9) / 2)
    np.testing.assert_allclose(batch.levels[0], (values[:4] - 3) / 2)
    np.testing.assert_allclose(
        batch.levels + batch.offset, (np.stack([values[:4] - 9, values[16:] - 361]) / 2)
    )
    assert batch.segments[:, 0, 2:].ravel().tolist() == [0, 1, 2, 3]
    assert batch.ahead[:, 0].ravel().tolist() == [4, 5, 6, 7]
    assert batch.ahead[:, 1].ravel().tolist() == [20, 21, 22, 23]
    np.testing.assert_allclose(targets[0], (values[4:7] - 9) / 2)
    np.testing.assert_allclose(targets[1], [(36 - 25) / 2, NAN, (64 - 25) / 2])
    assert np.isnan(targets[2]).all()
    np.testing.assert_allclose(windows.unscaled([0], targets[:1, :, None])[0, :, 0], values[4:7])
    assert (
        windows.without_gaps().tolist()
        == [
            0,
            1,
        ]
        and len(windows.places) == 3
    )
    assert Windows([series], form, [3.0], [2.0], [0], [[8]]).without_gaps().tolist() == []


@pytest.mark.parametrize("transform", ["sqrt", "log"])
def test_transforms_come_back(transform: str) -> None:
    values = np.array([1.0, 4.0, 2.0, 9.0, 3.0])
    form = WindowForm(look_back=2, horizon=2, transform=transform, scaling="window")
    windows = Windows([Series("a", values)], form, [0.5], [1.0], [0], [[2, 3]], np.float64)
    back = windows.unscaled([0, 1], windows.targets([0, 1])[..., None])[..., 0]
    np.testing.assert_allclose(back, [values[2:4], values[3:5]])
    with pytest.raises(ValueError, match=f"a: expected values .* for the transform '{transform}'"):
        form.transformed(Series("a", [1.0, -2.0]))


def test_scales() -> None:
    form = WindowForm(look_back=3, horizon=1)
    mean, scale = mean_and_scale(np.array([0.0, 1.0, NAN, 3.0]), form)
    assert mean == pytest.approx(4 / 3) and scale == pytest.approx(np.sqrt((1 + 4) / 2))
    assert mean_and_scale(np.full(9, 5.0), form) == (5.0, 1.0)
    centred = WindowForm(look_back=3, horizon=1, centre="mean")
    assert mean_and_scale(np.array([1.0, 3.0]), centred) == (2.0, 1.0)
    with pytest.raises(ValueError, match="look_back: expected a multiple of segment = 2"):
        WindowForm(look_back=3, horizon=1, segment=2)


# Measures and baselines


def test_measures() -> None:
    assert seasonal_error([1, 2, NAN, 4, 6], 1) == 1.5
    assert mase([1, NAN], [3, 3], [0, 1, 2]) == 2
    assert smape([0, 1], [0, 3]) == 50
    assert owa(1, 4, 2, 2) == 1.25
    assert coverage([1, NAN, 3], [0, 0, 0], [2, 2, 2]) == 0.5
    with pytest.raises(ValueError, match="history: expected values that differ"):
        seasonal_error([1, 1, 1], 1)
    with pytest.raises(ValueError, match="forecast: expected the shape of actual"):
        mase([1, 2], [1], [0, 1])
    with pytest.raises(ValueError, match="actual: expected one known value"):
        smape([NAN], [1])


def test_the_published_figures_of_m4(data_folder: Path) -> None:
    folder = data_folder / "series"
    if not (folder / "m4-hourly-train.csv").exists():
        pytest.skip(f"no M4 in {folder}")
    past, future = (
        [np.array([float(x) for x in line.replace('"', "").split(",")[1:] if x.strip()])
         for line in (folder / f"m4-hourly-{part}.csv").read_text().splitlines()[1:]]
        for part in ("train", "test")
    )  # fmt: skip
    found = []
    for baseline in (naive2, seasonal_naive):
        forecasts = [baseline(y, 48, 24) for y in past]
        found.append(
            (
                np.mean([smape(y, f) for y, f in zip(future, forecasts, strict=True)]),
                np.mean(
                    [mase(y, f, h, 24) for y, f, h in zip(future, forecasts, past, strict=True)]
                ),
            )
        )
    assert found[0] == pytest.approx((18.383, 2.395), abs=6e-4)
    assert found[1] == pytest.approx((13.912, 1.193), abs=6e-4)
    assert owa(*found[1], *found[0]) == pytest.approx(0.627, abs=1e-3)


def test_baselines() -> None:
    y = np.arange(1.0, 9.0)
    assert seasonal_naive(y, 5, 3).tolist() == [6, 7, 8, 6, 7]
    assert naive_with_drift(y, 3).tolist() == [9, 10, 11]
    assert naive_with_drift(y, 3, 2).tolist() == [9, 10, 11]
    season = np.array([2.0, 1.0, 0.5, 0.5])
    np.testing.assert_allclose(naive2(np.tile(season, 6), 6, 4), np.resize(season, 6), rtol=1e-12)
    assert naive2(y, 2, 1).tolist() == [8, 8]
    noise = RNG(0).standard_normal(40) + 10
    assert naive2(noise, 2, 4).tolist() == [noise[-1]] * 2  # no season to be seen
    with pytest.raises(ValueError, match="history: expected 3 numbers or more"):
        seasonal_naive([1.0], 2, 3)
    with pytest.raises(ValueError, match="without gaps"):
        naive_with_drift([1.0, NAN], 2)


def test_autoregressions_find_what_made_a_series() -> None:
    y, rng = [0.0, 0.0], RNG(0)
    for _ in range(4000):
        y.append(5 + 1.2 * y[-1] - 0.5 * y[-2] + rng.normal())
    model = Autoregression(y, 6)
    np.testing.assert_allclose(model._one.weights[-2:], [-0.5, 1.2], atol=0.06)
    expected = list(y[-2:])
    for _ in range(5):
        expected.append(5 + 1.2 * expected[-1] - 0.5 * expected[-2])
    np.testing.assert_allclose(model(y, 5), expected[2:], atol=0.5)
    with pytest.raises(ValueError, match="stretches of 3 without gaps"):
        Autoregression([1, 2, NAN, 4, NAN, 5, 7], 2)


def test_orders_are_those_of_least_squares_one_by_one() -> None:
    rng = RNG(1)
    x, y = rng.standard_normal((60, 5)), rng.standard_normal(60)
    y += 2 * x[:, 4] - x[:, 3]
    best: tuple[float, Any] = (np.inf, None)
    for order in range(1, 6):
        columns = np.concatenate([np.ones((60, 1)), x[:, ::-1][:, :order]], 1)
        weights, rss, *_ = np.linalg.lstsq(columns, y, rcond=None)
        aic = 60 * np.log(rss[0]) + 2 * order
        if aic < best[0]:
            best = aic, weights
    found = fit_autoregression(x, y)
    assert float(found.constant) == pytest.approx(best[1][0])
    expected = np.r_[np.zeros(6 - len(best[1])), best[1][:0:-1]]
    np.testing.assert_allclose(found.weights, expected, atol=1e-12)
    two = iterated(found, 2)
    window = np.r_[x[0], two.weights[0] @ x[0] + two.constant[0]]
    assert two.weights[1] @ x[0] + two.constant[1] == pytest.approx(
        found.weights @ window[1:] + found.constant
    )


def test_statsforecast_is_named_by_the_error_that_misses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "statsforecast", None)
    with pytest.raises(ImportError, match=r"AutoETS: expected the package statsforecast"):
        statsforecast_model("AutoETS", 12)


def test_a_gap_before_an_origin_does_not_tell_what_is_behind_it() -> None:
    y = np.cumsum(np.random.default_rng(0).normal(size=300))
    y[201::2] = np.nan
    forecaster = Forecaster(look_back=8, horizon=1, hidden_size=4, epochs=1)
    table = backtest(forecaster, Series("walk", y), 100, baselines=("seasonal naive",), season=1)
    before = np.concatenate([y[199:200], y[200:-2:2]])  # the last value that is known
    repeated = np.abs(y[200::2] - before).mean() / np.abs(np.diff(y[:200])).mean()
    found = [row for row in str(table).splitlines() if "seasonal naive" in row]
    assert f"{repeated:.3f}" in found[0]


def test_a_column_is_not_its_own_covariate(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("day,x\n2020-01-01,1\n2020-01-02,2\n")
    for columns, covariates in ((["x"], ["x"]), (["x", "x"], [])):
        with pytest.raises(ValueError, match="expected each column once, got 'x' twice"):
            read_series(path, columns, covariates)


@pytest.mark.parametrize("first", [(2021, 2), (2021, 4), (2020, 1)])
def test_ends_of_months_stay_ends(first: tuple[int, int], tmp_path: Path) -> None:
    months = [12 * first[0] + first[1] - 1 + k for k in range(30)]
    ends = [date(m // 12 + (m % 12 == 11), (m + 1) % 12 + 1, 1) - timedelta(1) for m in months]
    path = tmp_path / "a.csv"
    path.write_text("date,v\n" + "".join(f"{day},{k}\n" for k, day in enumerate(ends[:20])))
    [series] = read_series(path)
    assert [series.date(k) for k in range(30)] == [str(day) for day in ends]
