"""Embedded photographs: places cut out of them, each a class of its own, and variations of each place.

The surrogate task of Dosovitskiy, Springenberg, Riedmiller and Brox, "Discriminative Unsupervised Feature Learning with
Convolutional Neural Networks" (NIPS 2014), section 2: real pixels and as many classes as ImageNet without a download.
"""

import importlib.util
import io
import math
import pathlib
import re
from typing import NamedTuple

import numpy as np
from PIL import Image

from alexnet_jax.data.sources.base import Item
from alexnet_jax.runtime.errors import UserError

SIZE = 256  # of an image, pixels; section 2
VARIATIONS = {'train': 40, 'validation': 5}  # of each place; held out are variations, not places
SIDES = (96, 192)  # of a place, in pixels of its photograph
# Ranges of the variations; uniform, the factors and the power in their logarithms.
SCALE = (0.7, 1.4)  # of the side; the two SIDES differ by this range
TRANSLATION = 0.2  # at most so much of a place's side, across and down
ROTATION = 20.0  # degrees, at most
CONTRAST = (0.5, 2.0)  # of each principal component of the photographs' colors
SATURATION = (0.7, 1.4)
POWER = (0.7, 1.4)  # of each value, in 0..1; Dosovitskiy et al.: from 0.25 to 4
HUE = 36.0  # degrees, at most
BRIGHTNESS = 25.5  # is added, at most, in 0..255
_LEAST_GRADIENT = 3.0  # of a place, in gray levels; see `_gradients`

_FILES = {
    'skimage': {
        'astronaut': 'data/astronaut.png',
        'cat': 'data/chelsea.png',
        'coffee': 'data/coffee.png',
        'galaxies': 'data/hubble_deep_field.jpg',
        'tissue': 'data/ihc.png',
        'motorcycle': 'data/motorcycle_left.png',
        'retina': 'data/retina.jpg',
        'rocket': 'data/rocket.jpg',
    },
    'sklearn': {'temple': 'datasets/images/china.jpg', 'flower': 'datasets/images/flower.jpg'},
}
_PACKAGES = {'skimage': 'scikit-image', 'sklearn': 'scikit-learn'}


class Place(NamedTuple):
    """A square of a photograph: its name, the center's column and row, and its side, all in pixels."""

    photograph: str
    x: int
    y: int
    side: int


class Variation(NamedTuple):
    """How one image differs from its place; the ranges are named above.

    Attributes:
      scale: of the side; larger shows more of the photograph.
      translation: of the center, across and down, in sides.
      rotation, hue: in degrees.
      contrast: factors of the principal components.
      saturation, power, brightness: of the colors.
    """

    scale: float
    translation: tuple[float, float]
    rotation: float
    contrast: tuple[float, float, float]
    saturation: float
    hue: float
    brightness: float
    power: float


class Photographs:
    """Places of ten color photographs that come with scikit-image and scikit-learn; nothing is downloaded.

    The places lie on a grid in each photograph, two fifths of their side apart, so that no two translations reach the
    same center; and their two sides differ by the whole range of scales: no two places have a view in common. Those
    with hardly a gradient are left out, and of the rest CLASSES are drawn, more probably those with more of it than
    others in their photograph; so photographs are chosen from by how much of their area has something to see.
    The first places are the same whatever CLASSES is, and so are their images.

    A place has 40 variations for training and 5 more for validation, each a function of (place, number) alone.
    """

    def __init__(self, classes: str) -> None:
        """Reads the photographs and chooses the places.

        Args:
          classes: how many, as written after 'photographs:'.

        Raises:
          UserError: that is not a number of classes that can be cut; or the photographs are not there.
        """
        if not re.fullmatch('[1-9][0-9]{0,8}', classes) or int(classes) < 2:
            raise UserError(
                f'config.data.source={"photographs:" + classes!r:.100}: after the colon goes the number of classes, '
                'a whole number from 2, as in photographs:1000.'
            )
        photographs = {
            name: _photograph(package, file) for package, files in _FILES.items() for name, file in files.items()
        }
        places = _ranked_places(photographs)
        if int(classes) > len(places):
            raise UserError(
                f'config.data.source={"photographs:" + classes!r}: at most {len(places):,} places can be cut out of '
                'the photographs; take fewer.'
            )
        self.places = places[: int(classes)]
        self.class_names = self.class_ids = tuple(
            f'{place.photograph} at ({place.x}, {place.y}), {place.side} wide' for place in self.places
        )
        self.splits = {split: len(self.places) * count for split, count in VARIATIONS.items()}
        self._axes = _principal_axes(photographs)
        self._means = [_cut(photographs[place.photograph], place).mean((0, 1)) for place in self.places]
        self._photographs = {name: Reflected(pixels) for name, pixels in photographs.items()}

    def item(self, split: str, index: int) -> Item:
        """An image as binary PPM (lossless, and no time goes into compression), named by place and variation."""
        number, label = divmod(index, len(self.places))
        if split == 'validation':
            number += VARIATIONS['train']
        drawn = variation(label, number)
        place = self.places[label]
        image = self._photographs[place.photograph].seen(place, drawn)
        image = recolored(image, drawn, self._axes, self._means[label])
        encoded = io.BytesIO()
        image.save(encoded, 'PPM')
        return Item(f'{self.class_names[label]}, variation {number}', encoded.getvalue(), label)


