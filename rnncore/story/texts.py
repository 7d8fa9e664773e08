"""The text that language models of the story learn from."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from rnncore.data import read_text

#: Of Python's standard library, where there is no folder of data.
FILES = ("argparse", "ast", "calendar", "datetime", "difflib", "inspect", "pathlib", "typing")
CHARACTERS = 1_000_000


def text_of(data: Path | None) -> tuple[str, str]:
    """Return a text, and what it is."""
    if data is not None:
        return str(read_text(data))[:CHARACTERS], data.name
    folder = Path(sysconfig.get_path("stdlib"))
    found = [folder / f"{name}.py" for name in FILES]
    return str(read_text([one for one in found if one.exists()])), "Python's standard library"
