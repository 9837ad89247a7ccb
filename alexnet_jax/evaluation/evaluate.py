"""Validation and test (sections 4.1 and 6): one run or several averaged, every example counted once."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from alexnet_jax.data import pipeline
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.device_feed import local_positions
from alexnet_jax.evaluation.predictor import Predictor
from alexnet_jax.evaluation.published import rows_for
from alexnet_jax.runs.build import open_data
from alexnet_jax.runs.fields import check_types
from alexnet_jax.runs.trained import Run, open_run, predictor
from alexnet_jax.runs.workdir import CONFIG, make_workdir, read_config
from alexnet_jax.runtime.distributed import is_leader, several
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import write_json
from alexnet_jax.runtime.progress_bar import Display

METRICS = ('loss', 'top1_error', 'top5_error')
_IN_FLIGHT = 2  # batches that the devices work on while the host counts


def wrong(log_probabilities: np.ndarray, labels: np.ndarray, top: int) -> np.ndarray:
    """Which examples' labels are not among the `top` most probable classes.

    Of equally probable classes the earlier counts as the more probable; what is not a number is wrong.

    Args:
      log_probabilities: [batch, classes].
      labels: int [batch].
      top: how many guesses there are.

    Returns:
      bool [batch].
    """
    true = np.take_along_axis(log_probabilities, labels[:, None], axis=1)
    earlier = labels[:, None] < np.arange(log_probabilities.shape[1])
    beaten = (true > log_probabilities) | ((true == log_probabilities) & earlier)
    return log_probabilities.shape[1] - 1 - beaten.sum(axis=1) >= top


class Tally:
    """Adds up errors and losses over batches, in float64, so that the order of devices does not matter."""

    def __init__(self) -> None:
        self._sums, self._examples = dict.fromkeys(METRICS, 0.0), 0

    def add(self, log_probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Counts a batch: float [batch, classes], and int [batch]."""
        of_labels = np.take_along_axis(log_probabilities, labels[:, None], axis=1)
        self._sums['loss'] -= float(of_labels.sum(dtype=np.float64))
        for top in (1, 5):
            self._sums[f'top{top}_error'] += int(wrong(log_probabilities, labels, top).sum())
        self._examples += len(labels)

    def means(self) -> dict[str, float]:
        """'loss' (minus the log of the label's probability), 'top1_error' and 'top5_error' (0..1)."""
        return {name: total / self._examples for name, total in self._sums.items()}


