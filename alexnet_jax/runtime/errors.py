"""The errors that end the program by design, a mistake of the user's and a stop that was asked for; what is printed."""

import contextlib
import pathlib
import re
import signal
import sys
from collections.abc import Iterator

from rich.console import Console

_LONGEST = 3000  # characters of a message; a name in it may be of any length


class UserError(Exception):
    """Something that the user can put right; the message says what was wrong, where, and what to do.

    `ending_plainly` prints the message without a traceback and exits with code 2. Anything else that is raised is a
    defect of this software and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        message = message if len(message) <= _LONGEST else f'{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}'
        super().__init__(shown(message))


class StoppedError(Exception):
    """A run stopped early and saved its state, as a signal asked.

    Attributes:
      code: the exit code by convention, 128 and the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextlib.contextmanager
def writing(path: str | pathlib.Path) -> Iterator[None]:
    """Turns what the system has against writing a file, such as a full disk, into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f'{path} cannot be written: {error.strerror or error}.') from error


@contextlib.contextmanager
def ending_plainly() -> Iterator[None]:
    """Ends the process as a program's user expects: a message without a traceback, and an exit code that tells why."""
    try:
        yield
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except StoppedError as stopped:
        sys.exit(stopped.code)
    except KeyboardInterrupt:
        print('interrupted; the same command carries on from the newest checkpoint', file=sys.stderr)
        sys.exit(130)


def shown(text: str) -> str:
    """A text that is safe to print: control characters and what is no text, as file names may hold, are spelled out."""
    return re.sub(r'[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]', lambda found: ascii(found[0])[1:-1], text)


def say(console: Console, line: str) -> None:
    """Prints a line as it is: a path in it stays whole, and brackets in it are no markup."""
    console.print(shown(line), highlight=False, markup=False, soft_wrap=True)
