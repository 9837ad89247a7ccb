"""Image classification data sets of TensorFlow Datasets (TFDS), read without TensorFlow."""

import difflib
import functools
import importlib.util
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_jax.data.sources.base import Identity, Item, identity_of_file, index_in_whole
from alexnet_jax.runtime.errors import UserError

if TYPE_CHECKING:  # importing it is slow, and only this source needs it
    import tensorflow_datasets as tfds

_HELD_OUT = 10  # every tenth example, where TFDS has only 'train'
_NAME_FEATURES = ('file_name', 'filename', 'image/filename', 'image_name', 'id', 'image_id')
_DOWNLOAD_TRIES, _DOWNLOAD_TIMEOUTS = 5, (15.0, 60.0)  # seconds, to connect and for more bytes
_MAX_REASON = 500  # characters; some of TFDS's messages fill a screen


class TensorFlowDatasets:
    """A data set of TFDS: 'cifar10', 'imagenette/320px', 'imagenet2012', with a version 'cifar10:3.0.2'.

    A data set prepared by TFDS in the directory is used, in any version; otherwise TFDS downloads and prepares it. The
    files must be ArrayRecords, TFDS's format with random access, which is not its default. Images are JPEG or PNG, as
    TFDS stores them.

    Preparing nearly every data set needs TensorFlow (imagenet2012, imagenette and cifar10 among them), as TFDS opens
    archives and files with it; reading never does.

    Training uses TFDS's split 'train', validation 'validation' or else 'test'; with both, 'test' is a split of its own.
    Splits without labels (imagenet2012's test images) are ignored. With 'train' alone, every tenth example, from the
    first on, is held out for validation. Other splits are not used.

    Class names and their order are TFDS's (for imagenet2012: WordNet ids).
    """

    def __init__(self, name: str, directory: str | pathlib.Path) -> None:
        """Opens the data set, and prepares it if necessary.

        Args:
          name: of the data set, in TFDS's notation.
          directory: TFDS's data directory; '' is its default, ~/tensorflow_datasets.

        Raises:
          UserError: there is no such data set, or it is not one of images with one class each; it cannot be prepared,
            or is prepared in another format; its files are missing or damaged.
        """
        import tensorflow_datasets as tfds

        self._title = f'tfds:{name}'
        builder = _builder(tfds, name, os.fspath(directory) or None)
        info, features = builder.info, builder.info.features
        self._image, self._label = _image_and_label(tfds, self._title, info)
        if not os.path.exists(os.path.join(builder.data_dir, 'dataset_info.json')):
            _prepare(name, builder)
        _use_array_record(name, builder)
        self.class_names = self.class_ids = tuple(features[self._label].names)
        self._name = next((key for key in _NAME_FEATURES if key in features and _is_name(tfds, features[key])), None)
        wanted = [key for key in (self._image, self._label, self._name) if key]
        self._features = tfds.features.FeaturesDict({key: features[key] for key in wanted})  # others are not decoded
        self._decoders = {self._image: tfds.decode.SkipDecoding()}
        self._prefix, raw = builder.name, tfds.decode.DeserializeMethod.RAW_BYTES
        self._records = {
            split: builder.as_data_source(split, deserialize_method=raw)
            for split in ('train', 'validation', 'test')
            if split in info.splits and info.splits[split].num_examples
        }
        if 'train' not in self._records:
            raise UserError(
                f'{self._title} has nothing to train on: its splits are {", ".join(info.splits) or "none"}.'
            )
        self.splits = self._choose_splits()
        self._identities = {split: _identity(info.splits[split].filepaths, directory) for split in self._records}

    def item(self, split: str, index: int) -> Item:
        """Reads an image, named by its file name or id in TFDS, or by its index there: 'mnist-test-00000042'.

        Thread-safe.

        Raises:
          UserError: the files are damaged.
        """
        origin = self._origins[split]
        if self._held_out:
            index = index_in_whole(split, index, _HELD_OUT)
        example = self._example(origin, index)
        name = example[self._name] if self._name else f'{self._prefix}-{origin}-{index:08d}'
        name = name.decode('utf-8', 'replace') if isinstance(name, bytes) else str(name)
        label = int(example[self._label])
        if not 0 <= label < len(self.class_names):
            raise UserError(f'{self._title}: {name} ({origin}, {index}) has no label ({label}); all images need one.')
        return Item(name, example[self._image], label)

    def identity(self, split: str, index: int) -> Identity:
        """The first file of TFDS's split, the size and time of all of them, and the index there."""
        origin = self._origins[split]
        number = index_in_whole(split, index, _HELD_OUT) if self._held_out else index
        return self._identities[origin]._replace(member=f'{origin} {number}')

    def _choose_splits(self) -> dict[str, int]:
        """Chooses the splits as in the class's docstring; returns the number of examples in each."""
        others: list[str] = [split for split in ('validation', 'test') if split in self._records]
        labeled = [split for split in others if int(self._example(split, 0)[self._label]) >= 0]
        self._held_out = not labeled
        self._origins = {'train': 'train', 'validation': (labeled or ['train'])[0]}
        if len(labeled) == 2:
            self._origins['test'] = 'test'
        splits = {split: len(self._records[origin]) for split, origin in self._origins.items()}
        if self._held_out:
            splits['validation'] = -(-splits['train'] // _HELD_OUT)
            splits['train'] -= splits['validation']
        return splits

    def _example(self, split: str, index: int) -> dict[str, Any]:
        """The used features of an example of one of TFDS's splits."""
        try:
            record = self._records[split][index]
            example: dict[str, Any] = self._features.deserialize_example_np(record, decoders=self._decoders)
            if None in example.values():  # from an ArrayRecord file that is cut short
                raise ValueError('it is empty')
            return example
        except Exception as error:  # ArrayRecord, protocol buffers and TFDS raise many kinds
            raise UserError(
                f'Example {index} of the split {split!r} of {self._title} cannot be read, its files are damaged: '
                f'{_reason(error)}. Delete the data set and prepare it again.'
            ) from error


def _builder(tfds: Any, name: str, directory: str | None) -> 'tfds.core.DatasetBuilder':
    """TFDS's builder of the data set, from its files or else from its code."""
    from tensorflow_datasets.core.read_only_builder import builder_from_files
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    try:
        try:
            return builder_from_files(name, data_dir=directory)
        except DatasetNotFoundError:
            return tfds.builder(name, data_dir=directory)
    except DatasetNotFoundError as error:
        base = name.split('/')[0].split(':')[0]
        near = difflib.get_close_matches(base, tfds.list_builders(with_community_datasets=False))
        suggestion = f'; did you mean {" or ".join(near)}?' if near else '.'
        raise UserError(
            f'TensorFlow Datasets has no data set {base!r}, and none is prepared in {directory or "its directory"}'
            f'{suggestion} All are listed at https://www.tensorflow.org/datasets/catalog.'
        ) from error
    except ImportError as error:
        raise _missing_package(name, directory, error) from error
    except Exception as error:  # TFDS raises many kinds
        raise UserError(f'TensorFlow Datasets cannot open {name!r}: {_reason(error)}.') from error


def _identity(paths: Sequence[os.PathLike[str]], directory: str | pathlib.Path) -> Identity:
    """Identity of a split's files together, by the path of the first."""
    files = [identity_of_file('', os.fspath(path), -1) for path in paths]
    first = os.path.relpath(files[0].file, directory) if os.fspath(directory) else files[0].file
    return Identity(first, '', sum(file.size for file in files), max(file.time for file in files), -1)


def _image_and_label(tfds: Any, title: str, info: 'tfds.core.DatasetInfo') -> tuple[str, str]:
    """Names of the image and label feature, as TFDS declares them or the only ones of their kind, or UserError."""
    features = info.features if isinstance(info.features, tfds.features.FeaturesDict) else {}
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    of_kinds = [[key for key in features if type(features[key]) is kind] for kind in kinds]
    image, label = info.supervised_keys or (keys[0] if len(keys) == 1 else None for keys in of_kinds)
    if any(not isinstance(key, str) or key not in keys for key, keys in zip((image, label), of_kinds, strict=True)):
        listed = ', '.join(f'{key} ({type(features[key]).__name__})' for key in features)
        raise UserError(
            f'{title} is not a data set for image classification: it needs one image and one class label an example; '
            f'TFDS declares {info.supervised_keys or "no"} input and target of: {listed}.'
        )
    kind, classes = np.dtype(features[image].np_dtype), features[label].num_classes or 0
    if kind != np.uint8:
        raise UserError(f'The images of {title} are of {kind}; only those of uint8 can be used.')
    if classes < 2:
        raise UserError(f'{title} has {classes or "no"} classes; there must be two or more.')
    return image, label


def _is_name(tfds: Any, feature: Any) -> bool:
    """Whether a feature is a text or a number."""
    is_text = isinstance(feature, tfds.features.Text)
    return is_text or (type(feature) in (tfds.features.Scalar, tfds.features.Tensor) and feature.shape == ())


def _prepare(name: str, builder: 'tfds.core.DatasetBuilder') -> None:
    """Lets TFDS download the data set and write it as ArrayRecords."""
    _bound_downloads()
    directory = str(pathlib.Path(builder.data_dir).parents[1 if builder.builder_config is None else 2])
    try:
        builder.download_and_prepare(file_format='array_record')
    except ImportError as error:
        raise _missing_package(name, directory, error) from error
    except Exception as error:  # TFDS raises many kinds
        remedy = 'Try again with a working network and enough disk; what has been downloaded is kept'
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            manual = os.path.join(directory, 'downloads', 'manual')
            remedy = f'Get them, put them as they are into {manual}, and try again'
        raise UserError(
            f'tfds:{name} is not prepared in {directory}, and TensorFlow Datasets could not do it now: '
            f'{_reason(error)}. {remedy}. {_elsewhere(name, directory)}'
        ) from error


def _missing_package(name: str, directory: str | None, error: ImportError) -> UserError:
    """The error for a package that TFDS needs, most often TensorFlow."""
    needed = f'a package that is not installed or does not work: {_reason(error)}'
    if importlib.util.find_spec('tensorflow') is None and 'tensorflow' in str(error):
        needed = 'TensorFlow, which is not installed. `pip install tensorflow-cpu` and try again (downloads are kept); '
        needed += 'once the data set is prepared, TensorFlow is not needed any more'
    return UserError(
        f'tfds:{name} is not prepared in {directory or "the default directory"}, and to prepare it TensorFlow Datasets '
        f'needs {needed}. {_elsewhere(name, directory)}'
    )


def _use_array_record(name: str, builder: 'tfds.core.DatasetBuilder') -> None:
    """Selects the ArrayRecord files of a prepared data set; UserError if they are missing.

    TFDS 4.9 leaves converted data sets with a description that mentions another format alone.
    """
    info = builder.info
    formats = {file_format.value for file_format in info.available_file_formats()}
    if info.file_format is None or info.file_format.value != 'array_record':
        info.set_file_format('array_record', override=True, override_if_initialized=True)
    files = [os.fspath(file) for split in info.splits.values() for file in split.filepaths]
    missing = [file for file in files if not os.path.exists(file)]
    if missing and 'array_record' in formats:
        raise UserError(
            f'tfds:{name} is prepared in {builder.data_dir}, but {len(missing)} of its {len(files)} files are missing, '
            f'{missing[0]} the first. Copy them there, or delete that directory to have it prepared again.'
        )
    if missing:
        raise UserError(
            f'tfds:{name} is prepared in {builder.data_dir} as {" and ".join(sorted(formats))}; array_record is '
            'needed. Either rename or delete that directory and try again (downloads are kept), or name another '
            f'directory. Preparing by hand: {_command(name, "DIRECTORY")}'
        )


def _bound_downloads() -> None:
    """Makes TFDS give up on a server that does not answer.

    By default it tries for four minutes without a network, and waits forever for a silent server. The change is
    permanent, as TFDS's threads outlive a failed download, and affects its downloads alone.
    """
    from tensorflow_datasets.core.download import downloader

    downloader.MAX_RETRIES = _DOWNLOAD_TRIES
    downloader._open_with_requests = functools.partial(downloader._open_with_requests, timeout=_DOWNLOAD_TIMEOUTS)


def _elsewhere(name: str, directory: str | None) -> str:
    return f'Or prepare it on another machine and copy the directory: {_command(name, directory)}'


def _command(name: str, directory: str | None) -> str:
    where = f', data_dir={directory!r}' if directory else ''
    call = f"tfds.builder({name!r}{where}).download_and_prepare(file_format='array_record')"
    return f'python -c "import tensorflow_datasets as tfds; {call}"'


def _reason(error: Exception) -> str:
    """An error's message on one line, shortened."""
    text = ' '.join(str(error).split()) or type(error).__name__
    return (text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + ' ...').rstrip('.')
