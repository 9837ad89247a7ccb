"""A user's own images: a folder of class folders."""

import array
import itertools
import os
import pathlib
from collections.abc import Iterator

from alexnet_jax.data.sources.base import Identity, Item, identity_of_file
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import read_file

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.tif', '.tiff', '.webp', '.ppm')
_HELD_OUT = 10  # every tenth image, where there is no folder for validation
_SPLITS = {'train': 'train', 'validation': 'validation', 'val': 'validation', 'test': 'test'}
_NOT_CLASSES = {*_SPLITS, 'training', 'valid', 'testing'}
_LAYOUTS = 'Expected are DIRECTORY/train/CLASS/*.jpg and DIRECTORY/validation/CLASS/*.jpg, or DIRECTORY/CLASS/*.jpg'


class Folder:
    """Images in folders named by their classes, in one of two layouts.

    * DIRECTORY/train/CLASS/*.jpg and DIRECTORY/validation/CLASS/*.jpg. The second may be named `val`. A folder `test`
      is a split of its own, or the validation split if there is no other.
    * DIRECTORY/CLASS/*.jpg.

    With training images alone, as in the second layout, every tenth of each class is held out for validation: in name
    order, from the first on; a class's only image stays with training.

    Classes are in the order of their names, their images in that of their paths, both by code points. Folders inside a
    class are searched too. Images are found by extension, `EXTENSIONS` in upper or lower case; all other files, files
    beside the class folders, and names that begin with a dot are ignored. Symbolic links are followed.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Lists the images without reading them; a million take some 100 MB.

        Raises:
          UserError: the directory is missing or has neither layout; there are fewer than two classes; a class is empty,
            or is not among those for training; a symbolic link is broken or circular.
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
            raise UserError(f'{train} has only one class, {self.class_names[0]!r}; two are needed. {_LAYOUTS}.')
        labels = {name: label for label, name in enumerate(self.class_names)}
        self._paths: dict[str, list[bytes]] = {split: [] for split in ('train', 'validation', *folders)}
        self._labels = {split: array.array('i') for split in self._paths}
        for split, folder in folders.items():
            for name in _folders(os.path.join(self._directory, folder)):
                if name not in labels:
                    raise UserError(
                        f'{os.path.join(self._directory, folder)} has the class {name!r}, which {train} does not have. '
                        'Every class needs training images: add some, or remove that folder.'
                    )
                paths = self._sorted_images(os.path.join(folder, name))
                if 'validation' not in folders and len(paths) > 1:
                    self._add('validation', labels[name], paths[::_HELD_OUT])
                    del paths[::_HELD_OUT]
                self._add(split, labels[name], paths)
        self.splits = {split: len(paths) for split, paths in self._paths.items()}
        if not self.splits['validation']:
            why = 'no class has two'
            raise UserError(f'{self._directory} has no image for validation: {why}. {_LAYOUTS}, with more images.')

    def item(self, split: str, index: int) -> Item:
        """Reads an image file, named by its path in the directory; thread-safe; UserError if it cannot be read."""
        path = self._paths[split][index]
        try:
            image = read_file(os.path.join(os.fsencode(self._directory), path))
        except (OSError, ValueError) as error:
            where = os.path.join(self._directory, os.fsdecode(path))
            reason = getattr(error, 'strerror', None) or error
            raise UserError(f'The image {where} cannot be read: {reason}.') from error
        return Item(path.decode('utf-8', 'replace'), image, self._labels[split][index])

    def identity(self, split: str, index: int) -> Identity:
        """Path, size and time of an image file."""
        return identity_of_file(self._directory, self._paths[split][index], self._labels[split][index])

    def _add(self, split: str, label: int, paths: list[bytes]) -> None:
        self._paths[split] += paths
        self._labels[split].extend(itertools.repeat(label, len(paths)))

    def _folders_of_splits(self) -> dict[str, str]:
        """The folder that holds the class folders of each split; '' is the directory itself."""
        found = _folders(self._directory)
        if not any(name.lower() in _NOT_CLASSES for name in found):
            return {'train': ''}
        folders: dict[str, str] = {}
        for name in found:
            others = ', '.join(repr(other) for other in found[:5] if other != name)
            split = _SPLITS.get(name.lower())
            if split is None:
                raise UserError(
                    f'{self._directory} has a folder {name!r} beside {others}. {_LAYOUTS}, not both: move or rename '
                    f'it. (If these are classes, they belong into {self._directory}/train.)'
                )
            if split in folders:
                raise UserError(f'{self._directory} has both {folders[split]!r} and {name!r}; only one may be there.')
            folders[split] = name
        if 'train' not in folders:
            listed = ', '.join(map(repr, found[:5]))
            raise UserError(f'{self._directory} has {listed}, but no folder "train". {_LAYOUTS}.')
        if 'test' in folders and 'validation' not in folders:
            folders['validation'] = folders.pop('test')
        return folders

    def _sorted_images(self, folder: str) -> list[bytes]:
        """Paths of a class's images, relative to the directory, as is `folder`."""
        paths = sorted(map(os.fsencode, _images(self._directory, folder, frozenset())))
        if not paths:
            raise UserError(
                f'The class folder {os.path.join(self._directory, folder)} has no image in it '
                f'({" ".join(extension[1:] for extension in EXTENSIONS)}). Add some, or remove the folder.'
            )
        return paths


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder that are not hidden; UserError if it cannot be read or has a broken symbolic link."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith('.')]
        for entry in found:
            if entry.is_symlink() and not os.path.exists(entry.path):
                target = f'{os.readlink(entry.path)!r}, which is not there'
                raise UserError(f'The symbolic link {entry.path} leads to {target}. Repair or remove it.')
    except OSError as error:
        raise UserError(f'The folder {folder} cannot be read: {error.strerror}.') from error
    return found


def _folders(folder: str) -> list[str]:
    """Sorted names of the folders in a folder."""
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def _images(directory: str, folder: str, ancestors: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Paths, relative to a directory, of the images in a folder of it; `ancestors` identify the folders above."""
    where = os.path.join(directory, folder)
    entries = _entries(where)
    status = os.stat(where)
    identity = (status.st_dev, status.st_ino)
    if identity in ancestors:
        raise UserError(f'The symbolic link {where} leads back to a folder that it is in. Remove it.')
    for entry in entries:
        path = os.path.join(folder, entry.name)
        if entry.is_dir():
            yield from _images(directory, path, ancestors | {identity})
        elif entry.name.lower().endswith(EXTENSIONS) and entry.is_file():
            yield path
