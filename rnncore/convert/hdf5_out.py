"""HDF5 files of groups and arrays, as h5py and Keras read them.

Of each group: an object header that names a B-tree and a heap of names, a B-tree of one leaf, and
the leaf, with room for as many entries as the largest group has. Of each array: its header and its
numbers, contiguous. Source: HDF5 File Format Specification, version 3.0; see `hdf5_in`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnncore.convert.hdf5_in import DATASPACE, DATATYPE, LAYOUT, SIGNATURE, TABLE

NOWHERE = 2**64 - 1
TREE_RANK = 16  # a node of a B-tree has room for twice as many
#: Bit fields, bits, and where exponent and mantissa are, of IEEE numbers, least byte first.
FLOATS = {
    4: b"\x11\x20\x1f\x00" + struct.pack("<IHHBBBBI", 4, 0, 32, 23, 8, 0, 23, 127),
    8: b"\x11\x20\x3f\x00" + struct.pack("<IHHBBBBI", 8, 0, 64, 52, 11, 0, 52, 1023),
}

Tree = Mapping[str, Any]  # names to groups or arrays


def hdf5_of(tree: Tree) -> bytes:
    """Return the bytes of a file with these groups, nested dicts, and arrays of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> from rnncore.convert.hdf5_in import File
    >>> content = hdf5_of({"layers": {"dense": {"vars": {"0": np.ones((2, 1), np.float32)}}}})
    >>> File(content).root["layers/dense/vars/0"].array().tolist()
    [[1.0], [1.0]]
    """
    writer = _Writer(_largest(tree))
    root = writer.group(tree)
    content = writer.content
    content[:96] = (
        SIGNATURE + struct.pack("<8BHHI", 0, 0, 0, 0, 0, 8, 8, 0, writer.rank, TREE_RANK, 0)
        + struct.pack("<QQQQ", 0, NOWHERE, len(content), NOWHERE)
        + struct.pack("<QQIIQQ", 0, root, 0, 0, 0, 0)
    )  # fmt: skip
    return bytes(content)


def _largest(tree: Tree) -> int:
    inner = [_largest(one) for one in tree.values() if isinstance(one, Mapping)]
    return max([len(tree), *inner])


class _Writer:
    def __init__(self, largest: int) -> None:
        self.content = bytearray(96)  # what begins the file is written last
        self.rank = max(4, -(-largest // 2))  # a leaf has room for twice as many

    def group(self, tree: Tree) -> int:
        """Write a group and what is in it; return where its header is."""
        places = {name: self._child(tree[name]) for name in sorted(tree)}
        names, offsets = bytearray(8), {}
        for name in places:
            offsets[name] = len(names)
            held = name.encode() + b"\0"
            names += held + bytes(-len(held) % 8)
        heap = self._put(struct.pack("<4sB3xQQQ", b"HEAP", 0, len(names), 1, len(self.content) + 32)
                         + names)  # fmt: skip
        entries = b"".join(
            struct.pack("<QQIIQQ", offsets[name], place, 0, 0, 0, 0)
            for name, place in places.items()
        )
        leaf = struct.pack("<4sBBH", b"SNOD", 1, 0, len(places)) + entries
        at = self._put(leaf + bytes(8 + 80 * self.rank - len(leaf)))
        last = offsets[list(places)[-1]] if places else 0
        tree_node = struct.pack("<4sBBHQQQQQ", b"TREE", 0, 0, bool(places), NOWHERE, NOWHERE, 0,
                                at, last)  # fmt: skip
        node = self._put(tree_node + bytes(32 + 32 * TREE_RANK - len(tree_node)))
        return self._header([(TABLE, struct.pack("<QQ", node, heap))])

    def _child(self, one: Any) -> int:
        return self.group(one) if isinstance(one, Mapping) else self._array(np.asarray(one))

    def _array(self, array: np.ndarray) -> int:
        numbers = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        place = self._put(numbers)
        rank = array.ndim
        return self._header([
            (DATASPACE, struct.pack(f"<BBB5x{rank}Q", 1, rank, 0, *array.shape)),
            (DATATYPE, FLOATS[array.itemsize]),
            (LAYOUT, struct.pack("<BBQQ", 3, 1, place, len(numbers))),
        ])  # fmt: skip

    def _header(self, messages: list[tuple[int, bytes]]) -> int:
        body = b""
        for kind, data in messages:
            data += bytes(-len(data) % 8)
            body += struct.pack("<HHB3x", kind, len(data), 0) + data
        return self._put(struct.pack("<BxHII4x", 1, len(messages), 1, len(body)) + body)

    def _put(self, data: bytes) -> int:
        place = len(self.content)
        self.content += data + bytes(-len(data) % 8)
        return place
