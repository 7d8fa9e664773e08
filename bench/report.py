"""Measures the limits and the peers, and writes docs/performance.md with its two charts.

    python -m pip install -r bench/requirements-peers.txt
    python bench/demo.py --output demo.json
    python bench/report.py --demo demo.json

About a quarter of an hour on two cores that have nothing else to do. --peers and --limits read the
JSON of earlier runs instead of measuring. The short table also replaces what stands in README.md
between <!-- performance --> and <!-- /performance -->.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import busy
import costs
import footprint
import limits as machine_limits
import peers
import precision
from footprint import Footprint
from workloads import TITLES, WORKLOADS

DOCS = Path(__file__).parents[1] / "docs"
OURS, NUMPY, PYTORCH = "rnncore", "NumPy", "PyTorch"
ORDER = (OURS, PYTORCH, "ONNX Runtime", "OpenVINO", "JAX", NUMPY)
FIRST_CALL, IMPORT_SECONDS, SIZE = 2.0, 0.03, 8e6  # at most: the aims beside speed
WORST = 5  # first calls that are shown
COLOURS = {1: "#1f6fb4", 2: "#e07b00"}
MARKERS = {"arithmetic": "o", "L1": "v", "L2": "s", "L3": "D", "memory": "P", "call": "x",
           "latency": "*"}  # fmt: skip


def add_limits(rows: list[dict[str, Any]], limits: dict[str, Any]) -> None:
    """Put into each row the seconds that the limits allow, and which limit binds."""
    workloads = {(w.group, w.name): w for w in WORKLOADS}
    for row in rows:
        workload = workloads[row["group"], row["name"]]
        seconds, binding = machine_limits.limit(workload, limits, row["threads"])
        row["limit"] = {
            "by": binding, "percent": 100 * seconds / row["seconds"][OURS]["median"],
        }  # fmt: skip


def duration(seconds: float) -> str:
    for unit, scale in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        if seconds < 999.5 * scale or unit == "s":
            return f"{seconds / scale:.3g} {unit}"
    raise AssertionError


def threads_in_words(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def table(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def times(ratio: dict[str, Any] | None) -> str:
    """Write a ratio with its quartiles; what is slower than the peer stands out."""
    if ratio is None:
        return ""
    text = f"{ratio['median']:.2f}x"
    text = f"**{text} (slower)**" if round(ratio["median"], 2) < 1 else text
    return f"{text} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def missed(row: dict[str, Any]) -> bool:
    return row["target"] is not None and "ratio" in row and row["ratio"]["median"] < row["target"]


def group_table(rows: list[dict[str, Any]]) -> str:
    names = [name for name in ORDER if any(name in row["seconds"] for row in rows)]
    header = ["case", "threads", *names, "best peer / rnncore", "aim", "of the limit"]
    lines = []
    for row in rows:
        best = min((row["seconds"][n]["median"], n) for n in row["seconds"])[1]
        cells = [row["name"], str(row["threads"])]
        for name in names:
            text = duration(row["seconds"][name]["median"]) if name in row["seconds"] else ""
            cells.append(f"**{text}**" if name == best else text)
        aim = "" if row["target"] is None else f"{row['target']:.2f}x"
        if missed(row):
            aim += ", missed"
        binding = row["limit"]
        cells += [times(row.get("ratio")), aim, f"{binding['percent']:.0f}% ({binding['by']})"]
        lines.append(cells)
    return table(header, lines)


def short_table(rows: list[dict[str, Any]]) -> str:
    """Return the range of ratios of each group: what the README shows."""
    counts = sorted({row["threads"] for row in rows})
    lines = []
    for group, title in TITLES.items():
        cells = [title.split(":")[0]]
        for count in counts:
            ratios = [
                row["ratio"]["median"] for row in rows
                if (row["group"], row["threads"]) == (group, count) and "ratio" in row
            ]  # fmt: skip
            ends = [f"{ratio:.2f}x" for ratio in (min(ratios), max(ratios))] if ratios else []
            cells.append(" to ".join(dict.fromkeys(ends)))
        if any(cells[1:]):
            lines.append(cells)
    header = [threads_in_words(count) for count in counts]
    return table(["time of the best peer / time of rnncore", *header], lines)


def sentence_of_losses(rows: list[dict[str, Any]]) -> str:
    compared = [row for row in rows if "ratio" in row]
    if not compared:
        return "No peer was installed."
    slower = [row for row in compared if round(row["ratio"]["median"], 2) < 1]
    aimed = [row for row in compared if row["target"] is not None]
    reached = len(aimed) - sum(map(missed, aimed))
    numpys = [row for row in rows if "numpy" in row]
    behind = [row for row in numpys if row["numpy"]["median"] < 1]
    return (
        f"Of {len(compared)} comparisons with the best peer, rnncore is at least as fast in "
        f"{len(compared) - len(slower)} and reaches what it aims for in "
        f"{reached} of {len(aimed)}. Against the best NumPy form it is the faster "
        f"one in {len(numpys) - len(behind)} of {len(numpys)}."
    )


def missed_section(rows: list[dict[str, Any]]) -> str:
    """Return the aims that were missed, and what ratio the limit would allow."""
    lines, beyond = [], 0
    for row in filter(missed, rows):
        ratio, binding = row["ratio"]["median"], row["limit"]
        allowed = ratio * 100 / binding["percent"]
        too_much = round(allowed, 2) < row["target"]
        beyond += too_much
        lines.append([
            f"{row['group']}: {row['name']}", str(row["threads"]), f"{ratio:.2f}x",
            f"{row['target']:.2f}x", f"{binding['percent']:.0f}% ({binding['by']})",
            f"{allowed:.2f}x" + ", less than the aim" * bool(too_much),
        ])  # fmt: skip
    if not lines:
        return "None."
    header = ["case", "threads", "best peer / rnncore", "aim", "of the limit", "at 100% of it"]
    products = [row["limit"]["percent"] for row in rows if row["group"] == "product"]
    text = f"{len(lines)}, of which {beyond} would be missed at 100% of the limit as well."
    if products:
        text += f"\nA product alone comes to {max(products):.0f}% at most."
    return f"{text}\n\n{table(header, lines)}"


def shortest_steps(limits: dict[str, Any]) -> str:
    names = {"lstm": "an LSTM", "gru": "a GRU", "rnn_tanh": "an RNN"}
    return ", ".join(
        f"{duration(limits['shortest'][kind])} in {name}" for kind, name in names.items()
    )


def limits_table(limits: dict[str, Any]) -> str:
    lines = [
        [count, f"{rates['arithmetic'] / 1e9:.0f} GFLOP/s"]
        + [f"{rates[level] / 1e9:.0f} GB/s" for level in machine_limits.LEVELS]
        for count, rates in limits["rates"].items()
    ]
    return table(["threads", "arithmetic", *machine_limits.LEVELS], lines)


def memory_section(rows: list[dict[str, Any]]) -> str:
    """Return the peak memory of training steps, ours beside PyTorch's."""
    compared = [row for row in rows if all(row["peak_memory"].get(n) for n in (OURS, PYTORCH))]
    if not compared:
        return "Not measured: that needs cases of training, PyTorch, and Linux."
    counts = sorted({row["threads"] for row in compared})
    cells: dict[str, list[str]] = {}  # by case
    kept = 0
    for row in sorted(compared, key=lambda row: row["threads"]):
        ours, theirs = (row["peak_memory"][name] for name in (OURS, PYTORCH))
        kept += ours <= theirs
        text = f"{ours / 1e6:.1f} MB"
        cells.setdefault(f"{row['group']}: {row['name']}", []).extend(
            [text if ours <= theirs else f"**{text} (more)**", f"{theirs / 1e6:.1f} MB"]
        )
    header = [f"{name}, {threads_in_words(n)}" for n in counts for name in (OURS, PYTORCH)]
    return (
        "The most memory that it takes to make the model and do one step, above what the process "
        "held\nbefore. The aim is to need at most what PyTorch needs, and that is so in "
        f"{kept} of {len(compared)}.\n\n"
        + table(["case", *header], [[case, *texts] for case, texts in cells.items()])
    )


