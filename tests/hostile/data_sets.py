"""Prepared data sets that lie."""

import io
import os
import shutil
import struct

import numpy as np

from hostile.ground import GOOD, NOT_JSON, PICKLE, SIZE, Case, Place, at, odd_files
from hostile.pictures import CMYK, JPEG, at_marker, encoded, flipped, made, many_scans, patched

INF, NAN = float('inf'), float('nan')
SHARD, RAW_SHARD = 'validation-00000.array_record', 'validation-00000.raw'
# Of the manifest.
EXAMPLES = (10**9, 2**70, 5, 7, 0, -6, 6.5, '6', None, [6], {}, NAN, INF)
TRAINING_EXAMPLES = (10**9, 2**70, -12, 6.5, '6')
OUTSIDE = ('../outside/shard', '{where}/outside/shard', './../data/../outside/shard')
FILES = ('/dev/zero', '/etc/passwd', '', '.', 'not-there', 'a\0b', 'x' * 5000, 5, None, ['a'], '\x1b[31m')
IMAGE_SIZES = (0, -1, 10**9, 16.5, '16', None, [16], INF, 17, 2**70)
SETTINGS = (
    *(('storage', value) for value in ('raw', 'zip', 5)),
    *(('source', value) for value in (None, '\x1b[2J')),
    *(('quality', 'x'), ('source', KeyError), ('storage', KeyError)),
)
FIELDS = {
    'settings': ([], None, 'x'),
    'format': ('2', None, 99, [2]),
    'class_names': (
        *(None, 5, 'ant', [], [1, 2, 3], [['a'], ['b'], ['c']], {'a': 1, 'b': 2, 'c': 3}),
        [f'class {i}' for i in range(200_000)],
    ),
    'class_ids': (None, [None] * 3, ['ant']),
    'shards': (
        *([], None, {}, {'train': []}, {'train': {}, 'validation': {}}),
        {'train': [5], 'validation': [5]},
    ),
    'rgb_mean': (KeyError,),
    'more': (5,),
    'directory': ('/etc',),
    '__class__': (5,),
    'self': (5,),
}
COLORS = (None, 'x', [], 5, [[1, 2], [3, 4]], *([[value] * 3] * 3 for value in (NAN, INF, 'a', 1e308)), [[[1]]] * 3)


def npy(shape, kind="'<f4'", content=b'', order='False', version=1):
    text = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    length = struct.pack('<H' if version == 1 else '<I', len(text) + 1)
    return b'\x93NUMPY' + bytes([version, 0]) + length + text + b'\n' + content


def archive():
    written = io.BytesIO()
    np.savez(written, np.zeros(3))
    return written.getvalue()


