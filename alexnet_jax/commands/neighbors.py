"""The training images nearest to others by a layer's values (Figure 4, right), and short codes: `--mode=neighbors`.

"Computing similarity by using Euclidean distance between two 4096-dimensional, real-valued vectors is inefficient,
but it could be made efficient by training an auto-encoder to compress these vectors to short binary codes."
"""

import pathlib
import time
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from alexnet_jax.commands.features import extract
from alexnet_jax.config import Config
from alexnet_jax.data.dataset import PreparedDataSet, open_prepared
from alexnet_jax.data.pipeline import open_shards, read
from alexnet_jax.evaluation.binary_codes import Encoder, encode, random_hyperplanes, train_autoencoder
from alexnet_jax.evaluation.hamming import hamming_nearest, recall, rerank
from alexnet_jax.evaluation.nearest import nearest
from alexnet_jax.figures.codes import recall_curve
from alexnet_jax.figures.examples import figure_4_right
from alexnet_jax.figures.style import save
from alexnet_jax.runs.feature_store import NAMES, VALUES
from alexnet_jax.runtime.errors import say, writing
from alexnet_jax.runtime.files import write_json
from alexnet_jax.runtime.progress_bar import Display

_NEIGHBORS = 6  # as in Figure 4
_ROWS = 5  # of Figure 4
_QUERIES = 512  # validation images by which codes are judged, at most
_SHORTLIST = 60  # candidates that the codes propose, of which the true distances choose six
_LENGTHS = (32, 64, 128, 256, 512)  # bits; 256 are kept
_KEPT = 256


def retrieve(config: Config, workdir: str, which: str, layer: str, console: Console) -> dict[str, Any]:
    """Finds neighbors by a layer's values, and tries codes of several lengths in their place.

    Writes WORKDIR/figures/neighbors.png and codes.png (.svg), WORKDIR/neighbors.json, WORKDIR/codes.json, and beside
    the training images' values codes-256.npy, uint32 [images, 8], for use elsewhere.

    Args:
      config: the experiment that the run was made with.
      workdir: of the run.
      which: 'newest', 'best', or the number of a step.
      layer: a line of the network's table, as for `features.extract`.
      console: where to print.

    Returns:
      What codes.json holds: 'layer', 'images', 'queries', 'exact_seconds', and 'codes', for each length its 'bits',
      'recall' (of the true six among the first six) and 'recall_of_shortlist' by method, 'seconds' and 'speed_up'.

    Raises:
      UserError: the run, the layer or the data set cannot be used, or a file cannot be written.
    """
    directory = extract(config, workdir, which, layer, 'train', [], console)
    values = np.load(directory / VALUES, mmap_mode='r')
    others = extract(config, workdir, which, layer, 'validation', [], console)
    queries = np.load(others / VALUES, mmap_mode='r')
    data = open_prepared(config.data.directory)
    chosen = np.sort(np.random.default_rng(0).permutation(len(queries))[:_QUERIES])
    queries = np.asarray(queries[chosen])

    with Display(console, len(values), 0, name='exact search', unit='images') as display:
        nearest(values[: min(len(values), 2**14)], queries, _NEIGHBORS)  # compiles
        began = time.perf_counter()
        true, distances = nearest(values, queries, _NEIGHBORS, on_block=display.update)
        seconds = time.perf_counter() - began
    shown = np.random.default_rng(1).permutation(len(queries))[:_ROWS]
    _write_neighbors(workdir, layer, data, [directory, others], chosen[shown], true[shown], distances[shown], console)
    report = {'layer': layer, 'images': len(values), 'queries': len(queries), 'exact_seconds': seconds, 'codes': []}
    lengths = [bits for bits in _LENGTHS if bits <= max(32, values.shape[1])]
    with Display(console, len(lengths), 0, name='codes', unit='lengths') as display:
        for done, bits in enumerate(lengths, 1):
            encoder = train_autoencoder(values, bits, seed=0)
            report['codes'].append(_judge(encoder, values, queries, true, seconds))
            if bits == _KEPT:
                with writing(directory / f'codes-{bits}.npy'):
                    np.save(directory / f'codes-{bits}.npy', encode(encoder, values))
            display.update(done)
    write_json(pathlib.Path(workdir) / 'codes.json', report)
    console.print(_table(report))
    figure = recall_curve(
        lengths,
        {
            'autoencoder': [one['recall']['autoencoder'] for one in report['codes']],
            f'autoencoder, among the first {_SHORTLIST}': [
                one['recall_of_shortlist']['autoencoder'] for one in report['codes']
            ],
            'random hyperplanes': [one['recall']['random hyperplanes'] for one in report['codes']],
        },
        [one['speed_up'] for one in report['codes']],
        f'{config.name}: codes of {layer} for {len(values):,} images',
    )
    _wrote(save(figure, pathlib.Path(workdir) / 'figures' / 'codes', line_art=True), console)
    return report


