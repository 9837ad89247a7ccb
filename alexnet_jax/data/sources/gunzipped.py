"""Random access to the content of a gzip file, without unpacking it on disk."""

import collections
import io
import os
import pathlib
import threading
import zlib
from typing import Any, NamedTuple

LARGEST_CONTENT = 1 << 33  # bytes; of the data sets that come so, the largest has 1.6 GB
_MAY_INFLATE, _MOST_TIMES = 1 << 28, 32  # bytes, and above them how often the file's: images are compressed already
_BLOCK = 1 << 20  # bytes of content
_INPUT = 1 << 16  # bytes of the file that are read at a time
_LARGE = 1 << 24  # bytes of a read that is not made again
_KEPT = 160  # blocks in memory: more than a class of Imagenette, whose images lie in the archive without order


class _Point(NamedTuple):
    """The beginning of a block."""

    offset: int  # in the file
    state: Any  # zlib's decompressor there, which is copied before it is used


class Gunzipped(io.RawIOBase):
    """The content of a gzip file.

    On the first pass, zlib's state, some 40 kB, is kept for every megabyte of content; later reads begin there.
    `pread` may be called from several threads.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        """Opens the file; OSError if that fails."""
        super().__init__()
        self._file = open(path, 'rb', buffering=0)  # noqa: SIM115  # until `close`
        size = os.fstat(self._file.fileno()).st_size
        self._largest = min(LARGEST_CONTENT, max(_MAY_INFLATE, _MOST_TIMES * size))
        self._points = [_Point(0, _decompressor())]
        self._size: int | None = None  # of the content, once it is known
        self._blocks: collections.OrderedDict[int, bytes] = collections.OrderedDict()  # the last used is last
        self._position = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the file; called by Python too where opening it has failed."""
        if hasattr(self, '_file'):
            self._file.close()
        super().close()

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in the content."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a position from the start, from here, or from the end, which may have to be found first."""
        if whence == os.SEEK_END:
            while self._size is None:
                self._block(len(self._points))
            offset += self._size
        elif whence == os.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """Reads up to `size` bytes from the position on, or all."""
        content = self.pread(LARGEST_CONTENT if size < 0 else size, self._position)
        self._position += len(content)
        return content

    def pread(self, size: int, offset: int) -> bytes:
        """Reads `size` bytes from an offset on, fewer at the end.

        Raises:
          OSError: the file is not gzip, is damaged or cut short, or unpacks to more than is plausible.
        """
        parts = []
        while size > 0:
            number, start = divmod(offset, _BLOCK)
            part = self._block(number, keep=size <= _LARGE)[start : start + size]
            if not part:
                break
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b''.join(parts)

    def _block(self, number: int, keep: bool = True) -> bytes:
        """A block, shorter than others if it is the last, and empty after that; kept for the next read if asked for."""
        with self._lock:
            while self._size is None and number >= len(self._points) - 1:
                self._advance()
            if number >= len(self._points):
                return b''
            content = self._blocks.get(number)
        if content is None:
            content, _ = _inflated(self._file.fileno(), self._points[number])
        if keep:
            with self._lock:
                self._keep(number, content)
        return content

    def _advance(self) -> None:
        """Reads the first block that was never read."""
        number = len(self._points) - 1
        content, following = _inflated(self._file.fileno(), self._points[number])
        if following is None:
            self._size = number * _BLOCK + len(content)
        elif number * _BLOCK >= self._largest:
            raise OSError(f'it unpacks to more than {self._largest:,} bytes, which no images do')
        else:
            self._points.append(following)
        self._keep(number, content)

    def _keep(self, number: int, content: bytes) -> None:
        self._blocks[number] = content
        self._blocks.move_to_end(number)
        if len(self._blocks) > (1 if self._size is None else _KEPT):  # the first pass needs only one
            self._blocks.popitem(last=False)


def _decompressor() -> Any:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)  # of gzip, with its checksum


def _inflated(file: int, point: _Point) -> tuple[bytes, _Point | None]:
    """The block from a point on, and the point after it; None if it is the last."""
    offset, state = point.offset, point.state.copy()
    parts: list[bytes] = []
    missing = _BLOCK
    try:
        while missing:
            data = os.pread(file, _INPUT, offset)
            if state.eof:  # what follows is padding, or as good as another file
                rest = data.lstrip(b'\0')
                if data and not rest:
                    offset += len(data)
                    continue
                if not rest:
                    return b''.join(parts), None
                offset += len(data) - len(rest)
                data, state = rest, _decompressor()
            part = state.decompress(data, missing)
            if not part and not data:
                raise OSError(f'it is cut short: its {offset:,} bytes end in the middle of its content')
            offset += len(data) - len(state.unused_data if state.eof else state.unconsumed_tail)
            parts.append(part)
            missing -= len(part)
    except zlib.error as error:
        raise OSError(f'it is damaged, or not a gzip file ({error})') from error
    return b''.join(parts), _Point(offset, state)
