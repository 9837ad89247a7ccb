"""Images per second of whole runs, in comparison with the step alone and the input pipeline alone.

    python -m benchmarks.end_to_end

A run is `train.train` on photographs prepared on disk, everything on: reading, decoding, shuffling, logs. Its speed is
that between the lines it prints, by this program's clock. The bare step is the same step again and again on one batch
that is on the device; the bare pipeline makes batches that nobody uses. The three take turns, and the median counts. A
run cannot be faster than the slower of the two. Where the CPU is the device, the pipeline also takes cores from the
step: the last column says how near a run comes to the step with the pipeline's processor time, dealt to all cores,
added to it. It is above 100 % where the step leaves cores idle that the pipeline can use.

paper    the paper's network: the step decides
digits   the network of experiments/digits.py on images of its size: the host has more to do for a step
cheap    next to no network on the paper's images: the pipeline decides

Any other case is the name of an experiment, as in --cases=tiny_imagenet,cifar10, on photographs of its size.

Then what a run of the paper's does besides training, as shares of an epoch of ImageNet: see overhead.py.
"""

import dataclasses
import importlib
import io
import os
import pathlib
import re
import shutil
import statistics
import sys
import tempfile
import time

import jax
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from alexnet_jax.commands.train import train
from alexnet_jax.config import Config
from alexnet_jax.data import pipeline
from alexnet_jax.data.augment import statistics_of
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.opening import settings_of
from alexnet_jax.data.prepare import prepare
from alexnet_jax.model.layer_specs import Dense, Flatten
from alexnet_jax.runs.build import build
from alexnet_jax.runtime.devices import available_cores, choose_platform
from alexnet_jax.runtime.quiet import silence_checkpoint_libraries
from benchmarks import overhead
from benchmarks.photographs import Photographs
from benchmarks.step_sides import our_steps
from experiments import paper

