"""Hostile Parquet files, in the layout of Hugging Face."""

import dataclasses
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
from hostile.pictures import CMYK, JPEG, flipped

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


def with_zeros(size):
    """An image of so many zeros before good ones, in one page."""
    columns = table([bytes(size), GOOD, GOOD, GOOD])
    return content(columns, compression='zstd', use_dictionary=False, write_statistics=False)


def claiming_2_gb():
    """A page that claims to be larger than it is, which the footer does not know."""
    whole = with_zeros(150 << 20)
    assert whole[:7] == b'PAR1\x15\x00\x15' and whole[11] < 128 <= whole[10]  # a page, and its size in five bytes
    return whole[:7] + b'\xfe\xff\xff\xff\x0f' + whole[12:]


def many_rows(count):
    """Rows that take a few bytes for a million."""
    labels = pa.array(np.zeros(count, np.int8))
    return content(pa.table({'image': pa.nulls(count, pa.binary()), 'label': labels}), row_group_size=count)


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
    'a pointer of Git LFS': b'version https://git-lfs.github.com/spec/v1\n',
    'a picture': JPEG,
    'a zip of one': zipped,
    'cut at its first page': lambda: good()[:100],
    'cut in half': lambda: good()[: len(good()) // 2],
    'a byte short': lambda: good()[:-1],
    'a byte too long': lambda: good() + b'x',
    'without its beginning': lambda: good()[100:],
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
    'images that are lists': lambda: content(
        table([[{'bytes': GOOD}]] * 4, kind=pa.list_(pa.struct({'bytes': pa.binary()})))
    ),
    'images of a structure without bytes': lambda: content(
        table([{'path': 'a'}] * 4, kind=pa.struct({'path': pa.string()}))
    ),
    'images whose bytes are texts': lambda: content(
        table([{'bytes': 'x'}] * 4, kind=pa.struct({'bytes': pa.string()}))
    ),
    'images that are only paths': lambda: content(table([{'bytes': None, 'path': '/etc/passwd'}] * 4)),
    'images that are null': lambda: content(table([None] * 4)),
    'an image that is null': lambda: content(table([{'bytes': None, 'path': None}, GOOD, GOOD, GOOD])),
    'an image that is empty': lambda: content(table([b'', GOOD, GOOD, GOOD])),
    'an image that is a pickle': lambda: content(table([PICKLE, GOOD, GOOD, GOOD])),
    'a page that claims 2 GB': lambda: claiming_2_gb(),
    'labels that are fractions': lambda: content(table(labels=[0.0, 1.0, 2.0, 0.0])),
    'labels that are lists of a million': lambda: content(table(label=in_lists(10**6), labels=[0] * 4)),
    'labels that are times': lambda: content(table(labels=pa.array([0, 1, 2, 0], pa.timestamp('s')))),
    'labels that are null': lambda: content(table(labels=pa.array([None] * 4, pa.int64()))),
    'a label that is null': lambda: content(table(labels=[0, None, 2, 0])),
    'a label that is 3': lambda: content(table(labels=[0, 3, 2, 0])),
    'a label that is -2': lambda: content(table(labels=[0, -2, 2, 0])),
    'a label that is 2**40': lambda: content(table(labels=[0, 2**40, 2, 0])),
    'a label that is 2**64 - 1': lambda: content(table(labels=pa.array([0, 2**64 - 1], pa.uint64()))),
    'texts for labels where validation has numbers': lambda: content(table(labels=['a', 'b', 'c', 'a'])),
    'a column twice': lambda: content(pa.table([pa.array([GOOD])] * 2 + [pa.array([0])], ['image', 'image', 'label'])),
    'metadata that are no JSON': lambda: content(table(about=b'{"info": ')),
    'metadata that are a list': lambda: content(table(about=b'[1]')),
    'metadata nested deep': lambda: content(table(about=NESTED)),
    'metadata that are a pickle': lambda: content(table(about=PICKLE)),
    'metadata without features': lambda: content(table(about=b'{"info": {}}')),
    'features that are a list': lambda: content(table(about=b'{"info": {"features": [1]}}')),
    'names that are numbers': lambda: content(table(about=features(label={'names': [1, 2, 3]}))),
    'names that are a text': lambda: content(table(about=features(label={'names': 'abc'}))),
    'names that are a dictionary': lambda: content(table(about=features(label={'names': {'0': 'a'}}))),
    'one name': lambda: content(table(about=features(label={'names': ['a']}))),
    'other names than validation': lambda: content(table(about=features(label={'names': ['x', 'y', 'z']}))),
    '34 million rows': lambda: many_rows(2**25 + 1),
}
FINE = {
    'a path that climbs': lambda: content(table(path='../../outside/x.png')),
    'a path with escape codes': lambda: content(table(path='\x1b[31m\x07\nx.png')),
    'a path of a million letters': lambda: content(table(path='x' * 10**6)),
    'names with escape codes': lambda: content(table(about=features(label={'names': ['\x1b[31m', '\n', '\x07']}))),
    'rows of a million in another column': lambda: content(table(other=in_lists(10**6))),
    'features that are texts': lambda: content(table(about=b'{"info": {"features": {"label": "x"}}}')),
    'a CMYK JPEG': lambda: content(table([CMYK, JPEG, GOOD, GOOD])),
    'a hundred thousand names': lambda: content(table(about=features(label={'names': [f'{i}' for i in range(10**5)]}))),
}
# What is said, where it is not the name of the file.
SAYS = {
    'of no rows': 'nothing to train on',
    'labels that are null': 'nothing to train on',
    'images that are null': '4 of 8 images cannot be read',
    'images that are only paths': '4 of 8 images cannot be read',
    'an image that is null': '1 of 8 images cannot be read',
    'an image that is empty': '1 of 8 images cannot be read',
    'an image that is a pickle': '1 of 8 images cannot be read',
    'without labels': 'has the columns image (struct<bytes: binary, path: string>)',
    'a label that is 3': 'row 1: the label 3 is none of the 3 classes',
}
# Names of the file for training, and what is said.
FILE_NAMES = {
    'with escape codes': (b'train-\x1b[31m\x07.parquet', None),
    'of two lines': (b'train-\n.parquet', None),
    'that is no text': (b'train-\xff\xfe.parquet', 'cannot be read'),
    'of two splits': (b'train-test-val.parquet', None),
    'of no split': (b'more.parquet', 'names no split'),
    'that is a pattern': (b'train-[*]?.parquet', None),
    'of a series of 99,999': (b'train-00000-of-99999.parquet', '1 of 99,999 files are there'),
    'of a series that is too short': (b'train-00007-of-00001.parquet', 'is missing'),
}
PATTERNS = {
    'nothing': 'parquet:nothing/*',
    'nothing but stars': 'parquet:*',
    'a column of control characters': 'parquet:label=\x1b[31m',
    'a column that is not there': 'parquet:,label=nothing',
    'ten thousand columns': 'parquet:' + ',label=x' * 10_000,
    'a null': 'parquet:a\0b',
    'the root of all files': 'parquet:/etc/hostname',
    'brackets that do not close': 'parquet:[',
}


