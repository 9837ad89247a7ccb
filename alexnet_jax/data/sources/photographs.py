"""Embedded photographs: each class is a place in one of them, its images are variations of that place.

The surrogate task of Dosovitskiy, Springenberg, Riedmiller and Brox, "Discriminative Unsupervised Feature Learning with
Convolutional Neural Networks" (NIPS 2014), section 2: real pixels and as many classes as ImageNet without a download.
"""

import importlib.util
import io
import math
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from alexnet_jax.data.sources.base import Identity, Item
from alexnet_jax.runtime.errors import UserError

SIZE = 256  # of an image, pixels; section 2
VARIATIONS = {'train': 40, 'validation': 5}  # of each place; validation holds out variations, not places
SIDES = (96, 192)  # of a place, in pixels of its photograph
# Ranges of the variations: uniform; of factors and power, uniform in the logarithm.
SCALE = (0.7, 1.4)  # of the side; the two SIDES differ by this range
TRANSLATION = 0.2  # at most, as a fraction of a place's side, across and down
ROTATION = 20.0  # degrees, at most
CONTRAST = (0.5, 2.0)  # of each principal component of the photographs' colors
SATURATION = (0.7, 1.4)
POWER = (0.7, 1.4)  # of each value, in 0..1; Dosovitskiy et al.: from 0.25 to 4
HUE = 36.0  # degrees, at most
BRIGHTNESS = 25.5  # offset, at most, in 0..255
_MIN_GRADIENT = 3.0  # of a place, in gray levels; see `_least_gradient`

_FILES = {
    'astronaut': ('skimage', 'data/astronaut.png'),
    'cat': ('skimage', 'data/chelsea.png'),
    'coffee': ('skimage', 'data/coffee.png'),
    'galaxies': ('skimage', 'data/hubble_deep_field.jpg'),
    'tissue': ('skimage', 'data/ihc.png'),
    'motorcycle': ('skimage', 'data/motorcycle_left.png'),
    'retina': ('skimage', 'data/retina.jpg'),
    'rocket': ('skimage', 'data/rocket.jpg'),
    'temple': ('sklearn', 'datasets/images/china.jpg'),
    'flower': ('sklearn', 'datasets/images/flower.jpg'),
}
_PACKAGES = {'skimage': 'scikit-image', 'sklearn': 'scikit-learn'}


class Place(NamedTuple):
    """A square in a photograph: column and row of its center, and its side, in pixels."""

    photograph: str
    x: int
    y: int
    side: int


class Variation(NamedTuple):
    """Parameters of one image of a place; their ranges are above."""

    scale: float  # of the side; larger shows more of the photograph
    translation: tuple[float, float]  # of the center, across and down, as fractions of the side
    rotation: float  # degrees
    contrast: tuple[float, float, float]  # factors of the principal components
    saturation: float
    hue: float  # degrees
    brightness: float
    power: float


