"""Tables on the console, whose words are plain text: brackets in the name of a run or a class are no markup.

Figures are never cut. Where a window is too narrow for a table, each row becomes a block of lines, a cell a line.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from rich import table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from alexnet_jax.runtime.errors import printable

_NARROWEST = 12  # characters of a column of words, which are folded
_PADDING = 2  # characters around a column, and at the table's edges


@dataclasses.dataclass
class Table:
    """A table with columns of words before columns of figures.

    Attributes:
      title, caption: above and below; '' for none.
      left: headings of columns of words, whose cells fold where there is little room.
      right: headings of columns of figures, right-aligned.
      rows: cells and style of each row; None for a line between rows.
    """

    title: str
    caption: str
    left: Sequence[str]
    right: Sequence[str]
    rows: list[tuple[Sequence[str], str] | None] = dataclasses.field(default_factory=list)

    def add_section(self) -> None:
        """Draws a line after the rows so far."""
        self.rows.append(None)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if self._least_width() <= options.max_width:
            yield self._as_table()
        else:
            yield from self._as_blocks(options.max_width)

    def _least_width(self) -> int:
        """Characters that the table takes at least, its figures whole."""
        columns = [[heading, *cells] for heading, *cells in zip(self._headings(), *self._cells(), strict=True)]
        longest = [max(cell_len(line) for cell in column for line in cell.split('\n')) for column in columns]
        words = len(self.left)
        return sum(min(one, _NARROWEST) for one in longest[:words]) + sum(longest[words:]) + _PADDING * len(longest)

    def _headings(self) -> list[str]:
        return [printable(heading) for heading in (*self.left, *self.right)]

    def _cells(self) -> list[list[str]]:
        return [[printable(cell) for cell in row[0]] for row in self.rows if row]

    def _as_table(self) -> table.Table:
        title, caption = _plain(self.title, 'table.title'), _plain(self.caption, 'table.caption')
        made = table.Table(title=title, caption=caption, box=SIMPLE_HEAD)
        for heading in self.left:
            made.add_column(_plain(heading), overflow='fold')
        for heading in self.right:
            made.add_column(_plain(heading), justify='right', no_wrap=True)
        for row in self.rows:
            if row:
                made.add_row(*map(_plain, row[0]), style=row[1])
            else:
                made.add_section()
        return made

    def _as_blocks(self, width: int) -> Iterator[Text]:
        """The title, a block of lines for each row, and the caption."""
        yield Text('\n').append(_plain(self.title, 'table.title'))
        headings = [' '.join(heading.split()) for heading in self._headings()]
        for row in self.rows:
            if row:
                cells = [' '.join(printable(cell).split()) for cell in row[0]]
                first, *others = [pair for pair in zip(headings, cells, strict=True) if pair[1]]
                yield Text('')
                yield _line(*first, width, row[1])
                for heading, cell in others:
                    yield _line(f'  {heading}' if heading else '', cell, width, row[1])
        yield Text('\n').append(_plain(self.caption, 'table.caption')).append('\n' if self.caption else '')


def new_table(title: str, caption: str = '', left: Sequence[str] = (), right: Sequence[str] = ()) -> Table:
    """A table without rows; see `Table`."""
    return Table(title, caption, left, right)


def add_row(table: Table, *cells: str, style: str = '') -> None:
    """Adds a row of plain text."""
    table.rows.append((cells, style))


def _line(heading: str, cell: str, width: int, style: str) -> Text:
    """A heading and its cell; below each other where they are too long to be beside each other."""
    between = '' if not heading else ': ' if cell_len(f'{heading}: {cell}') <= width else ':\n    '
    return Text(f'{heading}{between}{cell}', style, overflow='fold')


def _plain(text: str, style: str = '') -> Text:
    return Text(printable(text), style)