def cases():
    def case(name, make, says):
        return Case(f'parquet: {name}', 'prepare', make, says and (says,))

    def source(name, file, says, about=None):
        def make(place):
            (place.source / TRAIN).write_bytes(file() if callable(file) else file)
            (place.source / VALIDATION).write_bytes(content(table(about=about)))
            return {'config': place.prepare_config('parquet')}

        return case(name, make, says)

    def odd(name, put):
        def make(place):
            (place.source / VALIDATION).write_bytes(good())
            put(place.source)
            return {'config': place.prepare_config('parquet')}

        return case(f'the file is {name}', make, '{place}/source')

    def named(name, file, says):
        def make(place):
            with open(os.path.join(os.fsencode(place.source), file), 'wb') as written:
                written.write(good())
            (place.source / VALIDATION).write_bytes(good())
            return {'config': place.prepare_config('parquet')}

        return case(f'a name {name}', make, says)

    def pattern(name, given):
        def make(place):
            (place.source / TRAIN).write_bytes(good())
            (place.source / 'README.md').write_text('of the data set')
            return {'config': place.prepare_config(given)}

        return case(f'files of {name}', make, '')

    for name, file in FILES.items():
        yield source(name, file, SAYS.get(name, TRAIN))
    for name, file in FINE.items():
        yield source(name, file, None, about=b'')
    for name, put in odd_files(TRAIN).items():
        yield odd(name, put)
    for name, (file, says) in FILE_NAMES.items():
        yield named(name, file, says)
    for name, given in PATTERNS.items():
        yield pattern(name, given)
    for seed in range(12):
        yield dataclasses.replace(
            source(f'bits flipped, {seed}', functools.partial(with_bits_flipped, seed), 'train'), either=True
        )


def with_bits_flipped(seed):
    return flipped(good(), seed, *((4, 700) if seed < 6 else (len(good()) - 900, len(good()) - 8)))
