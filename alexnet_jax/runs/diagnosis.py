"""What is wrong with a checkpoint that cannot be restored: whether it is damaged, and nothing else is.

Orbax and TensorStore raise errors of many kinds, and the same kinds for a file that was cut short, for one that may not
be read, and for their own defects. So nothing is called damaged on their word alone where its files tell more.
"""

import errno
import os
import pathlib
import re
import stat
import time
from collections.abc import Iterator
from typing import Any

import jax

from alexnet_jax.runs.progress import from_fields
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import read_json, read_through

PROGRESS, METRICS = pathlib.Path('progress', 'metadata'), pathlib.Path('metrics', 'metrics')  # in a checkpoint
_TREE = pathlib.Path('state', '_METADATA')
_JSON = ('_CHECKPOINT_METADATA', 'state/_sharding', 'state/array_metadatas/process_*')
_ARRAYS = pathlib.Path('state', 'manifest.ocdbt')
STRUCTURE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)  # what a damaged checkpoint may cause
_SYSTEM = 'EACCES EPERM EIO ESTALE EMFILE ENFILE ENOMEM ENOSPC EDQUOT EROFS ETIMEDOUT EBUSY EAGAIN EINTR ENXIO ENODEV'
_SYSTEM_SAYS = re.compile('|'.join(re.escape(os.strerror(getattr(errno, name))) for name in _SYSTEM.split()))
_SYSTEM_STATUS = re.compile(
    r'\b(PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE|UNAUTHENTICATED|DEADLINE_EXCEEDED|ABORTED|CANCELLED)\b'
)
_DAMAGE_STATUS = re.compile(
    '(DATA_LOSS|INVALID_ARGUMENT|FAILED_PRECONDITION|OUT_OF_RANGE|NOT_FOUND): '
)  # TensorStore's
_UNCHANGED = 0.1  # seconds after which a checkpoint is not being deleted by another process


class DamagedError(UserError):
    """A checkpoint is not what was saved: a checksum fails, its structure is broken, or a file is missing."""


class GoneError(UserError):
    """A checkpoint was there and is no more, as training deletes old ones."""


