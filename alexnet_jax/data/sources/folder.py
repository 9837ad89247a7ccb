"""People's own pictures: a folder of class folders."""

import array
import itertools
import os
import pathlib
from collections.abc import Iterator

from alexnet_jax.data.sources.base import Item
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import read_file

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.tif', '.tiff', '.webp', '.ppm')
_HELD_OUT = 10  # one picture in so many, where there is no folder for validation
_SPLIT_OF_FOLDER = {'train': 'train', 'validation': 'validation', 'val': 'validation', 'test': 'test'}
_NOT_CLASSES = {*_SPLIT_OF_FOLDER, 'training', 'valid', 'testing'}
_LAYOUTS = 'Expected are DIRECTORY/train/CLASS/*.jpg and DIRECTORY/validation/CLASS/*.jpg, or DIRECTORY/CLASS/*.jpg'


class Folder:
    """Pictures in folders that are named by their classes, in one of two layouts.

    * DIRECTORY/train/CLASS/*.jpg and DIRECTORY/validation/CLASS/*.jpg. The second may be called `val` too. A folder
      `test` is a split of its own, or the validation split where there is no other.
    * DIRECTORY/CLASS/*.jpg.

    Where there is nothing but training pictures, as in the second layout, every tenth of each class is held out for
    validation: in name order, from the first on; the only picture of a class stays with training.

    The classes are the folders in name order; their pictures are in the order of their paths; both by code points.
    Folders inside a class are searched too. Pictures are told by their extension, `EXTENSIONS` in upper or lower
    case. All other files are ignored, as is everything whose name begins with a dot, and files beside the class
    folders. Symbolic links, to files and to folders, are followed.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Lists the pictures; none is read. A million of them take some 60 MB.

        Args:
          directory: with one of the two layouts.

        Raises:
          UserError: the directory is missing or has neither layout; there are fewer than two classes; a class is empty,
            or is not among those for training; a symbolic link leads nowhere or in a circle.
        """
        self._directory = os.fspath(directory)
        if not os.path.isdir(self._directory):
            raise UserError(f'{self._directory!r} is not a directory. {_LAYOUTS}.')
        folders = self._folders_of_splits()
        train = os.path.join(self._directory, folders['train'])
        self.class_names = self.class_ids = tuple(_folders(train))
        if not self.class_names:
            raise UserError(f'{train} has no folder in it, one is needed for each class. {_LAYOUTS}.')
        if len(self.class_names) == 1:
            raise UserError(
                f'{train} has only one class, {self.class_names[0]!r}; there is nothing to learn from one. {_LAYOUTS}.'
            )
        labels = {name: label for label, name in enumerate(self.class_names)}
        self._pictures = {split: _Paths() for split in ('train', 'validation', *folders)}
        for split, folder in folders.items():
            for name in _folders(os.path.join(self._directory, folder)):
                if name not in labels:
                    raise UserError(
                        f'{os.path.join(self._directory, folder)} has the class {name!r}, which {train} does not have. '
                        'Every class needs pictures to train on: add some, or remove that folder.'
                    )
                paths = self._sorted_pictures(os.path.join(folder, name))
                if 'validation' in folders:
                    self._pictures[split].extend(labels[name], paths)
                else:
                    held_out = paths[::_HELD_OUT] if len(paths) > 1 else []
                    self._pictures['validation'].extend(labels[name], held_out)
                    del paths[: len(held_out) * _HELD_OUT : _HELD_OUT]
                    self._pictures['train'].extend(labels[name], paths)
        self.splits = {split: len(paths) for split, paths in self._pictures.items()}
        if not self.splits['validation']:
            raise UserError(
                f'{self._directory} has no picture for validation: no class has two. {_LAYOUTS}, with more pictures.'
            )

    def item(self, split: str, index: int) -> Item:
        """Reads one picture; safe to call from several threads.

        Args:
          split: one of `splits`.
          index: 0 .. splits[split] - 1.

        Returns:
          The file as it is, named by its path in the directory.

        Raises:
          UserError: the file cannot be read.
        """
        path, label = self._pictures[split][index]
        try:
            image = read_file(os.path.join(os.fsencode(self._directory), path))
            return Item(path.decode('utf-8', 'replace'), image, label)
        except (OSError, ValueError) as error:
            where = os.path.join(self._directory, os.fsdecode(path))
            why = getattr(error, 'strerror', None) or error
            raise UserError(f'The picture {where} cannot be read: {why}.') from error

    def _folders_of_splits(self) -> dict[str, str]:
        """The folder that holds the class folders of each split; '' is the directory itself."""
        found = _folders(self._directory)
        if not any(name.lower() in _NOT_CLASSES for name in found):
            return {'train': ''}
        folders = {}
        for name in found:
            split = _SPLIT_OF_FOLDER.get(name.lower())
            if split is None:
                raise UserError(
                    f'{self._directory} has a folder {name!r} beside {_others(found, name)}. {_LAYOUTS}, not both: '
                    f'move or rename it. (If these are classes, they belong into {self._directory}/train.)'
                )
            if split in folders:
                raise UserError(f'{self._directory} has both {folders[split]!r} and {name!r}; only one may be there.')
            folders[split] = name
        if 'train' not in folders:
            raise UserError(f'{self._directory} has {_others(found)}, but no folder "train". {_LAYOUTS}.')
        if 'test' in folders and 'validation' not in folders:
            folders['validation'] = folders.pop('test')
        return folders

    def _sorted_pictures(self, folder: str) -> list[bytes]:
        """Paths of the pictures of a class, from the directory on; `folder` is the path of the class."""
        paths = sorted(map(os.fsencode, _pictures(self._directory, folder, frozenset())))
        if not paths:
            raise UserError(
                f'The class folder {os.path.join(self._directory, folder)} has no picture in it '
                f'({" ".join(extension[1:] for extension in EXTENSIONS)}). Add some, or remove the folder.'
            )
        return paths


