"""A file of any format that is known, told by its name."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

from rnncore import files
from rnncore.convert import saved
from rnncore.convert.errors import ConversionError, needed
from rnncore.convert.keras_out import write_keras
from rnncore.convert.onnx_out import to_onnx
from rnncore.convert.rtneural import write_rtneural
from rnncore.convert.torch_out import to_torch
from rnncore.layers.module import Module


def _write_torch(path: Path, model: Module) -> None:
    torch = needed("torch", "torch", f"to write {path.name!r}")
    content = io.BytesIO()
    torch.save(to_torch(model).state_dict(), content)
    files.write_whole(path, content.getvalue())


def _write_onnx(path: Path, model: Module) -> None:
    files.write_whole(path, to_onnx(model).SerializeToString())


#: By the end of the name.
WRITERS: dict[str, Callable[[Path, Module], None]] = {
    ".safetensors": saved.save,
    ".json": write_rtneural,
    ".keras": write_keras,
    ".onnx": _write_onnx,
    **dict.fromkeys((".pt", ".pth"), _write_torch),
}


def write(path: str | os.PathLike[str], model: Module) -> None:
    """Write a model to a file, in the format that its name ends in; whole, or not at all.

    Raises
    ------
    ConversionError
        If no format ends like that, or the format has no such model.
    """
    writer_of(path)(Path(path), model)


def writer_of(path: str | os.PathLike[str]) -> Callable[[Path, Module], None]:
    """Return what writes the format that a name ends in."""
    writer = WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise ConversionError(
            f"path: expected a name that ends in one of {', '.join(WRITERS)}, got "
            f"{os.fspath(path)!r}"
        )
    return writer
