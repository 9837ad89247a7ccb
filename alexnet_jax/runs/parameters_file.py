"""A trained network without its training: a workdir with its parameters in one file in place of checkpoints.

WORKDIR/config.json, WORKDIR/data_set        as in any run; see `workdir.py`
WORKDIR/parameters.safetensors               arrays by LAYER.ARRAY, the leading axis being the column

Every mode but training reads such a workdir, and fine-tuning begins from it. It is what comes with the software, and
what --mode=import and --mode=export write. Numbers may have half precision in the file, never in the network.
"""

import contextlib
import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from safetensors import SafetensorError
from safetensors.numpy import load, save

from alexnet_jax.config import Config
from alexnet_jax.data.dataset import PreparedDataSet, write_description
from alexnet_jax.model.alexnet import Parameters
from alexnet_jax.runs.progress import Progress
from alexnet_jax.runs.workdir import CONFIG, DATA_SET, make_workdir, write_config
from alexnet_jax.runtime.errors import UserError, writing
from alexnet_jax.runtime.files import open_regular, replace_file
from alexnet_jax.training.optimizer import RateControl
from alexnet_jax.training.step import state_sharding

PARAMETERS = 'parameters.safetensors'


def has_parameters_file(workdir: str | pathlib.Path) -> bool:
    """Whether a workdir holds a network without checkpoints."""
    place = pathlib.Path(workdir)
    return (place / PARAMETERS).exists() and not (place / 'checkpoints').is_dir()


def check_trainable(workdir: str | pathlib.Path) -> None:
    """Raises UserError where a workdir holds a network without checkpoints, as a run must not begin beside it."""
    if (pathlib.Path(workdir) / PARAMETERS).exists():
        raise UserError(
            f'{workdir} holds a trained network without checkpoints ({PARAMETERS}), so that training cannot resume. '
            f'To start from it, give another --workdir and --config=experiments/finetune.py:{workdir}.'
        )


def write_network(
    workdir: str,
    config: Config,
    data: PreparedDataSet,
    mean_image: np.ndarray,
    parameters: Mapping[str, Mapping[str, Any]],
    *,
    half: bool = False,
    step: int = 0,
    epoch: int = 0,
    flag: str = '--workdir',
) -> None:
    """Writes a workdir that holds a trained network alone.

    Args:
      workdir: which is made; must not hold a run or a network.
      config: of the network; its fields of training say how it was trained, where that is known.
      data: what the network must know of its data set: class names, image size, colors.
      mean_image: float32 [image_size, image_size, 3], 0..255.
      parameters: {layer: {array: float32 [columns, ...]}}.
      half: whether numbers are written in half precision (float16).
      step, epoch: how far it was trained; 0 where that is not known.
      flag: that has named the workdir, for messages.

    Raises:
      UserError: the workdir cannot be written, or holds something already; or a number is not finite in the file.
    """
    place = pathlib.Path(workdir)
    for name in (CONFIG, PARAMETERS, 'checkpoints'):
        if (place / name).exists():
            raise UserError(f'{flag}={workdir} holds {name} already; name a new directory.')
    kind = np.float16 if half else np.float32
    with np.errstate(over='ignore'):
        arrays = {
            f'{layer}.{array}': np.ascontiguousarray(values, np.float32).astype(kind, copy=False)
            for layer, arrays in parameters.items()
            for array, values in arrays.items()
        }
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise UserError(f'{name} has values that {np.dtype(kind).name} cannot hold; nothing was written.')
    facts = {'format': 'alexnet_jax', 'step': str(step), 'epoch': str(epoch), 'sha256': _digest(arrays)}
    content = save(arrays, facts)
    make_workdir(workdir, flag)
    with contextlib.ExitStack() as undone:  # where the disk is full
        for name in (PARAMETERS, CONFIG):
            undone.callback((place / name).unlink, missing_ok=True)
            undone.callback((place / f'{name}.new').unlink, missing_ok=True)
        if not (place / DATA_SET).exists():
            undone.callback(shutil.rmtree, place / DATA_SET, ignore_errors=True)
        with writing(place):
            (place / DATA_SET).mkdir(exist_ok=True)
            write_description(data, mean_image, place / DATA_SET)
            replace_file(place / PARAMETERS, content)
        write_config(config, workdir)
        undone.pop_all()


