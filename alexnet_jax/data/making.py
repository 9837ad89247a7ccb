"""Images of a source to shards: decoding and encoding in threads, and sums for the statistics."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from alexnet_jax.data import records
from alexnet_jax.data.dataset import Settings
from alexnet_jax.data.images import normalized, resized
from alexnet_jax.data.reuse import Earlier, Inventory
from alexnet_jax.data.shard_facts import IMAGE, ShardFacts, facts_file, hash_content
from alexnet_jax.data.sources import Item, Source
from alexnet_jax.runtime.errors import UserError

_CHUNK = 16  # images that a thread prepares at a time


class Sums:
    """Exact sums over stored pixels."""

    def __init__(self, size: int) -> None:
        self.images, self.pixels, self.products = 0, np.zeros((size, size, 3), np.int64), np.zeros((3, 3), np.int64)

    def add(self, pixels: np.ndarray) -> None:
        """Adds an image, uint8 [size, size, 3]."""
        colors = pixels.transpose(2, 0, 1).astype(np.int32, order='C')  # a row's sums are below 2**31
        products = np.zeros((3, 3), np.int64)
        for a, b in itertools.combinations_with_replacement(range(3), 2):  # faster than a product of 3 x N matrices
            products[a, b] = products[b, a] = np.einsum('ij,ij->i', colors[a], colors[b]).sum(dtype=np.int64)
        self.merge(1, pixels, products)

    def merge(self, images: int, pixels: np.ndarray, products: np.ndarray) -> None:
        """Adds the sums over several images."""
        self.images += images
        self.pixels += pixels
        self.products += products

    def mean_image(self) -> np.ndarray:
        """float32 [size, size, 3]."""
        return (self.pixels / self.images).astype(np.float32)

    def rgb(self) -> tuple[list[float], list[list[float]]]:
        """Mean [3] and covariance [3, 3] of the pixels' RGB."""
        count = self.images * self.pixels.shape[0] * self.pixels.shape[1]
        mean = self.pixels.sum((0, 1)) / count
        return mean.tolist(), (self.products / count - np.outer(mean, mean)).tolist()


class Part:
    """Some prepared images: names and payloads, a line for each unreadable one, facts about all, and sums."""

    def __init__(self, size: int) -> None:
        self.stored: list[tuple[str, bytes]] = []
        self.broken: list[str] = []
        self.facts: list[tuple[Any, ...]] = []  # fields of IMAGE
        self.sums = Sums(size)


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes shards of a source's images, as many at a time as there are threads."""

    source: Source
    settings: Settings
    inventory: Inventory
    earlier: Earlier
    threads: int
    max_megapixels: float

    def write_shard(
        self, split: str, images: range, path: pathlib.Path, pool: concurrent.futures.Executor
    ) -> Iterator[int]:
        """Writes a shard and then its facts, which mark it as complete; yields the number of images done."""
        new, raw = path.with_name('new-' + path.name), self.settings.storage == 'raw'
        writer = records.RawWriter(new) if raw else records.JpegWriter(new)
        sums, broken, facts = Sums(self.settings.image_size), list[str](), list[tuple[Any, ...]]()
        for part in self._in_order(split, images, pool):
            for name, payload in part.stored:
                writer.write(name, payload)
            broken += part.broken
            facts += part.facts
            sums.merge(part.sums.images, part.sums.pixels, part.sums.products)
            yield len(facts)
        writer.close()
        files = {path.name: file_sum(new)}
        if raw:
            files[records.names_file(path).name] = file_sum(records.names_file(new))
            records.names_file(new).rename(records.names_file(path))
        with new.open('rb') as file:
            os.fsync(file.fileno())
        new.rename(path)
        rows = np.array(facts, IMAGE)
        ShardFacts(path.name, files[path.name][1], rows, broken, sums.pixels, sums.products, files).write(
            facts_file(path)
        )

    def make(self, chosen: list[tuple[str, int]]) -> Part:
        """Prepares images, given by split and index."""
        part = Part(self.settings.image_size)
        for split, index in chosen:
            identity = int(self.inventory.identities[split][index])
            found = self.earlier.find(identity, int(self.inventory.labels[split][index]))
            if found:
                _, content, _, width, height, mode, _, _ = found.facts.item()
                label, name, payload, stored = _label(found.payload), found.name, found.payload, found.pixels
            else:
                item = self.source.item(split, index)
                self._check_label(item, split)
                label, name, content = item.label, item.name, hash_content(item.image)
                try:
                    pixels, (width, height), mode = self._pixels(item)
                except ValueError as error:
                    part.broken.append('\t'.join(' '.join(text.split()) for text in (split, item.name, str(error))))
                    part.facts.append((identity, content, label, 0, 0, b'', False, 0))
                    continue
                payload, stored = records.payload(self.settings.storage, name, label, pixels, self.settings.quality)
            part.stored.append((name, payload))
            part.facts.append((identity, content, label, width, height, mode, True, zlib.crc32(payload)))
            part.sums.add(stored)
        return part

    def _pixels(self, item: Item) -> tuple[np.ndarray, tuple[int, int], bytes]:
        """Pixels of an image, and size (width, height) and mode that it has in the source; ValueError if broken."""
        size = self.settings.image_size
        if not isinstance(item.image, bytes):
            height, width, _ = item.image.shape
            return resized(item.image, size), (width, height), b'RGB'
        seen: list[tuple[tuple[int, int], bytes]] = []

        def look(file: Image.Image) -> None:
            seen.append((file.size, _mode(file)))

        pixels = normalized(item.image, size, look, self.max_megapixels)
        return pixels, *seen[0]

    def _check_label(self, item: Item, split: str) -> None:
        classes = len(self.source.class_names)
        if not 0 <= item.label < classes:
            raise UserError(f'{item.name} ({split}) has the label {item.label}; there are {classes} classes.')

    def _in_order(self, split: str, images: range, pool: concurrent.futures.Executor) -> Iterator[Part]:
        """The parts of a shard, made by the pool, in order; only as many at a time as keep it busy."""
        chunks = ([(split, i) for i in images[first : first + _CHUNK]] for first in range(0, len(images), _CHUNK))
        waiting = collections.deque(
            pool.submit(self.make, chunk) for chunk in itertools.islice(chunks, 2 * self.threads)
        )
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(self.make, chunk) for chunk in itertools.islice(chunks, 1))
        finally:
            for future in waiting:
                future.cancel()


def _mode(file: Image.Image) -> bytes:
    """Pillow's mode, with '+a' where the file says that some color is transparent."""
    return (file.mode + ('+a' if file.has_transparency_data and 'A' not in file.mode else '')).encode()


def file_sum(path: pathlib.Path) -> list[Any]:
    """The number of bytes of a file, and their SHA-256; raises OSError."""
    with path.open('rb') as file:
        return [os.fstat(file.fileno()).st_size, hashlib.file_digest(file, 'sha256').hexdigest()]


def _label(payload: bytes) -> int:
    """The label in a payload, with which both formats begin."""
    return int.from_bytes(payload[:4], 'little')
