"""Exact nearest neighbors by Euclidean distance (Figure 4, right), among more rows than fit into memory as float32.

Blocks of rows go to the device as they are stored. A matrix product gives |x|^2 - 2 q.x, the squared distance less
|q|^2, in float32, and from it a lower bound of the true value. The host measures the rows with the lowest bounds again,
in float64. Every other row has a higher bound; if that exceeds the distance of the last neighbor found, no such row can
be a neighbor. Otherwise a second pass collects the rows whose bounds do not exceed it, and all of them are measured.
"""

import concurrent.futures
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from alexnet_jax.data.device_feed import run_ahead
from alexnet_jax.runtime.errors import UserError

_SPARE = 64  # rows taken beyond those asked for
_TILE = 2**19  # values converted to float32 at a time, which stay in the processor's cache
_BLOCK = 2**26  # values on the device at a time
_MEASURED = 2**23  # values that the host converts to float64 at a time
_ROUNDING = 2.0**-24  # of float32, relative
_UNDERFLOW = 2.0**-120  # the most that a product of float32 loses by underflow, with a margin
_LONGEST = 1e18  # length of a row or a query, whose square is far below float32's largest number


class _Block(NamedTuple):
    """Rows on the device.

    Attributes:
      rows: [rows of a block, d]; zeros after the last row.
      first: number of the first one.
      real: number of rows before the padding.
    """

    rows: Array
    first: int
    real: int


