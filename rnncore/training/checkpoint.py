"""Model files and checkpoints: one safetensors file, replaced as a whole or not at all.

The file holds named tensors (a model's under PyTorch's parameter names) and one metadata entry
``rnncore``, a JSON object with the format's version, a checksum, and whatever JSON the writer
passed (a model's settings and vocabulary; a training's position). A checkpoint is a model file
with more entries.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Written into every file; a reader refuses any other.
FORMAT_VERSION = 1


class CheckpointError(ValueError):
    """A file that is not a whole rnncore model file or checkpoint of this version."""


def save_checkpoint(
    path: str | os.PathLike[str], tensors: dict[str, NDArray[Any]], metadata: dict[str, Any]
) -> None:
    """Write tensors and metadata to `path` so that a crash at any moment loses nothing.

    The bytes go to a temporary name in the same folder, are flushed to the disk, and take the
    name `path` in one step: a reader sees the old file or the new one, never a part.

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

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from rnncore.training import load_checkpoint, save_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.safetensors")
    ...     save_checkpoint(path, {"weight": np.eye(2)}, {"note": "two"})
    ...     tensors, metadata = load_checkpoint(path)
    >>> tensors["weight"].tolist(), metadata["note"]
    ([[1.0, 0.0], [0.0, 1.0]], 'two')
    """
    from safetensors.numpy import save

    arrays = {name: np.require(tensor, requirements="C") for name, tensor in tensors.items()}
    # Only one metadata key: safetensors keeps no order of keys, and equal contents shall give
    # equal files.
    header = {
        "format_version": FORMAT_VERSION,
        "checksum": _checksum(arrays, metadata),
        "contents": metadata,
    }
    content = save(arrays, metadata={"rnncore": json.dumps(header)})

    target = os.path.realpath(path)  # a symbolic link stays one
    temporary = os.path.join(
        os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}.tmp"
    )
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
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load_checkpoint(
    path: str | os.PathLike[str],
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `save_checkpoint` wrote.

    Returns
    -------
    tensors, metadata

    Raises
    ------
    CheckpointError
        If the file does not exist, is cut off, damaged, of another program or another version.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    expected = f"model file: expected an rnncore model file or checkpoint, but {name!r}"
    if not os.path.exists(name):
        raise CheckpointError(f"{expected} does not exist; check the path")
    if os.path.isdir(name):
        raise CheckpointError(
            f"{expected} is a folder; name the file in it, such as "
            f"{os.path.join(name, 'last.safetensors')!r}"
        )
    try:
        with safe_open(name, framework="np") as file:
            entry = (file.metadata() or {}).get("rnncore")
            if entry is None:
                raise CheckpointError(
                    f"{expected} is a safetensors file of another program; it has no rnncore "
                    "settings; give a file that rnncore saved"
                )
            header = json.loads(entry)
            version = header["format_version"]
            if version != FORMAT_VERSION:
                raise CheckpointError(
                    f"{expected} has format version {version!r} and this rnncore reads version "
                    f"{FORMAT_VERSION}; use the rnncore release that wrote it"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata: dict[str, Any] = header["contents"]
            whole = header["checksum"] == _checksum(tensors, metadata)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{expected} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{expected} is cut off, damaged or not a safetensors file ({error}); use another copy"
        ) from None
    if not whole:
        raise CheckpointError(f"{expected} is damaged: its checksum differs; use another copy")
    return tensors, metadata


def _checksum(tensors: dict[str, NDArray[Any]], metadata: dict[str, Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()