class Photographs:
    """Places in ten color photographs of scikit-image and scikit-learn, without a download.

    The places are on a grid in each photograph, two fifths of their side apart, so that no two translations reach the
    same center; and their two sides differ by the whole range of scales: no two places share a view. Places almost
    without gradient are left out. CLASSES of the rest are drawn, with probabilities that grow with the gradient
    relative to others in the same photograph. The first places and their images do not depend on CLASSES.

    A place has 40 variations for training and 5 for validation, each a function of (place, number) alone.
    """

    def __init__(self, classes: str) -> None:
        """Reads the photographs and chooses the places, as many as written after 'photographs:'.

        Raises:
          UserError: it is not a possible number of classes, or the photographs are missing.
        """
        if not re.fullmatch('[1-9][0-9]{0,8}', classes) or int(classes) < 2:
            rule = 'give the number of classes after the colon, a whole number from 2, as in photographs:1000'
            raise UserError(f'config.data.source={"photographs:" + classes!r:.100}: {rule}.')
        photographs = {name: _photograph(*file) for name, file in _FILES.items()}
        places = _ranked_places(photographs)
        if int(classes) > len(places):
            most = f'at most {len(places):,} places are in the photographs'
            raise UserError(f'config.data.source={"photographs:" + classes!r}: {most}; take fewer.')
        self.places = places[: int(classes)]
        self.class_names = self.class_ids = tuple(
            f'{place.photograph} at ({place.x}, {place.y}), {place.side} wide' for place in self.places
        )
        self.splits = {split: len(self.places) * count for split, count in VARIATIONS.items()}
        self._axes = _principal_axes(photographs)
        self._means = [_mean_color(_cut(photographs[place.photograph], place)) for place in self.places]
        self._photographs = {name: Reflected(pixels) for name, pixels in photographs.items()}

    def item(self, split: str, index: int) -> Item:
        """An image as PPM, lossless and without the time for compression, named by place and variation."""
        number, label = divmod(index, len(self.places))
        if split == 'validation':
            number += VARIATIONS['train']
        varied, place = variation(label, number), self.places[label]
        image = self._photographs[place.photograph].view(place, varied)
        image = recolored(image, varied, self._axes, self._means[label])
        encoded = io.BytesIO()
        image.save(encoded, 'PPM')
        return Item(f'{self.class_names[label]}, variation {number}', encoded.getvalue(), label)

    def identity(self, split: str, index: int) -> Identity:
        """Place and variation."""
        number, label = divmod(index, len(self.places))
        return Identity('', f'{self.class_names[label]}, {split} {number}', 0, 0, label)


def variation(label: int, number: int) -> Variation:
    """A random variation of a place, a function of the two numbers by Philox (Salmon et al. 2011)."""
    uniform: Iterator[float] = iter(_uniform(label, number, 11).tolist())

    def between(low: float, high: float) -> float:
        return low + (high - low) * next(uniform)

    def factor(low: float, high: float) -> float:
        return math.exp(between(math.log(low), math.log(high)))

    return Variation(
        scale=factor(*SCALE),
        translation=(between(-TRANSLATION, TRANSLATION), between(-TRANSLATION, TRANSLATION)),
        rotation=between(-ROTATION, ROTATION),
        contrast=(factor(*CONTRAST), factor(*CONTRAST), factor(*CONTRAST)),
        saturation=factor(*SATURATION),
        hue=between(-HUE, HUE),
        brightness=between(-BRIGHTNESS, BRIGHTNESS),
        power=factor(*POWER),
    )


def _uniform(first: int, second: int, count: int) -> np.ndarray:
    """Uniform numbers in (0, 1), float64 [count], from an explicit key."""
    bits = np.random.Philox(key=np.array([first, second], np.uint64)).random_raw(count)
    return ((bits >> np.uint64(12)) + 0.5) * 2.0**-52


