"""What a config describes, checked and built: the network on its mesh, and the data set it is for."""

import dataclasses
import math
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.console import Console

from alexnet_jax.data.augment import VIEWS
from alexnet_jax.data.dataset import MANIFEST, PreparedDataSet, Settings, open_prepared
from alexnet_jax.data.records import STORAGE
from alexnet_jax.data.sources import EMBEDDED, how_to_get, open_source
from alexnet_jax.model.alexnet import AlexNet, classes_of, initial_parameters
from alexnet_jax.model.columns import COLUMN, DATA, check_batch, columns_on, make_mesh
from alexnet_jax.model.fft_convolution import cpu_convolution
from alexnet_jax.model.layer_specs import Table, from_config
from alexnet_jax.runs.fields import check_types
from alexnet_jax.runtime.devices import memory_of
from alexnet_jax.runtime.distributed import leader_first
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.training.layer_rates import check_rules
from alexnet_jax.training.optimizer import check_schedule
from alexnet_jax.training.step import Metrics, TrainState, initial_state, make_train_step, state_sharding

# Beyond these nothing could be meant, and much memory would be asked for before it is found out.
_MOST = {'batch_size': 2**16, 'columns': 2**10, 'data.image_size': 2**12, 'data.threads': 2**10}
_PRECISIONS = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config, and what it builds.

    Attributes:
      config: every field in force.
      table: the network's layers.
      mesh: the devices, along 'data' and 'column'.
      network: as it runs on one device of the mesh.
    """

    config: ConfigDict
    table: Table
    mesh: Mesh
    network: AlexNet


def build(config: ConfigDict) -> Experiment:
    """Checks a config and builds its network and mesh.

    Raises:
      UserError: a field does not make sense, or does not fit the devices.
    """
    check(config)
    table = from_config(config.network)
    classes_of(table)
    mesh = make_mesh(config.columns, config.mesh.data, config.mesh.column)
    check_batch(config.batch_size, mesh)
    _check_parts(config, mesh)
    convolve = cpu_convolution if mesh.devices.flat[0].platform == 'cpu' else None
    network = AlexNet(table, columns_on(mesh, config.columns), _PRECISIONS[config.precision], convolve)
    experiment = Experiment(config, table, mesh, network)
    shapes = state_shapes(experiment)  # a table that does not fit its images or columns is found out here
    check_rules(config.rate_control, shapes.parameters)
    needed = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes)) / mesh.shape[COLUMN]
    if needed > memory_of(jax.local_devices()[0]):
        raise UserError(
            f'config.network: parameters and velocity take {needed / 1e9:,.1f} GB, more than there is memory; make the '
            'network smaller.'
        )
    return experiment


def check(config: ConfigDict) -> None:
    """Raises UserError for fields that no network, mesh or data set could make sense of."""
    check_types(config)
    for field, most in _MOST.items():
        if _get(config, field) > most:
            raise UserError(f'config.{field}={_get(config, field)} must be at most {most:,}.')
    if len(config.network) > 1000:
        raise UserError(f'config.network has {len(config.network):,} layers; at most 1,000 can be had.')
    positive = [
        'batch_size',
        'accumulation_steps',
        'epochs',
        'log_every_steps',
        'checkpoint_every_steps',
        'keep_checkpoints',
        'data.image_size',
        'data.crop_size',
        'data.images_per_shard',
        'rate_control.patience',
        'rate_control.divide_by',
    ]
    for field in positive:
        if _get(config, field) <= 0:
            raise UserError(f'config.{field}={_get(config, field)} must be above 0.')
    for field in [
        'learning_rate',
        'momentum',
        'weight_decay',
        'data.color_std',
        'rate_control.tolerance',
        'rate_control.drops',
        'data.threads',
        'data.color_epochs',
    ]:
        if not 0 <= _get(config, field) < float('inf'):
            raise UserError(f'config.{field}={_get(config, field)} must be a finite number, at least 0.')
    if not 0 <= config.seed < 2**32:
        raise UserError(f'config.seed={config.seed} must be from 0 to {2**32 - 1}.')
    if config.precision not in _PRECISIONS:
        raise UserError(f'config.precision={config.precision!r} is not known; take {" or ".join(_PRECISIONS)}.')
    if config.data.crop_size > config.data.image_size:
        raise UserError(
            f'config.data.crop_size={config.data.crop_size} is larger than '
            f'config.data.image_size={config.data.image_size}.'
        )
    if config.data.storage not in STORAGE:
        raise UserError(f'config.data.storage={config.data.storage!r} is not known; take {" or ".join(STORAGE)}.')
    if config.data.color_scale not in ('deviation', 'eigenvalue'):
        raise UserError(f'config.data.color_scale={config.data.color_scale!r}: take deviation or eigenvalue.')
    if not 1 <= config.data.quality <= 100:
        raise UserError(f'config.data.quality={config.data.quality} must be from 1 to 100.')
    for views in config.evaluation.views:
        if views not in VIEWS:
            raise UserError(f'config.evaluation.views: {views!r} is not known; known are {", ".join(VIEWS)}.')
    check_schedule(config.rate_control.schedule)


def _check_parts(config: ConfigDict, mesh: Mesh) -> None:
    """Raises UserError where a device's share of a batch cannot be taken in equal parts."""
    copies, parts = mesh.shape[DATA], config.accumulation_steps
    if config.batch_size % (copies * parts):
        raise UserError(
            f'config.accumulation_steps={parts}: config.batch_size={config.batch_size} cannot be taken in {parts} '
            f"equal parts on each of the {copies} device(s) along the mesh axis 'data'; take a batch_size that is a "
            f'multiple of {copies * parts}, or another number of parts.'
        )


