"""What of several runs can be compared, and which of them are one variant seen with several seeds."""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from alexnet_jax.config import Config, resume_rule, schema
from alexnet_jax.evaluation.published import Difference, difference_for, images_of
from alexnet_jax.runs.resume import differences
from alexnet_jax.runs.summary import Errors, Standing
from alexnet_jax.runtime.errors import UserError

# Fields in which runs of the same variant may differ.
_SAME = {'seed'}.union(name for name, _ in schema() if resume_rule(name) == 'free') - {'name', 'epochs'}
_MOST_SHOWN = 2  # fields in the name of a variant


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Where all errors of a comparison come from.

    Attributes:
      file: 'eval.json', or 'metrics.jsonl': the last validation.
      views: 'ten' or 'center'.
      source: of the images, as config.data.source names it.
      split: of the data set.
      examples: images in it.
    """

    file: str
    views: str
    source: str
    split: str
    examples: int


@dataclasses.dataclass(frozen=True)
class Spread:
    """An error (0..1) over several seeds."""

    mean: float
    least: float
    most: float


@dataclasses.dataclass(frozen=True)
class Variant:
    """Runs that differ in nothing but the seed, put together.

    Attributes:
      name: of their config; with the fields that tell it apart, where another variant here has the same name.
      workdirs: of the runs.
      top1_error, top5_error: over the runs.
      top1_difference, top5_difference: of the means from the base's, in percentage points; positive is worse.
      published: what is known of the same change to the paper's network.
      more_color: how many runs carry most color in which column's first layer, by the column's number from 1.
    """

    name: str
    workdirs: tuple[str, ...]
    top1_error: Spread
    top5_error: Spread
    top1_difference: float
    top5_difference: float
    published: Difference | None
    more_color: dict[int, int]


def check_shared(runs: Sequence[Standing]) -> list[str]:
    """Notes on how the runs' data sets differ.

    Raises:
      UserError: they hold other images or classes, so that errors say nothing of the networks.
    """
    notes, base = [], runs[0]
    for run in runs[1:]:
        one, other = base.data, run.data
        pairs = {
            'images': [images_of(data.settings.source) for data in (one, other)],
            'number of classes': [len(data.class_ids) for data in (one, other)],
            'classes': [data.class_ids for data in (one, other)],
            'number of validation images': [data.examples('validation') for data in (one, other)],
        }
        if one.settings == other.settings:
            pairs['validation images'] = [
                [shard['sha256'] for shard in data.shards['validation']] for data in (one, other)
            ]
        for what, (here, there) in pairs.items():
            if here != there:
                values = f': {here} and {there}' if isinstance(here, str | int) else ''
                raise UserError(
                    f'{base.workdir} and {run.workdir} cannot be compared: they do not share their {what}{values}. '
                    'Leave one of them out of --runs.'
                )
        told = {
            f'data.{field}': (getattr(one.settings, field), getattr(other.settings, field))
            for field in ('image_size', 'storage', 'quality')
        }
        told['number of training images'] = (one.examples('train'), other.examples('train'))
        notes += [
            f'{run.workdir} was trained on {there} ({what}), {base.workdir} on {here}.'
            for what, (here, there) in told.items()
            if here != there
        ]
    return notes


def measured(runs: Sequence[Standing]) -> tuple[Measurement, list[str]]:
    """The best measurement that all runs have, and for the user why there is no better one.

    eval.json is taken where all runs have one, of the same split and images, with ten views or else the center;
    otherwise the last validation of metrics.jsonl. The two are never mixed.
    """
    data = runs[0].data
    fallback = Measurement(
        'metrics.jsonl', 'center', images_of(data.settings.source), 'validation', data.examples('validation')
    )
    evaluated = [run for run in runs if run.evaluation]
    if not evaluated:
        return fallback, []
    missing = [run.workdir for run in runs if not run.evaluation]
    kinds = {
        (images_of(one.evaluation.source), one.evaluation.split, one.evaluation.examples): one.workdir
        for one in evaluated
    }
    views = [kind for kind in ('ten', 'center') if all(kind in run.evaluation.views for run in evaluated)]
    if missing:
        why = f'{missing[0]} has none (python launch.py --workdir={missing[0]} --mode=eval makes it)'
    elif len(kinds) > 1:
        told = [
            f'that of {one} is of {source}, {split}, {count:,} images' for (source, split, count), one in kinds.items()
        ]
        why = ', '.join(told)
    elif not views:
        why = 'they share no kind of view'
    else:
        (kind,) = kinds
        return Measurement('eval.json', views[0], *kind), []
    return fallback, [f'errors are of the last validation, center view, as not all have the same eval.json: {why}.']


def errors_of(run: Standing, measurement: Measurement) -> Errors:
    """A run's errors by the measurement that all runs have."""
    return run.last if measurement.file == 'metrics.jsonl' else run.evaluated[measurement.views]


