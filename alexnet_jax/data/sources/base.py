"""The interface of sources of images."""

from typing import NamedTuple, Protocol


class Item(NamedTuple):
    """One image of a source.

    Attributes:
      name: by which a person can find it, such as its file name.
      image: encoded, as in the source.
      label: index of its class in the source's class names.
    """

    name: str
    image: bytes
    label: int


class Source(Protocol):
    """A data set before preparation.

    Attributes:
      class_names: readable names, in the order of the labels.
      class_ids: unambiguous names in the same order: WordNet ids, folder names; else the readable ones.
      splits: number of images in each split; 'train' and 'validation' must be there.
    """

    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    splits: dict[str, int]

    def item(self, split: str, index: int) -> Item:
        """Reads an image, the same for an index every time; thread-safe.

        Raises:
          UserError: the source's files are damaged.
        """


def index_in_whole(split: str, index: int, n: int) -> int:
    """Index in the whole data set of an image of a split, where every n-th image from the first on is validation's."""
    return n * index if split == 'validation' else index + index // (n - 1) + 1
