"""`--mode=profile`: the time of a training step by layer and by kind of operation.

WORKDIR/profile/plugins/profile/TIME/   the trace, for TensorBoard and Perfetto; each profile adds one
WORKDIR/profile/profile.json            the figures of the latest, as printed
"""

import collections
import contextlib
import dataclasses
import itertools
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from rich.console import Console

from alexnet_jax.commands import train
from alexnet_jax.commands.inspect import lowered_step, step_arguments
from alexnet_jax.commands.tables import add_row, new_table
from alexnet_jax.config import Config
from alexnet_jax.data.augment import Statistics, statistics_of
from alexnet_jax.data.device_feed import prefetch_to_devices, statistics_to_devices
from alexnet_jax.data.missing import is_embedded, is_prepared
from alexnet_jax.runs.build import Experiment, build, first_state, open_data
from alexnet_jax.runs.workdir import make_workdir
from alexnet_jax.runtime.errors import UserError, say, writing
from alexnet_jax.runtime.files import write_json
from alexnet_jax.runtime.trace import read_operations, time_shares
from alexnet_jax.training.attribution import EXCHANGES, OTHER, Origin, origins
from alexnet_jax.training.optimizer import layer_rates

DIRECTORY = 'profile'
_TRACES = 'plugins/profile/*/*.xplane.pb'  # where TensorBoard looks for them
_WARM_UP_STEPS = 3  # until batches are prefetched
_LONGEST = 10  # operations in the third table
_NO_DIRECTION = ('accumulation', EXCHANGES, 'update', OTHER)  # neither forward nor backward


@dataclasses.dataclass(frozen=True)
class Row:
    """An instruction of the compiled program, its milliseconds a step and its runs in a step."""

    name: str
    origin: Origin
    ms: float
    runs: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """A measurement of some steps; times are milliseconds a step, means over steps and devices.

    Attributes:
      ms: from the first operation's start to the last one's end.
      idle_ms: time in which a device did nothing.
      ms_without_profiler: measured just before.
      operations: all instructions that ran, the longest first.
    """

    steps: int
    ms: float
    idle_ms: float
    ms_without_profiler: float
    operations: tuple[Row, ...]

    def by_layer(self) -> dict[str, tuple[float, float]]:
        """Milliseconds of each layer, forward and backward."""
        found: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0])
        for row in self.operations:
            found[row.origin.layer][row.origin.backward] += row.ms
        return {layer: (forward, backward) for layer, (forward, backward) in found.items()}

    def by_kind(self) -> dict[str, float]:
        """Milliseconds of each kind of operation, the longest first."""
        found: dict[str, float] = collections.defaultdict(float)
        for row in self.operations:
            found[row.origin.kind] += row.ms
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def as_json(self) -> dict[str, Any]:
        """The content of profile.json."""
        layers = {name: {'forward_ms': ms[0], 'backward_ms': ms[1]} for name, ms in self.by_layer().items()}
        return {'layers': layers, 'kinds_ms': self.by_kind(), **dataclasses.asdict(self)}


def profile(config: Config, workdir: str, steps: int, console: Console) -> Profile:
    """Profiles the config's training step over some steps, prints tables, and writes `workdir`/profile.

    Raises:
      UserError: the config, the data set or the workdir cannot be used; the disk is full.
    """
    experiment = build(config)
    batches, statistics = _input(experiment, console)
    make_workdir(workdir)
    directory = pathlib.Path(workdir, DIRECTORY)
    with writing(directory):
        directory.mkdir(exist_ok=True)
    with console.status('compiling the training step'), _metadata_in_cache_key():
        program = lowered_step(experiment).compile()
    state = first_state(experiment)
    rates = layer_rates(state.parameters, config.learning_rate, 0.0, config.rate_control)

    def run(count: int) -> float:
        """Makes so many training steps; returns milliseconds a step."""
        nonlocal state
        start = time.perf_counter()
        for batch in itertools.islice(batches, count):
            state, metrics = program(state, batch, statistics, rates)
        jax.block_until_ready((state, metrics))
        return (time.perf_counter() - start) * 1e3 / count

    with console.status(f'making {_WARM_UP_STEPS + 2 * steps} steps'):
        run(_WARM_UP_STEPS)
        plain_ms = run(steps)
        path = _trace(directory, lambda: run(steps))
    found = _read_profile(path, program.as_text() or '', experiment, steps, plain_ms)
    write_json(directory / 'profile.json', found.as_json())
    _print(experiment, found, console)
    traces = ', '.join(map(str, path.parent.glob('*.trace.json.gz')))
    say(
        console,
        f'The trace: tensorboard --logdir={directory} (pip install tensorboard xprof), or open {traces} on '
        'https://ui.perfetto.dev.',
    )
    return found


