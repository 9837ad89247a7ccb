"""Images per second, memory and disk of `--mode=prepare`, extrapolated to the 1,331,167 images of ImageNet.

    python -m benchmarks.prepare

The images are 500 x 375, as ImageNet's are on average, cut out of the photographs that come with scikit-learn.
"""

import pathlib
import resource
import tempfile
import time

import numpy as np
import simplejpeg
from absl import app, flags
from rich.console import Console

from alexnet_jax.data.dataset import Settings
from alexnet_jax.data.prepare import prepare
from alexnet_jax.data.sources import Item
from alexnet_jax.runtime.devices import available_cores
from experiments import paper

IMAGES = flags.DEFINE_integer('images', 2000, 'How many images to prepare.')
IMAGENET = 1_281_167 + 50_000


class Photographs:
    """Sixteen different images in turn, already encoded."""

    def __init__(self, count: int) -> None:
        from PIL import Image
        from sklearn.datasets import load_sample_images

        random = np.random.default_rng(0)
        self._encoded = []
        for photograph in load_sample_images().images:
            large = np.asarray(Image.fromarray(photograph).resize((960, 640), Image.Resampling.BICUBIC))
            for _ in range(8):
                top, left = random.integers(0, 640 - 375), random.integers(0, 960 - 500)
                patch = np.ascontiguousarray(large[top : top + 375, left : left + 500])
                self._encoded.append(simplejpeg.encode_jpeg(patch, 95, colorspace='RGB', colorsubsampling='420'))
        self.kilobytes = sum(map(len, self._encoded)) / len(self._encoded) / 1e3
        self.class_names = self.class_ids = ('china', 'flower')
        self.splits = {'train': count, 'validation': 16}

    def item(self, split: str, index: int) -> Item:
        """One of the sixteen."""
        return Item(f'{index}.jpg', self._encoded[index % 16], index % 16 // 8)


def main(argv: list[str]) -> None:
    """Prepares, measures, prints."""
    console, data = Console(width=120), paper.get_config().data
    cores, source = available_cores(), Photographs(IMAGES.value)
    console.print(f'{IMAGES.value} images of 500 x 375, {source.kilobytes:.0f} kB each; {cores} cores', highlight=False)
    for storage in ('jpeg', 'raw'):
        with tempfile.TemporaryDirectory() as directory:
            settings = Settings('photographs', data.image_size, storage, data.quality, data.images_per_shard)
            start = time.perf_counter()
            prepare(source, settings, pathlib.Path(directory) / 'data', console)
            rate = sum(source.splits.values()) / (time.perf_counter() - start)
            disk = sum(file.stat().st_size for file in (pathlib.Path(directory) / 'data').glob('train*')) / IMAGES.value
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        console.print(
            f'{storage}: {rate:.0f} images/s, {rate / cores:.0f} a core; {disk / 1e3:.1f} kB an image; peak memory '
            f'{peak:.2f} GB. ImageNet: {IMAGENET / rate / 3600:.1f} hours on {cores} such cores, '
            f'{IMAGENET / rate * cores / 16 / 3600:.1f} on 16; {disk * IMAGENET / 1e9:.0f} GB.',
            highlight=False,
            soft_wrap=True,
        )


if __name__ == '__main__':
    app.run(main)
