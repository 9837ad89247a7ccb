"""What a shard holds, in a file beside it: its images, what they were made of, and sums for the statistics.

It is written after the shard, which is complete where it is there.
"""

import hashlib
import io
import json
import math
import pathlib
import zipfile
from typing import Any, NamedTuple, Self

import numpy as np

from alexnet_jax.data.sources.base import Identity
from alexnet_jax.runtime.files import replace_file

# An image of the source, whether or not it could be read: 45 bytes.
IMAGE = np.dtype(
    [
        ('identity', '<u8'),  # `hash_identity` of the source's image
        ('content', '<u8'),  # `hash_content` of its bytes
        ('label', '<i4'),
        ('width', '<u4'),  # of the source's image, in pixels; 0 where it could not be read
        ('height', '<u4'),
        ('mode', 'S12'),  # Pillow's, as in 'RGB' or 'CMYK'; with '+a' where some color is transparent
        ('stored', '?'),  # whether it is in the shard
        ('checksum', '<u4'),  # CRC-32 of its record
    ]
)
_FACTS, _IMAGES, _CHECKSUMS, _PIXELS, _PRODUCTS = 'facts.json', 'images', 'checksums', 'pixels', 'products'


def facts_file(path: pathlib.Path) -> pathlib.Path:
    """Path of the file beside a shard."""
    return path.with_suffix('.sums')


def hash_identity(identity: Identity) -> int:
    """Eight bytes that differ where file, member, size or time do; the label does not count."""
    text = '\0'.join(map(str, identity[:4]))
    return int.from_bytes(hashlib.blake2b(text.encode(errors='surrogateescape'), digest_size=8).digest())


def hash_content(image: bytes | np.ndarray) -> int:
    """Eight bytes of the SHA-256 of an image's bytes, or of its pixels."""
    content = image if isinstance(image, bytes) else image.tobytes()
    return int.from_bytes(hashlib.sha256(content).digest()[:8])  # twice as fast as BLAKE2 on today's processors


class ShardFacts(NamedTuple):
    """The facts about a shard."""

    file: str  # its name
    sha256: str
    images: np.ndarray  # IMAGE [count], in the order of the source; those that are stored are the records
    broken: list[str]  # a line for each image that cannot be read
    pixels: np.ndarray  # int64 [size, size, 3], sum over the images
    products: np.ndarray  # int64 [3, 3], sum of the products of red, green and blue over the pixels
    files: dict[str, list[Any]]  # [bytes, SHA-256] of the shard and the files that belong to it

    @property
    def examples(self) -> int:
        """The number of records."""
        return int(self.images['stored'].sum())

    def write(self, path: pathlib.Path) -> None:
        """Writes the file durably, a ZIP archive; the same facts give the same bytes. Raises OSError."""
        content = io.BytesIO()
        members = {
            _FACTS: json.dumps([self.file, self.sha256, self.broken, self.files]).encode(),
            _IMAGES: self.images.tobytes(),
            _CHECKSUMS: self.images['checksum'][self.images['stored']].tobytes(),
            _PIXELS: self.pixels.astype('<i8').tobytes(),
            _PRODUCTS: self.products.astype('<i8').tobytes(),
        }
        with zipfile.ZipFile(content, 'w') as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        replace_file(path, content.getvalue())

    @classmethod
    def read(cls, path: pathlib.Path, sums: bool = True) -> Self:
        """Reads the file; `sums` is whether the sums, which are large, are read too; otherwise they are empty.

        Raises:
          ValueError: it is damaged, or was written by an earlier version.
          OSError: it cannot be read.
        """
        facts, images = _members(path, _FACTS, _IMAGES)
        file, sha256, broken, files = json.loads(facts)
        numbers = _members(path, _PIXELS, _PRODUCTS) if sums else [b'', b'']
        pixels, products = (np.frombuffer(data, np.dtype('<i8')) for data in numbers)
        size = math.isqrt(len(pixels) // 3)
        pixels, products = pixels.reshape(size, size, 3), products.reshape(-1, 3)
        return cls(file, sha256, np.frombuffer(images, IMAGE), broken, pixels, products, files)


def read_checksums(path: pathlib.Path) -> np.ndarray:
    """CRC-32 of each record, uint32 [examples]; raises as `ShardFacts.read`."""
    return np.frombuffer(_members(path, _CHECKSUMS)[0], np.dtype('<u4'))


def _members(path: pathlib.Path, *names: str) -> list[bytes]:
    try:
        # Read at once: `zipfile` takes an error of the system for a file that is damaged.
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            return [archive.read(name) for name in names]
    except (KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is damaged: {error}') from error
