"""Guards CIFAR-10 and CIFAR-100: both versions of the archives, in the official layout, and pickles that do harm."""

import gzip
import pickle
import struct

import numpy as np
import pytest
from made_archives import cifar10_files, cifar100_files, cifar_images, cifar_pickle, tgz_of, write_folder

from alexnet_jax.data.sources import open_source
from alexnet_jax.data.sources.cifar import Cifar10, Cifar100
from alexnet_jax.data.sources.published import MissingFilesError
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.plain_pickle import read_pickle

ARCHIVES = {
    'cifar-10-binary.tar.gz': ('cifar10', lambda: cifar10_files('bin')),
    'cifar-10-python.tar.gz': ('cifar10', lambda: cifar10_files('py')),
    'cifar-100-binary.tar.gz': ('cifar100', lambda: cifar100_files('bin')),
    'cifar-100-python.tar.gz': ('cifar100', lambda: cifar100_files('py')),
}


def expected(made):
    """Pixels as [32, 32, 3] and labels of each split, in the order of the files."""
    names = {'train': [name for name in made if not name.startswith('test')], 'validation': [list(made)[-1]]}
    for split, files in names.items():
        for name in files:
            for n, (image, label) in enumerate(zip(*made[name], strict=True)):
                red, green, blue = image.reshape(3, 32, 32)
                yield split, f'{name}/{n}', np.dstack([red, green, blue]), label


def check(source, made):
    right = list(expected(made))
    assert source.splits == {split: sum(one[0] == split for one in right) for split in ('train', 'validation')}
    places = {'train': 0, 'validation': 0}
    for split, name, pixels, label in right:
        item = source.item(split, places[split])
        places[split] += 1
        assert (item.name, item.label) == (name, label)
        assert item.image.dtype == np.uint8 and item.image.flags.c_contiguous
        np.testing.assert_array_equal(item.image, pixels)


@pytest.mark.parametrize('archive', ARCHIVES)
def test_every_pixel_and_label_of_every_version(archive, tmp_path):
    name, make = ARCHIVES[archive]
    files, made = make()
    (tmp_path / archive).write_bytes(tgz_of(files))
    check(open_source(name, str(tmp_path)), made)
    check(open_source(name, str(tmp_path / archive)), made)  # named itself
    write_folder(tmp_path / 'unpacked', files)
    check(open_source(name, str(tmp_path / 'unpacked')), made)
    [folder] = (tmp_path / 'unpacked').iterdir()
    check(open_source(name, str(folder)), made)
    check(open_source(name, str(folder.rename(tmp_path / 'unpacked' / 'cifar'))), made)
    assert sorted(path.name for path in tmp_path.iterdir()) == [archive, 'unpacked']  # nothing is left behind


def test_class_names_are_the_official_ones():
    assert Cifar10.class_names[3:6] == ('cat', 'deer', 'dog') and len(Cifar10.class_names) == 10
    # Krizhevsky's page: the fine labels are in the order of the alphabet; of 100 classes, with their public indices.
    names = Cifar100.class_names
    assert len(set(names)) == 100 and list(names) == sorted(names)
    public = {0: 'apple', 11: 'boy', 19: 'cattle', 29: 'dinosaur', 49: 'mountain', 71: 'sea', 98: 'woman', 99: 'worm'}
    assert {index: names[index] for index in public} == public


def test_arrays_in_the_order_of_fortran_and_long_lists():
    images, labels = cifar_images(2500, 10)
    batch = read_pickle(cifar_pickle(images, fortran=True, labels=labels))
    np.testing.assert_array_equal(batch['data'], images)
    assert batch['labels'] == labels and batch['batch_label'] == 'training batch 1 of 5'


class Harm:
    def __reduce__(self):
        return print, ('harm',)


