"""Guards MNIST and Fashion-MNIST: their four files in all forms, told apart, and what is wrong in them."""

import gzip
import struct

import numpy as np
import pytest
from made_archives import idx, idx_files, write_folder

from alexnet_jax.data.sources import open_source
from alexnet_jax.data.sources.idx import FashionMnist
from alexnet_jax.data.sources.published import MissingFilesError
from alexnet_jax.runtime.errors import UserError

# From the papers and the readme of Fashion-MNIST.
FASHION = {0: 'T-shirt/top', 1: 'Trouser', 5: 'Sandal', 7: 'Sneaker', 9: 'Ankle boot'}


@pytest.mark.parametrize('name', ['mnist', 'fashion_mnist'])
@pytest.mark.parametrize('end', ['.gz', ''])
@pytest.mark.parametrize('folder', ['', 'own', 'torchvision'])
def test_every_pixel_and_label(name, end, folder, tmp_path):
    files, made = idx_files(end=end)
    raw = {'mnist': 'MNIST/raw', 'fashion_mnist': 'FashionMNIST/raw'}[name]
    write_folder(tmp_path / {'': '', 'own': name, 'torchvision': raw}[folder], files)
    source = open_source(name, str(tmp_path))
    assert source.splits == {'train': 12, 'validation': 5}
    for split, (images, labels) in made.items():
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            item = source.item(split, index)
            assert item.name == f'{"train" if split == "train" else "t10k"}/{index}' and item.label == label
            assert item.image.dtype == np.uint8 and item.image.flags.c_contiguous
            np.testing.assert_array_equal(item.image, np.dstack([image] * 3))


def test_files_that_are_not_all_there_do_not_hide_others_that_are(tmp_path):
    files, _ = idx_files()
    write_folder(tmp_path, dict(list(files.items())[:3]))
    write_folder(tmp_path / 'fashion_mnist', files)
    assert open_source('fashion_mnist', str(tmp_path)).splits == {'train': 12, 'validation': 5}


def test_class_names():
    names = FashionMnist.class_names
    assert {index: names[index] for index in FASHION} == FASHION and len(set(names)) == 10


def test_names_with_a_dot(tmp_path):
    files, _ = idx_files(end='')
    write_folder(tmp_path, {name.replace('-idx', '.idx'): content for name, content in files.items()})
    assert open_source('mnist', str(tmp_path)).splits == {'train': 12, 'validation': 5}


def test_the_one_is_not_taken_for_the_other(tmp_path):
    mnist, fashion = (5, 0, 4, 1, 9, 2, 1, 3, 1, 4), (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)  # the official files' first labels
    write_folder(tmp_path / 'm', idx_files(first=mnist)[0])
    write_folder(tmp_path / 'f', idx_files(first=fashion)[0])
    assert open_source('mnist', str(tmp_path / 'm')) and open_source('fashion_mnist', str(tmp_path / 'f'))
    for name, place, other in (('mnist', 'f', 'fashion_mnist'), ('fashion_mnist', 'm', 'mnist')):
        with pytest.raises(UserError, match=rf"{place} has the files of {other}, not of {name}.*source='{other}'"):
            open_source(name, str(tmp_path / place))


LABELS = 'train-labels-idx1-ubyte.gz'
IMAGES = 'train-images-idx3-ubyte.gz'
SHORT = idx(np.zeros((12, 28, 28), np.uint8))[:-1]
DAMAGES = {
    'a file less': ({LABELS: None}, f'not have the files of fashion_mnist: .*{LABELS}'),
    'a cut': ({IMAGES: lambda content: content[:-50]}, rf'{IMAGES} cannot be read: it is cut short'),
    'a page': ({IMAGES: lambda content: b'<html>'}, rf'{IMAGES} cannot be read: it is damaged, or not a gzip file'),
    'a wrong checksum': ({IMAGES: lambda content: content[:-8] + b'12345678'}, f'{IMAGES} cannot be read: it is dam'),
    'nothing in it': ({IMAGES: lambda content: gzip.compress(b'')}, 'not an idx file of 3 axes'),
    'labels for images': ({IMAGES: lambda content: gzip.compress(idx(np.zeros(12, np.uint8)))}, 'of 3 axes'),
    'floats': ({IMAGES: lambda content: gzip.compress(b'\0\0\x0d\x03' + SHORT[4:])}, 'of 3 axes'),
    'a byte less': ({IMAGES: lambda content: gzip.compress(SHORT)}, 'has 9,407 bytes for 12 x 28 x 28'),
    'absurd sizes': (
        {IMAGES: lambda content: gzip.compress(struct.pack('>4B3I', 0, 0, 8, 3, *[2**32 - 1] * 3))},
        'has 0 bytes for 4294967295 x',
    ),
    'no images': ({IMAGES: lambda content: gzip.compress(idx(np.zeros((0, 28, 28), np.uint8)))}, 'has 0 images'),
    'fewer labels': ({LABELS: lambda content: gzip.compress(idx(np.zeros(11, np.uint8)))}, '12 images .* 11 labels'),
    'a label beyond': ({LABELS: lambda content: gzip.compress(idx(np.full(12, 10, np.uint8)))}, 'has the label 10;'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_files_are_named(damage, tmp_path):
    changes, says = DAMAGES[damage]
    files, _ = idx_files()
    for name, change in changes.items():
        files[name] = change and change(files[name])
    write_folder(tmp_path, {name: content for name, content in files.items() if content is not None})
    with pytest.raises(UserError, match=says) as caught:
        FashionMnist(tmp_path)
    assert 'fashion' in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(MissingFilesError, match=r'not have the files of fashion_mnist: .*train-images-idx3-ubyte\.gz'):
        FashionMnist(tmp_path)
