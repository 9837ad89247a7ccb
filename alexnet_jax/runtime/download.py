"""Files over HTTP: resumed after interruptions, checked, and under their final name only when they are whole."""

import errno
import hashlib
import os
import pathlib
import re
import shutil
import stat
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.runtime.files import locked
from alexnet_jax.runtime.formatting import format_bytes
from alexnet_jax.runtime.progress_bar import Display

if TYPE_CHECKING:
    import requests

_TIMEOUTS = (15.0, 60.0)  # seconds, to connect and for more bytes
_TRIES, _FIRST_TRIES = 5, 2  # without a further byte; where the address has not answered yet
_WAIT = 1.0  # seconds after the first of them; twice as long after each further one
_CHUNK = 1 << 16  # bytes, which is what a cut may lose


class WebFile(NamedTuple):
    """A file as it is published."""

    name: str
    size: int  # bytes
    checksum: str  # hexadecimal: SHA-256 of 64 digits or MD5 of 32

    @property
    def algorithm(self) -> str:
        """Of the checksum, as hashlib and the tools of operating systems call it."""
        return 'sha256' if len(self.checksum) == 64 else 'md5'

    def __str__(self) -> str:
        return f'{self.name} ({format_bytes(self.size)}, {self.algorithm} {self.checksum})'


class _RefusedError(Exception):
    """An address does not give the file; `final` where asking again would not help."""

    def __init__(self, reason: str, final: bool = True, answered: bool = True) -> None:
        super().__init__(reason)
        self.final, self.answered = final, answered


def download(file: WebFile, addresses: Sequence[str], directory: pathlib.Path, console: Console) -> pathlib.Path:
    """Downloads a file into a directory; one of that name that is there already is left as it is.

    Until it is whole and its checksum is right it is called NAME.partial, which the next call resumes. As the checksum
    decides, its bytes may come from several addresses, whatever their servers say of versions.

    Args:
      file: what is wanted.
      addresses: URLs of it, tried in order; http or https. Proxies are taken from the environment.
      directory: where to put it; made if missing.
      console: for size, disk space and progress.

    Returns:
      Its path.

    Raises:
      UserError: no address gives the file, its bytes are not the published ones, the disk is too small or cannot be
        written, or another process is downloading it.
    """
    path = directory / file.name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = directory / f'{file.name}.lock'
        with locked(lock, lambda holder: f'{path} is being downloaded by {holder}; wait for it.', remove=True):
            if not path.exists():
                _Download(file, directory / f'{file.name}.partial', console).from_any(addresses).rename(path)
    except OSError as error:
        raise UserError(
            f'{path} cannot be downloaded: {error.strerror or error}. If the disk is full, free some, or name another '
            'config.data.source_directory. The same command resumes.'
        ) from error
    return path


