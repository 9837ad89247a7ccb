"""The directory of a run: its config, and what it remembers of the data set it was trained on.

WORKDIR/config.json                              every field that the run used
WORKDIR/data_set/manifest.json, mean_image.npy   as in the prepared data set: class names, mean, color, checksums
WORKDIR/lock                                     held by the process that trains, which it names
"""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from alexnet_jax.config import Config
from alexnet_jax.data.dataset import MEAN_IMAGE, PreparedDataSet, open_prepared, write_manifest
from alexnet_jax.runtime.errors import UserError, writing
from alexnet_jax.runtime.files import read_json

CONFIG, DATA_SET, LOCK = 'config.json', 'data_set', 'lock'


def make_workdir(workdir: str) -> None:
    """Makes the directory of a run.

    Raises:
      UserError: it cannot be made or written to.
    """
    path = pathlib.Path(workdir)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / '.writable'
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f'--workdir={workdir} cannot be written: {error}. Name another one.') from error


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    replacement = path.with_name(path.name + '.new')
    with writing(path):
        replacement.unlink(missing_ok=True)  # whatever it may be: a pipe, or a link that leads elsewhere
        with replacement.open('w') as file:
            file.write(json.dumps(values, indent=1) + '\n')
            file.flush()
            os.fsync(file.fileno())
        replacement.replace(path)


def write_config(config: Config, workdir: str) -> None:
    """Writes config.json: all fields of the run."""
    write_json(pathlib.Path(workdir) / CONFIG, config.fields())


def read_config(workdir: str | pathlib.Path) -> Config:
    """The config that a run was made with; fields that did not exist then have their defaults.

    Raises:
      UserError: there is no config.json, or it is damaged or not a config.
    """
    path = pathlib.Path(workdir) / CONFIG
    try:
        fields = read_json(path)
        if not isinstance(fields, dict):
            raise ValueError('it holds no fields')
        return Config.from_fields(fields)
    except OSError as error:
        raise UserError(
            f'{workdir} is not the directory of a run: {path} cannot be read ({error.strerror}).'
        ) from error
    except ValueError as error:
        raise UserError(f'{path} is damaged: {error}.') from error
    except UserError as error:
        raise UserError(f'{path}: {error}') from error


def remember_data(data: PreparedDataSet, workdir: str) -> None:
    """Leaves with the run what it takes to use the network where the data set is not.

    Raises:
      UserError: it cannot be written, or the data set's mean image cannot be read.
    """
    directory, mean = pathlib.Path(workdir) / DATA_SET, data.mean_image()
    with writing(directory):
        directory.mkdir(exist_ok=True)
        replacement = directory / f'{MEAN_IMAGE}.new'
        replacement.unlink(missing_ok=True)
        with replacement.open('wb') as file:
            np.save(file, mean)
        replacement.replace(directory / MEAN_IMAGE)
        write_manifest(data, directory)


def remembered_data(workdir: str | pathlib.Path) -> PreparedDataSet:
    """What a run remembers of its data set: everything but the images.

    Raises:
      UserError: it remembers nothing, or that is damaged.
    """
    directory = pathlib.Path(workdir) / DATA_SET
    try:
        return open_prepared(directory, images=False)
    except FileNotFoundError as error:
        raise UserError(
            f'{directory} is missing: the mean image and class names that {workdir} was trained with. '
            'Train again with the same command; a run that has ended only writes what is missing.'
        ) from error


@contextlib.contextmanager
def locked(workdir: str) -> Iterator[None]:
    """Keeps a second process from training in the same workdir; the lock ends with the process, however it ends.

    Raises:
      UserError: another process holds it; names host and process.
    """
    path = pathlib.Path(workdir) / LOCK
    with writing(path):
        file = path.open('a+')
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise UserError(
                f'--workdir={workdir} is in use by {file.read().strip() or "another process"}. Wait for its end, stop '
                'it, or name another --workdir.'
            ) from error
        with writing(path):
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}, since {time.strftime("%Y-%m-%d %H:%M:%S")}\n')
            file.flush()
        try:
            yield
        finally:
            file.truncate(0)
