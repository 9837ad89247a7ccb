"""A directory of features, written so that it can be interrupted at any moment and resumed.

DIRECTORY/values.npy      float16 [images, values]; np.load(..., mmap_mode='r') opens it at once
DIRECTORY/labels.npy      int32 [images]; -1 where the class is not known
DIRECTORY/files.txt       names of the images, a line each
DIRECTORY/broken.txt      unreadable images that were left out, a line each
DIRECTORY/features.json   layer, network and images; directories that agree in it are the same

Until it is complete it is DIRECTORY.partial. Every few seconds the files are synced, and then features.json says how
many images they hold; anything behind these is dropped on resume.
"""

import contextlib
import io
import itertools
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import json_bytes, locked, read_json, replace_file, sync
from alexnet_jax.runtime.formatting import format_bytes

VALUES, LABELS, NAMES, BROKEN, ABOUT = 'values.npy', 'labels.npy', 'files.txt', 'broken.txt', 'features.json'
_LOCK = 'lock'
_SAVE_EVERY = 5.0  # seconds
_HEADER = 128  # bytes of an .npy file before its values; NumPy leaves room for any number of images


def check_same(directory: pathlib.Path, about: dict[str, Any]) -> dict[str, Any]:
    """Reads features.json; UserError if it is damaged or cannot be read, or differs from the fields of `about`."""
    try:
        found: dict[str, Any] = read_json(directory / ABOUT)
        _ = found['images'] + found['left_out']
    except OSError as error:
        raise UserError(f'{directory / ABOUT} cannot be read: {error.strerror or error}.') from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{directory / ABOUT} is damaged ({error}); delete {directory}.') from error
    for name, value in about.items():
        if found.get(name) != value:
            values = '' if isinstance(value, list) else f': {found.get(name)!r}, and now it is {value!r}'
            raise UserError(f'{directory} was made with another {name}{values}. Delete it, or restore that setting.')
    return found


class FeatureFiles:
    """The files of a directory that is being written; a context that closes them.

    Attributes:
      kept: images written.
      left_out: unreadable images.
    """

    def __init__(self, partial: pathlib.Path, about: dict[str, Any], count: int) -> None:
        """Opens the files of a directory, created if missing, and drops what was written after the last `save`.

        `about` has the fields of features.json, of which 'values' is the number of an image's values; `count` is the
        number of images, at most.

        Raises:
          UserError: the directory is of something else, in use or not writable, or the disk is too small.
        """
        self._partial, self._about, self._saved = partial, about, time.monotonic()
        self._needed = count * (2 * about['values'] + 64) + 2**20  # bytes
        with contextlib.ExitStack() as stack, self._disk():
            partial.mkdir(parents=True, exist_ok=True)
            stack.enter_context(
                locked(partial / _LOCK, lambda holder: f'{partial} is being written by {holder}; wait for it.')
            )
            self._values, self._labels, self._names, self._broken = self._files = [
                stack.enter_context(
                    os.fdopen(os.open(partial / name, os.O_RDWR | os.O_CREAT, 0o666), 'r+b', buffering=0)
                )
                for name in (VALUES, LABELS, NAMES, BROKEN)
            ]
            self._resume()
            self._open = stack.pop_all()

    def _resume(self) -> None:
        exists = (self._partial / ABOUT).exists()
        found = check_same(self._partial, self._about) if exists else {'images': 0, 'left_out': 0}
        self.kept, self.left_out = found['images'], found['left_out']
        ends = [
            _HEADER + self.kept * 2 * self._about['values'],
            _HEADER + self.kept * 4,
            _end_of_lines(self._partial / NAMES, self.kept),
            _end_of_lines(self._partial / BROKEN, self.left_out),
        ]
        sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        needed, free = self._needed - sum(sizes), shutil.disk_usage(self._partial).free
        if needed > free:
            space = f'{format_bytes(needed)} more, and {format_bytes(free)} are free'
            raise UserError(f'{self._partial} needs {space}; free some, and give the same command again.')
        for file, size, end in zip(self._files, sizes, ends, strict=True):
            if exists and size < end:
                raise UserError(f'{self._partial} is damaged: {file.name} is too short. Delete {self._partial}.')
            file.truncate(end)
            file.seek(end)
        self.save()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def read(self) -> int:
        """Number of images that are done, readable or not."""
        return self.kept + self.left_out

    def add(self, values: np.ndarray, labels: Sequence[int], names: Sequence[str], broken: Sequence[str]) -> None:
        """Appends images, their values float16 [images, values], and saves if the last time is a while ago.

        `broken` has a line for each unreadable image among them. UserError, as on a full disk.
        """
        with self._disk():
            _append(self._values, values.astype('<f2', copy=False).tobytes())
            _append(self._labels, np.array(labels, '<i4').tobytes())
            _append(self._names, _lines(names))
            _append(self._broken, _lines(broken))
        self.kept, self.left_out = self.kept + len(names), self.left_out + len(broken)
        if time.monotonic() - self._saved >= _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Syncs the files, and then writes the number of images; UserError, as on a full disk."""
        with self._disk():
            for file in self._files:
                os.fsync(file.fileno())
            about = {**self._about, 'images': self.kept, 'left_out': self.left_out}
            replace_file(self._partial / ABOUT, json_bytes(about))
        self._saved = time.monotonic()

    def finish(self, directory: pathlib.Path) -> None:
        """Writes the arrays' headers, and renames the directory; UserError, as on a full disk."""
        with self._disk():
            for file, kind, shape in ((self._values, '<f2', (self._about['values'],)), (self._labels, '<i4', ())):
                header = io.BytesIO()
                fields = {'descr': kind, 'fortran_order': False, 'shape': (self.kept, *shape)}
                np.lib.format.write_array_header_1_0(header, fields)
                file.seek(0)
                _append(file, header.getvalue())
            self.save()
            self._partial.rename(directory)
            sync(directory.parent)
            (directory / _LOCK).unlink()  # last, as it keeps others out until then

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """Turns an OSError into a UserError that says what is needed."""
        try:
            yield
        except OSError as error:
            remedy = f'{format_bytes(self._needed)} are needed in all; the same command resumes'
            raise UserError(f'{self._partial} cannot be written: {error.strerror or error}. {remedy}.') from error


def _append(file: BinaryIO, data: bytes) -> None:
    """Writes all of it, as an unbuffered file may take less at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _lines(texts: Sequence[str]) -> bytes:
    """A line each, whatever bytes a file name has."""
    return ''.join(' '.join(text.splitlines()) + '\n' for text in texts).encode(errors='backslashreplace')


def _end_of_lines(path: pathlib.Path, count: int) -> int:
    """Offset at which the first `count` lines of a file end."""
    with path.open('rb') as file:
        return sum(map(len, itertools.islice(file, count)))
