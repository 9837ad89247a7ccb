"""Pixels of every mode that image files have, to 8 bits of RGB.

The scale of a value comes from what the file declares, never from the values of the picture. Color profiles are not
applied and gamma is not changed: pixels are as stored, as in the pipelines that others train on ImageNet with.
docs/data.md has a table of what becomes of what.
"""

from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms
from PIL.ImageFile import ImageFile

_BITS, _SAMPLE_FORMAT = ExifTags.Base.BitsPerSample, ExifTags.Base.SampleFormat
_SIGNED, _MIN_IS_WHITE = 2, 0  # in a TIFF's SampleFormat and PhotometricInterpretation
_LEVEL = 1 / 255
_REMEDY = '; save it with unsigned integers of 8 or 16 bits'


def to_rgb(file: ImageFile) -> Image.Image:
    """Converts an image, as it was opened, to 8 bits of RGB; transparent pixels become white.

    Raises:
      ValueError: the file does not declare a scale for its values, or has values outside the one it declares.
      Exception: Pillow's, of many types, where the file is damaged.
    """
    if file.mode in ('RGB', 'CMYK') and not file.has_transparency_data:
        return file.convert('RGB')  # loads it
    tags: Any = getattr(file, 'tag_v2', {})  # of a TIFF
    if _SIGNED in np.ravel(tags.get(_SAMPLE_FORMAT, 1)):
        raise ValueError(f'signed integers, whose black and white are not declared{_REMEDY}')
    _scale_transparent_color(file)
    image: Image.Image = file
    if file.mode.startswith('I') or file.mode == 'F':
        image = _eight_bits(file, tags)
    if image.mode == 'La':  # premultiplied, which Pillow converts to LA alone
        image = image.convert('LA')
    if image.mode == 'LAB':
        return _of_lab(image)
    if image.has_transparency_data:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return image.convert('RGB')


def _eight_bits(file: ImageFile, tags: Any) -> Image.Image:
    """Gray of more than 8 bits to 8, rounded to the nearest; LA where one gray value is transparent."""
    file.load()
    values = np.asarray(file)
    if file.mode == 'F':
        gray = _of_floats(values)
    elif file.mode == 'I' and file.format == 'TIFF':  # unsigned, in Pillow's signed integers of 32 bits
        gray = _divided(values.view(np.uint32), 2**32 - 1)
    elif file.mode.startswith('I;16') or file.format == 'PPM':  # which Pillow scales to 16 bits by its largest value
        bits = int(np.ravel(tags.get(_BITS, 16))[0])
        gray = _divided(values, 2**bits - 1)
    else:
        raise ValueError(f'gray of {file.format} in 32 bits, whose black and white are not declared{_REMEDY}')
    if tags.get(ExifTags.Base.PhotometricInterpretation) == _MIN_IS_WHITE:
        gray = 255 - gray
    if 'transparency' not in file.info:
        return Image.fromarray(gray)
    opaque = (values != file.info['transparency']) * np.uint8(255)
    return Image.fromarray(np.stack([gray, opaque], -1))


def _divided(values: np.ndarray, white: int) -> np.ndarray:
    """round(255 * values / white), uint8, for integers in 0..white."""
    if white >= 2**16:
        return np.rint(values * (255 / white)).astype(np.uint8)
    levels: np.ndarray = np.rint(np.arange(white + 1) * (255 / white)).astype(np.uint8)
    return levels.take(values, mode='clip')


def _of_floats(values: np.ndarray) -> np.ndarray:
    """round(255 * values), for values in 0..1; less than a level outside, as after resampling, they are clipped."""
    low, high = float(values.min()), float(values.max())
    if not (low >= -_LEVEL and high <= 1 + _LEVEL):  # NaN too
        raise ValueError(f'floating-point values from {low:g} to {high:g}, where black is 0 and white is 1{_REMEDY}')
    result: np.ndarray = np.rint(np.clip(values, 0, 1) * np.float32(255)).astype(np.uint8)
    return result


def _of_lab(image: Image.Image) -> Image.Image:
    """CIE L*a*b* of illuminant D50 to sRGB; by formula, as LittleCMS's table is 8 levels off where it is dark."""
    profiles = ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB')
    converter = ImageCms.buildTransform(*profiles, 'LAB', 'RGB', flags=ImageCms.Flags.NOOPTIMIZE)
    converted = ImageCms.applyTransform(image, converter)
    assert converted
    return converted


def _scale_transparent_color(file: ImageFile) -> None:
    """Brings a PNG's transparent color to 8 bits, as Pillow brings its pixels but not that color."""
    color = file.info.get('transparency')
    if file.format != 'PNG' or color is None or not file.tile:
        return
    match file.tile[0][3]:  # how the pixels are stored
        case 'L;2':
            file.info['transparency'] = (color & 3) * 85
        case 'L;4':
            file.info['transparency'] = (color & 15) * 17
        case 'RGB;16B':
            file.info['transparency'] = tuple(value >> 8 for value in color)