CASES = flags.DEFINE_list('cases', ['paper', 'digits', 'cheap'], 'Which runs to measure, see above.')
STEPS = flags.DEFINE_integer('steps', 0, 'Steps of a run that are measured; 0: as many as suit a CPU.', lower_bound=0)
BATCH = flags.DEFINE_integer('batch', 128, 'Images of a batch.', lower_bound=1)
PRECISION = flags.DEFINE_enum('precision', 'float32', ['float32', 'bfloat16'], 'Of activations.')
STORAGE = flags.DEFINE_enum('storage', 'jpeg', ['jpeg', 'raw'], 'Of the prepared images.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'How often the three take turns.', lower_bound=1)
OVERHEAD = flags.DEFINE_bool('overhead', True, "Measure what the paper's run does besides training.")
SUITS_A_CPU = {'paper': 4, 'digits': 100, 'cheap': 60}
FIRST = (
    1  # of so many halves of what is measured, before that, a run is not measured: it compiles, and fills its buffers
)


@dataclasses.dataclass(frozen=True)
class Speed:
    """One measurement: wall-clock and processor seconds a batch."""

    seconds: float
    processor: float


class TimedLines(io.StringIO):
    """A console's file that records each reported step: number, wall-clock and processor seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[int, float, float]] = []

    def write(self, text: str) -> int:
        """Records the steps in the text."""
        for number in re.findall(r'training: step (\d+)/', text):
            self.steps.append((int(number), time.perf_counter(), sum(os.times()[:2])))
        return len(text)


def case_config(case: str, directory: str) -> Config:
    """The config of a case's run, of a single epoch."""
    experiment = importlib.import_module(f'experiments.{"paper" if case == "cheap" else case}')
    config = Config.from_fields(experiment.get_config())
    layers = {'flatten': Flatten()} if case == 'cheap' else dict(config.network)  # the step is little but its input
    return config.replace(
        **{
            'network': {**layers, config.network[-1][0]: Dense(units=2)},
            'batch_size': BATCH.value,
            'precision': PRECISION.value,
            'epochs': 1,
            'learning_rate': 1e-5,  # no run ends because it diverged
            'log_every_steps': measured_steps(case) // 2,
            'rate_control.schedule': (),
            'data.source': 'photographs',
            'data.storage': STORAGE.value,
            'data.directory': directory,
        }
    )


def measured_steps(case: str) -> int:
    """Number of measured steps of a run; even."""
    return -(-(STEPS.value or SUITS_A_CPU.get(case, 60)) // 2) * 2


def whole_run(case: str, config: Config, workdir: pathlib.Path) -> Speed:
    """Trains, and measures from the second line to the last."""
    lines = TimedLines()
    train(config, str(workdir), Console(file=lines, width=200))
    shutil.rmtree(workdir)
    (first, start, start_processor), (last, end, end_processor) = lines.steps[FIRST - 1], lines.steps[-1]
    count = last - first
    return Speed((end - start) / count, (end_processor - start_processor) / count)


def batches(config: Config, data: PreparedDataSet):
    """The input pipeline of a run."""
    return pipeline.training_batches(data, config.data, batch_size=config.batch_size, seed=config.seed)


def timed(call, count: int) -> Speed:
    """Measures a call that processes `count` batches."""
    start, before = time.perf_counter(), sum(os.times()[:2])
    call(count)
    return Speed((time.perf_counter() - start) / count, (sum(os.times()[:2]) - before) / count)


def bare_pipeline(config: Config, data: PreparedDataSet, count: int) -> Speed:
    """Measures batches after the buffers are full."""
    made = batches(config, data)
    for _ in range(8):
        next(made)
    return timed(lambda count: [next(made) for _ in range(count)], count)


def measure(case: str, root: pathlib.Path, console: Console) -> dict[str, list[Speed]]:
    """Measures the three in turn."""
    config = case_config(case, str(root / f'data-{case}'))
    steps = measured_steps(case)
    total = steps + steps // 2 * FIRST
    source = Photographs(config.data.image_size, total * config.batch_size, 2)
    data = prepare(source, settings_of(config.data), config.data.directory, console)
    step = our_steps(build(config), next(batches(config, data)), statistics_of(data, config.data))
    step(2)
    found = {'step': [], 'pipeline': [], 'run': []}
    for number in range(ROUNDS.value):
        found['step'].append(timed(step, steps))
        found['pipeline'].append(bare_pipeline(config, data, max(100, steps)))
        found['run'].append(whole_run(case, config, root / f'run-{case}-{number}'))
    return found


def rows(case: str, found: dict[str, list[Speed]]) -> list[list[str]]:
    """Rows of the table."""
    seconds = {name: statistics.median(one.seconds for one in each) for name, each in found.items()}
    processor = {name: statistics.median(one.processor for one in each) for name, each in found.items()}
    slower = max(seconds['step'], seconds['pipeline'])
    on_cpu = jax.devices()[0].platform == 'cpu'
    shared = max(slower, seconds['step'] + processor['pipeline'] / available_cores()) if on_cpu else slower
    lines = []
    for name, each in found.items():
        images = [BATCH.value / one.seconds for one in each]
        shares = [f'{slower / seconds["run"]:.1%}', f'{shared / seconds["run"]:.1%}'] if name == 'run' else ['', '']
        lines.append(
            [
                f'{case}: {name}',
                *(f'{x:,.1f}' for x in (BATCH.value / seconds[name], min(images), max(images))),
                f'{1000 * processor[name]:,.1f}',
                *shares,
            ]
        )
    return lines


def main(argv: list[str]) -> None:
    """Prepares, measures, prints."""
    silence_checkpoint_libraries()
    console = Console(width=120)
    console.print(choose_platform(), highlight=False)
    table = Table(title=f'batches of {BATCH.value}, {PRECISION.value}, {STORAGE.value}, {available_cores()} cores')
    for column in ('', 'images/s, median', 'least', 'most', 'processor ms a batch', 'of the slower', 'cores shared'):
        table.add_column(column, justify='right' if column else 'left')
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        jax.config.update('jax_compilation_cache_dir', str(root / 'compiled'))  # each run compiles the same
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
        paper_step = None
        for case in CASES.value:
            found = measure(case, root, console)
            paper_step = statistics.median(one.seconds for one in found['step']) if case == 'paper' else paper_step
            for row in rows(case, found):
                table.add_row(*row)
            table.add_section()
        console.print(table)
        if OVERHEAD.value and paper_step:
            config = case_config('paper', str(root / 'data-overhead'))
            config = config.replace(log_every_steps=paper.get_config().log_every_steps)
            source = Photographs(config.data.image_size, 2, 4 * config.batch_size)
            data = prepare(source, settings_of(config.data), config.data.directory, console)
            experiment = build(config)
            (root / 'overhead').mkdir()
            found = overhead.measure(experiment, data, root / 'overhead', ROUNDS.value)
            console.print(overhead.table(found, experiment, paper_step))
            console.print(found)
    console.print(f'Python {sys.version.split()[0]}, JAX {jax.__version__}, NumPy {np.__version__}.', highlight=False)


if __name__ == '__main__':
    app.run(main)
