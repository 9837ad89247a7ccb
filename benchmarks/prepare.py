"""Images per second, memory and disk of `--mode=prepare`, beside a loop of Pillow over a pool of processes.

    python -m benchmarks.prepare
    python -m benchmarks.prepare --directory=PHOTOGRAPHS

The photographs are the JPEGs below the directory. Without one they are 500 x 375, as ImageNet's are on average, cut out
of the photographs that come with scikit-learn. The loop does what section 2 says of an image, one step after the other,
and stores the pixels; it checks nothing, measures no statistics, and cannot resume. Both do so on all cores, in turns.
Figures for ImageNet are extrapolated to its 1,331,167 images.
"""

import concurrent.futures
import multiprocessing
import pathlib
import resource
import tempfile
import time

from absl import app, flags
from PIL import Image
from rich.console import Console

from alexnet_jax.data.dataset import Settings
from alexnet_jax.data.prepare import prepare
from alexnet_jax.data.sources import Item
from alexnet_jax.data.sources.base import Identity, identity_of_file
from alexnet_jax.runtime.devices import available_cores
from benchmarks.photographs import photographs
from experiments import paper

DIRECTORY = flags.DEFINE_string('directory', '', 'Where JPEGs are, in folders of any depth.')
IMAGES = flags.DEFINE_integer('images', 1000, 'How many images to prepare.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'How often; the least time of each counts.')
IMAGENET = 1_281_167 + 50_000
SIZE = 256


class Photographs:
    """Image files, each twentieth for validation."""

    class_names = class_ids = ('photographs', 'none')

    def __init__(self, paths: list[pathlib.Path]) -> None:
        self._paths = {'train': [path for i, path in enumerate(paths) if i % 20], 'validation': paths[::20]}
        self.splits = {split: len(some) for split, some in self._paths.items()}

    def item(self, split: str, index: int) -> Item:
        """A file."""
        path = self._paths[split][index]
        return Item(path.name, path.read_bytes(), 0)

    def identity(self, split: str, index: int) -> Identity:
        """Path, size and time of a file; without it, every file would be read twice."""
        return identity_of_file('', str(self._paths[split][index]), 0)


def with_pillow(path: pathlib.Path, stored: pathlib.Path) -> None:
    """The shorter side to 256, the central 256 x 256, to raw pixels."""
    image = Image.open(path).convert('RGB')
    shorter = min(image.size)
    size = (round(image.width * SIZE / shorter), round(image.height * SIZE / shorter))
    image = image.resize(size, Image.Resampling.LANCZOS)
    left, top = (size[0] - SIZE) // 2, (size[1] - SIZE) // 2
    stored.write_bytes(image.crop((left, top, left + SIZE, top + SIZE)).tobytes())


def loop(paths: list[pathlib.Path], directory: pathlib.Path, cores: int) -> None:
    """The loop, in processes that are forked; memory is theirs, so nothing of it counts as prepare's."""
    with concurrent.futures.ProcessPoolExecutor(cores, multiprocessing.get_context('fork')) as pool:
        for _ in pool.map(with_pillow, paths, [directory / f'{number}.raw' for number in range(len(paths))]):
            pass


def seconds_of_cores() -> float:
    """CPU time of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(argv: list[str]) -> None:
    """Prepares, measures, prints."""
    console, data, cores = Console(width=120), paper.get_config().data, available_cores()
    with tempfile.TemporaryDirectory() as scratch:
        where = pathlib.Path(scratch)
        paths = photographs(where, DIRECTORY.value, IMAGES.value)
        kilobytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e3
        console.print(f'{len(paths):,} images of {kilobytes:.0f} kB on average; {cores} cores', highlight=False)
        best: dict[str, tuple[float, float]] = {}
        disk: dict[str, float] = {}
        for number in range(ROUNDS.value):
            for kind in ('raw', 'jpeg', 'Pillow'):
                place = where / f'{kind}-{number}'
                start, used = time.perf_counter(), seconds_of_cores()
                if kind == 'Pillow':
                    place.mkdir()
                    loop(paths, place, cores)
                else:
                    settings = Settings('photographs', SIZE, kind, data.quality, data.images_per_shard)
                    prepare(Photographs(paths), settings, place, Console(quiet=True))
                    shards = [file for file in place.glob('*-0*') if file.suffix != '.sums']  # those are one a shard
                    disk[kind] = sum(file.stat().st_size for file in shards) / len(paths)
                taken = time.perf_counter() - start, seconds_of_cores() - used
                best[kind] = tuple(map(min, taken, best.get(kind, taken)))  # type: ignore[assignment]
    for kind, (seconds, cpu) in best.items():
        rate, times = len(paths) / seconds, best['Pillow'][0] / seconds
        console.print(
            f'{kind}: {rate:.0f} images/s, {1e3 * cpu / len(paths):.2f} ms of a core an image; {times:.2f} times as '
            f"fast as Pillow's loop, with {cpu / best['Pillow'][1]:.2f} times its CPU time",
            highlight=False,
            soft_wrap=True,
        )
    for kind, size in disk.items():
        rate = len(paths) / best[kind][0]
        console.print(
            f'ImageNet as {kind}: {IMAGENET / rate / 3600:.1f} hours on {cores} such cores, '
            f'{IMAGENET / rate * cores / 16 / 3600:.1f} on 16; {size * IMAGENET / 1e9:.0f} GB.',
            highlight=False,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    console.print(f'Peak memory: {peak:.2f} GB.', highlight=False)


if __name__ == '__main__':
    app.run(main)
