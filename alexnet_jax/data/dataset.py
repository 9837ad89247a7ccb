"""A prepared data set on disk: shards and a manifest.

DIRECTORY/manifest.json            settings, class names, counts, checksums, RGB statistics
DIRECTORY/mean_image.npy           float32 [size, size, 3], 0..255: mean of the training images (section 2)
DIRECTORY/train-00000.array_record and so on, validation likewise; see `records.py`
DIRECTORY/train-00000.sums         what is in the shard of that name; see `shard_facts.py`
DIRECTORY/broken_images.txt        unreadable images that were left out, a line each
DIRECTORY/source_files.json        size and time of the source's files, to see whether they have changed
"""

import dataclasses
import io
import pathlib
from typing import Any

import numpy as np

from alexnet_jax.runtime.errors import UserError, shown
from alexnet_jax.runtime.files import json_bytes, read_file, read_json, replace_file

FORMAT = 2
MANIFEST, MEAN_IMAGE, BROKEN_IMAGES = 'manifest.json', 'mean_image.npy', 'broken_images.txt'
PLACES = 'source_files.json'


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a preparation; data sets that agree in them are the same."""

    source: str  # as `sources.open_source` takes it
    image_size: int  # height and width of the stored images, in pixels; 256 in the paper
    storage: str  # 'jpeg' or 'raw'
    quality: int  # of JPEGs, 1..100
    images_per_shard: int


PREPARE_AGAIN = 'prepare the data set again (--mode=prepare).'


@dataclasses.dataclass(frozen=True)
class PreparedDataSet:
    """The contents of a manifest."""

    directory: pathlib.Path  # of the manifest and the shards
    settings: Settings
    class_names: tuple[str, ...]  # readable names
    class_ids: tuple[str, ...]  # unambiguous names in the same order, such as WordNet ids
    shards: dict[str, list[dict[str, Any]]]  # for each split {'file', 'examples', 'sha256'}
    left_out: int  # number of unreadable images
    rgb_mean: list[float]  # of the training pixels, 0..255
    rgb_covariance: list[list[float]]  # 3 x 3, of the training pixels
    # What earlier versions did not write:
    source_directory: str = ''  # absolute path of the source's files; '' if it has none
    checksums: dict[str, Any] = dataclasses.field(default_factory=dict)  # [bytes, SHA-256] of each file
    seen: dict[str, Any] = dataclasses.field(default_factory=dict)  # as `survey.survey` gives it
    remedy: str = dataclasses.field(default=PREPARE_AGAIN, compare=False)  # for what is damaged; not in the manifest

    @property
    def image_size(self) -> int:
        """Height and width of the stored images, in pixels."""
        return self.settings.image_size

    def examples(self, split: str) -> int:
        """Number of images in a split."""
        return sum(self.counts(split))

    def counts(self, split: str) -> list[int]:
        """Number of images in each shard of a split."""
        return [shard['examples'] for shard in self.shards[split]]

    def files(self, split: str) -> list[str]:
        """Paths of a split's shards, in order."""
        return [str(self.directory / shard['file']) for shard in self.shards[split]]

    def all_files(self) -> list[str]:
        """Names of the files that belong to the data set, except for the manifest."""
        shards = [pathlib.Path(shard['file']) for of_split in self.shards.values() for shard in of_split]
        names = [path.with_suffix('.names').name for path in shards if path.suffix == '.raw']
        return list(self.checksums) or [*map(str, shards), *names, MEAN_IMAGE, BROKEN_IMAGES]

    def places(self) -> dict[str, Any]:
        """Size and time of the source's files, as `reuse.Inventory.places` gives them; empty where they are unknown.

        Raises:
          UserError: they are there but cannot be read.
        """
        path = self.directory / PLACES
        try:
            found = read_json(path)
            if not isinstance(found, dict) or not all(isinstance(noted, list) and noted for noted in found.values()):
                raise ValueError('it has other contents')
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UserError(f'{path} cannot be read: {error.strerror}.') from error
        except ValueError as error:
            raise UserError(f'{path} is damaged ({error}); delete it, and prepare the data set again.') from error
        return found

    def mean_image(self) -> np.ndarray:
        """The mean of the training images, float32 [size, size, 3] in 0..255; UserError if it is missing or damaged."""
        path = self.directory / MEAN_IMAGE
        try:
            mean = np.lib.format.read_array(io.BytesIO(read_file(path)), allow_pickle=False)
            if mean.dtype.kind != 'f' or not np.isfinite(mean).all():
                raise ValueError(f'its values, of type {mean.dtype}, are not all finite numbers')
        except (FileNotFoundError, ValueError, MemoryError) as error:
            raise UserError(f'{path} cannot be read ({error}); {self.remedy}') from error
        except OSError as error:
            raise UserError(f'{path} cannot be read: {error.strerror}.') from error
        if mean.shape != (self.image_size, self.image_size, 3):
            raise UserError(f'{path} has the shape {mean.shape}, the manifest says {self.image_size} pixels a side.')
        return np.asarray(mean, np.float32)

    def color_components(self, scale: str = 'deviation') -> np.ndarray:
        """Scaled principal components of the training pixels' RGB, which the draws a_i multiply (section 4.1).

        Args:
          scale: 'deviation': p_i sqrt(lambda_i), as in the 2012 code; 'eigenvalue': p_i lambda_i, as in the paper's
            text, which on values in 0..255 swamps the image.

        Returns:
          float32 [3, 3], in units of 0..255; column i belongs to the i-th largest eigenvalue.
        """
        values, vectors = np.linalg.eigh(np.asarray(self.rgb_covariance, np.float64))
        values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
        signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), range(3)])  # arbitrary in eigh's result
        lengths = np.sqrt(values) if scale == 'deviation' else values
        return np.asarray(vectors * signs * lengths, np.float32)


