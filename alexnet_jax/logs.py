"""What a run says while it runs: metrics.jsonl, TensorBoard, and a progress bar or plain lines."""

import json
import os
import pathlib
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from alexnet_jax.errors import UserError


class MetricsLog:
    """Appends to WORKDIR/metrics.jsonl, one JSON object a line, and to WORKDIR/tensorboard."""

    def __init__(self, workdir: str | pathlib.Path, first_step: int) -> None:
        """Opens both, and drops what an interrupted run wrote after the checkpoint it continues from.

        Args:
          workdir: of the run.
          first_step: the step of that checkpoint; lines of later steps are dropped.
        """
        from tensorboardX import SummaryWriter

        workdir = pathlib.Path(workdir)
        path = workdir / 'metrics.jsonl'
        kept = [line for line in _complete_lines(path) if json.loads(line)['step'] <= first_step]
        replacement = path.with_suffix('.jsonl.new')
        replacement.write_text(''.join(kept))
        replacement.replace(path)
        self._file = path.open('a')
        self._board = SummaryWriter(str(workdir / 'tensorboard'), purge_step=first_step + 1 if first_step else None)

    def write(self, step: int, epoch: float, split: str, values: dict[str, float]) -> None:
        """Writes one line.

        Args:
          step: updates made.
          epoch: passes over the training set, with fractions.
          split: 'train' or 'validation'.
          values: by name: loss, errors (0..1), learning_rate, images_per_second.
        """
        self._file.write(json.dumps({'step': step, 'epoch': round(epoch, 6), 'split': split, **values}) + '\n')
        for name, value in values.items():
            self._board.add_scalar(f'{split}/{name}', value, step)

    def flush(self) -> None:
        """Puts all lines on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._board.flush()

    def close(self) -> None:
        """Flushes and closes."""
        self.flush()
        self._file.close()
        self._board.close()


def _complete_lines(path: pathlib.Path) -> list[str]:
    """The lines of a file that end in a newline: an interrupted write may leave a last one that does not."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith('\n')]


def read_metrics(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl.

    Raises:
      UserError: there are none.
    """
    lines = _complete_lines(pathlib.Path(workdir) / 'metrics.jsonl')
    if not lines:
        raise UserError(f'{workdir} holds no metrics.jsonl with a line in it; train first, or name another --workdir.')
    return [json.loads(line) for line in lines]


class Display:
    """A progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, total: int, first: int, name: str = 'training', unit: str = 'steps') -> None:
        """Shows `first` of `total`, in `unit`, as done."""
        self._console, self._total, self._name, self._unit = console, total, name, unit
        self._bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.fields[status]}'),
            TimeElapsedColumn(),
            TextColumn('left'),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=total, completed=first, status='')

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: int, status: str = '') -> None:
        """Moves the bar; elsewhere than on a terminal nothing is shown."""
        self._bar.update(self._task, completed=done, status=status)

    def line(self, text: str) -> None:
        """Prints a line that stays, above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def plain(self, done: int, status: str) -> None:
        """Prints a line where there is no bar to show it."""
        if not self._console.is_terminal:
            self.line(f'{self._name}: {self._unit[:-1]} {done}/{self._total}, {status}')