def variation(label: int, number: int) -> Variation:
    """Draws a variation of a place: a function of the two numbers, by Philox (Salmon et al. 2011)."""
    uniform = iter(_uniform(label, number, 11).tolist())

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
    """A photograph that goes on beyond its edges, reflected, as far as any variation of a place in it can see."""

    def __init__(self, pixels: np.ndarray) -> None:
        turned = math.radians(ROTATION)
        seen = SCALE[1] * (math.cos(turned) + math.sin(turned)) / 2 + TRANSLATION  # from a place's center, in sides
        self._margin = math.ceil((seen - 0.5) * max(SIDES)) + 2  # Places end inside; bicubic takes two pixels more.
        margins = ((self._margin, self._margin), (self._margin, self._margin), (0, 0))
        self._image = Image.fromarray(np.pad(pixels, margins, 'reflect'))

    def seen(self, place: Place, drawn: Variation) -> Image.Image:
        """A place scaled, moved and turned, [256, 256] pixels, resampled bicubically."""
        step = place.side * drawn.scale / SIZE  # pixels of the photograph for a pixel of the image
        across = step * math.cos(math.radians(drawn.rotation))
        down = step * math.sin(math.radians(drawn.rotation))
        x = self._margin + place.x + drawn.translation[0] * place.side
        y = self._margin + place.y + drawn.translation[1] * place.side
        half = SIZE / 2
        affine = (across, -down, x - (across - down) * half, down, across, y - (down + across) * half)
        return self._image.transform((SIZE, SIZE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)


def recolored(image: Image.Image, drawn: Variation, axes: np.ndarray, mean: np.ndarray) -> Image.Image:
    """Changes contrast about the place's mean color, then saturation and hue about gray, then the power.

    Args:
      image: RGB.
      drawn: what to change.
      axes: float64 [3, 3], the principal axes of the photographs' colors as columns.
      mean: float64 [3], the place's, 0..255.
    """
    contrast = axes @ np.diag(drawn.contrast) @ axes.T
    chroma = np.eye(3) - 1 / 3
    quarter_turn = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # about gray
    hue = math.radians(drawn.hue)
    color = 1 / 3 + drawn.saturation * (math.cos(hue) * chroma + math.sin(hue) * quarter_turn)
    shift = color @ (mean - contrast @ mean) + drawn.brightness
    matrix = np.concatenate([color @ contrast, shift[:, None]], axis=1)
    curve = [round(255 * (value / 255) ** drawn.power) for value in range(256)]
    return image.convert('RGB', tuple(matrix.ravel().tolist())).point(curve * 3)


def _ranked_places(photographs: dict[str, np.ndarray]) -> list[Place]:
    """All places that can be cut, in a random order in which those with much gradient tend to come first.

    The order is that of -log(uniform) / weight: Efraimidis and Spirakis (2006). A weight is the place's gradient over
    the mean one of the places of its photograph.
    """
    ranked = []
    for photograph, (name, pixels) in enumerate(photographs.items()):
        places, gradients = [], []
        for side in SIDES:
            pitch = math.ceil(2 * TRANSLATION * side)
            height, width = pixels.shape[:2]
            for top in range((height - side) % pitch // 2, height - side + 1, pitch):
                for left in range((width - side) % pitch // 2, width - side + 1, pitch):
                    places.append(Place(name, left + side // 2, top + side // 2, side))
            gradients += _gradients(pixels, [place for place in places if place.side == side])
        kept = [(place, found) for place, found in zip(places, gradients, strict=True) if found >= _LEAST_GRADIENT]
        mean = sum(found for _, found in kept) / len(kept)
        uniform = _uniform(2**64 - 1, photograph, len(kept))  # a label is never so large
        ranked += [
            (-math.log(u) * mean / found, place) for u, (place, found) in zip(uniform.tolist(), kept, strict=True)
        ]
    return [place for _, place in sorted(ranked)]


def _gradients(pixels: np.ndarray, places: list[Place]) -> list[float]:
    """How much there is to see in each place: |right - left| + |below - above| of a pixel's neighbors, in gray levels.

    The mean over that quarter of the place, halved both ways, which has least: an edge before an empty sky, or the rim
    of the retina, look like many others.
    """
    gray = pixels.sum(-1, dtype=np.int64)
    gradient = np.zeros_like(gray)
    gradient[:, 1:-1] += abs(gray[:, 2:] - gray[:, :-2])
    gradient[1:-1] += abs(gray[2:] - gray[:-2])
    quarters = [_cut(gradient, place).reshape(2, place.side // 2, 2, place.side // 2) for place in places]
    return [float(quarter.mean((1, 3)).min()) / 3 for quarter in quarters]


def _cut(pixels: np.ndarray, place: Place) -> np.ndarray:
    top, left = place.y - place.side // 2, place.x - place.side // 2
    return pixels[top : top + place.side, left : left + place.side]


def _principal_axes(photographs: dict[str, np.ndarray]) -> np.ndarray:
    """The principal axes of all the photographs' colors, float64 [3, 3], as columns."""
    colors = np.concatenate([pixels.reshape(-1, 3) for pixels in photographs.values()])
    return np.linalg.eigh(np.cov(colors.T))[1]


def _photograph(package: str, file: str) -> np.ndarray:
    """Reads a photograph of an installed package, uint8 [height, width, 3].

    Raises:
      UserError: the package is not installed, or came without it.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f'The photographs come with {_PACKAGES[package]}, which is not installed: pip install {_PACKAGES[package]}.'
        )
    path = pathlib.Path(found.submodule_search_locations[0]) / file
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert('RGB'))
    except OSError as error:
        raise UserError(
            f'The photograph {path} cannot be read ({error}); install it again: '
            f'pip install --force-reinstall {_PACKAGES[package]}.'
        ) from error
