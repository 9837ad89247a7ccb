"""Errors that end the program by design: a user's mistake, and a stop that was asked for."""

import contextlib
import os
import pathlib
import re
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_MAX_LENGTH = 3000  # characters of a message, as names in it may be of any length


class UserError(Exception):
    """A problem that the user can solve; the message says what was wrong, where, and what to do.

    `exit_codes` prints it without a traceback and exits with code 2. Every other exception is a defect of this software
    and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        if len(message) > _MAX_LENGTH:
            message = f'{message[: _MAX_LENGTH // 2]} ... {message[-_MAX_LENGTH // 2 :]}'
        super().__init__(printable(message))


class StoppedError(Exception):
    """A run stopped early on a signal and saved its state."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number  # exit code by convention


@contextlib.contextmanager
def writing(path: str | pathlib.Path) -> Iterator[None]:
    """Turns an OSError from writing a file, such as a full disk, into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f'{path} cannot be written: {error.strerror or error}.') from error


def plain_message(error: BaseException) -> str | None:
    """What to tell the user of an error that is no defect of this software: of their own, the system's, or memory.

    None for any other, which keeps its traceback.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return 'the memory of this machine is used up; free some, and give the same command again.'
    if isinstance(error, OSError):
        names = ' -> '.join(
            os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)
        )
        what = (
            f'{names}: {error.strerror}' if names and error.strerror else printable(str(error)) or type(error).__name__
        )
        return f'the system refused a read or a write: {what}. Put that right, and give the same command again.'
    return None


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Ends the process with a message, without a traceback, and an exit code, where `plain_message` has one."""
    try:
        yield
    except (UserError, OSError, MemoryError) as error:
        print(f'error: {plain_message(error)}', file=sys.stderr)
        sys.exit(2)
    except StoppedError as stopped:
        sys.exit(stopped.code)
    except KeyboardInterrupt:
        print('interrupted; run the same command again to continue', file=sys.stderr)
        sys.exit(130)


def printable(text: str) -> str:
    """A text that is safe to print: control characters are escaped too, other than the end of a line."""
    return re.sub(r'[\x00-\x09\x0b-\x1f\x7f-\x9f]', lambda found: ascii(found[0])[1:-1], shown(text))


def shown(name: str) -> str:
    r"""A name as it is printed, stored and written as JSON: bytes that are not UTF-8 become `\xff` and the like.

    In Python's strings they are lone surrogates, which no encoding has.
    """

    def escaped(found: re.Match[str]) -> str:
        byte = ord(found[0]) - 0xDC00
        return rf'\x{byte:02x}' if 0x80 <= byte <= 0xFF else ascii(found[0])[1:-1]

    return re.sub(r'[\ud800-\udfff]', escaped, name)


def say(console: 'Console', line: str) -> None:
    """Prints a line as it is, without wrapping, markup or highlighting."""
    console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
