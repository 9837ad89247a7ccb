"""The interface of sources of images."""

from typing import NamedTuple, Protocol


class Item(NamedTuple):
    """One image of a source."""

    name: str  # by which a person can find it, such as its file name
    image: bytes  # encoded, as in the source
    label: int  # index of its class in the source's class names


class Source(Protocol):
    """A data set before preparation."""

    class_names: tuple[str, ...]  # readable names, in the order of the labels
    class_ids: tuple[str, ...]  # unambiguous names in the same order: WordNet ids, folder names; else the readable ones
    splits: dict[str, int]  # number of images in each split; 'train' and 'validation' must be there

    def item(self, split: str, index: int) -> Item:
        """Reads an image, the same for an index every time; thread-safe; UserError if files are damaged."""


def index_in_whole(split: str, index: int, n: int) -> int:
    """Index in the whole data set of an image of a split, where every n-th image from the first on is validation's."""
    return n * index if split == 'validation' else index + index // (n - 1) + 1