SHAPE, WHOLE = (SIZE, SIZE, 3), bytes(SIZE * SIZE * 3 * 4)
MEAN_IMAGES = {
    'empty': b'',
    'garbage': b'garbage' * 99,
    'a pickle': PICKLE,
    'objects that are a pickle': npy('(1,)', "'|O'", PICKLE),
    'objects in a structure': npy('(1,)', "[('a', '|O')]", PICKLE),
    'cut': npy(SHAPE, content=WHOLE[:100]),
    'an archive': archive(),
    'of another size': npy((9, 9, 3), content=bytes(972)),
    'that claims 10**12 values': npy((10**6, 10**6, 1), content=WHOLE),
    'that claims 2**70 values': npy((2**35, 2**35), content=WHOLE),
    'of negative size': npy((-SIZE, -SIZE, 3), content=WHOLE),
    'of texts': npy(SHAPE, "'<U1'", WHOLE),
    'of times': npy(SHAPE, "'<M8[s]'", WHOLE * 2),
    'of complex numbers': npy(SHAPE, "'<c8'", WHOLE * 2),
    'of infinities': npy(SHAPE, content=np.full(SIZE * SIZE * 3, np.inf, '<f4').tobytes()),
    'of what is no number': npy(SHAPE, content=np.full(SIZE * SIZE * 3, np.nan, '<f4').tobytes()),
    'with code in its header': npy("__import__('os').system('touch ../outside/written')", content=WHOLE),
    'with a header nested deep': npy('(' * 9000 + ')' * 9000, content=WHOLE),
    'with a header that claims 4 GB': b'\x93NUMPY\2\0\xff\xff\xff\xff' + WHOLE,
    'of an unknown version': b'\x93NUMPY\x09\0' + WHOLE,
    'with an unknown type': npy(SHAPE, "'<q99'", WHOLE),
}
SHARDS = {
    'empty': lambda content: b'',
    'cut at 1': lambda content: content[:1],
    'cut at 5,000': lambda content: content[:5000],
    'cut in half': lambda content: content[: len(content) // 2],
    'one byte short': lambda content: content[:-1],
    'zeros': lambda content: bytes(len(content)),
    'garbage': lambda content: np.random.default_rng(0).bytes(len(content)),
    'a pickle': lambda content: PICKLE,
    'backwards': lambda content: content[::-1],
    'a text': lambda content: b'text' * 999,
}
RAW_SHARDS = {
    'empty': lambda content: b'',
    'a byte short': lambda content: content[:-1],
    'a record short': lambda content: content[:-772],
    'a record too long': lambda content: content + content[:772],
    'of class 3': lambda content: patched(content, 0, b'\3\0\0\0'),
    'of class 2**32 - 1': lambda content: patched(content, 772, b'\xff' * 4),
}
NAMES_OF_RAW = {
    'empty': lambda path: path.write_bytes(b''),
    'not there': os.remove,
    'not text': lambda path: path.write_bytes(b'\xff\n' * 6),
    'too few': lambda path: path.write_bytes(b'a\n' * 3),
    'a folder': lambda path: (path.unlink(), path.mkdir()),
    'a pipe': lambda path: (path.unlink(), os.mkfifo(path)),
}
SMALL = encoded('JPEG', height=SIZE, width=SIZE)
HUGE = patched(SMALL, at_marker(SMALL, 0xC0) + 5, struct.pack('>HH', 60000, 60000))


def record(image, label=0, name=b'a', length=None):
    return struct.pack('<IH', label, len(name) if length is None else length) + name + image


RECORDS = {
    'empty': b'',
    'too short': b'\0\0\0',
    'without an image': record(b''),
    'with a name beyond its end': record(SMALL, length=65535),
    'with a name that is no text': record(SMALL, name=b'\xff\xfe'),
    'of class 3': record(SMALL, label=3),
    'of class 2**32 - 1': record(SMALL, label=2**32 - 1),
    'with a JPEG that is cut': record(SMALL[:200]),
    'with a JPEG cut in its pixels': record(SMALL[:-200]),
    'with a PNG': record(GOOD),
    'with a text': record(b'text'),
    'with a larger JPEG': record(JPEG),
    'with a JPEG that claims 60,000 x 60,000': record(HUGE),
    'with a JPEG of 20,000 scans': lambda: record(many_scans(8000, 20000)),
    'with a CMYK JPEG': record(CMYK),
}


def outside(name):
    """A shard that lies there."""

    def damage(where):
        shutil.copy(where / SHARD, where.parent / 'outside' / 'shard')
        Place.edit(where / 'manifest.json', at('shards', 'validation', 0, 'file')(name.format(where=where.parent)))

    return damage


def written(path, change):
    """A file with other content, or with what its own becomes."""

    def damage(where):
        (where / path).write_bytes(change((where / path).read_bytes()) if callable(change) else change)

    return damage


def bits_flipped(seed):
    def change(content):
        used = len(content.rstrip(b'\0'))
        return flipped(content, seed, seed * 500, seed * 500 + 500 if seed < 6 else used)

    return change


def swapped(where):
    (where / SHARD).rename(where / 'x')
    (where / 'train-00000.array_record').rename(where / SHARD)
    (where / 'x').rename(where / 'train-00000.array_record')


def with_records(content):
    def damage(where):
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(str(where / SHARD), 'group_size:1,uncompressed')
        for _ in range(6):
            writer.write(made(content))
        writer.close()

    return damage


def remembered(content):
    def make(place):
        (place.copy_run() / 'data_set' / 'mean_image.npy').write_bytes(content)
        (place.images / 'x.png').write_bytes(GOOD)
        return {'images': [str(place.images)]}

    return make


def cases():
    def data_set(name, damage, says='{place}/data', mode='eval', kind='jpeg', either=False, **more):
        def make(place):
            damage(place.copy_data(kind))
            config = place.config(data__storage=kind)
            if mode != 'train':
                place.copy_run()
            return {'config': config, **more}

        return Case(f'data set: {name}', mode, make, (says,), either)

    def manifest(name, change, **more):
        return data_set(name, lambda where: Place.edit(where / 'manifest.json', change), **more)

    for name, content in NOT_JSON.items():
        yield data_set(f'manifest {name}', written('manifest.json', content))
    for name, put in odd_files('manifest.json').items():
        yield data_set(f'manifest is {name}', put)
    for value in EXAMPLES:
        yield manifest(f'{value!r} examples', at('shards', 'validation', 0, 'examples')(value))
    for value in TRAINING_EXAMPLES:
        change = at('shards', 'train', 1, 'examples')(value)
        yield manifest(f'{value!r} examples for training', change, mode='train')
    for name in OUTSIDE:
        yield data_set(f'a shard that lies outside, {name}', outside(name))
    for value in FILES:
        yield manifest(f'a shard named {value!r:.20}', at('shards', 'validation', 0, 'file')(value))
    for value in IMAGE_SIZES:
        yield manifest(f'images of size {value!r}', at('settings', 'image_size')(value))
    for field, value in SETTINGS:
        yield manifest(f'settings with {field} {value!r}', at('settings', field)(value))
    for field, values in FIELDS.items():
        for value in values:
            yield manifest(f'manifest with {field} {value!r:.60}', at(field)(value))
    for value in COLORS:
        either = '1e+308' in repr(value)
        yield manifest(f'colors {value!r:.40}', at('rgb_covariance')(value), mode='train', either=either)
    for name, content in MEAN_IMAGES.items():
        if len(name) % 3 == 0:
            damage = written('mean_image.npy', content)
            yield data_set(f'mean image {name}', damage, '{place}/data/mean_image.npy', mode='train')
        says = ('{place}/run/data_set/mean_image.npy',)
        yield Case(f'remembered mean image {name}', 'predict', remembered(content), says)
    for name, put in odd_files('mean_image.npy').items():
        yield data_set(f'mean image is {name}', put, '{place}/data/mean_image.npy', mode='train')
    for name, change in SHARDS.items():
        yield data_set(f'shard {name}', written(SHARD, change), SHARD)
    for name, put in odd_files(SHARD).items():
        yield data_set(f'shard is {name}', put, SHARD)
    for seed in range(8):
        yield data_set(f'shard with bits flipped, {seed}', written(SHARD, bits_flipped(seed)), SHARD, either=True)
    yield data_set('shards swapped', swapped, SHARD, either=True)
    for name, content in RECORDS.items():
        either = name in ('with a JPEG cut in its pixels', 'with a name that is no text')
        yield data_set(f'record {name}', with_records(content), SHARD, either=either)
    for name, change in RAW_SHARDS.items():
        yield data_set(f'raw shard {name}', written(RAW_SHARD, change), RAW_SHARD, kind='raw')
    for name, change in NAMES_OF_RAW.items():
        more = {'mode': 'features', 'kind': 'raw', 'split': 'validation'}
        yield data_set(
            f'names of a raw shard, {name}', lambda where, c=change: c(where / 'validation-00000.names'), **more
        )
