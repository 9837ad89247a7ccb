"""Reports of training, to metrics.jsonl, TensorBoard, the progress bar and the console."""

import contextlib
import math
import time

from jax import Array

from alexnet_jax.runs.metrics_log import MetricsLog, NoLog
from alexnet_jax.runtime.progress_bar import Display
from alexnet_jax.training.metrics_window import Window


def describe(values: dict[str, float], classes: int | None = None) -> str:
    """Metrics for the user: errors in percent, without a top-5 error where five guesses cannot miss."""
    words = []
    for name, value in values.items():
        if name == 'top5_error' and classes is not None and classes <= 5:
            continue
        if name.endswith('_error'):
            words.append(f'{name.removesuffix("_error").replace("top", "top-")} error {value:.2%}')
        elif name == 'images_per_second':
            words.append(f'{value:.0f} images/s')
        else:
            words.append(f'{name.replace("_", " ")} {value:.4g}')
    return ', '.join(words)


class Reporter:
    """Reports of the training loop to the log, the progress bar and the console."""

    def __init__(
        self,
        log: MetricsLog | NoLog,
        display: Display,
        batch_size: int,
        examples: int,
        window: dict[str, float],
        classes: int | None = None,
    ) -> None:
        """Reports steps of `batch_size` images, `examples` of which are an epoch; `window` is as in `Progress`."""
        self._log, self._display, self._classes = log, display, classes
        self._start, self._saving, self._saving_since = time.perf_counter(), 0.0, 0.0
        self._window, self._steps_an_epoch = Window(batch_size, window), examples / batch_size

    def waiting(self) -> contextlib.AbstractContextManager[None]:
        """Counts the time within as waiting for a batch."""
        return self._window.waiting()

    def stepped(self, step: int, metrics: dict[str, Array], learning_rate: float) -> None:
        """A step was dispatched; its metrics may not have been computed yet."""
        self._window.add(step, learning_rate, metrics)
        self._display.update(step, self._window.status(learning_rate))

    def training(self, step: int, learning_rate: float) -> None:
        """Reports the steps since the last report."""
        share = self._window.waiting_share()
        values = self._window.close() | {'learning_rate': learning_rate}
        self._log.write(step, step / self._steps_an_epoch, 'train', values)
        self._display.plain(step, f'{describe(values, self._classes)}, {share} for images')

    def interval_error(self) -> float:
        """Mean training error, 0..1, of all reports since the last call."""
        return self._window.interval_error()

    def validating(self, step: int) -> None:
        """A validation begins."""
        self._display.update(step, 'validating')

    def validated(
        self, step: int, epoch: int, errors: dict[str, float], colors: list[float], old_rate: float, new_rate: float
    ) -> None:
        """A validation is done: errors, the columns' shares of color, and the learning rate's change.

        A share that is NaN, as of kernels that are all zero, is left out: JSON has no word for it.
        """
        shares = enumerate(colors, 1)
        by_column = {f'color_column{number}': share for number, share in shares if math.isfinite(share)}
        self._log.write(step, step / self._steps_an_epoch, 'validation', errors | by_column)
        self._display.line(f'epoch {epoch}, validation: {describe(errors, self._classes)}')
        if new_rate != old_rate:
            self._display.line(f'epoch {epoch}: learning rate {old_rate:g} -> {new_rate:g}')

    def saving(self) -> dict[str, float]:
        """A checkpoint is about to be saved: earlier reports reach the disk first.

        Returns:
          The sums since the last line, for the checkpoint to keep.
        """
        self._log.flush()
        state = self._window.state()
        self._saving_since = time.perf_counter()
        return state

    def saved(self) -> None:
        """Training goes on; the time of the save does not count."""
        self._saving += time.perf_counter() - self._saving_since
        self._window.restart()

    def checkpoint_share(self) -> str:
        """The share of the time so far in which checkpoints blocked training, for the user."""
        return f'{self._saving / (time.perf_counter() - self._start):.1%}'
