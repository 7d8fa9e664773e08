"""Run the examples on real data and write what they say into docs/results.md.

    python examples/results.py DATA [--only NAME]

DATA is a folder with the data sets that docs/results.md names. Each result replaces the one of the
same name on the page, with its command, the date and the machine.
"""

from __future__ import annotations

import argparse
import platform
import re
import shlex
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import NamedTuple

import rnncore

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"


class Result(NamedTuple):
    """A command whose output is a result; ``{data}`` in it is the folder of the data."""

    title: str
    command: str


RESULTS = {
    "depth": Result("Character models of one to four layers",
                    "python examples/depth.py {data}/text/linux-kernel.c.txt docs/depth.png"),
    "ett": Result("Long horizons: ETTh1, a GRU over segments",
                  "python examples/ett.py {data}/series/ETTh1.csv"),
    "exploding": Result("Exploding and vanishing, and what bounds do not cure",
                        "python examples/exploding.py docs/exploding.png"),
    "forecasting": Result("Forecasts of CO2 and of sunspots, beside baselines",
                          "python examples/forecasting.py {data}/series"),
    "latex": Result("A language model of LaTeX", "python examples/language.py {data}/text latex"),
    "linux": Result("A language model of Linux C", "python examples/language.py {data}/text linux"),
    "memory": Result("Long memory: the adding problem over 200 steps",
                     "python examples/long_memory.py docs/long-memory.png 200"),
    "memory-600": Result("Long memory: the adding problem over 600 steps",
                         "python examples/long_memory.py docs/long-memory-600.png 600"),
    "digits": Result("Long memory: digits pixel by pixel, and symbols after a delay",
                     "python examples/digits_by_pixel.py docs/digits.png"),
    "m4": Result("The M4 competition, hourly", "python examples/m4.py {data}/series"),
    "shakespeare": Result("A language model of Shakespeare",
                          "python examples/language.py {data}/text shakespeare"),
    "speech": Result("Speech: what the rest of an utterance is worth in noise",
                     "python examples/speech.py {data}/speech/fsdd docs/speech-noise.png"),
    "speakers": Result("Speech: speakers never heard in training",
                       "python examples/speech_speakers.py {data}/speech/fsdd"),
    "strings": Result("Speech: strings of digits without boundaries, and as a stream",
                      "python examples/speech_strings.py {data}/speech/fsdd"),
    "tagging": Result("Parts of speech: what each part is worth",
                      "python examples/tagging_table.py {data}/tagging/ud-english-ewt"),
    "truncation": Result(
        "How far gradients flow: truncation, and memory against time",
        "python examples/truncation.py {data}/text/linux-kernel.c.txt docs/truncation.png"),
    "translation": Result("English to French",
                          "python examples/translation.py {data}/pairs/en-fr.tsv"),
    "spelling": Result("Spelling to sound", "python examples/spelling_to_sound.py"),
}  # fmt: skip


def machine() -> str:
    """Return the processor and how many of it there are."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    name = found[1] if found else platform.processor() or platform.machine()
    build, _ = rnncore.engine.chosen_build()
    threads = rnncore.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads != 1)}, build {build}"


def section(name: str, data: str) -> str:
    """Run a result's command and return its part of the page."""
    result, start = RESULTS[name], time.monotonic()
    words = shlex.split(result.command.format(data=shlex.quote(data)))
    words[0] = sys.executable if words[0] == "python" else words[0]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - start
    took = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"
    shown = result.command.format(data="DATA")
    drawn = [f"\n![{result.title}]({name})\n" for name in re.findall(r"docs/(\S+png)", shown)]
    return (
        f"## {result.title}\n\n`{shown}`\n\n{date.today()}, {machine()}, {took}:\n\n"
        f"{done.stdout.strip()}\n{''.join(drawn)}"
    )


def put(name: str, text: str) -> None:
    """Replace what stands on the page under this name, or add it."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    page = PAGE.read_text()
    before, _, rest = page.partition(begin)
    after = rest.partition(end)[2] if rest else ""
    PAGE.write_text(f"{before.rstrip()}\n\n{begin}{text}{end}{after}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", choices=list(RESULTS), help="this one alone")
    given = parser.parse_args()
    for name in [given.only] if given.only else RESULTS:
        put(name, section(name, str(given.data.resolve())))
