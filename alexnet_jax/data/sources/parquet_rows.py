"""Images out of Parquet files by row: streamed, so that a row group may be larger than memory.

A column chunk can only be read forwards. So some rows are read at a time, and kept until they are asked for: threads
that read a data set in order, more or less, read it once.
"""

import collections
import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from alexnet_jax.data.sources.parquet_pages import pages
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import LARGEST
from alexnet_jax.runtime.formatting import format_bytes

if TYPE_CHECKING:  # importing it is slow, and only one source needs it
    import pyarrow as pa
    import pyarrow.parquet as pq

_BATCH_ROWS, _BATCH_BYTES = 64, 1 << 22  # read at once, at most; by a row group's average
_KEPT_BYTES, _KEPT_BATCHES = 1 << 27, 64  # at most
_CURSORS = 2  # row groups that are read at the same time
_BUFFER = 1 << 20  # bytes; without one, a column chunk is read as a whole
_MAX_PAGE = 1 << 30  # bytes, packed and unpacked together
_MAX_NAME = 300  # characters
_POINTER = b'version https://git-lfs'


class Group(NamedTuple):
    """A row group of a file."""

    first: int  # row of the file
    rows: int
    batch: int  # rows that are read at once


class _Cursor(NamedTuple):
    """A row group on its way from the first row to the last."""

    file: 'pq.ParquetFile'
    batches: Iterator['pa.RecordBatch']


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turns the errors of a damaged file into a UserError that names it."""
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = ' '.join(str(error).split())[:300].rstrip('.')
        remedy = 'Download it again if it is damaged.'
        with contextlib.suppress(OSError), open(path, 'rb') as file:
            if file.read(len(_POINTER)) == _POINTER:
                remedy = 'It is a pointer of Git LFS in place of the file: run `git lfs pull` in its repository.'
        raise UserError(f'{path} cannot be read: {reason}. {remedy}') from error


def open_file(path: str, **options: Any) -> 'pq.ParquetFile':
    """Opens a file for reading in small steps; raises what pyarrow raises."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False, **options)


def row_groups(metadata: 'pq.FileMetaData', column: str) -> list[Group]:
    """The row groups of a file; `column` is that of the images."""
    groups, first = [], 0
    for number in range(metadata.num_row_groups):
        rows = metadata.row_group(number).num_rows
        size = sum(chunk.total_uncompressed_size for chunk in _chunks(metadata, number, column))
        groups.append(Group(first, rows, max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(size, 1)))))
        first += rows
    return groups


def check_pages(path: str, metadata: 'pq.FileMetaData', number: int, column: str) -> None:
    """Raises ValueError if a page of a row group's column needs too much memory, or is not where it should be."""
    with open(path, 'rb', buffering=0) as file:
        for chunk in _chunks(metadata, number, column):
            starts = (chunk.dictionary_page_offset, chunk.data_page_offset)
            for page in pages(file, min(filter(None, starts)), chunk.total_compressed_size):
                if (size := page.unpacked + page.packed) > _MAX_PAGE:
                    raise ValueError(
                        f'a page of the column {column!r} takes {format_bytes(size)} of memory, where '
                        f'{format_bytes(_MAX_PAGE)} are the limit; write the file with smaller pages'
                    )


def _chunks(metadata: 'pq.FileMetaData', number: int, column: str) -> list['pq.ColumnChunkMetaData']:
    """What a row group has of a column, or of those parts of a structure that are read."""
    group = metadata.row_group(number)
    chunks = [group.column(index) for index in range(group.num_columns)]
    return [chunk for chunk in chunks if chunk.path_in_schema in (column, *_leaves(column))]


def _leaves(column: str) -> tuple[str, str]:
    """The columns of a structure that are read."""
    return f'{column}.bytes', f'{column}.path'


class Rows:
    """The images of some files by row, for any number of threads."""

    def __init__(self, column: str) -> None:
        """Takes the name of the column of images: bytes, or a structure with `bytes` and perhaps `path`."""
        self._column, self._lock = column, threading.Lock()
        self._cursors: dict[tuple[str, int], tuple[_Cursor, int]] = {}  # by file and row group: with the next row
        self._kept: collections.OrderedDict[tuple[str, int], tuple[pa.RecordBatch, set[int]]] = (
            collections.OrderedDict()
        )
        self._size = 0  # of what is kept, in bytes

    def read(self, path: str, number: int, group: Group, row: int) -> tuple[bytes, str]:
        """Reads an image of a row group.

        Args:
          path: of the file.
          number: of the row group in it.
          group: that row group.
          row: of the file.

        Returns:
          The encoded image, empty where there is none, and its own path, '' where there is none.

        Raises:
          UserError: the file is damaged.
        """
        first = row - (row - group.first) % group.batch
        with self._lock, reading(path):
            if (path, first) not in self._kept:
                self._advance(path, number, group, first)
            batch, wanted = self._kept[path, first]
            cell = batch.column(0)[row - first]
            wanted.discard(row)
            if not wanted:
                self._drop((path, first))
            content = cell if not hasattr(cell, 'keys') else cell['bytes'] if cell.is_valid else None
            if content is None or not content.is_valid:
                return b'', ''
            if (size := content.as_buffer().size) > LARGEST:
                raise UserError(f'{path}, row {row:,}: {size:,} bytes are too many for an image.')
            name = cell['path'].as_py() if content is not cell and 'path' in cell else None
            return content.as_py(), (name or '')[:_MAX_NAME]

    def _advance(self, path: str, number: int, group: Group, first: int) -> None:
        """Reads on until there is the batch that begins at the row `first`, and keeps what comes before it too."""
        cursor, row = self._cursors.pop((path, number), (None, group.first))
        if cursor is None or row > first:
            cursor, row = self._open(path, number, group.batch), group.first
        while row <= first:
            batch = next(cursor.batches, None)
            rows = min(group.batch, group.first + group.rows - row)
            if batch is None or batch.num_rows != rows:
                raise ValueError(f'row group {number} ends before row {row + rows:,}')
            self._keep((path, row), batch)
            row += rows
        if row < group.first + group.rows:
            self._cursors[path, number] = cursor, row
        while len(self._cursors) > _CURSORS:
            del self._cursors[next(iter(self._cursors))]

    def _open(self, path: str, number: int, batch: int) -> _Cursor:
        """A cursor at the beginning of a row group."""
        shared = next((cursor.file for (other, _), (cursor, _) in self._cursors.items() if other == path), None)
        file = shared or open_file(path)
        check_pages(path, file.metadata, number, self._column)
        leaves = {file.metadata.schema.column(i).path for i in range(len(file.metadata.schema))}
        columns = [name for name in (self._column, *_leaves(self._column)) if name in leaves]
        return _Cursor(file, file.iter_batches(batch, [number], columns, use_threads=False))

    def _keep(self, key: tuple[str, int], batch: 'pa.RecordBatch') -> None:
        if key in self._kept:
            return
        self._kept[key] = batch, set(range(key[1], key[1] + batch.num_rows))
        self._size += batch.nbytes
        while len(self._kept) > 1 and (self._size > _KEPT_BYTES or len(self._kept) > _KEPT_BATCHES):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[str, int]) -> None:
        self._size -= self._kept.pop(key)[0].nbytes
