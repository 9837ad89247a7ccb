"""How much color the first layer's kernels carry: the specialization of the columns (section 6.1, Figure 3)."""

import numpy as np

# The expected share for kernels drawn at random: two of the three directions of RGB are not gray.
OF_RANDOM_KERNELS = 2 / 3


def color_shares(kernels: np.ndarray) -> list[float]:
    """For each column, which part of its first-layer kernels' energy is color.

    At every place of every kernel the three weights for red, green and blue are a vector. Its part along gray,
    (1, 1, 1), answers to brightness alone; what is left answers to color alone. The measure is the sum of squares
    of the latter over the sum of squares of the whole, taken over all kernels of the column, so that a kernel
    counts by its strength: 0 for color-blind kernels, 1 for kernels that do not answer to brightness, 2/3 for
    random ones. The definition is ours; the paper describes the specialization and gives no number.

    Args:
      kernels: [columns, height, width, 3, kernels of a column].

    Returns:
      A number from 0 to 1 for each column; NaN for a column whose kernels are all zero.

    Raises:
      ValueError: the kernels do not see three channels.
    """
    if kernels.ndim != 5 or kernels.shape[3] != 3:
        raise ValueError(f'kernels of the shape {kernels.shape} do not see red, green and blue')
    kernels = np.asarray(kernels, np.float64)
    whole = np.square(kernels).sum(axis=(1, 2, 3, 4))
    gray = np.square(kernels.sum(axis=3)).sum(axis=(1, 2, 3)) / 3
    with np.errstate(invalid='ignore'):
        return [float(share) for share in np.clip(1 - gray / whole, 0, 1)]
