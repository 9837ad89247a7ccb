"""Formats of prepared images: JPEG in ArrayRecord files, or raw pixels in flat files.

An image of 256 x 256 takes about 20 kB as JPEG, and some hundred microseconds of a core to decode. Raw pixels take
192 kB and almost no time. ArrayRecord has checksums; those of raw records are in the shard's `ShardFacts`.
"""

import bisect
import collections
import itertools
import os
import pathlib
import resource
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from alexnet_jax.data.shard_facts import facts_file, read_checksums
from alexnet_jax.runtime.files import read_file, read_through

_HEADER = struct.Struct('<IH')  # label, length of the name in bytes
# One record a group, so that reading an image reads no other; a JPEG cannot be compressed further.
_WRITER_OPTIONS = 'group_size:1,uncompressed'
_READER_OPTIONS = 'readahead_buffer_size:0'  # for random access

STORAGE = {'jpeg': '.array_record', 'raw': '.raw'}  # format: file extension


class Record(NamedTuple):
    """A prepared image as JPEG."""

    name: str  # of the image in its source
    label: int  # index of its class in the manifest's class names
    image: bytes  # JPEG, RGB, of the manifest's image size


def encode(record: Record) -> bytes:
    """Packs a record: label (uint32), length of the name (uint16), both little-endian, name (UTF-8), image."""
    name = record.name.encode(errors='backslashreplace')[:65535]  # file names may hold bytes that are not text
    return _HEADER.pack(record.label, len(name)) + name + record.image


def decode(data: bytes) -> Record:
    """Unpacks a record that `encode` packed; raises ValueError for other bytes."""
    label, length = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (0, 0)
    start = _HEADER.size + length
    if len(data) <= start:
        raise ValueError(f'a record of {len(data)} bytes ends before its image')
    return Record(data[_HEADER.size : start].decode(), label, data[start:])


def raw_type(size: int) -> np.dtype:
    """A record of a raw shard: the label and the pixels."""
    return np.dtype([('label', '<u4'), ('image', 'u1', (size, size, 3))])


def names_file(path: pathlib.Path) -> pathlib.Path:
    """Path of the file of a raw shard's names, a line each."""
    return path.with_suffix('.names')


def payload(storage: str, name: str, label: int, pixels: np.ndarray, quality: int) -> tuple[bytes, np.ndarray]:
    """Encodes an image, uint8 [size, size, 3] in RGB, for storage as 'jpeg' (of quality 1..100) or 'raw'.

    Returns:
      The record, and the pixels that will be read back, which JPEG has changed.
    """
    if storage == 'raw':
        return struct.pack('<I', label) + pixels.tobytes(), pixels
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, colorspace='RGB', colorsubsampling='420')
    return encode(Record(name, label, jpeg)), simplejpeg.decode_jpeg(jpeg, colorspace='RGB')


class JpegWriter:
    """Writes an ArrayRecord file."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path, self._count = path, 0
        self._writer = ArrayRecordWriter(str(path), _WRITER_OPTIONS)

    def write(self, name: str, payload: bytes) -> None:
        """Appends a record, which `payload` made; its name is in the payload."""
        self._writer.write(payload)
        self._count += 1

    def close(self) -> None:
        """Finishes the file; raises OSError if it does not hold all records, as on a full disk."""
        try:
            self._writer.close()
            written = ArrayRecordReader(str(self._path)).num_records() if self._count else 0
        except (RuntimeError, ValueError) as error:
            raise OSError(f'{self._path}: {error}') from error
        if written != self._count:
            raise OSError(f'{self._path} holds {written} of {self._count} records')


class RawWriter:
    """Writes a flat file of records, and a file of their names beside it."""

    def __init__(self, path: pathlib.Path) -> None:
        self._files = self._records, self._names = path.open('wb'), names_file(path).open('wb')

    def write(self, name: str, payload: bytes) -> None:
        """Appends a record, which `payload` made, and its name."""
        self._records.write(payload)
        self._names.write(' '.join(name.splitlines()).encode(errors='backslashreplace') + b'\n')

    def close(self) -> None:
        """Finishes the files; raises OSError, as on a full disk."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
            file.close()


