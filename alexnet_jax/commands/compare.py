"""Runs compared with each other and with the paper's ablations: `--mode=compare`."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from alexnet_jax.commands.tables import Table, add_row, new_table
from alexnet_jax.evaluation.published import Difference
from alexnet_jax.runs.summary import Summary, summarize
from alexnet_jax.runs.variants import (
    Measurement,
    Spread,
    Variant,
    check_comparable,
    choose_measurement,
    errors_of,
    group_by_variant,
    notes_on_progress,
)
from alexnet_jax.runs.workdir import check_runs, make_workdir
from alexnet_jax.runtime.errors import say
from alexnet_jax.runtime.files import write_json
from alexnet_jax.runtime.formatting import format_percent, format_top5

_VIEWS = {'ten': 'ten views', 'center': 'center view'}


def compare(
    workdirs: Sequence[str], workdir: str | None, console: Console, missing: Sequence[str] = ()
) -> dict[str, Any]:
    """Compares runs with the first of them, the base, and with the paper's ablations.

    Args:
      workdirs: of the runs.
      workdir: directory for comparison.json, figures/comparison.png and, where runs have columns that see colors,
        figures/color.png; None to print only.
      console: for output.
      missing: notes on runs that should be among them.

    Returns:
      The content of comparison.json: 'measurement', 'base', 'variants' and 'runs' as in `Variant` and `Summary`,
      errors in 0..1 and differences in percentage points, and 'notes'.

    Raises:
      UserError: a run cannot be read, they cannot be compared, or the result cannot be written.
    """
    check_runs(workdirs, workdir)
    runs = [summarize(one) for one in workdirs]
    notes = check_comparable(runs)
    measurement, why = choose_measurement(runs)
    notes += [*why, *notes_on_progress(runs, measurement), *missing]
    variants = group_by_variant(runs, measurement)
    if workdir:
        make_workdir(workdir)
    console.print(_variants_table(variants, measurement))
    if any(one.published or one.logged for one in variants):
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
        from alexnet_jax.figures.comparison import color_panels, difference_bars  # printing needs no Matplotlib
        from alexnet_jax.figures.style import write_figure

        write_json(pathlib.Path(workdir) / 'comparison.json', result)
        figure = difference_bars(
            variants, f'Difference from {variants[0].name}: {_words(measurement)}', measurement.classes
        )
        write_figure(figure, pathlib.Path(workdir) / 'figures' / 'comparison', console, line_art=True)
        curves = {run.workdir: run.color_curves for run in runs}
        names = {one.workdirs: one.name for one in reversed(variants)}  # the base's center view has the same runs
        colors = {name: [curves[one] for one in seeds if curves[one]] for seeds, name in reversed(names.items())}
        if any(colors.values()):
            figure = color_panels({name: found for name, found in colors.items() if found})
            write_figure(figure, pathlib.Path(workdir) / 'figures' / 'color', console, line_art=True)
    return result


def _words(measurement: Measurement) -> str:
    views = _VIEWS[measurement.views]  # of some runs five, see the notes
    last = ', last validation' if measurement.file == 'metrics.jsonl' else ''
    return f'{measurement.source}, {measurement.split} images, {views}{last}'


def _variants_table(variants: Sequence[Variant], measurement: Measurement) -> Table:
    table = new_table(
        f'{_words(measurement)}: {measurement.examples:,} images ({measurement.file})',
        f'Differences are from {variants[0].name}, in percentage points of error, with their standard errors: over '
        'seeds, or over the images where there is one seed. With several seeds: means, and in parentheses the range. '
        'More color: number of runs by the column whose first layer has the larger share.',
        ['variant'],
        ['runs', 'top-1 error', 'top-5 error', 'difference,\ntop-1 / top-5', 'published', 'more color'],
    )
    for place, one in enumerate(variants):
        add_row(
            table,
            one.name,
            str(len(one.workdirs)),
            _spread(one.top1_error, len(one.workdirs)),
            _spread(one.top5_error, len(one.workdirs)) if measurement.classes > 5 else '-',
            _measured(one, measurement.classes) if place else 'base',
            _difference(one.published) if one.published else '',
            '\n'.join(f'column {column}: {count}' for column, count in one.more_color.items()),
        )
    return table


def _spread(error: Spread, runs: int) -> str:
    spread = f'\n({100 * error.least:.2f} to {100 * error.most:.2f})' if runs > 1 else ''
    return f'{format_percent(error.mean)}{spread}'


def _measured(one: Variant, classes: int) -> str:
    """In percentage points: '+1.37 ± 0.40', and top-5 below, where it means something."""
    top5 = f'\n{one.top5_difference:+.2f} ± {one.top5_standard_error:.2f}' if classes > 5 else ''
    return f'{one.top1_difference:+.2f} ± {one.top1_standard_error:.2f}{top5}'


def _difference(published: Difference) -> str:
    """In percentage points: '+1.37 / +1.15', 'over +1', or '+2'."""
    if published.top5 is None:
        return f'{published.bound} {published.top1:+g}'.strip()
    return f'{published.top1:+.2f} / {published.top5:+.2f}'


def _published_table(variants: Sequence[Variant], measurement: Measurement) -> Table:
    table = new_table(
        'What is published about these networks',
        "Errors are those of the authors' logs of 2012, which docs/networks_2012.md describes; differences are from "
        f'the unchanged network. Ours are on {_words(measurement)}. Where these are other images, or the network is '
        'smaller, errors cannot be compared, and differences at most in their sign.',
        ['variant', 'network, images, views', 'source of the difference'],
        ['top-1 / top-5 error', 'difference'],
    )
    for one in variants:
        logged, difference = one.logged, one.published
        if logged or difference:
            measured_on = f'{logged.network}, {logged.images}, {_VIEWS[logged.views]}' if logged else ''
            add_row(
                table,
                one.name,
                measured_on or (difference.images if difference else ''),
                difference.where if difference else '',
                f'{logged.top1:.2f}% / {logged.top5:.2f}%' if logged else '',
                _difference(difference) if difference else '',
            )
    return table


def _runs_table(runs: Sequence[Summary], measurement: Measurement) -> Table:
    table = new_table(
        'The runs',
        'Errors as above, at the step given; best: the lowest top-1 error of a validation, center view. Color: share '
        'in the first layer, by column, at the last validation.',
        ['run', 'variant'],
        ['seed', 'status', 'step', 'top-1 / top-5', 'best', 'parameters', 'color'],
    )
    for run in runs:
        errors = errors_of(run, measurement)
        add_row(
            table,
            run.workdir,
            run.config.name,
            str(run.config.seed),
            'ended' if run.ended else f'epoch {run.epoch:.2f}\nof {run.config.epochs}',
            f'{errors.step:,}',
            f'{format_percent(errors.top1_error)} / {format_top5(errors.top5_error, measurement.classes)}',
            format_percent(run.best.top1_error),
            f'{run.parameters:,}',
            ' / '.join(f'{share:.2f}' for share in run.colors),
        )
    return table


def _described(run: Summary, measurement: Measurement) -> dict[str, Any]:
    """A run in comparison.json."""
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
        'color_curves': {
            column: [pair for pair in curve if math.isfinite(pair[1])] for column, curve in run.color_curves.items()
        },
    }
