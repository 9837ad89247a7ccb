"""Images per second of the training step, in comparison with PyTorch's and with the limits of the machine.

    pip install torch            # only for this comparison
    python -m benchmarks.train_step
    python -m benchmarks.train_step --batch=128,1024 --precision=bfloat16     # on a GPU
    python -m benchmarks.train_step --config=experiments/tiny_imagenet.py     # another network

Ours is the step that `launch.py` trains with, from uint8 patches and draws to the updated parameters. PyTorch gets
images that are float, shifted and padded already, and is tried in many ways: eager and compiled (on a GPU as CUDA
graphs too), with the channels of a map or its pixels side by side, and with a normalization of its own or one with
the gradient written out as ours has it ("own LRN"). All sides get a first look; then ours and the fastest of PyTorch
take turns on the same device, in one process, and the median counts. A side alone: --sides=ours or --sides=eager.

--check compares the two networks instead: logits and gradients at test time, from the same parameters and images.
"""

import contextlib
import json
import os
import pathlib
import statistics
import sys
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from alexnet_jax.config import Config
from alexnet_jax.runtime.devices import available_cores, choose_platform, keep_freed_memory
from alexnet_jax.runtime.errors import UserError
from benchmarks import limits
from benchmarks.step_sides import (
    Side,
    compare,
    made_batch,
    on_one_device,
    our_steps,
    take_turns,
    torch_device,
    torch_sides,
)

