"""The directories of a preparation: what is complete in them, and how one takes the place of another."""

import os
import pathlib
import shutil
from collections.abc import Collection, Iterator

from alexnet_jax.data.dataset import BROKEN_IMAGES, MANIFEST, MEAN_IMAGE, PLACES, open_prepared
from alexnet_jax.data.shard_facts import ShardFacts
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import sync

REPLACED = '.replaced'  # in DIRECTORY.partial and then in DIRECTORY: the data set that was there before


def check_free(directory: pathlib.Path) -> None:
    """Raises UserError where a directory is there that is no prepared data set."""
    if directory.exists() and not (directory / MANIFEST).is_file():
        raise UserError(f'{directory} exists already; delete it, or name another config.data.directory.')


def complete_shards(directory: pathlib.Path, names: Collection[str] | None = None) -> Iterator[ShardFacts]:
    """The facts about the shards in a directory, without sums, in the order of the names; only those that can be used.

    `names` are those of files that belong to it; None for all.
    """
    for path in sorted(directory.glob('*.sums')):
        if names is None or path.name in names:
            try:
                facts = ShardFacts.read(path, sums=False)
            except ValueError:  # damaged, or by an earlier version: the shard is written anew
                continue
            prefix = path.stem.removesuffix(pathlib.Path(facts.file).stem)
            facts = facts._replace(
                file=prefix + facts.file, files={prefix + name: of for name, of in facts.files.items()}
            )
            if all((directory / name).is_file() for name in facts.files):
                yield facts


def link(file: pathlib.Path, to: pathlib.Path) -> None:
    """Gives a file a second name, or copies it where the file system has no such links."""
    to.unlink(missing_ok=True)
    try:
        os.link(file, to)
    except OSError:
        shutil.copy2(file, to)


def end_replacement(directory: pathlib.Path, partial: pathlib.Path) -> None:
    """Ends a replacement that was interrupted; files that are no part of a data set are kept."""
    if (partial / REPLACED).exists() and not directory.exists():
        (partial / REPLACED).rename(directory)
    replaced = directory / REPLACED
    if (replaced / MANIFEST).is_file():
        known = {MANIFEST, MEAN_IMAGE, BROKEN_IMAGES, PLACES, *open_prepared(replaced, images=False).all_files()}
        for file in sorted(replaced.iterdir(), key=lambda file: file.name == MANIFEST):
            if file.name in known:
                file.unlink()
            else:
                file.rename(directory / file.name)
    if replaced.is_dir() and not any(replaced.iterdir()):
        replaced.rmdir()


def publish(partial: pathlib.Path, directory: pathlib.Path, replace: bool) -> None:
    """Puts a complete data set in its place, in which there must be another one if that is to be replaced.

    Raises:
      OSError: it cannot be put there; if it is interrupted, `end_replacement` goes on.
    """
    if replace:
        directory.rename(partial / REPLACED)
    partial.rename(directory)
    sync(directory.parent)
    end_replacement(directory, partial)
