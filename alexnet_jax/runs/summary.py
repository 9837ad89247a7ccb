"""Summary of a run, from its files; nothing is computed or compiled."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from alexnet_jax.config import Config
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.evaluation.color import color_columns
from alexnet_jax.model.alexnet import classes_of, initial_parameters
from alexnet_jax.runs.eval_json import EVAL_JSON, Evaluation, read_evaluation
from alexnet_jax.runs.metrics_log import last_line, last_lines, validations
from alexnet_jax.runs.workdir import read_config, remembered_data
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.optimizer import RateControl, after_epoch, after_training


@dataclasses.dataclass(frozen=True)
class Errors:
    """Top-1 and top-5 errors (0..1) at a step."""

    step: int
    top1_error: float
    top5_error: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """A run, finished or not.

    Attributes:
      workdir: of the run.
      config: of the run.
      data: its data set, without images.
      step: updates made.
      epoch: passes over the training set, fractional.
      ended: whether training is complete.
      last, best: errors of its last validation, and of that with the lowest top-1 error, center view.
      evaluation: eval.json, if there is one.
      parameters: number of kernel and bias values, all columns together.
      colors: for each column the last share of color (0..1) in its first layer, NaN where it has none; may be empty.
      color_curves: for each column, from 1, pairs of epoch and that share, at all validations.
    """

    workdir: str
    config: Config
    data: PreparedDataSet
    step: int
    epoch: float
    ended: bool
    last: Errors
    best: Errors
    evaluation: Evaluation | None
    parameters: int
    colors: tuple[float, ...]
    color_curves: dict[int, list[tuple[float, float]]]

    @property
    def evaluated(self) -> dict[str, Errors]:
        """The errors of eval.json by kind of view, 'center' or 'ten'."""
        if self.evaluation is None or self.evaluation.step is None:
            return {}
        step, by_view = self.evaluation.step, self.evaluation.views
        return {views: Errors(step, one.top1_error, one.top5_error) for views, one in by_view.items()}


def summarize(workdir: str) -> Summary:
    """Reads a run's config.json, data_set/, metrics.jsonl and, if there is one, eval.json.

    Raises:
      UserError: it is not a run, has not been validated yet, or a file is damaged; the message names the workdir.
    """
    config = read_config(workdir)
    try:
        parameters = _parameters(config)
    except UserError as error:
        raise UserError(f'{workdir}: {error}') from error
    last, validated = last_line(workdir), validations(workdir)
    if not validated:
        raise UserError(f'{workdir} has not been validated yet; let it train to the end of an epoch, or leave it out.')
    try:
        errors = [_errors(line) for line in validated]
        epoch = float(last['epoch'])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'{pathlib.Path(workdir, "metrics.jsonl")} is damaged: a line has no epoch or errors from 0 to 1; leave '
            'the run out, or train it again.'
        ) from error
    evaluation = read_evaluation(workdir)
    if evaluation and evaluation.step is None:
        raise UserError(
            f'{pathlib.Path(workdir, EVAL_JSON)} is damaged (it has no step); make it again with --mode=eval.'
        )
    return Summary(
        workdir=workdir,
        config=config,
        data=remembered_data(workdir),
        step=last['step'],
        epoch=epoch,
        ended=epoch >= config.epochs or _finished(config, errors, workdir),
        last=errors[-1],
        best=min(errors, key=lambda one: one.top1_error),
        evaluation=evaluation,
        parameters=parameters,
        colors=_colors(validated[-1], config.columns),
        color_curves=color_columns(validated),
    )


def _colors(line: Mapping[str, Any], columns: int) -> tuple[float, ...]:
    """The share of each column, NaN where the line has none, as of kernels all zero; () where no column has one."""
    found = color_columns([line])
    return tuple(found[column][0][1] if column in found else math.nan for column in range(1, columns + 1) if found)


def _parameters(config: Config) -> int:
    table = config.network
    classes_of(table)
    shapes = jax.eval_shape(lambda: initial_parameters(table, config.columns, config.data.crop_size, 0))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


def _errors(line: Mapping[str, Any]) -> Errors:
    """Raises ValueError, TypeError or KeyError for a damaged line."""
    step, found = line['step'], [line[name] for name in ('top1_error', 'top5_error')]
    if type(step) is not int or not all(type(error) in (int, float) and 0 <= error <= 1 for error in found):
        raise ValueError(f'{line} has no errors')
    return Errors(step, *map(float, found))


def _training_error(workdir: str, every: int) -> float:
    """The error by which a run may have ended: the mean over its last `every` steps, where its log ends with them."""
    points: list[tuple[int, float]] = []  # step and error, the last first
    for line in last_lines(workdir):
        if line['split'] == 'train':
            points.append((line['step'], line.get('top1_error', 1.0)))
            if points[-1][0] <= points[0][0] - every:
                break
    if not points or points[0][0] % every:
        return 1.0
    start = points[0][0] - every
    pairs = zip(points, [*points[1:], (0, 0.0)], strict=True)
    return sum(error * (step - max(before, start)) for (step, error), (before, _) in pairs if step > start) / every


def _finished(config: Config, errors: Sequence[Errors], workdir: str) -> bool:
    """Whether the learning rate's control ended the run, given its validations and where its log is."""
    control = RateControl(config.learning_rate)
    for epoch, one in enumerate(errors, 1):
        control = after_epoch(control, one.top1_error, epoch, config.rate_control)
    if config.rate_control.end_at_training_error:
        control = after_training(control, _training_error(workdir, config.log_every_steps), config.rate_control)
    return control.finished