def first_call_section(rows: list[dict[str, Any]]) -> str:
    """Return how many first calls of rnncore keep to the aim, and the worst."""
    calls = [
        (row["first_call"], row["seconds"][OURS]["median"], row)
        for row in rows
        if row["first_call"]
    ]
    calls.sort(key=lambda call: call[0] / call[1], reverse=True)
    kept = sum(first <= FIRST_CALL * steady for first, steady, _ in calls)
    lines = [
        [f"{row['group']}: {row['name']}", str(row["threads"]), duration(first), duration(steady),
         f"{first / steady:.1f}x"]
        for first, steady, row in calls[:WORST]
    ]  # fmt: skip
    return (
        "The first call of a new layer packs its weights and asks the system for its buffers; that "
        "of a\nstream, which packed them when it was made, finds them in no near cache. It comes "
        "after calls\nof a layer like it, so that code, threads and clock are awake; medians. "
        f"At most {FIRST_CALL:g} times the time\nof later calls is the aim, which {kept} of "
        f"{len(calls)} cases keep. The furthest from it:\n\n"
        + table(["case", "threads", "first call", "later calls", "first / later"], lines)
    )


def footprint_section(footprint: Footprint) -> str:
    seconds, size = footprint.rnncore_seconds, footprint.size
    lines = [
        ["`import rnncore`, NumPy already imported", duration(seconds), duration(IMPORT_SECONDS)
         + ", missed" * (seconds > IMPORT_SECONDS)],
        ["installed size, without what it depends on", f"{size / 1e6:.1f} MB",
         f"{SIZE / 1e6:.0f} MB" + ", missed" * (size > SIZE)],
    ]  # fmt: skip
    return table(["", "measured", "at most"], lines) + (
        f"\n\n`import numpy` itself takes {duration(footprint.numpy_seconds)}; medians of "
        "processes, each of which imports both."
    )


