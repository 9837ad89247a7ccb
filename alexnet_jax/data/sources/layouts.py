"""Layouts that are not folders of class folders, recognized for messages: what they are, and what reads them."""

import fnmatch
import os
from collections.abc import Iterable

from alexnet_jax.data.image_files import shown

_FAST_AI = tuple(f'image{kind}2{size}' for kind in ('nette', 'woof') for size in ('', '-320', '-160'))
# Data sets by names of files and folders that they have, with their sources.
_KNOWN = (
    (('wnids.txt',), 'Tiny ImageNet', 'tiny_imagenet'),
    (('tiny-imagenet-200*',), 'Tiny ImageNet', 'tiny_imagenet'),
    (('LOC_synset_mapping.txt', 'LOC_*.csv', 'CLS-LOC'), "ImageNet, as Kaggle's competition has it", 'imagenet2012'),
    (('ILSVRC2012_img_*.tar', 'ILSVRC2012_devkit*'), 'ImageNet', 'imagenet2012'),
    (('ILSVRC2010_*',), 'ImageNet of 2010', 'imagenet2010'),
    (('cifar-100*',), 'CIFAR-100', 'cifar100'),
    (('cifar-10*', 'data_batch_[1-5]*'), 'CIFAR-10', 'cifar10'),
    *(((f'{name}.tgz',), name, name) for name in _FAST_AI),
    (('*-idx[13]-ubyte*', '*.idx[13]-ubyte*'), 'MNIST, or one in its format', 'mnist'),
    (('*.parquet',), 'a data set in Parquet files', 'parquet'),
)
_IMAGENET_VALIDATION = 'ILSVRC2012_val_*'
_ARCHIVES = ('*.zip', '*.tar', '*.tar.gz', '*.tgz', '*.tar.xz', '*.tar.bz2', '*.7z', '*.rar')
_TABLES = ('*.csv', '*.tsv', '*.txt', '*.json', '*.mat', '*.xlsx')


def other_reading(directory: str) -> str:
    """A sentence on the data set that a directory seems to hold and the source that reads it; '' if it is unknown."""
    names = _names(directory)
    for patterns, what, source in _KNOWN:
        if _matching(names, patterns):
            return f'It looks like {what}, which config.data.source={source!r} reads.'
    for name in _matching(names, ('val', 'validation', 'valid')):
        if _matching(_names(os.path.join(directory, name)), (_IMAGENET_VALIDATION,)):
            what = 'ImageNet with its validation images in one folder'
            return f"It looks like {what}, which config.data.source='imagenet2012' reads."
    archives = _matching(names, _ARCHIVES)
    return f'It has archives, as {shown(archives[0])}: unpack them first.' if archives else ''


def tables_beside(folder: str) -> str:
    """A sentence on files in or beside a folder that may have the labels of its images; '' if there is none."""
    for place in (folder, os.path.dirname(os.path.abspath(folder))):
        tables = _matching(_names(place), _TABLES)
        if tables:
            return f'Labels in a table, as {shown(os.path.join(place, tables[0]))} may have them, are not read.'
    return ''


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:  # no reason to hide the message that this is for
        return []


def _matching(names: list[str], patterns: Iterable[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
