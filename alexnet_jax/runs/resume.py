"""Whether a run may carry on with a config that is not quite the one it began with."""

from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.runs.workdir import read_config, remembered_data
from alexnet_jax.runtime.errors import UserError

# What does not touch the result, or only how far the run goes and what it tells. A field stands for all below it.
HARMLESS = (
    'name',
    'epochs',
    'log_every_steps',
    'checkpoint_every_steps',
    'keep_checkpoints',
    'evaluation',
    'mesh',
    'accumulation_steps',
    'data.threads',
    'data.directory',
    'data.source_directory',
    'data.skip_broken',
    'data.images_per_shard',
)
# What the position in the data or the arrays of the checkpoint are made for.
FIXED = ('batch_size', 'columns', 'network')


def differences(before: dict[str, Any], now: dict[str, Any], path: str = '') -> Iterator[tuple[str, Any, Any]]:
    """Fields in which two configs differ: their path and both values, None where a config does not have the field."""
    if list(before) != list(now) and set(before) == set(now) and path.startswith('network'):
        yield path.rstrip('.'), ', '.join(before), ', '.join(now)  # the order of layers counts
    for name in [*before, *(name for name in now if name not in before)]:
        one, other = before.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from differences(one, other, f'{path}{name}.')
        elif _plain(one) != _plain(other):
            yield path + name, one, other


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _below(field: str, above: Sequence[str]) -> bool:
    return any(field == one or field.startswith(f'{one}.') for one in above)


def check_continuation(config: ConfigDict, data: PreparedDataSet, workdir: str, allowed: Sequence[str]) -> list[str]:
    """Compares with the config and the data set that a run began with.

    Args:
      config: the one to carry on with.
      data: the prepared data set to carry on with.
      workdir: of the run.
      allowed: fields that may change although they touch the result: --allow_changes.

    Returns:
      For the user: a line for each field that differs and does no harm, or was allowed.

    Raises:
      UserError: a field differs that must not, or the data set is another one.
    """
    lines = []
    for field, before, now in differences(read_config(workdir).to_dict(), config.to_dict()):
        text = f'config.{field}: {before!r} before, {now!r} now'
        if not _below(field, HARMLESS):
            if _below(field, FIXED):
                raise UserError(
                    f'{workdir} holds a run with another config. {text}; a run cannot carry on with that. Give the old '
                    'value, or another --workdir to begin anew.'
                )
            if not _below(field, allowed):
                raise UserError(
                    f'{workdir} holds a run with another config. {text}. Give the old value, or another --workdir to '
                    f'begin anew, or --allow_changes={field} to carry on with the new value all the same.'
                )
        lines.append(f'Carrying on with another value of {text}.')
    _check_same_data(remembered_data(workdir), data, workdir)
    return lines


def _check_same_data(before: PreparedDataSet, now: PreparedDataSet, workdir: str) -> None:
    """Raises UserError where the images are not those that the run began with."""
    for field in ('class_ids', 'shards', 'rgb_mean'):
        if getattr(before, field) != getattr(now, field):
            raise UserError(
                f'{now.directory} is not the data set that the run in {workdir} began with: {field} of its manifest '
                'differ. Name the old one with config.data.directory, or another --workdir to begin anew.'
            )
