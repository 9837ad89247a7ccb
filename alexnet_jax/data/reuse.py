"""What an earlier preparation has made of images that are still the same."""

import os
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from alexnet_jax.data.records import Shards
from alexnet_jax.data.shard_facts import IMAGE, ShardFacts, hash_identity
from alexnet_jax.data.sources.base import Identity, Source, identity_of
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.progress_bar import Display

_MOST_FILES = 5000  # whose size and time are noted one by one; of more, their folders alone


class Reused(NamedTuple):
    """An image that need not be read from the source."""

    name: str
    payload: bytes
    pixels: np.ndarray
    facts: np.void  # IMAGE


class Earlier:
    """Images in shards of an earlier preparation, found by their identity."""

    def __init__(self, shards: Iterable[tuple[pathlib.Path, ShardFacts]], storage: str, size: int) -> None:
        """Takes the paths of shards and their facts, and how their images are stored."""
        shards = list(shards)
        counts = [facts.examples for _, facts in shards]
        self._shards = Shards([str(path) for path, _ in shards], counts, storage, size, checked=True)
        stored = [facts.images[facts.images['stored']] for _, facts in shards]
        self._images = np.concatenate([np.empty(0, IMAGE), *stored])
        self._order = np.argsort(self._images['identity'])
        self._sorted = self._images['identity'][self._order]

    def __len__(self) -> int:
        return len(self._images)

    def find(self, identity: int, label: int) -> Reused | None:
        """The image of an identity as `hash_identity` gives it, labeled anew (-1: as it was); None if there is none."""
        place = int(np.searchsorted(self._sorted, np.uint64(identity)))
        if place == len(self._sorted) or self._sorted[place] != identity:
            return None
        index = int(self._order[place])
        facts = self._images[index]
        try:
            return Reused(*self._shards.payload(index, int(facts['label']) if label < 0 else label), facts)
        except (OSError, ValueError):  # damaged in the meantime; the source has the image
            return None


class Inventory:
    """The images of a source, by their identities, and what to look at to see whether it has changed.

    Attributes:
      identities: uint64 [count] for each split, as `hash_identity` gives them.
      labels: int32 [count] for each split; -1 where only reading tells.
    """

    def __init__(self, source: Source, display: Display) -> None:
        """Asks for all identities. Raises OSError where a file is gone, and UserError as the source."""
        self.identities = {split: np.empty(count, np.uint64) for split, count in source.splits.items()}
        self.labels = {split: np.empty(count, np.int32) for split, count in source.splits.items()}
        self._files: dict[str, tuple[int, int]] | None = {}
        self._folders: set[str] = set()
        done = 0
        for split, count in source.splits.items():
            for index in range(count):
                identity = identity_of(source, split, index)
                self.identities[split][index] = hash_identity(identity)
                self.labels[split][index] = identity.label
                self._note(identity)
                done += 1
                if done % 1000 == 0:
                    display.update(done)

    def matches(self, facts: ShardFacts, split: str, images: range) -> bool:
        """Whether a shard was made of these images of a split, with these labels."""
        chosen = slice(images.start, images.stop)
        labels = self.labels[split][chosen]
        return np.array_equal(facts.images['identity'], self.identities[split][chosen]) and bool(
            ((labels < 0) | (labels == facts.images['label'])).all()
        )

    def difference(self, earlier: Iterable[ShardFacts]) -> str:
        """In words, how the images differ from those of all shards of an earlier preparation; '' if they do not."""
        before = np.concatenate([np.empty(0, IMAGE), *(facts.images for facts in earlier)])
        now, labels = (np.concatenate(list(of.values())) for of in (self.identities, self.labels))
        new, gone = (
            int(np.isin(a, b, invert=True).sum()) for a, b in ((now, before['identity']), (before['identity'], now))
        )
        _, here, there = np.intersect1d(now, before['identity'], return_indices=True)
        relabeled = int(((labels[here] >= 0) & (labels[here] != before['label'][there])).sum())
        counts = ((new, 'new or changed'), (gone, 'gone or changed'), (relabeled, 'with another label'))
        return ', '.join(f'{count:,} {what}' for count, what in counts if count)

    def places(self, directory: str) -> dict[str, list[int]]:
        """Size and time of files, and time of folders, by paths relative to the source; raises OSError."""
        found = {path: [size, time] for path, (size, time) in (self._files or {}).items()}
        for folder in sorted(self._folders):
            path = os.path.join(directory, folder)
            try:
                found[folder or '.'] = [os.stat(path).st_mtime_ns]
            except (FileNotFoundError, NotADirectoryError):  # of a path inside an archive
                found[folder or '.'] = [0]
        return found

    def _note(self, identity: Identity) -> None:
        path = identity.file
        if not path:
            return
        if identity.member:
            if self._files is not None and path not in self._files:
                self._files[path] = (-1, identity.time)
        else:
            folder = os.path.dirname(path)
            while folder not in self._folders:
                self._folders.add(folder)
                folder = folder if os.path.isabs(folder) else os.path.dirname(folder)
            if self._files is not None:
                self._files[path] = (identity.size, identity.time)
        if self._files is not None and len(self._files) > _MOST_FILES:
            self._files = None


def changed_places(places: dict[str, Any], directory: str) -> list[str]:
    """Paths of those of `Inventory.places` that are not as they were; all of them if the directory is gone."""
    found = []
    for path, noted in places.items():
        where = os.path.join(directory, path)
        try:
            status = os.stat(where)
        except (FileNotFoundError, NotADirectoryError):
            found.append(where)
            continue
        same_size = len(noted) < 2 or noted[0] in (-1, status.st_size)
        if not same_size or noted[-1] != status.st_mtime_ns:
            found.append(where)
    return found


def list_images(source: Source, console: Console) -> Inventory:
    """The inventory of a source, with a progress bar; UserError where a file cannot be read."""
    try:
        with Display(console, sum(source.splits.values()), 0, name='listing', unit='images') as display:
            return Inventory(source, display)
    except OSError as error:
        name = os.fsdecode(error.filename) if error.filename else ''
        raise UserError(f'The file {name} of the source cannot be read: {error.strerror}.') from error