class _Queries(NamedTuple):
    """Queries on the device: vectors, float32 [q, d], and their lengths, float32 [q], rounded up."""

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
    """The rows nearest to each query, by float64 distances of the values as stored.

    Error of float32: a sum of d products, in any order, is off by at most g sum |x_i q_i| <= g |x| |q| with
    g = d u / (1 - d u) and u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), so
    |x|^2 - 2 q.x by at most g (|x|^2 + 2 |x| |q|). The code takes d + 16 for d, for the roundings beside the sums, and
    adds d 2^-120 for underflow.

    Args:
      values: float16 or float32 [n, d], perhaps memory-mapped; read sequentially, once or twice.
      queries: float16 or float32 [q, d], up to a few thousand.
      count: neighbors per query.
      block: rows on the device at a time; 0 for 2^26 values, 16,384 rows of 4,096.
      on_block: called after each block with the rows done in this pass.

    Returns:
      The rows' numbers, int64 [q, count], nearest first, ties by smaller number; and distances, float64 [q, count].

    Raises:
      UserError: count exceeds the rows, or a value is not finite or too large.
      ValueError: the shapes or types are not as above.
    """
    _check(values, queries, count, block)
    if not len(queries):
        return np.empty((0, count), np.int64), np.empty((0, count))
    block = block or max(1, _BLOCK // values.shape[1])
    taken = min(len(values), max(count + _SPARE, 2 * count))
    rows, bounds = _lowest(values, queries, taken, block, on_block)
    found: list[_Best] = []
    unsure: dict[int, float] = {}
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
        raise UserError(f'There are {len(values)} rows, fewer than the {count} nearest neighbors asked for.')
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    bad = ~(lengths <= _LONGEST)
    if bad.any():
        raise UserError(f'Query {bad.argmax()} has a value that is not finite, or too large.')


_Best = tuple[np.ndarray, np.ndarray]  # row numbers, int64, and squared distances, float64; nearest first


def _measure(values: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Squared float64 distances between a query, float64 [d], and some rows, by their differences."""
    chunk = max(1, _MEASURED // len(query))
    parts = [
        np.square(values[rows[first : first + chunk]].astype(np.float64) - query).sum(axis=1)
        for first in range(0, len(rows), chunk)
    ]
    return np.concatenate([np.empty(0), *parts])


def _best(values: np.ndarray, query: np.ndarray, rows: np.ndarray, known: _Best | None, count: int) -> _Best:
    """The nearest of some rows and of other, known ones."""
    squares = _measure(values, query, rows)
    if known:
        rows, squares = np.concatenate([known[0], rows]), np.concatenate([known[1], squares])
    order = np.lexsort((rows, squares))[:count]
    return rows[order], squares[order]


def _limit(best: _Best, query: np.ndarray) -> float:
    """The most that |x|^2 - 2 q.x is for a row as near as the last of the best, in float32, rounded up."""
    square, own = best[1][-1], np.square(query).sum()
    limit = square - own + (len(query) + 16) * 2.0**-52 * (square + own)
    return float(np.nextafter(np.float32(limit), np.float32(np.inf)))


def _lowest(
    values: np.ndarray, queries: np.ndarray, taken: int, block: int, on_block: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """For each query the rows with the lowest bounds, int64 [q, taken], ascending by bound, and the bounds."""
    on_device = _to_device(queries)
    rows: np.ndarray = np.empty((len(queries), 0), np.int64)
    bounds: np.ndarray = np.empty((len(queries), 0), np.float32)
    for part, (lowest, places, bad) in _computed(values, block, lambda part: _of_block(part, on_device, taken)):
        if bad < part.real:
            raise UserError(f'Row {part.first + bad} has a value that is not finite, or too large.')
        rows = np.concatenate([rows, part.first + places.astype(np.int64)], axis=1)
        bounds = np.concatenate([bounds, lowest], axis=1)
        order = np.argsort(bounds, axis=1, kind='stable')[:, :taken]  # the last block's padding is at infinity
        rows, bounds = np.take_along_axis(rows, order, axis=1), np.take_along_axis(bounds, order, axis=1)
        on_block(part.first + part.real)
    return rows, bounds


def _below(
    values: np.ndarray, queries: np.ndarray, limits: list[float], block: int, on_block: Callable[[int], None]
) -> Iterator[tuple[int, np.ndarray]]:
    """All rows whose bounds do not exceed a query's limit: (the query's number, rows), block by block."""
    padded = 1 << (len(queries) - 1).bit_length()  # a power of two, so that few programs are compiled
    on_device = _to_device(np.resize(queries, (padded, queries.shape[1])))
    at_most = jnp.asarray(np.resize(np.asarray(limits, np.float32), padded))
    for part, near in _computed(values, block, lambda part: _not_above(part.rows, on_device, at_most, part.real)):
        for number, rows in enumerate(near[: len(queries)]):
            if rows.any():
                yield number, part.first + np.flatnonzero(rows)
        on_block(part.first + part.real)


def _to_device(queries: np.ndarray) -> _Queries:
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    return _Queries(jnp.asarray(queries, jnp.float32), jnp.asarray(lengths * (1 + 1e-6), jnp.float32))


def _computed(values: np.ndarray, block: int, compute: Callable[[_Block], Any]) -> Iterator[tuple[_Block, Any]]:
    """Blocks and what `compute` makes of each, as NumPy arrays; the next one is read and sent meanwhile."""
    tile = _tile(values.shape[1])
    block = min(block, len(values))
    block = block if block <= tile else -(-block // tile) * tile
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        loading = (reader.submit(_load, values, first, block) for first in range(0, len(values), block))
        parts = (part.result() for part in run_ahead(loading, 1))
        for part, result in run_ahead(((part, compute(part)) for part in parts), 1):
            yield part, jax.tree.map(np.asarray, result)


def _load(values: np.ndarray, first: int, block: int) -> _Block:
    """Sends a block to the device; on a CPU, rows of a mapped file are not even copied."""
    rows = np.ascontiguousarray(values[first : first + block])
    count = len(rows)
    if count < block:
        rows = np.concatenate([rows, np.zeros((block - count, rows.shape[1]), rows.dtype)])
    rows.reshape(-1).view(np.uint8)[::4096].max()  # reads the mapped pages
    return _Block(jax.device_put(rows), first, count)


def _tile(d: int) -> int:
    return max(8, 2 ** (max(1, _TILE // d).bit_length() - 1))


def _of_block(part: _Block, queries: _Queries, taken: int) -> tuple[Array, Array, Array]:
    return _lowest_of_block(part.rows, queries, part.real, min(taken, len(part.rows)))


@functools.partial(jax.jit, static_argnums=3)
def _lowest_of_block(rows: Array, queries: _Queries, count: int, taken: int) -> tuple[Array, Array, Array]:
    """A block's lowest bounds, float32 [q, taken], their places, and the first row that is not finite or too long."""
    bounds, squares = _bounds(rows, queries, count)
    lowest, places = lax.top_k(-bounds, taken)
    numbers = jnp.arange(len(rows))
    return -lowest, places, jnp.min(jnp.where(squares <= _LONGEST**2, len(rows), numbers))


@jax.jit
def _not_above(rows: Array, queries: _Queries, limits: Array, count: int) -> Array:
    """Whether rows' bounds do not exceed a query's limit: bool [q, rows]."""
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
