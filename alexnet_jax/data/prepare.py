"""Preparation of a data set (section 2): `--mode=prepare`.

Shards are written under temporary names and renamed when complete, with the sums for the statistics beside them. So
an interrupted preparation resumes, and its result is bit-identical to an uninterrupted one. Until it is complete it is
in DIRECTORY.partial.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import io
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console

from alexnet_jax.data import records
from alexnet_jax.data.dataset import BROKEN_IMAGES, PreparedDataSet, Settings, write_description
from alexnet_jax.data.images import MAX_MEGAPIXELS, normalized, resized
from alexnet_jax.data.sources import Source
from alexnet_jax.runtime.devices import available_cores
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.runtime.files import json_bytes, locked, replace_file
from alexnet_jax.runtime.formatting import format_bytes
from alexnet_jax.runtime.progress_bar import Display

_CHUNK = 16  # images that a thread prepares at a time
_SAMPLE = 64  # images from which the size of the data set is estimated


def prepare(
    source: Source,
    settings: Settings,
    directory: str | pathlib.Path,
    console: Console,
    *,
    skip_broken: bool = False,
    threads: int = 0,
    max_megapixels: int = MAX_MEGAPIXELS,
) -> PreparedDataSet:
    """Writes a prepared data set, resuming an interrupted preparation; the directory appears when it is complete.

    Args:
      source: of the images.
      settings: of the result.
      directory: to write, which must not exist yet.
      console: for progress.
      skip_broken: whether unreadable images are left out; otherwise they are an error, at the end.
      threads: 0 for one a core.
      max_megapixels: larger images are unreadable, see `images.normalized`.

    Raises:
      UserError: the disk is too small or cannot be written, images are unreadable, or another process is preparing it.
    """
    directory = pathlib.Path(directory)
    if directory.exists():
        raise UserError(f'{directory} exists already; delete it, or name another config.data.directory.')
    partial = directory.with_name(directory.name + '.partial')
    if not all(source.splits.get(split) for split in ('train', 'validation')):
        raise UserError(f'The source {settings.source!r} needs images for training and validation: {source.splits}.')
    job = _Preparation(source, settings, partial, console, threads or available_cores(), max_megapixels)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with locked(partial / 'lock', lambda holder: f'{partial} is being prepared by {holder}; wait for it.'):
            job.check_settings()
            job.check_disk()
            job.write_shards()
            data = job.finish(skip_broken)
            partial.rename(directory)
    except OSError as error:
        raise UserError(
            f'Preparing {directory} failed: {error}. Finished shards are in {partial}; free space if the disk is full, '
            'and the same command resumes.'
        ) from error
    return dataclasses.replace(data, directory=directory)


class _Part:
    """Some prepared images: names and payloads, a line for each unreadable one, and exact sums over stored pixels."""

    def __init__(self, size: int) -> None:
        self.stored: list[tuple[str, bytes]] = []
        self.broken: list[str] = []
        self.images, self.pixels, self.products = 0, np.zeros((size, size, 3), np.int64), np.zeros((3, 3), np.int64)

    def add_sums(self, pixels: np.ndarray) -> None:
        flat = pixels.reshape(-1, 3).astype(np.float64)  # exact: an image's sums are below 2**53
        self.merge_sums(1, pixels, (flat.T @ flat).astype(np.int64))

    def merge_sums(self, images: int, pixels: np.ndarray, products: np.ndarray) -> None:
        self.images += images
        self.pixels += pixels
        self.products += products

    def mean_image(self) -> np.ndarray:
        return (self.pixels / self.images).astype(np.float32)

    def rgb(self) -> tuple[list[float], list[list[float]]]:
        """Mean [3] and covariance [3, 3] of the pixels' RGB."""
        count = self.images * self.pixels.shape[0] * self.pixels.shape[1]
        mean = self.pixels.sum((0, 1)) / count
        return mean.tolist(), (self.products / count - np.outer(mean, mean)).tolist()


