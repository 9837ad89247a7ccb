"""What the page of `--mode=demo` shows of a photograph: labels, nearest training images, and every layer's maps."""

import dataclasses
import pathlib
import threading
from typing import Any

import jax
import numpy as np
from jax import Array

from alexnet_jax.commands.features import about_features
from alexnet_jax.data.augment import Statistics, view
from alexnet_jax.data.dataset import open_prepared
from alexnet_jax.data.images import normalized
from alexnet_jax.data.own_images import as_stored
from alexnet_jax.data.pipeline import open_shards, read
from alexnet_jax.data.records import Shards
from alexnet_jax.evaluation.activations import activation_of
from alexnet_jax.evaluation.nearest import nearest
from alexnet_jax.figures.maps import gray_range, map_sheet
from alexnet_jax.model.layer_specs import Dropout, Exchange, Flatten, Learned, ReLU, Table, Tanh
from alexnet_jax.runs.feature_store import ABOUT, VALUES
from alexnet_jax.runs.trained import Run
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import read_json

FEATURES = 'fc7'  # by which training images are near, section 6.1
_NEIGHBORS = 6  # as in Figure 4


@dataclasses.dataclass(frozen=True)
class LayerMaps:
    """One layer's values.

    Attributes:
      name: of the layer, for a layer with kernels together with the nonlinearity after it.
      words: how many maps of which size.
      sheets: for each column gray pixels, as `map_sheet` makes them.
    """

    name: str
    words: str
    sheets: list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Analysis:
    """A photograph, as the network sees it.

    Attributes:
      pixels: uint8 [size, size, 3], RGB: as a data set would hold it.
      labels: the most probable classes and their probabilities, the most probable first.
      neighbors: the nearest training images with their classes, nearest first; empty where there are no features.
      layers: in their order.
    """

    pixels: np.ndarray
    labels: list[tuple[str, float]]
    neighbors: list[tuple[np.ndarray, str]]
    layers: list[LayerMaps]


class Analyzer:
    """A trained network that analyzes one photograph at a time, whichever thread asks.

    Attributes:
      run: the trained network.
      without_neighbors: why no nearest images are shown; '' where they are.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._shown = shown_layers(run.config.network)
        self._activations = jax.jit(self._computed)
        self._neighbors, self.without_neighbors = _open_features(run)

    def analyze(self, encoded: bytes) -> Analysis:
        """Analyzes an image file.

        Raises:
          ValueError: it cannot be read; the message says why.
          UserError: a training image cannot be read.
        """
        data = self.run.data
        with self._reading:  # one at a time, as a large one takes hundreds of megabytes
            pixels = normalized(encoded, data.image_size, max_megapixels=self.run.config.data.max_megapixels)
        return self._of(as_stored(pixels, data))

    def compile(self) -> None:
        """Analyzes a black image, so that the first photograph need not wait for the compiler."""
        self._of(np.zeros((self.run.data.image_size, self.run.data.image_size, 3), np.uint8))

    def _of(self, pixels: np.ndarray) -> Analysis:
        run = self.run
        with self._lock:
            [labels] = run.top_classes(pixels[None])
            values = self._activations(run.parameters, pixels[None], run.statistics)
            neighbors = self._nearest(pixels)
        layers = []
        for name, of_columns in zip(self._shown, values, strict=True):
            columns = [np.asarray(x[0]) for x in of_columns]
            *place, count = columns[0].shape
            what = f'{count * len(columns):,} maps of {place[0]} x {place[1]}' if place else f'{count:,} units'
            if not place and len(columns) > 1:
                what += ' a column'
            layers.append(LayerMaps(name, what, [map_sheet(x, *gray_range(columns)) for x in columns]))
        return Analysis(pixels, labels, neighbors, layers)

    def _computed(self, parameters: Any, images: Array, statistics: Statistics) -> list[list[Array]]:
        run = self.run
        x = view(images, statistics, 0, run.config.data.crop_size)
        _, found = run.network.apply({'params': parameters}, x, mutable=['intermediates'])
        return [found['intermediates'][f'after_{line}'][0] for line in self._shown.values()]

    def _nearest(self, pixels: np.ndarray) -> list[tuple[np.ndarray, str]]:
        if self._neighbors is None:
            return []
        values, shards = self._neighbors
        rows, _ = nearest(values, self.run.features(pixels[None], FEATURES), min(_NEIGHBORS, len(values)))
        found = [read(shards, row, len(self.run.class_names)) for row in rows[0].tolist()]
        return [(image, self.run.class_names[label]) for image, label in found]


def shown_layers(table: Table) -> dict[str, str]:
    """Layers whose values are worth looking at: the name to show, and the line of the table after which they are taken.

    A layer with kernels is shown after the nonlinearity that follows it. What only passes values on is left out, and so
    are the logits.
    """
    shown = {}
    for number, (name, layer) in enumerate(table[:-1]):
        following, after = table[number + 1]
        if isinstance(layer, Learned) and isinstance(after, ReLU | Tanh):
            shown[name] = following
        elif name not in shown.values() and not isinstance(layer, Exchange | Flatten | Dropout):
            shown[name] = name
    return shown


def _open_features(run: Run) -> tuple[tuple[np.ndarray, Shards] | None, str]:
    """The training images' features, memory-mapped, and these images; or None, and why not."""
    directory = pathlib.Path(run.workdir) / 'features' / f'{FEATURES}-train-step{run.progress.step}'
    try:
        about = read_json(directory / ABOUT)
        values = np.load(directory / VALUES, mmap_mode='r')
    except (OSError, ValueError):
        return None, 'there are no features of the training images; --mode=features makes them'
    try:
        data = open_prepared(run.config.data.directory)
    except (FileNotFoundError, UserError):
        return None, 'the prepared training images are not there (config.data.directory)'
    line = activation_of(run.config.network, FEATURES)
    expected = about_features(run, FEATURES, line, data, 'train', [])
    whole = values.shape == (about.get('images'), about.get('values'))
    whole = whole and about.get('class_names') == [*run.class_names]
    if not whole or any(about.get(name) != value for name, value in expected.items()):
        return None, (
            'the features are of other images or of another network; delete them, and --mode=features makes them again'
        )
    return (values, open_shards(data, 'train')), ''
