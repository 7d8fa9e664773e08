"""Compare two trees of the project bit for bit: `python bench/bits.py OLD NEW [--cases 2000]`.

Each tree runs in a process of its own, on each build of the engine, through the same random cases:
cells, directions, layers, ragged batches, tokens, memory budgets, threads and dtypes, forward and
backward, records, streams, linear layers, losses, optimizers and whole models. A case prints a
digest of all its results; those that differ are named, with the numbers that made them.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import os
import subprocess
import sys
from typing import Any

import numpy as np

BUILDS = ("v4", "v3", "baseline")
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100)
LARGE = (130, 200, 256, 300)


def draw_case(number: int, seed: int) -> dict[str, Any]:
    """Draw the numbers of one case."""
    rng = np.random.default_rng([seed, number])
    kind = rng.choice(["rnn", "lstm", "gru"])
    layers = int(rng.choice([1, 1, 1, 2, 2, 3, 4]))
    large = rng.random() < 0.06
    hidden = [int(rng.choice(LARGE if large else SIZES)) for _ in range(layers)]
    if rng.random() < 0.7:
        hidden = hidden[:1] * layers
    case: dict[str, Any] = {
        "kind": str(kind), "hidden": hidden, "I": int(rng.choice(SIZES)),
        "T": int(rng.choice([0, 1, 2, 3, 5, 9, 20, 70 if large else 300])),
        "B": int(rng.choice([0, 1, 1, 2, 3, 4, 5, 6, 7, 12, 13, 19, 33])),
        "bidirectional": bool(rng.random() < 0.35), "bias": bool(rng.random() < 0.85),
        "batch_first": bool(rng.random() < 0.15), "learned": bool(rng.random() < 0.15),
        "nonlinearity": str(rng.choice(["tanh", "relu", "sigmoid", "identity"])),
        "dtype": str(rng.choice(["float32", "float64"])), "threads": int(rng.integers(1, 6)),
        "source": str(rng.choice(["features"] * 3 + ["one-hot", "embedding"])),
        "form": str(rng.choice(["dense", "dense", "ragged", "ragged", "list", "one"])),
        "state": bool(rng.random() < 0.5), "accumulate": bool(rng.random() < 0.5),
        "input_gradient": bool(rng.random() < 0.8), "memory": bool(rng.random() < 0.15),
        "dropout": 0.3 if layers > 1 and rng.random() < 0.2 else 0.0,
        "vocabulary": int(rng.choice([2, 7, 40, 400])), "what": "layer",
    }  # fmt: skip
    if number % 10 == 9:
        case["what"] = str(rng.choice(["record", "stream", "linear", "model"]))
    return case


def states(value: Any) -> list[np.ndarray]:
    """Return all arrays in a nest of tuples and lists."""
    if value is None:
        return []
    if isinstance(value, tuple | list):
        return [array for part in value for array in states(part)]
    return [np.asarray(value)]


def digest(*results: Any) -> str:
    """Return one number for all bits of some results, their shapes and dtypes."""
    found = hashlib.blake2b(digest_size=12)
    for array in states(results):
        array = np.ascontiguousarray(array)
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def tokens_flag(function: Any, tokens: bool) -> dict[str, bool]:
    """Say that integers are tokens, where a layer wants to be told."""
    return {"tokens": True} if tokens and "tokens" in inspect.signature(function).parameters else {}


def make_layer(case: dict[str, Any], input_size: int, seed: int) -> Any:
    import rnncore

    hidden = case["hidden"]
    hidden = hidden if len(set(hidden)) > 1 else hidden[0]
    options = {
        "num_layers": len(case["hidden"]), "bias": case["bias"], "dtype": case["dtype"],
        "batch_first": case["batch_first"], "bidirectional": case["bidirectional"],
        "learn_initial_state": case["learned"], "dropout": case["dropout"], "seed": seed,
    }  # fmt: skip
    if case["kind"] == "rnn":
        options["nonlinearity"] = case["nonlinearity"]
        return rnncore.RNN(input_size, hidden, **options)
    return {"lstm": rnncore.LSTM, "gru": rnncore.GRU}[case["kind"]](input_size, hidden, **options)


def run_layer(case: dict[str, Any], rng: np.random.Generator, seed: int) -> list[Any]:
    import rnncore

    T, B, dtype = case["T"], case["B"], case["dtype"]
    if case["form"] == "one":
        B = 1
    layer, embedding, tokens = make_layer(case, case["I"], seed), None, case["source"] != "features"
    vocabulary = case["I"]
    if case["source"] == "embedding":
        vocabulary = case["vocabulary"]
        embedding = rnncore.Embedding(vocabulary, case["I"], dtype=dtype, seed=seed)
        embedding.flat_grads[...] = rng.standard_normal(embedding.flat_grads.size)
    if tokens:
        x = rng.integers(0, vocabulary, (T, B))
    else:
        x = rng.standard_normal((T, B, case["I"])).astype(dtype)
    lengths = rng.integers(0, T + 1, B) if case["form"] in ("ragged", "list") else None
    options: dict[str, Any] = {"embedding": embedding} | tokens_flag(layer.forward, tokens)

    def state() -> Any:
        count = 2 if case["bidirectional"] else 1
        parts = []
        for _ in range(2 if case["kind"] == "lstm" else 1):
            if len(set(case["hidden"])) > 1:
                parts.append([rng.standard_normal((count, B, H)) for H in case["hidden"]])
            else:
                shape = (count * len(case["hidden"]), B, case["hidden"][0])
                if case["form"] == "one":
                    shape = (shape[0], shape[2])
                parts.append(rng.standard_normal(shape))
        if case["form"] == "one" and len(set(case["hidden"])) > 1:
            parts = [[array[:, 0] for array in part] for part in parts]
        return tuple(parts) if case["kind"] == "lstm" else parts[0]

    initial = state() if case["state"] else None
    dstate = state() if rng.random() < 0.7 else None
    dy = rng.standard_normal((T, B, layer.output_size)).astype(dtype)
    if case["form"] == "list" and B:
        x = [np.ascontiguousarray(x[:n, b]) for b, n in enumerate(lengths)]
        dy = [np.ascontiguousarray(dy[:n, b]) for b, n in enumerate(lengths)]
        lengths = None
    elif case["form"] == "one":
        x, dy = x[:, 0], dy[:, 0]
    elif case["batch_first"]:
        x, dy = np.ascontiguousarray(x.swapaxes(0, 1)), np.ascontiguousarray(dy.swapaxes(0, 1))
    if case["what"] == "record":
        y, last, records = layer.record(x, initial, lengths, **options)
        return [y, last, [[record[name] for name in sorted(record)] for record in records]]
    results: list[Any] = [layer(x, initial, lengths, **options)]
    layer.flat_grads[...] = rng.standard_normal(layer.flat_grads.size)
    memory = None
    # Of two directions, and of dropout in three layers, the old tree knows no budget.
    if case["memory"] and not case["bidirectional"] and not (
        case["dropout"] and len(case["hidden"]) > 2
    ):
        memory = 10**9
        try:
            layer.forward(x, initial, lengths, memory=1, **options)
        except ValueError as error:
            memory = 2 * int(str(error).split()[4])
    before = layer._dropout.generator.bit_generator.state
    for _ in range(2):
        layer._dropout.generator.bit_generator.state = before
        results.append(layer.forward(x, initial, lengths, memory=memory, **options))
        given = {"input_gradient": case["input_gradient"], "accumulate": case["accumulate"]}
        results.append(layer.backward(dy, dstate, **given))
        results.append([layer.flat_grads.copy()])
        if embedding is not None:
            results.append([embedding.flat_grads.copy()])
    optimizer = [rnncore.SGD, rnncore.Adam, rnncore.RMSprop][int(rng.integers(3))](layer, lr=0.01)
    rnncore.clip_grad_norm(layer, 1.0)
    optimizer.step()
    results.append([layer.flat_params.copy(), layer(x, initial, lengths, **options)[0]])
    return results


def run_stream(case: dict[str, Any], rng: np.random.Generator, seed: int) -> list[Any]:
    layer = make_layer({**case, "bidirectional": False}, case["I"], seed)
    tokens = case["source"] != "features"
    stream = layer.stream(tokens=tokens)
    T = case["T"] or 7
    x = rng.integers(0, case["I"], T) if tokens else rng.standard_normal((T, case["I"]))
    x = x if tokens else x.astype(case["dtype"])
    steps = [stream.step(int(row) if tokens else row) for row in x]
    return [np.stack(steps), stream.process(x), stream.get_state()]


def run_linear(case: dict[str, Any], rng: np.random.Generator, seed: int) -> list[Any]:
    import rnncore

    linear = rnncore.Linear(case["I"], case["hidden"][0], dtype=case["dtype"], seed=seed)
    x = rng.standard_normal((case["T"], case["B"], case["I"])).astype(case["dtype"])
    y = linear.forward(x)
    targets = rng.integers(-1, case["hidden"][0], (case["T"], case["B"]))
    loss, dy = rnncore.softmax_cross_entropy(np.ascontiguousarray(y), targets)
    dx = linear.backward(dy, accumulate=case["accumulate"])
    return [linear(x), y, np.float64(loss), dy, dx, linear.flat_grads.copy()]


def run_model(case: dict[str, Any], rng: np.random.Generator, seed: int) -> list[Any]:
    import rnncore
    from rnncore import models
    from rnncore.data import Vocabulary

    # Trees before it was renamed have it by its first name.
    network = models.LanguageNetwork if hasattr(models, "LanguageNetwork") else models.LanguageModel
    text = "".join(chr(97 + k) for k in rng.integers(0, 26, 2000))
    model = network(
        Vocabulary(text), hidden_size=min(case["hidden"][0], 65), num_layers=len(case["hidden"]),
        cell=case["kind"], embedding_size=None if case["source"] == "one-hot" else 9,
        dropout=0.2 if case["state"] else 0.0, dtype=case["dtype"], seed=seed,
    )  # fmt: skip
    tokens = model.vocabulary.encode(text)[: 21 * 8].reshape(21, 8)
    optimizer, state, results = rnncore.Adam(model, lr=0.01), None, []
    for _ in range(3):
        loss, state = model.forward(tokens[:-1], tokens[1:], state)
        model.backward(accumulate=False)
        results += [np.float64(loss), state, model.flat_grads.copy()]
        optimizer.step()
    return [*results, model.flat_params.copy()]


def run_cases(numbers: list[int], seed: int) -> None:
    """Print the digest of each case."""
    import warnings

    import rnncore

    warnings.simplefilter("ignore")
    kinds = {"record": run_layer, "layer": run_layer, "stream": run_stream, "linear": run_linear,
             "model": run_model}  # fmt: skip
    for number in numbers:
        case, rng = draw_case(number, seed), np.random.default_rng([seed, number, 1])
        rnncore.set_num_threads(case["threads"])
        try:
            found = digest(kinds[case["what"]](case, rng, seed))
        except Exception as error:
            found = f"{type(error).__name__}: {str(error)[:200]!r}"
        print(number, found, flush=True)


def digests(tree: str, build: str, numbers: list[int], seed: int) -> dict[int, str]:
    """Run cases in a process over another tree."""
    environment = {**os.environ, "PYTHONPATH": tree, "RNNCORE_ISA": build}
    command = [sys.executable, __file__, "--run", *map(str, numbers), "--seed", str(seed)]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{tree}, {build}: {done.stderr[-2000:]}")
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return {int(number): found for number, found in lines}


def differing(old: dict[int, str], new: dict[int, str]) -> list[int]:
    """Return the numbers of the cases that are not the same in both."""
    return [number for number in sorted(old | new) if old.get(number) != new.get(number)]


def main() -> None:
    """Compare two trees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", nargs="?")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--isa", default=",".join(BUILDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of a single case")
    parser.add_argument("--run", nargs="+", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_cases(options.run, options.seed)
        return
    numbers = list(range(options.cases)) if options.only is None else [options.only]
    wrong = 0
    for build in options.isa.split(","):
        old, new = (
            digests(os.path.abspath(tree), build, numbers, options.seed)
            for tree in (options.old, options.new)
        )
        refused = sum(": " in found for found in new.values())
        for number in differing(old, new):
            wrong += 1
            print(f"{build}, case {number}: {old.get(number)} became {new.get(number)}")
            print(f"    {draw_case(number, options.seed)}")
        count = len(differing(old, new))
        print(f"{build}: {len(new)} cases, {refused} refused by both, {count} differ")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
