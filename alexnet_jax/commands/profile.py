"""Where a training step's time goes, by layer and by kind of operation: `--mode=profile`.

WORKDIR/profile/plugins/profile/TIME/   the trace, for TensorBoard and Perfetto; each profile adds one
WORKDIR/profile/profile.json            the figures of the newest, as printed
"""

import collections
import contextlib
import dataclasses
import itertools
import pathlib
import shutil
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from alexnet_jax.commands import train
from alexnet_jax.commands.inspect import step_arguments
from alexnet_jax.config import Config
from alexnet_jax.data.augment import Statistics, statistics_of
from alexnet_jax.data.dataset import MANIFEST
from alexnet_jax.data.device_feed import prefetch_to_devices, statistics_to_devices
from alexnet_jax.data.sources import EMBEDDED
from alexnet_jax.runs.build import Experiment, build, first_state, open_data, training_step
from alexnet_jax.runs.workdir import make_workdir
from alexnet_jax.runtime.errors import UserError, say, writing
from alexnet_jax.runtime.files import write_json
from alexnet_jax.runtime.trace import Share, dealt, read_operations
from alexnet_jax.training.attribution import EXCHANGES, OTHER, Origin, origins
from alexnet_jax.training.optimizer import layer_rates

DIRECTORY = 'profile'
_TRACES = 'plugins/profile/*/*.xplane.pb'  # as TensorBoard expects them
_WARM_UP = 3  # steps, until the input runs ahead
_LONGEST = 10  # operations in the third table
_NEITHER = ('accumulation', EXCHANGES, 'update', OTHER)  # forward nor backward


@dataclasses.dataclass(frozen=True)
class Row:
    """An instruction of the program, and what it took of a step.

    Attributes:
      name: in the compiled program.
      origin: where it comes from.
      ms: milliseconds of a step, the mean of devices and steps.
      runs: how often it runs in a step.
    """

    name: str
    origin: Origin
    ms: float
    runs: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """What was measured.

    Attributes:
      steps: that were measured.
      ms: milliseconds a step, from the first operation's start to the last one's end.
      idle_ms: milliseconds a step in which a device did nothing.
      plain_ms: milliseconds a step took just before, without the profiler.
      rows: all instructions that ran, the longest first.
    """

    steps: int
    ms: float
    idle_ms: float
    plain_ms: float
    rows: tuple[Row, ...]

    def by_layer(self) -> dict[str, tuple[float, float]]:
        """Milliseconds of each layer, forward and backward."""
        found = collections.defaultdict(lambda: [0.0, 0.0])
        for row in self.rows:
            found[row.origin.layer][row.origin.backward] += row.ms
        return {layer: (forward, backward) for layer, (forward, backward) in found.items()}

    def by_kind(self) -> dict[str, float]:
        """Milliseconds of each kind of operation, the most first."""
        found = collections.Counter()
        for row in self.rows:
            found[row.origin.kind] += row.ms
        return dict(found.most_common())


def profile(config: Config, workdir: str, steps: int, console: Console) -> Profile:
    """Profiles the config's training step and prints where its time goes.

    Args:
      config: the experiment.
      workdir: the profile is left in its directory `profile`; nothing else there is touched.
      steps: to measure, with the profiler, and as many before without it.
      console: where it reports.

    Raises:
      UserError: the config, the data set or the workdir cannot be used; the disk is full.
    """
    experiment = build(config)
    batches, statistics = _input(experiment, console)
    make_workdir(workdir)
    directory = pathlib.Path(workdir, DIRECTORY)
    with writing(directory):
        directory.mkdir(exist_ok=True)
    with console.status('compiling the training step'), _own_names():
        program = training_step(experiment).lower(*step_arguments(experiment)).compile()
    state = first_state(experiment)
    rates = layer_rates(state.parameters, config.learning_rate, 0.0, config.rate_control)

    def run(count: int) -> float:
        """Makes so many steps, as training does; seconds."""
        nonlocal state
        start = time.perf_counter()
        for batch in itertools.islice(batches, count):
            state, metrics = program(state, batch, statistics, rates)
        jax.block_until_ready((state, metrics))
        return time.perf_counter() - start

    with console.status(f'making {_WARM_UP + 2 * steps} steps'):
        run(_WARM_UP)
        plain = run(steps) / steps
        with _traced(directory) as files:
            run(steps)
    (path,) = files
    text = program.as_text()
    found = _summary(path, text, origins(text, experiment.config.network), steps, plain)
    write_json(directory / 'profile.json', _as_json(found))
    _print(experiment, found, console)
    pictures = ', '.join(str(one) for one in path.parent.glob('*.trace.json.gz'))
    say(
        console,
        f'The trace: tensorboard --logdir={directory} (pip install tensorboard xprof), or open {pictures} on '
        'https://ui.perfetto.dev.',
    )
    return found


def _input(experiment: Experiment, console: Console) -> tuple[Iterator[Any], Statistics]:
    """Batches on the devices and statistics: of the data set where it is there, else made up."""
    config, mesh = experiment.config.data, experiment.mesh
    if config.source.split(':')[0] in EMBEDDED or pathlib.Path(config.directory, MANIFEST).exists():
        data = open_data(experiment, console)
        batches = prefetch_to_devices(train.batches_of(experiment, data, 0), mesh)
        return batches, statistics_to_devices(statistics_of(data, config.color_scale), mesh)
    say(console, f'There is no data set in {config.directory!r}: the profile is of batches that are made up.')
    _, shapes, *_ = step_arguments(experiment)
    size, random = config.image_size, np.random.default_rng(0)
    made = {name: random.integers(0, 2, x.shape).astype(x.dtype) for name, x in shapes.items()}
    made['image'] = random.integers(0, 256, shapes['image'].shape, np.uint8)
    made['dropout_seed'] = random.integers(0, 2**32, shapes['dropout_seed'].shape, np.uint32)
    if size == config.crop_size:
        made['top'], made['left'] = np.zeros_like(made['top']), np.zeros_like(made['left'])
    batch = jax.tree.map(lambda x, where: jax.device_put(x, where.sharding), made, shapes)
    statistics = Statistics(np.full((size, size, 3), 128, np.float32), np.eye(3, dtype=np.float32))
    return itertools.repeat(batch), statistics_to_devices(statistics, mesh)


