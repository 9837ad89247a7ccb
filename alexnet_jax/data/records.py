"""A record: one prepared image with its label and its name, as bytes in an ArrayRecord file."""

import struct
from typing import NamedTuple

_HEADER = struct.Struct('<IH')  # label, length of the name in bytes


class Record(NamedTuple):
    """A prepared image.

    Attributes:
      name: what the image is called in its source.
      label: its class, an index into the manifest's class names.
      image: JPEG, RGB, of the manifest's image size.
    """

    name: str
    label: int
    image: bytes


def encode(record: Record) -> bytes:
    """Packs a record: label (uint32), length of the name (uint16), both little-endian, name (UTF-8), image."""
    name = record.name.encode()
    return _HEADER.pack(record.label, len(name)) + name + record.image


def decode(data: bytes) -> Record:
    """Unpacks what `encode` packed.

    Raises:
      ValueError: the bytes are no record.
    """
    if len(data) < _HEADER.size:
        raise ValueError(f'a record of {len(data)} bytes is too short for its header')
    label, length = _HEADER.unpack_from(data)
    image = _HEADER.size + length
    if len(data) <= image:
        raise ValueError(f'a record of {len(data)} bytes ends before its image')
    return Record(data[_HEADER.size : image].decode(), label, data[image:])
