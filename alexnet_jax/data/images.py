"""Any image to 256 x 256 pixels of RGB (section 2)."""

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

_MOST_PIXELS = 2**27  # 134 million: 400 MB of RGB; what claims more is refused before it is decoded
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
      image: an encoded image of any size and colour mode, in any format that Pillow reads.
      size: height and width of the result, in pixels; 256 in the paper.

    Returns:
      uint8 [size, size, 3], RGB.

    Raises:
      ValueError: the bytes are no image that can be read, or one of more than 2**27 pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # on sizes, which are checked here, and on harmless oddities of files
            picture = Image.open(io.BytesIO(image))
            if picture.width * picture.height > _MOST_PIXELS:
                raise ValueError(f'{picture.width} x {picture.height} pixels are more than {_MOST_PIXELS:,}')
            picture.draft('RGB', (4 * size, 4 * size))  # of a far larger JPEG, decode no more than is of use
            picture = _rgb(_upright(picture))
    except UnidentifiedImageError as error:
        raise ValueError('no image in a format that Pillow reads') from error
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
    if picture.mode.startswith('I') or picture.mode == 'F':  # 16 bits of grey, which convert() would cut off at 255
        values = np.asarray(picture, np.float64)
        largest = 65535 if values.max(initial=0) > 255 else 255
        picture = Image.fromarray(np.clip(np.round(values * (255 / largest)), 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert('RGBA')
        picture = Image.alpha_composite(Image.new('RGBA', picture.size, 'white'), picture)
    return picture.convert('RGB')
