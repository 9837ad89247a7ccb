"""Fine-tuning (section 6): a network that begins with the parameters of another run, all but some layers of them."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from alexnet_jax.config import Config, PretrainedConfig
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.runs.build import Experiment, build
from alexnet_jax.runs.checksums import name_of
from alexnet_jax.runs.trained import open_run
from alexnet_jax.runs.workdir import DATA_SET, has_checkpoint, read_config, remembered_data
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.optimizer import matches
from alexnet_jax.training.step import TrainState


def check_pretrained(experiment: Experiment) -> None:
    """Compares a network with the run that it is to begin from, by their configs alone.

    Raises:
      UserError: there is no such run; a pattern of `new_layers` names no layer; or a parameter that is not to be new
        has another shape in the run, or does not exist there.
    """
    config = experiment.config.pretrained
    run = _config_of(experiment)
    if run.columns != experiment.config.columns:
        raise UserError(
            f'config.pretrained.workdir={config.workdir!r} is a run of {run.columns} column(s), config.columns is '
            f'{experiment.config.columns}; both must be the same.'
        )
    parameters = experiment.shapes.parameters
    for which in config.new_layers:
        if not isinstance(which, str) or not any(matches(name, which) for name in parameters):
            raise UserError(
                f'config.pretrained.new_layers: {which!r} matches no layer with parameters; there are '
                f'{", ".join(parameters)}.'
            )
    theirs = build(run).shapes.parameters
    for path, leaf in jax.tree_util.tree_leaves_with_path(_taken(parameters, config)):
        layer, array = (part.key for part in path)
        there = theirs.get(layer, {}).get(array)
        if there is None or there.shape != leaf.shape:
            found = f'is {list(there.shape)} there' if there else 'does not exist there'
            raise UserError(
                f'config.pretrained.workdir={config.workdir!r}: the parameter {name_of(path)} is {list(leaf.shape)} '
                f'here and {found}. Add {layer!r} to config.pretrained.new_layers to have it drawn anew, or take the '
                "run's config.network."
            )


def with_pretrained(experiment: Experiment, state: TrainState, say: Callable[[str], None]) -> TrainState:
    """Puts the parameters of the run that the config names in the place of those that were drawn.

    All layers are taken but those that `config.pretrained.new_layers` names; velocity begins at zero.

    Args:
      experiment: what is to be trained.
      state: before its first step.
      say: tells the user what was taken.

    Raises:
      UserError: see `check_pretrained`; or the run has no such checkpoint, or it is damaged.
    """
    check_pretrained(experiment)
    config = experiment.config.pretrained
    run = open_run(_config_of(experiment), config.workdir, config.checkpoint, say)
    taken = {layer: run.parameters[layer] for layer in _taken(state.parameters, config)}
    new = [layer for layer in state.parameters if layer not in taken]
    say(f'Began with {config.workdir}, step {run.progress.step}; new are: {", ".join(new) or "none"}.')
    return dataclasses.replace(state, parameters=state.parameters | taken)


def mean_image_of(config: Config, data: PreparedDataSet, workdir: str) -> np.ndarray:
    """The mean image that a run subtracts: of its data set or, by `config.pretrained.mean`, of the run it begins with.

    Args:
      config: of what is trained.
      data: that it is trained on.
      workdir: where it is trained; once it has a checkpoint, what it remembers counts.

    Returns:
      float32 [size, size, 3] in 0..255; where the other run's images have another size, the mean of each channel.

    Raises:
      UserError: it is missing or damaged.
    """
    if not config.pretrained.workdir or config.pretrained.mean == 'own':
        return data.mean_image()
    begun = has_checkpoint(workdir) and (pathlib.Path(workdir) / DATA_SET).exists()
    mean = remembered_data(workdir if begun else config.pretrained.workdir).mean_image()
    size = data.image_size
    return mean if len(mean) == size else np.broadcast_to(mean.mean((0, 1), np.float64), (size, size, 3)).astype('f4')


def _taken(parameters: dict[str, Any], config: PretrainedConfig) -> dict[str, Any]:
    return {
        layer: arrays
        for layer, arrays in parameters.items()
        if not any(matches(layer, which) for which in config.new_layers)
    }


def _config_of(experiment: Experiment) -> Config:
    """The config of the run, on this experiment's mesh."""
    own = experiment.config
    changes = {'mesh': own.mesh, 'batch_size': own.batch_size, 'accumulation_steps': 1}
    return read_config(own.pretrained.workdir).replace(**changes)
