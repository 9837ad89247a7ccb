"""Memory of the paper's training on a CPU, beside what the compiled step needs; and the largest batch for 8 and 16 GB.

    python -m benchmarks.memory --batches=32,64,128,256

The need is that of `Compiled.memory_analysis()`: arguments, results that are not put in their place, and temporary
values. A process's peak is its largest resident set: interpreter, libraries and the compiler's memory are part of it.
Each peak is that of a process of its own, which compiles. `step` makes a few steps on one batch. `training` is
`--mode=train` on prepared photographs, with input pipeline, a checkpoint that is saved while the next step runs, and
a validation.

The largest batch is found by the line through the peaks of training at the two largest batches; then a run of that
batch is measured too. It is a multiple of 32, and leaves a gigabyte to the system.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import jax
from rich.console import Console

from alexnet_jax.commands.train import train
from alexnet_jax.config import Config
from alexnet_jax.data.device_feed import statistics_to_devices, to_devices
from alexnet_jax.data.opening import settings_of
from alexnet_jax.data.prepare import prepare
from alexnet_jax.runs.build import Experiment, first_state, training_step
from alexnet_jax.runtime.devices import choose_platform, memory_of
from alexnet_jax.runtime.quiet import silence_checkpoint_libraries
from alexnet_jax.training.dispatch import compile_first, finish
from alexnet_jax.training.optimizer import layer_rates
from benchmarks.photographs import Photographs
from benchmarks.resident import peak
from benchmarks.step_sides import made_batch, on_one_device
from experiments import digits, paper

EXPERIMENTS = {'paper': paper, 'digits': digits}
STEPS, MULTIPLE, FOR_THE_SYSTEM = 4, 32, 1e9


def measure_step(experiment: Experiment) -> dict[str, float]:
    """The need of the compiled step, and what the process has taken, in bytes."""
    made, constants = made_batch(experiment)
    state = first_state(experiment)
    rates = layer_rates(state.parameters, experiment.config.learning_rate, 0.0, experiment.config.rate_control)
    given = to_devices(made, experiment.mesh), statistics_to_devices(constants, experiment.mesh), rates
    step = training_step(experiment)
    found = compile_first(step, state, *given).memory_analysis()
    for _ in range(STEPS):
        state, _ = step(state, *given)
        finish(state)
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return {'need': found.argument_size_in_bytes + results + found.temp_size_in_bytes, 'peak': peak()}


def measure_training(experiment: Experiment) -> dict[str, float]:
    """What a process has taken that trained for a few steps, in bytes."""
    with tempfile.TemporaryDirectory() as directory:
        root, config = pathlib.Path(directory), experiment.config
        classes = config.network[-1][1].units
        fields = {
            'data.directory': str(root / 'data'),
            'data.source': 'photographs',
            'epochs': 1,
            'checkpoint_every_steps': STEPS - 1,
            'learning_rate': 1e-5,  # it does not diverge
            'rate_control.schedule': (),
        }
        config = config.replace(**fields)
        source = Photographs(config.data.image_size, STEPS * config.batch_size, config.batch_size)
        source.class_names = source.class_ids = tuple(map(str, range(classes)))
        silent = Console(quiet=True)
        prepare(source, settings_of(config.data), config.data.directory, silent)
        train(config, str(root / 'run'), silent)
    return {'peak': peak()}


def in_a_process(what: str, batch: int, options: argparse.Namespace) -> dict[str, float]:
    """Measures in a process of its own."""
    own = [f'--child={what}', f'--batches={batch}', f'--experiment={options.experiment}']
    command = [sys.executable, '-m', 'benchmarks.memory', *own, f'--precision={options.precision}']
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])


MEASURES = {'step': measure_step, 'training': measure_training}


def largest_batch(peaks: dict[int, float], memory: float) -> int:
    """The largest batch whose peak is at most `memory` bytes, by the line through the two largest of `peaks`."""
    (less, low), (more, high) = sorted(peaks.items())[-2:]
    return max(0, int((memory - low) * (more - less) / (high - low) + less) // MULTIPLE * MULTIPLE)


def main() -> None:
    """Measures in processes, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batches', default='32,64,128,256', help='two at least')
    parser.add_argument('--limits', default='8,16', help="machines' memory in GB; none: no largest batch is looked for")
    parser.add_argument('--experiment', default='paper', choices=EXPERIMENTS, help='whose network')
    parser.add_argument('--precision', default='float32', choices=['float32', 'bfloat16'], help='of activations')
    parser.add_argument('--child', choices=MEASURES, help='what to measure in this process; for its own use')
    options = parser.parse_args()
    choose_platform(plugins=False)
    batches, console = [int(batch) for batch in options.batches.split(',')], Console(width=120, highlight=False)
    if options.child:
        silence_checkpoint_libraries()
        config = Config.from_fields(EXPERIMENTS[options.experiment].get_config())
        print(json.dumps(MEASURES[options.child](on_one_device(config, batches[0], options.precision))))
        return
    peaks: dict[int, float] = {}
    for batch in batches:
        step, training = in_a_process('step', batch, options), in_a_process('training', batch, options)
        peaks[batch] = training['peak']
        texts = [f'{one["peak"] / 1e9:.2f} GB, {one["peak"] / step["need"]:.2f} times' for one in (step, training)]
        console.print(
            f'batches of {batch}: the compiled step needs {step["need"] / 1e9:.2f} GB; step {texts[0]} that, training '
            f'{texts[1]}',
            soft_wrap=True,
        )
    for limit in map(float, filter(None, options.limits.split(','))):
        batch = largest_batch(peaks, 1e9 * limit - FOR_THE_SYSTEM)
        measured = 'this machine has less, so it was not measured'
        if batch and 1e9 * limit <= memory_of(jax.devices('cpu')[0]):
            measured = f'measured: {in_a_process("training", batch, options)["peak"] / 1e9:.2f} GB'
        console.print(f'{limit:g} GB: batches of {batch}; {measured}', soft_wrap=True)


if __name__ == '__main__':
    main()
