"""Files: reads that never block, atomic writes and advisory locks."""

import contextlib
import errno
import itertools
import json
import os
import pathlib
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, TextIO

from alexnet_jax.runtime.errors import UserError, writing

try:
    import fcntl
except ImportError as error:
    raise UserError(
        'Linux and macOS are supported; on Windows, run this in WSL (Windows Subsystem for Linux).'
    ) from error

# What file systems without locks say.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
LARGEST = 2**28  # bytes; well above any image, manifest or list of names


@contextlib.contextmanager
def open_regular(path: str | bytes | pathlib.Path) -> Iterator[IO[bytes]]:
    """Opens a file of any size; a pipe or a device is an error instead of a wait.

    Raises:
      ValueError: it is not a regular file.
      OSError: it cannot be opened.
    """
    with open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError('it is not a regular file')
        yield file


def read_file(path: str | bytes | pathlib.Path) -> bytes:
    """Reads a whole file; a pipe or a device is an error instead of a wait.

    Raises:
      ValueError: it is not a regular file, or is larger than 268 MB.
      OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise ValueError(f'{size:,} bytes are more than {LARGEST:,}')
        return file.read(LARGEST)


def read_through(path: str | pathlib.Path) -> None:
    """Reads a file from end to end: where a library calls it damaged, this tells whether the system can read it.

    Raises:
      ValueError: it is not a regular file.
      OSError: the system refuses; that is no damage of what is in the file.
    """
    with open_regular(path) as file:
        while file.read(1 << 20):
            pass


def read_json(path: str | pathlib.Path) -> Any:
    """Reads a JSON file; raises ValueError if it is not JSON or nested too deeply, and otherwise as `read_file`."""
    try:
        return json.loads(read_file(path))
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error


def replace_file(path: pathlib.Path, content: bytes) -> None:
    """Writes a file atomically and durably: after a crash it holds either the old content or the new.

    The content goes to PATH.new first, which replaces whatever has that name.

    Raises:
      OSError: it cannot be written.
    """
    new = path.with_name(path.name + '.new')
    new.unlink(missing_ok=True)  # it may be a pipe, or a link to another file
    with new.open('xb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync(path.parent)


def sync(path: pathlib.Path) -> None:
    """Puts what a file holds, or which files a directory has, on disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some network file systems cannot sync a directory
            raise
    finally:
        os.close(descriptor)


def sync_tree(directory: pathlib.Path) -> None:
    """Puts all files below a directory on disk, and the directories themselves; raises OSError."""
    for path in directory.rglob('*'):
        sync(path)
    sync(directory)


def unused(path: pathlib.Path) -> pathlib.Path:
    """The path itself where nothing has that name, or the first of PATH-2, PATH-3 and so on that nothing has."""
    names = (path.with_name(f'{path.stem}-{number}{path.suffix}') for number in itertools.count(2))
    return next(one for one in itertools.chain([path], names) if not os.path.lexists(one))


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file as `replace_file` does, but raises UserError."""
    with writing(path):
        replace_file(path, content)


def json_bytes(values: Any) -> bytes:
    """The bytes of a JSON file."""
    return (json.dumps(values, indent=1) + '\n').encode()


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes a JSON file as `replace_file` does, but raises UserError."""
    write_bytes(path, json_bytes(values))


@contextlib.contextmanager
def locked(
    path: pathlib.Path,
    in_use: Callable[[str], str],
    waiting: Callable[[str], None] | None = None,
    remove: bool = False,
) -> Iterator[None]:
    """Holds an advisory lock on a file, in which it notes process, host and time; it ends with the process.

    A file system without locks is reported on stderr, and the work goes on unlocked.

    Args:
      path: of the lock file, which is created if missing.
      in_use: makes the message for a lock that is held, given who holds it.
      waiting: told who holds the lock; then it is waited for. None for an error instead.
      remove: whether the file is removed in the end, still locked; otherwise it is left empty.

    Raises:
      UserError: another process holds the lock, or the file cannot be written.
    """
    file = None
    while file is None:
        file = _locked_file(path, in_use, waiting)
    with file:
        with writing(path):
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}, since {time.strftime("%Y-%m-%d %H:%M:%S")}\n')
            file.flush()
        try:
            yield
        finally:
            if remove:
                path.unlink()  # were it gone, another process could have been let in
            else:
                file.truncate(0)


def _locked_file(
    path: pathlib.Path, in_use: Callable[[str], str], waiting: Callable[[str], None] | None
) -> TextIO | None:
    """The file, opened and locked; None if whoever held the lock before has removed it."""
    with writing(path):
        file = path.open('a+', errors='replace')
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            file.seek(0)
            holder = file.read(1000).strip() or 'another process'
            if waiting is None:
                file.close()
                raise UserError(in_use(holder)) from error
            waiting(holder)
            fcntl.flock(file, fcntl.LOCK_EX)
        elif error.errno not in _NO_LOCKS:
            file.close()
            raise UserError(f'{path} cannot be locked: {error.strerror}.') from error
        else:
            warning = f'{path} cannot be locked ({error.strerror}); make sure that no other process writes there.'
            print(f'warning: {warning}', file=sys.stderr)
    if _is_at(file, path):
        return file
    file.close()
    return None


def _is_at(file: TextIO, path: pathlib.Path) -> bool:
    """Whether a path leads to an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
