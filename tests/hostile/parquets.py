"""Hostile Parquet files, in the layout of Hugging Face."""

import functools
import io
import json
import os
import struct
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hostile.ground import GOOD, NESTED, PICKLE, Case, odd_files
from hostile.pictures import CMYK, JPEG, flipped, patched

IMAGE = pa.struct({'bytes': pa.binary(), 'path': pa.string()})
NAMES = ['ant', 'bee', 'cat']
TRAIN, VALIDATION = 'train-00000-of-00001.parquet', 'validation-00000-of-00001.parquet'


def features(**more):
    named = {'image': {'_type': 'Image'}, 'label': {'_type': 'ClassLabel', 'names': NAMES}, **more}
    return json.dumps({'info': {'features': named}}).encode()


def table(images=None, labels=(0, 1, 2, 0), path='a.png', kind=IMAGE, about=None, **columns):
    """A table; images are bytes, None, or cells as they are."""
    images = [GOOD] * len(labels) if images is None else images
    cells = [{'bytes': one, 'path': path} if kind == IMAGE and not isinstance(one, dict) else one for one in images]
    found = {'image': pa.array(cells, kind), 'label': pa.array(labels), **columns}
    return pa.table(found).replace_schema_metadata({b'huggingface': features() if about is None else about})


def content(columns, **options):
    file = io.BytesIO()
    pq.write_table(columns, file, **options)
    return file.getvalue()


@functools.cache
def good():
    return content(table())


def footer(change):
    """The good file, in whose footer the first of some bytes are others."""

    def changed():
        whole = good()
        size = struct.unpack('<I', whole[-8:-4])[0]
        return whole[: -8 - size] + change(whole[-8 - size : -8]) + whole[-8:]

    return changed


def without(*names):
    return lambda: content(table().drop_columns(list(names)))


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr(TRAIN, good())
    return file.getvalue()


def bomb(codec, size=600 << 20, cells=3, **more):
    """Cells of zeros, in one page."""
    cell = bytes(size)
    columns = {'image': pa.array([{'bytes': cell, 'path': None}] * cells + [{'bytes': GOOD, 'path': None}], IMAGE)}
    columns = pa.table(columns | {'label': [0, 1, 2, 0][: cells + 1]})
    return content(columns, compression=codec, use_dictionary=False, write_statistics=False, **more)


def many_rows(count):
    """Labels that take a few bytes for a million."""
    labels = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), pa.array([0])).cast(pa.int64())
    images = pa.array(np.zeros(count, 'S1').tolist(), pa.binary())
    return content(pa.table({'image': images, 'label': labels}), compression='zstd', row_group_size=count)


def in_lists(count):
    return pa.array([list(range(count))] * 4, pa.list_(pa.int64()))


