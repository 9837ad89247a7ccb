"""The directory of a run: its config, and the description of its data set.

WORKDIR/config.json                              all fields of the run
WORKDIR/data_set/manifest.json, mean_image.npy   as in the prepared data set: class names, mean, color, checksums
WORKDIR/lock                                     held by the training process, which it names
WORKDIR/no_checkpoint_yet                        until the first one is on disk
WORKDIR/damaged_checkpoints                      checkpoints that were put aside; nothing deletes them
"""

import collections
import contextlib
import functools
import os
import pathlib
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_jax.config import Config, unknown_fields
from alexnet_jax.data.dataset import PreparedDataSet, open_prepared, write_description
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import UserError, writing
from alexnet_jax.runtime.files import read_json, write_bytes, write_json

CONFIG, DATA_SET, LOCK = 'config.json', 'data_set', 'lock'
ENSEMBLE = '--ensemble', 'runs/ensemble'  # the flag, and where its result might go
NO_CHECKPOINT_YET, DAMAGED = 'no_checkpoint_yet', 'damaged_checkpoints'


def has_checkpoint(workdir: str | pathlib.Path) -> bool:
    """Whether a run has a checkpoint, whole or not."""
    return bool(_checkpoints(workdir))


def _checkpoints(workdir: str | pathlib.Path) -> list[int]:
    return sorted(int(path.name) for path in (pathlib.Path(workdir) / 'checkpoints').glob('*') if path.name.isdecimal())


def check_checkpoint(workdir: str | pathlib.Path, which: str) -> None:
    """Raises UserError where a run has checkpoints, and none of that name: 'newest', 'best' or a step."""
    steps = _checkpoints(workdir)
    if steps and which not in ('newest', 'best', *map(str, steps)):
        raise no_such_checkpoint(pathlib.Path(workdir) / 'checkpoints', which, steps)


def no_such_checkpoint(directory: str | pathlib.Path, which: str, steps: Sequence[int]) -> UserError:
    """The error for a name that is none of the checkpoints in a directory."""
    return UserError(
        f'--checkpoint={which}: {directory} has none; take newest, best, or one of {", ".join(map(str, steps))}.'
    )


def check_runs(
    workdirs: Sequence[str], workdir: str | None, flag: str = '--runs', result: str = 'runs/comparison'
) -> None:
    """Finds what is wrong with a flag that names several runs.

    Args:
      workdirs: what the flag names.
      workdir: of the result, if it has one.
      flag: its name.
      result: a directory to suggest for the result.

    Raises:
      UserError: the flag does not name the directories of runs, each once, or --workdir is the directory of a run.
    """
    if not any(workdirs):
        first = ', the base first' if flag == '--runs' else ''
        raise UserError(f'{flag} is missing: directories of runs{first}, as in {flag}=runs/paper,runs/no_dropout.')
    if not all(workdirs):
        raise UserError(f'{flag}={",".join(workdirs)} has an empty name; take out the comma.')
    paths = collections.Counter(pathlib.Path(one).resolve() for one in workdirs)
    for one in workdirs:
        if paths[pathlib.Path(one).resolve()] > 1:
            raise UserError(f'{flag}={",".join(workdirs)} names {one} twice.')
        _read_fields(one)
    if workdir and ((pathlib.Path(workdir) / CONFIG).exists() or pathlib.Path(workdir).resolve() in paths):
        raise UserError(
            f'--workdir={workdir} is the directory of a run; with {flag}, name another one for the result, such as '
            f'--workdir={result}.'
        )


def make_workdir(workdir: str, flag: str = '--workdir') -> None:
    """Makes the directory of a run, or another that a flag names.

    Raises:
      UserError: it cannot be made or written to.
    """
    path = pathlib.Path(workdir)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f'{flag}={workdir} cannot be written: {error}. Name another one.') from error


def mark_begun(workdir: str) -> None:
    """Notes that the run has no checkpoint yet: what it leaves before the first one may be done again.

    Raises:
      UserError: it cannot be written.
    """
    write_bytes(pathlib.Path(workdir) / NO_CHECKPOINT_YET, b'')


def mark_saved(workdir: str) -> None:
    """Notes that the run has a checkpoint, so that it never starts at step 0 again without being told to.

    Raises:
      UserError: it cannot be written.
    """
    path = pathlib.Path(workdir) / NO_CHECKPOINT_YET
    with writing(path):
        path.unlink(missing_ok=True)


def write_config(config: Config, workdir: str) -> None:
    """Writes config.json: all fields of the run."""
    write_json(pathlib.Path(workdir) / CONFIG, config.fields())


def read_config(workdir: str | os.PathLike[str]) -> Config:
    """The config that a run was made with; fields that did not exist then have their defaults.

    Fields that this version does not have are ignored, with a warning.

    Raises:
      UserError: there is no config.json, or it is damaged or not a config.
    """
    path = pathlib.Path(workdir) / CONFIG
    fields = _read_fields(workdir)
    try:
        for name in unknown_fields(fields):
            *sections, last = name.split('.')
            del functools.reduce(lambda inside, section: inside[section], sections, fields)[last]
            warnings.warn(f'{path}: this version has no field {name!r}, and ignores it', stacklevel=2)
        return Config.from_fields(fields)
    except ValueError as error:
        raise UserError(f'{path} is damaged: {error}.') from error
    except UserError as error:
        raise UserError(f'{path}: {error}') from error


def _read_fields(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    path = pathlib.Path(workdir) / CONFIG
    try:
        fields = read_json(path)
    except OSError as error:
        raise UserError(
            f'{workdir} is not the directory of a run: {path} cannot be read ({error.strerror}).'
        ) from error
    except ValueError as error:
        raise UserError(f'{path} is damaged: {error}.') from error
    if not isinstance(fields, dict):
        raise UserError(f'{path} is damaged: it holds no fields.')
    return fields


def remember_data(data: PreparedDataSet, workdir: str, mean_image: np.ndarray) -> None:
    """Leaves with the run what it takes to use the network where the data set is not.

    Args:
      data: that it is trained on.
      workdir: of the run.
      mean_image: that is subtracted, float32 [size, size, 3] in 0..255.

    Raises:
      UserError: it cannot be written.
    """
    directory = pathlib.Path(workdir) / DATA_SET
    with writing(directory):
        directory.mkdir(exist_ok=True)
        write_description(data, mean_image, directory)


def remembered_data(workdir: str | pathlib.Path) -> PreparedDataSet:
    """What a run remembers of its data set: everything but the images.

    Raises:
      UserError: it remembers nothing, or that is damaged.
    """
    directory = pathlib.Path(workdir) / DATA_SET
    again = 'train with the same command, which writes it anew; a run that has ended is not trained further.'
    try:
        return open_prepared(directory, images=False, remedy=again if has_checkpoint(workdir) else 'get it anew.')
    except FileNotFoundError as error:
        raise UserError(
            f'{directory} is missing: the mean image and class names that {workdir} was trained with. To have it back, '
            f'{again if has_checkpoint(workdir) else "copy it from where the network came from."}'
        ) from error


def locked(workdir: str) -> contextlib.AbstractContextManager[None]:
    """Keeps a second process from training in the same workdir; the lock ends with the process.

    Raises:
      UserError: another process holds it; names host and process.
    """
    return files.locked(
        pathlib.Path(workdir) / LOCK,
        lambda holder: (
            f'--workdir={workdir} is in use by {holder}. Wait for its end, stop it, or name another --workdir.'
        ),
    )
