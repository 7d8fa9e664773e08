"""Files of Keras: `.keras`, `.weights.h5`, and the `.h5` of Keras 2.

A `.keras` file is a zip archive of config.json, metadata.json and model.weights.h5, whose arrays
are at layers/NAME/.../vars/NUMBER. An `.h5` of Keras 2 has the configuration as an attribute and
the names of layers and arrays as others. Source: keras/src/saving/saving_lib.py and
keras/src/legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rnncore.convert.errors import ConversionError, reading
from rnncore.convert.hdf5_in import MOST_TIMES, File, Node
from rnncore.convert.keras_config import Layer, chain_of

LARGEST = 2**31  # bytes of a file, and of a part of it


def read_file(
    path: Path, config: Any = None, prefix: Sequence[str] = ()
) -> tuple[list[Layer], str]:
    """Return the layers in a file, with their arrays, and the version of Keras that wrote it.

    Parameters
    ----------
    path
        A file of any of the three formats, told by what is in it.
    config
        The JSON of the model, as an object, where the file has none or another is meant.
    prefix
        The names of the layers to take, where it is not all of them.

    Raises
    ------
    ConversionError
        If the file is damaged, of another format, or does not say what it is.
    """
    what = f"Keras file {str(path)!r}"
    if path.stat().st_size > LARGEST:
        raise ConversionError(f"{what}: expected {LARGEST} bytes at most")
    content, version, held = path.read_bytes(), "", b""
    with reading(what, (zlib.error, struct.error)):
        if content[:4] == b"PK\3\4":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                held = _member(archive, "config.json", len(content))
                about = json.loads(_member(archive, "metadata.json", len(content)))
                version = str(about["keras_version"])
                content = _member(archive, "model.weights.h5", len(content))
        weights = _Weights(content)
        held = held or weights.text("model_config").encode()
        if held and config is None:
            config = json.loads(held)
        version = version or weights.text("keras_version")
        if config is None:
            raise ConversionError(
                f"{what}: expected a whole model, got weights alone, which say neither the order "
                "of the layers nor their activations; give the JSON of model.to_json() as config"
            )
        layers = chain_of(config, prefix)
        version = version or str(config.get("keras_version", ""))  # which Keras 2 says in JSON
        weights.fill(layers)
    return layers, version


def _member(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    if archive.getinfo(name).file_size > min(LARGEST, MOST_TIMES * size):
        raise ValueError(f"{name} is larger than such a file can hold")
    return archive.read(name)


class _Weights:
    """The arrays of a file, as Keras 3 or Keras 2 has them."""

    def __init__(self, content: bytes) -> None:
        self.root = File(content).root

    def fill(self, layers: list[Layer]) -> None:
        """Give each layer its arrays."""
        for name in ("layers", "_layer_checkpoint_dependencies"):  # Keras 3; Keras 2.12
            if name in self.root:
                return self._by_class(self.root[name], layers)
        whole = "model_weights" in self.root
        return self._in_order(self.root["model_weights"] if whole else self.root, layers)

    def _by_class(self, group: Node, layers: list[Layer]) -> None:
        for layer in layers:
            for place in layer.places:
                found = group[f"{layer.place}/{place}vars"]
                layer.arrays += [found[str(k)].array() for k in range(len(found.children()))]

    def _in_order(self, group: Node, layers: list[Layer]) -> None:
        # By their names where the file has them all, else in order, as Keras does.
        wanted = [layer for layer in layers if layer.places]
        held = {name: _names(group[name], "weight_names") for name in _names(group, "layer_names")}
        names = [str(layer.config.get("name")) for layer in wanted]
        if not all(held.get(name) for name in names):
            names = [name for name, arrays in held.items() if arrays]
        if len(names) != len(wanted):
            raise ConversionError(
                f"weights: expected those of {len(wanted)} layers, got those of {', '.join(names)}"
            )
        for layer, name in zip(wanted, names, strict=True):
            here = group[name]
            layer.arrays = [here[one].array() for one in held[name]]

    def text(self, name: str) -> str:
        """Return an attribute of the file, or of its weights; "" if there is none."""
        found = self.root.text(name)
        if found is None and "model_weights" in self.root:
            found = self.root["model_weights"].text(name)
        return found[0] if found else ""


def _names(group: Node, name: str) -> list[str]:
    # In one attribute, or in several with numbers where it would be too large.
    found = group.text(name)
    if found is not None:
        return found
    parts: list[list[str]] = []
    while (found := group.text(f"{name}{len(parts)}")) is not None:
        parts.append(found)
    return [one for part in parts for one in part]
