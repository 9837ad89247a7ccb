"""Pixels of every mode that image files have, to 8 bits of RGB.

The scale of a value comes from what the file declares, never from the values of the picture. Color profiles are not
applied and gamma is not changed: pixels are as stored, as in the pipelines that others train on ImageNet with.
docs/data.md has a table of what becomes of what.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms
from PIL.ImageFile import ImageFile

_BITS, _SAMPLE_FORMAT = ExifTags.Base.BitsPerSample, ExifTags.Base.SampleFormat
_SIGNED, _MIN_IS_WHITE = 2, 0  # in a TIFF's SampleFormat and PhotometricInterpretation
_LEVEL = 1 / 255
_BAND = 2**21  # pixels
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
        return _on_white(image)
    return image.convert('RGB')


def _eight_bits(file: ImageFile, tags: Any) -> Image.Image:
    """Gray of more than 8 bits to 8, rounded to the nearest; LA where one gray value is transparent."""
    file.load()
    values = np.asarray(file)
    if file.mode == 'F':
        white = 1
        low, high = float(values.min()), float(values.max())
        if not (low >= -_LEVEL and high <= 1 + _LEVEL):  # NaN too; resampling may leave a little more than 1
            raise ValueError(
                f'floating-point values from {low:g} to {high:g}, where black is 0 and white is 1{_REMEDY}'
            )
    elif file.mode == 'I' and file.format == 'TIFF':  # unsigned, in Pillow's signed integers of 32 bits
        white, values = 2**32 - 1, values.view(np.uint32)
    elif file.mode.startswith('I;16') or file.format == 'PPM':  # which Pillow scales to 16 bits by its largest value
        white = 2 ** int(np.ravel(tags.get(_BITS, 16))[0]) - 1
    else:
        raise ValueError(f'gray of {file.format} in 32 bits, whose black and white are not declared{_REMEDY}')
    gray = np.empty(values.shape, np.uint8)
    for rows in _bands(file.size):
        gray[rows] = np.rint(np.clip(values[rows].astype(np.float64), 0, white) * (255 / white))
    if tags.get(ExifTags.Base.PhotometricInterpretation) == _MIN_IS_WHITE:
        gray = 255 - gray
    image = Image.fromarray(gray)
    if 'transparency' in file.info:
        image.putalpha(Image.fromarray((values != file.info['transparency']) * np.uint8(255)))
    return image


def _bands(size: tuple[int, int]) -> Iterator[slice]:
    """The rows of an image, so many at a time that little memory is needed."""
    width, height = size
    step = max(1, _BAND // width)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def _on_white(image: Image.Image) -> Image.Image:
    """Puts an image with transparency on white."""
    result = Image.new('RGB', image.size)
    for rows in _bands(image.size):
        box = (0, rows.start, image.width, rows.stop)
        band = image.crop(box).convert('RGBA')
        whole = Image.alpha_composite(Image.new('RGBA', band.size, 'white'), band)
        result.paste(whole.convert('RGB'), box)
    return result


def _of_lab(image: Image.Image) -> Image.Image:
    """CIE L*a*b* of illuminant D50 to sRGB; without LittleCMS's table, which is 8 levels off where it is dark."""
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
