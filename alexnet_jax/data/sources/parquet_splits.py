"""Which Parquet files there are, and the split of each, which its name says."""

import collections
import glob
import os
import pathlib
import re

from alexnet_jax.runtime.errors import UserError

_WORDS = {
    'train': 'train|training',
    'validation': 'validation|valid|val|dev',
    'test': 'test|testing|eval|evaluation',
}  # in names of files, as Hugging Face's `datasets` reads them
_SERIES = re.compile(r'(.*?)(\d{5})-of-(\d{5})')  # train-00003-of-00294.parquet


def find_files(pattern: str, directory: str) -> list[str]:
    """The files, sorted, each once; UserError if there are none."""
    directory, pattern = os.path.expanduser(directory), os.path.expanduser(pattern)
    inside = glob.escape(directory) if os.path.isdir(directory) else directory
    for place in (os.path.join(inside, pattern), pattern) if pattern else (inside,):
        files: dict[str, str] = {}
        for found in sorted(glob.glob(place, recursive=True)):
            below = glob.glob(os.path.join(glob.escape(found), '**', '*.parquet'), recursive=True)
            for path in sorted(below, key=len) if os.path.isdir(found) else [found]:
                if os.path.isfile(path):
                    files.setdefault(os.path.realpath(path), os.path.normpath(path))
        if files:
            return sorted(files.values())
    raise UserError(
        f'There is no Parquet file in {os.path.join(directory, pattern)!r} (config.data.source_directory). Name a '
        "folder of them, or a pattern, as in --config.data.source='parquet:cifar10/*.parquet'."
    )


def by_split(paths: list[str]) -> dict[str, list[str]]:
    """The files of each split; UserError if some name one and others do not."""
    found: dict[str, list[str]] = {}
    common = os.path.dirname(os.path.commonpath(paths)) if len(paths) == 1 else os.path.commonpath(paths)
    for path in paths:
        file, *folders = reversed(pathlib.PurePath(os.path.relpath(path, common)).parts)
        words = (_split_named(part) for part in (file, *folders))
        found.setdefault(next(filter(None, words), ''), []).append(path)
    unnamed = found.pop('', [])
    if unnamed and found:
        raise UserError(
            f'{unnamed[0]} names no split, as {found.popitem()[1][0]} does. Put train, validation or test into its '
            'name, or leave it out with a pattern.'
        )
    return found or {'train': unnamed}


def _split_named(name: str) -> str:
    """The split that a name mentions as a word, or ''."""
    first = {split: re.search(rf'(?:^|[-_. \d])(?:{words})(?=[-_. \d]|$)', name) for split, words in _WORDS.items()}
    starts = {split: match.start() for split, match in first.items() if match}
    return min(starts, key=lambda split: starts[split], default='')


def check_series(paths: dict[str, list[str]], whole: bool) -> None:
    """UserError if a number of a series such as train-00000-of-00294 is there twice or, of a `whole` one, missing."""
    series: dict[tuple[str, str], dict[int, str]] = collections.defaultdict(dict)
    for path in (path for some in paths.values() for path in some):
        folder, name = os.path.split(path)
        if match := _SERIES.match(name):
            found, number = series[os.path.join(folder, match[1]), match[3]], int(match[2])
            if number in found:
                raise UserError(f'{found[number]} and {path} are the same part of a series; move one of them away.')
            found[number] = path
    for (start, count), found in series.items():
        missing = next((number for number in range(int(count)) if number not in found), None)
        if whole and missing is not None:
            raise UserError(
                f'{start}{missing:05d}-of-{count} is missing; {len(found):,} of {int(count):,} files are there. Get '
                "the others, or name those to use: --config.data.source='parquet:train-0000*'."
            )
