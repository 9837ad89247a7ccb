"""Densely sampled SIFT descriptors of an image, and the spatial cells that they are pooled over."""

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

    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if len(image) < SMALLEST:
        gray = cv2.resize(gray, (SMALLEST, SMALLEST), interpolation=cv2.INTER_CUBIC)
    # A descriptor of OpenCV's covers six times the size of its keypoint.
    points = [cv2.KeyPoint(float(x), float(y), float(size) / 6, 0.0) for y, x, size in patches]
    _, found = cv2.SIFT_create().compute(gray, points)
    sums = np.maximum(found.sum(axis=1, keepdims=True), 1e-6)
    return np.sqrt(found / sums)


def in_cells(patches: np.ndarray, size: int) -> np.ndarray:
    """Which patches have their center in which of the `CELLS`: bool [cells, patches]."""
    y, x = patches[:, 0] / size, patches[:, 1] / size
    return np.stack([(top <= y) & (y <= bottom) & (left <= x) & (x <= right) for top, left, bottom, right in CELLS])
