"""Runs grouped by variant, over seeds, with their errors and differences."""

import collections
import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from alexnet_jax.config import Config, resume_rule, schema
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.sources.published import images_of
from alexnet_jax.evaluation.logs_2012 import LOGGED_CHANGES, Logged, logged_for
from alexnet_jax.evaluation.published import Difference, difference_between, difference_for
from alexnet_jax.runs.eval_json import EVAL_JSON, Evaluation
from alexnet_jax.runs.resume import differences
from alexnet_jax.runs.summary import Errors, Summary
from alexnet_jax.runtime.errors import UserError

# Fields in which runs of one variant may differ.
_FREE = {'seed'}.union(name for name, _ in schema() if resume_rule(name) == 'free') - {
    *('name', 'epochs', 'rate_control.end_at_training_error')
}
_MOST_SHOWN = 2  # fields in the name of a variant


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The source of all errors in a comparison.

    Attributes:
      file: 'eval.json', or 'metrics.jsonl' for the last validation.
      views: 'ten' or 'center'.
      source: of the images, as config.data.source names it.
      split: of the data set.
      examples: images in it.
      classes: of the data set.
    """

    file: str
    views: str
    source: str
    split: str
    examples: int
    classes: int


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean, least and greatest error (0..1) over several seeds, and the mean's standard error.

    The standard error is over the seeds, or over the images where there is one seed: that of a proportion, which does
    not know how much other seeds would differ.
    """

    mean: float
    least: float
    most: float
    standard_error: float


@dataclasses.dataclass(frozen=True)
class Variant:
    """Runs that differ in the seed alone.

    Attributes:
      name: of their config, and fields that differ if another variant has the same name.
      workdirs: of the runs.
      top1_error, top5_error: over the runs.
      top1_difference, top5_difference: of the means from the base's, in percentage points; positive is worse.
      top1_standard_error, top5_standard_error: of these differences, the two means taken as independent.
      published: effect of the same change on the paper's network, if published.
      more_color: number of runs by the column, from 1, whose first layer has the largest share of color.
      logged: errors of this network, or of the paper's with the same change, in the authors' logs of 2012.
    """

    name: str
    workdirs: tuple[str, ...]
    top1_error: Spread
    top5_error: Spread
    top1_difference: float
    top5_difference: float
    top1_standard_error: float
    top5_standard_error: float
    published: Difference | None
    more_color: dict[int, int]
    logged: Logged | None = None


def check_comparable(runs: Sequence[Summary]) -> list[str]:
    """Notes on differences between the runs' data sets.

    Raises:
      UserError: they have other images or classes, so that errors cannot be compared.
    """
    notes, base = [], runs[0]
    for run in runs[1:]:
        for what, one, other in _data_differences(base.data, run.data):
            values = f': {one} and {other}' if isinstance(one, str | int) else ''
            raise UserError(
                f'{base.workdir} and {run.workdir} cannot be compared: their {what} differ{values}. '
                'Leave one of them out of --runs.'
            )
        pairs = {
            f'data.{field}': (getattr(base.data.settings, field), getattr(run.data.settings, field))
            for field in ('image_size', 'storage', 'quality')
        }
        pairs['number of training images'] = (base.data.examples('train'), run.data.examples('train'))
        notes += [
            f'{run.workdir} was trained on {other} ({what}), {base.workdir} on {one}.'
            for what, (one, other) in pairs.items()
            if one != other
        ]
    return notes


def _data_differences(one: PreparedDataSet, other: PreparedDataSet) -> Iterator[tuple[str, Any, Any]]:
    """What makes two data sets incomparable, and both values."""
    pairs: dict[str, list[Any]] = {
        'images': [images_of(data.settings.source) for data in (one, other)],
        'numbers of classes': [len(data.class_ids) for data in (one, other)],
        'classes': [data.class_ids for data in (one, other)],
        'numbers of validation images': [data.examples('validation') for data in (one, other)],
    }
    if one.settings == other.settings:
        pairs['validation images'] = [[shard['sha256'] for shard in data.shards['validation']] for data in (one, other)]
    return ((what, first, second) for what, (first, second) in pairs.items() if first != second)


