"""What every source of images offers."""

from typing import NamedTuple, Protocol


class Item(NamedTuple):
    """One image of a source.

    Attributes:
      name: what a person can find it by, such as its file name.
      image: the encoded image, as it is in the source.
      label: its class, an index into the source's class names.
    """

    name: str
    image: bytes
    label: int


class Source(Protocol):
    """A data set before it is prepared.

    Attributes:
      class_names: readable names; a label is an index into them.
      class_ids: unambiguous names in the same order: WordNet ids, folder names; else the readable ones.
      splits: number of images in each split; 'train' and 'validation' must be there.
    """

    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    splits: dict[str, int]

    def item(self, split: str, index: int) -> Item:
        """Reads one image; safe to call from several threads, and the same for an index every time.

        Raises:
          UserError: the source's files are damaged.
        """