@dataclasses.dataclass(frozen=True)
class _Preparation:
    """The steps of a preparation, in the order of `prepare`."""

    source: Source
    settings: Settings
    partial: pathlib.Path
    console: Console
    threads: int
    max_megapixels: int

    def check_settings(self) -> None:
        """UserError if the preparation was started with other settings or another source."""
        path = self.partial / 'settings.json'
        ids = hashlib.sha256('\n'.join(self.source.class_ids).encode(errors='backslashreplace')).hexdigest()
        wanted = {
            **dataclasses.asdict(self.settings),
            'splits': self.source.splits,
            'classes': f'{len(self.source.class_ids)}, of ids {ids[:12]}',
        }
        found = json.loads(path.read_text()) if path.exists() else wanted
        if found != wanted:
            field = next(name for name in wanted if found.get(name) != wanted[name])
            raise UserError(
                f'{self.partial} was started with {field}={found.get(field)!r}, now it is {wanted[field]!r}; '
                'delete it, or go back to that setting.'
            )
        replace_file(path, json_bytes(wanted))

    def check_disk(self) -> None:
        """Prints the disk space needed, estimated from evenly sampled images; UserError if there is less."""
        splits, partial = self.source.splits, self.partial
        if self.settings.storage == 'raw':
            each = records.raw_type(self.settings.image_size).itemsize + 64.0
        else:
            sample = {(split, i) for split, n in splits.items() for i in range(0, n, max(1, n // _SAMPLE))}
            stored = self.make(sorted(sample)).stored
            each = 32 + sum(len(payload) for _, payload in stored) / max(1, len(stored))
        images = sum(splits.values())
        done = sum(file.stat().st_size for file in partial.iterdir())
        needed, free = 1.05 * each * images + 2**20, shutil.disk_usage(partial).free
        so_far = f', {format_bytes(done)} are done.' if done > 2**20 else '.'
        classes = f'{images:,} images of {len(self.source.class_names):,} classes'
        line = f'{classes} need about {format_bytes(needed)} in {partial}; {format_bytes(free)} are free{so_far}'
        say(self.console, line)
        if needed - done > free:
            if not any(partial.glob('*.sums')):  # no finished shard is worth keeping
                shutil.rmtree(partial)
            raise UserError(
                f'{partial} needs about {format_bytes(needed - done)} more, {format_bytes(free)} are free; free some, '
                'or name a config.data.directory on another disk.'
            )

    def shards(self) -> Iterator[tuple[str, range, pathlib.Path]]:
        """Split, image indices and file of every shard."""
        step, ending = self.settings.images_per_shard, records.STORAGE[self.settings.storage]
        for split, count in self.source.splits.items():
            for number, first in enumerate(range(0, count, step)):
                yield split, range(first, min(first + step, count)), self.partial / f'{split}-{number:05d}{ending}'

    def write_shards(self) -> None:
        """Writes every missing shard."""
        total, done = sum(self.source.splits.values()), 0
        with (
            concurrent.futures.ThreadPoolExecutor(self.threads) as pool,
            Display(self.console, total, 0, name='preparing', unit='images') as display,
        ):
            for split, images, path in self.shards():
                if not path.with_suffix('.sums').exists():
                    for written in self.write_shard(split, images, path, pool):
                        display.update(done + written)
                done += len(images)
                display.update(done)
                display.plain(done, f'{path.name} done')

    def write_shard(
        self, split: str, images: range, path: pathlib.Path, pool: concurrent.futures.Executor
    ) -> Iterator[int]:
        """Writes a shard and then its sums, which mark it as finished; yields the number of images done."""
        new = path.with_name('new-' + path.name)
        writer = records.RawWriter(new) if self.settings.storage == 'raw' else records.JpegWriter(new)
        total = _Part(self.settings.image_size)
        for part in self.in_order(split, images, pool):
            for name, payload in part.stored:
                writer.write(name, payload)
            total.broken += part.broken
            total.merge_sums(part.images, part.pixels, part.products)
            yield total.images + len(total.broken)
        writer.close()
        if self.settings.storage == 'raw':
            records.names_file(new).rename(records.names_file(path))
        with new.open('rb') as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        new.rename(path)
        facts = {'file': path.name, 'examples': total.images, 'sha256': digest, 'broken': total.broken}
        content = io.BytesIO()
        np.savez(content, pixels=total.pixels, products=total.products, facts=np.array(json.dumps(facts)))
        replace_file(path.with_suffix('.sums'), content.getvalue())

    def in_order(self, split: str, images: range, pool: concurrent.futures.Executor) -> Iterator[_Part]:
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

    def make(self, chosen: list[tuple[str, int]]) -> _Part:
        """Prepares images, given by split and index."""
        settings, classes = self.settings, len(self.source.class_names)
        part = _Part(settings.image_size)
        for split, index in chosen:
            item = self.source.item(split, index)
            if not 0 <= item.label < classes:
                raise UserError(f'{item.name} ({split}) has the label {item.label}; there are {classes} classes.')
            try:
                if isinstance(item.image, bytes):
                    pixels = normalized(item.image, settings.image_size, max_megapixels=self.max_megapixels)
                else:
                    pixels = resized(item.image, settings.image_size)
            except ValueError as error:
                part.broken.append('\t'.join(' '.join(text.split()) for text in (split, item.name, str(error))))
                continue
            payload, stored = records.payload(settings.storage, item.name, item.label, pixels, settings.quality)
            part.stored.append((item.name, payload))
            part.add_sums(stored)
        return part

    def finish(self, skip_broken: bool) -> PreparedDataSet:
        """Adds up the shards' sums, writes mean image and manifest, and removes temporary files."""
        total = _Part(self.settings.image_size)
        shards: dict[str, list[dict[str, Any]]] = {split: [] for split in self.source.splits}
        for split, _, path in self.shards():
            with np.load(path.with_suffix('.sums'), allow_pickle=False) as saved:
                facts = json.loads(str(saved['facts']))
                total.broken += facts.pop('broken')
                if split == 'train':
                    total.merge_sums(facts['examples'], saved['pixels'], saved['products'])
            if facts['examples']:
                shards[split].append(facts)
        broken, path = total.broken, self.partial / BROKEN_IMAGES
        replace_file(path, ''.join(line + '\n' for line in broken).encode(errors='backslashreplace'))
        if broken and not skip_broken:
            raise UserError(
                f'{len(broken):,} of {sum(self.source.splits.values()):,} images cannot be read, the first: '
                f'{": ".join(broken[0].split(chr(9)))}. All are listed in {path}. '
                'To go on without them: --config.data.skip_broken=True.'
            )
        if not total.images or not shards['validation']:
            raise UserError(f'No image of {self.settings.source!r} could be read for training or for validation.')
        names, ids = self.source.class_names, self.source.class_ids
        data = PreparedDataSet(self.partial, self.settings, names, ids, shards, len(broken), *total.rgb())
        write_description(data, total.mean_image(), self.partial)
        for pattern in ('*.sums', '*.new', 'new-*', 'settings.json', 'lock'):
            for file in self.partial.glob(pattern):
                file.unlink()
        return data
