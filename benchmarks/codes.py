"""Binary codes (section 6.1): recall of the true neighbors, and speed in comparison with the feature vectors.

    python -m benchmarks.codes                         # made-up features of 4,096 values
    python -m benchmarks.codes --features=DIRECTORY    # DIRECTORY/values.npy, float16 [rows, dimension]

First the recall: some rows are held out as queries, and their true six neighbors by Euclidean distance are looked for
among the nearest by Hamming distance, with codes of an autoencoder and of random hyperplanes. Then the time that a
batch of 128 queries takes over 1.2 million rows. Codes are searched in that number. Exact search is timed on one block
of rows and on three, from memory; the straight line through both gives the time for 1.2 million, so that what it does
once for a query is counted once. Reading the vectors from a file would come on top. The sides take turns, and the
median counts.
"""

import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from alexnet_jax.evaluation.binary_codes import encode, random_hyperplanes, train_autoencoder
from alexnet_jax.evaluation.hamming import hamming_nearest, recall, rerank
from alexnet_jax.evaluation.nearest import nearest
from alexnet_jax.runtime.devices import available_cores, choose_platform
from alexnet_jax.runtime.errors import UserError

FEATURES = flags.DEFINE_string('features', '', 'Directory with values.npy; empty for made-up features.')
ROWS = flags.DEFINE_integer('rows', 50_000, 'Made-up features.')
DIMENSION = flags.DEFINE_integer('dimension', 4096, 'Values of a made-up feature.')
QUERIES = flags.DEFINE_integer('queries', 300, 'Rows held out to measure the recall.')
LENGTHS = flags.DEFINE_list('lengths', ['32', '64', '128', '256', '512'], 'Bits of a code.')
CODES = flags.DEFINE_integer('codes', 1_200_000, 'Codes that are searched for the time.')
ROUNDS = flags.DEFINE_integer('rounds', 3, 'How often the sides take turns.')
SEED = flags.DEFINE_integer('seed', 0, 'Of everything drawn at random.')
NEIGHBORS, SHORTLIST, BATCH, TIMED_BITS = 6, 60, 128, 256


