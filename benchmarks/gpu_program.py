"""The training step compiled for GPUs, which need not be present: memory, exchanges, and bytes moved by kernels.

    python -m benchmarks.gpu_program                                    # the paper's network for an H200
    python -m benchmarks.gpu_program --gpu=t4 --config=experiments/digits.py --precision=float32
    python -m benchmarks.gpu_program --gpu=attached --mesh=1x1          # compiled for the GPU that is here

All times are computed, none is measured: for each kernel the larger of bytes by bandwidth and operations by rate, from
the maker's figures, with no gaps between kernels. That is a lower bound, and shows what a step spends its bytes on.
`gpu_target.py` says what compiling without the device leaves open.
"""

import collections
import math
import sys
from collections.abc import Callable

import jax
from absl import app, flags
from ml_collections import config_flags
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from alexnet_jax.config import Config
from alexnet_jax.model.columns import COLUMN
from alexnet_jax.runs.build import Experiment
from alexnet_jax.runtime.devices import choose_platform
from alexnet_jax.runtime.errors import UserError, exit_codes, say
from benchmarks import limits
from benchmarks.gpu_analysis import (
    AHEAD,
    expected,
    kind_of,
    largest_batch,
    memory_of,
    names_of,
    overlaps,
    received_by_image,
    seconds,
)
from benchmarks.gpu_schedule import Kernel, kernels
from benchmarks.gpu_target import ATTACHED, GPU, GPUS, compiled, experiment_on

CONFIG = config_flags.DEFINE_config_file('config', 'experiments/paper.py', 'The experiment, as launch.py takes it.')
TARGET = flags.DEFINE_enum('gpu', 'h200', [*GPUS, ATTACHED], 'What to compile for; attached: the GPU of this machine.')
FIGURES = flags.DEFINE_enum(
    'figures', 'h200', list(GPUS), 'With --gpu=attached: whose figures times are worked out by.'
)
BATCH = flags.DEFINE_integer('batch', 0, "Images of a batch; 0 for the config's.", lower_bound=0)
PRECISION = flags.DEFINE_list('precision', ['float32', 'bfloat16'], 'Of activations.')
MESH = flags.DEFINE_list('mesh', ['1x1', '1x2', '2x2'], 'Devices along data x column.')
MEMORY = flags.DEFINE_list('memory', ['8', '16', '80'], 'GiB of which to find the largest batch; empty for none.')
PARTS = flags.DEFINE_list('parts', ['1', '8'], 'config.accumulation_steps to find the largest batch with.')
KERNELS = flags.DEFINE_integer('kernels', 12, 'How many of the costliest kernels to list.', lower_bound=0)
OPTIONS = flags.DEFINE_multi_string('xla', [], 'A compiler option, NAME=VALUE; may be given several times.')

_MOST = 2**16  # images of a batch that a config may ask for
_SHARE = 0.75  # of the memory JAX takes at the start, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise


def memory_table(found: dict[tuple[str, str], dict[str, float]], batch: int) -> Table:
    """Memory by mesh and precision."""
    titles = ['parameters and\nvelocity', 'batch and\nmean image', 'activations, gradients,\nscratch', 'at the peak']
    titles.append(f'with {AHEAD} batches\nahead')
    table = _table(f'Memory of a device, GB; {batch} images a step', ['mesh', 'precision'], titles)
    for (mesh, precision), numbers in found.items():
        table.add_row(mesh, precision, *(f'{n / 1e9:.3f}' for n in numbers.values()))
    return table


def batches_table(config: Config, gpu: str, options: dict[str, object], console: Console) -> Table:
    """The largest batch on one device."""
    sizes = [float(n) for n in MEMORY.value]
    table = _table(
        f'Largest batch on one device that fits {_SHARE:.0%} of its memory, compiled; to within a sixteenth',
        ['precision', 'accumulation_steps'],
        [f'{n:g} GiB' for n in sizes],
    )
    for precision in PRECISION.value:
        for parts in map(int, PARTS.value):

            def needs(batch: int, precision: str = precision, parts: int = parts) -> float:
                if batch > _MOST:
                    return math.inf
                with console.status(f'{precision}, {parts} part(s): batch {batch}'):
                    fields = {'batch_size': batch, 'precision': precision, 'accumulation_steps': parts}
                    one = config.replace(**fields, **{'mesh.data': 1, 'mesh.column': 1})
                    experiment = experiment_on(one, gpu)
                    return memory_of(experiment, compiled(experiment, gpu, options))['in training']

            unit = 64 * parts
            tried = {size: needs(size) for size in (unit, 16 * unit)}
            found = [largest_batch(needs, n * 2**30 * _SHARE, tried, unit) for n in sizes]
            table.add_row(precision, str(parts), *(f'{n:,}' if n else 'none' for n in found))
    return table


