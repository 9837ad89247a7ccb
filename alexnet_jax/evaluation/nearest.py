"""Exact nearest neighbors by Euclidean distance (Figure 4, right), among more rows than fit into memory as float32.

Blocks of rows go to the device in the precision in which they are stored. There one matrix product gives every
query's |x|^2 - 2 q.x, the squared distance less |q|^2, in float32, and from it a lower bound of the true value. The
rows of the lowest bounds are measured again on the host, in float64. A row that was not taken has a higher bound than
all that were: where that bound is above the distance found for the last neighbor, no such row can be a neighbor.
Where it is not, the rows whose bounds are not above that distance are collected in a second pass, and all measured.
"""

import concurrent.futures
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from alexnet_jax.runtime.errors import UserError

_SPARE = 64  # rows taken beyond those asked for
_TILE = 2**19  # values that are converted to float32 at a time: they stay in the processor's cache
_BLOCK = 2**26  # values that go to the device at a time
_MEASURED = 2**23  # values that the host converts to float64 at a time
_ROUNDING = 2.0**-24  # of float32, relative
_UNDERFLOW = 2.0**-120  # what a product of float32 may lose where it underflows, with room to spare
_LONGEST = 1e18  # length of a row or a query: its square and the products stay far inside float32


class _Block(NamedTuple):
    """Rows on the device.

    Attributes:
      rows: [rows of a block, d]; zeros after the last row of all.
      first: number of the first one.
      count: how many are real.
    """

    rows: Array
    first: int
    count: int


class _Queries(NamedTuple):
    """Queries on the device.

    Attributes:
      vectors: float32 [q, d].
      lengths: float32 [q], rounded up.
    """

    vectors: Array
    lengths: Array


