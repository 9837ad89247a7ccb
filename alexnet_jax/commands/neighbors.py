"""Nearest training images by a layer's activations (Figure 4, right), and by short binary codes: `--mode=neighbors`.

"Computing similarity by using Euclidean distance between two 4096-dimensional, real-valued vectors is inefficient,
but it could be made efficient by training an auto-encoder to compress these vectors to short binary codes."
"""

import io
import pathlib
import time
from typing import Any

import numpy as np
from rich.console import Console

from alexnet_jax.commands.features import extract
from alexnet_jax.commands.tables import Table, add_row, new_table
from alexnet_jax.config import Config
from alexnet_jax.data.dataset import PreparedDataSet, open_prepared
from alexnet_jax.data.pipeline import open_shards, read
from alexnet_jax.evaluation.binary_codes import Encoder, encode, random_hyperplanes, train_autoencoder
from alexnet_jax.evaluation.hamming import hamming_nearest, recall, rerank
from alexnet_jax.evaluation.nearest import nearest
from alexnet_jax.figures.codes import recall_curve
from alexnet_jax.figures.examples import figure_4_right
from alexnet_jax.figures.style import write_figure
from alexnet_jax.runs.feature_store import LABELS, NAMES, VALUES
from alexnet_jax.runtime.files import write_bytes, write_json
from alexnet_jax.runtime.formatting import format_percent
from alexnet_jax.runtime.progress_bar import Display

_NEIGHBORS = 6  # as in Figure 4
_ROWS = 5  # of Figure 4
_QUERIES = 512  # validation images that codes are judged by, at most
_SHORTLIST = 60  # candidates that codes propose, of which true distances choose six
_LENGTHS = (32, 64, 128, 256, 512)  # bits
_KEPT = 256  # bits of the codes that are written
AUTOENCODER, HYPERPLANES = 'autoencoder', 'random hyperplanes'


def retrieve(
    config: Config, workdir: str, which: str, layer: str, console: Console, output: str | None = None
) -> dict[str, Any]:
    """Finds nearest neighbors by a layer's activations, and by codes of several lengths.

    Writes WORKDIR/figures/neighbors.png and codes.png (.svg), WORKDIR/neighbors.json, WORKDIR/codes.json, and beside
    the training images' activations codes-256.npy, uint32 [images, 8].

    Args:
      config: of the run.
      workdir: of the run.
      which: 'newest', 'best', or a step.
      layer: of the network's table, as for `features.extract`.
      console: for output.
      output: directory that takes the place of WORKDIR above; None for the workdir.

    Returns:
      The content of codes.json: 'layer', 'images', 'queries', 'same_class' ('found': the share of the six nearest
      images that are of the query's class; 'by_chance': of all images), 'exact_seconds', and 'codes', for each length
      its 'bits', 'recall' (of the true six among the first six) and 'recall_of_shortlist' by method, 'seconds' and
      'speed_up'.

    Raises:
      UserError: the run, the layer or the data set cannot be used, or a file cannot be written.
    """
    train, validation = (
        extract(config, workdir, which, layer, split, [], console, output) for split in ('train', 'validation')
    )
    place = pathlib.Path(output or workdir)
    values, queries = (np.load(directory / VALUES, mmap_mode='r') for directory in (train, validation))
    chosen = np.sort(np.random.default_rng(0).permutation(len(queries))[:_QUERIES])
    queries = np.asarray(queries[chosen])

    with Display(console, len(values), 0, name='exact search', unit='images') as display:
        nearest(values[: min(len(values), 2**14)], queries, _NEIGHBORS)  # compiles
        began = time.perf_counter()
        true, distances = nearest(values, queries, _NEIGHBORS, on_block=display.update)
        seconds = time.perf_counter() - began
    shown = np.random.default_rng(1).permutation(len(queries))[:_ROWS]
    data, found = open_prepared(config.data.directory), (chosen[shown], true[shown], distances[shown])
    rows = _write_figure_4(place, data, [train, validation], found, console)
    write_json(place / 'neighbors.json', {'layer': layer, 'queries': rows})
    report: dict[str, Any] = {
        'layer': layer,
        'images': len(values),
        'queries': len(queries),
        'same_class': _same_class(np.load(train / LABELS), np.load(validation / LABELS)[chosen], true),
        'exact_seconds': seconds,
        'codes': [],
    }
    lengths = [bits for bits in _LENGTHS if bits <= max(32, values.shape[1])]
    with Display(console, len(lengths), 0, name='codes', unit='lengths') as display:
        for done, bits in enumerate(lengths, 1):
            encoder = train_autoencoder(values, bits, seed=0)
            report['codes'].append(_judge(encoder, values, queries, true, seconds))
            if bits == _KEPT:
                content = io.BytesIO()
                np.save(content, encode(encoder, values))
                write_bytes(train / f'codes-{bits}.npy', content.getvalue())
            display.update(done)
    write_json(place / 'codes.json', report)
    console.print(_table(report))
    curves = {
        name: [one[measure][method] for one in report['codes']]
        for name, measure, method in (
            (AUTOENCODER, 'recall', AUTOENCODER),
            (f'{AUTOENCODER}, among the first {_SHORTLIST}', 'recall_of_shortlist', AUTOENCODER),
            (HYPERPLANES, 'recall', HYPERPLANES),
        )
    }
    title = f'{config.name}: codes of {layer} for {len(values):,} images'
    figure = recall_curve(lengths, curves, [one['speed_up'] for one in report['codes']], title)
    write_figure(figure, place / 'figures' / 'codes', console, line_art=True)
    return report


