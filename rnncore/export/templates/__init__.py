"""The C of an export, with $names where it differs from model to model."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from string import Template


@cache
def _read(file: str) -> str:
    return (files(__name__) / file).read_text(encoding="utf-8").rstrip("\n")


def fill(file: str, **values: object) -> str:
    """Return the template of a file with its names filled in."""
    return Template(_read(file)).substitute(values)


def pieces(file: str, **values: object) -> dict[str, str]:
    """Return the pieces of a file, which blank lines part, by the name that each defines."""
    found = {}
    for piece in Template(_read(file)).substitute(values).split("\n\n"):
        name = re.search(r"^(?:static (?:inline )?\w+ |#define )(\w+)", piece, re.M)
        assert name is not None
        found[name[1]] = piece
    return found