CONFIG = config_flags.DEFINE_config_file('config', 'experiments/paper.py', 'The experiment, as for launch.py.')
BATCH = flags.DEFINE_list('batch', ['128'], 'Images of a batch; several are measured one after the other.')
PRECISION = flags.DEFINE_enum('precision', 'float32', ['float32', 'bfloat16'], 'Of activations, on all sides.')
DEVICE = flags.DEFINE_enum('device', 'auto', ['auto', 'cpu', 'gpu'], 'auto: a GPU where there is one.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'How often the sides take turns, after the first look.', lower_bound=1)
SECONDS = flags.DEFINE_float('seconds', 5.0, 'How long a measurement takes, in whole steps, at least one.')
FINALISTS = flags.DEFINE_integer(
    'finalists', 0, 'How many of PyTorch go on after the first look; 0: 2 on a CPU, 4 elsewhere.', lower_bound=0
)
COLUMN = flags.DEFINE_integer('column', 1, 'Devices that the columns are split over, with --sides=ours.', lower_bound=1)
SIDES = flags.DEFINE_list('sides', ['ours', 'eager', 'compiled'], 'Who takes part.')
JSON = flags.DEFINE_string('json', '', 'File for the figures.')
CHECK = flags.DEFINE_bool('check', False, 'Compare what the networks compute, and measure nothing.')


def measure(batch_size: int, console: Console) -> dict[str, Any]:
    """Measures all sides with batches of one size; prints and returns the figures."""
    device, precision = torch_device(), PRECISION.value
    if COLUMN.value > 1 and SIDES.value != ['ours']:
        raise UserError(f'--column={COLUMN.value}: PyTorch is measured on one device; give --sides=ours.')
    experiment = on_one_device(Config.from_fields(CONFIG.value), batch_size, precision, COLUMN.value)
    batch, constants = made_batch(experiment)
    steps = {'ours': our_steps(experiment, batch, constants)} if 'ours' in SIDES.value else {}
    if set(SIDES.value) - {'ours'}:
        steps |= torch_sides(experiment, batch, constants, SIDES.value, console)
    if not steps:
        raise UserError('--sides leaves nobody to measure.')
    sides = {name: Side(each) for name, each in steps.items()}
    del steps
    memory = 0
    if 'ours' in sides:
        sides['ours'].steps(1)
        memory = peak_memory(jax.devices()[0])  # before what the limits take
    rates = [limits.matrix_rate(device, precision)]
    bytes_a_second = [limits.bandwidth(device)]
    ahead = take_turns(
        sides,
        console,
        rounds=ROUNDS.value,
        seconds=SECONDS.value,
        finalists=FINALISTS.value or (2 if device == 'cpu' else 4),
    )
    rates.append(limits.matrix_rate(device, precision))
    bytes_a_second.append(limits.bandwidth(device))

    arithmetic = batch_size * limits.flops(experiment)
    moved = limits.parameter_bytes(experiment) + batch_size * limits.activation_bytes(
        experiment, jnp.dtype(precision).itemsize
    )
    found = {
        'config': experiment.config.name,
        'batch': batch_size,
        'precision': precision,
        'device': jax.devices()[0].device_kind,
        'flops': arithmetic,
        'bytes': moved,
        'matrix_flops_per_second': max(rates),
        'bytes_per_second': max(bytes_a_second),
        'arithmetic_limit_seconds': arithmetic / max(rates) / COLUMN.value,
        'memory_limit_seconds': moved / max(bytes_a_second) / COLUMN.value,
        'seconds_a_step': {name: side.seconds for name, side in sides.items()},
        'own_processor_seconds_a_step': {name: side.own for name, side in sides.items()},
        'system_processor_seconds_a_step': {name: side.system for name, side in sides.items()},
    }
    if memory:
        found['peak_memory_bytes'] = memory
    _print(found, ahead, console)
    return found


def peak_memory(device: jax.Device) -> int:
    """Bytes that JAX has had in use on a device at most, of all that it has run; 0 where it does not count them."""
    return int((device.memory_stats() or {}).get('peak_bytes_in_use', 0))


def _print(found: dict[str, Any], ahead: list[str], console: Console) -> None:
    batch, seconds = found['batch'], found['seconds_a_step']
    best = statistics.median(seconds[ahead[0]]) if ahead else None
    if ahead:
        best = min(statistics.median(seconds[name]) for name in ahead)
    table = Table(title=f'{found["config"]}, batches of {batch}, {found["precision"]}, {found["device"]}')
    for column in ('', 'images/s, median', 'least', 'most', 'times the best PyTorch', 'of arithmetic', 'of memory'):
        table.add_column(column, justify='right' if column else 'left')
    for name, each in sorted(seconds.items(), key=lambda one: statistics.median(one[1])):
        median = statistics.median(each)
        looked = name != 'ours' and name not in ahead
        table.add_row(
            name + ', first look' * looked,
            *(f'{batch / x:,.1f}' for x in ([median] if looked else [median, max(each), min(each)])),
            *([''] * 2 * looked),
            f'{best / median:.2f}' if best else '',
            *(f'{found[limit] / median:.0%}' for limit in ('arithmetic_limit_seconds', 'memory_limit_seconds')),
        )
    console.print(table)
    for line in (
        f'Arithmetic: {found["flops"] / batch / 1e9:.3f} GFLOP an image; products of large matrices reach '
        f'{found["matrix_flops_per_second"] / 1e9:,.0f} GFLOP/s here: '
        f'{batch / found["arithmetic_limit_seconds"]:,.1f} images/s.',
        f'Memory: {found["bytes"] / 1e9:.2f} GB a step at least; {found["bytes_per_second"] / 1e9:,.1f} GB/s are '
        f'reached here: {batch / found["memory_limit_seconds"]:,.1f} images/s.',
    ):
        console.print(line, highlight=False, soft_wrap=True)
    if 'peak_memory_bytes' in found:
        console.print(
            f'JAX has had {found["peak_memory_bytes"] / 1e9:.2f} GB in use at most, choosing its programs included.',
            highlight=False,
        )


def main(argv: list[str]) -> None:
    """Measures, prints, and writes the figures where asked."""
    keep_freed_memory()  # for both sides, as launch.py does on a CPU
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # PyTorch needs memory too
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # its threads sleep while ours are at work
    os.environ.setdefault('KMP_BLOCKTIME', '0')
    if DEVICE.value != 'auto':
        os.environ['JAX_PLATFORMS'] = {'cpu': 'cpu', 'gpu': 'cuda'}[DEVICE.value]
        jax.config.update('jax_platforms', os.environ['JAX_PLATFORMS'])
    console = Console(width=120)
    console.print(choose_platform(simulated=COLUMN.value), highlight=False)
    config = Config.from_fields(CONFIG.value)
    if CHECK.value:
        for written_out in (False, True):
            kind = 'own LRN' if written_out else "PyTorch's LRN"
            for name, difference in compare(on_one_device(config, 16, 'float32'), written_out).items():
                console.print(f'{kind}, {name}: {difference:.1e} of the largest', highlight=False)
        return
    found = [measure(int(batch), console) for batch in BATCH.value]
    versions = {'Python': sys.version.split()[0], 'JAX': jax.__version__}
    with contextlib.suppress(ImportError):
        import torch

        versions['PyTorch'] = torch.__version__
    console.print(
        f'{", ".join(f"{name} {version}" for name, version in versions.items())}; {available_cores()} cores.',
        highlight=False,
    )
    if JSON.value:
        pathlib.Path(JSON.value).write_text(json.dumps({'versions': versions, 'measured': found}, indent=2) + '\n')


if __name__ == '__main__':
    app.run(main)
