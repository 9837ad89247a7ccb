"""Metrics of training steps, averaged over a window, without waiting for the device."""

import collections
import contextlib
import math
import time
from collections.abc import Iterator

from jax import Array


class NotFiniteLossError(Exception):
    """The loss of a step is infinite or NaN."""

    def __init__(self, step: int, loss: float, learning_rate: float) -> None:
        super().__init__(f'the loss is {loss} at step {step}, at the learning rate {learning_rate:g}')


class Window:
    """Mean metrics of the steps since the last line of the log, fetched from the device two steps late.

    So the host never waits for the step that it has just dispatched, and never runs more than two steps ahead.
    """

    def __init__(self, batch_size: int, sums: dict[str, float] | None = None) -> None:
        """Starts a window for steps of `batch_size` images; `sums` is `state` of an interrupted one."""
        self._batch_size = batch_size
        self._pending: collections.deque[tuple[int, float, dict[str, Array]]] = collections.deque()
        self._sums: dict[str, float] = dict(sums or {})
        self._interval = {name: self._sums.pop(f'interval_{name}', 0.0) for name in ('steps', 'top1_error')}
        self._last: dict[str, float] = {}
        self._speed = 0.0  # of the window before
        self.restart()

    def restart(self) -> None:
        """Restarts the clock, after something that is not training."""
        self._start, self._timed, self._waited = time.perf_counter(), 0, 0.0

    def add(self, step: int, learning_rate: float, metrics: dict[str, Array]) -> None:
        """Adds the metrics of a step, which may not have been computed yet.

        Raises:
          NotFiniteLossError: the loss of an earlier step is not finite.
        """
        self._pending.append((step, learning_rate, metrics))
        while len(self._pending) > 2:
            self._fetch()

    def state(self) -> dict[str, float]:
        """Sums over all steps so far, from which a resumed window starts."""
        while self._pending:
            self._fetch()
        return self._sums | {
            f'interval_{name}': value for name, value in self._interval.items() if self._interval['steps']
        }

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time spent within as waiting for images."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def waiting_share(self) -> str:
        """The share of the window's time spent waiting for images, for the user."""
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
        """Loss, learning rate and speed, for the progress bar; before the first step has ended, the last window's."""
        loss = f'loss {self._last["loss"]:.3f}, ' if self._last else ''
        speed = self._images_per_second() if self._timed else self._speed
        return f'{loss}rate {learning_rate:g}, {speed:.0f} images/s, {self.waiting_share()}'

    def close(self) -> dict[str, float]:
        """Means over the window, which then restarts."""
        self.state()
        sums = dict(self._sums)
        for name in self._interval:
            self._interval[name] += sums[name]
        steps = sums.pop('steps')
        means = {name: value / steps for name, value in sums.items()}
        self._speed = self._images_per_second()
        means['images_per_second'] = round(self._speed, 1)
        self._sums = {}
        self.restart()
        return means

    def interval_error(self) -> float:
        """Mean top-1 error, 0..1, of all windows that were closed since the last call."""
        error = self._interval['top1_error'] / self._interval['steps']
        self._interval = dict.fromkeys(self._interval, 0.0)
        return error
