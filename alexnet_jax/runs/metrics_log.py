"""What a run says while it runs: metrics.jsonl, TensorBoard, and lines for a person."""

import collections
import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from jax import Array

from alexnet_jax.runs.tensorboard import TensorBoard
from alexnet_jax.runtime.errors import UserError, writing
from alexnet_jax.runtime.files import read_file, write_bytes
from alexnet_jax.runtime.progress_bar import Display


class MetricsLog:
    """Appends to WORKDIR/metrics.jsonl, one JSON object a line, and to WORKDIR/tensorboard."""

    def __init__(self, workdir: str | pathlib.Path, first_step: int) -> None:
        """Opens both, and drops what an interrupted run wrote after the checkpoint it continues from.

        Args:
          workdir: of the run.
          first_step: the step of that checkpoint; lines of later steps are dropped.
        """
        workdir = pathlib.Path(workdir)
        path = workdir / 'metrics.jsonl'
        kept = [line for line in _lines(path) if line['step'] <= first_step]
        write_bytes(path, ''.join(json.dumps(line) + '\n' for line in kept).encode())
        with writing(path):
            self._path, self._file = path, path.open('a')
            self._board = TensorBoard(workdir / 'tensorboard', first_step)

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
          UserError: the system does not let it, as where the disk is full.
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
    """What the processes write that do not lead: nothing."""

    def write(self, step: int, epoch: float, split: str, values: dict[str, float]) -> None:
        """Writes nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last one that an interrupted write left without an end is no line.

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
    """Raises ValueError, TypeError or KeyError for what is no line of metrics.jsonl."""
    if type(line['step']) is not int or line['split'] not in ('train', 'validation'):
        raise ValueError('step and split')
    if not all(type(value) in (int, float) for name, value in line.items() if name != 'split'):
        raise TypeError('what is no number')


def read_metrics(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl.

    Raises:
      UserError: there are none, or one is damaged.
    """
    lines = _lines(pathlib.Path(workdir) / 'metrics.jsonl')
    if not lines:
        raise UserError(f'{workdir} holds no metrics.jsonl with a line in it; train first, or name another run.')
    return lines


class NotFiniteLossError(Exception):
    """The loss of a step is infinite or no number."""

    def __init__(self, step: int, loss: float, learning_rate: float) -> None:
        super().__init__(f'the loss is {loss} at step {step}, at the learning rate {learning_rate:g}')


class Window:
    """Means over the steps since the last line of the log, fetched from the device two steps late.

    So the host never waits for the step it has just sent off, and never runs further ahead than two.
    """

    def __init__(self, batch_size: int, sums: dict[str, float] | None = None) -> None:
        """Opens a window for steps of `batch_size` examples; `sums` is what `state` gave before an interruption."""
        self._batch_size = batch_size
        self._pending: collections.deque[tuple[int, float, dict[str, Array]]] = collections.deque()
        self._sums: dict[str, float] = dict(sums or {})
        self._last: dict[str, float] = {}
        self.restart()

    def restart(self) -> None:
        """Begins to measure time anew, after something that is not training."""
        self._start, self._timed, self._waited = time.perf_counter(), 0, 0.0

    def add(self, step: int, learning_rate: float, metrics: dict[str, Array]) -> None:
        """Takes the metrics of a step, which may not have been computed yet.

        Raises:
          NotFiniteLossError: the loss of an earlier step is not finite.
        """
        self._pending.append((step, learning_rate, metrics))
        while len(self._pending) > 2:
            self._fetch()

    def state(self) -> dict[str, float]:
        """Sums so far, of all steps that were added: what a window that goes on after an interruption begins with."""
        while self._pending:
            self._fetch()
        return dict(self._sums)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Measures what is done within as time spent waiting for images."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def waiting_share(self) -> str:
        """For a person: what part of the window's time was spent waiting for images."""
        return f'{self._waited / (time.perf_counter() - self._start):.0%} waiting'

    def _fetch(self) -> None:
        step, rate, metrics = self._pending.popleft()
        self._last = {name: float(value) for name, value in metrics.items()}
        if not math.isfinite(self._last['loss']):
            raise NotFiniteLossError(step, self._last['loss'], rate)
        for name, value in ({'steps': 1} | self._last).items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._timed += 1

    def _images_per_second(self) -> float:
        return self._timed * self._batch_size / (time.perf_counter() - self._start)

    def status(self, learning_rate: float) -> str:
        """For the progress bar: loss, rate, speed."""
        loss = f'loss {self._last["loss"]:.3f}, ' if self._last else ''
        return f'{loss}rate {learning_rate:g}, {self._images_per_second():.0f} images/s, {self.waiting_share()}'

    def close(self) -> dict[str, float]:
        """Means over the window, which then begins anew."""
        sums = self.state()
        steps = sums.pop('steps')
        means = {name: value / steps for name, value in sums.items()}
        means['images_per_second'] = round(self._images_per_second(), 1)
        self._sums = {}
        self.restart()
        return means


