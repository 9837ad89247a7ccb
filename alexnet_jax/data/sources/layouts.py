"""Layouts that are not folders of class folders, recognized for messages: what they are, and what reads them."""

import fnmatch
import os
from collections.abc import Iterable

from alexnet_jax.runtime.errors import shown

_KAGGLE, _FLAT = "ImageNet, as Kaggle's competition has it", 'ImageNet with its validation images in one folder'
_FAST_AI = tuple(f'image{kind}2{size}' for kind in ('nette', 'woof') for size in ('', '-320', '-160'))
# Data sets by the names of what is in a directory: what they are, their source, and where its directory is from there.
_KNOWN = (
    (('wnids.txt', 'tiny-imagenet-200*'), 'Tiny ImageNet', 'tiny_imagenet', ''),
    (('LOC_synset_mapping.txt', 'LOC_*.csv'), _KAGGLE, 'imagenet2012', ''),
    (('CLS-LOC',), _KAGGLE, 'imagenet2012', 'CLS-LOC'),
    (('Data/CLS-LOC',), _KAGGLE, 'imagenet2012', '..'),
    (('val/ILSVRC2012_val_*', 'validation/ILSVRC2012_val_*'), _FLAT, 'imagenet2012', ''),
    (('ILSVRC2012_img_*.tar',), 'ImageNet', 'imagenet2012', ''),
    (('ILSVRC2010_*',), 'ImageNet of 2010', 'imagenet2010', ''),
    (('cifar-100*',), 'CIFAR-100', 'cifar100', ''),
    (('cifar-10*', 'data_batch_[1-5]*'), 'CIFAR-10', 'cifar10', ''),
    *(((f'{name}.tgz',), name, name, '') for name in _FAST_AI),
    (('*-idx[13]-ubyte*', '*.idx[13]-ubyte*'), 'MNIST or a set like it, such as fashion_mnist', 'mnist', ''),
    (('*.parquet',), 'a data set in Parquet files', 'parquet', ''),
)
_ARCHIVES = ('*.zip', '*.tar', '*.tar.gz', '*.tgz', '*.tar.xz', '*.tar.bz2', '*.7z', '*.rar')
_TABLES = ('*.csv', '*.tsv', '*.txt', '*.json', '*.mat', '*.xlsx')


def other_reading(directory: str) -> str:
    """A sentence on the data set that a directory seems to hold and the source that reads it; '' if it is unknown."""
    for patterns, what, source, place in _KNOWN:
        if _matching(directory, patterns):
            where = os.path.normpath(os.path.join(directory, place))
            fields = f'config.data.source={source!r} reads, with config.data.source_directory={shown(where)!r}'
            return f'It looks like {what}, which {fields}.'
    archives = _matching(directory, _ARCHIVES)
    return f'It has archives, as {shown(archives[0])}: unpack them first.' if archives else ''


def tables_beside(folder: str) -> str:
    """A sentence on files in or beside a folder that may have the labels of its images; '' if there is none."""
    for place in (folder, os.path.dirname(os.path.abspath(folder))):
        tables = _matching(place, _TABLES)
        if tables:
            return f'Labels in a table, as {shown(os.path.join(place, tables[0]))} may have them, are not read.'
    return ''


def _matching(directory: str, patterns: Iterable[str]) -> list[str]:
    """Sorted paths in a directory that match a pattern; of a pattern with a slash only the last part may be one."""
    found = []
    for pattern in patterns:
        inner, last = os.path.split(pattern)
        try:
            names = os.listdir(os.path.join(directory, inner))
        except OSError:  # no reason to hide the message that this is for
            continue
        found += [os.path.join(inner, name) for name in names if fnmatch.fnmatchcase(name, last)]
    return sorted(found)
