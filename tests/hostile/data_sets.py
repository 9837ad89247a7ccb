"""Prepared data sets that lie."""

import io
import os
import shutil
import struct

import numpy as np
from made_imagenet import picture

from hostile.ground import GOOD, SIZE, Place, case
from hostile.pictures import CMYK, JPEG, PICKLE, at_marker, encoded, flipped, made, many_scans, patched

NESTED = b'[' * 100_000
NOT_JSON = {
    'empty': b'',
    'a word': b'nonsense',
    'cut': b'{"format": 2, "settings": {"source": ',
    'a list': b'[1, 2]',
    'a number': b'3',
    'a text': b'"format"',
    'null': b'null',
    'an empty object': b'{}',
    'not UTF-8': b'{"\xff\xfe\x80": 2}',
    'nested 100,000 lists deep': NESTED,
    'nested 100,000 objects deep': b'{"a":' * 100_000,
    'a number of 10,000 digits': b'{"format": ' + b'9' * 10_000 + b'}',
    'zeros': bytes(1000),
    'a pickle': PICKLE,
}


def odd_files(path):
    """What may stand where a file is expected: by name, functions that put it there."""

    def fresh(make):
        def put(where):
            file = where / path
            if file.is_dir():
                shutil.rmtree(file)
            elif file.exists():
                file.unlink()
            make(file)

        return put

    def sparse(file):
        with file.open('wb') as written:
            written.truncate(40 << 30)

    return {
        'a folder': fresh(os.mkdir),
        'a pipe': fresh(os.mkfifo),
        'a link to itself': fresh(lambda file: file.symlink_to(file.name)),
        'a link to /dev/zero': fresh(lambda file: file.symlink_to('/dev/zero')),
        'a file of 40 GB': fresh(sparse),
    }


def at(*path):
    """A function that changes a field of nested lists and dicts: at('a', 0, 'b')(5) sets it to 5."""

    def changing(value):
        def change(fields):
            for part in path[:-1]:
                fields = fields[part]
            if value is KeyError:
                del fields[path[-1]]
            else:
                fields[path[-1]] = value

        return change

    return changing


