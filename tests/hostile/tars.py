"""Hostile tars: ImageNet's, and what lies beside them."""

import functools
import os
import shutil
import struct
import tarfile

import numpy as np
from made_imagenet import picture, tar_of, tfds_list

from hostile.ground import SIZE, case
from hostile.pictures import JPEG, PICKLE, flipped, patched, zeros


def header(name, size=0, kind=b'0', link=b'', size_field=None, prefix=b'', magic=b'ustar  \0', total=None):
    """A header of a tar, its sum right unless `total` is given."""
    size_field = b'%011o\0' % size if size_field is None else size_field
    block = struct.pack(
        '<100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x',
        name,
        b'0000644\0',
        b'0000000\0',
        b'0000000\0',
        size_field,
        b'00000000000\0',
        b' ' * 8,
        kind,
        link,
        magic,
        b'',
        b'',
        b'0000000\0',
        b'0000000\0',
        prefix,
    )
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


END = bytes(1024)
ONE, TWO = tfds_list('labels.txt')[:2]
BIG = b'\x80' + (10 << 30).to_bytes(11, 'big')  # 10 GB
NEGATIVE = b'\xff' * 12


def tar_cases():
    train, validation = 'ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'
    one, two = f'{ONE}.tar'.encode(), f'{TWO}.tar'.encode()
    image = f'{ONE}_1.JPEG'.encode()
    good = tar_of({f'{ONE}_1.JPEG': picture(0, 0, SIZE)})

    def with_file(name, content, size=None, source='imagenet2012', remove=False):
        def make(place):
            shutil.rmtree(place.source)
            shutil.copytree(place.base / source, place.source)
            path = place.source / name
            if callable(content):
                content(path)
            else:
                path.write_bytes(content)
            if size:
                with path.open('r+b') as file:
                    file.truncate(size)
            return {'config': place.prepare_config(source)}

        return make

    def changed(change):
        return lambda path: path.write_bytes(change(path.read_bytes()))

    def replaced(replace):
        def make(path):
            path.unlink()
            replace(path)

        return make

    outer = {
        'a member that climbs': member(b'../../outside/x.tar', good),
        'a member with an absolute name': member(b'/tmp/x.tar', good),
        'a member whose prefix climbs': member(one, good, magic=b'ustar\x0000', prefix=b'../..'),
        'a symbolic link': header(one, kind=b'2', link=b'/etc/passwd'),
        'a hard link': header(one, kind=b'1', link=b'../outside/secret.txt'),
        'a device': header(one, kind=b'3'),
        'a block device': header(one, kind=b'4'),
        'a pipe': header(one, kind=b'6'),
        'an unknown kind of member': header(one, kind=b'Z'),
        'a member without a name': member(b'', good),
        'a name that is no text': member(b'\xff\xfe.tar', good),
        'a name with escape codes': member(b'\x1b[31m\x07.tar', good),
        'a name of two lines': member(b'a\nb.tar', good),
        'a member twice': member(one, good) * 2,
        'an unknown class': member(b'n99999999.tar', good),
        'a picture where tars belong': member(image, JPEG),
        'a negative size': header(one, size_field=NEGATIVE) + good,
        'a size of letters': header(one, size_field=b'abcdefghijk\0') + good,
        'a size of 8 GB': header(one, size_field=b'77777777777\0') + good,
        'a size of 10 GB': header(one, size_field=BIG) + good,
        'a size of 2**90': header(one, size_field=b'\x80' + b'\x7f' * 11) + good,
        'a wrong sum': header(one, len(good), total=7) + good,
        'an inner tar that is empty': member(one) + member(two, good),
        'an inner tar of garbage': member(one, b'garbage' * 999),
        'an inner tar of zeros': member(one, bytes(99999)),
        'an inner tar that is cut': member(one, good[:700]),
        'an inner tar with a name that climbs': member(one, member(b'../' + image, JPEG) + END),
        'an inner tar with a link': member(one, header(image, kind=b'2', link=b'/etc/passwd') + END),
        'an inner tar with a member twice': member(one, member(image, JPEG) * 2 + END),
        'an inner tar with a picture of no bytes': member(one, member(image) + END),
        'an inner tar with a picture of another class': member(one, member(f'{TWO}_1.JPEG'.encode(), JPEG) + END),
        'an inner tar with a picture beyond its end': member(one, header(image, 10**6) + JPEG + END),
        'an inner tar with a picture of 10 GB': member(one, header(image, size_field=BIG) + JPEG + END),
        'an inner tar with a picture of a name too long': member(one, member(b'n' * 90, JPEG) + END),
        'a tar in a tar in a tar': member(one, member(one, good) + END),
        'a pax record with a size of -1': pax(one, good, size='-1'),
        'a pax record with a size of letters': pax(one, good, size='abc'),
        'a pax record with a size of 10 GB': pax(one, good, size=str(10 << 30)),
        'a pax record with a size of 5,000 digits': pax(one, good, size='9' * 5000),
        'a pax record with a name that climbs': pax(one, good, path='../../outside/x'),
        'a pax record with a name that is absolute': pax(one, good, path='/tmp/x'),
        'a pax record with a null in the name': pax(one, good, path='a\0b'),
        'a pax record with a silly sparse map': pax(one, good, GNU__sparse__map='0,-5,x', GNU__sparse__size='9'),
        'a pax record of a sparse file 1.0': pax(
            one, good, GNU__sparse__major='1', GNU__sparse__minor='0', GNU__sparse__realsize=str(10 << 30)
        ),
        'a pax record of a sparse file with a billion parts': pax(
            one, in_blocks(b'1000000000\n'), GNU__sparse__major='1', GNU__sparse__minor='0', GNU__sparse__realsize='9'
        ),
        'a pax record without a length': pax(b'x', good, records=b' path=x\n'),
        'a pax record of length 0': pax(one, good, records=b'0 path=x\n'),
        'a pax record of a length of 5,000 digits': pax(one, good, records=b'9' * 5000 + b' path=x\n'),
        'a pax record with an unknown encoding': pax(b'x', good, hdrcharset='evil'),
        'a time of pax that is infinite': pax(one, good, mtime='inf') + member(b'x', b''),
        'a pax record and nothing after it': member(b'pax', records_of_pax(path='x'), b'x'),
        'a thousand pax records one after the other': member(b'pax', records_of_pax(path='x'), b'x') * 2000
        + member(one, good),
        'a thousand long names one after the other': member(b'././@LongLink', b'x\0', b'L') * 2000 + member(one, good),
        'a long name of 10 GB': header(b'././@LongLink', kind=b'L', size_field=BIG) + good,
        'an old sparse file of nonsense': header(one, len(good), b'S') + good,
        'a multi-volume member': header(one, len(good), b'M') + good,
    }
    for name, content in outer.items():
        case(f'tar: {name}', 'prepare', with_file(train, content + END), (train,))
    for name, size, content in (
        (
            'a long name of 3 GB in a file of 4 GB',
            4 << 30,
            header(b'././@LongLink', kind=b'L', size_field=b'\x80' + (3 << 30).to_bytes(11, 'big')),
        ),
        (
            'a pax record of 3 GB in a file of 4 GB',
            4 << 30,
            header(b'pax', kind=b'x', size_field=b'\x80' + (3 << 30).to_bytes(11, 'big')),
        ),
        ('an inner tar of 30 GB of zeros', 40 << 30, header(one, size_field=b'\x80' + (30 << 30).to_bytes(11, 'big'))),
        ('nothing but 40 GB of zeros', 40 << 30, b''),
    ):
        case(f'tar: {name}', 'prepare', with_file(train, content, size), (train,))
    picture_of_2_gb = header(f'ILSVRC2012_val_{first_validation():08d}.JPEG'.encode(), 2_000_000_000) + JPEG
    case(
        'tar: a picture of 2 GB',
        'prepare',
        with_file(validation, picture_of_2_gb, 2_000_000_512 + 10240),
        'ILSVRC2012_img_val.tar',
    )
    whole = {
        'empty': lambda _: b'',
        'text': lambda _: b'404 Not Found',
        'one byte short of a header': lambda content: content[:511],
        'a header alone': lambda content: content[:512],
        'cut in its first member': lambda content: content[:2000],
        'cut before its end': lambda content: content.rstrip(b'\0'),
        'gzip': lambda content: __import__('gzip').compress(content),
        'bzip2': lambda content: __import__('bz2').compress(content),
        'xz': lambda content: __import__('lzma').compress(content),
        'zip': lambda content: b'PK\3\4' + content[4:],
        'backwards': lambda content: content[::-1],
        'with garbage in front': lambda content: b'x' * 512 + content,
        'a web page': lambda _: b'<html>please log in</html>' * 100,
    }
    for name, change in whole.items():
        for file in (train, validation):
            if (name, file) not in (('zip', validation), ('xz', train), ('backwards', validation)):
                case(f'tar file: {name}, {file}', 'prepare', with_file(file, changed(change)), (file,))
    for name, replace in {
        'a folder': os.mkdir,
        'a pipe': os.mkfifo,
        'a link to itself': lambda path: path.symlink_to(path.name),
        'a link to /dev/zero': lambda path: path.symlink_to('/dev/zero'),
        'not there': lambda path: None,
    }.items():
        case(f'tar file: {name}', 'prepare', with_file(train, replaced(replace)), (train,))
    for name, content in {
        'a number beyond the labels': member(b'ILSVRC2012_val_99999999.JPEG', JPEG),
        'the number 0': member(b'ILSVRC2012_val_00000000.JPEG', JPEG),
        'another name': member(b'ILSVRC2012_test_00000001.JPEG', JPEG),
        'a class that is not trained': member(f'ILSVRC2012_val_{first_validation(False):08d}.JPEG'.encode(), JPEG),
        'digits of another script': member('ILSVRC2012_val_0000000\u0661.JPEG'.encode(), JPEG),
    }.items():
        case(f'validation tar: {name}', 'prepare', with_file(validation, content + END), (validation,))

    meta = 'devkit-1.0/data/meta.mat'

    def saved(**fields):
        from scipy.io import savemat

        return lambda path: savemat(path, fields)

    def rows_of(changes):
        def make(path):
            from scipy.io import loadmat, savemat

            synsets = loadmat(path)['synsets']
            for row, field, value in changes:
                synsets[row, 0][field] = value
            savemat(path, {'synsets': synsets})

        return make

    for name, content in {
        'empty': b'',
        'garbage': b'garbage' * 99,
        'a pickle': PICKLE,
        'of version 7.3': b'MATLAB 7.3 MAT-file'.ljust(124) + b'\0\2IM' + b'\x89HDF\r\n\x1a\n' + bytes(999),
        'cut': changed(lambda content: content[: len(content) // 2]),
        'with bits flipped': changed(lambda content: flipped(content, 3, 130, 10**6)),
        'that claims 2**31 values': b'MATLAB 5.0 MAT-file'.ljust(124)
        + b'\0\1IM'
        + struct.pack('<IIIIIIIIiiII', 14, 200, 6, 8, 6, 0, 5, 8, 2**31 - 1, 2**31 - 1, 1, 7)
        + b'synsets\0'
        + struct.pack('<II', 9, 2**31 - 8),
        'packed with zlib, a bomb': b'MATLAB 5.0 MAT-file'.ljust(124)
        + b'\0\1IM'
        + struct.pack('<II', 15, 10**5)
        + zeros(100 << 20, 9)[: 10**5],
        'without synsets': saved(other=3),
        'with a number for synsets': saved(synsets=3),
        'with texts for synsets': saved(synsets=np.array(['a', 'b'], object)),
        'with ids that are no numbers': rows_of([(0, 'ILSVRC2010_ID', np.array([['x']]))]),
        'with an id that is no number': rows_of([(0, 'ILSVRC2010_ID', np.array([[np.nan]]))]),
        'with an id that is infinite': rows_of([(0, 'ILSVRC2010_ID', np.array([[np.inf]]))]),
        'with classes that climb': rows_of([(0, 'WNID', np.array(['../../outside']))]),
        'with a class of a pattern': rows_of([(0, 'WNID', np.array(['(a+)+$']))]),
        'with a class twice': rows_of([(0, 'WNID', np.array(['n02012849']))]),
        'with no class': rows_of([(row, 'num_children', np.array([[1]])) for row in range(5)]),
    }.items():
        either = 'flipped' in name
        case(
            f'devkit: table {name}',
            'prepare',
            with_file(meta, content, source='imagenet2010'),
            '{place}/source',
            either=either,
        )
    truth = 'devkit-1.0/data/ILSVRC2010_validation_ground_truth.txt'
    for name, content in {
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
    }.items():
        says = '{place}/source'
        case(f'devkit: labels, {name}', 'prepare', with_file(truth, content, source='imagenet2010'), says)
    packed = __import__('gzip').compress(bytes(100 << 20))

    def with_packed(content):
        def change(path):
            files = {f'n{name}_{number}.JPEG': JPEG for name in ('02012849',) for number in (1, 3)} | {
                'n02012849_2.JPEG': content
            }
            tars = {}
            with tarfile.open(path) as tar:
                for one in tar:
                    tars[one.name] = tar.extractfile(one).read()
            path.write_bytes(tar_of(tars | {'n02012849.tar': tar_of(files)}))

        return with_file('ILSVRC2010_images_train.tar', change, source='imagenet2010')

    for name, content in {
        'cut': packed[:-200],
        'with a wrong sum': patched(packed, len(packed) - 8, b'\1\2\3\4'),
        'of garbage': b'\x1f\x8b' + b'\xff' * 99,
        'a bomb of 6 GB': packed * 60,
        'around text': __import__('gzip').compress(b'no picture'),
        'around gzip': __import__('gzip').compress(__import__('gzip').compress(JPEG)),
    }.items():
        case(f'picture packed with gzip, {name}', 'prepare', with_packed(content), 'n02012849_2.JPEG')


@functools.cache
def first_validation(known=True):
    """The number of the first validation image of a class that is trained, or is not."""
    return next(n for n, synset in enumerate(tfds_list('validation_labels.txt'), 1) if (synset in (ONE, TWO)) == known)
