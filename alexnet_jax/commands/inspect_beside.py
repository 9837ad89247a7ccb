"""The networks of two configs in one table, line by line: `--mode=inspect --beside=FILE`."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alexnet_jax.commands.inspect import Line, network_lines
from alexnet_jax.config import Config
from alexnet_jax.model.alexnet import classes_of
from alexnet_jax.runtime.errors import UserError, printable

Pair = tuple[Line | None, Line | None]
_DIFFERENT = '*'


def inspect_beside(one: Config, other: Config, console: Console) -> None:
    """Prints the layers of two networks beside each other, their parameters and multiply-adds, and the ratios.

    Raises:
      UserError: a config does not make sense.
    """
    first = _lines(one)
    try:
        second = _lines(other)
    except UserError as error:
        raise UserError(f'--beside: {error}') from error
    console.print(_table(one.name, other.name, list(pairs(first, second))))


def _lines(config: Config) -> list[Line]:
    table = config.network
    classes_of(table)
    return network_lines(config, table)


def pairs(first: Sequence[Line], second: Sequence[Line]) -> Iterator[Pair]:
    """Lines of the same name together, in the order of the first; those of the second alone follow the line before.

    Args:
      first, second: networks, as `inspection.lines` gives them.

    Yields:
      A line of each, None where that network has none of the name.
    """
    here, there = {line.name for line in first}, {line.name: line for line in second}
    alone: dict[str, list[Line]] = {}
    before = ''
    for line in second:
        if line.name in here:
            before = line.name
        else:
            alone.setdefault(before, []).append(line)
    yield from ((None, line) for line in alone.get('', []))
    for line in first:
        yield line, there.get(line.name)
        yield from ((None, other) for other in alone.get(line.name, []))


def _table(one: str, other: str, found: Sequence[Pair]) -> Table:
    table = Table(
        title=Text(printable(f'{one} and {other}'), 'table.title'),
        caption=f'{_DIFFERENT} marks lines that are not the same in both. Ratio: the second to the first.',
        box=SIMPLE_HEAD,
    )
    table.add_column('layer', overflow='fold')
    table.add_column('')
    for what in ('output', 'parameters', 'multiply-adds'):
        for name in (one, other):
            table.add_column(Text(printable(f'{what}\n{name}')), justify='right', overflow='fold')
    totals = [[0, 0], [0, 0]]  # parameters, multiply-adds; of each network
    for pair in found:
        cells = ['x'.join(map(str, line.output)) if line else '' for line in pair]
        for field, total in zip(('parameters', 'multiply_adds'), totals, strict=True):
            counts = [getattr(line, field) if line else 0 for line in pair]
            total[:] = [total[0] + counts[0], total[1] + counts[1]]
            cells += [f'{count:,}' if count else '' for count in counts]
        name = next(line.name for line in pair if line)
        table.add_row(Text(printable(name)), '' if pair[0] == pair[1] else _DIFFERENT, *cells)
    table.add_section()
    table.add_row('sum', '', '', '', *(f'{count:,}' for total in totals for count in total))
    table.add_row('ratio', '', '', '', *(cell for first, second in totals for cell in ('', f'{second / first:.3f}')))
    return table
