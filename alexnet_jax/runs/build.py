"""An experiment, built from its config: the network on its mesh, the first state, the training step, the data set."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.opening import open_data as open_prepared_data
from alexnet_jax.model.alexnet import AlexNet, classes_of, initial_parameters
from alexnet_jax.model.columns import COLUMN, DATA, check_batch, columns_on, make_mesh
from alexnet_jax.model.fft_convolution import cpu_convolution
from alexnet_jax.runtime.compiler_options import known_options
from alexnet_jax.runtime.devices import memory_of
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.optimizer import check_layer_rules
from alexnet_jax.training.step import Metrics, TrainState, initial_state, make_train_step, state_sharding

_PRECISIONS = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config and what it builds.

    Attributes:
      config: all fields.
      mesh: the devices, along 'data' and 'column'.
      network: with the columns that live on one device of the mesh.
      shapes: shapes and types of the training state.
    """

    config: Config
    mesh: Mesh
    network: AlexNet
    shapes: TrainState


def build(config: Config) -> Experiment:
    """Builds the network and the mesh of a config.

    Raises:
      UserError: a field does not fit the others, or the devices.
    """
    classes_of(config.network)
    mesh = make_mesh(config.columns, config.mesh.data, config.mesh.column)
    check_batch(config.batch_size, mesh)
    _check_micro_batches(config, mesh)
    convolve = cpu_convolution if mesh.devices.flat[0].platform == 'cpu' else None
    network = AlexNet(config.network, columns_on(mesh, config.columns), _PRECISIONS[config.precision], convolve)
    # Fails where the table does not fit its images or columns.
    shapes: TrainState = jax.eval_shape(lambda: _initial(config))
    check_layer_rules(config, shapes.parameters)
    needed = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes)) / mesh.shape[COLUMN]
    if needed > memory_of(jax.local_devices()[0]):
        raise UserError(
            f'config.network: parameters and velocity take {needed / 1e9:,.1f} GB, more than there is memory; make the '
            'network smaller.'
        )
    return Experiment(config, mesh, network, shapes)


def _check_micro_batches(config: Config, mesh: Mesh) -> None:
    """Raises UserError where a device's share of a batch is not divisible into equal micro-batches."""
    copies, parts = mesh.shape[DATA], config.accumulation_steps
    if config.batch_size % (copies * parts):
        raise UserError(
            f'config.accumulation_steps={parts}: config.batch_size={config.batch_size} must be divisible into {parts} '
            f"micro-batches on each of the {copies} device(s) along the mesh axis 'data'; take a batch_size that is a "
            f'multiple of {copies * parts}, or another number of micro-batches.'
        )


def _initial(config: Config) -> TrainState:
    return initial_state(initial_parameters(config.network, config.columns, config.data.crop_size, config.seed))


def first_state(experiment: Experiment) -> TrainState:
    """The state before the first step, on the mesh; the same values on any mesh."""
    where = state_sharding(experiment.shapes, experiment.mesh)
    # A program that runs once does not deserve all of the compiler's effort; the values are the same.
    on_cpu = experiment.mesh.devices.flat[0].platform == 'cpu'
    options = known_options({'xla_backend_optimization_level': 1}) if on_cpu else None
    state: TrainState = jax.jit(lambda: _initial(experiment.config), out_shardings=where, compiler_options=options)()
    return state


def training_step(experiment: Experiment) -> Callable[..., tuple[TrainState, Metrics]]:
    """The jitted training step, as `step.make_train_step` describes it."""
    config = experiment.config
    return make_train_step(
        experiment.network,
        experiment.mesh,
        batch_size=config.batch_size,
        accumulation_steps=config.accumulation_steps,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        decay_biases=config.decay_biases,
        layer_decays=config.layer_decays,
    )


def open_data(experiment: Experiment, console: Console) -> PreparedDataSet:
    """Opens the experiment's prepared data set, as `data.opening.open_data` does.

    Raises:
      UserError: as there; or it has another number of classes than the network.
    """
    data = open_prepared_data(experiment.config.data, console)
    network = experiment.config.network
    if len(data.class_names) != classes_of(network):
        raise UserError(
            f'{data.directory} has {len(data.class_names)} classes, the network has {classes_of(network)}; '
            f'set --config.network.{network[-1][0]}.units={len(data.class_names)}.'
        )
    return data