# What the file for training is; how it is met is said below where it is not to be refused.
FILES = {
    'empty': b'',
    'a word': b'PAR1',
    'its magic alone': b'PAR1' * 3,
    'garbage': b'PAR1' + b'garbage' * 999 + b'PAR1',
    'zeros': bytes(5000),
    'a text': b'image,label\n1,2\n',
    'a pickle': PICKLE,
    'a picture': JPEG,
    'a zip of one': zipped,
    'cut at its first page': lambda: good()[:100],
    'cut in half': lambda: good()[: len(good()) // 2],
    'a byte short': lambda: good()[:-1],
    'a byte too long': lambda: good() + b'x',
    'without its beginning': lambda: good()[100:],
    'one after another': lambda: good()[:-400] + good(),
    'a footer of 4 GB': lambda: good()[:-8] + b'\xff\xff\xff\xffPAR1',
    'a footer of no bytes': lambda: good()[:-8] + bytes(4) + b'PAR1',
    'a footer that is all of it': lambda: good()[:-8] + struct.pack('<I', len(good()) - 12) + b'PAR1',
    'a footer of zeros': footer(lambda old: bytes(len(old))),
    'a footer of ones': footer(lambda old: b'\xff' * len(old)),
    'a footer nested deep': footer(lambda old: b'\x1c' * len(old)),
    'encrypted': lambda: good()[:-4] + b'PARE',
    'pages of zeros': lambda: good()[:4] + bytes(600) + good()[604:],
    'pages of ones': lambda: good()[:4] + b'\xff' * 600 + good()[604:],
    'without labels': without('label'),
    'without images': without('image'),
    'without columns that are needed': lambda: content(pa.table({'a\x1b[31m': [1.5], 'b\nc': ['x']})),
    'of no columns': lambda: content(pa.table({})),
    'of no rows': lambda: content(table([], pa.array([], pa.int64()))),
    'of a thousand columns': lambda: content(pa.table({f'column {i}': [1.5] for i in range(1000)})),
    'images that are texts': lambda: content(table(['x'] * 4, kind=pa.string())),
    'images that are numbers': lambda: content(table([1] * 4, kind=pa.int64())),
    'images that are lists of a million': lambda: content(table([[7] * 10**6] * 4, kind=pa.list_(pa.uint8()))),
    'images that are lists': lambda: content(table([[{'bytes': GOOD}]] * 4, kind=pa.list_(pa.struct({'bytes': pa.binary()})))),
    'images of a structure without bytes': lambda: content(table([{'path': 'a'}] * 4, kind=pa.struct({'path': pa.string()}))),
    'images whose bytes are texts': lambda: content(
        table([{'bytes': 'x'}] * 4, kind=pa.struct({'bytes': pa.string()}))
    ),
    'images that are only paths': lambda: content(table([{'bytes': None, 'path': '/etc/passwd'}] * 4)),
    'images that are null': lambda: content(table([None] * 4)),
    'an image that is null': lambda: content(table([{'bytes': None, 'path': None}, GOOD, GOOD, GOOD])),
    'an image that is empty': lambda: content(table([b'', GOOD, GOOD, GOOD])),
    'an image that is a pickle': lambda: content(table([PICKLE, GOOD, GOOD, GOOD])),
    'an image of 300 MB': lambda: bomb('zstd', 300 << 20, 1, write_batch_size=1),
    'a page of 1.8 GB, zstd': lambda: bomb('zstd'),
    'a page of 1.8 GB, gzip': lambda: bomb('gzip'),
    'a page of 1.8 GB, snappy': lambda: bomb('snappy'),
    'labels that are fractions': lambda: content(table(labels=[0.0, 1.0, 2.0, 0.0])),
    'labels that are lists of a million': lambda: content(table(label=in_lists(10**6), labels=[0] * 4)),
    'labels that are times': lambda: content(table(labels=pa.array([0, 1, 2, 0], pa.timestamp('s')))),
    'labels that are null': lambda: content(table(labels=pa.array([None] * 4, pa.int64()))),
    'a label that is null': lambda: content(table(labels=[0, None, 2, 0])),
    'a label that is 3': lambda: content(table(labels=[0, 3, 2, 0])),
    'a label that is -2': lambda: content(table(labels=[0, -2, 2, 0])),
    'a label that is 2**40': lambda: content(table(labels=[0, 2**40, 2, 0])),
    'a label that is 2**64 - 1': lambda: content(table(labels=pa.array([0, 2**64 - 1], pa.uint64()))),
    'labels that are all the same': lambda: content(table(labels=[0] * 4, about=b'')),
    'texts for labels where validation has numbers': lambda: content(table(labels=['a', 'b', 'c', 'a'])),
    'a column twice': lambda: content(pa.table([pa.array([GOOD])] * 2 + [pa.array([0])], ['image', 'image', 'label'])),
    'metadata that are no JSON': lambda: content(table(about=b'{"info": ')),
    'metadata that are a list': lambda: content(table(about=b'[1]')),
    'metadata nested deep': lambda: content(table(about=NESTED)),
    'metadata that are a pickle': lambda: content(table(about=PICKLE)),
    'metadata without features': lambda: content(table(about=b'{"info": {}}')),
    'features that are a list': lambda: content(table(about=b'{"info": {"features": [1]}}')),
    'features that are texts': lambda: content(table(about=b'{"info": {"features": {"label": "x"}}}')),
    'names that are numbers': lambda: content(table(about=features(label={'names': [1, 2, 3]}))),
    'names that are a text': lambda: content(table(about=features(label={'names': 'abc'}))),
    'names that are a dictionary': lambda: content(table(about=features(label={'names': {'0': 'a'}}))),
    'one name': lambda: content(table(about=features(label={'names': ['a']}))),
    'other names than validation': lambda: content(table(about=features(label={'names': ['x', 'y', 'z']}))),
    '40 million rows': lambda: many_rows(40_000_000),
}
FINE = {
    'a path that climbs': lambda: content(table(path='../../outside/x.png')),
    'a path with escape codes': lambda: content(table(path='\x1b[31m\x07\nx.png')),
    'a path of a million letters': lambda: content(table(path='x' * 10**6)),
    'names with escape codes': lambda: content(table(about=features(label={'names': ['\x1b[31m', '\n', '\x07']}))),
    'rows of a million in another column': lambda: content(table(other=in_lists(10**6))),
    'a CMYK JPEG': lambda: content(table([CMYK, JPEG, GOOD, GOOD])),
    'a name for each of a million labels': lambda: content(table(about=features(label={'names': [f'{i}' for i in range(10**6)]}))),
}
# In which words are said, besides the file's name.
SAYS = {
    'cut in half': 'cannot be read',
    'without labels': 'has the columns image (struct<bytes: binary, path: string>)',
    'images that are null': 'images cannot be read',
    'images that are only paths': 'images cannot be read',
    'a label that is 3': 'row 1: the label 3 is none of the 3 classes',
}
# What is found out when all files are known, or when images are read.
_OF_ALL = {
    'of no rows': 'has nothing to train on',
    'labels that are null': 'has nothing to train on',
    'images that are null': '4 of 8 images cannot be read',
    'images that are only paths': '4 of 8 images cannot be read',
    'an image that is null': '1 of 8 images cannot be read',
    'an image that is empty': '1 of 8 images cannot be read',
    'an image that is a pickle': '1 of 8 images cannot be read',
}