def write_description(data: PreparedDataSet, mean_image: np.ndarray, directory: pathlib.Path) -> None:
    """Writes the mean image (float32 [size, size, 3], 0..255) and the manifest; OSError if they cannot be written."""
    write_mean_image(mean_image, directory)
    write_manifest(data, directory)


def write_mean_image(mean_image: np.ndarray, directory: pathlib.Path) -> None:
    """Writes the mean image, float32 [size, size, 3] in 0..255, durably; OSError if it cannot be written."""
    content = io.BytesIO()
    np.save(content, mean_image)
    replace_file(directory / MEAN_IMAGE, content.getvalue())


def write_manifest(data: PreparedDataSet, directory: pathlib.Path) -> None:
    """Writes the manifest durably; OSError if it cannot be written."""
    fields = {'format': FORMAT, **dataclasses.asdict(data)}
    del fields['directory'], fields['remedy']
    replace_file(directory / MANIFEST, json_bytes(fields))


def open_prepared(directory: str | pathlib.Path, images: bool = True, remedy: str = PREPARE_AGAIN) -> PreparedDataSet:
    """Reads the manifest of a prepared data set.

    Args:
      directory: of the data set.
      images: whether the shards must be there too.
      remedy: what to do where it is damaged, for the message.

    Raises:
      UserError: it is damaged or of another version, or a shard is missing.
      FileNotFoundError: there is no prepared data set.
    """
    directory = pathlib.Path(directory)
    path = directory / MANIFEST
    try:
        fields = read_json(path)
        version = fields.pop('format')
        if version != FORMAT:
            raise UserError(
                f'{path} has format {version}; this version reads {FORMAT}. Delete {directory}, and {remedy}'
            )
        _check_types(fields)
        for name in ('class_names', 'class_ids'):  # earlier versions wrote bytes that are no text as surrogates
            fields[name] = tuple(map(shown, fields[name]))
        data = PreparedDataSet(
            directory=directory, remedy=remedy, **{**fields, 'settings': Settings(**fields['settings'])}
        )
        files = [pathlib.Path(file) for split in data.shards for file in data.files(split)] if images else []
        if data.checksums and data.settings.storage == 'raw':  # without them no image is read
            files += [file.with_suffix('.sums') for file in files]
        missing = [file for file in files if not file.is_file()]
        for file in files if not missing else ():
            size = data.checksums.get(file.name, [file.stat().st_size])[0]
            if file.stat().st_size != size:
                raise UserError(f'{file} has {file.stat().st_size:,} bytes, {path} says {size:,}; {remedy}')
        empty = [split for split in ('train', 'validation') if images and data.examples(split) < 1]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f'config.data.directory={str(directory)!r} cannot be read: {error}.') from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        reason = f'{type(error).__name__}: {error}'
        raise UserError(f'{path} is damaged ({reason}); delete {directory}, and {remedy}') from error
    if missing:
        raise UserError(f'{missing[0]} is missing, though {path} names it; {remedy}')
    if empty:
        raise UserError(f'{path}: the split {empty[0]!r} has no images.')
    return data


def _check_types(fields: dict[str, Any]) -> None:
    """Raises ValueError for fields that preparation does not write."""
    for name in ('class_names', 'class_ids'):
        if not isinstance(fields[name], list) or not all(isinstance(one, str) for one in fields[name]):
            raise ValueError(f'{name} is not a list of names')
    if len(fields['class_names']) != len(fields['class_ids']):
        raise ValueError('class_names and class_ids differ in length')
    if not isinstance(fields['settings']['source'], str):
        raise ValueError(f'settings: source is {fields["settings"]["source"]!r:.50}')
    for name, most in (('image_size', 2**14), ('quality', 100), ('images_per_shard', 2**40)):
        value = fields['settings'][name]
        if type(value) is not int or not 0 < value <= most:
            raise ValueError(f'settings: {name} is {value!r:.50}')
    for shard in (shard for shards in fields['shards'].values() for shard in shards):
        file, examples = shard['file'], shard['examples']
        if not isinstance(file, str) or pathlib.PurePath(file).name != file or len(file) > 255:
            raise ValueError(f'{file!r:.100} is not the name of a shard')
        if type(examples) is not int or not 0 < examples < 2**40:
            raise ValueError(f'{file} with {examples!r:.50} images')
    if not isinstance(fields.get('source_directory', ''), str) or not isinstance(fields.get('seen', {}), dict):
        raise ValueError('source_directory or seen is of another type')
    for name, file_sum in fields.get('checksums', {}).items():
        if pathlib.PurePath(name).name != name or len(name) > 255 or [*map(type, file_sum)] != [int, str]:
            raise ValueError(f'checksums: {name!r:.100} with {file_sum!r:.100}')
    for name, shape in (('rgb_mean', (3,)), ('rgb_covariance', (3, 3))):
        values = np.asarray(fields[name], np.float64)
        if values.shape != shape or not np.isfinite(values).all() or np.abs(values).max() > 255**2:
            raise ValueError(f'{name} is not an array of {" x ".join(map(str, shape))} numbers in range')
