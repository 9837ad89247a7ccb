"""Progress of long tasks."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from alexnet_jax.runtime.errors import say
from alexnet_jax.runtime.formatting import format_bytes

_REFRESH_EVERY = 0.1  # seconds


class Display:
    """A progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, total: int, first: int, name: str = 'training', unit: str = 'steps') -> None:
        """Shows `first` of `total` units as done; `unit` is the plural."""
        self._console, self._total, self._name, self._unit = console, total, name, unit
        whole, folded = Column(no_wrap=True), Column(overflow='fold')
        count = DownloadColumn(table_column=whole) if unit == 'bytes' else MofNCompleteColumn(table_column=whole)
        columns: list[ProgressColumn] = [count, TextColumn('{task.fields[status]}', markup=False, table_column=folded)]
        wide = console.width >= 100
        if console.width >= 76:  # there is room for the figures, and for a short bar; below for the figures alone
            bar = BarColumn(bar_width=24 if wide else 4)
            columns = [bar, *columns, TimeRemainingColumn(compact=True), TextColumn('left')]
        self._bar = Progress(
            *([TextColumn('{task.description}', markup=False)] if wide else []),
            *columns,
            console=console,
            disable=not console.is_interactive,
            transient=True,
            auto_refresh=False,  # a thread of its own would wait for the interpreter's lock in a busy loop
        )
        self._task = self._bar.add_task(name, total=total, completed=first, status='')
        self._refreshed = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: int, status: str = '') -> None:
        """Moves the bar, if there is one; it is drawn ten times a second at most."""
        refresh = time.monotonic() - self._refreshed >= _REFRESH_EVERY
        self._bar.update(self._task, completed=done, status=status, refresh=refresh)
        if refresh:
            self._refreshed = time.monotonic()

    def line(self, text: str) -> None:
        """Prints a permanent line above the bar."""
        say(self._console, text)

    def plain(self, done: int, status: str) -> None:
        """Prints a line if there is no bar to show it."""
        if not self._console.is_interactive:
            amount = f'{self._unit[:-1]} {done}/{self._total}'
            if self._unit == 'bytes':
                amount = f'{format_bytes(done)} of {format_bytes(self._total)}'
            self.line(f'{self._name}: {amount}, {status}')