def _get(config: ConfigDict, field: str):
    for part in field.split('.'):
        config = config[part]
    return config


def _initial(experiment: Experiment) -> TrainState:
    config = experiment.config
    return initial_state(initial_parameters(experiment.table, config.columns, config.data.crop_size, config.seed))


def state_shapes(experiment: Experiment) -> TrainState:
    """Shapes and types of the training state."""
    return jax.eval_shape(lambda: _initial(experiment))


def first_state(experiment: Experiment) -> TrainState:
    """The state before the first step, on the mesh; the same values whatever the mesh."""
    where = state_sharding(state_shapes(experiment), experiment.mesh)
    # A program that runs once is not worth the compiler's every effort, a quarter of which gives the same values.
    on_cpu = experiment.mesh.devices.flat[0].platform == 'cpu'
    options = {'xla_backend_optimization_level': 1} if on_cpu else None
    return jax.jit(lambda: _initial(experiment), out_shardings=where, compiler_options=options)()


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
    )


def open_data(experiment: Experiment, console: Console) -> PreparedDataSet:
    """Opens the prepared data set that the config names, and makes it first where its source is embedded.

    Raises:
      UserError: it is missing, damaged, made with other settings, or of another number of classes.
    """
    config = experiment.config.data
    with leader_first('data'):
        try:
            data = open_prepared(config.directory)
        except FileNotFoundError as error:
            if config.source.split(':')[0] not in EMBEDDED:
                raise UserError(missing_data_message(config)) from error
            data = prepare_data(config, console)
    _check_settings(data, config)
    classes = classes_of(experiment.table)
    if len(data.class_names) != classes:
        name = experiment.table[-1][0]
        raise UserError(
            f'{data.directory} has {len(data.class_names)} classes, the network tells {classes} apart; '
            f'set --config.network.{name}.units={len(data.class_names)}.'
        )
    return data


def settings_of(config: ConfigDict) -> Settings:
    """What the config's data set is prepared with."""
    return Settings(
        source=config.source,
        image_size=config.image_size,
        storage=config.storage,
        quality=config.quality,
        images_per_shard=config.images_per_shard,
    )


def _check_settings(data: PreparedDataSet, config: ConfigDict) -> None:
    """Raises UserError where a data set was prepared with other settings than the config's."""
    wanted = settings_of(config)
    for field in ('source', 'image_size', 'storage') + (('quality',) if config.storage == 'jpeg' else ()):
        found = getattr(data.settings, field)
        if found != getattr(wanted, field):
            raise UserError(
                f'{data.directory} was prepared with {field}={found!r}, the config says '
                f'config.data.{field}={config[field]!r}; name another config.data.directory, or delete it and prepare '
                'it again (--mode=prepare).'
            )


def prepare_data(config: ConfigDict, console: Console) -> PreparedDataSet:
    """Prepares the data set that an experiment's `data` names: `--mode=prepare`.

    Raises:
      UserError: the source is missing or damaged, or the directory cannot be written.
    """
    from alexnet_jax.data.prepare import prepare

    try:
        there = (pathlib.Path(config.directory) / MANIFEST).exists()
    except (OSError, ValueError) as error:
        raise UserError(f'config.data.directory={config.directory!r} cannot be used: {error}.') from error
    if there:
        data = open_prepared(config.directory)
        _check_settings(data, config)
        say(console, f'{data.directory} is prepared already.')
        return data
    source = open_source(config.source, config.source_directory)
    data = prepare(source, settings_of(config), config.directory, console, skip_broken=config.skip_broken)
    counts = ', '.join(f'{data.examples(split):,} {split}' for split in data.shards)
    left_out = f'; {data.left_out:,} broken ones left out' if data.left_out else ''
    say(console, f'Prepared {data.directory}: {counts} images{left_out}.')
    return data


def missing_data_message(config: ConfigDict) -> str:
    """What to get, where to put it, and what to run instead right now."""
    return (
        f'there is no prepared data set in {config.directory!r} (config.data.directory).\n'
        f'To make it: {how_to_get(config.source, config.source_directory)} (config.data.source_directory), and run the '
        'same command with --mode=prepare.\n'
        'To train right now, on images that come with scikit-learn:\n'
        '  python launch.py --workdir=runs/digits --config=experiments/digits.py'
    )
