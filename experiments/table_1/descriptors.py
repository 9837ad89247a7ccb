"""Densely sampled descriptors of an image's gradients and colors, and the cells that they are pooled over."""

from collections.abc import Sequence

import numpy as np

SIZES, STEP = (16, 24, 32), 4  # height and width of a descriptor's patch, distance between patches, in pixels
SMALLEST = 64  # pixels: smaller images are enlarged to it
CELLS = ((0.0, 0.0, 1.0, 1.0), *((y, x, y + 0.5, x + 0.5) for y in (0.0, 0.5) for x in (0.0, 0.5)))


def grid(size: int, sizes: Sequence[int] = SIZES, step: int = STEP) -> np.ndarray:
    """Centers and sizes of the patches of a square image: float32 [patches, 3], (y, x, size) in pixels."""
    patches = [
        (y, x, patch)
        for patch in sizes
        for y in range(patch // 2, size - patch // 2 + 1, step)
        for x in range(patch // 2, size - patch // 2 + 1, step)
    ]
    return np.asarray(patches, np.float32)


def dense_sift(image: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """SIFT descriptors of a square image's patches, with square roots taken (RootSIFT).

    Args:
      image: uint8 [size, size, 3], RGB.
      patches: as `grid` gives them, for an image of max(size, SMALLEST) pixels.

    Returns:
      float32 [patches, 128] of norm 1, or of zeros where a patch has no gradient.
    """
    import cv2  # an extra: pip install ".[baselines]"

    gray = _enlarged(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    # A descriptor of OpenCV's covers six times the size of its keypoint.
    points = [cv2.KeyPoint(float(x), float(y), float(size) / 6, 0.0) for y, x, size in patches]
    _, found = cv2.SIFT_create().compute(gray, points)
    sums = np.maximum(found.sum(axis=1, keepdims=True), 1e-6)
    return np.sqrt(found / sums)


def color_statistics(image: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Means and standard deviations of red, green and blue in 4 x 4 parts of each patch.

    Args:
      image, patches: as for `dense_sift`.

    Returns:
      float32 [patches, 96], in 0..1.
    """
    import cv2

    sums, squares = (
        np.asarray(one, np.float64) for one in cv2.integral2(_enlarged(image), sdepth=cv2.CV_64F, sqdepth=cv2.CV_64F)
    )
    sides = patches[:, 2:] / 4  # of a part
    rows, columns = (
        np.rint(patches[:, axis, None] + sides * (np.arange(5) - 2)).astype(int) for axis in (0, 1)
    )  # [patches, 5] edges
    pixels = np.diff(rows)[:, :, None] * np.diff(columns)[:, None, :]

    def mean(integral: np.ndarray) -> np.ndarray:
        corners = integral[rows[:, :, None], columns[:, None, :]]
        return np.diff(np.diff(corners, axis=1), axis=2) / pixels[..., None]

    means = mean(sums)
    deviations = np.sqrt(np.maximum(mean(squares) - means**2, 0))
    found = np.concatenate([means, deviations], axis=-1) / 255
    return found.reshape(len(patches), -1).astype(np.float32)


def _enlarged(image: np.ndarray) -> np.ndarray:
    import cv2

    if len(image) >= SMALLEST:
        return image
    return cv2.resize(image, (SMALLEST, SMALLEST), interpolation=cv2.INTER_CUBIC)


def in_cells(patches: np.ndarray, size: int) -> np.ndarray:
    """Which patches have their center in which of the `CELLS`: bool [cells, patches]."""
    y, x = patches[:, 0] / size, patches[:, 1] / size
    return np.stack([(top <= y) & (y <= bottom) & (left <= x) & (x <= right) for top, left, bottom, right in CELLS])