def exchanges_table(experiment: Experiment, text: str) -> Table:
    """Bytes in the program and by the formula."""
    table = _table(
        f'{_name(experiment)}: bytes that a device receives for an image along {COLUMN!r}',
        ['direction'],
        ['in the program', 'by the formula', 'values'],
    )
    width = 2 if experiment.config.precision == 'bfloat16' else 4
    found, values = received_by_image(text, experiment), expected(experiment)
    for direction, received, count in zip(('forward', 'backward'), found, values, strict=True):
        table.add_row(direction, f'{received:,.0f}', f'{count * width:,}', f'{count:,}')
    return table


def schedule_table(found: list[Kernel], experiment: Experiment, gpu: GPU) -> Table:
    """The exchanges in the order of execution, the kernels beside each, and the time that these hide."""
    table = _table(
        f'{_name(experiment)}: exchanges in the order of execution ({gpu.name}, computed)',
        ['exchange', 'along', "kernels that run beside it (': of the gradient, *: a product)"],
        ['MB', 'us', 'hidden'],
    )
    exchanges = overlaps(found, experiment, gpu)
    for one in exchanges:
        name = f'{one.exchange.kind} {one.exchange.layer}' + "'" * one.exchange.backward
        numbers = (one.received / 1e6, one.takes * 1e6, one.hidden * 1e6)
        beside = _compact(one.kernels) or 'none: the device waits'
        table.add_row(
            name, ' and '.join(one.axes), beside, *(f'{n:.{d}f}' for n, d in zip(numbers, (2, 0, 0), strict=True))
        )
    table.add_section()
    alone = sum(seconds(kernel, gpu, experiment.config.precision) for kernel in found)
    sums = [f'{sum(getattr(one, field) for one in exchanges) * 1e6:.0f}' for field in ('takes', 'hidden')]
    table.add_row('all', '', f'all kernels of a step: {alone * 1e6:,.0f} us', '', *sums)
    return table


def _compact(beside: list[Kernel]) -> str:
    """The layers of consecutive kernels, with counts."""
    counts: list[list] = []
    for kernel in beside:
        name = (kernel.layer or 'other') + "'" * kernel.backward + '*' * bool(kernel.kind)
        if counts and counts[-1][0] == name:
            counts[-1][1] += 1
        else:
            counts.append([name, 1])
    return ' '.join(name if count == 1 else f'{count} {name}' for name, count in counts)


def sums_table(found: list[Kernel], experiment: Experiment, gpu: GPU, key: Callable[[Kernel], str], what: str) -> Table:
    """Kernels, bytes, operations and computed time by a property, the longest first."""
    precision = experiment.config.precision
    groups: dict[str, list[Kernel]] = collections.defaultdict(list)
    for kernel in found:
        if not kernel.of:
            groups[key(kernel)].append(kernel)
    table = _table(
        f'{_name(experiment)}, {experiment.config.batch_size} images, {gpu.name}: computed, not measured',
        [what],
        ['kernels', 'MB moved', 'GFLOP in products', 'us', 'share'],
    )
    times = {name: sum(seconds(kernel, gpu, precision) for kernel in group) for name, group in groups.items()}
    whole = sum(times.values())
    rows = [(name, groups[name]) for name in sorted(times, key=times.get, reverse=True)]
    for name, group in [*rows, ('all', [kernel for kernel in found if not kernel.of])]:
        time = times.get(name, whole)
        moved, flops = (sum(k.times * getattr(k, field) for k in group) for field in ('moved', 'flops'))
        count = sum(kernel.times for kernel in group)
        table.add_row(
            name, str(count), f'{moved / 1e6:,.0f}', f'{flops / 1e9:,.1f}', f'{time * 1e6:,.0f}', f'{time / whole:.0%}'
        )
    return table


def _table(title: str, texts: list[str], numbers: list[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD)
    for column in texts:
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify='right')
    return table


def _name(experiment: Experiment) -> str:
    data, column = experiment.mesh.devices.shape
    return f'{experiment.config.name} on ({data}, {column}), {experiment.config.precision}'


def costliest_table(found: list[Kernel], experiment: Experiment, gpu: GPU, count: int) -> Table:
    """The longest kernels."""
    precision = experiment.config.precision
    table = _table(
        f'{_name(experiment)}: the costliest kernels', ['kernel', 'layer'], ['times', 'MB moved', 'GFLOP', 'us']
    )
    own = sorted((k for k in found if not k.of), key=lambda kernel: -seconds(kernel, gpu, precision))
    for one in own[:count]:
        numbers = (f'{one.moved / 1e6:,.1f}', f'{one.flops / 1e9:,.1f}', f'{seconds(one, gpu, precision) * 1e6:,.0f}')
        table.add_row(one.name, one.layer + "'" * one.backward, str(one.times), *numbers)
    return table