def costs_section(rows: list[dict[str, Any]]) -> str:
    """Return what features cost beside the plain form of the same work."""
    cells: dict[str, list[str]] = {}  # by feature
    for row in rows:
        text = f"{row['ratio']:.2f}x ({row['low']:.2f} to {row['high']:.2f})"
        missed = row["aim"] is not None and row["ratio"] > row["aim"]
        aim = "" if row["aim"] is None else f"{row['aim']:.2f}x"
        cells.setdefault(row["name"], [aim]).append(f"{text}, missed" if missed else text)
    header = [threads_in_words(n) for n in dict.fromkeys(row["threads"] for row in rows)]
    return (
        "Time of the feature divided by that of the plain form, LSTM (T, B, I, H), by "
        "`bench/costs.py`.\n\n"
        + table(["feature / plain form", "at most", *header],
                [[name, *texts] for name, texts in cells.items()])
    )  # fmt: skip


def demo_section(demo: dict[str, Any] | None) -> str:
    if demo is None:
        return (
            "Not measured: `python bench/demo.py`, then `python bench/report.py --demo demo.json`."
        )
    lines = [[n, f"{demo[n]['bits']:.3f}", f"{demo[n]['steps']:,}"] for n in (OURS, PYTORCH)]
    return (
        f"What `rnncore demo` trains, for {demo['budget']:g} seconds on "
        f"{threads_in_words(demo['threads'])}, and the same model in PyTorch:\nthe same text, "
        "order, first weights and schedule, one after the other.\n\n"
        + table(["", "held-out bits per character", "steps"], lines)
    )


def precision_section(text: str) -> str:
    """Sum up the table for one thread of docs/precision.md: ranges of its ratios by group."""
    lines = text.split(precision.MARKS[0])[1].split("1 thread, ")[1].split("threads, ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")]
             for line in lines.splitlines() if line.startswith("| ")]  # fmt: skip
    head, cases = cells[0], cells[1:]
    groups = {
        "One sequence": lambda case: "(100, 1," in case and "inference" in case,
        "Batches": lambda case: "(100, 1," not in case and "inference" in case,
        "Training step": lambda case: "training" in case,
        "One step of a stream": lambda case: "stream" in case,
    }
    columns = [k for k in range(2, len(head)) if not head[k].startswith("of ")]
    found = []
    for name, belongs in groups.items():
        rows = [row for row in cases if belongs(row[0])]
        each = [[float(row[k]) for row in rows if row[k]] for k in columns]
        ranges = [f"{min(some):.2f}x to {max(some):.2f}x" if some else "" for some in each]
        found.append([name, *ranges])
    first = "time in our float32 / time"
    return table([first, *(head[k] for k in columns)], found)


