"""Images to 256 x 256 pixels of RGB (section 2), and the image files that a user names."""

import collections
import concurrent.futures
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from alexnet_jax.data.sources.folder import EXTENSIONS
from alexnet_jax.runtime.devices import available_cores
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import read_file

# Formats of photographs. Pillow reads more; for one of them, PostScript, it would start another program.
_FORMATS = ('JPEG', 'PNG', 'GIF', 'BMP', 'DIB', 'TIFF', 'WEBP', 'PPM')
# Limits that are checked before decoding. A JPEG is decoded at a fraction of its size where it is that large.
_MAX_JPEG_PIXELS, _MAX_PIXELS = 2**27, 2**25
_MAX_SCANS = 1000  # of a progressive JPEG, which usually has ten; each is a pass over the whole image
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


def normalized(encoded: bytes, size: int, look: Callable[[Image.Image], None] = lambda file: None) -> np.ndarray:
    """Decodes an image and brings it to size x size as in section 2.

    "We first rescaled the image such that the shorter side was of length 256, and then cropped out the central
    256 x 256 patch from the resulting image." Resampled with Lanczos' filter, which is antialiased; upright by EXIF
    orientation; transparent pixels become white, 16 bits 8.

    Args:
      encoded: a JPEG, PNG, GIF, BMP, TIFF, WebP or PPM of any size and color mode.
      size: height and width of the result, in pixels; 256 in the paper.
      look: is given the opened file, before it is decoded: its format, mode and size.

    Returns:
      uint8 [size, size, 3], RGB.

    Raises:
      ValueError: it cannot be decoded, or has more than 2**27 pixels (JPEG) or 2**25 (others).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of sizes, which are checked here, and of harmless oddities
            file = Image.open(io.BytesIO(encoded), formats=_FORMATS)
            look(file)
            is_jpeg = file.format in ('JPEG', 'MPO')
            most = _MAX_JPEG_PIXELS if is_jpeg else _MAX_PIXELS
            if file.width * file.height > most:
                raise ValueError(f'{file.width} x {file.height} pixels are more than {most:,}')
            if is_jpeg and encoded.count(b'\xff\xda') > _MAX_SCANS:
                raise ValueError(f'a JPEG of more than {_MAX_SCANS:,} scans')
            file.draft('RGB', (4 * size, 4 * size))  # decode a far larger JPEG at a fraction of its size
            image = _rgb(_upright(file))
    except UnidentifiedImageError as error:
        raise ValueError('no image in a supported format') from error
    except MemoryError:
        raise
    except Exception as error:  # on damaged files Pillow raises TypeError, RuntimeError, struct.error, and more
        raise ValueError(str(error) or type(error).__name__) from error
    return _central_square(image, size)


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


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the tags are damaged; the pixels are not
        return image
    return image.transpose(_TO_UPRIGHT[orientation]) if orientation in _TO_UPRIGHT else image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith('I') or image.mode == 'F':  # 16 bits of gray, which convert() would clip at 255
        values = np.asarray(image, np.float32)
        largest = 65535 if values.max(initial=0) > 255 else 255
        image = Image.fromarray(np.clip(np.round(values * (255 / largest)), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return image.convert('RGB')


class ImageFile(NamedTuple):
    """An image file, read or not."""

    path: str
    pixels: np.ndarray | None  # uint8 [size, size, 3], RGB; None if it cannot be read
    error: str  # why it cannot be read; otherwise ''


def find_image_files(paths: Sequence[str]) -> list[str]:
    """Lists the image files that a user named: files with any extension, and folders.

    A folder's images are found by `folder.EXTENSIONS` at any depth and sorted; names that begin with a dot are ignored.

    Raises:
      UserError: there are no paths, one does not exist, or a folder has no image.
    """
    found = []
    for path in paths:
        if os.path.isdir(path):
            files = ((folder, name) for folder, _, names in os.walk(path) for name in names if not name.startswith('.'))
            inside = sorted(os.path.join(*file) for file in files if file[1].lower().endswith(EXTENSIONS))
            if not inside:
                raise UserError(f'--images: the folder {path} has no image ({" ".join(EXTENSIONS)}).')
            found += inside
        elif os.path.exists(path):
            found.append(path)
        else:
            raise UserError(f'--images: there is no file {path}.')
    if not found:
        raise UserError('--images is missing: image files or folders, as in --images=cat.jpg,holiday/.')
    return found


def read_image_files(paths: Sequence[str], size: int, threads: int = 0) -> Iterator[ImageFile]:
    """Reads image files in order, in threads (0 for one a core, up to 16), as `size` x `size` pixels.

    Yields:
      One for each path, whether or not it can be read.
    """

    def read(path: str) -> ImageFile:
        try:
            return ImageFile(path, normalized(read_file(path), size), '')
        except (OSError, ValueError) as error:
            return ImageFile(path, None, getattr(error, 'strerror', None) or str(error))

    threads = threads or min(16, available_cores())
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[concurrent.futures.Future[ImageFile]] = collections.deque()
        for path in paths:
            waiting.append(pool.submit(read, path))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
