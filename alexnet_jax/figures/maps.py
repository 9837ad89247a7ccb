"""What a column computes of an image, as gray pictures: its maps beside each other, or its units."""

import math

import numpy as np

_GAP = 1  # pixel between maps
_UNITS = 8  # pixels across a unit


def map_sheet(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Maps in rows, or units as squares in rows; `low` is black and `high` white.

    Args:
      values: of one column and one image, [height, width, maps] or [units].
      low, high: the range of gray, the same for all columns so that they can be compared.

    Returns:
      uint8 [rows of pixels, pixels across, 2]: gray, and opacity, which is 0 between maps.
    """
    scale = 255 / (high - low) if high > low else 0.0
    gray = np.clip((values - low) * scale, 0, 255).astype(np.uint8)
    if gray.ndim == 1:
        gray = np.broadcast_to(gray, (_UNITS, _UNITS, len(gray)))
    height, width, count = gray.shape
    across = math.ceil(math.sqrt(2 * count))  # twice as wide as high
    down = -(-count // across)
    sheet = np.zeros((down * (height + _GAP) - _GAP, across * (width + _GAP) - _GAP, 2), np.uint8)
    for number in range(count):
        top, left = number // across * (height + _GAP), number % across * (width + _GAP)
        place = sheet[top : top + height, left : left + width]
        place[..., 0], place[..., 1] = gray[:, :, number], 255
    return sheet


def gray_range(columns: list[np.ndarray]) -> tuple[float, float]:
    """The values that are black and white in a layer: 0 and up; with negative values, as far below 0 as above it.

    The largest half percent of the values are white, as after a ReLU they are far above the rest.
    """
    values = np.concatenate([x.reshape(-1) for x in columns])
    most = float(np.quantile(np.abs(values), 0.995) or np.abs(values).max())
    return (0.0 if values.min() >= 0 else -most), most
