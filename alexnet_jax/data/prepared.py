"""A prepared data set on disk: the shards, and a manifest that says what is in them.

DIRECTORY/manifest.json            settings, class names, counts, checksums, the RGB statistics
DIRECTORY/mean_image.npy           float32 [size, size, 3], 0..255: the training images' mean (section 2)
DIRECTORY/train-00000.array_record and so on, validation likewise
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from alexnet_jax.errors import UserError

FORMAT = 1
MANIFEST, MEAN_IMAGE = 'manifest.json', 'mean_image.npy'


@dataclasses.dataclass(frozen=True)
class PreparedDataSet:
    """What a manifest says.

    Attributes:
      directory: where the shards are.
      source: name of the source that was prepared.
      image_size: height and width of the stored images, in pixels.
      quality: JPEG quality, 1..100.
      class_names: readable names of the classes.
      shards: for each split a list of {'file', 'examples', 'sha256'}.
      rgb_mean: mean of the training pixels' red, green and blue, 0..255.
      rgb_covariance: 3 x 3, of the training pixels, in squared units of 0..255.
    """

    directory: pathlib.Path
    source: str
    image_size: int
    quality: int
    class_names: tuple[str, ...]
    shards: dict[str, list[dict[str, Any]]]
    rgb_mean: list[float]
    rgb_covariance: list[list[float]]

    def examples(self, split: str) -> int:
        """Number of images in a split."""
        return sum(shard['examples'] for shard in self.shards[split])

    def files(self, split: str) -> list[str]:
        """Paths of a split's shards, in order."""
        return [str(self.directory / shard['file']) for shard in self.shards[split]]

    def mean_image(self) -> np.ndarray:
        """The mean of the training images, float32 [size, size, 3] in 0..255."""
        path = self.directory / MEAN_IMAGE
        try:
            with path.open('rb') as file:
                mean = np.lib.format.read_array(file, allow_pickle=False).astype(np.float32)
        except (OSError, ValueError) as error:
            raise UserError(f'{path} cannot be read ({error}); prepare the data set again (--mode=prepare).') from error
        if mean.shape != (self.image_size, self.image_size, 3):
            raise UserError(f'{path} has the shape {mean.shape}, the manifest says {self.image_size} pixels a side.')
        return mean

    def colour_components(self) -> np.ndarray:
        """Principal components of the training pixels' RGB (section 4.1), each as long as its standard deviation.

        Returns:
          float32 [3, 3]: column i is p_i sqrt(lambda_i), in 0..255 units, largest first. The paper's text
          multiplies p_i with lambda_i itself; on values in 0..255 that would swamp the image, and the 2012
          code uses the standard deviation.
        """
        values, vectors = np.linalg.eigh(np.asarray(self.rgb_covariance, np.float64))
        values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
        signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), range(3)])  # eigh leaves them open
        return (vectors * signs * np.sqrt(values)).astype(np.float32)


def write_manifest(data: PreparedDataSet) -> None:
    """Writes DIRECTORY/manifest.json."""
    fields = {'format': FORMAT, **dataclasses.asdict(data)}
    del fields['directory']
    (data.directory / MANIFEST).write_text(json.dumps(fields, indent=1) + '\n')


def open_prepared(directory: str | pathlib.Path) -> PreparedDataSet:
    """Reads the manifest of a prepared data set.

    Raises:
      UserError: it is damaged, of another version, or a shard that it names is missing.
      FileNotFoundError: there is no prepared data set at all.
    """
    directory = pathlib.Path(directory)
    path = directory / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f'config.data.directory={str(directory)!r} cannot be read: {error}.') from error
    try:
        fields = json.loads(text)
        version = fields.pop('format')
        if version != FORMAT:
            raise UserError(f'{path} has format {version}; this version reads {FORMAT}. Prepare the data set again.')
        fields['class_names'] = tuple(fields['class_names'])
        data = PreparedDataSet(directory=directory, **fields)
        missing = [file for split in data.shards for file in data.files(split) if not pathlib.Path(file).is_file()]
        empty = [split for split in ('train', 'validation') if data.examples(split) < 1]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f'{path} is damaged ({type(error).__name__}: {error}); delete {directory} and prepare the data set again.'
        ) from error
    if missing:
        raise UserError(f'{missing[0]} is missing, though {path} names it; prepare the data set again.')
    if empty:
        raise UserError(f'{path}: the split {empty[0]!r} has no images.')
    return data
