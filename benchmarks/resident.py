"""Memory that this process holds and has held at most, in bytes: its resident set.

The peak that `getrusage` gives counts from a process's start and, on Linux, is at least its parent's; that of
/proc/self/status is its own, and can be begun anew.
"""

import contextlib
import pathlib
import resource
import sys
from collections.abc import Callable

from alexnet_jax.runtime.devices import release_freed_memory

_STATUS = pathlib.Path('/proc/self/status')


def resident() -> int:
    """What is held now; where there is no /proc, the peak."""
    return _of_status('VmRSS')


def peak() -> int:
    """The most that was held at once: since `restart_peak` where there is /proc, else since the process began."""
    return _of_status('VmHWM')


def restart_peak() -> None:
    """The peak counts from now on, where the system can do that."""
    with contextlib.suppress(OSError):
        _STATUS.with_name('clear_refs').write_text('5')


def peak_growth(call: Callable[[], object]) -> int:
    """Calls it, and returns by how much the peak was above what was held before, freed memory not counted."""
    release_freed_memory()
    restart_peak()
    before = resident()
    call()
    return peak() - before


def _of_status(field: str) -> int:
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    found = (line.split() for line in _STATUS.read_text().splitlines())
    return 1024 * next(int(words[1]) for words in found if words[0] == f'{field}:')
