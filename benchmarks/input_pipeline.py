"""Images per second of the input pipeline, in comparison with a PyTorch DataLoader that does the same work.

    pip install torch            # only for this comparison
    python -m benchmarks.input_pipeline

Both sides read the same 256 x 256 photographs (cut out of the two that come with scikit-learn), take a random
224 x 224 patch, mirror it half of the time, subtract the mean image and shift the color. PyTorch does so as is
usual there: Pillow and float arithmetic in the workers of a DataLoader, the number of workers being the best of
those tried. Ours ships uint8 patches and draws, and leaves the arithmetic to the device; what that arithmetic
costs where the CPU is the device is printed too. The sides take turns in one run, and the median counts.
"""

import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import simplejpeg
from absl import app, flags
from rich.console import Console
from rich.table import Table

from alexnet_jax.config import DataConfig
from alexnet_jax.data import pipeline
from alexnet_jax.data.augment import statistics_of, training_images
from alexnet_jax.data.dataset import PreparedDataSet, Settings
from alexnet_jax.data.prepare import prepare
from alexnet_jax.runtime.devices import available_cores, choose_platform
from benchmarks.photographs import Photographs

IMAGES = flags.DEFINE_integer('images', 5000, 'Images in the data set; they stay in the page cache.')
SECONDS = flags.DEFINE_float('seconds', 4.0, 'How long each measurement takes.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'How often the sides take turns.')
QUALITY = flags.DEFINE_integer('quality', 88, 'JPEG quality; the default gives about 20 kB an image.')
WORKERS = flags.DEFINE_list('workers', ['1', '2', '4'], 'Numbers of DataLoader workers to try.')
BATCH, CROP, SIZE = 128, 224, 256


def rate(batches: Iterator, seconds: float) -> tuple[float, float]:
    """Images per second of wall time, and per second of all cores' time spent by this process."""
    for _ in range(4):  # fill the buffers
        next(batches)
    start, start_cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += BATCH
    return count / (time.perf_counter() - start), count / (time.process_time() - start_cpu)


def ours(data: PreparedDataSet) -> Iterator:
    """The pipeline with its defaults."""
    return pipeline.training_batches(data, DataConfig(crop_size=CROP), batch_size=BATCH, seed=0)


def torch_loader(files: list[str], data: PreparedDataSet, workers: int) -> Iterator:
    """A DataLoader doing the same work."""
    import torch
    from PIL import Image

    mean, components = data.mean_image(), data.color_components()

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int):
            image = np.asarray(Image.open(files[index]).convert('RGB'))
            top, left = np.random.randint(0, SIZE - CROP + 1, 2)
            x = image[top : top + CROP, left : left + CROP].astype(np.float32)
            x = x - mean[top : top + CROP, left : left + CROP]
            if np.random.rand() < 0.5:
                x = x[:, ::-1]
            x = x + components @ np.random.normal(0, 0.1, 3).astype(np.float32)
            return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))), index % 2

    loader = torch.utils.data.DataLoader(
        Files(), BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        yield from loader


def main(argv: list[str]) -> None:
    """Prepares the photographs, measures, prints."""
    console = Console(width=120)
    console.print(choose_platform(), highlight=False)
    cores = available_cores()
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        source = Photographs(SIZE, IMAGES.value)
        prepared = {
            storage: prepare(
                source, Settings('photographs', SIZE, storage, QUALITY.value, 8192), root / storage, console
            )
            for storage in ('jpeg', 'raw')
        }
        shards = pipeline.open_shards(prepared['raw'], 'train')
        (root / 'files').mkdir()
        files = [str(root / 'files' / f'{i}.jpg') for i in range(len(shards))]
        for i, file in enumerate(files):
            pixels = np.ascontiguousarray(shards.read(i)[0])
            jpeg = simplejpeg.encode_jpeg(pixels, QUALITY.value, colorspace='RGB', colorsubsampling='420')
            pathlib.Path(file).write_bytes(jpeg)
        kilobytes = sum(os.path.getsize(file) for file in files) / len(files) / 1e3

        sides: dict[str, Callable[[], Iterator]] = {
            'ours, JPEG': lambda: ours(prepared['jpeg']),
            'ours, raw': lambda: ours(prepared['raw']),
        }
        try:
            import torch

            for workers in map(int, WORKERS.value):
                sides[f'PyTorch {torch.__version__}, {workers} workers'] = lambda workers=workers: torch_loader(
                    files, prepared['jpeg'], workers
                )
        except ImportError:
            console.print('PyTorch is not installed: only our side is measured.')
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(ROUNDS.value):
            for name, make in sides.items():
                results[name].append(rate(make(), SECONDS.value))
        arithmetic = arithmetic_rate(prepared['jpeg'])

    table = Table(title=f'{cores} cores, images of {kilobytes:.1f} kB, batches of {BATCH}')
    for column in ('', 'images/s, median', 'least', 'most', 'images/s and core', 'times the best PyTorch'):
        table.add_column(column, justify='right' if column else 'left')
    wall = {name: [one[0] for one in values] for name, values in results.items()}
    best = max((statistics.median(values) for name, values in wall.items() if 'PyTorch' in name), default=None)
    for name, values in wall.items():
        median = statistics.median(values)
        # A DataLoader's workers are other processes, whose time is not counted here.
        own = f'{statistics.median(one[1] for one in results[name]):,.0f}' if 'ours' in name else ''
        ratio = f'{median / best:.2f}' if best else ''
        table.add_row(name, f'{median:,.0f}', f'{min(values):,.0f}', f'{max(values):,.0f}', own, ratio)
    console.print(table)
    console.print(f'The device arithmetic of augment.py, on the CPU: {arithmetic:,.0f} images/s.', highlight=False)
    console.print(f'Python {sys.version.split()[0]}, JAX {jax.__version__}, NumPy {np.__version__}.', highlight=False)


def arithmetic_rate(data: PreparedDataSet) -> float:
    """Images per second of the augmentation that is left to the device."""
    batch, constants = next(ours(data)), statistics_of(data, DataConfig(crop_size=CROP))
    function = jax.jit(training_images)
    function(batch, constants).block_until_ready()
    start = time.perf_counter()
    for _ in range(10):
        function(batch, constants).block_until_ready()
    return 10 * BATCH / (time.perf_counter() - start)


if __name__ == '__main__':
    app.run(main)
