"""Costs that grow with a data set and with a run: opening, the first batch, resuming, a report, a comparison.

    python -m benchmarks.scale

Records are small JPEGs (16 x 16), as only their number matters here; all shards are the same few files under other
names. A run's metrics are made up: a line each 20 steps, as the paper's run has, and a validation each 100.

open      opens the prepared data set
batch     the same, and the first batch of 128 images after the run's last step
resume    `--mode=train` on the run, which has ended: data set, checkpoint and metrics are read, no step is made
report    what `--mode=figures` makes of metrics: learning curves, color, the page
compare   `--mode=compare` of the run with itself under another seed

Each is measured in a process of its own, without the imports: seconds, megabytes that are read, and megabytes by which
the peak of its memory grows. The last lines say what one more record or step costs between the two largest sizes.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import simplejpeg
from rich.console import Console
from rich.table import Table

from alexnet_jax.commands.compare import compare
from alexnet_jax.commands.figures import color_curves, learning_curves, report
from alexnet_jax.commands.train import train
from alexnet_jax.config import Config
from alexnet_jax.data import pipeline, records
from alexnet_jax.data.dataset import PreparedDataSet, Settings, open_prepared, write_description
from alexnet_jax.data.placing import link
from alexnet_jax.model.layer_specs import Dense, Flatten
from alexnet_jax.runs.build import build, first_state
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.metrics_log import METRICS_LOG, read_metrics
from alexnet_jax.runs.progress import Progress
from alexnet_jax.runs.workdir import make_workdir, read_config, remember_data, write_config
from alexnet_jax.runtime.devices import choose_platform
from alexnet_jax.runtime.quiet import silence_checkpoint_libraries
from alexnet_jax.training.optimizer import RateControl
from benchmarks.resident import peak_growth
from experiments import paper

SIZE, LOG_EVERY, VALIDATE_EVERY = 16, 20, 100
RUNS = 'run', 'other'


def write_data(directory: pathlib.Path, count: int) -> PreparedDataSet:
    """Writes a prepared data set of `count` images for training."""
    config = paper.get_config().data
    jpeg = simplejpeg.encode_jpeg(np.full((SIZE, SIZE, 3), 99, np.uint8), config.quality, colorspace='RGB')
    shards, checksums, written = {'train': [], 'validation': []}, {}, {}
    directory.mkdir()
    for split, images in (('train', count), ('validation', 1000)):
        for number, first in enumerate(range(0, images, config.images_per_shard)):
            path = directory / f'{split}-{number:05d}.array_record'
            length = min(config.images_per_shard, images - first)
            if length in written:
                link(written[length], path)
            else:
                writer, written[length] = records.JpegWriter(path), path
                for i in range(length):
                    name = f'n01440764/n01440764_{i}.JPEG'
                    writer.write(name, records.encode(records.Record(name, i % 2, jpeg)))
                writer.close()
            shards[split].append({'file': path.name, 'examples': length, 'sha256': '0' * 64})
            checksums |= {path.name: [path.stat().st_size, '0' * 64], path.with_suffix('.sums').name: [0, '0' * 64]}
    settings, names = Settings('made up', SIZE, 'jpeg', config.quality, config.images_per_shard), ('one', 'other')
    rgb = [0.0] * 3, np.eye(3).tolist()
    data = PreparedDataSet(directory, settings, names, names, shards, 0, *rgb, checksums=checksums)
    write_description(data, np.zeros((SIZE, SIZE, 3), np.float32), directory)
    return data


def write_runs(root: pathlib.Path, data: PreparedDataSet, steps: int) -> None:
    """Writes two runs of a small network that have ended after so many steps; the first has a checkpoint."""
    fields = {
        'network': {'flatten': Flatten(), 'fc8': Dense(units=2)},
        'columns': 1,
        'mesh.column': 1,
        'data.source': 'made up',
        'data.directory': str(data.directory),
        'data.image_size': SIZE,
        'data.crop_size': SIZE - 2,
    }
    config = Config.from_fields(paper.get_config()).replace(**fields)
    epoch = config.batch_size / data.examples('train')
    values = {'loss': 0.5, 'top1_error': 0.25, 'top5_error': 0.0}
    for seed, name in enumerate(RUNS):
        make_workdir(str(root / name))
        write_config(config.replace(seed=seed), str(root / name))
        remember_data(data, str(root / name), data.mean_image())
        with (root / name / METRICS_LOG).open('w') as file:
            for step in range(LOG_EVERY, steps + 1, LOG_EVERY):
                line = {'step': step, 'epoch': step * epoch, 'split': 'train', **values, 'images_per_second': 50.0}
                file.write(json.dumps(line | {'learning_rate': 0.01}) + '\n')
                if step % VALIDATE_EVERY == 0:
                    line = {'step': step, 'epoch': step * epoch, 'split': 'validation', **values}
                    file.write(json.dumps(line | {'color_column1': 0.5}) + '\n')
    checkpoints = Checkpoints(root / RUNS[0])
    ended = RateControl(config.learning_rate, finished=True)
    checkpoints.save(first_state(build(config)), Progress(steps, steps // VALIDATE_EVERY, ended, {}, 0.01), 0.25)
    checkpoints.close()


def cost(what: str, root: pathlib.Path) -> None:
    """What is measured."""
    runs, silent = [str(root / name) for name in RUNS], Console(quiet=True)
    config = read_config(runs[0])
    match what:
        case 'open' | 'batch':
            data = open_prepared(config.data.directory)
            if what == 'batch':
                first = json.loads((root / RUNS[0] / METRICS_LOG).read_bytes().splitlines()[-1])['step']
                next(pipeline.training_batches(data, config.data, batch_size=128, seed=0, first_step=first))
        case 'resume':
            train(config, runs[0], silent)
        case 'report':
            metrics = read_metrics(runs[0])
            learning_curves(metrics, 'made up'), color_curves(metrics, 'made up')
            report.write_report(config, runs[0], silent)
        case 'compare':
            compare(runs, None, silent)


def measured(what: str, root: pathlib.Path) -> dict[str, float]:
    """Seconds, megabytes read, and megabytes by which the peak of memory grows."""

    def used() -> np.ndarray:
        read = int(pathlib.Path('/proc/self/io').read_text().split()[1])
        return np.array([time.perf_counter(), read / 1e6])

    before = used()
    grown = peak_growth(lambda: cost(what, root))
    return dict(zip(('seconds', 'read'), (used() - before).tolist(), strict=True)) | {'memory': grown / 1e6}


def growth(found: dict[int, dict[str, dict[str, float]]], unit: str) -> str:
    """What one more record or step costs between the two largest sizes."""
    less, more = sorted(found)[-2:]
    each = {
        what: [(found[more][what][kind] - found[less][what][kind]) / (more - less) for kind in ('seconds', 'read')]
        for what in found[more]
    }
    texts = [f'{what} {1e6 * seconds:.3f} us and {1e6 * read:.1f} bytes read' for what, (seconds, read) in each.items()]
    return f'One more {unit}: {"; ".join(texts)}.'


def main() -> None:
    """Writes, measures in processes, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    counts = [','.join(str(10**n) for n in range(first, first + 5)) for first in (3, 2)]
    parser.add_argument('--records', default=counts[0], help='sizes of data sets')
    parser.add_argument('--steps', default=counts[1], help='lengths of runs')
    parser.add_argument('--child', help='what to measure in this process, and where; for its own use')
    options = parser.parse_args()
    silence_checkpoint_libraries()
    choose_platform()
    if options.child:
        what, place = options.child.split(':', 1)
        print(json.dumps(measured(what, pathlib.Path(place))))
        return
    console, costs = Console(width=120, highlight=False), ('open', 'batch', 'resume', 'report', 'compare')
    table = Table('records', 'steps', *costs, title='seconds / MB read / MB of memory')
    counts, lengths = ([int(size) for size in sizes.split(',')] for sizes in (options.records, options.steps))
    sizes = [(count, lengths[0]) for count in counts] + [(counts[0], steps) for steps in lengths[1:]]
    by_records, by_steps = {}, {}
    for count, steps in sizes:
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            write_runs(root, write_data(root / 'data', count), steps)
            found = {}
            for what in costs:
                command = [sys.executable, '-m', 'benchmarks.scale', f'--child={what}:{root}']
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                found[what] = json.loads(done.stdout.splitlines()[-1])
        by_records |= {count: found} if steps == sizes[0][1] else {}
        by_steps |= {steps: found} if count == sizes[0][0] else {}
        cells = [f'{one["seconds"]:.2f} / {one["read"]:.1f} / {one["memory"]:.0f}' for one in found.values()]
        table.add_row(f'{count:,}', f'{steps:,}', *cells)
    console.print(table)
    for found, unit in ((by_records, 'record'), (by_steps, 'step')):
        if len(found) > 1:
            console.print(growth(found, unit), soft_wrap=True)


if __name__ == '__main__':
    main()