class _Paths:
    """Paths with labels, close together: the paths are one run of bytes, and 12 bytes more each."""

    def __init__(self) -> None:
        self._bytes, self._ends, self._labels = bytearray(), array.array('q', [0]), array.array('i')

    def extend(self, label: int, paths: list[bytes]) -> None:
        self._bytes += b''.join(paths)
        ends = itertools.accumulate(map(len, paths), initial=self._ends.pop())
        self._ends.extend(ends)
        self._labels.extend(itertools.repeat(label, len(paths)))

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        label = self._labels[index]
        return bytes(self._bytes[self._ends[index] : self._ends[index + 1]]), label


def _others(names: list[str], name: str = '') -> str:
    return ', '.join(repr(other) for other in names[:5] if other != name)


def _entries(folder: str) -> list[os.DirEntry]:
    """What is in a folder, without what is hidden.

    Raises:
      UserError: the folder cannot be read, or a symbolic link in it leads nowhere.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith('.')]
        for entry in found:
            if entry.is_symlink() and not os.path.exists(entry.path):
                raise UserError(
                    f'The symbolic link {entry.path} leads to {os.readlink(entry.path)!r}, which is not there. Repair '
                    'or remove it.'
                )
    except OSError as error:
        raise UserError(f'The folder {folder} cannot be read: {error.strerror}.') from error
    return found


def _folders(folder: str) -> list[str]:
    """Names of the folders in a folder, sorted."""
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def _pictures(directory: str, folder: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Paths, from the directory on, of the pictures in a folder and in those inside it, in no order.

    Args:
      directory: where paths begin.
      folder: path of the folder to search.
      above: device and inode of the folders on the way to it.

    Yields:
      One path after the other.
    """
    where = os.path.join(directory, folder)
    entries = _entries(where)
    status = os.stat(where)
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise UserError(f'The symbolic link {where} leads back to a folder that it is in. Remove it.')
    for entry in entries:
        path = os.path.join(folder, entry.name)
        if entry.is_dir():
            yield from _pictures(directory, path, above | {here})
        elif entry.name.lower().endswith(EXTENSIONS) and entry.is_file():
            yield path
