"""A user's own images: a folder of class folders."""

import array
import itertools
import os
import pathlib
import re

from alexnet_jax.data.formats import EXTENSIONS
from alexnet_jax.data.image_files import LeftOut, counted, entries, find_images
from alexnet_jax.data.sources.base import Identity, Item, identity_of_file
from alexnet_jax.data.sources.layouts import other_reading, tables_beside
from alexnet_jax.runtime.errors import UserError, shown
from alexnet_jax.runtime.files import read_file

_HELD_OUT = 10  # every tenth image, where there is no folder for validation
_SPLITS = {'train': 'train', 'training': 'train', 'test': 'test', 'testing': 'test'} | dict.fromkeys(
    ('validation', 'valid', 'val'), 'validation'
)
_LIKE_SPLITS = re.compile(r'(?<![a-z])(train|training|test|testing|val|valid|validation|pred|dev)(?![a-z])')
_LAYOUTS = 'Expected are DIRECTORY/train/CLASS/*.jpg and DIRECTORY/validation/CLASS/*.jpg, or DIRECTORY/CLASS/*.jpg'
_MOST_WRAPPINGS = 8


class Folder:
    """Images in folders named by their classes, in one of two layouts.

    * DIRECTORY/train/CLASS/*.jpg and DIRECTORY/validation/CLASS/*.jpg, also named `training`, and `val` or `valid`. A
      folder `test` (`testing`) with class folders is a split of its own, or the validation split if there is no other;
      without class folders it has no labels, and is left out.
    * DIRECTORY/CLASS/*.jpg.

    Either may be in a single folder in DIRECTORY, as archives have it, and a split in a folder of its name. With
    training images alone, as in the second layout, every tenth of each class is held out for validation: in name order,
    from the first on; a class's only image stays with training.

    Classes are in the order of their names, their images in that of their paths, both by code points. Images in folders
    inside a class folder are that class's. Which files are images is said in `image_files`.

    Attributes:
      class_names, class_ids, splits: as for any source.
      left_out: number of files that are no images, by kind.
      notes: lines for the user: what was left out, and how the layout was read.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Lists the images without reading them; a million take some 100 MB.

        Raises:
          UserError: the directory is missing or has neither layout; there are fewer than two classes; a class is empty,
            or is not among those for training; a folder cannot be read; a symbolic link is broken.
        """
        self._found, self._notes, self._inner = LeftOut(), list[str](), list[str]()
        self._outer = os.fspath(directory)
        self._directory = self._unwrapped(self._outer)
        self._wrapping = os.path.relpath(self._directory, self._outer) if self._directory != self._outer else ''
        folders = self._folders_of_splits()
        names = self._classes(folders['train'])
        self._keep_labeled(folders, names)
        self.class_names = self.class_ids = tuple(map(shown, names))
        labels = {name: label for label, name in enumerate(names)}
        self._paths: dict[str, list[bytes]] = {split: [] for split in ('train', 'validation', *folders)}
        self._labels = {split: array.array('i') for split in self._paths}
        for split, folder in folders.items():
            for name in _folders(self._at(folder)):
                paths = self._sorted_images(os.path.join(folder, name))
                if 'validation' not in folders and len(paths) > 1:
                    self._add('validation', labels[name], paths[::_HELD_OUT])
                    del paths[::_HELD_OUT]
                self._add(split, labels[name], paths)
        self.splits = {split: len(paths) for split, paths in self._paths.items()}
        if not self.splits['validation']:
            raise self._error(f'{shown(self._directory)} has no image for validation: no class has two')
        self._note_beside({'', *folders.values()}, 'validation' in folders)
        self.left_out = self._found.counts()
        self.notes = (*self._found.lines(self._outer), *self._notes)

    def item(self, split: str, index: int) -> Item:
        """Reads an image file, named by its path in the directory; thread-safe; UserError if it cannot be read."""
        path = self._paths[split][index]
        try:
            image = read_file(os.path.join(os.fsencode(self._directory), path))
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise UserError(f'The image {shown(self._at(os.fsdecode(path)))} cannot be read: {reason}.') from error
        return Item(shown(os.fsdecode(path)), image, self._labels[split][index])

    def identity(self, split: str, index: int) -> Identity:
        """Path, size and time of an image file."""
        path = os.path.join(os.fsencode(self._wrapping), self._paths[split][index])
        return identity_of_file(self._outer, path, self._labels[split][index])

    def _at(self, folder: str) -> str:
        """Path of a folder or file of the directory; '' is the directory itself."""
        return os.path.join(self._directory, folder) if folder else self._directory

    def _add(self, split: str, label: int, paths: list[bytes]) -> None:
        self._paths[split] += paths
        self._labels[split].extend(itertools.repeat(label, len(paths)))

    def _error(self, what: str, remedy: str = f'{_LAYOUTS}.') -> UserError:
        """The error for a layout that cannot be used; a well-known one has its own source as the remedy."""
        return UserError(f'{what}. {other_reading(self._directory) or other_reading(self._outer) or remedy}')

    def _unwrapped(self, directory: str) -> str:
        """The directory, or else the single folder in it that has the others."""
        if not os.path.isdir(directory):
            hint = ' If it is an archive, unpack it.' if os.path.isfile(directory) else ''
            raise UserError(f'{shown(directory)!r} is not a directory.{hint} {_LAYOUTS}.')
        outer = directory
        for _ in range(_MOST_WRAPPINGS):
            names = _folders(outer)
            if len(names) != 1 or names[0].lower() in _SPLITS or _images_beside(outer):
                break
            inner = os.path.join(outer, names[0])
            if not _folders(inner) or _images_beside(inner):
                break
            _images_beside(outer, self._found)
            outer = inner
        if outer != directory:
            self._notes.append(f'The only folder in {shown(directory)} is read: {shown(outer)}.')
        return outer

    def _folders_of_splits(self) -> dict[str, str]:
        """The folder that holds the class folders of each split; '' is the directory itself."""
        found, where = _folders(self._directory), shown(self._directory)
        if not any(name.lower() in _SPLITS for name in found):
            if len(found) > 1 and all(_LIKE_SPLITS.search(name.lower()) for name in found):
                listed = ', '.join(map(shown, found))
                remedy = 'If they have class folders, rename them to train and validation (or test).'
                raise self._error(f'{where} has the folders {listed}, which are named like splits', remedy)
            return {'train': ''}
        folders: dict[str, str] = {}
        for name in found:
            others = ', '.join(repr(shown(other)) for other in found[:5] if other != name)
            split = _SPLITS.get(name.lower())
            if split is None and not any(find_images(self._at(name), LeftOut())):
                self._notes.append(f'{shown(self._at(name))} has no images, and is left out.')
            elif split is None:
                raise self._error(
                    f'{where} has a folder {shown(name)!r} beside {others}',
                    f'{_LAYOUTS}, not both: move or rename it. (If these are classes, they belong into {where}/train.)',
                )
            elif split in folders:
                raise UserError(f'{where} has both {folders[split]!r} and {name!r}; only one may be there.')
            else:
                folders[split] = self._twice(name)
        if 'train' not in folders:
            raise self._error(f'{where} has {", ".join(map(repr, folders.values()))}, but no folder "train"')
        return folders

    def _twice(self, name: str) -> str:
        """The folder of a split, which may be in a folder of that name, as in train/train/CLASS."""
        inner = os.path.join(name, name)
        return inner if _folders(self._at(name)) == [name] and not _images_beside(self._at(name)) else name

    def _classes(self, folder: str) -> list[str]:
        """The names of the class folders for training."""
        where, names = self._at(folder), _folders(self._at(folder))
        if not names:
            raise self._error(f'{_but_no_folder(where)} in it, one is needed for each class', _how_to_sort(where))
        if len(names) == 1:
            what = f'{shown(where)} has only one class, {shown(names[0])!r}; two are needed'
            raise self._error(what, _how_to_sort(where))
        return names

    def _keep_labeled(self, folders: dict[str, str], classes: list[str]) -> None:
        """Removes a test split without labels, and takes one with labels for validation if there is no other.

        Raises:
          UserError: the validation images have no labels, or have classes without training images.
        """
        for split, folder in list(folders.items()):
            where, names = self._at(folder), _folders(self._at(folder))
            unknown = sorted({*names} - {*classes})
            if split == 'test' and len(unknown) == len(names):
                del folders[split]
                count = sum(1 for _ in find_images(where, self._found))
                remedy = f' To predict: --mode=predict --images={shown(where)}' if count else ''
                what = (
                    f'{counted(count, "image")} without labels (folders named by their classes)'
                    if count
                    else 'no images'
                )
                self._notes.append(f'{shown(where)} has {what}: there will be no split "test".{remedy}')
            elif not names:
                or_none = ' Without that folder, every tenth training image is held out.'
                raise self._error(f'{_but_no_folder(where)} named by its class', _how_to_sort(where) + or_none)
            elif unknown:
                raise self._error(
                    f'{shown(where)} has the class {shown(unknown[0])!r}, which {shown(self._at(folders["train"]))} '
                    'does not have',
                    'Every class needs training images: add some, or remove that folder.',
                )
        if 'test' in folders and 'validation' not in folders:
            folders['validation'] = folders.pop('test')
            self._notes.append(f'There is no folder for validation; {shown(self._at(folders["validation"]))} is taken.')

    def _sorted_images(self, folder: str) -> list[bytes]:
        """Paths of a class's images, relative to the directory, as is `folder`."""
        here = LeftOut()
        paths = sorted(map(os.fsencode, find_images(self._directory, here, folder)))
        self._found.add(here)
        if not paths:
            but = ''.join(f', but {part}' for part in here.parts())
            remedies = ''.join(f' {line}.' for line in here.remedies())
            known = ' '.join(extension[1:] for extension in EXTENSIONS)
            raise self._error(
                f'The class folder {shown(self._at(folder))} has no image in it{but}',
                f'{remedies} Add some ({known}), or remove the folder.{self._elsewhere(folder)}'.lstrip(),
            )
        self._check_inside(folder, paths)
        return paths

    def _elsewhere(self, folder: str) -> str:
        """A remedy for a folder without images whose neighbor, the only one with images, has the class folders."""
        top = os.path.dirname(folder)
        others = [os.path.join(top, name) for name in _folders(self._at(top))]
        having = [self._at(other) for other in others if any(find_images(self._at(other), LeftOut()))]
        if len(having) != 1 or _images_beside(having[0]):
            return ''
        return f' If the classes are in {shown(having[0])}: config.data.source_directory={shown(having[0])!r}.'

    def _check_inside(self, folder: str, paths: list[bytes]) -> None:
        """Takes note of folders inside a class folder; UserError where they are those of splits."""
        start = len(os.fsencode(folder)) + 1
        inner = sorted({path[start:].split(b'/')[0] for path in paths if b'/' in path[start:]})
        if inner:
            self._inner.append(shown(os.path.join(folder, os.fsdecode(inner[0]))))
        splits = {_SPLITS.get(os.fsdecode(name).lower()) for name in inner} - {None}
        if 'train' in splits and len(splits) > 1:
            raise self._error(
                f'The class folder {shown(self._at(folder))} has folders for training and testing of its own; the '
                'folders of the splits must be above those of the classes'
            )

    def _note_beside(self, folders: set[str], own_validation: bool) -> None:
        """Notes images beside and below class folders, and that images are held out."""
        for folder in sorted(folders):
            count = _images_beside(self._at(folder), self._found)
            if count:
                self._notes.append(
                    f'{shown(self._at(folder))} has {counted(count, "image")} beside its folders: left out.'
                )
        if self._inner:
            what = 'classes have' if len(self._inner) > 1 else 'class has'
            where = f'images in inner folders, as {self._inner[0]}, which count as of the class.'
            self._notes.insert(0, f'{len(self._inner):,} {what} {where}')
        if not own_validation:
            self._notes.append('There is no folder for validation: every tenth image of each class is held out.')


def _folders(folder: str) -> list[str]:
    """Sorted names of the folders in a folder."""
    return sorted(entry.name for entry in entries(folder, LeftOut()) if entry.is_folder)


def _images_beside(folder: str, left_out: LeftOut | None = None) -> int:
    """The number of images in a folder itself."""
    left_out, count = left_out or LeftOut(), 0
    for entry in entries(folder, left_out):
        if not entry.is_folder:
            kind = entry.kind_left_out()
            count += kind is None
            left_out.kinds.update([] if kind is None else [kind])
    return count


def _but_no_folder(where: str) -> str:
    count = _images_beside(where)
    but = f'{counted(count, "image")}, but ' if count else ''
    return f'{shown(where)} has {but}no folder'


def _how_to_sort(where: str) -> str:
    return ' '.join(
        filter(None, (tables_beside(where), f'Sort the images into folders named by their classes. {_LAYOUTS}.'))
    )