def choose_measurement(runs: Sequence[Summary]) -> tuple[Measurement, list[str]]:
    """The best measurement that all runs have, and notes for the user on why it is no better.

    It is eval.json, ten views before the center, if all runs have one on the same images; otherwise the last
    validation in metrics.jsonl. The two are never mixed.
    """
    data = runs[0].data
    classes = len(data.class_ids)
    fallback = Measurement(
        'metrics.jsonl', 'center', images_of(data.settings.source), 'validation', data.examples('validation'), classes
    )
    if not any(run.evaluation for run in runs):
        return fallback, []
    missing = [run.workdir for run in runs if not run.evaluation]
    kinds = {_kind(run.evaluation): run.workdir for run in runs if run.evaluation}
    views = [kind for kind in ('ten', 'center') if all(kind in run.evaluated for run in runs)]
    if missing:
        why = f'{missing[0]} has none (python launch.py --workdir={missing[0]} --mode=eval makes it)'
    elif len(kinds) > 1:
        why = ', '.join(
            f'that of {one} is of {source}, {split}, {count:,} images' for (source, split, count), one in kinds.items()
        )
    elif not views:
        why = 'they have no kind of view in common'
    else:
        (kind,) = kinds
        return Measurement(EVAL_JSON, views[0], *kind, classes), _notes_on_views(runs, views[0])
    return fallback, [f'errors are of the last validation, center view, as not all have the same eval.json: {why}.']


def _notes_on_views(runs: Sequence[Summary], views: str) -> list[str]:
    """Notes on runs whose ten views are five, as their training images were not mirrored."""
    patches = {run.workdir: run.evaluation.views[views].patches for run in runs if run.evaluation}
    notes = [
        f'the ten views of {workdir} are five: its training images were not mirrored.'
        for workdir, count in patches.items()
        if count == 5
    ]
    if notes:
        notes += [
            f'the ten views of {workdir} hold mirror images, as earlier versions had it for every run; --mode=eval '
            'evaluates it again.'
            for workdir, count in patches.items()
            if count is None
        ]
    return notes


def _kind(evaluation: Evaluation) -> tuple[str, str, int]:
    return images_of(evaluation.source), evaluation.split, evaluation.examples


def errors_of(run: Summary, measurement: Measurement) -> Errors:
    """A run's errors by the measurement that all runs have."""
    return run.evaluated[measurement.views] if measurement.file == EVAL_JSON else run.last


def notes_on_progress(runs: Sequence[Summary], measurement: Measurement) -> list[str]:
    """Notes on runs that are not complete, or were evaluated before their last step."""
    notes = [
        f'{run.workdir} has not ended (epoch {run.epoch:.2f} of {run.config.epochs}); its errors are those so far.'
        for run in runs
        if not run.ended
    ]
    for run in runs:
        step = errors_of(run, measurement).step
        if measurement.file == EVAL_JSON and step != run.step:
            notes.append(f'{run.workdir} was evaluated at step {step}, and has trained to step {run.step}.')
    return notes


