"""A file of any format that is known, told by its name and first bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnncore import files
from rnncore.convert import saved
from rnncore.convert.amplifiers import from_guitarml, from_nam
from rnncore.convert.errors import ConversionError
from rnncore.convert.json_file import read_json
from rnncore.convert.keras_in import from_keras
from rnncore.convert.onnx_in import from_onnx
from rnncore.convert.proof import Converted, Proof
from rnncore.convert.rtneural import from_rtneural
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


def _from_json(path: Path, **options: Any) -> Converted:
    what = f"JSON file {str(path)!r}"
    held = read_json(what, path)
    if isinstance(held, dict) and {"model_data", "state_dict"} <= set(held):
        return from_guitarml(held, **options)
    if isinstance(held, dict) and {"in_shape", "layers"} <= set(held):
        return _from_rtneural(held, **options)
    raise ConversionError(
        f"{what}: expected RTNeural's in_shape and layers, or GuitarML's model_data and state_dict"
    )


def _from_rtneural(held: Any, prove: bool = True, test: Any = None) -> Converted:
    return from_rtneural(held, test=test)


#: By the end of the name.
READERS: dict[str, Callable[..., Converted]] = {
    ".safetensors": _from_safetensors,
    ".json": _from_json,
    ".nam": from_nam,
    **dict.fromkeys((".keras", ".h5", ".hdf5"), from_keras),
    ".onnx": from_onnx,
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
            + "; from_numpy asks how its arrays are meant" * (path.suffix == ".npz")
        )
    if not path.is_file():
        raise ConversionError(f"path: expected a file, but {str(path)!r} is none; check the path")
    if path.stat().st_size > LARGEST:
        raise ConversionError(f"path: expected {LARGEST} bytes at most, got {path.stat().st_size}")
    try:
        return reader(path, **options)
    except TypeError as error:  # an option of another format
        raise ConversionError(f"options: {error}; leave it out for {path.suffix} files") from None
