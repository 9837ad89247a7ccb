"""Hostile tars: ImageNet's, and what lies beside them."""

import bz2
import functools
import gzip
import lzma
import os
import shutil
import struct
import tarfile

import numpy as np
from made_imagenet import picture, tar_of, tfds_list

from hostile.ground import PICKLE, SIZE, Case
from hostile.pictures import JPEG, flipped, patched, zeros


def header(name, size=0, kind=b'0', link=b'', size_field=None, prefix=b'', magic=b'ustar  \0', total=None):
    """A header of a tar, its sum right unless `total` is given."""
    size_field = b'%011o\0' % size if size_field is None else size_field
    fields = (name, b'0000644\0', *[b'0000000\0'] * 2, size_field, b'00000000000\0', b' ' * 8, kind, link, magic)
    block = struct.pack('<100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x', *fields, b'', b'', *[b'0000000\0'] * 2, prefix)
    total = sum(block) if total is None else total
    return block[:148] + b'%06o\0 ' % total + block[156:]


def in_blocks(content):
    return content + bytes(-len(content) % 512)


def member(name, content=b'', kind=b'0', **more):
    return header(name, len(content), kind, **more) + in_blocks(content)


def records_of_pax(**fields):
    records = b''
    for name, value in fields.items():
        body = f' {name.replace("__", ".")}={value}\n'.encode()
        size = len(body) + 1
        while len(str(size)) + len(body) != size:
            size += 1
        records += str(size).encode() + body
    return records


def pax(name, content=b'', records=None, **fields):
    return member(b'pax', records or records_of_pax(**fields), b'x') + member(name, content)


def in_base_256(size):
    return b'\x80' + size.to_bytes(11, 'big')


@functools.cache
def first_validation(known=True):
    """The number of the first validation image of a class that is trained, or is not."""
    return next(n for n, synset in enumerate(tfds_list('validation_labels.txt'), 1) if (synset in (ID, OTHER)) == known)


END = bytes(1024)
ID, OTHER = tfds_list('labels.txt')[:2]
ONE, TWO, IMAGE = f'{ID}.tar'.encode(), f'{OTHER}.tar'.encode(), f'{ID}_1.JPEG'.encode()
GOOD_TAR = tar_of({f'{ID}_1.JPEG': picture(0, 0, SIZE)})
BIG, NEGATIVE = in_base_256(10 << 30), b'\xff' * 12
TRAIN, VALIDATION = 'ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'
TRAIN_2010 = 'ILSVRC2010_images_train.tar'
META, TRUTH = 'devkit-1.0/data/meta.mat', 'devkit-1.0/data/ILSVRC2010_validation_ground_truth.txt'


def sparse(**fields):
    return {f'GNU__sparse__{name}': value for name, value in fields.items()}


