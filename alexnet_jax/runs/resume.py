"""Resuming a run: which fields of its config may differ from those that it began with."""

from collections.abc import Iterator, Sequence
from typing import Any

from alexnet_jax.config import Config, resume_rule
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.runs.workdir import read_config, remembered_data
from alexnet_jax.runtime.errors import UserError


def differences(before: dict[str, Any], now: dict[str, Any], path: str = '') -> Iterator[tuple[str, Any, Any]]:
    """Fields in which two configs differ: dotted name and both values, None where a config lacks the field.

    Args:
      before, now: nested fields, as `Config.fields` gives them.
      path: of both, with a trailing dot.
    """
    if list(before) != list(now) and set(before) == set(now):
        yield path.rstrip('.'), ', '.join(before), ', '.join(now)  # the order of layers counts
    for name in dict.fromkeys([*before, *now]):
        one, other = before.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from differences(one, other, f'{path}{name}.')
        elif one != other:
            yield path + name, one, other


def check_resume(config: Config, data: PreparedDataSet, workdir: str, allowed: Sequence[str]) -> list[str]:
    """Compares a config and a data set with those that a run began with.

    Args:
      config: the one to resume with.
      data: the prepared data set to resume with.
      workdir: of the run.
      allowed: fields, or sections of them, that may change although they change the result: --allow_changes.

    Returns:
      For the user, a line for each field that differs and may.

    Raises:
      UserError: a field differs that must not, or the data set is another one.
    """
    lines = []
    for field, before, now in differences(read_config(workdir).fields(), config.fields()):
        text = f'config.{field}: {before!r} before, {now!r} now'
        match resume_rule(field):
            case 'fixed':
                raise UserError(
                    f'{workdir} holds a run with another config. {text}; a run cannot resume with that. Give the old '
                    'value, or another --workdir to start a new run.'
                )
            case 'ask' if not any(field == one or field.startswith(f'{one}.') for one in allowed):
                raise UserError(
                    f'{workdir} holds a run with another config. {text}. Give the old value, or another --workdir to '
                    f'start a new run, or --allow_changes={field} to resume with the new value all the same.'
                )
        lines.append(f'Resuming with another value of {text}.')
    _check_same_data(remembered_data(workdir), data, workdir)
    return lines


def _check_same_data(before: PreparedDataSet, now: PreparedDataSet, workdir: str) -> None:
    """Raises UserError where the images are not those that the run began with."""
    for field in ('class_ids', 'shards', 'rgb_mean'):
        if getattr(before, field) != getattr(now, field):
            raise UserError(
                f'{now.directory} is not the data set that the run in {workdir} began with: {field} of the manifests '
                'differ. Name the old one with config.data.directory, or another --workdir to start a new run.'
            )
