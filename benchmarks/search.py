"""Seconds for the exact nearest neighbors of a batch of queries, in comparison with scikit-learn and FAISS.

    pip install faiss-cpu        # only for this comparison
    python -m benchmarks.search

Made-up features, as ReLUs give them: float16, a third of them not zero, on disk, as `--mode=features` leaves those of
ImageNet's training images. Every side begins with that file and a batch of queries, and ends with the six nearest.
scikit-learn and FAISS search in float32, and all of it would not fit into memory: they get block by block what NumPy
converts, in threads, while they search the block before. FAISS's half precision index holds all rows in memory; the
time to fill it is not counted. The sides take turns in one run, and the median counts. The results are compared.
"""

import concurrent.futures
import itertools
import logging
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from alexnet_jax.evaluation.nearest import nearest
from alexnet_jax.runtime.devices import available_cores, choose_platform

IMAGES = flags.DEFINE_integer('images', 1_200_000, 'Rows of the array.')
VALUES = flags.DEFINE_integer('values', 4096, 'Values of a row.')
QUERIES = flags.DEFINE_integer('queries', 128, 'Queries of a batch.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'How often the sides take turns.')
DIRECTORY = flags.DEFINE_string('directory', None, 'Where the file of made-up features goes; by default as for mktemp.')
SIDES = flags.DEFINE_list('sides', ['scikit-learn', 'knn', 'fp16'], 'Whom to compare with; the last two are of FAISS.')
COUNT, BLOCK = 6, 8192

Found = tuple[np.ndarray, np.ndarray]  # rows and squared distances, [queries, COUNT]
Side = Callable[[np.ndarray, np.ndarray], np.ndarray]  # values and queries to rows


def make(path: pathlib.Path, rows: int, d: int) -> np.ndarray:
    """Writes the features: one random block, repeated with its columns shifted differently each time."""
    random = np.random.default_rng(0)
    values = np.lib.format.open_memmap(path, 'w+', np.float16, (rows, d))
    block = np.maximum(random.standard_normal((BLOCK, d), np.float32) - 0.43, 0).astype(np.float16)
    for first in range(0, rows, BLOCK):
        part, shift = values[first : first + BLOCK], int(random.integers(d))
        part[:, shift:], part[:, :shift] = block[: len(part), : d - shift], block[: len(part), d - shift :]
    values.flush()
    return np.load(path, mmap_mode='r')


def questions(values: np.ndarray, count: int) -> np.ndarray:
    """Queries, float16: each halfway between two rows, so that distances vary as those of features do."""
    random = np.random.default_rng(1)
    one, other = (values[random.integers(0, len(values), count)].astype(np.float32) for _ in range(2))
    return (0.6 * one + 0.4 * other).astype(np.float16)


def converted(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks as float32, each converted by all cores while the previous one is in use."""
    cores = available_cores()
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:

        def start(first: int) -> list[concurrent.futures.Future]:
            parts = np.array_split(values[first : first + BLOCK], cores)
            return [pool.submit(part.astype, np.float32) for part in parts]

        coming = start(0)
        for first in range(0, len(values), BLOCK):
            block = np.concatenate([part.result() for part in coming])
            coming = start(first + BLOCK) if first + BLOCK < len(values) else []
            yield first, block


def by_blocks(search: Callable[[np.ndarray, np.ndarray], Found], values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The result of a search of float32 blocks, over all of them."""
    rows, squares = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0))
    queries = queries.astype(np.float32)
    for first, block in converted(values):
        found, their_squares = search(block, queries)
        rows = np.concatenate([rows, first + found], axis=1)
        squares = np.concatenate([squares, their_squares], axis=1)
        order = np.argsort(squares, axis=1, kind='stable')[:, :COUNT]
        rows, squares = (np.take_along_axis(x, order, axis=1) for x in (rows, squares))
    return rows


def scikit_learn(block: np.ndarray, queries: np.ndarray) -> Found:
    """Its exact search; ArgKmin is what NearestNeighbors(algorithm='brute') runs, without its checks of the input."""
    from sklearn.metrics._pairwise_distances_reduction import ArgKmin

    squares, rows = ArgKmin.compute(queries, block, COUNT, metric='sqeuclidean', return_distance=True)
    return rows, squares


