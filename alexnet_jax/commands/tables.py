"""Tables on the console, whose words are plain text: brackets in the name of a run or a class are no markup."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from alexnet_jax.runtime.errors import printable


def new_table(title: str, caption: str = '', left: Sequence[str] = (), right: Sequence[str] = ()) -> Table:
    """A table with left-aligned columns, whose cells fold rather than lose words, before right-aligned ones."""
    table = Table(title=_plain(title, 'table.title'), caption=_plain(caption, 'table.caption'), box=SIMPLE_HEAD)
    for column in left:
        table.add_column(_plain(column), overflow='fold')
    for column in right:
        table.add_column(_plain(column), justify='right', overflow='fold')
    return table


def add_row(table: Table, *cells: str, style: str = '') -> None:
    """Adds a row of plain text."""
    table.add_row(*map(_plain, cells), style=style)


def _plain(text: str, style: str = '') -> Text:
    return Text(printable(text), style)
