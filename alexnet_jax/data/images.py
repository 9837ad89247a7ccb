"""Images to 256 x 256 pixels of RGB (section 2)."""

import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from alexnet_jax.data.colors import to_rgb
from alexnet_jax.data.formats import FORMATS, why_unreadable

MAX_MEGAPIXELS = 70  # a default
_PILLOWS_LIMIT = 178  # megapixels; of `Image.open`, for the whole process
_MAX_SCANS = 1000  # of a progressive JPEG, which usually has ten; each is a pass over the whole image
_MAX_PIXELS_PER_BYTE = 256  # of a JPEG that is not progressive: a block of 8 x 8 takes two bits at least
_FLIP = Image.Transpose
_TO_UPRIGHT = {  # by EXIF orientation (ImageOps.exif_transpose fails where other tags are damaged)
    2: _FLIP.FLIP_LEFT_RIGHT,
    3: _FLIP.ROTATE_180,
    4: _FLIP.FLIP_TOP_BOTTOM,
    5: _FLIP.TRANSPOSE,
    6: _FLIP.ROTATE_270,
    7: _FLIP.TRANSVERSE,
    8: _FLIP.ROTATE_90,
}


def normalized(
    encoded: bytes,
    size: int,
    look: Callable[[Image.Image], None] = lambda file: None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> np.ndarray:
    """Decodes an image and brings it to size x size as in section 2.

    "We first rescaled the image such that the shorter side was of length 256, and then cropped out the central
    256 x 256 patch from the resulting image." Resampled with Lanczos' filter, which is antialiased; upright by EXIF
    orientation; colors as `colors.to_rgb` says; of an animation the first frame.

    Args:
      encoded: a file of one of `formats.FORMATS`, of any size and color mode.
      size: height and width of the result, in pixels; 256 in the paper.
      look: is given the opened file, before it is decoded: its format, mode and size.
      max_megapixels: how many million pixels are decoded at most. A JPEG, decoded at a fraction of its size where it is
        large, may have eight times as many, a progressive one twice.

    Returns:
      uint8 [size, size, 3], RGB.

    Raises:
      ValueError: it cannot be decoded, declares no scale for its values, or is too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of sizes, which are checked here, and of harmless oddities
            file = _opened(encoded)
            look(file)
            _check_size(file, max_megapixels * _jpeg_factor(file, encoded))
            file.draft('RGB', (4 * size, 4 * size))  # decode a far larger JPEG at a fraction of its size
            _check_size(file, max_megapixels)
            image = _upright(to_rgb(file), file)
    except UnidentifiedImageError as error:
        raise ValueError(why_unreadable(encoded)) from error
    except Image.DecompressionBombError as error:
        limit = f'the {_PILLOWS_LIMIT} megapixels that Pillow reads of what is no JPEG'
        raise ValueError(f'it has more than {limit}; make it smaller') from error
    except MemoryError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(str(error) or why_unreadable(encoded)) from error
    except Exception as error:  # on damaged files Pillow raises TypeError, RuntimeError, struct.error, and more
        raise ValueError(f'{why_unreadable(encoded)} ({str(error) or type(error).__name__})') from error
    return _central_square(image, size)


def _opened(encoded: bytes) -> ImageFile:
    """Opens an image without decoding it; a JPEG without `Image.open`, whose limit of pixels no argument lifts."""
    if encoded.startswith(b'\xff\xd8\xff'):
        try:
            return JpegImageFile(io.BytesIO(encoded))  # of an MPO the first image
        except SyntaxError as error:
            raise ValueError(f'{why_unreadable(encoded)} ({error})') from error
    if 'HEIF' in FORMATS:
        import pillow_heif

        pillow_heif.register_heif_opener()
    return Image.open(io.BytesIO(encoded), formats=FORMATS)


def _jpeg_factor(file: ImageFile, encoded: bytes) -> int:
    """How many times as many pixels as others a JPEG may have, since it is decoded at down to an eighth of its size.

    A progressive one is held in full nevertheless, as coefficients.

    Raises:
      ValueError: it would take long to decode for what there is of it.
    """
    if file.format != 'JPEG':
        return 1
    if encoded.count(b'\xff\xda') > _MAX_SCANS:
        raise ValueError(f'a JPEG of more than {_MAX_SCANS:,} scans')
    if 'progressive' in file.info:
        return 2
    return 8 if file.width * file.height <= _MAX_PIXELS_PER_BYTE * len(encoded) else 1


def _check_size(file: ImageFile, megapixels: float) -> None:
    """Raises ValueError where an image has more pixels."""
    if file.width * file.height > megapixels * 1e6:
        what = f'{file.width:,} x {file.height:,} pixels are more than {megapixels:,g} million'
        raise ValueError(f'{what}; raise config.data.max_megapixels if the memory allows it, or make it smaller')


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Brings pixels, uint8 [height, width, 3] in RGB, to size x size as `normalized` does."""
    return _central_square(Image.fromarray(pixels), size)


def _central_square(image: Image.Image, size: int) -> np.ndarray:
    width, height = image.size
    shorter = min(width, height)
    # Resizing the central square alone gives the same pixels with less work.
    left, top = (width - shorter) / 2, (height - shorter) / 2
    square = image.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + shorter, top + shorter))
    return np.asarray(square)


def _upright(image: Image.Image, file: ImageFile) -> Image.Image:
    """Turns an image by the EXIF orientation of the file that it was read from."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the tags are damaged; the pixels are not
        return image
    return image.transpose(_TO_UPRIGHT[orientation]) if orientation in _TO_UPRIGHT else image