def read_network(workdir: str) -> tuple[dict[str, np.ndarray], int, int]:
    """Reads the arrays of a workdir that holds a network alone, by LAYER.ARRAY; and the step and the epoch they are of.

    Raises:
      UserError: the file is damaged or cannot be read, or is not one of ours.
    """
    path = pathlib.Path(workdir) / PARAMETERS
    arrays, facts = read_arrays(path)
    try:
        step, epoch = int(facts['step']), int(facts['epoch'])
        whole = facts['sha256'] == _digest(arrays)
    except (KeyError, ValueError) as error:
        raise UserError(f'{path} was not written by this software; --mode=import reads what others wrote.') from error
    if not whole:
        raise UserError(f'{path} is damaged: its arrays are not those that were saved. Take another copy.')
    return arrays, step, epoch


def network_to_devices(
    read: tuple[dict[str, np.ndarray], int, int], workdir: str, which: str, config: Config, like: Parameters, mesh: Mesh
) -> tuple[Parameters, Progress]:
    """Puts what `read_network` has read on a mesh, as float32.

    Args:
      read: by `read_network`.
      workdir: of the network.
      which: 'newest', 'best', or the step that the file says.
      config: of the network.
      like: shapes of the parameters.
      mesh: the devices.

    Raises:
      UserError: the arrays are of another network, or of another step.
    """
    path = pathlib.Path(workdir) / PARAMETERS
    arrays, step, epoch = read
    if which not in ('newest', 'best', str(step)):
        raise UserError(f'--checkpoint={which}: {path} is of step {step}; take newest.')
    found = {name: list(values.shape) for name, values in arrays.items()}
    wanted = {f'{layer}.{array}': list(x.shape) for layer, shapes in like.items() for array, x in shapes.items()}
    for name in [*wanted, *found]:
        if found.get(name) != wanted.get(name):
            there, here = (shapes.get(name, 'missing') for shapes in (found, wanted))
            raise UserError(f'{path} does not fit config.json beside it: {name} is {there}, not {here}.')
    wheres = state_sharding({'parameters': like}, mesh)['parameters']
    parameters = {
        layer: {
            array: jax.device_put(np.asarray(arrays[f'{layer}.{array}'], np.float32), wheres[layer][array])
            for array in shapes
        }
        for layer, shapes in like.items()
    }
    return parameters, Progress(step, epoch, RateControl(config.learning_rate))


def read_arrays(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a safetensors file of floating-point numbers of 16 or 32 bits.

    Returns:
      Arrays by name; and the texts of the header.

    Raises:
      UserError: it is missing or damaged, or the system refuses to read it; or it holds other types.
    """
    try:
        with open_regular(path) as file:
            content = file.read()
        arrays = load(content)
        facts = json.loads(content[8 : 8 + int.from_bytes(content[:8], 'little')]).get('__metadata__', {})
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from error
    except KeyError as error:  # of a type that NumPy does not have
        raise UserError(f'{path} holds numbers of type {error.args[0]}; only F32 and F16 can be read.') from error
    except (SafetensorError, ValueError) as error:
        raise UserError(f'{path} is damaged: {error}. Take another copy.') from error
    for name, values in arrays.items():
        if values.dtype not in (np.float16, np.float32):
            raise UserError(f'{path}: {name} is of type {values.dtype}; only float32 and float16 can be read.')
    return arrays, facts


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, shapes and numbers."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f'{name} {arrays[name].dtype} {arrays[name].shape}'.encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