def average(log_probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """The logarithm of the mean of several networks' probabilities ("5 CNNs", "7 CNNs*" in Table 2)."""
    with np.errstate(divide='ignore'):
        return np.log(np.mean([np.exp(one, dtype=np.float64) for one in log_probabilities], axis=0))


def predictions(
    predictors: Sequence[Predictor], data: PreparedDataSet, split: str, *, batch_size: int, threads: int
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """What networks say of every image of a split, in order, batch by batch.

    Args:
      predictors: the networks.
      data: the prepared data set.
      split: one of its splits.
      batch_size: examples in a batch.
      threads: batches read at the same time; 0 for one a core, up to 16.

    Yields:
      For each network its float32 [batch, classes] log-probabilities; and the labels, int32 [batch]. The last batch
      is as large as what is left.
    """
    pending: collections.deque[list[dict[str, Any]]] = collections.deque()
    positions = local_positions(predictors[0].mesh, batch_size)
    batches = pipeline.evaluation_batches(data, split, batch_size=batch_size, threads=threads, positions=positions)
    for batch in batches:
        pending.append([predict(batch) for predict in predictors])
        if len(pending) > _IN_FLIGHT:
            yield _on_host(pending.popleft())
    yield from map(_on_host, pending)


def _on_host(outputs: list[dict[str, Any]]) -> tuple[list[np.ndarray], np.ndarray]:
    real = np.asarray(outputs[0]['weight']) > 0
    return [np.asarray(one['log_probabilities'])[real] for one in outputs], np.asarray(outputs[0]['label'])[real]


def evaluate(predict: Predictor, data: PreparedDataSet, split: str, *, batch_size: int, threads: int) -> dict:
    """The errors of one network on a split: what `Tally.means` returns."""
    tally = Tally()
    for (scores,), labels in predictions([predict], data, split, batch_size=batch_size, threads=threads):
        tally.add(scores, labels)
    return tally.means()


def evaluate_run(config: ConfigDict, workdir: str, which: str, split: str, console: Console) -> dict[str, Any]:
    """Evaluates a checkpoint of a run, prints its errors beside the paper's, and writes eval.json: `--mode=eval`.

    Args:
      config: the experiment that the run was made with; mesh, batch size, data directory and views may differ.
      workdir: of the run.
      which: 'newest', 'best' (by validation error), or the number of a step.
      split: 'validation', or another that the data set has.
      console: where to print.

    Returns:
      What eval.json holds: 'step', 'epoch', 'source', 'split', 'examples', and under 'views' for each kind of view
      its errors (0..1).

    Raises:
      UserError: the config, the data set or the checkpoint cannot be used.
    """
    run = open_run(config, workdir, which)
    result = {'step': run.progress.step, 'epoch': run.progress.epoch, **_evaluate([run], split, console)}
    console.print(results_table(result, f'{config.name}, step {run.progress.step} (epoch {run.progress.epoch})'))
    if is_leader():
        write_json(pathlib.Path(workdir) / 'eval.json', result)
    return result


def evaluate_ensemble(
    config: ConfigDict | None, workdirs: Sequence[str], workdir: str, which: str, split: str, console: Console
) -> dict[str, Any]:
    """Evaluates several runs, each and their average: `--mode=eval --ensemble=runs/a,runs/b`.

    Every network and its views are as its own config.json says.

    Args:
      config: where to take mesh, batch size, data directory, threads and views from; None for the first run's.
      workdirs: of the runs.
      workdir: where eval.json is written.
      which: as for `evaluate_run`, for each of the runs.
      split: of the data set that the runs share.
      console: where to print.

    Returns:
      What eval.json holds: as `evaluate_run`, with 'runs': for each its 'workdir', 'step' and 'views'.

    Raises:
      UserError: a run cannot be opened, or the runs do not share a data set.
    """
    if several():
        raise UserError('--ensemble runs in one process.')
    if (pathlib.Path(workdir) / CONFIG).exists():
        raise UserError(
            f'--workdir={workdir} is the directory of a run; with --ensemble, name another one for the result, such '
            'as --workdir=runs/ensemble.'
        )
    if len(workdirs) != len(set(map(_resolved, workdirs))):
        raise UserError(f'--ensemble={",".join(workdirs)} names a run twice.')
    configs = [read_config(one) for one in workdirs]
    for one, own in zip(workdirs, configs, strict=True):
        try:
            check_types(own)
        except UserError as error:
            raise UserError(f'{one}: {error}') from error
    shared = config or configs[0]
    runs = []
    for one, own in zip(workdirs, configs, strict=True):
        own.mesh, own.batch_size, own.evaluation = shared.mesh, shared.batch_size, shared.evaluation
        own.accumulation_steps = shared.accumulation_steps
        own.data.directory, own.data.threads = shared.data.directory, shared.data.threads
        try:
            runs.append(open_run(own, one, which))
        except UserError as error:
            raise UserError(f'{one}: {error}') from error
    for run in runs[1:]:
        _check_shared(runs[0], run)
    make_workdir(workdir)
    result = _evaluate(runs, split, console)
    console.print(results_table(result, f'{len(runs)} runs averaged'))
    write_json(pathlib.Path(workdir) / 'eval.json', result)
    return result


def _resolved(path: str) -> pathlib.Path:
    return pathlib.Path(path).resolve()


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


def _evaluate(runs: list[Run], split: str, console: Console) -> dict[str, Any]:
    config = runs[0].experiment.config
    data = open_data(runs[0].experiment, console)
    if split not in data.shards:
        raise UserError(f'--split={split}: {data.directory} has none; it has {", ".join(data.shards)}.')
    for run in runs:
        if run.data.class_ids != data.class_ids:
            raise UserError(f'{data.directory} has other classes than those that {run.workdir} was trained on.')
    examples = data.examples(split)
    result = {'source': data.settings.source, 'split': split, 'examples': examples, 'views': {}}
    if len(runs) > 1:
        result['runs'] = [{'workdir': run.workdir, 'step': run.progress.step, 'views': {}} for run in runs]
    for views in config.evaluation.views:
        together, each, done = Tally(), [Tally() for _ in runs], 0
        outputs = predictions(
            [predictor(run, views) for run in runs],
            data,
            split,
            batch_size=config.batch_size,
            threads=config.data.threads,
        )
        with Display(console, examples, 0, name=f'evaluating, views: {views}', unit='images') as display:
            for scores, labels in outputs:
                together.add(average(scores) if len(runs) > 1 else scores[0], labels)
                for tally, own in zip(each, scores, strict=True):
                    tally.add(own, labels)
                done += len(labels)
                display.update(done)
        result['views'][views] = together.means()
        for one, tally in zip(result.get('runs', []), each, strict=False):
            one['views'][views] = tally.means()
    return result


def results_table(result: dict[str, Any], name: str) -> Table:
    """Errors beside the rows of the paper's tables that are on the same images.

    Args:
      result: as eval.json holds it.
      name: of what was evaluated.
    """
    source, split = result['source'], result['split']
    published = rows_for(source, split)
    caption = '' if published else f'Nothing is published for {source}, {split}.'
    title = f'{source}, {split}: {result["examples"]:,} images, each counted once'
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD)
    table.add_column('', no_wrap=True)
    table.add_column('views')
    for column in ('top-1 error', 'top-5 error'):
        table.add_column(column, justify='right')
    for one in result.get('runs', []):
        for views, errors in one['views'].items():
            table.add_row(f'{one["workdir"]}, step {one["step"]}', views, *_percent(errors))
    for views, errors in result['views'].items():
        table.add_row(name, views, *_percent(errors), style='bold')
    table.add_section()
    for row in published:
        table.add_row(f'{row.model} ({row.where})', row.views, *_percent(dataclasses.asdict(row)))
    return table


def _percent(errors: dict[str, float | None]) -> list[str]:
    found = [errors[name] for name in ('top1_error', 'top5_error')]
    return ['' if error is None else f'{error:.2%}' for error in found]