def faiss_knn(block: np.ndarray, queries: np.ndarray) -> Found:
    """FAISS's exact search of an array."""
    import faiss

    squares, rows = faiss.knn(queries, block, COUNT)
    return rows, squares


def faiss_fp16(values: np.ndarray) -> Side:
    """FAISS's exact search of rows kept in half precision."""
    import faiss

    index = faiss.IndexScalarQuantizer(values.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
    index.train(values[:1].astype(np.float32))
    for _, block in converted(values):
        index.add(block)
    return lambda values, queries: index.search(queries.astype(np.float32), COUNT)[1]


def matrix_rate(d: int, queries: int) -> float:
    """Operations a second of repeated products of 1,024 rows and the queries in float32."""
    random = np.random.default_rng(2)
    x, q = (jnp.asarray(random.random((rows, d), np.float32)) for rows in (1024, queries))
    product = jax.jit(lambda q, x: jnp.matmul(q, x.T, precision='highest'))
    product(q, x).block_until_ready()
    best = float('inf')
    for _ in range(30):
        start = time.perf_counter()
        product(q, x).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * 1024 * d * queries / best


def sides(values: np.ndarray, console: Console) -> dict[str, Side]:
    """All searches to compare."""
    found: dict[str, Side] = {'ours': lambda values, queries: nearest(values, queries, COUNT)[0]}
    if 'scikit-learn' in SIDES.value:
        found['scikit-learn, blocks'] = lambda values, queries: by_blocks(scikit_learn, values, queries)
    logging.getLogger('faiss').setLevel(logging.WARNING)  # it tells at length how it was built
    try:
        import faiss

        if 'knn' in SIDES.value:
            found[f'FAISS {faiss.__version__}, blocks'] = lambda values, queries: by_blocks(faiss_knn, values, queries)
        if 'fp16' in SIDES.value:
            found[f'FAISS {faiss.__version__}, half precision'] = faiss_fp16(values)
    except ImportError:
        console.print('FAISS is not installed.')
    return found


def main(argv: list[str]) -> None:
    """Makes the features, measures, compares, prints."""
    console = Console(width=120)
    console.print(choose_platform(), highlight=False)
    rows, d, count = IMAGES.value, VALUES.value, QUERIES.value
    with tempfile.TemporaryDirectory(dir=DIRECTORY.value) as directory:
        values = make(pathlib.Path(directory) / 'values.npy', rows, d)
        queries = questions(values, count)
        nearest(values[: 2 * BLOCK], queries, COUNT)  # compiles
        everyone = sides(values, console)
        wall, spent, answers, rates = ({name: [] for name in everyone} for _ in range(4))
        for _ in range(ROUNDS.value):
            for name, side in everyone.items():
                rates[name].append(matrix_rate(d, count))
                start, start_spent = time.perf_counter(), time.process_time()
                answers[name] = side(values, queries)
                wall[name].append(time.perf_counter() - start)
                spent[name].append(time.process_time() - start_spent)
                console.print(f'{name}: {wall[name][-1]:.2f} s, load {os.getloadavg()[0]:.1f}', highlight=False)
    table = Table(
        title=f'{rows:,} x {d:,} float16, {rows * d * 2e-9:.1f} GB; {count} queries; {available_cores()} cores'
    )
    for column in ('', 'seconds a batch', 'least', 'most', 'core seconds', 'times ours', 'same neighbors'):
        table.add_column(column, justify='right' if column else 'left')
    ours = statistics.median(wall['ours'])
    for name, seconds in wall.items():
        same = (np.sort(answers[name]) == np.sort(answers['ours'])).mean()
        table.add_row(
            name,
            *(f'{x:.2f}' for x in (statistics.median(seconds), min(seconds), max(seconds))),
            f'{statistics.median(spent[name]):.1f}',
            f'{statistics.median(seconds) / ours:.2f}',
            f'{same:.2%}',
        )
    console.print(table)
    operations, rate = 2 * rows * d * count, statistics.median(itertools.chain(*rates.values()))
    console.print(
        f'Ours: {operations / ours / 1e9:.0f} GFLOP/s of the matrix product, which by itself reaches {rate / 1e9:.0f} '
        f'here, so that it is {operations / rate / ours:.0%} of the time; {rows * d * 2e-9 / ours:.2f} GB/s are read.',
        highlight=False,
        soft_wrap=True,
    )


if __name__ == '__main__':
    app.run(main)