@contextlib.contextmanager
def _own_names() -> Iterator[None]:
    """Keeps JAX from taking an equal program from its cache whose layers have other names."""
    before = jax.config.jax_compilation_cache_include_metadata_in_key
    jax.config.update('jax_compilation_cache_include_metadata_in_key', True)
    try:
        yield
    finally:
        jax.config.update('jax_compilation_cache_include_metadata_in_key', before)


@contextlib.contextmanager
def _traced(directory: pathlib.Path) -> Iterator[list[pathlib.Path]]:
    """Profiles what runs inside; the list given holds the file of the profile afterwards.

    Raises:
      UserError: the profile cannot be written.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python's own functions would be most of the trace, and slow the steps
    before = set(directory.glob(_TRACES))
    files: list[pathlib.Path] = []
    jax.profiler.start_trace(directory, profiler_options=options)
    try:
        yield files
    finally:
        try:
            jax.profiler.stop_trace()
        except jax.errors.JaxRuntimeError as error:
            for half in set(directory.glob(_TRACES)) - before:
                shutil.rmtree(half.parent)
            raise UserError(f'{directory} cannot be written: {error}.') from error
    files.extend(set(directory.glob(_TRACES)) - before)


def _summary(path: pathlib.Path, text: str, where: dict[str, Origin], steps: int, plain: float) -> Profile:
    """The profile in a trace of a program with this text.

    Raises:
      UserError: the trace has none of the program's operations, as on a backend that does not tell them.
    """
    module = text.split(None, 2)[1].rstrip(',')
    operations = [one for one in read_operations(path, module) if one.name in where]
    if not operations:
        raise UserError(f'{path} tells no operations of {module}: this platform cannot be profiled by operation.')
    shares, idle, whole = dealt(operations, lambda name: where[name].contains)
    part = 1e6 * steps
    rows = sorted((_row(name, where[name], share, part, steps) for name, share in shares.items()), key=lambda r: -r.ms)
    return Profile(steps, whole / part, idle / part, plain * 1e3, tuple(rows))


def _row(name: str, origin: Origin, share: Share, part: float, steps: int) -> Row:
    return Row(name, origin, share.time / part, share.runs / steps)


def _as_json(found: Profile) -> dict[str, Any]:
    layers = found.by_layer().items()
    return {
        'steps': found.steps,
        'ms': found.ms,
        'idle_ms': found.idle_ms,
        'ms_without_profiler': found.plain_ms,
        'layers': {layer: {'forward_ms': forward, 'backward_ms': backward} for layer, (forward, backward) in layers},
        'kinds_ms': found.by_kind(),
        'operations': [dataclasses.asdict(row) for row in found.rows],
    }


def _print(experiment: Experiment, found: Profile, console: Console) -> None:
    config, mesh = experiment.config, experiment.mesh
    say(
        console,
        f'{config.name}: a training step of {config.batch_size} images in {config.precision} on {mesh.size} '
        f'{mesh.devices.flat[0].platform} device(s) took {found.ms:,.1f} ms, the mean of {found.steps}; '
        f'{found.plain_ms:,.1f} ms without the profiler.\nShares are of the whole step: each moment goes in equal '
        'parts to the operations in progress. A fusion counts for the layer that it ends in.',
    )
    table = Table(title='By layer', box=SIMPLE_HEAD)
    table.add_column('layer')
    for column in ('forward, ms', 'share', 'backward, ms', 'share', 'both, ms', 'share'):
        table.add_column(column, justify='right')
    layers = found.by_layer()
    order = [
        'input',
        *(name for name, _ in experiment.config.network),
        'loss',
        'accumulation',
        EXCHANGES,
        'update',
        OTHER,
    ]
    for layer in order:
        if sum(layers.get(layer, ())):
            forward, backward = [0, 0] if layer in _NEITHER else layers[layer]
            table.add_row(layer, *_cells(found, forward), *_cells(found, backward), *_cells(found, sum(layers[layer])))
    table.add_section()
    table.add_row('nothing in progress', '', '', '', '', *_cells(found, found.idle_ms))
    console.print(table)

    table = Table(title='By kind of operation', box=SIMPLE_HEAD)
    table.add_column('kind')
    for column in ('ms', 'share'):
        table.add_column(column, justify='right')
    for kind, ms in found.by_kind().items():
        table.add_row(kind, *_cells(found, ms))
    console.print(table)

    table = Table(title=f'The {_LONGEST} operations that take longest', box=SIMPLE_HEAD)
    for column in ('layer', 'direction', 'kind', 'name in the compiled program'):
        table.add_column(column)
    for column in ('times a step', 'ms a step', 'share'):
        table.add_column(column, justify='right')
    for row in found.rows[:_LONGEST]:
        direction = 'backward' if row.origin.backward else 'forward' if row.origin.layer not in _NEITHER else ''
        table.add_row(row.origin.layer, direction, row.origin.kind, row.name, f'{row.runs:g}', *_cells(found, row.ms))
    console.print(table)


def _cells(found: Profile, ms: float) -> tuple[str, str]:
    return (f'{ms:,.2f}', f'{ms / found.ms:.1%}') if ms else ('', '')
