"""What a preparation has seen: a summary of the images, for the manifest and as a table."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alexnet_jax.runtime.errors import printable, say

_SHOWN = 5  # duplicates that are named
_MODES = {
    '1': 'black and white',
    'L': 'gray',
    'P': 'palette',
    'LA': 'gray with alpha',
    'PA': 'palette with alpha',
    'RGBA': 'RGB with alpha',
    'F': 'gray, floating point',
}


def survey(
    images: dict[str, np.ndarray],
    class_names: Sequence[str],
    left_out: dict[str, int],
    name_of: Callable[[str, int], str],
) -> dict[str, Any]:
    """Sums up the images of a source.

    Args:
      images: `shard_facts.IMAGE` [count] for each split.
      class_names: by label.
      left_out: the number of files that are no images of the data set, by kind.
      name_of: the name of an image, given its split and its number among those that could be read.

    Returns:
      What the manifest holds as `seen`.
    """
    train, others = images['train'], {split: rows for split, rows in images.items() if split != 'train'}
    stored = {split: rows[rows['stored']] for split, rows in images.items()}
    unreadable = sum(int((~rows['stored']).sum()) for rows in images.values())
    every = np.concatenate(list(stored.values()))
    modes, times = np.unique(every['mode'], return_counts=True)
    return {
        'classes': {split: _classes(rows['label'], class_names) for split, rows in stored.items()},
        'modes': {
            mode.decode(): int(n) for mode, n in sorted(zip(modes, times, strict=True), key=lambda pair: -pair[1])
        },
        'sizes': _sizes(every),
        'left_out': {**left_out, **({'unreadable': unreadable} if unreadable else {})},
        'duplicates': {
            'train': len(_contents(train)) - len(np.unique(_contents(train))),
            **{split: int(np.isin(_contents(rows), _contents(train)).sum()) for split, rows in others.items()},
        },
        'duplicate_names': [pair for split in others for pair in _names(images, split, name_of)][:_SHOWN],
    }


def show(seen: dict[str, Any], counts: dict[str, int], console: Console) -> None:
    """Prints a survey as a table, and a warning where images of training are in another split too."""
    table = Table(box=None, pad_edge=False, show_header=False, highlight=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow='fold')
    rows = {split: f'{count:,} images; {_class_sizes(seen["classes"][split])}' for split, count in counts.items()}
    rows['colors'] = ', '.join(f'{count:,} {_mode(mode)}' for mode, count in seen['modes'].items())
    rows['width x height'] = ', '.join(
        f'{which} {width} x {height}' for which, (width, height) in seen['sizes'].items()
    )
    rows['left out'] = ', '.join(f'{count:,} {kind}' for kind, count in seen['left_out'].items()) or 'none'
    rows['equal files'] = ', '.join(f'{count:,} in {where}' for where, count in _equal(seen).items()) or 'none'
    for name, text in rows.items():
        table.add_row(name, Text(printable(text)))
    console.print(table)
    if seen['duplicate_names']:
        pairs = ', '.join(f'{one} ({split}) = {other}' for split, one, other in seen['duplicate_names'])
        say(console, f'warning: files for training are in other splits too, byte for byte, as in {pairs}')


def _classes(labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """[name, count] of the largest and of the smallest class, and the number of classes without images."""
    counts = np.bincount(labels, minlength=len(names))
    places = {'largest': int(counts.argmax()), 'smallest': int(counts.argmin())}
    return {
        **{which: [printable(names[place]), int(counts[place])] for which, place in places.items()},
        'empty': int((counts == 0).sum()),
    }


def _sizes(images: np.ndarray) -> dict[str, list[int]]:
    """[width, height] of the images of smallest, median and largest area."""
    if not len(images):
        return {}
    area = images['width'].astype(np.int64) * images['height']
    order = {'smallest': 0, 'median': len(area) // 2, 'largest': len(area) - 1}
    places = np.argpartition(area, list(order.values()))
    found = {which: images[places[rank]] for which, rank in order.items()}
    return {which: [int(image['width']), int(image['height'])] for which, image in found.items()}


def _contents(images: np.ndarray) -> np.ndarray:
    """Hashes of the images that could be read."""
    return np.asarray(images['content'][images['stored']])


def _names(images: dict[str, np.ndarray], split: str, name_of: Callable[[str, int], str]) -> list[list[str]]:
    """A few images of a split that are in training too: the split, and both names."""
    _, here, there = np.intersect1d(_contents(images[split]), _contents(images['train']), return_indices=True)
    order = np.argsort(here)[:_SHOWN]
    pairs = zip(here[order].tolist(), there[order].tolist(), strict=True)
    return [[split, printable(name_of(split, one)), printable(name_of('train', other))] for one, other in pairs]


def _equal(seen: dict[str, Any]) -> dict[str, int]:
    """The numbers of equal files that are not 0, by where they are."""
    counts = {
        ('train' if split == 'train' else f'both train and {split}'): n for split, n in seen['duplicates'].items()
    }
    return {where: count for where, count in counts.items() if count}


def _class_sizes(found: dict[str, Any]) -> str:
    if found['smallest'][1] == found['largest'][1]:
        return f'{found["smallest"][1]:,} of each class'
    sizes = ', '.join(f'{which} class {found[which][1]:,} ({found[which][0]})' for which in ('smallest', 'largest'))
    return sizes + (f', {found["empty"]:,} without images' if found['empty'] else '')


def _mode(mode: str) -> str:
    plain = mode.removesuffix('+a')
    name = 'gray of more than 8 bits' if plain.startswith('I') else _MODES.get(plain, plain)
    return name if plain == mode or 'alpha' in name else f'{name} with transparency'
