"""Top-1 and top-5 errors of a run, or of several averaged, beside the paper's: `--mode=eval`."""

import errno
import pathlib
from collections.abc import Sequence

from rich.console import Console

from alexnet_jax.commands.tables import Table, add_row, new_table
from alexnet_jax.config import Config
from alexnet_jax.data.augment import patches_of
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.evaluation.evaluate import evaluate_together
from alexnet_jax.evaluation.published import Row, rows_for
from alexnet_jax.runs.build import open_data
from alexnet_jax.runs.eval_json import EVAL_JSON, EvaluatedRun, Evaluation, ViewErrors
from alexnet_jax.runs.trained import Run, open_run, predictor
from alexnet_jax.runs.workdir import ENSEMBLE, check_runs, make_workdir, read_config
from alexnet_jax.runtime.distributed import is_leader, several
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.runtime.files import write_json
from alexnet_jax.runtime.formatting import format_percent, format_top5
from alexnet_jax.runtime.progress_bar import Display

_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def evaluate_run(
    config: Config, workdir: str, which: str, split: str, console: Console, output: str | None = None
) -> Evaluation:
    """Evaluates a checkpoint of a run, prints its errors beside the paper's, and writes eval.json.

    In a workdir that is read-only the errors are only printed, and a line says so.

    Args:
      config: of the run; mesh, batch size, data directory and views may differ.
      workdir: of the run.
      which: 'newest', 'best' (by validation error), or a step.
      split: of the data set, such as 'validation'.
      console: for output.
      output: directory of eval.json; None for the workdir.

    Raises:
      UserError: the config, the data set or the checkpoint cannot be used; or eval.json cannot be written for another
        reason, as on a full disk, or to `output`.
    """
    run = open_run(config, workdir, which, lambda line: say(console, line))
    result = _evaluate([run], split, console)
    console.print(results_table(result, config.name))
    if is_leader():
        if output:
            make_workdir(output, '--output')
        try:
            _write(result, output or workdir)
        except UserError as error:
            if output or getattr(error.__cause__, 'errno', None) not in _READ_ONLY:
                raise
            say(console, f'{error} The errors above are left nowhere else; --output=DIRECTORY names another place.')
    return result


def evaluate_ensemble(
    config: Config | None, workdirs: Sequence[str], workdir: str, which: str, split: str, console: Console
) -> Evaluation:
    """Evaluates several runs, each and their average: `--ensemble=runs/a,runs/b`.

    Every network is as its own config.json says.

    Args:
      config: source of mesh, batch size, data directory, threads and views; None for the first run's.
      workdirs: of the runs.
      workdir: where eval.json is written; not the directory of a run.
      which: as for `evaluate_run`, for each of the runs.
      split: of the data set that the runs share.
      console: for output.

    Raises:
      UserError: a run cannot be opened, or the runs do not share a data set.
    """
    if several():
        raise UserError('--ensemble runs in one process.')
    check_runs(workdirs, workdir, *ENSEMBLE)
    configs = [read_config(one) for one in workdirs]
    shared = config or configs[0]
    runs = []
    for one, own in zip(workdirs, configs, strict=True):
        changes = {name: getattr(shared, name) for name in ('mesh', 'batch_size', 'evaluation', 'accumulation_steps')}
        data = {'data.directory': shared.data.directory, 'data.threads': shared.data.threads}
        try:
            runs.append(open_run(own.replace(**changes, **data), one, which, lambda line: say(console, line)))
        except UserError as error:
            raise UserError(f'{one}: {error}') from error
    for run in runs[1:]:
        _check_shared(runs[0], run)
    make_workdir(workdir)
    result = _evaluate(runs, split, console)
    console.print(results_table(result, ''))
    _write(result, workdir)
    return result