# What the tar of training images holds.
MEMBERS = {
    'a member that climbs': member(b'../../outside/x.tar', GOOD_TAR),
    'a member with an absolute name': member(b'/tmp/x.tar', GOOD_TAR),
    'a member whose prefix climbs': member(ONE, GOOD_TAR, magic=b'ustar\x0000', prefix=b'../..'),
    'a symbolic link': header(ONE, kind=b'2', link=b'/etc/passwd'),
    'a hard link': header(ONE, kind=b'1', link=b'../outside/secret.txt'),
    'a device': header(ONE, kind=b'3'),
    'a block device': header(ONE, kind=b'4'),
    'a pipe': header(ONE, kind=b'6'),
    'an unknown kind of member': header(ONE, kind=b'Z'),
    'a member without a name': member(b'', GOOD_TAR),
    'a name that is no text': member(b'\xff\xfe.tar', GOOD_TAR),
    'a name with escape codes': member(b'\x1b[31m\x07.tar', GOOD_TAR),
    'a name of two lines': member(b'a\nb.tar', GOOD_TAR),
    'a member twice': member(ONE, GOOD_TAR) * 2,
    'an unknown class': member(b'n99999999.tar', GOOD_TAR),
    'a picture where tars belong': member(IMAGE, JPEG),
    'a negative size': header(ONE, size_field=NEGATIVE) + GOOD_TAR,
    'a size of letters': header(ONE, size_field=b'abcdefghijk\0') + GOOD_TAR,
    'a size of 8 GB': header(ONE, size_field=b'77777777777\0') + GOOD_TAR,
    'a size of 10 GB': header(ONE, size_field=BIG) + GOOD_TAR,
    'a size of 2**90': header(ONE, size_field=b'\x80' + b'\x7f' * 11) + GOOD_TAR,
    'a wrong sum': header(ONE, len(GOOD_TAR), total=7) + GOOD_TAR,
    'an inner tar that is empty': member(ONE) + member(TWO, GOOD_TAR),
    'an inner tar of garbage': member(ONE, b'garbage' * 999),
    'an inner tar of zeros': member(ONE, bytes(99999)),
    'an inner tar that is cut': member(ONE, GOOD_TAR[:700]),
    'an inner tar with a name that climbs': member(ONE, member(b'../' + IMAGE, JPEG) + END),
    'an inner tar with a link': member(ONE, header(IMAGE, kind=b'2', link=b'/etc/passwd') + END),
    'an inner tar with a member twice': member(ONE, member(IMAGE, JPEG) * 2 + END),
    'an inner tar with a picture of no bytes': member(ONE, member(IMAGE) + END),
    'an inner tar with a picture of another class': member(ONE, member(f'{OTHER}_1.JPEG'.encode(), JPEG) + END),
    'an inner tar with a picture beyond its end': member(ONE, header(IMAGE, 10**6) + JPEG + END),
    'an inner tar with a picture of 10 GB': member(ONE, header(IMAGE, size_field=BIG) + JPEG + END),
    'an inner tar with a picture of a name too long': member(ONE, member(b'n' * 90, JPEG) + END),
    'a tar in a tar in a tar': member(ONE, member(ONE, GOOD_TAR) + END),
    'a pax record with a size of -1': pax(ONE, GOOD_TAR, size='-1'),
    'a pax record with a size of letters': pax(ONE, GOOD_TAR, size='abc'),
    'a pax record with a size of 10 GB': pax(ONE, GOOD_TAR, size=str(10 << 30)),
    'a pax record with a size of 5,000 digits': pax(ONE, GOOD_TAR, size='9' * 5000),
    'a pax record with a name that climbs': pax(ONE, GOOD_TAR, path='../../outside/x'),
    'a pax record with a name that is absolute': pax(ONE, GOOD_TAR, path='/tmp/x'),
    'a pax record with a null in the name': pax(ONE, GOOD_TAR, path='a\0b'),
    'a pax record with a silly sparse map': pax(ONE, GOOD_TAR, **sparse(map='0,-5,x', size='9')),
    'a pax record of a sparse file 1.0': pax(ONE, GOOD_TAR, **sparse(major='1', minor='0', realsize=str(10 << 30))),
    'a pax record of a sparse file with a billion parts': pax(
        ONE, in_blocks(b'1000000000\n'), **sparse(major='1', minor='0', realsize='9')
    ),
    'a pax record without a length': pax(b'x', GOOD_TAR, records=b' path=x\n'),
    'a pax record of length 0': pax(ONE, GOOD_TAR, records=b'0 path=x\n'),
    'a pax record of a length of 5,000 digits': pax(ONE, GOOD_TAR, records=b'9' * 5000 + b' path=x\n'),
    'a pax record with an unknown encoding': pax(b'x', GOOD_TAR, hdrcharset='evil'),
    'a time of pax that is infinite': pax(ONE, GOOD_TAR, mtime='inf') + member(b'x', b''),
    'a pax record and nothing after it': member(b'pax', records_of_pax(path='x'), b'x'),
    'a thousand pax records one after the other': (
        member(b'pax', records_of_pax(path='x'), b'x') * 2000 + member(ONE, GOOD_TAR)
    ),
    'a thousand long names one after the other': member(b'././@LongLink', b'x\0', b'L') * 2000 + member(ONE, GOOD_TAR),
    'a long name of 10 GB': header(b'././@LongLink', kind=b'L', size_field=BIG) + GOOD_TAR,
    'an old sparse file of nonsense': header(ONE, len(GOOD_TAR), b'S') + GOOD_TAR,
    'a multi-volume member': header(ONE, len(GOOD_TAR), b'M') + GOOD_TAR,
}
# Its beginning, and how large it is.
LARGE = {
    'a long name of 3 GB in a file of 4 GB': (
        header(b'././@LongLink', kind=b'L', size_field=in_base_256(3 << 30)),
        4 << 30,
    ),
    'a pax record of 3 GB in a file of 4 GB': (header(b'pax', kind=b'x', size_field=in_base_256(3 << 30)), 4 << 30),
    'an inner tar of 30 GB of zeros': (header(ONE, size_field=in_base_256(30 << 30)), 40 << 30),
    'nothing but 40 GB of zeros': (b'', 40 << 30),
}
# What the tars of training and of validation images become.
FILES = {
    'empty': b'',
    'text': b'404 Not Found',
    'one byte short of a header': lambda content: content[:511],
    'a header alone': lambda content: content[:512],
    'cut in its first member': lambda content: content[:2000],
    'cut before its end': lambda content: content.rstrip(b'\0'),
    'gzip': gzip.compress,
    'bzip2': bz2.compress,
    'xz': lzma.compress,
    'zip': lambda content: b'PK\3\4' + content[4:],
    'backwards': lambda content: content[::-1],
    'with garbage in front': lambda content: b'x' * 512 + content,
    'a web page': b'<html>please log in</html>' * 100,
}
ALIKE = (('zip', VALIDATION), ('xz', TRAIN), ('backwards', VALIDATION))  # as the other tar's
NO_FILES = {
    'a folder': os.mkdir,
    'a pipe': os.mkfifo,
    'a link to itself': lambda path: path.symlink_to(path.name),
    'a link to /dev/zero': lambda path: path.symlink_to('/dev/zero'),
    'not there': lambda path: None,
}
VALIDATION_MEMBERS = {
    'a number beyond the labels': 'ILSVRC2012_val_99999999.JPEG',
    'the number 0': 'ILSVRC2012_val_00000000.JPEG',
    'another name': 'ILSVRC2012_test_00000001.JPEG',
    'a class that is not trained': f'ILSVRC2012_val_{first_validation(False):08d}.JPEG',
    'digits of another script': 'ILSVRC2012_val_0000000\u0661.JPEG',
}


