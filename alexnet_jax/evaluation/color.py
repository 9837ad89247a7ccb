"""Share of color in the first layer's kernels: the specialization of the columns (section 6.1, Figure 3)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

OF_RANDOM_KERNELS = 2 / 3  # expected: two of the three directions of RGB are not gray


def color_shares(kernels: np.ndarray) -> list[float]:
    """For each column, the fraction of its first-layer kernels' energy that is color.

    The weights for red, green and blue at each place of a kernel are a vector; its part along gray, (1, 1, 1),
    responds to brightness, the rest to color. The share is the sum of squares of the rest over that of the whole, over
    all kernels of a column, so that strong kernels count more: 0 for color-blind kernels, 2/3 for random ones, 1 for
    kernels blind to brightness. The definition is ours; the paper describes the specialization without a number.

    Args:
      kernels: [columns, height, width, 3, kernels of a column].

    Returns:
      For each column 0..1; NaN if its kernels are all zero.

    Raises:
      ValueError: the kernels do not have three input channels.
    """
    whole, gray = (energy.sum(axis=1) for energy in _energies(kernels))
    with np.errstate(invalid='ignore'):
        return [float(share) for share in np.clip(1 - gray / whole, 0, 1)]


def chance_of_gap(kernels: np.ndarray, divisions: int = 10_000, seed: int = 0) -> float:
    """How often two random halves of a network's kernels differ in their shares of color as much as its columns do.

    The control for the specialization of the columns: any two halves differ, the more so the fewer kernels they have.
    A value of 0.05 is what one network in twenty would show whose columns know nothing of color.

    Args:
      kernels: [2, height, width, 3, kernels of a column].
      divisions: number of random divisions.
      seed: of the divisions.

    Returns:
      0..1, a p-value: the columns' own division counts as one of the random ones.

    Raises:
      ValueError: the kernels do not have three input channels, or are not in two columns.
    """
    if len(kernels) != 2:
        raise ValueError(f'{len(kernels)} columns have no gap; there must be two')
    whole, gray = (energy.ravel() for energy in _energies(kernels))
    first, second = color_shares(kernels)
    generator, half = np.random.default_rng(seed), len(whole) // 2
    as_large = 1
    for _ in range(divisions):
        order = generator.permutation(len(whole))
        one, other = (gray[part].sum() / whole[part].sum() for part in (order[:half], order[half:]))
        as_large += bool(abs(one - other) >= abs(first - second) - 1e-12)
    return as_large / (divisions + 1)


def _energies(kernels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares of each kernel, [columns, kernels]: of the whole, and of its part along gray."""
    if kernels.ndim != 5 or kernels.shape[3] != 3:
        raise ValueError(f'kernels of the shape {kernels.shape} do not see red, green and blue')
    kernels = np.asarray(kernels, np.float64)
    whole = np.square(kernels).sum(axis=(1, 2, 3))
    return whole, np.square(kernels.sum(axis=3)).sum(axis=(1, 2)) / 3


def color_columns(metrics: Sequence[Mapping[str, Any]]) -> dict[int, list[tuple[float, float]]]:
    """The shares of color in a run's metrics: for each column, from 1, pairs of epoch and share (0..1).

    Args:
      metrics: lines of metrics.jsonl, some with `color_column1` and so on (`colour_column1` in early runs).
    """
    found: dict[int, list[tuple[float, float]]] = {}
    for line in metrics:
        for field, value in line.items():
            if match := re.fullmatch(r'colou?r_column(\d+)', field):
                found.setdefault(int(match[1]), []).append((line['epoch'], value))
    return dict(sorted(found.items()))
