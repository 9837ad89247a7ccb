"""Preparation of a data set (section 2): `--mode=prepare`.

Shards are written under temporary names and renamed when complete, with the facts about them beside them. So an
interrupted preparation resumes, and its result is bit-identical to an uninterrupted one. Until it is complete it is in
DIRECTORY.partial. Shards that are there are used as they are while their images are the same by path, size, time and
label; from the others the images that are still the same are taken, and the rest are read from the source.
"""

import concurrent.futures
import dataclasses
import itertools
import json
import pathlib
import shutil
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from rich.console import Console

from alexnet_jax.data import records
from alexnet_jax.data.dataset import (
    BROKEN_IMAGES,
    MEAN_IMAGE,
    PLACES,
    PreparedDataSet,
    Settings,
    open_prepared,
    write_manifest,
    write_mean_image,
)
from alexnet_jax.data.images import MAX_MEGAPIXELS
from alexnet_jax.data.making import Maker, Sums, file_sum
from alexnet_jax.data.placing import check_free, complete_shards, end_replacement, link, publish
from alexnet_jax.data.reuse import Earlier, Inventory, list_images
from alexnet_jax.data.shard_facts import ShardFacts, facts_file
from alexnet_jax.data.sources import Source
from alexnet_jax.data.survey import survey
from alexnet_jax.runtime.devices import available_cores
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.runtime.files import json_bytes, locked, replace_file
from alexnet_jax.runtime.formatting import format_bytes
from alexnet_jax.runtime.progress_bar import Display

_SAMPLE = 64  # images from which the size of the data set is estimated
_EARLIER = 'earlier'  # folder in DIRECTORY.partial: shards whose images have changed


def prepare(
    source: Source,
    settings: Settings,
    directory: str | pathlib.Path,
    console: Console,
    *,
    source_directory: str = '',
    damaged: Collection[str] = (),
    skip_broken: bool = False,
    wait: bool = False,
    threads: int = 0,
    max_megapixels: int = MAX_MEGAPIXELS,
) -> PreparedDataSet:
    """Writes a prepared data set, resuming an interrupted preparation, or brings one up to date with its source.

    The directory appears, or is replaced, when all is complete; other files in it stay.

    Args:
      source: of the images.
      settings: of the result.
      directory: to write.
      console: for progress.
      source_directory: absolute path of the source's files, for the manifest; '' if it has none.
      damaged: names of files in the directory that are to be written anew.
      skip_broken: whether unreadable images are left out; otherwise they are an error, at the end.
      wait: whether another process that is preparing it is waited for; otherwise that is an error.
      threads: 0 for one a core.
      max_megapixels: larger images are unreadable, see `images.normalized`.

    Raises:
      UserError: the disk is too small or cannot be written, images are unreadable, another process is preparing it, or
        the directory holds something else, or images of another source directory.
    """
    directory = pathlib.Path(directory)
    check_free(directory)
    if not all(source.splits.get(split) for split in ('train', 'validation')):
        raise UserError(f'The source {settings.source!r} needs images for training and validation: {source.splits}.')
    partial = directory.with_name(directory.name + '.partial')

    def in_use(holder: str) -> str:
        return f'{partial} is being prepared by {holder}; wait for it.'

    def waiting(holder: str) -> None:
        say(console, f'{partial} is being prepared by {holder}; waiting for it.')

    try:
        if not directory.parent.is_dir():
            directory.parent.mkdir(parents=True, exist_ok=True)
        lock = directory.with_name(directory.name + '.lock')
        with locked(lock, in_use, waiting if wait else None, remove=True):
            end_replacement(directory, partial)
            check_free(directory)
            before = open_prepared(directory, images=False) if directory.exists() else None
            if before and not before.checksums and not damaged:  # by an earlier version, which did not know its images
                return before
            inventory = list_images(source, console)
            job = _Preparation(
                source,
                settings,
                partial,
                console,
                threads or available_cores(),
                source_directory,
                inventory,
                max_megapixels,
            )
            if before and (same := job.unchanged(before, damaged)):
                return same
            partial.mkdir(exist_ok=True)
            job.check_settings()
            found = job.take_over(before, damaged)
            job.check_disk(found)
            job.write_shards(found)
            data = job.finish(skip_broken)
            publish(partial, directory, replace=before is not None)
    except OSError as error:
        raise UserError(
            f'Preparing {directory} failed: {error}. Finished shards are in {partial}; free space if the disk is full, '
            'and the same command resumes.'
        ) from error
    return dataclasses.replace(data, directory=directory)


class _Found(dict[pathlib.Path, ShardFacts]):
    """Facts, without sums, of the shards that are complete; and images in others that may be used."""

    earlier: Earlier