def is_system(error: BaseException) -> bool:
    """Whether an error of Orbax or TensorStore was caused by the system or by a lack of memory."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno not in STRUCTURE and one.errno is not None:
            return True
        if isinstance(one, MemoryError):
            return True
        if isinstance(one, ValueError | RuntimeError | OSError) or type(one) is Exception:  # of TensorStore, or Orbax
            text = first_line(one)
            if _SYSTEM_STATUS.search(text) or _SYSTEM_SAYS.search(text):
                return True
    return False


def of_a_file(error: BaseException) -> bool:
    """Whether an error comes from a file, whatever the reason."""
    return any(isinstance(one, OSError) for one in _chain(error))


def explained(directory: pathlib.Path, error: Exception) -> Exception:
    """What an error means that came up while a checkpoint was restored.

    Args:
      directory: of the checkpoint.
      error: whatever was raised.

    Returns:
      `DamagedError` or `GoneError`; a UserError where the system refused to read; or the error itself, where memory is
      used up or the software has a defect.
    """
    for one in _chain(error):
        if isinstance(one, MemoryError | jax.errors.JaxRuntimeError):
            return one
    if is_system(error):
        return unreadable(directory, _of_system(error))
    try:
        broken = what_is_broken(directory)
    except OSError as found:
        return unreadable(directory, found)
    if broken is None:
        told = next((one for one in _chain(error) if _DAMAGE_STATUS.match(str(one))), None)
        if told is None:
            return error
        broken = first_line(told)
    if _vanishes(directory):
        return GoneError(f'the checkpoint {directory} was there and has been deleted; give the same command again.')
    return damaged(directory, broken)


def damaged(directory: pathlib.Path, why: str) -> DamagedError:
    """The error for a damaged checkpoint."""
    return DamagedError(f'the checkpoint {directory} is damaged: {why}. Take another one with --checkpoint.')


def unreadable(directory: pathlib.Path, error: BaseException) -> UserError:
    """The error for a checkpoint that the system refuses to read."""
    why = first_line(error)
    if isinstance(error, OSError) and error.strerror and isinstance(error.filename, str | bytes):
        why = f'{os.fsdecode(error.filename)}: {error.strerror}'
    return UserError(
        f'the checkpoint {directory} cannot be read ({why}). Nothing has been changed; put that right, and give the '
        'same command again.'
    )


def what_is_broken(directory: pathlib.Path) -> str | None:
    """Examines the files of a checkpoint without Orbax: what is broken, or None where nothing is found.

    Raises:
      OSError: the system refuses to read one of them.
    """
    try:
        for path in files_below(directory):
            read_through(path)
        for name in (_TREE, PROGRESS):
            if not isinstance(read_json(directory / name), dict):
                return f'{name} holds no fields'
        for pattern in _JSON:
            for path in directory.glob(pattern):
                if not isinstance(read_json(path), dict):
                    return f'{path.relative_to(directory)} holds no fields'
        (directory / _ARRAYS).stat()
        return _in_tree(read_json(directory / _TREE)) or _in_progress(read_json(directory / PROGRESS))
    except OSError as error:
        if error.errno not in STRUCTURE:
            raise
        return f'{os.fsdecode(error.filename)}: {error.strerror}'
    except ValueError as error:
        return str(error)


def files_below(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """All files of a checkpoint.

    Raises:
      ValueError: it holds a pipe or a device, which reading would wait for.
      OSError: a directory or a file cannot be looked at, as a link that leads nowhere.
    """

    def fail(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(directory, onerror=fail):
        for name in names:
            path = pathlib.Path(folder, name)
            if not stat.S_ISREG(path.stat().st_mode):
                raise ValueError(f'{path} is no plain file')
            yield path


def _in_tree(fields: dict[str, Any]) -> str | None:
    tree = fields.get('tree_metadata')
    if not isinstance(tree, dict) or not tree:
        return f'{_TREE} names no arrays'
    for name, entry in tree.items():
        try:
            keys = ', '.join(repr(key['key']) for key in entry['key_metadata'])
            known = {key['key_type'] for key in entry['key_metadata']} <= {1, 2, 3, 4}
            kind = entry['value_metadata']['value_type']
            kind_fits = kind == 'jax.Array' if keys.startswith("'parameters'") else isinstance(kind, str)
            if name.rstrip(',)') != f'({keys}' or not known or not kind_fits:
                return f'{_TREE}: {name!r:.100} is no array'
        except (TypeError, KeyError, AttributeError):
            return f'{_TREE}: {name!r:.100} is no array'
    return None


def _in_progress(fields: dict[str, Any]) -> str | None:
    try:
        from_fields(fields)
    except (ValueError, TypeError, KeyError) as error:
        return str(error)
    return None


def _vanishes(directory: pathlib.Path) -> bool:
    """Whether a checkpoint is gone, or another process is just deleting it."""
    before, since = _names(directory), time.monotonic()
    while before and time.monotonic() - since < _UNCHANGED:
        time.sleep(0.01)
        now = _names(directory)
        if now != before:
            before, since = now, time.monotonic()
    return not before


def _names(directory: pathlib.Path) -> list[str]:
    return [str(path) for path in [directory, *directory.rglob('*')] if os.path.lexists(path)]


def _of_system(error: BaseException) -> BaseException:
    """The error in the chain that tells most: an OSError that names a file, or else the first one that says it."""
    chain = list(_chain(error))
    named = [one for one in chain if isinstance(one, OSError) and one.errno not in STRUCTURE]
    told = [one for one in chain if _SYSTEM_STATUS.search(str(one)) or _SYSTEM_SAYS.search(str(one))]
    return [*named, *told, error][0]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """What an error says, without the page that TensorStore appends."""
    lines = re.split(r' \[tensorstore_spec|\. See full TensorStore', str(error))[0].splitlines()
    return lines[0].rstrip('.') if lines else type(error).__name__
