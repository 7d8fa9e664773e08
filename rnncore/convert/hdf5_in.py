"""Arrays and text in HDF5 files as h5py writes them for Keras; within the bytes there are.

Files that others send may be damaged, or made to do damage: the usual library then takes gigabytes
or crashes. So the little of the format that these files use is read here: groups by symbol tables,
contiguous arrays of floating-point numbers, and attributes of text. Whatever leads elsewhere, such
as external files and links, is refused. Source: HDF5 File Format Specification, version 3.0,
sections II.A (superblock 0), III.A, III.D and III.E (B-trees and heaps), IV.A (messages).
"""

from __future__ import annotations

import struct
from math import prod

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_TIMES = 100  # so many times the file's bytes what is read of it may take
FLOATS = {(2, 5, 10): "f2", (4, 8, 23): "f4", (8, 11, 52): "f8"}  # bytes, exponent, mantissa
DATASPACE, DATATYPE, LINK, EXTERNAL, LAYOUT, ATTRIBUTE, CONTINUATION, TABLE = (
    0x01, 0x03, 0x06, 0x07, 0x08, 0x0C, 0x10, 0x11)  # fmt: skip


class File:
    """The bytes of a file, and how many of them may still be handed out.

    Raises
    ------
    ValueError, struct.error
        If they are no such file; likewise everything that is read of it.
    """

    def __init__(self, content: bytes) -> None:
        if content[:8] != SIGNATURE:
            raise ValueError("no HDF5 file")
        version, sizes = content[8], content[13:15]
        if version != 0 or sizes != b"\x08\x08" or self._number(content, 24):
            raise ValueError(
                f"HDF5 of version {version}, where h5py writes 0 (libver='earliest')"
            )
        self.content, self.left = content, MOST_TIMES * len(content)
        self.heaps: dict[int, dict[int, bytes]] = {}
        self.root = Node(self, self._number(content, 64))

    @staticmethod
    def _number(content: bytes, place: int) -> int:
        return int(struct.unpack_from("<Q", content, place)[0])

    def part(self, place: int, count: int) -> bytes:
        """Return so many bytes from a place on."""
        if not 0 <= place <= place + count <= len(self.content):
            raise ValueError(f"{count} bytes at {place} are not in the file")
        self.left -= count
        if self.left < 0:
            raise ValueError("more than such a file can hold")
        return self.content[place : place + count]

    def signed(self, place: int, signature: bytes, count: int) -> bytes:
        """Return the bytes of a block behind its signature."""
        block = self.part(place, count)
        if block[:4] != signature:
            raise ValueError(f"no {signature.decode()} at {place}")
        return block[4:]

    def shared(self, place: int, index: int) -> bytes:
        """Return an object of a global heap."""
        if place not in self.heaps:
            self.heaps[place] = self._heap(place)
        found = self.heaps[place][index]
        self.left -= len(found)
        return found

    def _heap(self, place: int) -> dict[int, bytes]:
        size = self._number(self.signed(place, b"GCOL", 16), 4)
        heap, at, objects = self.part(place, size), 16, {}
        while at + 16 <= size:
            index, _, count = struct.unpack_from("<HHxxxxQ", heap, at)
            if index == 0:  # what is left is free
                break
            if at + 16 + count > size:
                raise ValueError("a global heap whose objects are larger than itself")
            objects[index] = heap[at + 16 : at + 16 + count]
            at += 16 + -(-count // 8) * 8
        return objects


class Node:
    """A group or an array: the messages of an object header."""

    def __init__(self, file: File, place: int) -> None:
        self.file = file
        self.messages: list[tuple[int, bytes]] = []
        self._children: dict[str, int] | None = None
        version, count, size = struct.unpack("<BxHxxxxI", file.part(place, 12))
        if version != 1:
            raise ValueError(f"an object header of version {version}")
        blocks = [(place + 16, size)]
        for start, length in blocks:  # which grows as it goes
            block, at = file.part(start, length), 0
            while at + 8 <= length and len(self.messages) < count:
                kind, size, flags = struct.unpack_from("<HHB", block, at)
                data = block[at + 8 : at + 8 + size]
                if len(data) < size or (flags & 2 and kind in (DATASPACE, DATATYPE, ATTRIBUTE)):
                    raise ValueError("a message that is cut off, or shared with others")
                if kind == CONTINUATION:
                    blocks.append(struct.unpack_from("<QQ", data))
                self.messages.append((kind, data))
                at += 8 + size

    def _only(self, kind: int) -> bytes:
        [found] = [data for one, data in self.messages if one == kind]
        return found

    def children(self) -> dict[str, int]:
        """Return the names in a group and where they are; links to elsewhere are left out."""
        if self._children is not None:
            return self._children
        if any(kind == LINK for kind, _ in self.messages):
            raise ValueError("a group in a newer form than h5py's libver='earliest' has")
        tree, heap = struct.unpack_from("<QQ", self._only(TABLE))
        size, _, start = struct.unpack_from("<QQQ", self.file.signed(heap, b"HEAP", 32), 4)
        names, found = self.file.part(start, size), {}
        for place in self._leaves(tree):
            (count,) = struct.unpack_from("<H", self.file.signed(place, b"SNOD", 8), 2)
            entries = self.file.part(place + 8, 40 * count)
            for name, header, cached in struct.iter_unpack("<QQI20x", entries):
                if cached != 2:  # a symbolic link
                    found[names[name : names.index(b"\0", name)].decode()] = header
        self._children = found
        return found

    def _leaves(self, place: int) -> list[int]:
        kind, level, count = struct.unpack_from("<BBH", self.file.signed(place, b"TREE", 24))
        keys = self.file.part(place + 24, 16 * count)
        below = [child for _, child in struct.iter_unpack("<QQ", keys)]
        if kind != 0 or level > 8:
            raise ValueError("a B-tree that is none of a group")
        return below if level == 0 else [leaf for one in below for leaf in self._leaves(one)]

    def __contains__(self, name: str) -> bool:
        return name in self.children()

    def __getitem__(self, path: str) -> Node:
        node = self
        for name in path.split("/"):
            known = node.children()
            if name not in known:
                raise KeyError(path)
            node = Node(self.file, known[name])
        return node

    def array(self) -> np.ndarray:
        """Return an array of numbers; bfloat16 as float32."""
        shape = _shape(self._only(DATASPACE))
        kind = _float(self._only(DATATYPE))
        if any(one == EXTERNAL for one, _ in self.messages):
            raise ValueError("numbers in another file")
        layout = self._only(LAYOUT)
        if layout[:2] != b"\3\1":
            raise ValueError("numbers that do not stand one after another; save uncompressed")
        place, size = struct.unpack_from("<QQ", layout, 2)
        count = prod(shape) * np.dtype(kind).itemsize
        if size != count:
            raise ValueError(f"{size} bytes for an array of {count}")
        array = np.frombuffer(self.file.part(place, size), kind).reshape(shape)
        if self.text("dtype") == ["bfloat16"]:
            return (array.astype("<u4") << 16).view("<f4")
        if array.dtype.kind != "f":
            raise ValueError("numbers of an unknown kind")
        return array

    def text(self, name: str) -> list[str] | None:
        """Return the text of an attribute, or the list of texts; None if there is none."""
        for kind, data in self.messages:
            if kind == ATTRIBUTE:
                found = self._attribute(data, name)
                if found is not None:
                    return found
        return None

    def _attribute(self, data: bytes, wanted: str) -> list[str] | None:
        version, flags, *sizes = struct.unpack_from("<BBHHH", data)
        at, parts = 9 if version == 3 else 8, []
        for size in sizes:
            parts.append(data[at : at + size])
            at += -(-size // 8) * 8 if version == 1 else size
        name, kind, space = parts
        if name.split(b"\0")[0].decode() != wanted:
            return None
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise ValueError(f"an attribute of version {version}")
        count = prod(_shape(space))
        if not count:  # an empty list, whatever of
            return []
        (size,) = struct.unpack_from("<I", kind, 4)
        if count * size > len(data) - at:
            raise ValueError("an attribute that is cut off")
        each = [data[at + size * k : at + size * (k + 1)] for k in range(count)]
        if kind[0] & 15 == 9 and kind[1] & 15 == 1:  # text of any length, in a global heap
            each = [self._of_heap(one) for one in each]
        elif kind[0] & 15 != 3:
            raise ValueError("an attribute that is no text")
        return [one.rstrip(b"\0").decode() for one in each]

    def _of_heap(self, reference: bytes) -> bytes:
        length, place, index = struct.unpack("<IQI", reference)
        return self.file.shared(place, index)[:length] if length else b""


def _shape(data: bytes) -> tuple[int, ...]:
    version, rank = data[0], data[1]
    if version not in (1, 2) or rank > 8 or (version == 2 and data[3] == 2):
        raise ValueError("a shape of another version, or none")
    return struct.unpack_from(f"<{rank}Q", data, 8 if version == 1 else 4)


def _float(data: bytes) -> str:
    kind, order, size = data[0] & 15, "<>"[data[1] & 1], struct.unpack_from("<I", data, 4)[0]
    if kind == 5 and size == 2:  # opaque, as h5py has bfloat16
        return "<u2"
    if kind != 1:
        raise ValueError("numbers that are no floating-point numbers")
    _, _, _, exponent, _, mantissa, _ = struct.unpack_from("<HHBBBBI", data, 8)
    return order + FLOATS[size, exponent, mantissa]