def group_by_variant(runs: Sequence[Summary], measurement: Measurement) -> list[Variant]:
    """Variants in order of their first run, the base first.

    With ten views the base's center view follows it, a comparison that the paper makes too.

    Raises:
      UserError: two runs have the same config and seed.
    """
    groups: list[list[Summary]] = []
    for run in runs:
        group = next((group for group in groups if not _config_differences(group[0].config, run.config)), None)
        if group is None:
            groups.append([run])
            continue
        for other in group:
            if other.config.seed == run.config.seed:
                raise UserError(
                    f'{other.workdir} and {run.workdir} are the same run: {run.config.name} with seed '
                    f'{run.config.seed}. Leave one out of --runs, or train it with another --config.seed.'
                )
        group.append(run)
    base = groups[0]
    base_errors = _spreads([errors_of(run, measurement) for run in base], measurement.examples)
    named: dict[str, Config] = {}
    variants = []
    for group in groups:
        config = group[0].config
        fields = [
            f'{field}={now!r:.40}'
            for field, _, now in _config_differences(named.setdefault(config.name, config), config)
        ]
        hidden = [f'{len(fields) - _MOST_SHOWN} more'] if len(fields) > _MOST_SHOWN else []
        published = difference_between(base[0].config.name, config.name) if not fields else None
        logged = logged_for(config.name) if not fields else None
        name = ', '.join([config.name, *fields[:_MOST_SHOWN], *hidden])
        errors = (
            base_errors
            if group is base
            else _spreads([errors_of(run, measurement) for run in group], measurement.examples)
        )
        variants.append(_variant(name, group, errors, base_errors, published, logged))
        center = [run.evaluated['center'] for run in group if 'center' in run.evaluated]
        if group is base and measurement.views == 'ten' and len(center) == len(group):
            published = difference_for(config.name, 'center_patch')
            errors = _spreads(center, measurement.examples)
            name, logged = f'{config.name}, center patch alone', LOGGED_CHANGES['center_patch'] if published else None
            pairs = [(one, errors_of(run, measurement)) for one, run in zip(center, group, strict=True)]
            variants.append(_variant(name, group, errors, base_errors, published, logged, pairs))
    return variants


def _config_differences(one: Config, other: Config) -> list[tuple[str, Any, Any]]:
    """The fields that make two configs two variants, with both values; another source of the same images does not."""
    found = [change for change in differences(one.fields(), other.fields()) if change[0] not in _FREE]
    same_images = images_of(one.data.source) == images_of(other.data.source)
    return [change for change in found if not (change[0] == 'data.source' and same_images)]


def _spreads(errors: Sequence[Errors], examples: int) -> tuple[Spread, Spread]:
    """Of the top-1 and the top-5 errors over `examples` images."""
    top1, top5 = (
        _spread(values, examples) for values in ([one.top1_error for one in errors], [one.top5_error for one in errors])
    )
    return top1, top5


def _spread(errors: Sequence[float], examples: int) -> Spread:
    mean = math.fsum(errors) / len(errors)
    if len(errors) > 1:
        standard_error = statistics.stdev(errors) / math.sqrt(len(errors))
    else:
        standard_error = math.sqrt(mean * (1 - mean) / examples)
    return Spread(mean, min(errors), max(errors), standard_error)


def _variant(
    name: str,
    group: Sequence[Summary],
    errors: tuple[Spread, Spread],
    base: tuple[Spread, Spread],
    published: Difference | None,
    logged: Logged | None,
    pairs: Sequence[tuple[Errors, Errors]] = (),
) -> Variant:
    """Of a group of runs; `pairs` are their errors and those in the base where both are of the same networks."""
    more = collections.Counter(
        1 + run.colors.index(max(run.colors))
        for run in group
        if len(run.colors) > 1 and all(map(math.isfinite, run.colors))
    )
    differences = [100 * (one.mean - other.mean) for one, other in zip(errors, base, strict=True)]
    uncertain = [math.hypot(one.standard_error, other.standard_error) for one, other in zip(errors, base, strict=True)]
    if len(pairs) > 1:
        uncertain = [
            statistics.stdev(getattr(one, top) - getattr(other, top) for one, other in pairs) / math.sqrt(len(pairs))
            for top in ('top1_error', 'top5_error')
        ]
    top1, top5 = (0.0, 0.0) if errors is base else (100 * one for one in uncertain)
    return Variant(
        name,
        workdirs=tuple(run.workdir for run in group),
        top1_error=errors[0],
        top5_error=errors[1],
        top1_difference=differences[0],
        top5_difference=differences[1],
        top1_standard_error=top1,
        top5_standard_error=top5,
        published=published,
        more_color=dict(sorted(more.items())),
        logged=logged,
    )