def nearest(
    values: np.ndarray,
    queries: np.ndarray,
    count: int,
    *,
    block: int = 0,
    on_block: Callable[[int], None] = lambda done: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The rows nearest to each query: the true ones, by distances in float64 of the values as they are stored.

    How far float32 errs: a sum of d products, whatever its order, is off by at most g sum |x_i q_i| <= g |x| |q| with
    g = d u / (1 - d u) and u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), so that
    |x|^2 - 2 q.x is off by at most g (|x|^2 + 2 |x| |q|). The code takes d + 16 for d, for the roundings beside the
    sums, and adds d 2^-120 for what underflows.

    Args:
      values: float16 or float32 [n, d], perhaps mapped from a file, which is read once, from its beginning to its
        end, and again where a second pass is needed.
      queries: float16 or float32 [q, d], up to a few thousand.
      count: how many neighbors.
      block: rows that go to the device at a time, while the next ones are read and sent; 0 for as many as hold 2^26
        values, which are 16,384 rows of 4,096.
      on_block: called after every block with the number of rows that the pass has seen.

    Returns:
      The rows' numbers, int64 [q, count], the nearest first, of equally near ones the earlier first; and their
      distances, float64 [q, count].

    Raises:
      UserError: there are fewer rows than neighbors wanted, or a value is not a finite number or is too large.
      ValueError: the shapes or types are not as above.
    """
    _check(values, queries, count, block)
    if not len(queries):
        return np.empty((0, count), np.int64), np.empty((0, count))
    block = block or max(1, _BLOCK // values.shape[1])
    taken = min(len(values), max(count + _SPARE, 2 * count))
    rows, bounds = _lowest(values, queries, taken, block, on_block)
    found, unsure = [], {}
    for number, query in enumerate(queries.astype(np.float64)):
        likely, others = rows[number, :count], rows[number, count:]
        best = _best(values, query, likely, None, count)
        limit = _limit(best, query)
        best = _best(values, query, others[bounds[number, count:] <= limit], best, count)
        limit = _limit(best, query)
        if taken < len(values) and bounds[number, -1] <= limit:
            unsure[number] = limit
        found.append(best)
    if unsure:
        numbers = list(unsure)
        for place, near in _below(values, queries[numbers], list(unsure.values()), block, on_block):
            number = numbers[place]
            others = np.setdiff1d(near, found[number][0])
            found[number] = _best(values, queries[number].astype(np.float64), others, found[number], count)
    return np.stack([rows for rows, _ in found]), np.sqrt(np.stack([squares for _, squares in found]))


def _check(values: np.ndarray, queries: np.ndarray, count: int, block: int) -> None:
    for name, array in (('values', values), ('queries', queries)):
        if array.ndim != 2 or array.dtype not in (np.float16, np.float32):
            raise ValueError(f'{name} must be float16 or float32 [rows, d], not {array.dtype} {list(array.shape)}')
    if values.shape[1] != queries.shape[1]:
        raise ValueError(f'rows of {values.shape[1]} values and queries of {queries.shape[1]} cannot be compared')
    if count < 1 or block < 0 or not 1 <= values.shape[1] < 2**22:
        raise ValueError(f'count={count}, block={block}, d={values.shape[1]}: at least 1, 0 and 1; d below 2^22')
    if count > len(values):
        raise UserError(f'{count} nearest neighbors are asked for, and there are {len(values)} to choose from.')
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    wrong = ~(lengths <= _LONGEST)
    if wrong.any():
        raise UserError(f'Query {wrong.argmax()} holds a value that is not a finite number, or too large a one.')


def _measure(values: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Squared distances in float64 between a query, float64 [d], and some rows, by their differences."""
    chunk = max(1, _MEASURED // len(query))
    parts = [
        np.square(values[rows[first : first + chunk]].astype(np.float64) - query).sum(axis=1)
        for first in range(0, len(rows), chunk)
    ]
    return np.concatenate([np.empty(0), *parts])


Best = tuple[np.ndarray, np.ndarray]  # numbers of rows, int64, and their squared distances, float64; nearest first


def _best(values: np.ndarray, query: np.ndarray, rows: np.ndarray, known: Best | None, count: int) -> Best:
    """The nearest of some rows and of those known already, which are others."""
    squares = _measure(values, query, rows)
    if known:
        rows, squares = np.concatenate([known[0], rows]), np.concatenate([known[1], squares])
    order = np.lexsort((rows, squares))[:count]
    return rows[order], squares[order]


def _limit(best: Best, query: np.ndarray) -> float:
    """What a row's |x|^2 - 2 q.x is at most, if it is as near as the last of the best, with room for float64's errors.

    It is float32, rounded up.
    """
    square, own = best[1][-1], np.square(query).sum()
    limit = square - own + (len(query) + 16) * 2.0**-52 * (square + own)
    return float(np.nextafter(np.float32(limit), np.float32(np.inf)))


def _lowest(
    values: np.ndarray, queries: np.ndarray, taken: int, block: int, on_block: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """For each query the rows of the lowest bounds, int64 [q, taken], ascending by bound, and the bounds."""
    on_device = _to_device(queries)
    rows, bounds = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for part, (lowest, places, wrong) in _computed(values, block, lambda part: _of_block(part, on_device, taken)):
        if wrong < part.count:
            raise UserError(f'Row {part.first + wrong} holds a value that is not a finite number, or too large a one.')
        rows = np.concatenate([rows, part.first + places.astype(np.int64)], axis=1)
        bounds = np.concatenate([bounds, lowest], axis=1)
        order = np.argsort(bounds, axis=1, kind='stable')[:, :taken]  # what fills up the last block is at infinity
        rows, bounds = (np.take_along_axis(array, order, axis=1) for array in (rows, bounds))
        on_block(part.first + part.count)
    return rows, bounds


def _below(
    values: np.ndarray, queries: np.ndarray, limits: list[float], block: int, on_block: Callable[[int], None]
) -> Iterator[tuple[int, np.ndarray]]:
    """All rows whose bounds are not above a query's limit: (the query's number, rows), block by block."""
    padded = 1 << (len(queries) - 1).bit_length()  # so that few programs are compiled
    on_device = _to_device(np.resize(queries, (padded, queries.shape[1])))
    limits = jnp.asarray(np.resize(np.float32(limits), padded))
    for part, near in _computed(values, block, lambda part: _not_above(part.rows, on_device, limits, part.count)):
        for number, rows in enumerate(near[: len(queries)]):
            if rows.any():
                yield number, part.first + np.flatnonzero(rows)
        on_block(part.first + part.count)


def _to_device(queries: np.ndarray) -> _Queries:
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    return _Queries(jnp.asarray(queries, jnp.float32), jnp.asarray(lengths * (1 + 1e-6), jnp.float32))


def _computed(values: np.ndarray, block: int, compute: Callable[[_Block], object]) -> Iterator[tuple[_Block, object]]:
    """Blocks and what the device makes of them, as NumPy arrays; it works on one while the next is read and sent."""
    tile = _tile(values.shape[1])
    block = min(block, len(values))
    block = block if block <= tile else -(-block // tile) * tile
    before = None
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        coming = reader.submit(_load, values, 0, block)
        for first in range(0, len(values), block):
            part = coming.result()
            if first + block < len(values):
                coming = reader.submit(_load, values, first + block, block)
            result = part, compute(part)
            if before:
                yield before[0], jax.tree.map(np.asarray, before[1])
            before = result
    yield before[0], jax.tree.map(np.asarray, before[1])


def _load(values: np.ndarray, first: int, block: int) -> _Block:
    """Sends a block to the device; on a CPU, rows of a mapped file are not even copied."""
    rows = np.ascontiguousarray(values[first : first + block])
    count = len(rows)
    if count < block:
        rows = np.concatenate([rows, np.zeros((block - count, rows.shape[1]), rows.dtype)])
    rows.reshape(-1).view(np.uint8)[::4096].max()  # fetches what is still on the disk, page by page
    return _Block(jax.device_put(rows), first, count)


def _tile(d: int) -> int:
    return max(8, 2 ** (max(1, _TILE // d).bit_length() - 1))


def _of_block(part: _Block, queries: _Queries, taken: int) -> tuple[Array, Array, Array]:
    return _lowest_of_block(part.rows, queries, part.count, min(taken, len(part.rows)))


@functools.partial(jax.jit, static_argnums=3)
def _lowest_of_block(rows: Array, queries: _Queries, count: int, taken: int) -> tuple[Array, Array, Array]:
    """A block's lowest bounds, float32 [q, taken], their places, and the first row that is not finite or too long."""
    bounds, squares = _bounds(rows, queries, count)
    lowest, places = lax.top_k(-bounds, taken)
    numbers = jnp.arange(len(rows))
    return -lowest, places, jnp.min(jnp.where(squares <= _LONGEST**2, len(rows), numbers))


@jax.jit
def _not_above(rows: Array, queries: _Queries, limits: Array, count: int) -> Array:
    """Which rows' bounds are not above a query's limit: bool [q, rows]."""
    return _bounds(rows, queries, count)[0] <= limits[:, None]


def _bounds(rows: Array, queries: _Queries, count: int) -> tuple[Array, Array]:
    """Lower bounds of |x|^2 - 2 q.x, float32 [q, rows], infinite from row `count` on; and |x|^2, [rows]."""
    d = rows.shape[1]
    error = (d + 16) * _ROUNDING / (1 - 2 * (d + 16) * _ROUNDING)  # of a sum, against the |x|^2 that was computed
    tile = min(_tile(d), len(rows))

    def of_tile(rows: Array) -> tuple[Array, Array]:
        x = rows.astype(jnp.float32)
        squares = jnp.sum(jnp.square(x), axis=1)
        most = squares + d * _UNDERFLOW
        products = jnp.matmul(queries.vectors, x.T, precision=lax.Precision.HIGHEST)
        off = error * (most + 2 * queries.lengths[:, None] * jnp.sqrt(most)) + d * _UNDERFLOW
        return squares - 2 * products - off, squares

    bounds, squares = lax.map(of_tile, rows.reshape(-1, tile, d))
    bounds = jnp.moveaxis(bounds, 0, 1).reshape(len(queries.vectors), -1)
    return jnp.where(jnp.arange(len(rows)) < count, bounds, jnp.inf), squares.reshape(-1)