def _same_class(train: np.ndarray, wanted: np.ndarray, near: np.ndarray) -> dict[str, float]:
    """How often neighbors are of the query's class, and how often any training image is.

    Args:
      train: labels of the training images.
      wanted: labels of the queries.
      near: [queries, neighbors], training images.
    """
    frequency = np.bincount(train, minlength=wanted.max() + 1) / len(train)
    return {'found': float(np.mean(train[near] == wanted[:, None])), 'by_chance': float(frequency[wanted].mean())}


def _judge(encoder: Encoder, values: np.ndarray, queries: np.ndarray, true: np.ndarray, exact: float) -> dict[str, Any]:
    """Recall and search time of codes of one length, and recall of as many random hyperplanes.

    Args:
      encoder: the autoencoder's.
      values: [images, values].
      queries: [queries, values].
      true: [queries, neighbors], the nearest by Euclidean distance.
      exact: seconds of the search by Euclidean distance for these queries.
    """
    found: dict[str, Any] = {'bits': encoder.bits, 'recall': {}, 'recall_of_shortlist': {}}
    shortlist = min(_SHORTLIST, len(values))
    for name, by in ((HYPERPLANES, random_hyperplanes(values, encoder.bits, 0)), (AUTOENCODER, encoder)):
        codes = encode(by, values)
        hamming_nearest(codes, encode(by, queries), shortlist)  # compiles
        began = time.perf_counter()
        candidates, _ = hamming_nearest(codes, encode(by, queries), shortlist)
        rerank(values, queries, candidates, true.shape[1])
        found['seconds'] = time.perf_counter() - began
        found['recall'][name] = recall(candidates[:, : true.shape[1]], true)
        found['recall_of_shortlist'][name] = recall(candidates, true)
    return found | {'speed_up': exact / found['seconds']}


def _table(report: dict[str, Any]) -> Table:
    found, chance = (format_percent(report['same_class'][one], 1) for one in ('found', 'by_chance'))
    table = new_table(
        f'The six nearest of {report["images"]:,} images by codes of {report["layer"]}',
        f'{report["queries"]} queries, {found} of whose six nearest are of their class (of all images {chance}). '
        f'Exact search: {report["exact_seconds"]:.2f} s; codes: search, and choice of six among the first '
        f'{_SHORTLIST} by true distance.',
        right=['bits', 'recall', f'among the first {_SHORTLIST}', HYPERPLANES, 'seconds', 'times as fast'],
    )
    for one in report['codes']:
        shares = one['recall'][AUTOENCODER], one['recall_of_shortlist'][AUTOENCODER], one['recall'][HYPERPLANES]
        numbers = [format_percent(share, 1) for share in shares]
        add_row(table, str(one['bits']), *numbers, f'{one["seconds"]:.3f}', f'{one["speed_up"]:.3g}')
    return table


def _write_figure_4(
    place: pathlib.Path,
    data: PreparedDataSet,
    directories: list[pathlib.Path],
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
    console: Console,
) -> list[dict[str, Any]]:
    """Draws Figure 4, right, and returns the rows of neighbors.json: name, class and distance of each image.

    Args:
      place: directory for the results.
      data: the data set with its images.
      directories: of the features of its training and validation split.
      found: validation images, their neighbors among the training images, and the distances.
      console: for output.
    """
    names, others = ((directory / NAMES).read_text(encoding='utf-8').split('\n') for directory in directories)
    train, validation = (open_shards(data, split) for split in ('train', 'validation'))
    rows, pictures, titles, shown = [], [], [], []
    for query, near, far in zip(*(array.tolist() for array in found), strict=True):
        pixels, label = read(validation, query, len(data.class_names))
        images = [read(train, index, len(data.class_names)) for index in near]
        pictures.append(pixels)
        shown.append([image for image, _ in images])
        titles.append(data.class_names[label])
        neighbors = [
            {'image': names[index], 'class': data.class_names[own], 'distance': distance}
            for index, (_, own), distance in zip(near, images, far, strict=True)
        ]
        rows.append({'image': others[query], 'class': data.class_names[label], 'nearest': neighbors})
    write_figure(figure_4_right(pictures, shown, titles), place / 'figures' / 'neighbors', console)
    return rows