def unfinished(runs: Sequence[Standing], measurement: Measurement) -> list[str]:
    """Notes on runs whose errors are not of their end."""
    notes = [
        f'{run.workdir} has not ended (epoch {run.epoch:.2f} of {run.config.epochs}); its errors are those so far.'
        for run in runs
        if not run.ended
    ]
    for run in runs:
        at = errors_of(run, measurement).step
        if measurement.file == 'eval.json' and at != run.step:
            notes.append(f'{run.workdir} was evaluated at step {at}, and has trained to step {run.step}.')
    return notes


def put_together(runs: Sequence[Standing], measurement: Measurement) -> list[Variant]:
    """Variants in the order in which they are first named, the base first.

    Where errors are of ten views, the base's center patch alone follows it, as the paper compares the two as well.

    Raises:
      UserError: two runs have the same config and the same seed.
    """
    groups: list[list[Standing]] = []
    for run in runs:
        group = next((group for group in groups if not _apart(group[0].config, run.config)), None)
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
    base = _spreads([errors_of(run, measurement) for run in groups[0]])
    named: dict[str, Config] = {}
    variants = []
    for group in groups:
        config = group[0].config
        first = named.setdefault(config.name, config)
        fields = [f'{field}={now!r:.40}' for field, _, now in _apart(first, config)]
        apart = ', '.join(
            fields[:_MOST_SHOWN] + ([f'{len(fields) - _MOST_SHOWN} more'] if fields[_MOST_SHOWN:] else [])
        )
        spreads = _spreads([errors_of(run, measurement) for run in group])
        family, _, change = config.name.rpartition(':')
        published = difference_for(family, change) if family == groups[0][0].config.name and not apart else None
        variants.append(_variant(f'{config.name}, {apart}' if apart else config.name, group, spreads, base, published))
        center = [run.evaluated.get('center') for run in group if measurement.views == 'ten']
        if group is groups[0] and center and all(center):
            name, published = f'{config.name}, center patch alone', difference_for(config.name, 'center_patch')
            variants.append(_variant(name, group, _spreads(center), base, published))
    return variants


def _apart(one: Config, other: Config) -> list[tuple[str, Any, Any]]:
    """The fields that make two configs two variants, with both values; their names first."""
    return [found for found in differences(one.fields(), other.fields()) if found[0] not in _SAME]


def _spreads(errors: Sequence[Errors]) -> tuple[Spread, Spread]:
    found = []
    for name in ('top1_error', 'top5_error'):
        values = [getattr(one, name) for one in errors]
        found.append(Spread(math.fsum(values) / len(values), min(values), max(values)))
    return found[0], found[1]


def _variant(
    name: str,
    group: Sequence[Standing],
    spreads: tuple[Spread, Spread],
    base: tuple[Spread, Spread],
    published: Difference | None,
) -> Variant:
    """One line of the comparison; `spreads` and `base` are of top-1 and top-5."""
    points = [100 * (here.mean - there.mean) for here, there in zip(spreads, base, strict=True)]
    most = collections.Counter(
        1 + run.colors.index(max(run.colors))
        for run in group
        if len(run.colors) > 1 and all(map(math.isfinite, run.colors))
    )
    return Variant(name, tuple(run.workdir for run in group), *spreads, *points, published, dict(sorted(most.items())))
