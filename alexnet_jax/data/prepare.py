"""Images to a prepared data set, once (section 2): shorter side to 256, the central 256 x 256, RGB, JPEG.

"We first rescaled the image such that the shorter side was of length 256, and then cropped out the central
256 x 256 patch from the resulting image." The training set's mean image and the covariance of its pixels'
RGB are accumulated on the way, in integers and therefore exactly.
"""

import hashlib
import io
import pathlib
import shutil
import tempfile

import numpy as np
import simplejpeg
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from rich.progress import track

from alexnet_jax.data.prepared import MEAN_IMAGE, PreparedDataSet, write_manifest
from alexnet_jax.data.records import Record, encode
from alexnet_jax.data.sources import Source
from alexnet_jax.errors import UserError

# One record a group, so that reading one image reads nothing else; a JPEG cannot be compressed further.
_WRITER_OPTIONS = 'group_size:1,uncompressed'


def normalized(image: bytes, size: int) -> np.ndarray:
    """Decodes an image and brings it to size x size as section 2 says.

    Args:
      image: an encoded image of any size and colour mode.
      size: height and width of the result, in pixels; 256 in the paper.

    Returns:
      uint8 [size, size, 3], RGB.

    Raises:
      OSError: the bytes are no image that can be read.
    """
    picture = Image.open(io.BytesIO(image)).convert('RGB')
    width, height = picture.size
    shorter = min(width, height)
    # The part that becomes the central square; resizing it alone gives the same pixels with less work.
    left, top = (width - shorter) / 2, (height - shorter) / 2
    square = picture.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + shorter, top + shorter))
    return np.asarray(square)


class _Statistics:
    """Sums over the training images, exact: integers throughout."""

    def __init__(self, size: int) -> None:
        self.images = 0
        self.sum = np.zeros((size, size, 3), np.int64)
        self.products = np.zeros((3, 3), np.int64)

    def add(self, pixels: np.ndarray) -> None:
        flat = pixels.reshape(-1, 3).astype(np.float64)  # products and sums below 2**53: exact in float64
        self.images += 1
        self.sum += pixels
        self.products += (flat.T @ flat).astype(np.int64)

    def mean_image(self) -> np.ndarray:
        return (self.sum / self.images).astype(np.float32)

    def rgb(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean [3] and covariance [3, 3] of all training pixels, float64."""
        pixels = self.images * self.sum.shape[0] * self.sum.shape[1]
        mean = self.sum.sum((0, 1)) / pixels
        return mean, self.products / pixels - np.outer(mean, mean)


def prepare(source: Source, name: str, directory: str | pathlib.Path, *, image_size: int, quality: int) -> None:
    """Writes a prepared data set; the directory appears when it is complete, and not before.

    Args:
      source: where the images come from.
      name: the source's name, for the manifest.
      directory: where to; must not exist yet.
      image_size: height and width of the stored images, in pixels; 256 in the paper.
      quality: of the JPEGs, 1..100.

    Raises:
      UserError: the directory cannot be written, or an image cannot be read.
    """
    directory = pathlib.Path(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = pathlib.Path(tempfile.mkdtemp(prefix=f'.{directory.name}-', dir=directory.parent))
    except OSError as error:
        raise UserError(f'config.data.directory={str(directory)!r} cannot be written: {error}.') from error
    try:
        partial.chmod(0o755)
        statistics = _Statistics(image_size)
        shards = {
            split: [
                _write_shard(source, split, partial / f'{split}-00000.array_record', image_size, quality, statistics)
            ]
            for split in source.splits
        }
        np.save(partial / MEAN_IMAGE, statistics.mean_image())
        rgb_mean, covariance = statistics.rgb()
        write_manifest(
            PreparedDataSet(
                partial, name, image_size, quality, source.class_names, shards, rgb_mean.tolist(), covariance.tolist()
            )
        )
        partial.rename(directory)
    except OSError as error:
        raise UserError(f'Preparing {directory} failed: {error}.') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_shard(
    source: Source, split: str, path: pathlib.Path, image_size: int, quality: int, statistics: _Statistics
) -> dict[str, object]:
    """Writes the images of a split to one file, and returns the manifest's line about it."""
    writer = ArrayRecordWriter(str(path), _WRITER_OPTIONS)
    count = 0
    for item in track(
        source.items(split), description=f'preparing {split}', total=source.splits[split], transient=True
    ):
        try:
            pixels = normalized(item.image, image_size)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's
            raise UserError(f'The image {item.name!r} of the split {split!r} cannot be read: {error}.') from error
        jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, colorspace='RGB', colorsubsampling='420')
        if split == 'train':  # the mean of what training will see: the pixels after JPEG
            statistics.add(simplejpeg.decode_jpeg(jpeg, colorspace='RGB'))
        writer.write(encode(Record(item.name, item.label, jpeg)))
        count += 1
    writer.close()
    with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    return {'file': path.name, 'examples': count, 'sha256': digest}