def become(change):
    """Changes what a file holds."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def saved(**fields):
    """A table of MATLAB's."""

    def put(path):
        from scipy.io import savemat

        savemat(path, fields)

    return put


def row(field, value, *rows):
    """The table with another value in the first row, or in these."""

    def put(path):
        from scipy.io import loadmat, savemat

        synsets = loadmat(path)['synsets']
        for number in rows or (0,):
            synsets[number, 0][field] = value
        savemat(path, {'synsets': synsets})

    return put


def mat(content, version=b'\0\1IM'):
    return b'MATLAB 5.0 MAT-file'.ljust(124) + version + content


TABLES = {
    'empty': b'',
    'garbage': b'garbage' * 99,
    'a pickle': PICKLE,
    'of version 7.3': b'MATLAB 7.3 MAT-file'.ljust(124) + b'\0\2IM' + b'\x89HDF\r\n\x1a\n' + bytes(999),
    'cut': become(lambda content: content[: len(content) // 2]),
    'with bits flipped': become(lambda content: flipped(content, 3, 130, 10**6)),
    'that claims 2**31 values': mat(
        struct.pack('<IIIIIIIIiiII', 14, 200, 6, 8, 6, 0, 5, 8, 2**31 - 1, 2**31 - 1, 1, 7)
        + b'synsets\0'
        + struct.pack('<II', 9, 2**31 - 8)
    ),
    'packed with zlib, a bomb': become(lambda _: mat(struct.pack('<II', 15, 10**5) + zeros(100 << 20, 9)[: 10**5])),
    'without synsets': saved(other=3),
    'with a number for synsets': saved(synsets=3),
    'with texts for synsets': saved(synsets=np.array(['a', 'b'], object)),
    'with ids that are no numbers': row('ILSVRC2010_ID', np.array([['x']])),
    'with an id that is no number': row('ILSVRC2010_ID', np.array([[np.nan]])),
    'with an id that is infinite': row('ILSVRC2010_ID', np.array([[np.inf]])),
    'with classes that climb': row('WNID', np.array(['../../outside'])),
    'with a class of a pattern': row('WNID', np.array(['(a+)+$'])),
    'with a class twice': row('WNID', np.array(['n02012849'])),
    'with no class': row('num_children', np.array([[1]]), *range(5)),
}
LABELS = {
    'empty': b'',
    'letters': b'a\nb\n',
    'a 0': b'1\n0\n2\n3\n4\n5\n',
    'a 6': b'1\n6\n2\n3\n4\n5\n',
    'of 30 digits': b'1\n' + b'9' * 30 + b'\n',
    'of 5,000 digits': b'9' * 5000,
    'negative': b'-1\n' * 6,
    'binary': bytes(range(256)),
    'a line too few': b'1\n' * 5,
    'a line too many': b'1\n' * 7,
    'fractions': b'1.5\n' * 6,
}


@functools.cache
def bomb():
    return gzip.compress(bytes(100 << 20))


# A picture in a tar of 2010, where each is packed.
PACKED = {
    'cut': lambda: bomb()[:-200],
    'with a wrong sum': lambda: patched(bomb(), len(bomb()) - 8, b'\1\2\3\4'),
    'of garbage': lambda: b'\x1f\x8b' + b'\xff' * 99,
    'a bomb of 6 GB': lambda: bomb() * 60,
    'around text': lambda: gzip.compress(b'no picture'),
    'around gzip': lambda: gzip.compress(gzip.compress(JPEG)),
}


def with_packed(content):
    def change(path):
        with tarfile.open(path) as tar:
            tars = {one.name: tar.extractfile(one).read() for one in tar}
        files = {'n02012849_1.JPEG': JPEG, 'n02012849_3.JPEG': JPEG, 'n02012849_2.JPEG': content()}
        path.write_bytes(tar_of(tars | {'n02012849.tar': tar_of(files)}))

    return change


def in_place_of(put):
    def change(path):
        path.unlink()
        put(path)

    return change


def cases():
    def source(name, path, content, says=None, size=None, year=2012, either=False):
        """A copy of the base's ImageNet of a year with a file of this content, or with it changed; cut or extended."""

        def make(place):
            shutil.rmtree(place.source)
            shutil.copytree(place.base / f'imagenet{year}', place.source)
            if callable(content):
                content(place.source / path)
            else:
                (place.source / path).write_bytes(content)
            if size:
                os.truncate(place.source / path, size)
            return {'config': place.prepare_config(f'imagenet{year}')}

        return Case(name, 'prepare', make, (says or path,), either)

    for name, content in MEMBERS.items():
        yield source(f'tar: {name}', TRAIN, content + END)
    for name, (content, size) in LARGE.items():
        yield source(f'tar: {name}', TRAIN, content, size=size)
    content = header(f'ILSVRC2012_val_{first_validation():08d}.JPEG'.encode(), 2_000_000_000) + JPEG
    yield source('tar: a picture of 2 GB', VALIDATION, content, size=2_000_000_512 + 10240)
    for name, content in FILES.items():
        for file in (TRAIN, VALIDATION):
            if (name, file) not in ALIKE:
                yield source(f'tar file: {name}, {file}', file, become(content) if callable(content) else content)
    for name, put in NO_FILES.items():
        yield source(f'tar file: {name}', TRAIN, in_place_of(put))
    for name, image in VALIDATION_MEMBERS.items():
        yield source(f'validation tar: {name}', VALIDATION, member(image.encode(), JPEG) + END)
    for name, content in TABLES.items():
        yield source(f'devkit: table {name}', META, content, '{place}/source', year=2010, either='flipped' in name)
    for name, content in LABELS.items():
        yield source(f'devkit: labels, {name}', TRUTH, content, '{place}/source', year=2010)
    for name, content in PACKED.items():
        says = 'n02012849_2.JPEG'
        yield source(f'picture packed with gzip, {name}', TRAIN_2010, with_packed(content), says, year=2010)
