"""From images to class probabilities (section 4.1): a trained network, one view or ten, on its mesh."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from alexnet_jax.config import Config

from alexnet_jax.data.augment import VIEWS, Statistics, statistics_of, view
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.model.alexnet import AlexNet, classes_of
from alexnet_jax.model.columns import DATA, EVERYWHERE, PER_COLUMN, PER_EXAMPLE, sharding
from alexnet_jax.runs.build import Experiment, build, state_shapes
from alexnet_jax.runs.checkpoint import Checkpoints, Progress
from alexnet_jax.runs.workdir import remembered_data
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.step import Batch, statistics_to_devices, to_devices

GUESSES = 5  # "the five labels considered most probable", as Figure 4 shows
PredictionStep = Callable[[Any, Batch, Statistics], dict[str, Array]]


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


def make_prediction_step(network: AlexNet, mesh: Mesh, *, crop_size: int, views: str) -> PredictionStep:
    """Builds the jitted prediction for one batch.

    "The network makes a prediction by extracting five 224 x 224 patches (the four corner patches and the
    center patch) as well as their horizontal reflections, and averaging the predictions made by the network's
    softmax layer on the ten patches."

    Args:
      network: with the columns as they live on a device of the mesh.
      mesh: of axes 'data' and 'column'.
      crop_size: height and width of a view, in pixels.
      views: 'center' or 'ten'.

    Returns:
      A function of (parameters, batch, statistics). It returns, on every device, 'log_probabilities', float32
      [batch, classes], the logarithm of the averaged softmax; and whatever the batch holds beside its 'image'.
    """

    def on_device(parameters: Any, batch: Batch, statistics: Statistics) -> dict[str, Array]:
        def log_probabilities(number: Array) -> Array:
            images = view(batch['image'], statistics, number, crop_size)
            return jax.nn.log_softmax(network.apply({'params': parameters}, images))

        each = lax.map(log_probabilities, jnp.arange(VIEWS[views]))
        averaged = jax.nn.logsumexp(each, axis=0) - np.log(VIEWS[views])
        beside = {name: values for name, values in batch.items() if name != 'image'}
        return gather_examples({**beside, 'log_probabilities': averaged})

    step = jax.shard_map(on_device, mesh=mesh, in_specs=(PER_COLUMN, PER_EXAMPLE, EVERYWHERE), out_specs=EVERYWHERE)
    return jax.jit(step)


def gather_examples(values: Any) -> Any:
    """Inside `jax.shard_map`: the whole batch's values on every device, [batch, ...]."""
    return jax.tree.map(lambda x: lax.all_gather(x, DATA, axis=0, tiled=True, to='invarying'), values)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A prediction step with what it is applied to.

    Attributes:
      step: as `make_prediction_step` makes it.
      parameters, statistics: on the devices of the mesh.
      mesh: where batches go.
    """

    step: PredictionStep
    parameters: dict[str, dict[str, Array]]
    statistics: Statistics
    mesh: Mesh

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Array]:
        """Predicts for a batch of the host's; the result may not have been computed yet."""
        return self.step(self.parameters, to_devices(batch, self.mesh), self.statistics)


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


def most_probable(log_probabilities: np.ndarray, count: int = GUESSES) -> list[tuple[int, float]]:
    """The labels of the most probable classes with their probabilities, the most probable first.

    Args:
      log_probabilities: [classes].
      count: how many, at most.
    """
    classes = np.argsort(-log_probabilities, kind='stable')[:count]
    return list(zip(classes.tolist(), np.exp(log_probabilities[classes]).tolist(), strict=True))
