"""The house itself: files of one idea are not long."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def lines(path: Path) -> int:
    return path.read_text().count("\n")


def test_no_file_is_long() -> None:
    python = [path for path in (ROOT / "rnncore").rglob("*.py") if path.name != "reference.py"]
    compiled = [path for path in (ROOT / "src_cython").rglob("*.*") if path.suffix in SOURCES]
    assert len(python) > 40 and len(compiled) > 20
    long = {path.name: lines(path) for path in python if lines(path) > 450}
    long |= {path.name: lines(path) for path in compiled if lines(path) > 350}
    assert not long


SOURCES = (".h", ".pxi", ".pyx")