IMAGES = np.zeros((2, 3072), np.uint8)
GOOD = cifar_pickle(IMAGES, labels=[1, 2])
PICKLES = {
    'a call': (pickle.dumps(Harm(), protocol=2), 'GLOBAL'),
    'a call, protocol 0': (pickle.dumps(Harm(), protocol=0), 'GLOBAL'),
    'a call, protocol 4': (pickle.dumps(Harm(), protocol=4), 'PROTO'),
    'an object': (b'\x80\x02c__builtin__\nobject\n)\x81.', 'GLOBAL'),
    'an old instance': (b'(S"ls"\nios\nsystem\n.', 'STRING|INST'),
    'an extension': (b'\x80\x02\x82\x01.', 'EXT1'),
    'a persistent id': (b'Pabc\n.', 'PERSID'),
    'another function of NumPy': (GOOD.replace(b'cnumpy\ndtype\n', b'cnumpy\nload\n'), 'GLOBAL numpy load'),
    'arrays of objects': (GOOD.replace(b'U\x02u1', b'U\x02O8'), 'uint8'),
    'an array for a constructor': (GOOD.replace(b'K\x00\x85', b'K\x07\x85'), 'arguments'),
    'an array that is too short': (GOOD.replace(b'M\x02\x00', b'M\x03\x00'), 'reshape'),
    'a cut': (GOOD[:3000], '.'),
    'no end': (GOOD[:-1], '.'),
    'nothing': (b'', '.'),
    'no mark': (b'\x80\x02}u.', 'make no sense'),
    'a number as key': (b'\x80\x02}K\x01K\x01s.', 'no images'),
    'a memo of nothing': (b'\x80\x02h\x05.', 'make no sense'),
    'a dict in itself': (b'\x80\x02}q\x01U\x01ah\x01s.', 'no images'),
    'a string of gigabytes': (b'\x80\x02T' + struct.pack('<i', 2**31 - 1) + b'x', '.'),
    'tuples doubled forty times': (b'\x80\x02)' + b'q\x01h\x01\x86' * 40 + b'R.', '.'),
    'tuples doubled forty times as a key': (b'\x80\x02})' + b'q\x01h\x01\x86' * 40 + b'K\x01s.', 'strings'),
    'no images': (b'\x80\x02}.', 'no images'),
    'a list': (b'\x80\x02].', 'no images'),
    'no labels': (cifar_pickle(IMAGES), 'no labels'),
    'too few labels': (cifar_pickle(IMAGES, labels=[1]), 'no labels'),
    'a label beyond': (cifar_pickle(IMAGES, labels=[1, 10]), 'there are 10 classes'),
    'other images': (cifar_pickle(np.zeros((2, 3000), np.uint8), labels=[1, 2]), '32 x 32'),
}


@pytest.mark.parametrize('what', PICKLES)
def test_pickles_of_anything_else_are_refused_and_do_nothing(what, tmp_path, capsys):
    content, says = PICKLES[what]
    files, _ = cifar10_files('py')
    write_folder(tmp_path, files | {'cifar-10-batches-py/data_batch_3': content})
    with pytest.raises(UserError, match=rf'(?s)cifar-10-batches-py.*data_batch_3.*{says}'):
        Cifar10(tmp_path)
    assert capsys.readouterr().out == ''


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(
        MissingFilesError, match=r'not have the files of cifar10: .*cifar-10-binary\.tar\.gz from .*kriz'
    ):
        Cifar10(tmp_path)
    files, _ = cifar10_files('bin')
    whole = tgz_of(files)
    archive = tmp_path / 'cifar-10-binary.tar.gz'
    for content, says in (
        (whole[:-100], 'cut short'),
        (whole[:1000], 'cut short'),
        (b'', 'cut short'),
        (b'<html>404</html>', 'not a gzip file'),
        (whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:], 'damaged'),
        (gzip.compress(b'no tar'), 'cut short|not a tar'),
        (tgz_of({'other/x': b'x'}), "does not hold the folder 'cifar-10-batches-bin'"),
        (tgz_of({'cifar-10-batches-bin/x': b'x'}), r'does not hold data_batch_1\.bin'),
        (tgz_of(files | {'cifar-10-batches-bin/test_batch.bin': b'x' * 3074}), 'test_batch.bin.*3,074 bytes'),
        (tgz_of(files | {'cifar-10-batches-bin/test_batch.bin': b''}), 'test_batch.bin.*0 bytes'),
        (tgz_of(files | {'cifar-10-batches-bin/test_batch.bin': b'\x0a' * 3073}), 'the label 10 '),
    ):
        archive.write_bytes(content)
        with pytest.raises(UserError, match=says) as caught:
            Cifar10(tmp_path)
        assert str(archive) in str(caught.value) and 'kriz' in str(caught.value)
