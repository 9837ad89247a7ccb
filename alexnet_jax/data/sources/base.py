"""The interface of sources of images."""

import hashlib
import os
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


class Item(NamedTuple):
    """One image of a source."""

    name: str  # by which a person can find it, such as its file name
    image: bytes | np.ndarray  # encoded, as in the source; or its pixels, uint8 [height, width, 3], RGB
    label: int  # index of its class in the source's class names


class Identity(NamedTuple):
    """What an image is known by without being read: while this stays the same, its bytes and label do."""

    file: str  # path of the file that it is read from, relative to the source's directory; '' for an embedded source
    member: str  # where in an archive: a name, an offset or a row; '' for a file of its own
    size: int  # in bytes, of the image or of the archive
    time: int  # of the file's last modification, in nanoseconds since 1970
    label: int  # index of its class in the source's class names; -1 where only reading tells


class Source(Protocol):
    """A data set before preparation.

    A source may also have `identity`, see `Identified`; `left_out: dict[str, int]`, the number of its files that are no
    images of the data set, by kind; and `notes: tuple[str, ...]`, lines for the user on how its files were read.
    """

    class_names: tuple[str, ...]  # readable names, in the order of the labels
    class_ids: tuple[str, ...]  # unambiguous names in the same order: WordNet ids, folder names; else the readable ones
    splits: dict[str, int]  # number of images in each split; 'train' and 'validation' must be there

    def item(self, split: str, index: int) -> Item:
        """Reads an image, the same for an index every time; thread-safe; UserError if files are damaged."""


@runtime_checkable
class Identified(Protocol):
    """A source that knows its images without reading them."""

    def identity(self, split: str, index: int) -> Identity:
        """What tells whether an image has changed; thread-safe; OSError if its file is gone."""


def identity_of(source: Source, split: str, index: int) -> Identity:
    """The identity of an image; from a source that does not know it, the image is read, and its bytes count.

    Raises:
      OSError: its file is gone.
      UserError: as `Source.item`.
    """
    if isinstance(source, Identified):
        return source.identity(split, index)
    item = source.item(split, index)
    content = item.image if isinstance(item.image, bytes) else item.image.tobytes()
    digest = hashlib.sha256(content).digest()
    return Identity('', item.name, len(content), int.from_bytes(digest[:7]), item.label)


def identity_of_file(
    directory: str | bytes, path: str | bytes, label: int, member: str = '', size: int | None = None
) -> Identity:
    """The identity of an image that is in a file: at `path` in `directory`, or the `size` bytes of a member of it.

    Raises:
      OSError: the file is gone.
    """
    status = os.stat(os.path.join(os.fsencode(directory), os.fsencode(path)))
    known = status.st_size if size is None else size
    return Identity(os.fsdecode(path), member, known, status.st_mtime_ns, label)


def index_in_whole(split: str, index: int, n: int) -> int:
    """Index in the whole data set of an image of a split, where every n-th image from the first on is validation's."""
    return n * index if split == 'validation' else index + index // (n - 1) + 1
