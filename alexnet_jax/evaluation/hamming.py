"""Nearest codes by Hamming distance, exactly, and how good they are as a shortlist (section 6.1)."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from alexnet_jax.runtime.errors import UserError

_QUERIES = 128  # looked at together; their distances to a block of codes take 2 bytes each
_ROW_BITS = 40  # a candidate is kept as one integer, distance * 2^40 + row: the smaller is the nearer


def hamming_nearest(
    codes: np.ndarray, queries: np.ndarray, count: int, *, block: int = 65536
) -> tuple[np.ndarray, np.ndarray]:
    """The codes nearest to each query, by exhaustive search.

    Distances come from the device, block by block; from each the host takes what is nearer than the farthest of
    those held so far, which soon is next to nothing. 1.2 million codes of 256 bits and 128 queries, two cores:
    counting bits by XLA takes 0.05 to 0.14 seconds, by NumPy 0.85, by a product of signs 3.3; XLA's top-k of 60
    would add 0.6 (float32) or 34 (int32), looking through the blocks on the host adds 0.05.

    Args:
      codes: uint32 [rows, words].
      queries: uint32 [queries, words].
      count: how many to find for each.
      block: codes on the device at a time.

    Returns:
      indices int64 [queries, count], nearest first, of equal distances the smaller index first; distances in bits,
      int32 [queries, count].

    Raises:
      UserError: more are asked for than there are, or codes and queries differ in length.
    """
    if codes.ndim != 2 or queries.ndim != 2 or codes.shape[1] != queries.shape[1]:
        raise UserError(f'Codes {list(codes.shape)} and queries {list(queries.shape)} are not of one length.')
    if not 1 <= count <= len(codes):
        raise UserError(f'The nearest {count} of {len(codes)} codes cannot be had.')
    by_word = np.ascontiguousarray(codes.T)  # neighbors in memory are neighboring rows: what vector units like
    best = np.full((len(queries), count), np.iinfo(np.int64).max)
    for first in range(0, len(queries), _QUERIES):
        part = slice(first, first + _QUERIES)
        _search(by_word, jnp.asarray(queries[part]), best[part], block)
    best.sort(axis=1)
    return best & ((1 << _ROW_BITS) - 1), (best >> _ROW_BITS).astype(np.int32)


def rerank(
    values: np.ndarray, queries: np.ndarray, candidates: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each query's candidates the nearest by Euclidean distance: the second look at a shortlist.

    Args:
      values: real [rows, dimension]; may be a file mapped into memory.
      queries: real [queries, dimension].
      candidates: integer [queries, candidates], rows of `values`, each at most once for a query.
      count: how many to keep for each.

    Returns:
      indices int64 [queries, count], nearest first, of equal distances the smaller index first; distances
      float32 [queries, count].

    Raises:
      UserError: more are asked for than there are candidates.
    """
    if not 1 <= count <= candidates.shape[1]:
        raise UserError(f'The nearest {count} of {candidates.shape[1]} candidates cannot be had.')
    indices = np.empty((len(queries), count), np.int64)
    distances = np.empty((len(queries), count), np.float32)
    for i, (query, rows) in enumerate(zip(queries, np.sort(candidates, axis=1), strict=True)):
        difference = np.asarray(values[rows]).astype(np.float32) - query.astype(np.float32)
        squares = np.einsum('nd,nd->n', difference, difference)
        order = np.argsort(squares, kind='stable')[:count]
        indices[i], distances[i] = rows[order], np.sqrt(squares[order])
    return indices, distances


def recall(found: np.ndarray, true: np.ndarray) -> float:
    """The share of the true neighbors that are among those found, 0..1.

    Args:
      found: integer [queries, found].
      true: integer [queries, true], each row at most once for a query.

    Raises:
      ValueError: they are not of the same queries.
    """
    if found.ndim != 2 or true.ndim != 2 or len(found) != len(true) or not true.size:
        raise ValueError(f'neighbors of the shapes {found.shape} and {true.shape} cannot be compared')
    return float(np.mean([np.isin(rows, others).mean() for rows, others in zip(true, found, strict=True)]))


def _search(by_word: np.ndarray, queries: Array, best: np.ndarray, block: int) -> None:
    """Fills `best`, int64 [queries, count], with the smallest candidates, in no order."""
    count = best.shape[1]
    farthest = np.full(len(best), 32 * len(by_word) + 1)
    for first, distances in _distances(by_word, queries, block):
        for i, (row, limit) in enumerate(zip(distances, farthest.tolist(), strict=True)):
            # A later row at the same distance as the farthest held loses to it, so only nearer ones count.
            nearer = np.flatnonzero(row < limit)
            if nearer.size:
                candidates = (row[nearer].astype(np.int64) << _ROW_BITS) + (first + nearer)
                best[i] = np.partition(np.concatenate([best[i], candidates]), count - 1)[:count]
        farthest = np.minimum(farthest, best.max(axis=1) >> _ROW_BITS)


def _distances(by_word: np.ndarray, queries: Array, block: int) -> Iterator[tuple[int, np.ndarray]]:
    """The first row of each block, and the distances to it, uint16 [queries, block].

    The device works on one block ahead of that which is looked at.
    """
    ahead: tuple[int, Array] | None = None
    for first in range(0, by_word.shape[1], block):
        following = first, _differing_bits(by_word[:, first : first + block], queries)
        if ahead is not None:
            yield ahead[0], np.asarray(ahead[1])
        ahead = following
    if ahead is not None:
        yield ahead[0], np.asarray(ahead[1])


@jax.jit
def _differing_bits(by_word: Array, queries: Array) -> Array:
    """Hamming distances, uint16 [queries, rows], of queries, [queries, words], to codes, [words, rows]."""
    each = (lax.population_count(word ^ queries[:, i, None]) for i, word in enumerate(by_word))
    return functools.reduce(jnp.add, each).astype(jnp.uint16)
