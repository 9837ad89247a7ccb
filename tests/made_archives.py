"""Writes small data sets in the layouts of their official archives, for tests."""

import gzip
import io
import pathlib
import struct
import zipfile

import numpy as np
from made_imagenet import picture, shuffled, tar_of

SYNSETS = ('n02124075', 'n01443537', 'n04540053')  # not sorted, as in wnids.txt
WORDS = {'n02124075': 'Egyptian cat', 'n01443537': 'goldfish, Carassius auratus', 'n04540053': 'volleyball'}


def tgz_of(files):
    """A gzipped tar."""
    return gzip.compress(tar_of(files), compresslevel=1)


def zip_of(files, compression=zipfile.ZIP_DEFLATED):
    """A zip; names that end with a slash are folders."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, 'w', compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def write_folder(directory, files):
    """The files on disk, as unpacked."""
    for name, content in files.items():
        if not name.endswith('/'):
            path = pathlib.Path(directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def cifar_images(count, classes, seed=0):
    """Random images as CIFAR has them, uint8 [count, 3072], all of red first, and labels."""
    chance = np.random.default_rng(seed)
    return chance.integers(0, 256, (count, 3072), np.uint8), chance.integers(0, classes, count).tolist()


def cifar_pickle(images, fortran=False, **labels):
    """The bytes that Python 2 wrote for a batch, by the layout of the published files, but with strings for `labels`.

    Args:
      images: uint8 [n, 3072].
      fortran: whether the array's bytes are in the order of Fortran.
      **labels: lists of ints from 0 to 255 by key.
    """

    def text(value):
        return b'U' + struct.pack('<B', len(value)) + value.encode('latin-1')

    rows, columns = images.shape
    content = images.tobytes('F' if fortran else 'C')
    array = b'cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85' + text('b') + b'\x87Rq\x09('
    array += b'K\x01M' + struct.pack('<H', rows) + b'M' + struct.pack('<H', columns) + b'\x86'
    array += b'cnumpy\ndtype\nq\x0a' + text('u1') + b'K\x00K\x01\x87Rq\x0b(K\x03' + text('|')
    array += b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb' + (b'\x88' if fortran else b'\x89')
    array += b'T' + struct.pack('<i', len(content)) + content + b'tq\x0cb'
    written = b'\x80\x02}q\x01(' + text('batch_label') + b'q\x02' + text('training batch 1 of 5') + b'q\x03'
    for key, values in labels.items():
        written += text(key) + b']r' + struct.pack('<I', 300 + len(key))
        for start in range(0, len(values), 1000):  # Python writes a thousand at a time
            written += b'(' + b''.join(b'K' + bytes([value]) for value in values[start : start + 1000]) + b'e'
    return written + text('data') + b'q\x06' + array + b'u.'


def cifar10_files(version, per_file=7):
    """Files of CIFAR-10's binary ('bin') or Python ('py') archive, and what is in them.

    Returns:
      Dict of bytes by path, and dict of (images, labels) by file.
    """
    names = [f'data_batch_{number}' for number in range(1, 6)] + ['test_batch']
    made = {name: cifar_images(per_file + n, 10, seed=n) for n, name in enumerate(names)}
    files = {f'cifar-10-batches-{version}/': b'', f'cifar-10-batches-{version}/readme.html': b'<html></html>'}
    for name in reversed(names):  # in the archives their order is mixed too
        images, labels = made[name]
        binary = b''.join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))
        files[f'cifar-10-batches-{version}/{name}{".bin" * (version == "bin")}'] = (
            binary if version == 'bin' else cifar_pickle(images, labels=labels)
        )
    return files, made


def cifar100_files(version, counts=(9, 4)):
    """As `cifar10_files`, of CIFAR-100: `made` has the fine labels; the coarse ones are other numbers."""
    made = {name: cifar_images(n, 100, seed=n) for name, n in zip(('train', 'test'), counts, strict=True)}
    folder = 'cifar-100-binary' if version == 'bin' else 'cifar-100-python'
    files = {}
    for name, (images, fine) in made.items():
        coarse = [(label * 7) % 20 for label in fine]
        binary = b''.join(bytes([c, f]) + image.tobytes() for image, c, f in zip(images, coarse, fine, strict=True))
        files[f'{folder}/{name}{".bin" * (version == "bin")}'] = (
            binary if version == 'bin' else cifar_pickle(images, fine_labels=fine, coarse_labels=coarse)
        )
    return files, made


def tiny_imagenet_files(per_class=4, validation=5):
    """Files of tiny-imagenet-200.zip with three classes.

    Returns:
      Dict of bytes by path, and dict of two dicts, 'train' and 'validation': (bytes, WordNet id) by path in the folder,
      sorted by WordNet id and name.
    """
    files = {
        'tiny-imagenet-200/': b'',
        'tiny-imagenet-200/words.txt': ''.join(
            f'{synset}\t{words}\n' for synset, words in {'n00001740': 'entity', **WORDS}.items()
        ).encode(),
        'tiny-imagenet-200/wnids.txt': '\n'.join(SYNSETS).encode(),
        'tiny-imagenet-200/test/images/test_0.JPEG': picture(7, 7, 64),
    }
    made = {'train': {}, 'validation': {}}
    for synset in sorted(SYNSETS):
        for number in sorted(range(8, 8 + per_class), key=str):  # 10 comes before 8
            path = f'train/{synset}/images/{synset}_{number}.JPEG'
            made['train'][path] = picture(SYNSETS.index(synset), number, 64), synset
        boxes = ''.join(f'{synset}_{number}.JPEG\t0\t0\t63\t63\n' for number in range(8, 8 + per_class))
        files[f'tiny-imagenet-200/train/{synset}/{synset}_boxes.txt'] = boxes.encode()
    lines = []
    for number in range(validation):
        synset = SYNSETS[number * 2 % 3]
        lines.append(f'val_{number}.JPEG\t{synset}\t0\t32\t44\t62\n')
        made['validation'][f'val/images/val_{number}.JPEG'] = picture(9, number, 64), synset
    made['validation'] = dict(sorted(made['validation'].items(), key=lambda one: (one[1][1], one[0])))
    files['tiny-imagenet-200/val/val_annotations.txt'] = ''.join(reversed(lines)).encode()
    for images in made.values():
        files |= {f'tiny-imagenet-200/{path}': image for path, (image, _) in images.items()}
    return files, made


def imagenette_files(name='imagenette2', per_class=3, validation=2):
    """Files of an archive of fast.ai with three of Imagenette's classes, in the order of no order, as in the real ones.

    Returns:
      Dict of bytes by path, and dict of two dicts, 'train' and 'validation': (bytes, WordNet id) by path in the folder.
    """
    made = {'train': {}, 'validation': {}}
    for label, synset in enumerate(('n01440764', 'n02102040', 'n03888257')):
        for number in range(per_class):
            made['train'][f'train/{synset}/{synset}_{number}.JPEG'] = picture(label, number, 40), synset
        for number in range(validation):
            path = f'val/{synset}/ILSVRC2012_val_{1000 * label + number:08d}.JPEG'
            made['validation'][path] = picture(label, 100 + number, 40), synset
    files = {f'{name}/{path}': image for images in made.values() for path, (image, _) in images.items()}
    folders = {f'{name}/': b'', f'{name}/val/': b'', f'{name}/train/': b''}
    return folders | shuffled(files | {f'{name}/noisy_imagenette.csv': b'path,noisy_labels_0\n'}), made


def idx(values):
    """The bytes of an idx file: uint8 of any shape."""
    return struct.pack(f'>HBB{values.ndim}I', 0, 8, values.ndim, *values.shape) + values.tobytes()


def idx_files(train=12, test=5, first=(), end='.gz'):
    """The four files of MNIST and its kin, by name, and arrays: {'train': (images, labels), 'validation': ...}."""
    files, made = {}, {}
    for split, start, count in (('train', 'train', train), ('validation', 't10k', test)):
        chance = np.random.default_rng(count)
        images = chance.integers(0, 256, (count, 28, 28), np.uint8)
        labels = chance.integers(0, 10, count).astype(np.uint8)
        if split == 'train':
            labels[: len(first)] = first
        made[split] = images, labels
        for what, values in (('images-idx3', images), ('labels-idx1', labels)):
            content = idx(values)
            files[f'{start}-{what}-ubyte{end}'] = gzip.compress(content) if end == '.gz' else content
    return files, made