def describe(values: dict[str, float]) -> str:
    """Metrics as a person reads them: errors in percent."""
    words = []
    for name, value in values.items():
        if name.endswith('_error'):
            words.append(f'{name.removesuffix("_error").replace("top", "top-")} error {value:.2%}')
        elif name == 'images_per_second':
            words.append(f'{value:.0f} images/s')
        else:
            words.append(f'{name.replace("_", " ")} {value:.4g}')
    return ', '.join(words)


class Reporter:
    """What the training loop tells, and to whom: the log, the bar, the lines on the screen."""

    def __init__(
        self, log: MetricsLog | NoLog, display: Display, batch_size: int, examples: int, window: dict[str, float]
    ) -> None:
        """Reports steps of `batch_size` examples, `examples` of which are an epoch; `window` is as in `Progress`."""
        self._log, self._display = log, display
        self._start, self._held_up, self._saving_since = time.perf_counter(), 0.0, 0.0
        self._window, self._steps_an_epoch = Window(batch_size, window), examples / batch_size

    def waiting(self) -> contextlib.AbstractContextManager[None]:
        """Measures the wait for a batch."""
        return self._window.waiting()

    def stepped(self, step: int, metrics: dict[str, Array], learning_rate: float) -> None:
        """A step was sent to the devices; its metrics may not have been computed yet."""
        self._window.add(step, learning_rate, metrics)
        self._display.update(step, self._window.status(learning_rate))

    def training(self, step: int, learning_rate: float) -> None:
        """A line on the steps since the last one."""
        share = self._window.waiting_share()
        values = self._window.close() | {'learning_rate': learning_rate}
        self._log.write(step, step / self._steps_an_epoch, 'train', values)
        self._display.plain(step, f'{describe(values)}, {share} for images')

    def validating(self, step: int) -> None:
        """A validation begins."""
        self._display.update(step, 'validating')

    def validated(
        self, step: int, epoch: int, errors: dict[str, float], colors: list[float], old_rate: float, new_rate: float
    ) -> None:
        """A validation is done: the errors, the columns' share of color, what it did to the learning rate."""
        by_column = {f'color_column{number}': share for number, share in enumerate(colors, 1)}
        self._log.write(step, step / self._steps_an_epoch, 'validation', errors | by_column)
        self._display.line(f'epoch {epoch}, validation: {describe(errors)}')
        if new_rate != old_rate:
            self._display.line(f'epoch {epoch}: learning rate {old_rate:g} -> {new_rate:g}')

    def saving(self) -> dict[str, float]:
        """A checkpoint is about to be saved: what was reported before is on disk first.

        Returns:
          The sums since the last line, for the checkpoint to keep.
        """
        self._log.flush()
        state = self._window.state()
        self._saving_since = time.perf_counter()
        return state

    def saved(self) -> None:
        """Training goes on; the time since its last line does not count as training."""
        self._held_up += time.perf_counter() - self._saving_since
        self._window.restart()

    def held_up(self) -> str:
        """For a person: for which part of the time since the start training stood still for checkpoints."""
        return f'{self._held_up / (time.perf_counter() - self._start):.1%}'
