"""Writes small ImageNets with the official files' names and layout, for tests."""

import gzip
import importlib.util
import io
import pathlib
import random
import tarfile

import numpy as np
from PIL import Image

SYNSETS_2010 = ('n07711080', 'n02012849', 'n03126707', 'n01440764', 'n04554684')  # not sorted, as in the devkit
WORDS_2010 = ('french fries, chips', 'crane', 'crane', 'tench, Tinca tinca', 'washer, automatic washer')


def tfds_list(name):
    """A list from TensorFlow Datasets' package: 'labels.txt' or 'validation_labels.txt'."""
    package = importlib.util.find_spec('tensorflow_datasets')
    return pathlib.Path(package.origin).parent.joinpath('datasets', 'imagenet2012', name).read_text().split()


def picture(label, number, size, kind='JPEG', mode='RGB'):
    """An encoded image with the shorter side `size`, in a color that tells its class, with noise that tells it."""
    chance = np.random.default_rng((label, number))
    height, width = (size, size + size // 2 * (number % 3)) if number % 2 else (size + size // 3, size)
    color = np.array([(67 * label + 40) % 256, (149 * label + 90) % 256, (211 * label + 160) % 256])
    pixels = np.clip(color + chance.integers(-30, 31, (height, width, 3)), 0, 255).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(encoded, kind)
    return encoded.getvalue()


def tar_of(files, form=tarfile.GNU_FORMAT):
    """A tar with these files, a dict of names and bytes; a name that ends with a slash makes a folder."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode='w', format=form) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if name.endswith('/'):
                member.type = tarfile.DIRTYPE
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return written.getvalue()


def shuffled(files):
    """The same dict in another order, the same one every time."""
    names = list(files)
    random.Random(0).shuffle(names)
    return {name: files[name] for name in names}


def synset_tars(images, form=tarfile.GNU_FORMAT):
    """The tar of each class, by file name, from a dict of 'n01440764/n01440764_1.JPEG' and bytes."""
    tars = {}
    for name, image in images.items():
        synset, file = name.split('/')
        tars.setdefault(f'{synset}.tar', {})[file] = image
    return {name: tar_of(shuffled(files), form) for name, files in tars.items()}


def write_imagenet2012(directory, classes=3, per_class=4, validation=6, size=32, form=tarfile.GNU_FORMAT):
    """Writes ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar.

    The first three training images are a CMYK JPEG, a PNG named .JPEG and a gray JPEG. The order in the tars is
    mixed. The validation images are the first official numbers whose labels are of the classes, so that the numbers
    have gaps.

    Args:
      directory: where to; made if it is not there.
      classes: how many of the 1,000, from the first on.
      per_class: training images of each.
      validation: validation images in all.
      size: shorter side of the images, in pixels.
      form: of the tars, as tarfile has it.

    Returns:
      Dict of two dicts, 'train' and 'validation': for each name, in the source's order, the image's bytes.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    synsets = tfds_list('labels.txt')[:classes]
    kinds = {0: ('JPEG', 'CMYK'), 1: ('PNG', 'RGB'), 2: ('JPEG', 'L')}
    train = {}
    for label, synset in enumerate(synsets):
        numbers = sorted((number * number + 2 for number in range(per_class)), key=str)  # 11 comes before 2
        for place, number in enumerate(numbers):
            kind = kinds.get(label * per_class + place, ('JPEG', 'RGB'))
            train[f'{synset}/{synset}_{number}.JPEG'] = picture(label, number, size, *kind)
    truth = ((number, synset) for number, synset in enumerate(tfds_list('validation_labels.txt'), 1))
    chosen = [(number, synsets.index(synset)) for number, synset in truth if synset in synsets][:validation]
    val = {
        f'ILSVRC2012_val_{number:08d}.JPEG': picture(label, 10**6 + number, size) for number, label in sorted(chosen)
    }
    (directory / 'ILSVRC2012_img_train.tar').write_bytes(tar_of(shuffled(synset_tars(train, form)), form))
    (directory / 'ILSVRC2012_img_val.tar').write_bytes(tar_of(shuffled(val), form))
    return {'train': train, 'validation': val}


def write_imagenet2010(directory, per_class=3, validation=6, test=8, size=32, nested=True):
    """Writes the files of an ILSVRC-2010 of five classes.

    One training image is packed with gzip, as one of the official ones is. The validation images lie in a folder in
    their tar, the test images do not.

    Args:
      directory: where to; made if it is not there.
      per_class: training images of each class.
      validation: validation images in all.
      test: test images in all.
      size: shorter side of the images, in pixels.
      nested: whether the classes' tars are in ILSVRC2010_images_train.tar; else in a folder 'train'.

    Returns:
      Dict of three dicts, 'train', 'validation' and 'test': for each name, in the source's order, bytes and label.
    """
    from scipy.io import savemat

    directory = pathlib.Path(directory)
    data = directory / 'devkit-1.0' / 'data'
    data.mkdir(parents=True, exist_ok=True)
    fields = ('ILSVRC2010_ID', 'WNID', 'words', 'gloss', 'num_children', 'children')
    rows = [
        (number, synset, words, 'a thing', 0, np.zeros((1, 0)))
        for number, (synset, words) in enumerate(zip(SYNSETS_2010, WORDS_2010, strict=True), 1)
    ]
    rows.append((len(rows) + 1, 'n00001740', 'entity', 'everything', len(rows), np.arange(len(rows)) + 1))
    synsets = np.empty((len(rows), 1), [(field, object) for field in fields])
    synsets[:, 0] = rows
    savemat(data / 'meta.mat', {'synsets': synsets, 'cost_matrix': np.zeros((5, 5))})

    images = {'train': {}}
    for label, synset in enumerate(SYNSETS_2010):
        for number in range(1, per_class + 1):
            images['train'][f'{synset}/{synset}_{number}.JPEG'] = (picture(label, number, size), label)
    stored = {name: image for name, (image, _) in images['train'].items()}
    stored['n02012849/n02012849_2.JPEG'] = gzip.compress(stored['n02012849/n02012849_2.JPEG'])
    tars = synset_tars(stored)
    if nested:
        (directory / 'ILSVRC2010_images_train.tar').write_bytes(tar_of(shuffled(tars)))
    else:
        (directory / 'train').mkdir()
        for name, content in tars.items():
            (directory / 'train' / name).write_bytes(content)

    for split, short, count, folder in (('validation', 'val', validation, 'val/'), ('test', 'test', test, '')):
        labels = [3 * number % 5 for number in range(count)]
        images[split] = {
            f'ILSVRC2010_{short}_{number:08d}.JPEG': (picture(label, 10**6 + number, size), label)
            for number, label in enumerate(labels, 1)
        }
        files = {folder: b''} if folder else {}
        files |= shuffled({folder + name: image for name, (image, _) in images[split].items()})
        (directory / f'ILSVRC2010_images_{short}.tar').write_bytes(tar_of(files))
        truth = (data if split == 'validation' else directory) / f'ILSVRC2010_{split}_ground_truth.txt'
        truth.write_text(''.join(f'{label + 1}\n' for label in labels))
    return images