@dataclasses.dataclass(frozen=True)
class _Preparation:
    """The steps of a preparation, in the order of `prepare`."""

    source: Source
    settings: Settings
    partial: pathlib.Path
    console: Console
    threads: int
    source_directory: str
    inventory: Inventory
    max_megapixels: float

    def unchanged(self, before: PreparedDataSet, damaged: Collection[str]) -> PreparedDataSet | None:
        """The data set that is there, if it is whole and holds the very images; None if it is not.

        Raises:
          UserError: it was prepared from another directory, which has other images.
        """
        moved = bool(before.checksums) and before.source_directory != self.source_directory
        if damaged and moved:
            raise UserError(
                f'{before.directory} is damaged: {", ".join(damaged)}. It was prepared from {before.source_directory}; '
                'name that config.data.source_directory to prepare it again.'
            )
        if damaged:
            return None
        there = list(complete_shards(before.directory, before.checksums))
        names = (self.source.class_names, self.source.class_ids) == (before.class_names, before.class_ids)
        shards = {path.name: (split, images) for split, images, path in self.shards()}
        same = names and [facts.file for facts in there] == sorted(shards)
        if same and all(self._usable(facts, *shards[facts.file]) for facts in there):
            self._write_places(before.directory)
            if moved:
                say(self.console, f'{self.source_directory} holds the images of {before.source_directory}.')
                before = dataclasses.replace(before, source_directory=self.source_directory)
                write_manifest(before, before.directory)
            return before
        difference = self.inventory.difference(there) or 'their order or their classes'
        if moved:
            raise UserError(
                f'{before.directory} was prepared from {before.source_directory}, and config.data.source_directory='
                f'{self.source_directory} has other images ({difference}). Name another config.data.directory for '
                f'them, or delete {before.directory}.'
            )
        say(self.console, f'The images have changed since {before.directory} was prepared: {difference}.')
        return None

    def check_settings(self) -> None:
        """UserError if the preparation was started with other settings or from another directory."""
        path = self.partial / 'settings.json'
        wanted = {**dataclasses.asdict(self.settings), 'source_directory': self.source_directory}
        found = {**wanted, **json.loads(path.read_text())} if path.exists() else wanted
        for field, value in wanted.items():
            if found[field] != value:
                raise UserError(
                    f'{self.partial} was started with {field}={found[field]!r}, now it is {value!r}; '
                    'delete it, or go back to that setting.'
                )
        replace_file(path, json_bytes(wanted))

    def take_over(self, before: PreparedDataSet | None, damaged: Collection[str]) -> _Found:
        """Finds the shards that need not be written, and links those of the data set that is there already."""
        found, earlier = _Found(), list[tuple[pathlib.Path, ShardFacts]]()
        wanted = {path.name: (split, images, path) for split, images, path in self.shards()}
        aside = self.partial / _EARLIER
        numbers = itertools.count(sum(1 for _ in aside.iterdir()) if aside.exists() else 0)
        for facts in complete_shards(self.partial):
            if facts.file in wanted and self._usable(facts, *wanted[facts.file][:2]):
                found[wanted[facts.file][2]] = facts
                continue
            aside.mkdir(exist_ok=True)
            number = next(numbers)
            for name in (*facts.files, facts_file(pathlib.Path(facts.file)).name):
                (self.partial / name).rename(aside / f'{number}-{name}')
        for facts in complete_shards(aside):
            earlier.append((aside / facts.file, facts))
        for facts in complete_shards(before.directory, before.checksums) if before else ():
            names = (*facts.files, facts_file(pathlib.Path(facts.file)).name)
            if before is None or not set(names).isdisjoint(damaged):
                continue
            split, images, path = wanted.get(facts.file, ('', range(0), self.partial))
            if split and path not in found and self._usable(facts, split, images):
                for name in names:
                    link(before.directory / name, self.partial / name)
                found[path] = facts
            else:
                earlier.append((before.directory / facts.file, facts))
        found.earlier = Earlier(earlier, self.settings.storage, self.settings.image_size)
        return found

    def check_disk(self, found: _Found) -> None:
        """Prints the disk space needed, estimated from shards or sampled images; UserError if there is less."""
        splits, partial = self.source.splits, self.partial
        done = sum(size for facts in found.values() for size, _ in facts.files.values())
        if self.settings.storage == 'raw':
            each = records.raw_type(self.settings.image_size).itemsize + 64.0
        elif any(facts.examples for facts in found.values()):
            each = 32 + done / sum(facts.examples for facts in found.values())
        else:
            sample = {(split, i) for split, n in splits.items() for i in range(0, n, max(1, n // _SAMPLE))}
            stored = self._maker(found).make(sorted(sample)).stored
            each = 32 + sum(len(payload) for _, payload in stored) / max(1, len(stored))
        images = sum(splits.values())
        needed, free = 1.05 * each * images + 2**20, shutil.disk_usage(partial).free
        so_far = f', {format_bytes(done)} are done.' if done > 2**20 else '.'
        classes = f'{images:,} images of {len(self.source.class_names):,} classes'
        line = f'{classes} need about {format_bytes(needed)} in {partial}; {format_bytes(free)} are free{so_far}'
        say(self.console, line)
        if needed - done > free:
            if not found and not len(found.earlier):  # nothing in it is worth keeping
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

    def write_shards(self, found: _Found) -> None:
        """Writes every missing shard."""
        total, done, maker = sum(self.source.splits.values()), 0, self._maker(found)
        with (
            concurrent.futures.ThreadPoolExecutor(self.threads) as pool,
            Display(self.console, total, 0, name='preparing', unit='images') as display,
        ):
            for split, images, path in self.shards():
                if path not in found:
                    for written in maker.write_shard(split, images, path, pool):
                        display.update(done + written)
                done += len(images)
                display.update(done)
                display.plain(done, f'{path.name} done')

    def finish(self, skip_broken: bool) -> PreparedDataSet:
        """Adds up the shards' sums, writes mean image and manifest, and removes temporary files."""
        sums, broken, checksums = Sums(self.settings.image_size), list[str](), dict[str, list[int | str]]()
        shards: dict[str, list[dict[str, Any]]] = {split: [] for split in self.source.splits}
        images: dict[str, list[np.ndarray]] = {split: [] for split in self.source.splits}
        for split, _, path in self.shards():
            facts = ShardFacts.read(facts_file(path))
            broken += facts.broken
            images[split].append(facts.images)
            checksums |= {**facts.files, facts_file(path).name: file_sum(facts_file(path))}
            if split == 'train':
                sums.merge(facts.examples, facts.pixels, facts.products)
            if facts.examples:
                shards[split].append({'file': facts.file, 'examples': facts.examples, 'sha256': facts.sha256})
        path = self.partial / BROKEN_IMAGES
        replace_file(path, ''.join(line + '\n' for line in broken).encode(errors='backslashreplace'))
        if broken and not skip_broken:
            raise UserError(
                f'{len(broken):,} of {sum(self.source.splits.values()):,} images cannot be read, the first: '
                f'{": ".join(broken[0].split(chr(9)))}. All are listed in {path}. '
                'To go on without them: --config.data.skip_broken=True.'
            )
        if not sums.images or not shards['validation']:
            raise UserError(f'No image of {self.settings.source!r} could be read for training or for validation.')
        names, ids = self.source.class_names, self.source.class_ids
        left_out = dict(getattr(self.source, 'left_out', {}))
        rows = {split: np.concatenate(parts) for split, parts in images.items() if parts}
        seen = survey(rows, names, left_out, lambda split, record: self._opened(shards[split]).name(record))
        self._write_places(self.partial)
        write_mean_image(sums.mean_image(), self.partial)
        checksums |= {name: file_sum(self.partial / name) for name in (MEAN_IMAGE, BROKEN_IMAGES)}
        mean, covariance = sums.rgb()
        data = PreparedDataSet(
            self.partial,
            self.settings,
            names,
            ids,
            shards,
            len(broken),
            mean,
            covariance,
            self.source_directory,
            checksums,
            seen,
        )
        write_manifest(data, self.partial)
        for pattern in ('*.new', 'new-*', 'settings.json', 'lock'):
            for file in self.partial.glob(pattern):
                file.unlink()
        if (self.partial / _EARLIER).exists():
            shutil.rmtree(self.partial / _EARLIER)
        return data

    def _opened(self, shards: list[dict[str, Any]]) -> records.Shards:
        files, counts = [str(self.partial / shard['file']) for shard in shards], [shard['examples'] for shard in shards]
        return records.Shards(files, counts, self.settings.storage, self.settings.image_size, checked=True)

    def _maker(self, found: _Found) -> Maker:
        return Maker(self.source, self.settings, self.inventory, found.earlier, self.threads, self.max_megapixels)

    def _usable(self, facts: ShardFacts, split: str, images: range) -> bool:
        """Whether a shard is what would be written now; an image that was broken may be whole by now."""
        if not self.inventory.matches(facts, split, images):
            return False
        none = _Found()
        none.earlier = Earlier((), self.settings.storage, self.settings.image_size)
        maker, broken = self._maker(none), np.flatnonzero(~facts.images['stored'])
        return not any(maker.make([(split, images[i])]).stored for i in broken.tolist())

    def _write_places(self, directory: pathlib.Path) -> None:
        content = json_bytes(self.inventory.places(self.source_directory) if self.source_directory else {})
        path = directory / PLACES
        if not path.is_file() or path.read_bytes() != content:
            replace_file(path, content)
