"""Resuming a run: which fields of its config may differ from those that it began with."""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from alexnet_jax.config import Config, Resume, resume_rule
from alexnet_jax.data.dataset import MANIFEST, PreparedDataSet
from alexnet_jax.data.sources.published import images_of
from alexnet_jax.runs.eval_json import EVAL_JSON
from alexnet_jax.runs.metrics_log import METRICS_LOG, last_step
from alexnet_jax.runs.workdir import CONFIG, DAMAGED, DATA_SET, NO_CHECKPOINT_YET, read_config, remembered_data
from alexnet_jax.runtime.errors import UserError, writing
from alexnet_jax.runtime.files import unused


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


def check_start(workdir: str, from_start: bool, say: Callable[[str], None]) -> None:
    """Refuses to start at step 0 where a run has been that had a checkpoint and now has none.

    Args:
      workdir: that holds no checkpoint.
      from_start: whether to start all the same: --from_start. What the earlier run tells of itself is then kept under
        other names, so that nothing of it passes for the new run's.
      say: told of that.

    Raises:
      UserError: there are checkpoints that were put aside, or metrics.jsonl has lines; or a file cannot be renamed.
    """
    place = pathlib.Path(workdir)
    if (place / NO_CHECKPOINT_YET).exists():  # it was stopped before its first checkpoint
        return
    aside, log, step = place / DAMAGED, place / METRICS_LOG, last_step(workdir)
    found = [f'{aside} holds checkpoints that were put aside'] if aside.is_dir() and any(aside.iterdir()) else []
    found += [f'{log} goes to step {step}'] if step else []
    if found and not from_start:
        raise UserError(
            f'{workdir} holds no checkpoint to resume from, but a run that had some: {" and ".join(found)}. Bring a '
            f'checkpoint back to {place / "checkpoints"}; or give --from_start to train from step 0 (nothing of the '
            'earlier run is deleted), or another --workdir.'
        )
    if found:
        for path in (log, place / EVAL_JSON, place / CONFIG, place / DATA_SET):
            if path.exists():
                kept = unused(path.with_stem(f'{path.stem}_before'))
                with writing(path):
                    path.rename(kept)
                say(f'{path.name} of the earlier run is kept as {kept}.')


def rate_given(config: Config, workdir: str, before: float | None) -> bool:
    """Whether a config's learning rate is another one than a checkpoint's control has come from.

    Args:
      config: the one to resume with.
      workdir: of the run.
      before: the checkpoint's `configured_rate`; None stands for that of the run's config.json.
    """
    return config.learning_rate != (read_config(workdir).learning_rate if before is None else before)


def is_asked_for(config: Config, workdir: str) -> bool:
    """Whether a config differs from a run's config.json in what changes the result."""
    changes = differences(read_config(workdir).fields(), config.fields())
    return any(_rule(*change) != 'free' for change in changes)


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
        match _rule(field, before, now):
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
    if (pathlib.Path(workdir) / DATA_SET / MANIFEST).exists():
        _check_same_data(remembered_data(workdir), data, workdir)
    else:
        lines.append(
            f'{pathlib.Path(workdir) / DATA_SET / MANIFEST} is missing: {data.directory} cannot be compared with the '
            'images that the run began with.'
        )
    return lines


def _rule(field: str, before: Any, now: Any) -> Resume:
    """Whether a field may change to this value; another source of the same images changes nothing."""
    return 'free' if field == 'data.source' and images_of(before) == images_of(now) else resume_rule(field)


def _check_same_data(before: PreparedDataSet, now: PreparedDataSet, workdir: str) -> None:
    """Raises UserError where the images are not those that the run began with."""
    for field in ('class_ids', 'shards', 'rgb_mean'):
        if getattr(before, field) != getattr(now, field):
            raise UserError(
                f'{now.directory} is not the data set that the run in {workdir} began with: {field} of the manifests '
                'differ. Name the old one with config.data.directory, or another --workdir to start a new run.'
            )
