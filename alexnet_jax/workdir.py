"""The directory of a run: its config, and what it remembers of the data set it was trained on.

WORKDIR/config.json                              every field that the run used
WORKDIR/data_set/manifest.json, mean_image.npy   as in the prepared data set: class names, mean, colour, checksums
"""

import json
import os
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data.prepared import MEAN_IMAGE, PreparedDataSet, open_prepared, write_manifest
from alexnet_jax.errors import UserError

CONFIG, DATA_SET = 'config.json', 'data_set'


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
    try:
        with replacement.open('w') as file:
            file.write(json.dumps(values, indent=1) + '\n')
            file.flush()
            os.fsync(file.fileno())
        replacement.replace(path)
    except OSError as error:
        replacement.unlink(missing_ok=True)
        raise UserError(f'{path} cannot be written: {error}.') from error


def write_config(config: ConfigDict, workdir: str) -> None:
    """Writes config.json: every field that the run uses."""
    write_json(pathlib.Path(workdir) / CONFIG, config.to_dict())


def read_config(workdir: str | pathlib.Path) -> ConfigDict:
    """The config that a run was made with.

    Raises:
      UserError: there is no config.json, or it is damaged.
    """
    path = pathlib.Path(workdir) / CONFIG
    try:
        fields = json.loads(path.read_bytes())
        if not isinstance(fields, dict):
            raise ValueError('it holds no fields')
    except OSError as error:
        raise UserError(
            f'{workdir} is not the directory of a run: {path} cannot be read ({error.strerror}).'
        ) from error
    except ValueError as error:
        raise UserError(f'{path} is damaged: {error}.') from error
    return _in_order(fields)


def _in_order(fields: dict[str, Any]) -> ConfigDict:
    """A config whose fields stay in the order given, at every depth: a network's layers come one after the other."""
    config = ConfigDict(sort_keys=False)
    for name, value in fields.items():
        config[name] = _in_order(value) if isinstance(value, dict) else value
    return config


def remember_data(data: PreparedDataSet, workdir: str) -> None:
    """Leaves with the run what it takes to use the network where the data set is not.

    Raises:
      UserError: it cannot be written, or the data set's mean image cannot be read.
    """
    directory, mean = pathlib.Path(workdir) / DATA_SET, data.mean_image()
    try:
        directory.mkdir(exist_ok=True)
        replacement = directory / f'{MEAN_IMAGE}.new'
        with replacement.open('wb') as file:
            np.save(file, mean)
        replacement.replace(directory / MEAN_IMAGE)
        write_manifest(data, directory)
    except OSError as error:
        raise UserError(f'{directory} cannot be written: {error}.') from error


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