def page(
    results: dict[str, Any],
    limits: dict[str, Any],
    footprint: Footprint,
    features: list[dict[str, Any]],
    demo: dict[str, Any] | None,
) -> str:
    rows, machine, versions = results["rows"], results["machine"], results["versions"]
    sizes = ", ".join(
        f"{level} {size >> 10} KB" if size < 1 << 20 else f"{level} {size / (1 << 20):g} MB"
        for level, size in limits["sizes"].items()
    )
    left_out = f" Not installed or failed: {'; '.join(results['left_out'])}."
    groups = [
        f"### {title}\n\n{group_table(some)}"
        for group, title in TITLES.items()
        if (some := [row for row in rows if row["group"] == group])
    ]
    return f"""# Performance

How fast rnncore is beside PyTorch, ONNX Runtime, OpenVINO and JAX, each in its best form, and how
near it is to what the processor can do. This page is written by `bench/report.py`.

{short_table(rows)}

{sentence_of_losses(rows)}

![Time of the best peer divided by the time of rnncore, case by case](performance-ratio.png)

## How it was measured

- {machine["date"]}: {machine["processor"]}, {machine["processors"]} processors, {sizes}.
- {machine["system"]}, Python {machine["python"]}, the engine's `{machine["build"]}` build (vectors
  of {machine["vector"]}).
- {", ".join(f"{name} {versions[name]}" for name in ORDER if name in versions)}.\
{left_out if results["left_out"] else ""}
- All in float32. Before anything is timed, every side has to compute the same numbers.
- Every side has a process of its own for each thread count. They run in turn, round after round,
  the next when the threads of the one before sleep, and each runs for a moment before it is timed.
  Times are medians. A ratio is the median over the rounds, with quartiles in brackets.
- PyTorch runs under `inference_mode`, its steps through the cell's function, its Adam fused; ONNX
  Runtime with a session of so many threads, its steps through bound buffers; OpenVINO with the
  latency hint and two requests that hand each other the state; JAX compiled, all steps projected at
  once before the scan; NumPy as in `rnncore/reference.py`, all steps projected at once. In products
  NumPy, which is OpenBLAS there, counts as a peer.
- A training step of rnncore includes packing the weights anew, as after a step of an optimizer, and
  replaces the gradients, as PyTorch does after `zero_grad`.

## Every case

The fastest is in bold. "Aim" is the ratio that was set as the goal, on processors with AVX-512.
"Of the limit" is explained below.

{(chr(10) * 2).join(groups)}

### Aims that were missed

{missed_section(rows)}

## Lower precision

Weights and what they multiply rounded to bfloat16 or int8, and peers in theirs, on one thread. All
cases, on two threads too, the machine, and what binds: [docs/precision.md](precision.md#how-fast).

{precision_section((DOCS / "precision.md").read_text())}

## Beside speed

### Memory of a training step

{memory_section(rows)}

### What features cost

{costs_section(features)}

### First calls

{first_call_section(rows)}

### Import and size

{footprint_section(footprint)}

### The demo

{demo_section(demo)}

## The limits

{limits_table(limits)}

Arithmetic is the rate of multiply-adds (two operations each) on weights in the first cache. On one
thread a sigmoid takes {limits["activations"]["sigmoid"] * 1e9:.2f} ns a hidden unit besides, a tanh
{limits["activations"]["tanh"] * 1e9:.2f} ns.
Bandwidth is that of weights which pass once a step, from the fastest cache that holds them; L1 and
L2 belong to a core, L3 is shared. A step of a stream begins with a call from Python, which alone
takes {duration(limits["call"])}.

A step cannot begin before the one before has ended. Latency is how long the engine's own step takes
with {machine_limits.FEW_UNITS} hidden units, which is little else than a chain of operations:
{shortest_steps(limits)}. Each further unit makes the chain
{duration(limits["chain"])} longer, a multiply-add that waits for another, since every sum of the
engine is one chain.

The limit of a part of a case is the time of its multiply-adds and activations; of a recurrence, if
that is more, the time in which its weights pass, step by step, or the latency of its steps forward.
The sum over the parts, divided by the measured time, is the percentage; the limit named is the one
that takes most of it. A little more than 100% happens where a second cache helps out, or a rate was
measured in a slower moment. Waiting between threads is in no limit.

![Achieved, as a percentage of the limit that binds](performance-limit.png)

## Repeat it

```sh
python -m pip install -r bench/requirements-peers.txt    # any of them may be missing
python bench/demo.py                                     # four minutes, on an idle machine
python bench/report.py --demo demo.json                  # a quarter of an hour, likewise
python bench/report.py --quick                           # a smoke run, nothing to rely on
python bench/peers.py --threads 1 --only "batch: LSTM"   # some cases
python bench/costs.py                                    # what features cost
python -m pytest bench --benchmark-json=now.json         # against NumPy; to compare two commits
```
"""


