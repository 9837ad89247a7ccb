"""The metrics of a run, in WORKDIR/metrics.jsonl and for TensorBoard."""

import contextlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Collection, Iterator
from typing import IO, Any

from alexnet_jax.runtime.errors import UserError, writing
from alexnet_jax.runtime.files import open_regular, sync

METRICS_LOG = 'metrics.jsonl'
_BLOCK, _LONGEST = 2**12, 2**24  # bytes read at a time, and of a line


class MetricsLog:
    """Appends to WORKDIR/metrics.jsonl, one JSON object a line, and to WORKDIR/tensorboard."""

    def __init__(self, workdir: str | pathlib.Path, first_step: int) -> None:
        """Opens both, and drops lines that an interrupted run wrote after the checkpoint it resumes from.

        Args:
          workdir: of the run.
          first_step: the step of that checkpoint.

        Raises:
          UserError: they cannot be written, or the line before the cut is damaged.
        """
        workdir = pathlib.Path(workdir)
        path = workdir / METRICS_LOG
        _cut(path, first_step)
        with writing(path):
            self._path, self._file = path, path.open('a')
            self._board = _TensorBoard(workdir / 'tensorboard', first_step)

    def write(self, step: int, epoch: float, split: str, values: dict[str, float]) -> None:
        """Writes one line.

        Args:
          step: updates made.
          epoch: passes over the training set, with fractions.
          split: 'train' or 'validation'.
          values: by name: loss, errors (0..1), learning_rate, images_per_second. One that is not finite, as the share
            of color of kernels that are all zero, is left out: JSON has no word for it.
        """
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        self._file.write(json.dumps({'step': step, 'epoch': round(epoch, 6), 'split': split, **values}) + '\n')
        self._board.write(step, {f'{split}/{name}': value for name, value in values.items()})

    def flush(self) -> None:
        """Puts all lines on disk.

        Raises:
          UserError: they cannot be written, as on a full disk.
        """
        with writing(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._board.flush()

    def close(self) -> None:
        """Flushes and closes."""
        with writing(self._path), self._file:
            self.flush()
            self._board.close()


class NoLog:
    """The log of processes that do not lead: nothing is written."""

    def write(self, step: int, epoch: float, split: str, values: dict[str, float]) -> None:
        """Writes nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def _cut(path: pathlib.Path, first_step: int) -> None:
    """Drops the lines after a step, and a last one that was cut short; what stays is neither read nor written.

    Raises:
      UserError: it cannot be read or written, or a line at the end is damaged.
    """
    try:
        with open_regular(path) as file:
            size, end = os.fstat(file.fileno()).st_size, 0
            for start, line in _from_the_end(file, size):
                if _parsed(path, line, file, start)['step'] <= first_step:
                    end = start + len(line)
                    break
        if end < size:
            os.truncate(path, end)
            sync(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be written: {_reason(error)}.') from error


def _from_the_end(file: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """Where each complete line begins, and the line; the last one comes first."""
    end = _line_before(file, size)
    while end > 0:
        start = _line_before(file, end - 1)
        file.seek(start)
        yield start, file.read(end - start)
        end = start


def _line_before(file: IO[bytes], end: int) -> int:
    """Where the line begins that the byte before `end` is in; `end` itself where that byte ends a line.

    Raises:
      ValueError: no line is as long.
    """
    longest = end - _LONGEST
    while end > 0:
        if end < longest:
            raise ValueError(f'its last line has more than {_LONGEST:,} bytes')
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b'\n')
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _parsed(path: pathlib.Path, line: bytes, file: IO[bytes], start: int) -> dict[str, Any]:
    """A line; UserError if it is damaged, which names it."""
    try:
        fields: dict[str, Any] = json.loads(line)
        _check_line(fields)
        return fields
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        file.seek(0)
        number = 1 + sum(file.read(min(_BLOCK, start - at)).count(b'\n') for at in range(0, start, _BLOCK))
        raise UserError(f'{path}, line {number} is damaged; remove that line, or the file.') from error


def _lines(path: pathlib.Path, marker: bytes = b'') -> Iterator[dict[str, Any]]:
    """The lines of metrics.jsonl that hold a marker, without a last one that was cut short; none without the file.

    Raises:
      UserError: a line is damaged, or the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            start = 0
            for line in file:
                if line.endswith(b'\n') and marker in line:
                    yield _parsed(path, line, file, start)
                start += len(line)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {_reason(error)}.') from error


def validation_errors(workdir: str | pathlib.Path, steps: Collection[int]) -> dict[int, float]:
    """Top-1 validation errors (0..1) after some steps, as far as metrics.jsonl has them.

    Raises:
      UserError: a line is damaged, or the file cannot be read.
    """
    found = validations(workdir)
    return {line['step']: line['top1_error'] for line in found if line['step'] in steps and 'top1_error' in line}


def validations(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """The lines of validations in a run's metrics.jsonl; the far more numerous others are not parsed.

    Raises:
      UserError: one is damaged, or the file cannot be read.
    """
    lines = _lines(pathlib.Path(workdir) / METRICS_LOG, b'"validation"')
    return [line for line in lines if line['split'] == 'validation']


def last_lines(workdir: str | pathlib.Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, the last one first; what is not asked for is not read.

    Raises:
      UserError: a line is damaged, or the file cannot be read.
    """
    path = pathlib.Path(workdir) / METRICS_LOG
    try:
        with open_regular(path) as file:
            for start, line in _from_the_end(file, os.fstat(file.fileno()).st_size):
                yield _parsed(path, line, file, start)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {_reason(error)}.') from error


def last_line(workdir: str | pathlib.Path) -> dict[str, Any]:
    """The last line of a run's metrics.jsonl.

    Raises:
      UserError: there is none, or it is damaged.
    """
    for line in last_lines(workdir):
        return line
    raise _nothing_in(workdir)


def last_step(workdir: str | pathlib.Path) -> int:
    """The step of the last line of a run's metrics.jsonl; 0 where it has none.

    Raises:
      UserError: that line is damaged, or the file cannot be read.
    """
    return next((line['step'] for line in last_lines(workdir)), 0)


def _reason(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _check_line(line: Any) -> None:
    """Raises ValueError, TypeError or KeyError for what is not a line of metrics.jsonl."""
    if type(line['step']) is not int or line['split'] not in ('train', 'validation'):
        raise ValueError('step and split')
    if not all(type(value) in (int, float) for name, value in line.items() if name != 'split'):
        raise TypeError('not a number')


def read_metrics(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl.

    Raises:
      UserError: there are none, or one is damaged.
    """
    lines = list(_lines(pathlib.Path(workdir) / METRICS_LOG))
    if not lines:
        raise _nothing_in(workdir)
    return lines


def _nothing_in(workdir: str | pathlib.Path) -> UserError:
    return UserError(f'{workdir} holds no metrics.jsonl with a line in it; train first, or name another run.')


class _TensorBoard:
    """TensorBoard's event files, without TensorFlow and PyTorch."""

    def __init__(self, directory: pathlib.Path, first_step: int) -> None:
        """Opens a new file in `directory`; what earlier files have of steps after `first_step` no longer counts."""
        with _without('torch'):  # tensorboardX imports it, for several seconds, and nothing here needs it
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory.mkdir(exist_ok=True)
        earlier = any(directory.iterdir())
        self._event = Event
        # The name ends in the step, as otherwise a file of the same second would be written over.
        self._writer = EventsWriter(str(directory / 'events'), f'.{first_step}')
        if earlier:  # TensorBoard then drops what earlier files have from this step on
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(wall_time=time.time(), step=first_step + 1, session_log=start))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes values by tag, as in 'train/loss', of a step."""
        event = self._event(wall_time=time.time(), step=step)
        for tag, value in values.items():
            event.summary.value.add(tag=tag, simple_value=value)
        self._writer.write_event(event)

    def flush(self) -> None:
        """Puts all that was written into the file."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes."""
        self._writer.close()


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Blocks the import of a module that has not been imported yet, for libraries that can do without it."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to block an import
    try:
        yield
    finally:
        del sys.modules[module]