def _input(experiment: Experiment, console: Console) -> tuple[Iterator[Any], Statistics]:
    """Batches and statistics on the devices: of the data set if it is there, else made up."""
    config, mesh = experiment.config.data, experiment.mesh
    if is_embedded(config) or is_prepared(config):
        data = open_data(experiment, console)
        batches = prefetch_to_devices(train.batches_of(experiment, data, 0), mesh)
        return batches, statistics_to_devices(statistics_of(data, config), mesh)
    say(console, f'There is no data set in {config.directory!r}: the profile is of batches that are made up.')
    _, shapes, constants, _ = step_arguments(experiment)
    size, random = config.image_size, np.random.default_rng(0)
    largest = {'image': 256, 'blend_image': 256, 'dropout_seed': 2**32}
    made = {name: random.integers(0, largest.get(name, 2), x.shape).astype(x.dtype) for name, x in shapes.items()}
    if size == config.crop_size:
        made |= {name: np.zeros_like(x) for name, x in made.items() if name.endswith(('top', 'left'))}
    batch = jax.tree.map(lambda x, where: jax.device_put(x, where.sharding), made, shapes)
    means: Statistics = jax.tree.map(lambda x: np.full(x.shape, 128, x.dtype), constants)
    statistics = means._replace(color_components=np.eye(3, dtype=np.float32))
    return itertools.repeat(batch), statistics_to_devices(statistics, mesh)


@contextlib.contextmanager
def _metadata_in_cache_key() -> Iterator[None]:
    """Keeps JAX from taking an equal program, but with other names of layers, from its cache."""
    option = 'jax_compilation_cache_include_metadata_in_key'
    before = getattr(jax.config, option)
    jax.config.update(option, True)
    try:
        yield
    finally:
        jax.config.update(option, before)


def _trace(directory: pathlib.Path, run: Callable[[], object]) -> pathlib.Path:
    """Profiles a function; returns the profile's file, or raises UserError where it cannot be written."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python's own functions would be most of the trace, and slow the steps
    before = set(directory.glob(_TRACES))
    jax.profiler.start_trace(directory, profiler_options=options)
    try:
        run()
    finally:
        try:
            jax.profiler.stop_trace()
        except jax.errors.JaxRuntimeError as error:
            for incomplete in set(directory.glob(_TRACES)) - before:
                shutil.rmtree(incomplete.parent)
            raise UserError(f'{directory} cannot be written: {error}.') from error
    (path,) = set(directory.glob(_TRACES)) - before
    return path


def _read_profile(path: pathlib.Path, text: str, experiment: Experiment, steps: int, plain_ms: float) -> Profile:
    """The profile in the trace of a program with this text; UserError if the backend does not report operations."""
    module = text.split(None, 2)[1].rstrip(',')
    where = origins(text, experiment.config.network)
    operations = [one for one in read_operations(path, module) if one.name in where]
    if not operations:
        raise UserError(f'{path} has no operations of {module}: this platform cannot be profiled by operation.')
    shares = time_shares(operations, lambda name: where[name].contains)
    ms = 1 / (1e6 * steps)  # of a step, for a nanosecond
    rows = [Row(name, where[name], share.time * ms, share.runs / steps) for name, share in shares.by_name.items()]
    rows.sort(key=lambda row: -row.ms)
    return Profile(steps, shares.total * ms, shares.idle * ms, plain_ms, tuple(rows))


def _print(experiment: Experiment, found: Profile, console: Console) -> None:
    config, mesh = experiment.config, experiment.mesh
    say(
        console,
        f'{config.name}: a training step of {config.batch_size} images in {config.precision} on {mesh.size} '
        f'{mesh.devices.flat[0].platform} device(s) took {found.ms:,.1f} ms, the mean of {found.steps}; '
        f'{found.ms_without_profiler:,.1f} ms without the profiler.\nShares are of the whole step: each moment is '
        'divided equally among the operations in progress. A fusion counts for the layer that it ends in.',
    )

    def cells(*times: float) -> list[str]:
        return [cell for ms in times for cell in ((f'{ms:,.2f}', f'{ms / found.ms:.1%}') if ms else ('', ''))]

    columns = ('forward, ms', 'share', 'backward, ms', 'share', 'both, ms', 'share')
    table = new_table('By layer', left=('layer',), right=columns)
    layers = found.by_layer()
    names = [name for name, _ in experiment.config.network]
    for layer in ('input', *names, 'loss', 'accumulation', EXCHANGES, 'update', OTHER):
        forward, backward = layers.get(layer, (0.0, 0.0))
        if both := forward + backward:
            add_row(table, layer, *cells(*((0, 0) if layer in _NO_DIRECTION else (forward, backward)), both))
    table.add_section()
    add_row(table, 'idle', *cells(0, 0, found.idle_ms))
    console.print(table)

    table = new_table('By kind of operation', left=('kind',), right=('ms', 'share'))
    for kind, ms in found.by_kind().items():
        add_row(table, kind, *cells(ms))
    console.print(table)

    left = ('layer', 'direction', 'kind', 'name in the compiled program')
    table = new_table(f'The {_LONGEST} longest operations', left=left, right=('times a step', 'ms a step', 'share'))
    for row in found.operations[:_LONGEST]:
        direction = 'backward' if row.origin.backward else '' if row.origin.layer in _NO_DIRECTION else 'forward'
        add_row(table, row.origin.layer, direction, row.origin.kind, row.name, f'{row.runs:g}', *cells(row.ms))
    console.print(table)