def made_features(rows: int, dimension: int, seed: int) -> np.ndarray:
    """Rows structured like fc7's: clusters of few dimensions each, through a random ReLU layer.

    Returns:
      float16 [rows, dimension], a third of which is above 0.
    """
    random = np.random.default_rng(seed)
    clusters, own, latent = max(1, rows // 50), 8, 64
    scales = 1 / np.arange(1, latent + 1)  # four fifths of the variance lie in eight directions
    scales *= np.sqrt(latent / np.square(scales).sum())
    centers = random.normal(size=(clusters, latent)) * scales
    directions = random.normal(size=(clusters, own, latent)) * 0.25 * scales
    layer = (random.normal(size=(latent, dimension)) / np.sqrt(latent)).astype(np.float32)
    values = np.empty((rows, dimension), np.float16)
    for first in range(0, rows, 4096):
        part = values[first : first + 4096]
        cluster = random.integers(0, clusters, len(part))
        places = np.einsum('no,nol->nl', random.normal(size=(len(part), own)), directions[cluster])
        x = centers[cluster] + places + 0.1 * random.normal(size=(len(part), latent)) * scales
        part[:] = np.maximum(x.astype(np.float32) @ layer - 0.5, 0)
    return values


def seconds(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare_recall(values: np.ndarray, queries: np.ndarray, console: Console) -> None:
    """Prints the recall of the true neighbors, by length and kind of code."""
    true, _ = nearest(values, queries, NEIGHBORS)
    table = Table(title=f'recall of the true {NEIGHBORS} of {len(values):,}, {len(queries)} queries')
    for column in ('', 'bits', f'among the first {NEIGHBORS}', f'among the first {SHORTLIST}', 'training, seconds'):
        table.add_column(column, justify='right' if column else 'left')
    kinds = {
        'autoencoder': lambda bits: train_autoencoder(values, bits, seed=SEED.value),
        'random hyperplanes': lambda bits: random_hyperplanes(values, bits, SEED.value),
    }
    for bits in map(int, LENGTHS.value):
        for name, make in kinds.items():
            start = time.perf_counter()
            encoder = make(bits)
            training = time.perf_counter() - start
            found, _ = hamming_nearest(encode(encoder, values), encode(encoder, queries), SHORTLIST)
            first = recall(found[:, :NEIGHBORS], true)
            table.add_row(name, str(bits), f'{first:.3f}', f'{recall(found, true):.3f}', f'{training:.1f}')
    console.print(table)


def many_codes(codes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Codes, repeated up to a number, with one bit in sixteen flipped at random."""
    random = np.random.default_rng(seed)
    turned = [random.integers(0, 2**32, (count, codes.shape[1]), dtype=np.uint32) for _ in range(4)]
    return np.resize(codes, (count, codes.shape[1])) ^ (turned[0] & turned[1] & turned[2] & turned[3])


def compare_speed(values: np.ndarray, queries: np.ndarray, console: Console) -> None:
    """Prints the time of a batch of queries with codes and without."""
    encoder = random_hyperplanes(values, TIMED_BITS, SEED.value)  # the kind makes no difference to the time
    codes = many_codes(encode(encoder, values), CODES.value, SEED.value)
    batch = np.resize(queries, (BATCH, queries.shape[1]))
    short, _ = hamming_nearest(encode(encoder, values), encode(encoder, batch), SHORTLIST)
    block = min(2**26 // values.shape[1], len(values) // 3)  # rows; as many as `nearest` takes by itself, or fewer
    sides: dict[str, Callable[[], object]] = {
        f'exact search, {block:,} rows': lambda: nearest(values[:block], batch, NEIGHBORS, block=block),
        f'exact search, {3 * block:,} rows': lambda: nearest(values[: 3 * block], batch, NEIGHBORS, block=block),
        'encoding the queries': lambda: encode(encoder, batch),
        f'codes of {TIMED_BITS} bits, nearest {SHORTLIST}': lambda: hamming_nearest(
            codes, encode(encoder, batch), SHORTLIST
        ),
        f'the {NEIGHBORS} nearest of those {SHORTLIST}': lambda: rerank(values, batch, short, NEIGHBORS),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(ROUNDS.value + 1):
        for name, call in sides.items():
            took = seconds(call)
            if round_number:  # the first call compiles
                times[name].append(took)
    one, three, encoding, search, second_look = (statistics.median(each) for each in times.values())
    exact = one + (three - one) / (2 * block) * (CODES.value - block)
    table = Table(title=f'{BATCH} queries, {CODES.value:,} rows of {values.shape[1]} values, {available_cores()} cores')
    for column in ('', 'seconds, median', 'least', 'most'):
        table.add_column(column, justify='right' if column else 'left')
    for name, each in times.items():
        table.add_row(name, *(f'{value:.3f}' for value in (statistics.median(each), min(each), max(each))))
    console.print(table)
    pairs = BATCH * CODES.value
    lines = (
        f'Exact search of {CODES.value:,} rows, on the line through both: {exact:.1f} seconds. The search of codes '
        'includes encoding the queries.',
        f'Codes alone: {exact / search:.0f} times as fast; with the second look {exact / (search + second_look):.0f}.',
        f'Both look at every row: {pairs / exact / 1e6:,.0f} million pairs of vectors a second, '
        f'{2 * pairs * values.shape[1] / exact / 1e9:,.0f} billion operations; '
        f'{pairs / (search - encoding) / 1e6:,.0f} million pairs of codes.',
        'The second look is bound by reading rows at random places.',
        f'Memory for {CODES.value:,} rows: {codes.nbytes / 1e6:.0f} MB of codes, '
        f'{2 * CODES.value * values.shape[1] / 1e6:,.0f} MB of float16 vectors.',
        f'Python {sys.version.split()[0]}, JAX {jax.__version__}, NumPy {np.__version__}.',
    )
    for line in lines:
        console.print(line, highlight=False)


def main(argv: list[str]) -> None:
    """Makes or reads features, measures, prints."""
    console = Console(width=120)
    console.print(choose_platform(), highlight=False)
    if FEATURES.value:
        everything = np.load(pathlib.Path(FEATURES.value) / 'values.npy')
    else:
        everything = made_features(ROWS.value, DIMENSION.value, SEED.value)
    if len(everything) < QUERIES.value + SHORTLIST:
        raise UserError(f'{len(everything)} rows are too few to hold out {QUERIES.value}; give a smaller --queries.')
    held_out = np.zeros(len(everything), bool)
    held_out[np.random.default_rng(SEED.value).choice(len(everything), QUERIES.value, replace=False)] = True
    values, queries = everything[~held_out], everything[held_out]
    del everything
    compare_recall(values, queries, console)
    compare_speed(values, queries, console)


if __name__ == '__main__':
    app.run(main)
