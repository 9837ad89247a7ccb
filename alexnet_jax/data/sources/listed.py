"""Images that are found by listing folders, on disk or in an archive."""

import array
from collections.abc import Sequence

from alexnet_jax.data.sources.archives import Files
from alexnet_jax.data.sources.base import Identity, Item

_EXTENSIONS = ('.jpeg', '.jpg')


class ListedImages:
    """The images of a split, by path; a million take some 150 MB."""

    def __init__(self, files: Files) -> None:
        """Takes the files in which the images are."""
        self._files = files
        self._paths: list[str] = []
        self._labels = array.array('h')

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, folder: str, names: Sequence[str], label: int) -> None:
        """Adds images of a folder that have the same label."""
        self._paths += [f'{folder}/{name}' for name in names]
        self._labels.extend([label] * len(names))

    def item(self, index: int) -> Item:
        """Reads an image, named by its path; thread-safe; UserError if it cannot be read."""
        path = self._paths[index]
        return Item(path, self._files.read(path), self._labels[index])

    def identity(self, index: int) -> Identity:
        """Path, size and time of an image file, or of the archive that it is in; OSError if that is gone."""
        return self._files.identity(self._paths[index], self._labels[index])


def image_names(files: Files, folder: str) -> list[str]:
    """Sorted names of a folder's JPEGs; UserError if there are none, or other files."""
    names = files.files(folder)
    others = [name for name in names if not name.lower().endswith(_EXTENSIONS)]
    if others or not names:
        raise files.error(f'has {others[0]!r} in {folder}' if others else f'has no images in {folder}')
    return names


def notes_on_tests(count: int) -> tuple[str, ...]:
    """What to tell the user of test images."""
    return (f'Test images have no labels, and are left out: {count:,} of them.',) if count else ()


def class_folder_names(files: Files, folder: str, known: Sequence[str], what: str) -> list[str]:
    """Sorted names of the class folders in a folder.

    Args:
      files: in which the folder is.
      folder: of the class folders.
      known: names that they may have.
      what: these are, for messages.

    Raises:
      UserError: there are none, or others.
    """
    found, allowed = files.folders(folder), set(known)
    if not found:
        raise files.error(f'has no class folders in {folder}')
    for name in found:
        if name not in allowed:
            raise files.error(f'has a folder {folder}/{name}, which is not one of {what}')
    return found


def class_folders(files: Files, folder: str, known: Sequence[str], what: str) -> dict[str, list[str]]:
    """The images of a folder of class folders: their sorted names by the folders' names.

    Raises:
      UserError: as `class_folder_names`; or a class has no images, or other files.
    """
    return {name: image_names(files, f'{folder}/{name}') for name in class_folder_names(files, folder, known, what)}