def put_into_readme(path: Path, short: str) -> None:
    """Replace what stands between the two marks; without them, or a README, do nothing."""
    if path.exists():
        marks = r"(<!-- performance -->\n).*?(<!-- /performance -->)"
        text = path.read_text()
        path.write_text(re.sub(marks, rf"\g<1>\n{short}\n\n\g<2>", text, flags=re.DOTALL))


def chart(rows: list[dict[str, Any]], path: Path, draw: Any, x_label: str) -> None:
    """Draw one line a case, one colour a thread count."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys((row["group"], row["name"]) for row in rows))
    places: dict[tuple[str, str], float] = {}
    y, before = 0.0, None
    for case in cases:
        y += 1.8 if before not in (None, case[0]) else 1.0  # a gap between groups
        places[case], before = y, case[0]
    figure, axes = pyplot.subplots(figsize=(8, 0.19 * y + 1.2))
    for row in rows:
        number = sorted({r["threads"] for r in rows}).index(row["threads"])
        draw(axes, row, places[row["group"], row["name"]] + 0.3 * number - 0.15)
    axes.set_yticks(list(places.values()), [f"{group}: {name}" for group, name in cases])
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylim(y + 1, 0)
    axes.set_xlabel(x_label)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def colour(row: dict[str, Any]) -> str:
    return COLOURS.get(row["threads"], "#555555")


def label(axes: Any, text: str) -> str:
    """Name something in the legend, once."""
    return "_" if text in axes.get_legend_handles_labels()[1] else text


def draw_ratio(axes: Any, row: dict[str, Any], y: float) -> None:
    ratio, name = row["ratio"], f"threads: {row['threads']}"
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.plot([ratio["low"], ratio["high"]], [y, y], color=colour(row), linewidth=2, alpha=0.5)
    axes.plot(ratio["median"], y, "o", color=colour(row), markersize=4, label=label(axes, name))
    if row["target"] is not None:
        axes.plot(row["target"], y, "|", color="#888888", label=label(axes, "aim"))
    axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"], minor=False)
    axes.minorticks_off()


def draw_limit(axes: Any, row: dict[str, Any], y: float) -> None:
    binding = row["limit"]["by"]
    axes.axvline(100, color="black", linewidth=0.8)
    axes.plot(row["limit"]["percent"], y, MARKERS[binding], color=colour(row), markersize=4,
              label=label(axes, f"{binding}, threads: {row['threads']}"))  # fmt: skip
    axes.set_xlim(0, max(105.0, axes.get_xlim()[1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--quick", action="store_true", help="few cases and rounds: a smoke run")
    parser.add_argument("--peers", type=Path, help="JSON of bench/peers.py")
    parser.add_argument("--limits", type=Path, help="JSON of bench/limits.py")
    parser.add_argument("--demo", type=Path, help="JSON of bench/demo.py")
    parser.add_argument("--output", type=Path, default=DOCS, help="the folder to write to")
    options = parser.parse_args()
    if options.limits:
        limits = json.loads(options.limits.read_text())
    else:
        limits = machine_limits.measure(options.threads, 0.02 if options.quick else 0.2)
    if options.peers:
        results = json.loads(options.peers.read_text())
    else:
        seconds = 0.0 if options.quick else peers.SECONDS
        results = peers.run(options.threads, "", seconds, options.quick)
    demo = json.loads(options.demo.read_text()) if options.demo else None
    rows = results["rows"]
    add_limits(rows, limits)

    options.output.mkdir(exist_ok=True)
    features = costs.measure(options.threads, 0.1 if options.quick else costs.SECONDS)
    text = page(results, limits, footprint.measure(), features, demo)
    target = options.output / "performance.md"
    if target.exists():
        text = busy.carried_over(target.read_text(), text)
    target.write_text(text)
    put_into_readme(options.output.parent / "README.md", short_table(rows))
    print(short_table(rows))
    compared = [row for row in rows if "ratio" in row]
    if compared:
        chart(compared, options.output / "performance-ratio.png", draw_ratio,
              "time of the best peer / time of rnncore: right of 1 rnncore is faster")  # fmt: skip
    chart(rows, options.output / "performance-limit.png", draw_limit,
          "percent of the limit that binds")  # fmt: skip


if __name__ == "__main__":
    main()
