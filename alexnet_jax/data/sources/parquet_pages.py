"""Sizes of the pages of a Parquet file: what has to be held in memory at once, whatever the file's metadata claim.

A page begins with a header in Thrift's compact protocol; see https://parquet.apache.org/docs/file-format/data-pages.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_FIRST_READ, _MAX_HEADER = 1 << 12, 1 << 24  # bytes; a header may have the least and the largest value in it
_UNPACKED, _PACKED = 2, 3  # numbers of the header's fields
_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, 12  # types


class Page(NamedTuple):
    """A page of a column chunk."""

    unpacked: int  # bytes
    packed: int  # bytes, as they are in the file


def pages(file: BinaryIO, start: int, size: int) -> Iterator[Page]:
    """The pages of a column chunk, of `size` bytes from `start` on.

    Raises:
      ValueError: there is none where one should be.
    """
    end = start + size
    while start < end:
        fields, length = _header(file, start, end)
        page = Page(fields.get(_UNPACKED, -1), fields.get(_PACKED, -1))
        if min(page) < 0:
            raise ValueError(f'there is no page at byte {start:,}')
        yield page
        start += length + page.packed


def _header(file: BinaryIO, start: int, end: int) -> tuple[dict[int, int], int]:
    """The integers of the header at `start`, by number, and its length."""
    for most in (_FIRST_READ, _MAX_HEADER):
        file.seek(start)
        reader = _Reader(file.read(min(most, end - start)))
        try:
            return reader.struct(), reader.position
        except IndexError:
            continue
    raise ValueError(f'the page at byte {start:,} is damaged')


class _Reader:
    """Thrift's compact protocol, as far as headers of pages use it; IndexError where the content ends early."""

    def __init__(self, content: bytes) -> None:
        self._content, self.position = content, 0

    def struct(self, depth: int = 0) -> dict[int, int]:
        """Reads a structure; returns its integers by their numbers."""
        found: dict[int, int] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            if kind in _INTEGERS:
                found[number] = self._integer()
            elif kind == _STRUCT and depth < 4:
                self.struct(depth + 1)
            elif kind in (_BYTE, _DOUBLE, _BINARY):
                size = {_BYTE: 1, _DOUBLE: 8}.get(kind) or self._varint()
                self.position += size
            elif kind not in _BOOLEANS:
                raise ValueError('a page has a damaged header')
        return found

    def _byte(self) -> int:
        self.position += 1
        return self._content[self.position - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError('a page has a damaged header')

    def _integer(self) -> int:
        value = self._varint()  # zigzag: 0, -1, 1, -2, ...
        return value >> 1 ^ -(value & 1)
