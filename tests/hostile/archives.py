"""Hostile archives of published data sets: CIFAR's, MNIST's, Tiny ImageNet's, Imagenette's, and ImageNet's folders."""

import functools
import gzip
import io
import pickle
import struct
import warnings
import zipfile
import zlib

import numpy as np
from made_archives import (
    SYNSETS,
    cifar10_files,
    idx,
    idx_files,
    imagenette_files,
    tgz_of,
    tiny_imagenet_files,
    write_folder,
    zip_of,
)
from made_imagenet import picture, tar_of

from hostile.ground import GOOD, PICKLE, Case, odd_files
from hostile.pictures import JPEG, flipped
from hostile.tars import bomb, header, in_base_256, in_blocks, member, pax

CIFAR, BINARY = 'cifar-10-binary.tar.gz', 'cifar-10-batches-bin/'
PYTHON = 'cifar-10-batches-py/'
TINY, IN_TINY = 'tiny-imagenet-200.zip', 'tiny-imagenet-200/'
NETTE, IN_NETTE = 'imagenette2-160.tgz', 'imagenette2-160/'
BATCH = BINARY + 'data_batch_1.bin'


@functools.cache
def cifar():
    return cifar10_files('bin', per_file=2)[0]


@functools.cache
def python():
    return cifar10_files('py', per_file=2)[0]


@functools.cache
def tiny():
    return tiny_imagenet_files(per_class=2, validation=3)[0]


@functools.cache
def nette():
    return imagenette_files('imagenette2-160', per_class=2, validation=1)[0]


def changed(files, **changes):
    """The files with others in their place: `changes` by parts of paths, `__` for a dot; None for none."""
    found = dict(files())
    for part, content in changes.items():
        paths = [path for path in found if part.replace('__', '.') in path]
        assert paths, part
        for path in paths:
            found.pop(path)
            if content is not None:
                found[path] = content
    return found


def tar_with(files, *members):
    """The files in a gzipped tar, and before them members as they are."""
    return gzip.compress(b''.join(members) + tar_of(files()), 1)


