"""Memory, exchanges and computed time of a compiled GPU program."""

import dataclasses
import math
from collections.abc import Callable

import jax

from alexnet_jax.commands.inspect import lines_of
from alexnet_jax.model.columns import COLUMN, DATA
from alexnet_jax.model.compiled import collective_of, collectives
from alexnet_jax.model.layer_specs import Table as Layers
from alexnet_jax.runs.build import Experiment
from benchmarks.gpu_schedule import Kernel
from benchmarks.gpu_target import GPU

AHEAD = 2  # batches that wait on the device for their step, as in `device_feed.prefetch_to_devices`
EXCHANGE_SECONDS = 10e-6  # that an exchange takes however little it carries: the order of magnitude on one machine


@dataclasses.dataclass(frozen=True)
class Beside:
    """An exchange, and the kernels that run at the same time.

    Attributes:
      exchange: its start.
      axes: the mesh axes along which it joins devices.
      received: bytes that a device receives.
      kernels: those between its start and its end.
      takes, hidden: seconds of the exchange, and those that the kernels hide.
    """

    exchange: Kernel
    axes: tuple[str, ...]
    received: int
    kernels: list[Kernel]
    takes: float
    hidden: float


def names_of(table: Layers) -> frozenset[str]:
    """Named scopes of a compiled step."""
    return frozenset(name for name, _ in table) | {'input', 'logits', 'loss', 'update', 'accumulation'}


def seconds(kernel: Kernel, gpu: GPU, precision: str) -> float:
    """Lower bound of a kernel's time."""
    products = gpu.bfloat16 if precision == 'bfloat16' and gpu.bfloat16 else gpu.float32
    return kernel.times * max(kernel.moved / gpu.bandwidth, kernel.flops / products, kernel.vector / gpu.vector)


def kind_of(kernel: Kernel, table: Layers) -> str:
    """Kind of layer or operation that a kernel belongs to."""
    layer = {name: type(layer).__name__ for name, layer in table}.get(kernel.layer, kernel.layer)
    if kernel.of:
        return 'Exchange'
    return kernel.kind or {
        'Convolution': 'biases, casts and layouts of kernels',
        'Dense': 'biases, casts and layouts of kernels',
        '': 'other',
    }.get(layer, layer)


def expected(experiment: Experiment) -> tuple[int, int]:
    """Values that a column's device receives per image: forward, including the logits, and backward."""
    partners = experiment.mesh.shape[COLUMN]
    table = lines_of(experiment.config)
    met = sum(math.prod(line.output) for line in table if line.kind == 'Exchange') * (partners - 1) // partners
    count = experiment.config.columns
    logits = -(-table[-1].output[-1] // count) * count * (partners - 1) // partners  # what is rounded up is sent too
    return met + logits, met


def peak(statistics: object) -> int:
    """Bytes of device memory at the peak: arguments, results that do not alias them, and temporaries."""
    whole = statistics.argument_size_in_bytes + statistics.output_size_in_bytes + statistics.temp_size_in_bytes
    return whole - statistics.alias_size_in_bytes


def largest_batch(needs: Callable[[int], float], memory: float, tried: dict[int, float], unit: int) -> int:
    """The largest batch that fits, to within a sixteenth, by linear extrapolation that is then tried.

    Args:
      needs: bytes at a batch size.
      memory: bytes that there are.
      tried: bytes at two batch sizes or more; further tries are added.
      unit: of the batch sizes that are possible; those tried are multiples of it.

    Returns:
      The batch size, 0 where not even one unit fits.
    """
    tries = 0
    while True:
        fits = max((size for size in tried if tried[size] <= memory), default=0)
        fails = min((size for size in tried if tried[size] > memory and size > fits), default=None)
        nearer = max(unit, fits // 16 // unit * unit)
        if fails is not None and fails - fits <= nearer:
            return fits
        a, b = sorted(tried, key=lambda size: abs(tried[size] - memory))[:2]
        slope = (tried[b] - tried[a]) / (b - a)
        guess = int(a + (memory - tried[a]) / slope) // unit * unit if slope > 0 else 2 * max(tried)
        guess = max(guess, fits + nearer)
        if fails is not None:
            halfway = (fits + fails) // (2 * unit) * unit  # where a line will not do
            guess = min(guess, fails - unit) if tries < 5 else max(halfway, fits + unit)
        tried[guess], tries = needs(guess), tries + 1


def memory_of(experiment: Experiment, program: jax.stages.Compiled) -> dict[str, float]:
    """Bytes on a device: kept between steps, needed by a step, and with prefetched batches."""
    statistics, config = program.memory_analysis(), experiment.config
    batch = config.batch_size // experiment.mesh.shape[DATA] * config.data.crop_size**2 * 3
    whole = peak(statistics)
    return {
        'kept': statistics.alias_size_in_bytes,
        'given': statistics.argument_size_in_bytes - statistics.alias_size_in_bytes,
        'temporary': statistics.temp_size_in_bytes,
        'peak': whole,
        'in training': whole + AHEAD * batch,
    }


def overlaps(found: list[Kernel], experiment: Experiment, gpu: GPU) -> list[Beside]:
    """The exchanges between devices in the order of execution.

    Two at the same time are assumed to be as fast as each alone, and a kernel beside both hides both.
    """
    result = []
    for place, one in enumerate(found):
        between = collective_of(one.exchange, experiment.mesh) if one.exchange else None
        if between is None:
            continue
        end = next((i for i, other in enumerate(found) if other.opcode == 'done' and other.of == one.of), place)
        beside = [kernel for kernel in found[place + 1 : end] if not kernel.of]
        takes = one.times * (EXCHANGE_SECONDS + between.received / gpu.link)
        covered = min(takes, sum(seconds(kernel, gpu, experiment.config.precision) for kernel in beside))
        result.append(Beside(one, between.axes, between.received, beside, takes, covered))
    return result


def received_by_image(text: str, experiment: Experiment) -> tuple[float, float]:
    """Bytes that a column's device receives per image in a program: forward and backward."""
    images = experiment.config.batch_size // experiment.mesh.shape[DATA]
    sums = [0, 0]
    for one in collectives(text, experiment.mesh):
        if one.axes == (COLUMN,):
            sums['transpose(' in one.source] += one.received
    return sums[0] / images, sums[1] / images
