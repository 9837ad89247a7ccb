"""A trained run, opened: its network and parameters on a mesh, and what it needs to look at images."""

import contextlib
import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jax import Array

from alexnet_jax.config import Config
from alexnet_jax.data.augment import Statistics, statistics_of
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.device_feed import statistics_to_devices
from alexnet_jax.evaluation.predictor import PredictionStep, Predictor, make_prediction_step
from alexnet_jax.model.alexnet import classes_of
from alexnet_jax.model.columns import EVERYWHERE, sharding
from alexnet_jax.runs.build import Experiment, build, state_shapes
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.runs.workdir import remembered_data
from alexnet_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained network and what it needs to look at images.

    Attributes:
      workdir: of the run.
      experiment: its config, network and mesh.
      progress: where training stood at the checkpoint.
      parameters: of the checkpoint, on the mesh.
      data: what the run remembers of its data set: everything but the images.
      statistics: of the training images, on the mesh.
    """

    workdir: str
    experiment: Experiment
    progress: Progress
    parameters: dict[str, dict[str, Array]]
    data: PreparedDataSet
    statistics: Statistics


def open_run(config: Config, workdir: str, which: str, say: Callable[[str], None] = print) -> Run:
    """Opens a run at one of its checkpoints.

    Args:
      config: the experiment that the run was made with; mesh and batch size may differ.
      workdir: of the run.
      which: 'newest', 'best' (by validation error), or the number of a step.
      say: tells the user of a damaged checkpoint, in whose place the one before is taken.

    Raises:
      UserError: the config does not make sense, or the run has no such checkpoint or is of another network.
    """
    experiment = build(config)
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        step = checkpoints.find(which)
        data = remembered_data(workdir)
        _check_fits(experiment, data)
        shapes, mesh = state_shapes(experiment), experiment.mesh
        if which == 'newest':
            state, progress = checkpoints.restore_newest(shapes, mesh, say)
        else:
            state, progress = checkpoints.restore(step, shapes, mesh)
    statistics = statistics_to_devices(statistics_of(data), experiment.mesh)
    return Run(workdir, experiment, progress, state.parameters, data, statistics)


def _check_fits(experiment: Experiment, data: PreparedDataSet) -> None:
    """Raises UserError where a run remembers another data set than its network can be for."""
    classes, crop_size = classes_of(experiment.config.network), experiment.config.data.crop_size
    if len(data.class_names) != classes:
        raise UserError(
            f'{data.directory} is of {len(data.class_names)} classes, the network of the config tells {classes} apart. '
            'Give the config that the run was made with (see config.json in its workdir).'
        )
    if data.image_size < crop_size:
        raise UserError(
            f'{data.directory} is of images of {data.image_size} pixels a side, config.data.crop_size={crop_size} is '
            'more. Give the config that the run was made with (see config.json in its workdir).'
        )


def prediction_step(experiment: Experiment, views: str) -> PredictionStep:
    """The jitted prediction of an experiment's network, as `make_prediction_step` describes it."""
    crop_size = experiment.config.data.crop_size
    return make_prediction_step(experiment.network, experiment.mesh, crop_size=crop_size, views=views)


def predictor(run: Run, views: str) -> Predictor:
    """The prediction of a trained network, for 'center' or 'ten' views."""
    return Predictor(prediction_step(run.experiment, views), run.parameters, run.statistics, run.experiment.mesh)


def first_kernels(experiment: Experiment, parameters: dict[str, dict[str, Array]]) -> np.ndarray:
    """The kernels that see the image, [columns, height, width, 3, kernels of a column], wherever they live."""
    name = next(name for name, _ in experiment.config.network if name in parameters)
    everywhere = sharding(experiment.mesh, EVERYWHERE)
    return np.asarray(jax.jit(lambda x: x, out_shardings=everywhere)(parameters[name]['kernel']))
