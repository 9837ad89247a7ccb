"""Finished runs in one table, and what each change is worth: `--mode=compare`."""

import collections
import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alexnet_jax.evaluation.published import Difference
from alexnet_jax.runs.summary import Standing, read_standing
from alexnet_jax.runs.variants import (
    Measurement,
    Spread,
    Variant,
    check_shared,
    errors_of,
    measured,
    put_together,
    unfinished,
)
from alexnet_jax.runs.workdir import CONFIG, make_workdir
from alexnet_jax.runtime.errors import UserError, printable, say
from alexnet_jax.runtime.files import write_json


def compare(workdirs: Sequence[str], workdir: str | None, console: Console) -> dict[str, Any]:
    """Compares runs with the first of them, the base, and with what the paper says that each part is worth.

    Args:
      workdirs: of the runs.
      workdir: where to leave comparison.json and figures/comparison.png; None to print alone.
      console: where to print.

    Returns:
      What comparison.json holds: 'measurement', 'base', 'variants' and 'runs' as in
      `Variant` and `Standing`, errors in 0..1 and differences in percentage points, and 'notes'.

    Raises:
      UserError: a run cannot be read, or they cannot be compared; the result cannot be written.
    """
    _check_names(workdirs, workdir)
    runs = [read_standing(one) for one in workdirs]
    notes = check_shared(runs)
    measurement, why = measured(runs)
    notes += why + unfinished(runs, measurement)
    variants = put_together(runs, measurement)
    if workdir:
        make_workdir(workdir)
    console.print(_variants_table(variants, measurement))
    if any(one.published for one in variants):
        console.print(_published_table(variants, measurement))
    console.print(_runs_table(runs, measurement))
    for note in notes:
        say(console, f'Note: {note}')
    result = {
        'measurement': dataclasses.asdict(measurement),
        'base': variants[0].name,
        'variants': [dataclasses.asdict(one) for one in variants],
        'runs': [_described(run, measurement) for run in runs],
        'notes': notes,
    }
    if workdir:
        from alexnet_jax.figures.comparison import difference_bars  # not above: printing needs no Matplotlib
        from alexnet_jax.figures.style import save

        write_json(pathlib.Path(workdir) / 'comparison.json', result)
        figure = difference_bars(variants, f'Difference from {variants[0].name}: {_shown(measurement)}')
        for path in save(figure, pathlib.Path(workdir) / 'figures' / 'comparison', line_art=True):
            say(console, f'wrote {path}')
    return result


def _check_names(workdirs: Sequence[str], workdir: str | None) -> None:
    if not [one for one in workdirs if one]:
        raise UserError(
            '--runs is missing: directories of runs, the base first, as in --runs=runs/paper,runs/no_dropout.'
        )
    places = collections.Counter(pathlib.Path(one).resolve() for one in workdirs)
    for one in workdirs:
        if not one:
            raise UserError(f'--runs={",".join(workdirs)} names a run without a name; take out the comma.')
        if places[pathlib.Path(one).resolve()] > 1:
            raise UserError(f'--runs={",".join(workdirs)} names {one} twice.')
    if workdir and ((pathlib.Path(workdir) / CONFIG).exists() or pathlib.Path(workdir).resolve() in places):
        raise UserError(
            f'--workdir={workdir} is the directory of a run; name another one for the result, such as '
            '--workdir=runs/comparison.'
        )


def _shown(measurement: Measurement) -> str:
    views = 'ten views' if measurement.views == 'ten' else 'center view'
    last = ', last validation' if measurement.file == 'metrics.jsonl' else ''
    return f'{measurement.source}, {measurement.split} images, {views}{last}'


def _table(title: str, caption: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(
        title=Text(printable(title), 'table.title'), caption=Text(printable(caption), 'table.caption'), box=SIMPLE_HEAD
    )
    for column in left:
        table.add_column(column, overflow='fold')
    for column in right:
        table.add_column(column, justify='right')
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(printable(cell)) for cell in cells))


def _variants_table(variants: Sequence[Variant], measurement: Measurement) -> Table:
    table = _table(
        f'{_shown(measurement)}: {measurement.examples:,} images ({measurement.file})',
        f'Differences are from {variants[0].name}, in percentage points of error; of several seeds, means '
        '(least to most in brackets). More color: in the first layer of which column, in how many runs.',
        ['variant'],
        ['runs', 'top-1 error', 'top-5 error', 'difference,\ntop-1 / top-5', 'published', 'more color'],
    )
    for place, one in enumerate(variants):
        _add(
            table,
            one.name,
            str(len(one.workdirs)),
            *(_spread(error, len(one.workdirs)) for error in (one.top1_error, one.top5_error)),
            'base' if place == 0 else f'{one.top1_difference:+.2f} / {one.top5_difference:+.2f}',
            _words(one.published) if one.published else '',
            '\n'.join(f'column {column}: {count}' for column, count in one.more_color.items()),
        )
    return table


def _spread(error: Spread, runs: int) -> str:
    spread = f'\n({100 * error.least:.2f} to {100 * error.most:.2f})' if runs > 1 else ''
    return f'{error.mean:.2%}{spread}'


def _words(published: Difference) -> str:
    """A published difference, in percentage points: '+1.37 / +1.15', 'over +1', or '+2'."""
    if published.top5 is None:
        return f'{published.bound} {published.top1:+g}'.strip()
    return f'{published.top1:+.2f} / {published.top5:+.2f}'


def _published_table(variants: Sequence[Variant], measurement: Measurement) -> Table:
    table = _table(
        'Where the published differences stand',
        f'They are from the unchanged network, on the images and views given; ours are on {_shown(measurement)}.',
        ['variant', 'measured on', 'witness'],
        [],
    )
    for one in variants:
        if one.published:
            _add(table, one.name, one.published.images, one.published.where)
    return table


def _runs_table(runs: Sequence[Standing], measurement: Measurement) -> Table:
    table = _table(
        'The runs',
        'Errors as above, of the step given; best: the lowest top-1 error of a validation, center view. Color: share '
        'in the first layer, column by column, after the last validation.',
        ['run', 'variant'],
        ['seed', 'stands', 'step', 'top-1 / top-5', 'best', 'parameters', 'color'],
    )
    for run in runs:
        errors = errors_of(run, measurement)
        _add(
            table,
            run.workdir,
            run.config.name,
            str(run.config.seed),
            'ended' if run.ended else f'epoch {run.epoch:.2f}\nof {run.config.epochs}',
            f'{errors.step:,}',
            f'{errors.top1_error:.2%} / {errors.top5_error:.2%}',
            f'{run.best.top1_error:.2%}',
            f'{run.parameters:,}',
            ' / '.join(f'{share:.2f}' for share in run.colors),
        )
    return table


def _described(run: Standing, measurement: Measurement) -> dict[str, Any]:
    """A run for comparison.json."""
    return {
        'workdir': run.workdir,
        'name': run.config.name,
        'seed': run.config.seed,
        'step': run.step,
        'epoch': run.epoch,
        'ended': run.ended,
        'errors': dataclasses.asdict(errors_of(run, measurement)),
        'last_validation': dataclasses.asdict(run.last),
        'best_validation': dataclasses.asdict(run.best),
        'parameters': run.parameters,
        'color': [share if math.isfinite(share) else None for share in run.colors],
    }
