"""What the two other methods of Table 1 share: images, descriptors, choice of the classifier, errors.

The weight decay is chosen on a held-out tenth of the training images; the classifier is then trained on all of them.
"""

import argparse
import concurrent.futures
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from alexnet_jax.commands.start import start
from alexnet_jax.commands.tables import add_row, new_table
from alexnet_jax.data.dataset import PreparedDataSet, open_prepared
from alexnet_jax.data.pipeline import open_shards, read
from alexnet_jax.evaluation.metrics import top_k_errors
from alexnet_jax.evaluation.published import rows_for
from alexnet_jax.runs.eval_json import EVAL_JSON, Evaluation, ViewErrors
from alexnet_jax.runs.workdir import make_workdir
from alexnet_jax.runtime.errors import UserError, exit_codes, say
from alexnet_jax.runtime.files import write_json
from alexnet_jax.runtime.formatting import format_percent, format_top5
from alexnet_jax.runtime.progress_bar import Display
from experiments.table_1 import linear
from experiments.table_1.descriptors import SMALLEST, grid, in_cells

SAMPLES = 200_000  # descriptors that an encoding is learned from
BATCH = 64  # images that are encoded at once
WEIGHT_DECAYS, EPOCHS = (0.01, 0.1, 1.0), 20
Encoding = Callable[[np.ndarray], np.ndarray]
"""From descriptors, float32 [images, patches, n], to features, [images, dimensions] of norm 1."""
Learning = Callable[[np.ndarray, np.ndarray, int], Encoding]
"""From a sample of descriptors [samples, n], the cells [cells, patches] and a seed, to an encoding."""
Describe = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From an image, uint8 [size, size, 3], and its patches [patches, 3] to descriptors, float32 [patches, n]."""


class _Descriptors:
    """The descriptors of a split's images."""

    def __init__(self, data: PreparedDataSet, split: str, describe: Describe) -> None:
        self._shards, self._classes, self._describe = open_shards(data, split), len(data.class_names), describe
        size = max(data.image_size, SMALLEST)
        self.patches = grid(size)
        self.cells = in_cells(self.patches, size)
        self.images = data.examples(split)

    def of(self, index: int) -> tuple[np.ndarray, int]:
        """Descriptors [patches, n] and label of an image."""
        pixels, label = read(self._shards, index, self._classes)
        return self._describe(pixels, self.patches), label


