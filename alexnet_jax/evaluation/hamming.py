"""Exact nearest neighbors of binary codes by Hamming distance, and their quality as a shortlist (section 6.1)."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from alexnet_jax.data.device_feed import run_ahead
from alexnet_jax.runtime.errors import UserError

_QUERIES = 128  # per pass; their distances to a block of codes take 2 bytes each
_ROW_BITS = 40  # a candidate is one integer, distance * 2^40 + row: the smaller is the nearer


def hamming_nearest(
    codes: np.ndarray, queries: np.ndarray, count: int, *, block: int = 65536
) -> tuple[np.ndarray, np.ndarray]:
    """The codes nearest to each query, by exhaustive search.

    The device computes distances block by block; the host takes those below the farthest found so far, soon next to
    none. For 1.2 million codes of 256 bits and 128 queries on two cores, XLA's bit counts take 0.05 to 0.14 s (NumPy:
    0.85, a product of signs: 3.3), and scanning the blocks on the host 0.05 s (XLA's top-k of 60: 0.6 in float32, 34
    in int32).

    Args:
      codes: uint32 [rows, words].
      queries: uint32 [queries, words].
      count: neighbors per query.
      block: codes on the device at a time.

    Returns:
      indices int64 [queries, count], nearest first, ties by smaller index; distances in bits, int32 [queries, count].

    Raises:
      UserError: count exceeds the codes, or codes and queries differ in length.
    """
    if codes.ndim != 2 or queries.ndim != 2 or codes.shape[1] != queries.shape[1]:
        raise UserError(f'Codes {list(codes.shape)} and queries {list(queries.shape)} differ in length.')
    if not 1 <= count <= len(codes):
        raise UserError(f'The nearest {count} of {len(codes)} codes do not exist.')
    by_word = np.ascontiguousarray(codes.T)  # rows contiguous, for vector units
    best = np.full((len(queries), count), np.iinfo(np.int64).max)
    for first in range(0, len(queries), _QUERIES):
        part = slice(first, first + _QUERIES)
        _search(by_word, jnp.asarray(queries[part]), best[part], block)
    best.sort(axis=1)
    return best & ((1 << _ROW_BITS) - 1), (best >> _ROW_BITS).astype(np.int32)


def rerank(
    values: np.ndarray, queries: np.ndarray, candidates: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of each query's candidates by Euclidean distance.

    Args:
      values: real [rows, dimension]; may be memory-mapped.
      queries: real [queries, dimension].
      candidates: integer [queries, candidates], distinct rows of `values`.
      count: neighbors per query.

    Returns:
      indices int64 [queries, count], nearest first, ties by smaller index; distances float32 [queries, count].

    Raises:
      UserError: count exceeds the candidates.
    """
    if not 1 <= count <= candidates.shape[1]:
        raise UserError(f'The nearest {count} of {candidates.shape[1]} candidates do not exist.')
    indices = np.empty((len(queries), count), np.int64)
    distances = np.empty((len(queries), count), np.float32)
    for i, (query, rows) in enumerate(zip(queries, np.sort(candidates, axis=1), strict=True)):
        difference = np.asarray(values[rows]).astype(np.float32) - query.astype(np.float32)
        squares = np.einsum('nd,nd->n', difference, difference)
        order = np.argsort(squares, kind='stable')[:count]
        indices[i], distances[i] = rows[order], np.sqrt(squares[order])
    return indices, distances


def recall(found: np.ndarray, true: np.ndarray) -> float:
    """The fraction of the true neighbors that were found, 0..1.

    Args:
      found: integer [queries, found].
      true: integer [queries, true], distinct in each row.

    Raises:
      ValueError: the shapes do not match.
    """
    if found.ndim != 2 or true.ndim != 2 or len(found) != len(true) or not true.size:
        raise ValueError(f'neighbors of the shapes {found.shape} and {true.shape} cannot be compared')
    return float(np.mean([np.isin(rows, others).mean() for rows, others in zip(true, found, strict=True)]))


def _search(by_word: np.ndarray, queries: Array, best: np.ndarray, block: int) -> None:
    """Fills `best`, int64 [queries, count], with the smallest candidates, unsorted."""
    count = best.shape[1]
    farthest = np.full(len(best), 32 * len(by_word) + 1)
    for first, distances in _distances(by_word, queries, block):
        for i, (row, limit) in enumerate(zip(distances, farthest.tolist(), strict=True)):
            nearer = np.flatnonzero(row < limit)  # at the same distance a later row loses the tie
            if nearer.size:
                candidates = (row[nearer].astype(np.int64) << _ROW_BITS) + (first + nearer)
                best[i] = np.partition(np.concatenate([best[i], candidates]), count - 1)[:count]
        farthest = np.minimum(farthest, best.max(axis=1) >> _ROW_BITS)


def _distances(by_word: np.ndarray, queries: Array, block: int) -> Iterator[tuple[int, np.ndarray]]:
    """The first row of each block and the distances to it, uint16 [queries, block]; computed one block ahead."""
    firsts = range(0, by_word.shape[1], block)
    computed = ((first, _differing_bits(by_word[:, first : first + block], queries)) for first in firsts)
    return ((first, np.asarray(distances)) for first, distances in run_ahead(computed, 1))


@jax.jit
def _differing_bits(by_word: Array, queries: Array) -> Array:
    """Hamming distances, uint16 [queries, rows], of queries, [queries, words], to codes, [words, rows]."""
    each = (lax.population_count(word ^ queries[:, i, None]) for i, word in enumerate(by_word))
    return functools.reduce(jnp.add, each).astype(jnp.uint16)
