"""Image data sets in Parquet files, as Hugging Face stores them."""

import bisect
import collections
import glob
import importlib.util
import json
import os
import pathlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alexnet_jax.data.sources.base import Identity, Item, identity_of_file, index_in_whole
from alexnet_jax.data.sources.parquet_rows import Group, Rows, check_pages, open_file, reading, row_groups
from alexnet_jax.data.sources.parquet_splits import by_split, check_series, find_files
from alexnet_jax.runtime.errors import UserError

if TYPE_CHECKING:  # importing it is slow, and only this source needs it
    import pyarrow as pa

_HELD_OUT = 10  # every tenth image, where there are only files for training
_MAX_ROWS = 2**25  # of all files
_ROLES = {'image': 'Images are bytes, or {bytes, path}.', 'label': 'Labels are whole numbers or texts.'}


class _File(NamedTuple):
    """A file of a split."""

    path: str
    groups: list[Group]
    labels: 'pa.Array'  # of all rows: int64, or strings
    names: tuple[str, ...]  # of the classes, by its metadata; () without


class Parquet:
    """Parquet files with a column of images, {bytes, path} or bytes, and one of labels, as Hugging Face stores them.

    Splits are read off the names of files: `train-00000-of-00294.parquet`, `validation-*`, `val-*`, `test-*`; or off
    their folders'. Without one for validation, `test` is it; with training images alone, every tenth is held out, from
    the first on. Files are for training if none names a split. A split without any labels (-1 or null) is left out.

    The columns are `image` and `label`, or else the only ones of their kind. Class names are those of the metadata, in
    the order of the labels; without them, or where labels are texts, the classes are the labels in training, ascending.
    """

    def __init__(self, argument: str, directory: str | pathlib.Path) -> None:
        """Finds the files, and reads their metadata and labels.

        Args:
          argument: a pattern of files such as 'cifar10/*.parquet', or a folder with files at any depth; in the
            directory or else in the working directory. '' stands for the directory itself. `,image=COLUMN` and
            `,label=COLUMN` may follow.
          directory: of the files, or a pattern of them.

        Raises:
          UserError: there are no such files; one is damaged, or missing from a numbered series; there are no such
            columns; a label is missing or is no class; pyarrow is not installed.
        """
        if importlib.util.find_spec('pyarrow') is None:
            raise UserError('Parquet files need pyarrow, which is not installed: pip install pyarrow.')
        pattern, wanted = _options(argument)
        self._directory = os.path.expanduser(directory) if os.path.isdir(os.path.expanduser(directory)) else os.curdir
        paths = by_split(find_files(pattern, os.fspath(directory)))
        check_series(paths, whole=not glob.has_magic(pattern or os.fspath(directory)))
        self._image, self._label = _columns(next(iter(paths.values()))[0], wanted)
        files: dict[str, list[_File]] = {split: [] for split in paths}
        for split, path in ((split, path) for split, some in paths.items() for path in some):
            rows = sum(len(file.labels) for some in files.values() for file in some)
            files[split].append(self._open(path, _MAX_ROWS - rows))
        files = {split: some for split, some in files.items() if not all(_is_unlabeled(file) for file in some)}
        if 'train' not in files:
            place = os.path.commonpath([path for some in paths.values() for path in some])
            raise UserError(f'{place} has nothing to train on: no Parquet file for training with labels.')
        if 'test' in files and 'validation' not in files:
            files['validation'] = files.pop('test')
        classes, self.class_names = _classes(files)
        self.class_ids = self.class_names
        self._files = files
        self._labels = {split: np.concatenate([_encoded(file, classes) for file in files[split]]) for split in files}
        self._ends = {split: np.cumsum([len(file.labels) for file in files[split]]).tolist() for split in files}
        self._rows, self._held_out = Rows(self._image), 'validation' not in files
        self.splits = {split: len(labels) for split, labels in self._labels.items()}
        if self._held_out:
            self.splits['validation'] = -(-self.splits['train'] // _HELD_OUT)
            self.splits['train'] -= self.splits['validation']

    def item(self, split: str, index: int) -> Item:
        """Reads an image, named by its path in the file, or else as in 'train-00000-of-00294.parquet/17'.

        Thread-safe.

        Raises:
          UserError: the file is damaged.
        """
        file, row, label = self._locate(split, index)
        group = bisect.bisect_right(file.groups, row, key=lambda group: group.first) - 1
        image, name = self._rows.read(file.path, group, file.groups[group], row)
        return Item(name or f'{os.path.basename(file.path)}/{row}', image, label)

    def identity(self, split: str, index: int) -> Identity:
        """Path, size and time of the file, and the row."""
        file, row, label = self._locate(split, index)
        return identity_of_file(self._directory, os.path.relpath(file.path, self._directory), label, str(row))

    def _locate(self, split: str, index: int) -> tuple[_File, int, int]:
        """File, row and label of an image."""
        if self._held_out:
            split, index = 'train', index_in_whole(split, index, _HELD_OUT)
        number = bisect.bisect_right(self._ends[split], index)
        file = self._files[split][number]
        return file, index - self._ends[split][number] + len(file.labels), int(self._labels[split][index])

    def _open(self, path: str, room: int) -> _File:
        """Reads the metadata and the labels of a file, which has `room` rows at most."""
        import pyarrow as pa

        image, label = _columns(path, {'image': self._image, 'label': self._label})
        with reading(path):
            file = open_file(path, read_dictionary=[label])  # texts are then stored once each
            count = file.metadata.num_rows
            if count > room:
                raise ValueError(f'it claims {count:,} rows, and with those before {_MAX_ROWS:,} are the limit')
            for number in range(file.metadata.num_row_groups):
                check_pages(path, file.metadata, number, label)
            kind = pa.int64() if pa.types.is_integer(file.schema_arrow.field(label).type) else pa.string()
            parts = [batch.column(0).cast(kind) for batch in file.iter_batches(1 << 16, columns=[label])]
            labels = pa.concat_arrays(parts) if parts else pa.array([], kind)
            if len(labels) != count:
                raise ValueError(f'it claims {count:,} rows, and has {len(labels):,} labels')
            names = _names(file.schema_arrow, label) if kind == pa.int64() else ()
            return _File(path, row_groups(file.metadata, image), labels, names)


def _options(argument: str) -> tuple[str, dict[str, str]]:
    """The pattern of an argument, and the columns that it names, by 'image' and 'label'."""
    wanted: dict[str, str] = {}
    while match := re.fullmatch(r'(?:(.*),)?(image|label)=([^,]+)', argument, re.DOTALL):
        argument, wanted[match[2]] = match[1] or '', match[3]
    return argument, wanted


def _columns(path: str, wanted: dict[str, str]) -> tuple[str, str]:
    """The columns of images and labels of a file; UserError if these are not clear, or not there."""
    with reading(path):
        schema = open_file(path).schema_arrow
        fields, features = list(schema), _features(schema)
    chosen: list[str] = []
    for role, kind, fits in (('image', 'Image', _holds_images), ('label', 'ClassLabel', _holds_labels)):
        names = [field.name for field in fields if fits(field.type)]
        declared = [name for name in names if features.get(name, {}).get('_type') == kind]
        choices = (
            [wanted[role]] if role in wanted else [role] if role in names else declared if len(declared) == 1 else names
        )
        if len(choices) != 1 or names.count(choices[0]) != 1:
            listed = ', '.join(f'{field.name} ({field.type})'[:60] for field in fields[:30])
            what = f'{wanted[role]!r} cannot be' if role in wanted else 'it is not clear which is'
            raise UserError(
                f'{path} has the columns {listed}; {what} that of {role}s. {_ROLES[role]} Name the column, as in '
                f"--config.data.source='parquet:*.parquet,{role}={(names or ['COLUMN'])[0]}'."
            )
        chosen += choices
    return chosen[0], chosen[1]


def _holds_images(kind: 'pa.DataType') -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.get_field_index('bytes') >= 0 and _holds_images(kind.field('bytes').type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _holds_labels(kind: 'pa.DataType') -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _features(schema: 'pa.Schema') -> dict[str, dict[str, Any]]:
    """What Hugging Face's metadata say about the columns; {} without them."""
    content = (schema.metadata or {}).get(b'huggingface')
    try:
        features = json.loads(content)['info']['features'].items() if content else ()
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("its metadata 'huggingface' are damaged") from error
    return {name: feature for name, feature in features if isinstance(feature, dict)}


def _names(schema: 'pa.Schema', label: str) -> tuple[str, ...]:
    """The names of the classes in a file's metadata; () without them."""
    names = _features(schema).get(label, {}).get('names') or ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"its metadata 'huggingface' have no list of names for {label!r}")
    return tuple(names)


def _is_unlabeled(file: _File) -> bool:
    """Whether all labels of a file are null or -1, as where the labels of a test set are secret."""
    return set(file.labels.unique().to_pylist()[:3]) <= {None, -1}


def _classes(files: dict[str, list[_File]]) -> tuple['pa.Array', tuple[str, ...]]:
    """The labels of the classes, in order, and their names, each another one."""
    import pyarrow as pa

    every = [file for some in files.values() for file in some]
    first = next((file for file in every if file.names), every[0])
    for file in every:
        if file.labels.type != first.labels.type or (file.names and file.names != first.names):
            raise UserError(f'{file.path} and {first.path} do not have the same classes; they cannot be used together.')
    if first.names:
        values = list(range(len(first.names)))
    else:
        found = {value for file in files['train'] for value in file.labels.unique().to_pylist()}
        values = sorted(found - {None, -1})
    names = first.names or tuple(map(str, values))
    if len(names) < 2:
        raise UserError(f'{first.path} has only one class, {names[0]!r}; two are needed.')
    count = collections.Counter(names)
    names = tuple(name if count[name] == 1 else f'{name} ({value})' for name, value in zip(names, values, strict=True))
    return pa.array(values, first.labels.type), names


def _encoded(file: _File, classes: 'pa.Array') -> np.ndarray:
    """The labels of a file's images as indices of their classes, int32; UserError if one has none."""
    import pyarrow.compute as pc

    found = pc.index_in(file.labels, classes)
    if found.null_count:
        row = pc.index(found.is_null(), True).as_py()
        label = file.labels[row].as_py()
        raise UserError(f'{file.path}, row {row:,}: the label {label!r:.100} is none of the {len(classes):,} classes.')
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int32)
