"""A file of any format that is known, told by its name and first bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnncore import files
from rnncore.convert import saved
from rnncore.convert.errors import ConversionError
from rnncore.convert.proof import Converted, Proof
from rnncore.convert.torch_in import from_torch

LARGEST = 2**31  # bytes of a file


def _from_safetensors(path: Path, **options: Any) -> Converted:
    if not saved.is_ours(path):
        return from_torch(path, **options)
    try:
        contents = files.load(path)
    except files.FileError as error:
        raise ConversionError(str(error)) from None
    model = saved.from_contents(contents, path)
    return Converted(model, "rnncore", Proof(why="nothing was converted"))


#: By the end of the name.
READERS: dict[str, Callable[..., Converted]] = {
    ".safetensors": _from_safetensors,
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), from_torch),
}


def load(path: str | os.PathLike[str], **options: Any) -> Converted:
    """Return the model in a file, of whatever format its name ends in.

    Parameters
    ----------
    path
        A file that `READERS` knows, or one of `save`.
    **options
        Of the function of that format, such as `prefix` of `from_torch`.

    Raises
    ------
    ConversionError
        If the file is damaged, of another format, or leaves something open.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ConversionError(
            f"path: expected a name that ends in one of {', '.join(READERS)}, got {str(path)!r}"
        )
    if not path.is_file():
        raise ConversionError(f"path: expected a file, but {str(path)!r} is none; check the path")
    if path.stat().st_size > LARGEST:
        raise ConversionError(f"path: expected {LARGEST} bytes at most, got {path.stat().st_size}")
    return reader(path, **options)