def limit_lines(found: list[Kernel], experiment: Experiment, gpu: GPU) -> list[str]:
    """Time of the step with these kernels, and its lower bound with any."""
    config = experiment.config
    width = 2 if config.precision == 'bfloat16' else 4
    rate = gpu.bfloat16 if width == 2 and gpu.bfloat16 else gpu.float32
    moved = limits.parameter_bytes(experiment) + config.batch_size * limits.activation_bytes(experiment, width)
    flops = config.batch_size * limits.flops(experiment)
    takes = sum(seconds(kernel, gpu, config.precision) for kernel in found)
    count = sum(kernel.times for kernel in found if not kernel.of)
    bound = max(moved / gpu.bandwidth, flops / rate)
    return [
        f'{count} kernels, {sum(k.times * k.moved for k in found) / 1e9:.2f} GB: {takes * 1e3:.2f} ms, '
        f'{config.batch_size / takes:,.0f} images/s at best with these kernels.',
        f'With each value moved as rarely as benchmarks/limits.py counts: {moved / 1e9:.2f} GB, '
        f'{moved / gpu.bandwidth * 1e3:.2f} ms; arithmetic {flops / rate * 1e3:.2f} ms; '
        f'{config.batch_size / bound:,.0f} images/s if they overlap entirely.',
    ]


def options_of(given: list[str]) -> dict[str, object]:
    """Compiler options from NAME=VALUE.

    Raises:
      UserError: one is not of this form.
    """
    found: dict[str, object] = {}
    for one in given:
        name, equals, value = one.partition('=')
        if not equals:
            raise UserError(f'--xla={one} must be NAME=VALUE, as in xla_gpu_enable_triton_gemm=false.')
        found[name] = {'true': True, 'false': False}.get(value, int(value) if value.isdigit() else value)
    return found


def report(config: Config, console: Console) -> None:
    """Compiles for each mesh and precision, and prints the tables."""
    gpu = GPUS[FIGURES.value if TARGET.value == ATTACHED else TARGET.value]
    options, memory = options_of(OPTIONS.value), {}
    for mesh in MESH.value:
        data, column = _sides(mesh)
        for precision in PRECISION.value:
            one = config.replace(**{'precision': precision, 'mesh.data': data, 'mesh.column': column})
            experiment = experiment_on(one, TARGET.value)
            with console.status(f'compiling for {data} x {column} devices, {precision}'):
                program = compiled(experiment, TARGET.value, options)
            text = program.as_text()
            memory[mesh, precision] = memory_of(experiment, program)
            found = kernels(text, names_of(experiment.config.network))
            if data * column > 1:
                if column > 1:
                    console.print(exchanges_table(experiment, text))
                console.print(schedule_table(found, experiment, gpu))
                continue
            console.print(
                sums_table(found, experiment, gpu, lambda k, table=experiment.config.network: kind_of(k, table), 'what')
            )
            console.print(
                sums_table(found, experiment, gpu, lambda k: (k.layer or 'other') + "'" * k.backward, 'layer')
            )
            if KERNELS.value:
                console.print(costliest_table(found, experiment, gpu, KERNELS.value))
            for line in limit_lines(found, experiment, gpu):
                say(console, line)
    console.print(memory_table(memory, config.batch_size))
    if MEMORY.value:
        console.print(batches_table(config, TARGET.value, options, console))
    say(
        console,
        "Not in these figures: the CUDA context, the libraries' own memory, buffers of NCCL, and, for a GPU that",
    )
    say(console, 'is not there, the scratch memory of the algorithms that cuDNN will choose.')


def _sides(mesh: str) -> tuple[int, int]:
    data, _, column = mesh.partition('x')
    if not (data.isdigit() and column.isdigit()) or not int(data) * int(column):
        raise UserError(f'--mesh={mesh} must be DATAxCOLUMN, as in 2x2.')
    return int(data), int(column)


def main(argv: list[str]) -> None:
    """Prints all tables for the config that the flags give."""
    with exit_codes():
        if TARGET.value != ATTACHED:
            jax.config.update('jax_platforms', 'cpu')  # whatever there is stays untouched
        console = Console(width=None if sys.stdout.isatty() else 140)
        here = choose_platform()
        say(console, here if TARGET.value == ATTACHED else f'Compiling for {GPUS[TARGET.value].name}; nothing is run.')
        config = Config.from_fields(CONFIG.value)
        report(config.replace(batch_size=BATCH.value or config.batch_size), console)


if __name__ == '__main__':
    app.run(main)