def _judge(encoder: Encoder, values: np.ndarray, queries: np.ndarray, true: np.ndarray, exact: float) -> dict[str, Any]:
    """Recall and time of codes of one length, beside those of random hyperplanes.

    Args:
      encoder: the autoencoder's.
      values: [images, values].
      queries: [queries, values].
      true: [queries, neighbors], the nearest by Euclidean distance.
      exact: seconds that the search by Euclidean distance took for these queries.
    """
    found: dict[str, Any] = {'bits': encoder.bits, 'recall': {}, 'recall_of_shortlist': {}}
    shortlist = min(_SHORTLIST, len(values))
    for name, by in (
        ('random hyperplanes', random_hyperplanes(values, encoder.bits, 0)),
        ('autoencoder', encoder),
    ):
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
    table = Table(
        title=f'The six nearest of {report["images"]:,} images by codes of {report["layer"]}',
        caption=f'{report["queries"]} queries; exact search: {report["exact_seconds"]:.2f} s; codes: with the search, '
        f'and the choice of six among the first {_SHORTLIST} by true distance.',
        box=SIMPLE_HEAD,
    )
    for column in ('bits', 'recall', f'among the first {_SHORTLIST}', 'random hyperplanes', 'seconds', 'times as fast'):
        table.add_column(column, justify='right')
    for one in report['codes']:
        shares = (
            one['recall']['autoencoder'],
            one['recall_of_shortlist']['autoencoder'],
            one['recall']['random hyperplanes'],
        )
        numbers = [f'{share:.1%}' for share in shares]
        table.add_row(str(one['bits']), *numbers, f'{one["seconds"]:.3f}', f'{one["speed_up"]:.3g}')
    return table


def _write_neighbors(
    workdir: str,
    layer: str,
    data: PreparedDataSet,
    directories: list[pathlib.Path],
    queries: np.ndarray,
    neighbors: np.ndarray,
    distances: np.ndarray,
    console: Console,
) -> None:
    """Draws Figure 4, right, and writes neighbors.json: of each image its name, class, and the distance."""
    names = [(directory / NAMES).read_text(encoding='utf-8').split('\n') for directory in directories]
    train, validation = (open_shards(data, split) for split in ('train', 'validation'))
    classes = len(data.class_names)
    rows, pictures, titles, shown = [], [], [], []
    for query, near, far in zip(queries.tolist(), neighbors.tolist(), distances.tolist(), strict=True):
        pixels, label = read(validation, query, classes)
        images = [read(train, index, classes) for index in near]
        pictures.append(pixels)
        shown.append([image for image, _ in images])
        titles.append(data.class_names[label])
        rows.append(
            {
                'image': names[1][query],
                'class': data.class_names[label],
                'nearest': [
                    {'image': names[0][index], 'class': data.class_names[own], 'distance': distance}
                    for index, (_, own), distance in zip(near, images, far, strict=True)
                ],
            }
        )
    write_json(pathlib.Path(workdir) / 'neighbors.json', {'layer': layer, 'queries': rows})
    figure = figure_4_right(pictures, shown, titles)
    _wrote(save(figure, pathlib.Path(workdir) / 'figures' / 'neighbors'), console)


def _wrote(paths: list[pathlib.Path], console: Console) -> None:
    for path in paths:
        say(console, f'wrote {path}')