def data_cases():
    def evaluated(damage, kind='jpeg', mode='eval', **more):
        def make(place):
            place.copy_data(kind)
            damage(place.data)
            config = place.config(data__storage=kind)
            if mode != 'train':
                place.copy_run()
            return {'config': config, **more}

        return make

    def manifest(change):
        return lambda where: Place.edit(where / 'manifest.json', change)

    def data_case(name, damage, says='{place}/data', mode='eval', kind='jpeg', either=False, **more):
        case(f'data set: {name}', mode, evaluated(damage, kind, mode, **more), says, either=either)

    for name, content in NOT_JSON.items():
        data_case(f'manifest {name}', lambda where, c=content: (where / 'manifest.json').write_bytes(c))
    for name, put in odd_files('manifest.json').items():
        data_case(f'manifest is {name}', put)
    examples, file = at('shards', 'validation', 0, 'examples'), at('shards', 'validation', 0, 'file')
    for value in (10**9, 2**70, 5, 7, 0, -6, 6.5, '6', None, [6], {}, float('nan'), float('inf')):
        data_case(f'{value!r} examples', manifest(examples(value)))
    for value in (10**9, 2**70, -12, 6.5, '6'):
        data_case(
            f'{value!r} examples for training', manifest(at('shards', 'train', 1, 'examples')(value)), mode='train'
        )

    def outside(where, name):
        shutil.copy(where / 'validation-00000.array_record', where.parent / 'outside' / 'shard')
        Place.edit(where / 'manifest.json', file(name.format(where=where.parent)))

    for name in ('../outside/shard', '{where}/outside/shard', './../data/../outside/shard'):
        data_case(f'a shard that lies outside, {name}', lambda where, n=name: outside(where, n))
    for value in ('/dev/zero', '/etc/passwd', '', '.', 'not-there', 'a\0b', 'x' * 5000, 5, None, ['a'], '\x1b[31m'):
        data_case(f'a shard named {value!r:.20}', manifest(file(value)))
    for value in (0, -1, 10**9, 16.5, '16', None, [16], float('inf'), 17, 2**70):
        data_case(f'images of size {value!r}', manifest(at('settings', 'image_size')(value)))
    for field, value in (
        ('storage', 'raw'),
        ('storage', 'zip'),
        ('storage', 5),
        ('source', None),
        ('source', '\x1b[2J'),
        ('quality', 'x'),
        ('source', KeyError),
        ('storage', KeyError),
    ):
        data_case(f'settings with {field} {value!r}', manifest(at('settings', field)(value)))
    for field, value in (
        ('settings', []),
        ('settings', None),
        ('settings', 'x'),
        ('format', '2'),
        ('format', None),
        ('format', 99),
        ('format', [2]),
        ('class_names', None),
        ('class_names', 5),
        ('class_names', 'ant'),
        ('class_names', []),
        ('class_names', [1, 2, 3]),
        ('class_names', [['a'], ['b'], ['c']]),
        ('class_names', {'a': 1, 'b': 2, 'c': 3}),
        ('class_names', [f'class {i}' for i in range(200_000)]),
        ('class_ids', None),
        ('class_ids', [None] * 3),
        ('class_ids', ['ant']),
        ('shards', []),
        ('shards', None),
        ('shards', {}),
        ('shards', {'train': []}),
        ('shards', {'train': {}, 'validation': {}}),
        ('shards', {'train': [5], 'validation': [5]}),
        ('rgb_mean', KeyError),
        ('more', 5),
        ('directory', '/etc'),
        ('__class__', 5),
        ('self', 5),
    ):
        data_case(f'manifest with {field} {value!r:.60}', manifest(at(field)(value)))
    for value in (
        None,
        'x',
        [],
        5,
        [[1, 2], [3, 4]],
        [[float('nan')] * 3] * 3,
        [[float('inf')] * 3] * 3,
        [['a'] * 3] * 3,
        [[1e308] * 3] * 3,
        [[[1]]] * 3,
    ):
        either = '1e+308' in repr(value)
        data_case(f'colors {value!r:.40}', manifest(at('rgb_covariance')(value)), mode='train', either=either)

    def npy(shape, kind="'<f4'", content=b'', order='False', version=1):
        text = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
        length = struct.pack('<H' if version == 1 else '<I', len(text) + 1)
        return b'\x93NUMPY' + bytes([version, 0]) + length + text + b'\n' + content

    whole = bytes(SIZE * SIZE * 3 * 4)
    archive = io.BytesIO()
    np.savez(archive, np.zeros(3))
    for name, content in {
        'empty': b'',
        'garbage': b'garbage' * 99,
        'a pickle': PICKLE,
        'objects that are a pickle': npy('(1,)', "'|O'", PICKLE),
        'objects in a structure': npy('(1,)', "[('a', '|O')]", PICKLE),
        'cut': npy((SIZE, SIZE, 3), content=whole[:100]),
        'an archive': archive.getvalue(),
        'of another size': npy((9, 9, 3), content=bytes(972)),
        'that claims 10**12 values': npy((10**6, 10**6, 1), content=whole),
        'that claims 2**70 values': npy((2**35, 2**35), content=whole),
        'of negative size': npy((-SIZE, -SIZE, 3), content=whole),
        'of texts': npy((SIZE, SIZE, 3), "'<U1'", whole),
        'of times': npy((SIZE, SIZE, 3), "'<M8[s]'", whole * 2),
        'of complex numbers': npy((SIZE, SIZE, 3), "'<c8'", whole * 2),
        'of infinities': npy((SIZE, SIZE, 3), content=np.full(SIZE * SIZE * 3, np.inf, '<f4').tobytes()),
        'of what is no number': npy((SIZE, SIZE, 3), content=np.full(SIZE * SIZE * 3, np.nan, '<f4').tobytes()),
        'with code in its header': npy("__import__('os').system('touch ../outside/written')", content=whole),
        'with a header nested deep': npy('(' * 9000 + ')' * 9000, content=whole),
        'with a header that claims 4 GB': b'\x93NUMPY\2\0\xff\xff\xff\xff' + whole,
        'of an unknown version': b'\x93NUMPY\x09\0' + whole,
        'with an unknown type': npy((SIZE, SIZE, 3), "'<q99'", whole),
    }.items():

        def damage(where, content=content):
            (where / 'mean_image.npy').write_bytes(content)

        if len(name) % 3 == 0:
            data_case(f'mean image {name}', damage, '{place}/data/mean_image.npy', mode='train')

        def remembered(place, content=content):
            (place.copy_run() / 'data_set' / 'mean_image.npy').write_bytes(content)
            (place.images / 'x.png').write_bytes(GOOD)
            return {'images': [str(place.images)]}

        case(f'remembered mean image {name}', 'predict', remembered, '{place}/run/data_set/mean_image.npy')
    for name, put in odd_files('mean_image.npy').items():
        data_case(f'mean image is {name}', put, '{place}/data/mean_image.npy', mode='train')

    shard = 'validation-00000.array_record'
    for name, change in {
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
    }.items():

        def damage(where, change=change):
            (where / shard).write_bytes(change((where / shard).read_bytes()))

        data_case(f'shard {name}', damage, shard)
    for name, put in odd_files(shard).items():
        data_case(f'shard is {name}', put, shard)
    for seed in range(8):

        def damage(where, seed=seed):
            content = (where / shard).read_bytes()
            used = len(content.rstrip(b'\0'))
            (where / shard).write_bytes(flipped(content, seed, seed * 500, seed * 500 + 500 if seed < 6 else used))

        data_case(f'shard with bits flipped, {seed}', damage, shard, either=True)

    def swapped(where):
        one, other = where / shard, where / 'train-00000.array_record'
        one.rename(where / 'x')
        other.rename(one)
        (where / 'x').rename(other)

    data_case('shards swapped', swapped, shard, either=True)
    small = picture(0, 0, SIZE)
    small = encoded('JPEG', height=SIZE, width=SIZE)
    claims = patched(small, at_marker(small, 0xC0) + 5, struct.pack('>HH', 60000, 60000))
    for name, record in {
        'empty': b'',
        'too short': b'\0\0\0',
        'without an image': struct.pack('<IH', 0, 1) + b'a',
        'with a name beyond its end': struct.pack('<IH', 0, 65535) + b'a' + small,
        'with a name that is no text': struct.pack('<IH', 0, 2) + b'\xff\xfe' + small,
        'of class 3': struct.pack('<IH', 3, 1) + b'a' + small,
        'of class 2**32 - 1': struct.pack('<IH', 2**32 - 1, 1) + b'a' + small,
        'with a JPEG that is cut': struct.pack('<IH', 0, 1) + b'a' + small[:200],
        'with a JPEG cut in its pixels': struct.pack('<IH', 0, 1) + b'a' + small[:-200],
        'with a PNG': struct.pack('<IH', 0, 1) + b'a' + GOOD,
        'with a text': struct.pack('<IH', 0, 1) + b'a' + b'text',
        'with a larger JPEG': struct.pack('<IH', 0, 1) + b'a' + JPEG,
        'with a JPEG that claims 60,000 x 60,000': struct.pack('<IH', 0, 1) + b'a' + claims,
        'with a JPEG of 20,000 scans': lambda: struct.pack('<IH', 0, 1) + b'a' + many_scans(8000, 20000),
        'with a CMYK JPEG': struct.pack('<IH', 0, 1) + b'a' + CMYK,
    }.items():

        def damage(where, record=record):
            from array_record.python.array_record_module import ArrayRecordWriter

            writer = ArrayRecordWriter(str(where / shard), 'group_size:1,uncompressed')
            for _ in range(6):
                writer.write(made(record))
            writer.close()

        either = name in ('with a JPEG cut in its pixels', 'with a name that is no text')
        data_case(f'record {name}', damage, shard, either=either)
    raw = 'validation-00000.raw'
    for name, change in {
        'empty': lambda content: b'',
        'a byte short': lambda content: content[:-1],
        'a record short': lambda content: content[:-772],
        'a record too long': lambda content: content + content[:772],
        'of class 3': lambda content: patched(content, 0, b'\3\0\0\0'),
        'of class 2**32 - 1': lambda content: patched(content, 772, b'\xff' * 4),
    }.items():

        def damage(where, change=change):
            (where / raw).write_bytes(change((where / raw).read_bytes()))

        data_case(f'raw shard {name}', damage, raw, kind='raw')
    for name, change in {
        'empty': lambda path: path.write_bytes(b''),
        'not there': os.remove,
        'not text': lambda path: path.write_bytes(b'\xff\n' * 6),
        'too few': lambda path: path.write_bytes(b'a\n' * 3),
        'a folder': lambda path: (path.unlink(), path.mkdir()),
        'a pipe': lambda path: (path.unlink(), os.mkfifo(path)),
    }.items():
        data_case(
            f'names of a raw shard, {name}',
            lambda where, c=change: c(where / 'validation-00000.names'),
            '{place}/data',
            mode='features',
            kind='raw',
            split='validation',
        )
