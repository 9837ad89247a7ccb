"""Standard streams that neither an encoding nor a lost reader makes fail, and warnings that are no errors."""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from alexnet_jax.runtime.errors import UserError

_NAMES = {1: 'stdout', 2: 'stderr'}


class Output(io.TextIOWrapper):
    """A text stream that outlives its reader: a closed pipe, a terminal that is gone or a full disk ends no work.

    What its encoding lacks is written with backslashes: 'ch\\xe2t'.

    Attributes:
      lost: why nothing can be written any more; None as long as it can.
    """

    lost: OSError | None = None

    def write(self, text: str) -> int:
        """Writes a text, or drops it where that is no longer possible."""
        try:
            return super().write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Passes on what was written."""
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        first, self.lost = self.lost is None, self.lost or error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        if first and self is sys.stdout and not isinstance(error, BrokenPipeError):
            print(f'warning: {_cannot_be_written(error)}; nothing more is printed there.', file=sys.stderr)


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Within, sys.stdout and sys.stderr are as `Output` describes; for the command line, as its outermost context.

    A stream that the caller has closed is opened to nowhere, so that no file of ours gets its number, and with it
    what libraries print.
    """
    for number in (0, *_NAMES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    before = {name: getattr(sys, name) for name in _NAMES.values()}
    for number, name in _NAMES.items():
        old: Any = before[name]
        if old is not None:
            old.flush()
        binary = open(number, 'wb', closefd=False)  # noqa: SIM115  # stays open
        setattr(sys, name, Output(binary, getattr(old, 'encoding', 'utf-8'), 'backslashreplace', line_buffering=True))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def has_reader() -> bool:
    """Whether what is printed still has a reader; not so after `| head -1` has read its line."""
    return not isinstance(getattr(sys.stdout, 'lost', None), BrokenPipeError)


def check_printed() -> None:
    """Raises UserError where something printed could not be written, but not for a reader that has left."""
    sys.stdout.flush()
    lost = getattr(sys.stdout, 'lost', None)
    if lost and has_reader():
        raise UserError(f'{_cannot_be_written(lost)}.')


def _cannot_be_written(error: OSError) -> str:
    return f'standard output cannot be written: {error.strerror}'


def tolerate_warnings() -> None:
    """Has warnings printed that the user has made errors, as by PYTHONWARNINGS=error: libraries give harmless ones."""
    filters: list[Any] = [('default' if action == 'error' else action, *rest) for action, *rest in warnings.filters]
    warnings.resetwarnings()  # has them looked up anew
    warnings.filters[:] = filters  # type: ignore[index]  # it is a list
