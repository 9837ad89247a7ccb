"""Any image to 256 x 256 pixels of RGB (section 2)."""

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# Formats that photographs come in. Pillow knows more; one of them, PostScript, is a program that it would start.
_FORMATS = ('JPEG', 'PNG', 'GIF', 'BMP', 'DIB', 'TIFF', 'WEBP', 'PPM')
# What claims more pixels is refused before it is decoded. A JPEG is decoded at a fraction where it is that large.
_MOST_PIXELS, _MOST_OF_OTHERS = 2**27, 2**25
_MOST_SCANS = 1000  # of a progressive JPEG, which has ten; each is a pass over the whole picture
_TURN = Image.Transpose
_TURNS = {  # EXIF's orientation: how to undo it. (ImageOps.exif_transpose fails where other notes are damaged.)
    2: _TURN.FLIP_LEFT_RIGHT,
    3: _TURN.ROTATE_180,
    4: _TURN.FLIP_TOP_BOTTOM,
    5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270,
    7: _TURN.TRANSVERSE,
    8: _TURN.ROTATE_90,
}


def normalized(image: bytes, size: int) -> np.ndarray:
    """Decodes an image and brings it to size x size as section 2 says.

    "We first rescaled the image such that the shorter side was of length 256, and then cropped out the central
    256 x 256 patch from the resulting image." Resampled with Lanczos' filter, which is antialiased. Turned
    upright where the camera noted that it was not; what is transparent becomes white; 16 bits become 8.

    Args:
      image: an encoded image of any size and color mode: JPEG, PNG, GIF, BMP, TIFF, WebP or PPM.
      size: height and width of the result, in pixels; 256 in the paper.

    Returns:
      uint8 [size, size, 3], RGB.

    Raises:
      ValueError: the bytes are no image that can be read, or one of more than 2**27 pixels (JPEG) or
        2**25 (others).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # on sizes, which are checked here, and on harmless oddities of files
            picture = Image.open(io.BytesIO(image), formats=_FORMATS)
            most = _MOST_PIXELS if picture.format in ('JPEG', 'MPO') else min(_MOST_PIXELS, _MOST_OF_OTHERS)
            if picture.width * picture.height > most:
                raise ValueError(f'{picture.width} x {picture.height} pixels are more than {most:,}')
            if picture.format in ('JPEG', 'MPO') and image.count(b'\xff\xda') > _MOST_SCANS:
                raise ValueError(f'a JPEG of more than {_MOST_SCANS:,} scans')
            picture.draft('RGB', (4 * size, 4 * size))  # of a far larger JPEG, decode no more than is of use
            picture = _rgb(_upright(picture))
    except UnidentifiedImageError as error:
        raise ValueError('no image in a format that is read here') from error
    except MemoryError:
        raise
    except Exception as error:  # on damaged files Pillow raises TypeError, RuntimeError, struct.error, and more
        raise ValueError(str(error) or type(error).__name__) from error
    width, height = picture.size
    shorter = min(width, height)
    # The part that becomes the central square; resizing it alone gives the same pixels with less work.
    left, top = (width - shorter) / 2, (height - shorter) / 2
    square = picture.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + shorter, top + shorter))
    return np.asarray(square)


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the note is damaged; the pixels are not
        return picture
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith('I') or picture.mode == 'F':  # 16 bits of gray, which convert() would cut off at 255
        values = np.asarray(picture, np.float32)
        largest = 65535 if values.max(initial=0) > 255 else 255
        picture = Image.fromarray(np.clip(np.round(values * (255 / largest)), 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert('RGBA')
        picture = Image.alpha_composite(Image.new('RGBA', picture.size, 'white'), picture)
    return picture.convert('RGB')
