"""Time to the first batch, and memory, with as many records as in ImageNet.

    python -m benchmarks.scale

The records are small JPEGs (16 x 16), as only their number matters here; they are written first.
"""

import pathlib
import resource
import tempfile
import time

import numpy as np
import simplejpeg
from absl import app
from rich.console import Console

from alexnet_jax.config import DataConfig
from alexnet_jax.data import pipeline, records
from alexnet_jax.data.dataset import PreparedDataSet, Settings, open_prepared, write_description
from alexnet_jax.runtime.devices import choose_platform
from experiments import paper

IMAGENET, SIZE = 1_281_167, 16


def write(directory: pathlib.Path) -> None:
    """Writes a prepared data set of ImageNet's length."""
    data = paper.get_config().data
    jpeg = simplejpeg.encode_jpeg(np.full((SIZE, SIZE, 3), 99, np.uint8), data.quality, colorspace='RGB')
    shards = {'train': [], 'validation': []}
    for split, count in (('train', IMAGENET), ('validation', 1000)):
        for number, first in enumerate(range(0, count, data.images_per_shard)):
            images = range(first, min(first + data.images_per_shard, count))
            path = directory / f'{split}-{number:05d}.array_record'
            writer = records.JpegWriter(path)
            for i in images:
                name = f'n01440764/n01440764_{i}.JPEG'
                writer.write(name, records.encode(records.Record(name, i % 1000, jpeg)))
            writer.close()
            shards[split].append({'file': path.name, 'examples': len(images), 'sha256': ''})
    names = tuple(map(str, range(1000)))
    settings = Settings('made up', SIZE, 'jpeg', data.quality, data.images_per_shard)
    described = PreparedDataSet(directory, settings, names, names, shards, 0, [0.0] * 3, np.eye(3).tolist())
    write_description(described, np.zeros((SIZE, SIZE, 3), np.float32), directory)


def main(argv: list[str]) -> None:
    """Writes, opens, measures, prints."""
    console = Console(width=120)
    console.print(choose_platform(), highlight=False)
    with tempfile.TemporaryDirectory() as directory:
        write(pathlib.Path(directory))
        for first_step in (0, 900_000):
            start = time.perf_counter()
            data = open_prepared(directory)
            config = DataConfig(crop_size=14)
            batches = pipeline.training_batches(data, config, batch_size=128, seed=0, first_step=first_step)
            next(batches)
            seconds = time.perf_counter() - start
            for _ in range(1000):
                next(batches)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            console.print(
                f'{IMAGENET:,} records, from step {first_step:,}: first batch after {seconds:.2f} s; peak memory of '
                f'the process after 1,000 batches {memory:.2f} GB',
                highlight=False,
            )


if __name__ == '__main__':
    app.run(main)