class _Download:
    """A file on its way."""

    def __init__(self, file: WebFile, partial: pathlib.Path, console: Console) -> None:
        self._file, self._partial, self._console = file, partial, console
        self._from_start = False  # whether to ask for the whole file, though there is a part

    def from_any(self, addresses: Sequence[str]) -> pathlib.Path:
        """Downloads and checks the file; returns where it is, or raises UserError with what each address has said."""
        self._check_disk()
        reasons = []
        for address in addresses:
            resumed, self._from_start = self._done() > 0, False
            try:
                self._complete(address)
                if resumed and not self._is_right():  # the part that was there may have been another file's
                    say(self._console, f'{self._file.name} is damaged; it is downloaded from the beginning.')
                    self._partial.unlink()
                    self._complete(address)
                if self._is_right():
                    return self._partial
                self._partial.unlink()
                raise _RefusedError(f'gives another file, whose {self._file.algorithm} sum is not the published one')
            except _RefusedError as refused:
                reasons.append(f'{address} {refused}')
        kept = f' What has arrived is in {self._partial}; the same command resumes.' if self._done() else ''
        raise UserError(
            f'{self._file.name} cannot be downloaded: {"; ".join(reasons)}.{kept}\nWithout a network here: get '
            f'{self._file} elsewhere, and put it, unchanged, into {self._partial.parent}. Another server that has it: '
            '--config.data.download_from=https://...'
        )

    def _check_disk(self) -> None:
        """Prints how much is to come; UserError if there is no room for it."""
        file, directory, done = self._file, self._partial.parent, self._done()
        free = shutil.disk_usage(directory).free
        so_far = f'{format_bytes(done)} are there, ' if done else ''
        line = f'downloading {file.name}, {format_bytes(file.size)}, into {directory}; {so_far}{format_bytes(free)} are'
        say(self._console, f'{line} free')
        if file.size - done > free:
            raise UserError(
                f'{directory} has {format_bytes(free)} free, and {file.name} needs {format_bytes(file.size - done)}; '
                'free some, or name a config.data.source_directory on another disk.'
            )

    def _complete(self, address: str) -> None:
        """Downloads what is missing, going on after cuts; raises _RefusedError, or OSError of the disk."""
        import requests

        tries, most, answered = 0, self._done(), False
        with (
            requests.Session() as session,
            Display(self._console, self._file.size, most, name=self._file.name, unit='bytes') as display,
        ):
            while self._done() < self._file.size:
                try:
                    self._append(session, address, display)
                except _RefusedError as refused:
                    tries = 1 if self._done() > most else tries + 1
                    most, answered = max(most, self._done()), answered or refused.answered
                    if refused.final or tries >= (_TRIES if answered else _FIRST_TRIES):
                        raise
                    display.line(f'{address} {refused}; trying again')
                    time.sleep(_WAIT * 2 ** (tries - 1))

    def _append(self, session: 'requests.Session', address: str, display: Display) -> None:
        """Appends what one response gives; raises _RefusedError unless the file then has its size."""
        import urllib3

        with _response(session, address, self._asked_from()) as response:
            done = self._begin(response)
            with self._partial.open('ab') as written:
                written.truncate(done)
                tenth, start, first = 10 * done // self._file.size, time.monotonic(), done
                try:
                    for chunk in response.raw.stream(_CHUNK, decode_content=False):
                        done += written.write(chunk[: self._file.size + 1 - done])
                        rate = f'{format_bytes((done - first) / max(1e-3, time.monotonic() - start))}/s'
                        display.update(done, rate)
                        if 10 * done // self._file.size > tenth:
                            tenth = 10 * done // self._file.size
                            display.plain(done, rate)
                        if done > self._file.size:
                            break
                except urllib3.exceptions.HTTPError as error:
                    ended = 'sends no more' if isinstance(error, urllib3.exceptions.TimeoutError) else 'was cut off'
                    raise _RefusedError(f'{ended} after {done:,} of {self._file.size:,} bytes', final=False) from error
                finally:
                    written.flush()
                    os.fsync(written.fileno())
        if done < self._file.size:
            raise _RefusedError(f'ended after {done:,} of {self._file.size:,} bytes', final=False)

    def _begin(self, response: 'requests.Response') -> int:
        """The position in the file at which a response begins; raises _RefusedError if it does not have the file."""
        done, size, status = self._asked_from(), self._file.size, response.status_code
        given = re.fullmatch(r'bytes (\d+)-\d+/(\d+|\*)', response.headers.get('Content-Range', ''))
        fits = given and int(given[1]) == done and given[2] in ('*', str(size))
        if status == 416 or (status == 206 and not fits):
            again, self._from_start = not self._from_start, True  # what is there stays until the whole file comes
            raise _RefusedError('cannot resume', final=not again)
        if status not in (200, 206):
            again = status in (408, 425, 429) or status >= 500
            raise _RefusedError(f'answers {status} {response.reason or ""}'.rstrip(), final=not again)
        length = response.headers.get('Content-Length', '')
        if response.headers.get('Content-Type', '').startswith('text/html'):
            raise _RefusedError('gives a web page, as networks do that ask for a login')
        if status == 200 and length.isdecimal() and int(length) != size:
            raise _RefusedError(f'gives {int(length):,} bytes, where the file has {size:,}')
        self._from_start = False
        return done if status == 206 else 0

    def _asked_from(self) -> int:
        return 0 if self._from_start else self._done()

    def _done(self) -> int:
        """How many bytes are there; OSError if there is something else than a file."""
        try:
            status = self._partial.lstat()
        except FileNotFoundError:
            return 0
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f'{self._partial} is not a regular file')
        return status.st_size

    def _is_right(self) -> bool:
        """Whether what is there has the published checksum."""
        with self._partial.open('rb') as file:
            return hashlib.file_digest(file, self._file.algorithm).hexdigest() == self._file.checksum


def _response(session: 'requests.Session', address: str, done: int) -> 'requests.Response':
    """Asks for what follows the first `done` bytes of an address; raises _RefusedError if there is no answer."""
    import requests

    headers = {'Accept-Encoding': 'identity', **({'Range': f'bytes={done}-'} if done else {})}
    try:
        return session.get(address, headers=headers, stream=True, timeout=_TIMEOUTS)
    except requests.exceptions.SSLError as error:
        raise _RefusedError(f'has no valid certificate ({_reason(error)})') from error
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise _RefusedError(f'cannot be reached ({_reason(error)})', final=False, answered=False) from error
    except (OSError, ValueError) as error:  # redirects without end, URLs and settings of proxies that make no sense
        raise _RefusedError(f'cannot be used ({_reason(error)})') from error


def _reason(error: BaseException) -> str:
    """The innermost of an error's reasons, on one line."""
    inner = getattr(error, 'reason', None) or (error.args[0] if error.args else None)
    if isinstance(inner, BaseException):
        return _reason(inner)
    return ' '.join(str(error).split())[:300] or type(error).__name__