# What any gzipped tar may be; functions of its content.
GZIPPED = {
    'empty': lambda content: b'',
    'a word': lambda content: b'gzip',
    'garbage': lambda content: b'garbage' * 999,
    'zeros': lambda content: bytes(9999),
    'a web page': lambda content: b'<html>please log in</html>' * 99,
    'a zip': lambda content: zip_of({'a': b'x'}),
    'a tar': gzip.decompress,
    'gzipped twice': gzip.compress,
    'a picture': lambda content: gzip.compress(JPEG),
    'a pickle': lambda content: PICKLE,
    'its header': lambda content: content[:10],
    'cut at once': lambda content: content[:60],
    'cut in half': lambda content: content[: len(content) // 2],
    'cut in its checksum': lambda content: content[:-3],
    'a wrong checksum': lambda content: content[:-8] + b'\1\2\3\4' + content[-4:],
    'a wrong length': lambda content: content[:-4] + b'\1\2\3\4',
    'with garbage behind it': lambda content: content + b'garbage' * 99,
    'without the end of a tar': lambda content: gzip.compress(gzip.decompress(content).rstrip(b'\0')),
    'a bomb of 6 GB': lambda content: bomb() * 60,
    'in an archive': lambda content: tgz_of({CIFAR: content}),
}
# Members before the good ones in CIFAR's tar.
MEMBERS = {
    'a member that climbs': member(b'../../outside/x.bin', b'x'),
    'a member with an absolute name': member(b'/tmp/x.bin', b'x'),
    'a symbolic link': header(BATCH.encode(), kind=b'2', link=b'/etc/passwd'),
    'a hard link': header(BATCH.encode(), kind=b'1', link=b'../outside/secret.txt'),
    'a device': header(BATCH.encode(), kind=b'3'),
    'a pipe': header(BATCH.encode(), kind=b'6'),
    'an unknown kind of member': header(BATCH.encode(), kind=b'Z'),
    'a file twice': member(BATCH.encode(), b'\0' * 3073),
    'a negative size': header(BATCH.encode(), size_field=b'\xff' * 12),
    'a size of 8 GB': header(BATCH.encode(), size_field=b'77777777777\0'),
    'a size of 2**90': header(BATCH.encode(), size_field=b'\x80' + b'\x7f' * 11),
    'a wrong sum': header(BATCH.encode(), 5, total=7) + in_blocks(b'x'),
    'a pax record of 5,000 digits': pax(BATCH.encode(), b'x', size='9' * 5000),
    'a pax record with a name that climbs': pax(BATCH.encode(), b'x', path='../../outside/x'),
    'a sparse file': pax(BATCH.encode(), b'x', GNU__sparse__map='0,-5,x', GNU__sparse__size='9'),
    'a long name of 10 GB': header(b'././@LongLink', kind=b'L', size_field=in_base_256(10 << 30)),
}
HARMLESS_MEMBERS = {
    'a name that is no text': member(b'\xff\xfe', b'x'),
    'a name with escape codes': member(b'\x1b[31m\x07', b'x'),
    'another folder': member(b'other/data_batch_1.bin', b'x'),
    'a hidden file': member(BINARY.encode() + b'._data_batch_1.bin', b'x'),
    'a name in Unicode': pax(b'x', b'x', path='ünïcode/\u202e.bin'),
}
CIFAR_FILES = {
    'a file that is missing': lambda: changed(cifar, data_batch_3=None),
    'a file that is empty': lambda: changed(cifar, data_batch_3=b''),
    'a file that is cut': lambda: changed(cifar, data_batch_3=bytes(3000)),
    'the label 10': lambda: changed(cifar, data_batch_3=b'\x0a' + bytes(3072)),
    'the label 255': lambda: changed(cifar, test_batch=b'\xff' + bytes(3072)),
    'no folder': lambda: {path.rpartition('/')[2] or 'x': content for path, content in cifar().items()},
    'folders in the place of files': lambda: changed(cifar, data_batch_3=None) | {BINARY + 'data_batch_3.bin/x': b'x'},
}


def called(name):
    """Python 2's pickle of the value of a function."""
    return b'\x80\x02c' + name + b'\nU\x15touch outside/written\x85R.'


def doubled(times):
    """A pickle of dicts that hold the one before twice: small, and without end where it is written out."""
    content = b'}q\0'
    for number in range(1, times + 1):
        content = b'}q%c(U\1a%sU\1bh%cu' % (number, content, number - 1)
    return b'\x80\2' + content + b'.'


def of_array(shape, content=b'x' * 99, kind=b'u1', labels=b'](K\0e'):
    """A pickle of a batch with an array of this shape, a pickled tuple."""
    array = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R(K\1' + shape
    array += (
        b'cnumpy\ndtype\nU'
        + bytes([len(kind)])
        + kind
        + b'K\0K\1\x87R(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb'
    )
    array += b'\x89T' + struct.pack('<i', len(content)) + content + b'tb'
    return b'\x80\x02}(U\4data' + array + b'U\6labels' + labels + b'u.'


LARGE = b'J' + struct.pack('<i', 2**31 - 1)
PICKLES = {
    'that runs a program': PICKLE,
    'that calls os.system': called(b'os\nsystem'),
    'that calls posix.system': called(b'posix\nsystem'),
    'that calls eval': called(b'__builtin__\neval'),
    'that imports a file': called(b'here.evil\nrun'),
    'that calls a function of NumPy': called(b'numpy\nfromfile'),
    'of today': pickle.dumps({'data': np.zeros((1, 3072), np.uint8), 'labels': [0]}, protocol=5),
    'of protocol 0': pickle.dumps({'data': 1}, protocol=0),
    'with a persistent id': b'\x80\x02Pabc\n.',
    'of an extension': b'\x80\x02\x82\1.',
    'of nothing': b'\x80\x02.',
    'without an end': b'\x80\x02}q\0',
    'cut': lambda: python()[PYTHON + 'data_batch_1'][:2000],
    'empty': b'',
    'of a list': b'\x80\x02].',
    'of a list in itself': b'\x80\x02]q\0h\0a.',
    'of a dict in itself': b'\x80\x02}q\0U\1ah\0s.',
    'of dicts that double 200 times': doubled(200),
    'of 30 million tuples': lambda: b'\x80\x02)' + b'\x85' * (30 << 20) + b'.',
    'of a million marks': b'\x80\x02' + b'(' * 10**6 + b'.',
    'of a string that claims 2 GB': b'\x80\x02T\xff\xff\xff\x7fabc.',
    'of a string of negative length': b'\x80\x02T\xff\xff\xff\xffabc.',
    'of a memo of 4 billion': b'\x80\x02}r\xff\xff\xff\xff.',
    'with an array that claims 2**62 bytes': of_array(LARGE + LARGE + b'\x86'),
    'with an array of negative size': of_array(b'J\xff\xff\xff\xffM\0\x0c\x86'),
    'with an array of no rows': of_array(b'K\0M\0\x0c\x86', b''),
    'with an array of 2,000 axes': of_array(b'(' + b'K\1' * 2000 + b't'),
    'with an array of objects': of_array(b'K\1M\0\x0c\x86', bytes(3072), b'O8'),
    'with labels of nested lists': of_array(b'K\1M\0\x0c\x86', bytes(3072), labels=b'](](K\0ee'),
    'with labels of text': of_array(b'K\1M\0\x0c\x86', bytes(3072), labels=b'](U\1ae'),
    'with a label of -1': of_array(b'K\1M\0\x0c\x86', bytes(3072), labels=b'](J\xff\xff\xff\xffe'),
    'with a label of 10': of_array(b'K\1M\0\x0c\x86', bytes(3072), labels=b'](K\x0ae'),
    'with too many labels': of_array(b'K\1M\0\x0c\x86', bytes(3072), labels=b'](K\1K\1e'),
}


def zip_with(name, comment=b''):
    """The files in a zip, and one of another name."""
    file = io.BytesIO(zip_of(tiny()))
    with zipfile.ZipFile(file, 'a') as archive, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of a name that is there already
        info = zipfile.ZipInfo(name)
        info.comment = comment
        archive.writestr(info, b'x')
    return file.getvalue()


def entry(change, name=b'val/images/val_0.JPEG'):
    """The zip with the headers of an entry changed, in the table of contents (and before the content)."""

    def altered():
        content, start = bytearray(zip_of(tiny())), 0
        while (place := content.find(name, start)) >= 0:
            for mark, fields in ((b'PK\1\2', 46), (b'PK\3\4', 30)):
                first = place - fields - len(IN_TINY)
                if first >= 0 and content[first : first + 4] == mark:
                    change(content, first, mark == b'PK\1\2')
            start = place + 1
        return bytes(content)

    return altered


def put(values, central, local=None, kind='<I'):
    """Writes a field of the entry's header."""

    def change(content, first, in_table):
        place = central if in_table else local
        if place is not None:
            struct.pack_into(kind, content, first + place, values)

    return change


def altered_end(**fields):
    """The zip with other fields in its end record."""
    content = bytearray(zip_of(tiny()))
    start = content.rindex(b'PK\5\6')
    for name, value in fields.items():
        place, kind = {'entries': (10, '<H'), 'size': (12, '<I'), 'offset': (16, '<I'), 'disk': (4, '<H')}[name]
        struct.pack_into(kind, content, start + place, value)
    return bytes(content)


def picture_of_zeros(size):
    """A picture in the zip that unpacks to so many zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(size)) + packer.flush()
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in changed(tiny, val_0__JPEG=None).items():
            archive.writestr(name, content)
        info = zipfile.ZipInfo(IN_TINY + 'val/images/val_0.JPEG')
        archive.writestr(info, packed)
        info.compress_type, info.file_size, info.CRC = zipfile.ZIP_DEFLATED, size, zlib.crc32(bytes(size))
    content = bytearray(file.getvalue())
    place = content.rindex(b'PK\3\4')
    struct.pack_into('<H', content, place + 8, zipfile.ZIP_DEFLATED)
    return bytes(content)


def repeated(files, path, line, times):
    return changed(files, **{path: line * times})


ZIPS = {
    'empty': b'',
    'garbage': b'garbage' * 999,
    'zeros': bytes(9999),
    'a tar': lambda: tar_of(tiny()),
    'a gzipped tar': lambda: tgz_of(tiny()),
    'a pickle': PICKLE,
    'an empty zip': lambda: zip_of({}),
    'cut in half': lambda: (whole := zip_of(tiny()))[: len(whole) // 2],
    'cut in its table': lambda: zip_of(tiny())[:-500],
    'a byte short': lambda: zip_of(tiny())[:-1],
    'without its beginning': lambda: zip_of(tiny())[500:],
    'in a zip': lambda: zip_of({TINY: zip_of(tiny())}),
    'with a table of 4 GB': lambda: altered_end(size=2**32 - 2),
    'with a table beyond its end': lambda: altered_end(offset=2**32 - 2),
    'with a table of no entries': lambda: altered_end(entries=0, size=0),
    'without its folder': lambda: zip_of({path.removeprefix(IN_TINY) or 'x': one for path, one in tiny().items()}),
    'without wnids.txt': lambda: zip_of(changed(tiny, wnids=None)),
    'without words.txt': lambda: zip_of(changed(tiny, words=None)),
    'without val_annotations.txt': lambda: zip_of(changed(tiny, val_annotations=None)),
    'without a class': lambda: zip_of(changed(tiny, **{f'train/{SYNSETS[0]}': None})),
    'with a file twice': lambda: zip_with(IN_TINY + 'val/images/val_0.JPEG'),
    'with a class that is not listed': lambda: zip_with(IN_TINY + 'train/n99999999/images/x.JPEG'),
    'with a text among the images': lambda: zip_with(IN_TINY + 'val/images/x.txt'),
    'with classes of binary': lambda: zip_of(changed(tiny, wnids=bytes(range(256)))),
    'with words of binary': lambda: zip_of(changed(tiny, words=b'\xff\xfe' * 99)),
    'with annotations of binary': lambda: zip_of(changed(tiny, val_annotations=b'\xff\xfe' * 99)),
    'with annotations of a class that is not there': lambda: zip_of(
        changed(tiny, val_annotations=b'val_0.JPEG\tn00000000\n')
    ),
    'with annotations of a file that is not there': lambda: zip_of(
        changed(tiny, val_annotations=f'../../outside/secret.txt\t{SYNSETS[0]}\n'.encode())
    ),
    'with a million classes': lambda: zip_of(repeated(tiny, 'wnids', b'n00000001\n', 10**6)),
    'with words of 300 MB': lambda: zip_of(changed(tiny, words=bytes(300 << 20))),
    'an image of 300 MB of zeros': lambda: picture_of_zeros(300 << 20),
    'encrypted': entry(put(1, 8, 6, '<H')),
    'of an unknown method': entry(put(77, 10, 8, '<H')),
    'that claims bzip2': entry(put(12, 10, 8, '<H')),
    'that claims lzma': entry(put(14, 10, 8, '<H')),
    'that claims deflate64': entry(put(9, 10, 8, '<H')),
    'that claims zstd': entry(put(93, 10, 8, '<H')),
    'that claims not to be packed': entry(put(0, 10, 8, '<H')),
    'of a later version': entry(put(999, 6, 4, '<H')),
    'a file that claims 4 GB': entry(put(2**32 - 2, 24, 22)),
    'a file that claims no bytes': entry(put(0, 24, 22)),
    'a file with a wrong checksum': entry(put(1, 16, 14)),
    'a file that begins at the end': entry(put(2**31, 42)),
    'a file that begins in another': entry(put(60, 42)),
}
FINE_ZIPS = {
    'with a name that climbs': lambda: zip_with('../../outside/x'),
    'with an absolute name': lambda: zip_with('/tmp/x'),
    'with a name in Unicode': lambda: zip_with('ünïcode/\u202e.JPEG'),
    'with names of Windows': lambda: zip_with('C:\\x\\..\\y'),
    'with a name of escape codes': lambda: zip_with('\x1b[31m/\x07'),
    'of many disks': lambda: altered_end(disk=7),
    'with a comment of 60,000 bytes': lambda: zip_with('x', b'c' * 60_000),
    'with what macOS adds': lambda: zip_with('__MACOSX/' + IN_TINY + 'train/._x'),
    'with words of escape codes': lambda: zip_of(
        changed(tiny, words=''.join(f'{synset}\t\x1b[31m{n}\x07\n' for n, synset in enumerate(SYNSETS)).encode())
    ),
}
# Pictures of the zip that are none: they are listed.
BROKEN_ZIPS = {
    'an image that is a link': lambda: zip_of(changed(tiny, val_0__JPEG=b'/etc/passwd')),
    'an image that is empty': lambda: zip_of(changed(tiny, val_0__JPEG=b'')),
    'an image that is a pickle': lambda: zip_of(changed(tiny, val_0__JPEG=PICKLE)),
    'an image of 200 MB of zeros': lambda: picture_of_zeros(200 << 20),
    'an image that is a zip': lambda: zip_of(changed(tiny, val_0__JPEG=zip_of({'a': b'x'}))),
}
IMAGES, LABELS = 'train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz'


def idx_header(*shape, kind=8, axes=None, content=b''):
    return struct.pack(f'>HBB{len(shape)}I', 0, kind, axes or len(shape), *shape) + content


# Of MNIST: the file, and what it becomes; functions give the whole file, else it is gzipped.
IDX = {
    'images empty': (IMAGES, lambda: b''),
    'images garbage': (IMAGES, lambda: b'garbage' * 99),
    'images not gzipped': (IMAGES, lambda: idx(np.zeros((12, 28, 28), np.uint8))),
    'images a bomb of 6 GB': (IMAGES, lambda: bomb() * 60),
    'images of 15,000 x 1,500': (IMAGES, lambda: gzip.compress(idx(np.zeros((11, 15000, 1500), np.uint8)), 1)),
    'images that claim 2**31 and are a bomb': (IMAGES, lambda: gzip.compress(idx_header(2**31, 28, 28)) + bomb() * 60),
    'images without a header': (IMAGES, b''),
    'images with half a header': (IMAGES, idx_header(12, 28, 28)[:9]),
    'images that are labels': (IMAGES, idx(np.zeros(12, np.uint8))),
    'images that claim 2**31': (IMAGES, idx_header(2**31, 28, 28, content=bytes(9999))),
    'images that claim 2**96 bytes': (IMAGES, idx_header(2**32 - 1, 2**32 - 1, 2**32 - 1, content=bytes(9999))),
    'images of no pixels': (IMAGES, idx_header(12, 0, 28)),
    'no images': (IMAGES, idx_header(0, 28, 28)),
    'images fewer than labels': (IMAGES, idx(np.zeros((11, 28, 28), np.uint8))),
    'images a byte short': (IMAGES, idx(np.zeros((12, 28, 28), np.uint8))[:-1]),
    'images a byte too long': (IMAGES, idx(np.zeros((12, 28, 28), np.uint8)) + b'x'),
    'images of floats': (IMAGES, idx_header(12, 28, 28, kind=13, content=bytes(12 * 28 * 28 * 4))),
    'images of 255 axes': (IMAGES, idx_header(12, 28, 28, axes=255, content=bytes(12 * 28 * 28))),
    'images cut': (IMAGES, lambda: gzip.compress(idx(np.ones((12, 28, 28), np.uint8)))[:40]),
    'labels of 10': (LABELS, idx(np.full(12, 10, np.uint8))),
    'labels of 255': (LABELS, idx(np.full(12, 255, np.uint8))),
    'labels that are images': (LABELS, idx(np.zeros((12, 28, 28), np.uint8))),
    'labels that claim 2**32 - 1': (LABELS, idx_header(2**32 - 1, content=bytes(12))),
    'labels a pickle': (LABELS, lambda: PICKLE),
    'labels of Fashion-MNIST': (LABELS, idx(np.array([9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 1, 1], np.uint8))),
}
NETTES = {
    'without val': lambda: tgz_of(changed(nette, **{'/val/': None})),
    'without train': lambda: tgz_of(changed(nette, **{'/train/': None})),
    'with an unknown class': lambda: tgz_of(nette() | {IN_NETTE + 'train/n99999999/x.JPEG': GOOD}),
    'with a class that climbs': lambda: tar_with(nette, member(IN_NETTE.encode() + b'train/../../x/y.JPEG', JPEG)),
    'with a text among the images': lambda: tgz_of(nette() | {IN_NETTE + 'train/n01440764/x.txt': b'x'}),
    'with a link among the images': lambda: tar_with(
        nette, header(IN_NETTE.encode() + b'train/n01440764/x.JPEG', kind=b'2', link=b'/etc/passwd')
    ),
    'with a validation class without training': lambda: tgz_of(nette() | {IN_NETTE + 'val/n02979186/x.JPEG': GOOD}),
    'with a picture of 2 GB of zeros': lambda: (
        gzip.compress(header(IN_NETTE.encode() + b'train/n01440764/x.JPEG', 2 * 10**9 // 512 * 512))
        + bomb() * 19
        + gzip.compress(bytes(2 * 10**9 // 512 * 512 - 19 * (100 << 20)), 1)
        + gzip.compress(tar_of(nette()), 1)
    ),
}
SOLUTION = 'LOC_val_solution.csv'
SOLUTIONS = {
    'empty': b'',
    'binary': bytes(range(256)) * 9,
    'without a first line': b'ILSVRC2012_val_00000001,n01440764 1 2 3 4\n',
    'of no lines': b'ImageId,PredictionString\n',
    'with a line without a class': b'ImageId,PredictionString\nILSVRC2012_val_00000001,\n',
    'with a line of three columns': b'ImageId,PredictionString\na,b,c\n',
    'with a quote that does not close': b'ImageId,PredictionString\n"ILSVRC2012_val_00000001,' + b'x' * 200_000,
    'with a class that is not trained': b'ImageId,PredictionString\nILSVRC2012_val_00000001,n99999999 1\n',
    'with nulls': b'ImageId,PredictionString\nILSVRC2012_val_00000001\0,n01440764\0 1\n',
}


def cases():
    def archive(what, source, file, content, says=None, either=False):
        """A source in whose directory there is but this file."""

        def make(place):
            (place.source / file).write_bytes(content() if callable(content) else content)
            return {'config': place.prepare_config(source)}

        words = () if says == '' else (says or file,)
        return Case(what, 'prepare', make, words if says != 'fine' else None, either)

    for name, change in GZIPPED.items():
        yield archive(f'CIFAR: {name}', 'cifar10', CIFAR, lambda c=change: c(tgz_of(cifar())))
    for name, one in MEMBERS.items():
        yield archive(f'CIFAR: {name}', 'cifar10', CIFAR, functools.partial(tar_with, cifar, one))
    for name, one in HARMLESS_MEMBERS.items():
        yield archive(f'CIFAR: {name}', 'cifar10', CIFAR, functools.partial(tar_with, cifar, one), 'fine')
    for name, files in CIFAR_FILES.items():
        yield archive(f'CIFAR: {name}', 'cifar10', CIFAR, lambda f=files: tgz_of(f()))
    for name, content in PICKLES.items():

        def batch(content=content):
            return tgz_of(changed(python, data_batch_1=content() if callable(content) else content))

        yield archive(f'CIFAR, a pickle {name}', 'cifar10', 'cifar-10-python.tar.gz', batch)
    for name, content in ZIPS.items():
        yield archive(f'Tiny ImageNet: {name}', 'tiny_imagenet', TINY, content)
    for name, content in FINE_ZIPS.items():
        yield archive(f'Tiny ImageNet: {name}', 'tiny_imagenet', TINY, content, 'fine')
    for name, content in BROKEN_ZIPS.items():
        yield archive(f'Tiny ImageNet: {name}', 'tiny_imagenet', TINY, content, '1 of 9 images cannot be read')
    content = entry(put(2**32 - 2, 20, 18))
    refused = '_end_offset' in zipfile.ZipInfo.__slots__  # by Python since 3.11.8, 3.12.2 and 3.13, against zip bombs
    says = '1 of 9 images cannot be read' if refused else 'fine'
    yield archive('Tiny ImageNet: with a file that claims to be packed in 4 GB', 'tiny_imagenet', TINY, content, says)
    for seed in range(12):
        change = functools.partial(lambda s: flipped(zip_of(tiny()), s, *ends(s, len(zip_of(tiny())))), seed)
        yield archive(f'Tiny ImageNet: bits flipped, {seed}', 'tiny_imagenet', TINY, change, '', either=True)
    for name, content in NETTES.items():
        yield archive(f'Imagenette: {name}', 'imagenette2-160', NETTE, content)
    for data_set, source, file in (('CIFAR', 'cifar10', CIFAR), ('Tiny ImageNet', 'tiny_imagenet', TINY)):
        for name, odd in odd_files(file).items():

            def make(place, odd=odd, source=source):
                odd(place.source)
                return {'config': place.prepare_config(source)}

            yield Case(f'{data_set}: the archive is {name}', 'prepare', make, ('{place}/source',))
    for name, (file, content) in IDX.items():

        def make_idx(place, file=file, content=content):
            write_folder(place.source, idx_files()[0])
            (place.source / file).write_bytes(content() if callable(content) else gzip.compress(content))
            return {'config': place.prepare_config('mnist')}

        says = '{place}/source' if 'Fashion' in name else file
        yield Case(f'MNIST: {name}', 'prepare', make_idx, (says,))
    for name, content in SOLUTIONS.items():

        def make_folders(place, content=content):
            for synset in ('n01440764', 'n01443537'):
                write_folder(place.source, {f'ILSVRC/Data/CLS-LOC/train/{synset}/{synset}_1.JPEG': picture(1, 1, 16)})
            write_folder(place.source, {'ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG': picture(2, 2, 16)})
            (place.source / SOLUTION).write_bytes(content)
            return {'config': place.prepare_config('imagenet2012')}

        yield Case(f'ImageNet: solutions {name}', 'prepare', make_folders, ('{place}/source',))


def ends(seed, size):
    """Where bits are flipped: in the first content, or in the table."""
    return (0, 3000) if seed < 4 else (size - 2500, size)
