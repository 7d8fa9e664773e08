"""What a conversion says when it cannot go on: one sentence, whatever came."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

LONGEST = 900  # characters of an error


class ConversionError(ValueError):
    """A source that cannot be converted, is damaged, or leaves open what it means.

    It is a ValueError. Its text is one line, whatever names a file has.
    """

    def __init__(self, message: str) -> None:
        plain = "".join(one if one.isprintable() else " " for one in message)
        super().__init__(plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}...")


#: What damaged input raises on its way through a reader, memory that it asks for included.
DAMAGE: tuple[type[Exception], ...] = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OSError, RuntimeError,
    ArithmeticError, AssertionError, MemoryError, RecursionError, NotImplementedError,
    StopIteration, zipfile.BadZipFile,
)  # fmt: skip


@contextmanager
def reading(what: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn whatever a reader of `what` raises into one ConversionError.

    `also` are exceptions of the library that reads.
    """
    try:
        yield
    except (ConversionError, FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except DAMAGE + also as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConversionError(
            f"{what}: expected a whole file of this format, but it is damaged or of another "
            f"({why[:200]}); use another copy"
        ) from None


def needed(module: str, extra: str, purpose: str) -> Any:
    """Return a module that is an option of installing, or say how to get it."""
    try:
        return import_module(module)
    except ImportError:
        raise ConversionError(
            f"{module}: expected it to be installed {purpose}, but it is not; pip install {extra!r}"
        ) from None