def _check_shared(one: Run, other: Run) -> None:
    """Raises UserError where two runs cannot be averaged."""
    for field in ('class_ids', 'image_size'):
        first, second = getattr(one.data, field), getattr(other.data, field)
        if first != second:
            if field == 'class_ids':
                first, second = (f'{len(ids)} classes, {", ".join(ids[:3])}, ...' for ids in (first, second))
            raise UserError(
                f'--ensemble: {one.workdir} and {other.workdir} do not share a data set: {field} is {first} in the '
                f'one and {second} in the other.'
            )


def split_of(runs: Sequence[Run], split: str, console: Console) -> PreparedDataSet:
    """The data set that a config names, for runs on images of its size.

    Raises:
      UserError: it cannot be used, or lacks the split.
    """
    data = open_data(runs[0].experiment, console)
    if not data.shards.get(split):
        found = ', '.join(name for name, shards in data.shards.items() if shards)
        raise UserError(
            f'--split={split}: {data.directory} has none; it has {found}. Images without labels can be given to '
            '--mode=predict and --mode=features, with --images=DIRECTORY.'
        )
    return data


def _evaluate(runs: list[Run], split: str, console: Console) -> Evaluation:
    config, data = runs[0].experiment.config, split_of(runs, split, console)
    for run in runs:
        if run.data.class_ids != data.class_ids:
            raise UserError(f'{data.directory} has other classes than those that {run.workdir} was trained on.')
    examples = data.examples(split)
    whole: dict[str, ViewErrors] = {}
    each: list[dict[str, ViewErrors]] = [{} for _ in runs]
    if not config.evaluation.views:
        raise UserError("config.evaluation.views is empty; give 'center', 'ten' or both, as in ('center', 'ten').")
    mirrored = [run.config.data.mirror for run in runs]
    for views in dict.fromkeys(config.evaluation.views):
        patches = [patches_of(views, mirror) for mirror in mirrored]
        with Display(console, examples, 0, name=f'evaluating, views: {views}', unit='images') as display:
            average, own = evaluate_together(
                [predictor(run, views) for run in runs],
                data,
                split,
                batch_size=config.batch_size,
                threads=config.data.threads,
                on_batch=display.update,
            )
        whole[views] = ViewErrors(**average, patches=patches[0] if len(set(patches)) == 1 else None)
        for by_view, errors, count in zip(each, own, patches, strict=True):
            by_view[views] = ViewErrors(**errors, patches=count)
    classes = len(data.class_names)
    result = Evaluation(source=data.settings.source, split=split, examples=examples, classes=classes, views=whole)
    if len(runs) == 1:
        return result.model_copy(update={'step': runs[0].progress.step, 'epoch': runs[0].progress.epoch})
    pairs = zip(runs, each, strict=True)
    members = (EvaluatedRun(workdir=run.workdir, step=run.progress.step, views=views) for run, views in pairs)
    return result.model_copy(update={'runs': tuple(members)})


def _write(result: Evaluation, workdir: str) -> None:
    write_json(pathlib.Path(workdir) / EVAL_JSON, result.model_dump(exclude_defaults=True))


def results_table(result: Evaluation, name: str) -> Table:
    """Errors beside the rows of the paper's tables that are on the same images.

    Args:
      result: of a run or an ensemble.
      name: of the run's config.
    """
    published = rows_for(result.source, result.split, result.classes, result.examples)
    table = new_table(
        f'{result.source}, {result.split}: {result.examples:,} images, each counted once',
        '' if published else f'Nothing is published for these images of {result.source}, {result.split}.',
        ['', 'views'],
        ['top-1 error', 'top-5 error'],
    )
    for what, views, errors in result.results(name):
        whole = any(errors is one for one in result.views.values())
        add_row(table, what, views, *_percent(errors, result.classes), style='bold' if whole else '')
    table.add_section()
    for row in published:
        add_row(table, f'{row.model} ({row.where})', row.views, *_percent(row, None))
    return table


def _percent(errors: ViewErrors | Row, classes: int | None) -> list[str]:
    return [format_percent(errors.top1_error), format_top5(errors.top5_error, classes)]