class Shards:
    """Random access to the images of a split, in several files that are opened on first use.

    As many files are open as a quarter of the process's limit, so that there may be any number of them.
    """

    def __init__(
        self, files: Sequence[str], counts: Sequence[int], storage: str, size: int, checked: bool = False
    ) -> None:
        """Opens shards of `counts` images of `size` x `size` each, stored as `storage`.

        Args:
          files, counts, storage, size: of the shards.
          checked: whether raw shards have checksums beside them, as they have since there are `ShardFacts`.
        """
        self._files, self._storage, self._size, self._checked = list(files), storage, size, checked
        self._ends = list(itertools.accumulate(counts))
        self._readers = _Recent(max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
        self._names: tuple[int, list[bytes]] = -1, []  # of the raw shard that was last asked for a name

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def locate(self, index: int) -> tuple[int, int]:
        """The number of an image's shard, and its record in it."""
        shard = bisect.bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    def description(self, index: int) -> str:
        """File and record of an image, for messages."""
        shard, record = self.locate(index)
        return f'{self._files[shard]}, record {record},'

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """Pixels (uint8 [size, size, 3], RGB) and label of an image.

        Raises:
          ValueError: the record is damaged.
          OSError: the system cannot read the file.
        """
        shard, number = self.locate(index)
        if self._storage == 'raw':
            raw = self._readers.get(shard, self._open_shard).read(number)
            return raw['image'], int(raw['label'])
        record = self._record(shard, number)
        height, width, *_ = simplejpeg.decode_jpeg_header(record.image)
        if (height, width) != (self._size, self._size):  # checked before decoding, which may take gigabytes
            raise ValueError(f'an image of {height} x {width}, not of {self._size} x {self._size}')
        return simplejpeg.decode_jpeg(record.image, colorspace='RGB'), record.label

    def name(self, index: int) -> str:
        """The name of an image in its source; ValueError or OSError as for `read`."""
        shard, number = self.locate(index)
        if self._storage != 'raw':
            return self._record(shard, number).name
        path = names_file(pathlib.Path(self._files[shard]))
        if self._names[0] != shard:
            self._names = shard, read_file(path).split(b'\n')[:-1]
        if number >= len(self._names[1]):
            raise ValueError(f'{path} has no line {number + 1}')
        return self._names[1][number].decode()

    def payload(self, index: int, label: int) -> tuple[str, bytes, np.ndarray]:
        """Name, payload as that of `payload` but with another label, and pixels of an image; raises as `read`."""
        pixels, _ = self.read(index)
        if self._storage == 'raw':
            return self.name(index), struct.pack('<I', label) + pixels.tobytes(), pixels
        record = self._record(*self.locate(index))
        return record.name, encode(record._replace(label=label)), pixels

    def _record(self, shard: int, number: int) -> Record:
        try:
            return decode(self._readers.get(shard, self._open_shard).read([number])[0])
        except (RuntimeError, IndexError) as error:  # ArrayRecord's checksums, or what the system says
            read_through(self._files[shard])
            raise ValueError(str(error)) from error

    def _open_shard(self, shard: int) -> Any:
        path = self._files[shard]
        count = self._ends[shard] - (self._ends[shard - 1] if shard else 0)
        if self._storage == 'raw':
            return _RawReader(path, count, self._size, self._checked)
        open(path, 'rb').close()  # the system's errors, about which ArrayRecord says nothing
        try:
            reader = ArrayRecordReader(path, options=_READER_OPTIONS)
            found = reader.num_records()
        except (RuntimeError, ValueError) as error:
            read_through(path)
            raise ValueError(f'the file cannot be opened: {error}') from error
        if found != count:
            read_through(path)
            raise ValueError(f'the file holds {found} records, the manifest says {count}')
        return reader


class _RawReader:
    """A raw shard. It is read, not mapped into memory, as a failing disk ends a process that has mapped a file."""

    def __init__(self, path: str, count: int, size: int, checked: bool) -> None:
        self._type, self._file = raw_type(size), open(path, 'rb', buffering=0)  # noqa: SIM115
        found, rest = divmod(os.fstat(self._file.fileno()).st_size, self._type.itemsize)
        if found != count or rest:
            raise ValueError(f'the file holds {found} records, the manifest says {count}')
        self._unchecked = np.full(count, checked)
        self._checksums = read_checksums(facts_file(pathlib.Path(path))) if checked else np.zeros(count, np.uint32)
        if len(self._checksums) != count:
            raise ValueError(f'{facts_file(pathlib.Path(path))} has {len(self._checksums)} checksums of {count}')

    def __del__(self) -> None:
        if hasattr(self, '_file'):
            self._file.close()

    def read(self, number: int) -> Any:
        """A record, of `raw_type`."""
        length = self._type.itemsize
        data = os.pread(self._file.fileno(), length, number * length)
        if len(data) != length:
            raise ValueError('the file ends before it')
        if self._unchecked[number]:  # once, as it takes as long as the reading
            if zlib.crc32(data) != self._checksums[number]:
                raise ValueError('its checksum differs')
            self._unchecked[number] = False
        return np.frombuffer(data, self._type)[0]


class _Recent:
    """The readers that were last asked for; another is closed with the last reference to it."""

    def __init__(self, most: int) -> None:
        self._most, self._lock, self._values = most, threading.Lock(), collections.OrderedDict[int, Any]()

    def get(self, key: int, make: Callable[[int], Any]) -> Any:
        """The value of a key, made if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make(key)  # two threads may both make it; either will do
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value