def main(name: str, learn: Learning, description: str, kinds: Mapping[str, Describe]) -> None:
    """Parses the command line, and measures a method on a prepared data set."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--directory', required=True, help='of a prepared data set, as data/cifar10')
    parser.add_argument('--output', required=True, help='directory for eval.json')
    parser.add_argument('--split', help='that is measured (default test where there is one, else validation)')
    parser.add_argument('--seed', type=int, default=0, help='of what is drawn at random (default 0)')
    given = parser.parse_args()
    with exit_codes():
        measure(name, learn, kinds, given.directory, given.output, given.split, given.seed, start(None))


def measure(
    name: str,
    learn: Learning,
    kinds: Mapping[str, Describe],
    directory: str,
    output: str,
    split: str | None,
    seed: int,
    console: Console,
) -> Evaluation:
    """Learns an encoding and a classifier from the training images, and measures another split's.

    Each kind of descriptors has an encoding and a classifier of its own; their predictions are averaged.

    Args:
      name: of the method, for the table.
      learn: the encoding.
      kinds: of descriptors, by name.
      directory: of the prepared data set.
      output: where eval.json goes.
      split: that is measured; None for 'test' where there is one, else 'validation'.
      seed: of the descriptors that are drawn, of the encoding, and of the order of the images.
      console: for output.

    Raises:
      UserError: the data set cannot be used or lacks the split, OpenCV is missing, or the result cannot be written.
    """
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise UserError('OpenCV is missing, which computes SIFT: pip install ".[baselines]".') from error
    try:
        data = open_prepared(directory)
    except FileNotFoundError as error:
        raise UserError(f'--directory={directory} is no prepared data set (--mode=prepare).') from error
    split = split or ('test' if data.shards.get('test') else 'validation')
    if split == 'train' or not data.shards.get(split):
        others = ', '.join(one for one, shards in data.shards.items() if shards and one != 'train')
        raise UserError(f'--split={split}: {directory} has these to measure: {others}.')
    make_workdir(output, '--output')
    classes = len(data.class_names)
    table = new_table('', '', [''], ['top-1 error', 'top-5 error'])
    probabilities = []
    for kind, describe in kinds.items():
        train, others = (_Descriptors(data, one, describe) for one in ('train', split))
        encode = learn(_sample(train, seed), train.cells, seed)
        features, labels = _features(encode, train, f'encoding train, {kind}', console)
        fit = functools.partial(linear.fit, classes=classes, epochs=EPOCHS, seed=seed)
        weights = fit(features, labels, weight_decay=_chosen(fit, features, labels, seed, console))
        dimensions = features.shape[1]
        del features  # gigabytes
        tests, test_labels = _features(encode, others, f'encoding {split}, {kind}', console)
        probabilities.append(linear.probabilities(weights, tests))
        _add(table, f'{name}: {kind}, {dimensions:,} dimensions', probabilities[-1:], test_labels)
    if len(kinds) > 1:
        _add(table, f'{name}: {" and ".join(kinds)}, averaged', probabilities, test_labels)
    top1, top5 = _errors(probabilities, test_labels)
    views = {'center': ViewErrors(top1_error=top1, top5_error=top5, patches=1)}
    result = Evaluation(
        source=data.settings.source, split=split, examples=len(test_labels), classes=classes, views=views
    )
    table.title = f'{result.source}, {split}: {result.examples:,} images'
    for row in rows_for(result.source, split, classes, result.examples):
        add_row(table, f'{row.model} ({row.where})', format_percent(row.top1_error), format_percent(row.top5_error))
    console.print(table)
    write_json(pathlib.Path(output) / EVAL_JSON, result.model_dump(exclude_defaults=True))
    return result


def _errors(probabilities: Sequence[np.ndarray], labels: np.ndarray) -> tuple[float, float]:
    """Top-1 and top-5 error, 0..1, of the classifiers' mean."""
    mean = np.mean(probabilities, axis=0)
    top1, top5 = (float(top_k_errors(mean, labels, k).mean()) for k in (1, 5))
    return top1, top5


def _add(table: Table, what: str, probabilities: Sequence[np.ndarray], labels: np.ndarray) -> None:
    top1, top5 = _errors(probabilities, labels)
    add_row(table, what, format_percent(top1), format_top5(top5, probabilities[0].shape[1]))


def _sample(train: _Descriptors, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    images = random.permutation(train.images)[: max(1, SAMPLES // 40)]
    each = -(-SAMPLES // len(images))
    parts = [random.permutation(train.of(index)[0])[:each] for index in images.tolist()]
    return np.concatenate(parts)[:SAMPLES]


def _features(encode: Encoding, images: _Descriptors, name: str, console: Console) -> tuple[np.ndarray, np.ndarray]:
    """Features [images, dimensions], float16, and labels."""
    labels, rows = np.empty(images.images, np.int32), None
    display = Display(console, images.images, 0, name=name, unit='images')
    with display, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, images.images, BATCH):
            batch = range(first, min(first + BATCH, images.images))
            found, own = zip(*pool.map(images.of, batch), strict=True)
            padded = np.zeros((BATCH, *found[0].shape), np.float32)
            padded[: len(found)] = found
            encoded = encode(padded)[: len(found)]
            if rows is None:
                rows = np.empty((images.images, encoded.shape[1]), np.float16)
            rows[batch.start : batch.stop], labels[batch.start : batch.stop] = encoded, own
            display.update(batch.stop)
    assert rows is not None, 'a prepared data set has no empty splits'
    return rows, labels


def _chosen(
    fit: Callable[..., linear.Weights], features: np.ndarray, labels: np.ndarray, seed: int, console: Console
) -> float:
    """The weight decay whose error on a held-out tenth of the training images is lowest."""
    held_out = np.random.default_rng(seed).random(len(labels)) < 0.1
    rest, own = features[~held_out], labels[~held_out]
    found = {
        decay: linear.errors(fit(rest, own, weight_decay=decay), features[held_out], labels[held_out])[0]
        for decay in WEIGHT_DECAYS
    }
    for decay, error in found.items():
        say(console, f'weight decay {decay:g}: {error:.2%} on a held-out tenth of the training images')
    return min(found, key=found.__getitem__)
