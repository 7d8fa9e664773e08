"""Model files and checkpoints: one safetensors file, replaced as a whole or not at all.

The file holds named tensors (a model's under PyTorch's parameter names) and one metadata entry
``rnncore``, a JSON object with the format's version, a checksum, and whatever JSON the writer
passed: a model's kind and settings, a training's position. A checkpoint is a model file with
more entries.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import stat
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Written into every file; a reader refuses any other.
FORMAT_VERSION = 1

#: How names begin of tensors that a checkpoint has beside the model's.
OF_TRAINING = ("optimizer.", "carried_state.", "average.")

LARGEST_HEADER = 100_000_000  # bytes, as in the safetensors format
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip


class FileError(ValueError):
    """A file that is not a whole rnncore model file or checkpoint of this version."""


class Contents(NamedTuple):
    """What a file holds: read-only arrays by name, and the metadata."""

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, Any]


def save(
    path: str | os.PathLike[str], tensors: dict[str, NDArray[Any]], metadata: dict[str, Any]
) -> None:
    """Write tensors and metadata to `path` so that a crash at any moment loses nothing.

    The bytes go to a temporary name in the same folder, are flushed to the disk, and take the
    name `path` in one step: a reader sees the old file or the new one, never a part. Temporary
    files that a killed process left of the same target are removed.

    Parameters
    ----------
    path
        The folder must exist.
    tensors
        Arrays by name.
    metadata
        Anything `json` can write.

    Raises
    ------
    OSError
        If it cannot be written; what was there before stays.
    ValueError
        If `path` is a device or a pipe, which would be replaced by a file.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from rnncore import files
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.safetensors")
    ...     files.save(path, {"weight": np.eye(2)}, {"note": "two"})
    ...     tensors, metadata = files.load(path)
    >>> tensors["weight"].tolist(), metadata["note"]
    ([[1.0, 0.0], [0.0, 1.0]], 'two')
    """
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.require(tensor, requirements="C") for name, tensor in tensors.items()}
    # Only one metadata key: safetensors keeps no order of keys, and equal contents shall give
    # equal files.
    header = {
        "format_version": FORMAT_VERSION,
        "checksum": _checksum(arrays, metadata),
        "contents": metadata,
    }
    content = to_bytes(arrays, metadata={"rnncore": json.dumps(header)})
    write_whole(path, content)


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file as a whole or not at all, as `save` does.

    Raises
    ------
    OSError, ValueError
        See `save`.
    """
    target = os.path.realpath(path)  # a symbolic link stays one
    if os.path.exists(target) and not os.path.isdir(target) and not os.path.isfile(target):
        raise ValueError(
            f"path: expected the name of a regular file, but {os.fspath(path)!r} is a device or a "
            "pipe; save to a file"
        )
    folder, base = os.path.split(target)
    _remove_stale(folder, base)
    temporary = os.path.join(folder, f".{base}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):  # the temporary name would tell nobody anything
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened; the rename is durable anyway
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_stale(folder: str, base: str) -> None:
    # What killed processes left of this target; a process that lives may be writing.
    start = os.path.join(folder, f".{base}.")
    for name in glob.glob(f"{glob.escape(start)}*.tmp"):
        number = name[len(start) : -len(".tmp")]
        if number.isascii() and number.isdigit() and not _alive(int(number)):
            with suppress(OSError):
                os.unlink(name)


def _alive(process: int) -> bool:
    if process == os.getpid() or os.name != "posix":
        return True
    try:
        os.kill(process, 0)  # signal 0 asks whether the process is there
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def load(path: str | os.PathLike[str]) -> Contents:
    """Read what `save` wrote; the file is opened, read and checked once.

    Returns
    -------
    tensors, metadata
        The arrays are views of what was read, and cannot be written to.

    Raises
    ------
    FileError
        If the file does not exist, is cut off, damaged, of another program or another version.
    """
    name = os.fspath(path)
    expected = f"model file: expected an rnncore model file or checkpoint, but {name!r}"
    try:
        kind = os.stat(name).st_mode
        if stat.S_ISDIR(kind):
            raise FileError(
                f"{expected} is a folder; name the file in it, such as "
                f"{os.path.join(name, 'last.safetensors')!r}"
            )
        if not stat.S_ISREG(kind):
            raise FileError(f"{expected} is a device or a pipe; name a regular file")
        with open(name, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise FileError(f"{expected} does not exist; check the path") from None
    except OSError as error:
        raise FileError(f"{expected} cannot be read: {error.strerror or error}") from None
    try:
        tensors, entry = _parse(content)
        if entry is None:
            raise FileError(
                f"{expected} is a safetensors file of another program; it has no rnncore "
                "settings; give a file that rnncore saved"
            )
        header = json.loads(entry)
        version = header["format_version"]
        if version != FORMAT_VERSION:
            raise FileError(
                f"{expected} has format version {version!r} and this rnncore reads version "
                f"{FORMAT_VERSION}; use the rnncore release that wrote it"
            )
        metadata = header["contents"]
        if not isinstance(metadata, dict):
            raise TypeError("its contents are no JSON object")
        whole = header["checksum"] == _checksum(tensors, metadata)
    except FileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = "JSON nested too deep" if isinstance(error, RecursionError) else error
        raise FileError(
            f"{expected} is cut off, damaged or not a safetensors file ({why}); use another copy"
        ) from None
    if not whole:
        raise FileError(f"{expected} is damaged: its checksum differs; use another copy")
    return Contents(tensors, metadata)


def _parse(content: bytes) -> tuple[dict[str, NDArray[Any]], str | None]:
    """Return the tensors, views of `content`, and the entry of rnncore.

    The format (huggingface.co/docs/safetensors): 8 bytes with the size n of the header, n bytes
    of JSON, then the tensors, which leave no hole.
    """
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(LARGEST_HEADER, len(content) - 8):
        raise ValueError("header too large")
    header = json.loads(content[8 : 8 + size].decode())
    entry = header.pop("__metadata__", {}).get("rnncore")
    first = 8 + size
    tensors: dict[str, NDArray[Any]] = {}
    place = 0
    for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = np.dtype(DTYPES[about["dtype"]]), about["shape"]
        begin, end = about["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise ValueError(f"sizes of {name!r} are no whole numbers")
        if begin != place or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"sizes of {name!r} do not fit")
        if end > len(content) - first:
            raise ValueError(f"{name!r} is not whole")
        count = math.prod(shape)
        tensors[name] = np.frombuffer(content, dtype, count, first + begin if count else 0)
        tensors[name] = tensors[name].reshape(shape)
        place = end
    if first + place != len(content):
        raise ValueError("bytes after the last tensor")
    return tensors, entry


def _checksum(tensors: dict[str, NDArray[Any]], metadata: dict[str, Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()
