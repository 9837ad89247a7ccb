"""The metrics of a run, in WORKDIR/metrics.jsonl and for TensorBoard."""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from alexnet_jax.runtime.errors import UserError, writing
from alexnet_jax.runtime.files import read_file, write_bytes


class MetricsLog:
    """Appends to WORKDIR/metrics.jsonl, one JSON object a line, and to WORKDIR/tensorboard."""

    def __init__(self, workdir: str | pathlib.Path, first_step: int) -> None:
        """Opens both, and drops lines that an interrupted run wrote after the checkpoint it resumes from.

        Args:
          workdir: of the run.
          first_step: the step of that checkpoint.
        """
        workdir = pathlib.Path(workdir)
        path = workdir / 'metrics.jsonl'
        kept = [line for line in _lines(path) if line['step'] <= first_step]
        write_bytes(path, ''.join(json.dumps(line) + '\n' for line in kept).encode())
        with writing(path):
            self._path, self._file = path, path.open('a')
            self._board = _TensorBoard(workdir / 'tensorboard', first_step)

    def write(self, step: int, epoch: float, split: str, values: dict[str, float]) -> None:
        """Writes one line.

        Args:
          step: updates made.
          epoch: passes over the training set, with fractions.
          split: 'train' or 'validation'.
          values: by name: loss, errors (0..1), learning_rate, images_per_second.
        """
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


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without a last one that was cut short.

    Raises:
      UserError: a line is damaged.
    """
    if not path.exists():
        return []
    try:
        content = read_file(path)
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {error}.') from error
    lines = []
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.endswith(b'\n'):
            break
        try:
            lines.append(json.loads(line))
            _check_line(lines[-1])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(f'{path}, line {number} is damaged; remove that line, or the file.') from error
    return lines


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
    lines = _lines(pathlib.Path(workdir) / 'metrics.jsonl')
    if not lines:
        raise UserError(f'{workdir} holds no metrics.jsonl with a line in it; train first, or name another run.')
    return lines


class _TensorBoard:
    """TensorBoard's event files, without TensorFlow and PyTorch."""

    def __init__(self, directory: pathlib.Path, first_step: int) -> None:
        """Opens a new file in `directory`; what earlier files have of steps after `first_step` no longer counts."""
        with _without('torch'):  # tensorboardX imports it, for several seconds, and nothing here needs it
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory.mkdir(exist_ok=True)
        self._event = Event
        # The name ends in the step, as otherwise a file of the same second would be written over.
        self._writer = EventsWriter(str(directory / 'events'), f'.{first_step}')
        if first_step:  # TensorBoard then drops what earlier files have from this step on
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