class Reflected:
    """A photograph padded by reflection, as far as any variation of a place can reach."""

    def __init__(self, pixels: np.ndarray) -> None:
        angle = math.radians(ROTATION)
        reach = SCALE[1] * (math.cos(angle) + math.sin(angle)) / 2 + TRANSLATION  # from a place's center, in sides
        self._margin = math.ceil((reach - 0.5) * max(SIDES)) + 2  # two pixels more for bicubic resampling
        margins = ((self._margin, self._margin), (self._margin, self._margin), (0, 0))
        self._image = Image.fromarray(np.pad(pixels, margins, 'reflect'))

    def view(self, place: Place, varied: Variation) -> Image.Image:
        """A place scaled, translated and rotated, resampled bicubically to [256, 256] pixels."""
        step = place.side * varied.scale / SIZE  # pixels of the photograph per pixel of the image
        across = step * math.cos(math.radians(varied.rotation))
        down = step * math.sin(math.radians(varied.rotation))
        x = self._margin + place.x + varied.translation[0] * place.side
        y = self._margin + place.y + varied.translation[1] * place.side
        half = SIZE / 2
        affine = (across, -down, x - (across - down) * half, down, across, y - (down + across) * half)
        return self._image.transform((SIZE, SIZE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)


def recolored(image: Image.Image, varied: Variation, axes: np.ndarray, mean: np.ndarray) -> Image.Image:
    """Changes contrast about the place's mean color, then saturation and hue about gray, then the power.

    `axes`, float64 [3, 3], has the principal axes of the photographs' colors as columns; `mean` is float64 [3], 0..255.
    """
    contrast = axes @ np.diag(varied.contrast) @ axes.T
    chroma = np.eye(3) - 1 / 3
    quarter_turn = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # about gray
    hue = math.radians(varied.hue)
    color = 1 / 3 + varied.saturation * (math.cos(hue) * chroma + math.sin(hue) * quarter_turn)
    shift = color @ (mean - contrast @ mean) + varied.brightness
    matrix = np.concatenate([color @ contrast, shift[:, None]], axis=1)
    curve = [round(255 * (value / 255) ** varied.power) for value in range(256)]
    return image.convert('RGB', tuple(matrix.ravel().tolist())).point(curve * 3)


def _ranked_places(photographs: dict[str, np.ndarray]) -> list[Place]:
    """All possible places, in a random order in which those with a strong gradient tend to come first.

    The sort key is -log(uniform) / weight (Efraimidis and Spirakis 2006); the weight is the place's gradient divided by
    the mean over the places of its photograph.
    """
    ranked = []
    for photograph, (name, pixels) in enumerate(photographs.items()):
        gradient, (height, width, _), kept = _gradient(pixels), pixels.shape, []
        for side in SIDES:
            pitch = math.ceil(2 * TRANSLATION * side)
            for top in range((height - side) % pitch // 2, height - side + 1, pitch):
                for left in range((width - side) % pitch // 2, width - side + 1, pitch):
                    place = Place(name, left + side // 2, top + side // 2, side)
                    found = _least_gradient(gradient, place)
                    if found >= _MIN_GRADIENT:
                        kept.append((place, found))
        mean = sum(found for _, found in kept) / len(kept)
        uniform = _uniform(2**64 - 1, photograph, len(kept))  # no label is that large
        ranked += [
            (-math.log(u) * mean / found, place) for u, (place, found) in zip(uniform.tolist(), kept, strict=True)
        ]
    return [place for _, place in sorted(ranked)]


def _gradient(pixels: np.ndarray) -> np.ndarray:
    """|right - left| + |below - above| of each pixel's neighbors, int64 [height, width], in thirds of a gray level."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    gray = red + green + blue
    gradient: np.ndarray = np.zeros_like(gray)
    gradient[:, 1:-1] += abs(gray[:, 2:] - gray[:, :-2])
    gradient[1:-1] += abs(gray[2:] - gray[:-2])
    return gradient


def _least_gradient(gradient: np.ndarray, place: Place) -> float:
    """Mean gradient of the quarter of a place that has the least, in gray levels.

    An edge before an empty sky, or the rim of the retina, looks like many others.
    """
    quarters = _cut(gradient, place).reshape(2, place.side // 2, 2, place.side // 2)
    return float(quarters.mean((1, 3)).min()) / 3


def _cut(pixels: np.ndarray, place: Place) -> np.ndarray:
    top, left = place.y - place.side // 2, place.x - place.side // 2
    return pixels[top : top + place.side, left : left + place.side]


def _mean_color(pixels: np.ndarray) -> np.ndarray:
    colors = pixels.reshape(-1, 3).astype(np.float64)
    return np.ones(len(colors)) @ colors / len(colors)  # exact sums, faster than `mean`


def _principal_axes(photographs: dict[str, np.ndarray]) -> np.ndarray:
    """Principal axes of all photographs' colors, float64 [3, 3], as columns."""
    colors = np.concatenate([pixels.reshape(-1, 3) for pixels in photographs.values()])
    return np.asarray(np.linalg.eigh(np.cov(colors.T))[1])


def _photograph(package: str, file: str) -> np.ndarray:
    """Reads a photograph of an installed package, uint8 [height, width, 3]; UserError if it is not there."""
    found, name = importlib.util.find_spec(package), _PACKAGES[package]
    if found is None or not found.submodule_search_locations:
        raise UserError(f'The photographs come with {name}, which is not installed: pip install {name}.')
    path = pathlib.Path(found.submodule_search_locations[0]) / file
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert('RGB'))
    except OSError as error:
        remedy = f'install it again: pip install --force-reinstall {name}'
        raise UserError(f'The photograph {path} cannot be read ({error}); {remedy}.') from error
