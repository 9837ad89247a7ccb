"""Guards what was prepared before: used while its images are the same, and never for others.

Whatever has changed since, the result is what a preparation from nothing gives, and no more is read than has changed.
"""

import itertools
import json
import os
import pathlib
import shutil
import tempfile
import threading

import fakes
import numpy as np
import pytest
from configs import typed
from fakes import Images, console, contents, encoded, noise, prepared
from made_archives import cifar10_files, idx_files, imagenette_files, tgz_of, tiny_imagenet_files, write_folder, zip_of
from PIL import Image

from alexnet_jax.data import prepare as module
from alexnet_jax.data.dataset import BROKEN_IMAGES, MANIFEST, MEAN_IMAGE, PLACES, open_prepared, write_manifest
from alexnet_jax.data.images import normalized
from alexnet_jax.data.opening import open_data, prepare_data
from alexnet_jax.data.pipeline import evaluation_batches, open_shards, read
from alexnet_jax.data.sources import open_source
from alexnet_jax.runtime.errors import UserError
from experiments import digits

SIZE, IN_SHARD = 16, 4


@pytest.fixture(params=['jpeg', 'raw'])
def storage(request):
    return request.param


@pytest.fixture
def tmp_path():
    """A directory in memory, where there is one: much is written, and synced."""
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.access('/dev/shm', os.W_OK) else None) as where:
        yield pathlib.Path(where)


# --- changes of a source ---


class Labeled(Images):
    """A source of (name, image, label), which can be edited."""

    def __init__(self, train, validation, classes=3):
        super().__init__(train, validation, classes)

    def item(self, split, index):
        return super().item(split, index)._replace(label=self._images_of[split][index][2])

    def identity(self, split, index):
        return super().identity(split, index)._replace(label=self._images_of[split][index][2])


def image(number, side=12):
    return encoded(noise(side, side + number % 3, number))


def labeled(train, validation, times=None, classes=3):
    """A source of {name: (image, label)}; `times` are those of modification, by name."""
    source = Labeled(*([(name, data) for name, (data, _) in of.items()] for of in (train, validation)), classes)
    source._images_of = {
        split: [(name, data, label) for name, (data, label) in of.items()]
        for split, of in (('train', train), ('validation', validation))
    }
    source.times = times or {}
    return source


TRAIN = {f'{i:02}': (image(i), i % 3) for i in range(11)}
VALIDATION = {f'v{i}': (image(100 + i), i % 3) for i in range(5)}
BROKEN = b'this is no image'


def edited(**changes):
    """The training images with changes by name: None removes one, a pair replaces or adds it; in order of names."""
    train = {**TRAIN, **{name.strip('_'): change for name, change in changes.items()}}
    return {name: train[name] for name in sorted(train) if train[name] is not None}


# What is changed, and the training images that have to be read for it: those that are other ones, and no others.
CHANGES = {
    'nothing': (TRAIN, {}, []),
    'one added in front': (edited(**{'0': (image(50), 1)}), {}, ['0']),
    'one added behind': (edited(**{'99': (image(50), 1)}), {}, ['99']),
    'one removed': (edited(_04=None), {}, []),
    'one replaced': (edited(_05=(image(51, 13), 2)), {}, ['05']),
    'one written again': (TRAIN, {'07': 5}, ['07']),
    'two exchanged': (edited(_01=(image(2), 1), _02=(image(1), 2)), {'01': 1, '02': 1}, ['01', '02']),
    'one relabeled': (edited(_03=(image(3), 2)), {}, []),
    'all relabeled': ({name: (data, (label + 1) % 3) for name, (data, label) in TRAIN.items()}, {}, []),
    'all of it': (
        edited(_00=None, _04=(image(4), 0), _06=(image(60), 1), **{'055': (image(61), 1)}),
        {'06': 9},
        ['055', '06'],
    ),
}


def asked_names(source):
    return sorted({source._images[split][index][0] for split, index in source.asked})


@pytest.mark.parametrize('change', CHANGES)
def test_a_finished_data_set_is_brought_up_to_date(tmp_path, storage, change):
    options = {'storage': storage, 'image_size': SIZE, 'images_per_shard': IN_SHARD}
    train, times, to_read = CHANGES[change]
    prepared(labeled(TRAIN, VALIDATION), tmp_path / 'data', **options)
    (tmp_path / 'data' / 'notes.txt').write_text('mine')
    inodes = {path.name: path.stat().st_ino for path in (tmp_path / 'data').iterdir()}
    source, on = labeled(train, VALIDATION, times), console()
    data = prepared(source, tmp_path / 'data', on=on, **options)
    assert asked_names(source) == to_read
    expected = prepared(labeled(train, VALIDATION, times), tmp_path / 'anew', **options)
    assert contents(tmp_path / 'data') == {**contents(tmp_path / 'anew'), 'notes.txt': b'mine'}
    assert data == open_prepared(tmp_path / 'data') and data.shards == expected.shards
    assert sorted(path.name for path in tmp_path.iterdir()) == ['anew', 'data']
    kept = {name for name in inodes if (tmp_path / 'data' / name).exists()}
    kept = {name for name in kept if (tmp_path / 'data' / name).stat().st_ino == inodes[name]}
    assert {f'validation-0000{i}.sums' for i in (0, 1)} <= kept  # not even written again
    assert (kept == set(inodes)) == (change == 'nothing')
    assert ('have changed since' in on.file.getvalue()) == (change != 'nothing')


@pytest.mark.parametrize('change', CHANGES)
def test_an_unfinished_preparation_goes_on_with_other_images(tmp_path, storage, change):
    options = {'storage': storage, 'image_size': SIZE, 'images_per_shard': IN_SHARD}
    train, times, to_read = CHANGES[change]
    first, done = labeled(TRAIN, VALIDATION), 9
    item, counter = first.item, itertools.count()

    def until_stopped(split, index):
        if next(counter) >= done + (16 if storage == 'jpeg' else 0):  # a sample is read before
            raise KeyboardInterrupt
        return item(split, index)

    first.item = until_stopped
    with pytest.raises(KeyboardInterrupt):
        prepared(first, tmp_path / 'data', threads=1, **options)
    source = labeled(train, VALIDATION, times)
    prepared(source, tmp_path / 'data', **options)
    prepared(labeled(train, VALIDATION, times), tmp_path / 'anew', **options)
    assert contents(tmp_path / 'data') == contents(tmp_path / 'anew')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['anew', 'data']
    if storage == 'raw':
        kept = done // IN_SHARD * IN_SHARD  # images in shards that are complete
        of_shards = set(list(TRAIN)[:kept]) - set(to_read)
        assert of_shards.isdisjoint(asked_names(source))


def test_the_change_is_told_in_numbers(tmp_path):
    options = {'image_size': SIZE, 'images_per_shard': IN_SHARD}
    prepared(labeled(TRAIN, VALIDATION), tmp_path / 'data', **options)
    train = edited(_00=None, _01=(image(70), 1), _02=(image(2), 0), **{'99': (image(71), 0)})
    on = console()
    prepared(labeled(train, VALIDATION, {'01': 3}), tmp_path / 'data', on=on, **options)
    line = f'changed since {tmp_path / "data"} was prepared: 2 new or changed, 2 gone or changed, 1 with another label.'
    assert line in on.file.getvalue()


def test_a_class_more_shifts_labels_and_nothing_is_read_for_that(tmp_path, storage):
    options = {'storage': storage, 'image_size': SIZE, 'images_per_shard': IN_SHARD}
    prepared(labeled(TRAIN, VALIDATION), tmp_path / 'data', **options)
    more = ({name: (data, label + 1) for name, (data, label) in of.items()} for of in (TRAIN, VALIDATION))
    train, validation = more
    source = labeled({'0new': (image(80), 0), **train}, validation, classes=4)
    data = prepared(source, tmp_path / 'data', **options)
    assert asked_names(source) == ['0new'] and len(data.class_names) == 4
    shards = open_shards(data, 'train')
    assert [shards.read(i)[1] for i in range(12)] == [0, *(label + 1 for _, label in TRAIN.values())]
    assert [shards.name(i) for i in range(12)] == ['0new', *TRAIN]


@pytest.mark.parametrize('moment', range(0, 42, 7))
def test_a_replacement_that_is_interrupted_anywhere_ends_as_it_should(tmp_path, monkeypatch, moment):
    # Something always answers to the directory's name, or the same command restores it; nothing of the user's is lost.
    options = {'storage': 'raw', 'image_size': SIZE, 'images_per_shard': IN_SHARD}
    prepared(labeled(TRAIN, VALIDATION), tmp_path / 'data', **options)
    (tmp_path / 'data' / 'notes.txt').write_text('mine')
    train, times, _ = CHANGES['all of it']
    prepared(labeled(train, VALIDATION, times), tmp_path / 'anew', **options)
    counter = itertools.count()

    def interrupting(name):
        real = getattr(os, name)

        def call(*arguments, **keywords):
            if next(counter) == moment:
                raise KeyboardInterrupt
            return real(*arguments, **keywords)

        return call

    with monkeypatch.context() as patch:
        for name in ('rename', 'unlink', 'link', 'rmdir', 'fsync'):
            patch.setattr(os, name, interrupting(name))
        with pytest.raises(KeyboardInterrupt):
            prepared(labeled(train, VALIDATION, times), tmp_path / 'data', **options)
            raise KeyboardInterrupt  # it was complete before that moment
    prepared(labeled(train, VALIDATION, times), tmp_path / 'data', **options)
    assert contents(tmp_path / 'data') == {**contents(tmp_path / 'anew'), 'notes.txt': b'mine'}
    assert sorted(path.name for path in tmp_path.iterdir()) == ['anew', 'data']


# --- broken images ---


@pytest.mark.parametrize('time', [0, 7], ids=['as old as it was', 'newer'])
@pytest.mark.parametrize('skip', [False, True])
def test_a_broken_image_that_was_repaired_is_read_anew_and_not_left_out(tmp_path, storage, time, skip):
    options = {'storage': storage, 'image_size': SIZE, 'images_per_shard': IN_SHARD}
    whole = TRAIN['05'][0]
    broken = edited(_05=(BROKEN.ljust(len(whole)), 2))  # as large as the whole one
    with pytest.raises(UserError, match=r'1 of 16 images cannot be read.*05'):
        prepared(labeled(broken, VALIDATION), tmp_path / 'data', **options)
    source = labeled(TRAIN, VALIDATION, {'05': time})
    data = prepared(source, tmp_path / 'data', skip_broken=skip, **options)
    assert asked_names(source) == ['05']
    assert data.left_out == 0 and data.examples('train') == 11
    assert (tmp_path / 'data' / BROKEN_IMAGES).read_text() == ''
    prepared(labeled(TRAIN, VALIDATION, {'05': time}), tmp_path / 'anew', **options)
    assert contents(tmp_path / 'data') == contents(tmp_path / 'anew')


def test_an_image_that_was_left_out_comes_in_when_it_is_repaired(tmp_path, storage):
    options = {'storage': storage, 'image_size': SIZE, 'images_per_shard': IN_SHARD}
    broken = edited(_05=(BROKEN, 2))
    data = prepared(labeled(broken, VALIDATION), tmp_path / 'data', skip_broken=True, **options)
    assert (data.left_out, data.seen['left_out']) == (1, {'unreadable': 1})
    again = prepared(labeled(broken, VALIDATION), tmp_path / 'data', skip_broken=True, **options)
    assert again == data
    data = prepared(labeled(TRAIN, VALIDATION), tmp_path / 'data', skip_broken=True, **options)
    assert (data.left_out, data.examples('train'), data.seen['left_out']) == (0, 11, {})


def test_an_image_that_breaks_ends_the_update_and_leaves_what_is_there(tmp_path):
    options = {'image_size': SIZE, 'images_per_shard': IN_SHARD}
    prepared(labeled(TRAIN, VALIDATION), tmp_path / 'data', **options)
    before = contents(tmp_path / 'data')
    with pytest.raises(UserError, match='1 of 16 images cannot be read'):
        prepared(labeled(edited(_05=(BROKEN, 2)), VALIDATION), tmp_path / 'data', **options)
    assert contents(tmp_path / 'data') == before
    prepared(labeled(TRAIN, VALIDATION), tmp_path / 'data', **options)
    assert contents(tmp_path / 'data') == before


# --- a folder of files, by the commands that people give ---


def config_for(source, directory, /, **fields):
    config = digits.get_config()
    config.data.update({'source': 'folder', 'source_directory': str(source), 'directory': str(directory)})
    config.data.update({'image_size': SIZE, 'crop_size': SIZE, 'images_per_shard': 8, **fields})
    return typed(config).data


def prepare_folder(source, directory, /, **fields):
    on = console()
    return prepare_data(config_for(source, directory, **fields), on), on.file.getvalue()


def opened(source, directory, /, **fields):
    on = console()
    return open_data(config_for(source, directory, **fields), on), on.file.getvalue()


def picture(folder, name, color):
    path = folder / f'{name}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (20, 20), color).save(path)
    return path


COLORS = {f'{split}/{kind}/{i}': (60 * i + 10, 200 * (kind == 'dog'), 100) for split in ('train', 'validation')
          for kind in ('cat', 'dog') for i in range(4)}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name, color in COLORS.items():
        picture(tmp_path / 'images', name, color)
    return tmp_path / 'images'


def assert_the_pixels_are_the_files(data, folder):
    """Every image of the folder, with its label and pixels, and no other."""
    for split in ('train', 'validation'):
        shards, found = open_shards(data, split), {}
        for index in range(len(shards)):
            pixels, label = shards.read(index)
            found[shards.name(index)] = (data.class_names[label], pixels)
        files = {path.relative_to(folder).as_posix(): path for path in (folder / split).rglob('*.png')}
        assert found.keys() == files.keys()
        for name, path in files.items():
            kind, pixels = found[name]
            assert kind == path.parent.name
            np.testing.assert_array_equal(pixels, normalized(path.read_bytes(), SIZE))


def test_broken_removed_added_and_exchanged_as_people_do_it(folder, tmp_path):
    (folder / 'train/cat/1.png').write_bytes(b'broken')
    with pytest.raises(UserError, match=r'1 of 16 images.*train/cat/1\.png'):
        prepare_folder(folder, tmp_path / 'data', storage='raw')
    (folder / 'train/cat/1.png').unlink()
    picture(folder, 'train/cat/9', (1, 2, 3))
    a, b = folder / 'train/cat/2.png', folder / 'train/dog/2.png'
    a.rename(folder / 'x')
    b.rename(a)
    (folder / 'x').rename(b)
    data, _ = prepare_folder(folder, tmp_path / 'data', storage='raw')
    assert_the_pixels_are_the_files(data, folder)
    data, text = prepare_folder(folder, tmp_path / 'data', storage='raw')
    assert 'is prepared already, and whole; its images are those of the source.' in text
    picture(folder, 'train/emu/1', (3, 2, 1))
    picture(folder, 'validation/emu/1', (4, 2, 1))
    (folder / 'train/dog/3.png').unlink()
    os.utime(picture(folder, 'validation/cat/0', (250, 250, 250)), ns=(1, 1))
    data, text = prepare_folder(folder, tmp_path / 'data', storage='raw')
    assert '3 new or changed, 2 gone or changed' in text and 'Prepared' in text
    assert_the_pixels_are_the_files(data, folder)


def test_another_folder_is_refused_in_training_and_in_preparation(folder, tmp_path):
    prepare_folder(folder, tmp_path / 'data')
    before = contents(tmp_path / 'data')
    other = tmp_path / 'other'
    shutil.copytree(folder, other)
    picture(other, 'train/cat/0', (9, 9, 9))
    with pytest.raises(UserError, match=r'was prepared from .*images, and config\.data\.source_directory=.*other'):
        opened(other, tmp_path / 'data')
    with pytest.raises(UserError, match=r'other has other images \(1 new or changed, 1 gone or changed\)'):
        prepare_folder(other, tmp_path / 'data')
    shutil.rmtree(other)  # a directory that is not there is another one too
    with pytest.raises(UserError, match=r'was prepared from'):
        opened(other, tmp_path / 'data')
    assert contents(tmp_path / 'data') == before
    assert opened(folder, tmp_path / 'data')[1] == ''


def test_the_directory_that_is_the_default_was_not_given(folder, tmp_path):
    data, _ = prepare_folder(folder, tmp_path / 'data')
    config = digits.get_config()
    config.data.update({'source': 'folder', 'directory': str(tmp_path / 'data'), 'image_size': SIZE, 'crop_size': SIZE})
    assert config.data.source_directory == 'data/downloads'
    assert open_data(typed(config).data, console()) == data


def test_an_unfinished_preparation_of_another_folder_is_refused(folder, tmp_path):
    (folder / 'train/cat/1.png').write_bytes(b'broken')
    with pytest.raises(UserError, match='cannot be read'):
        prepare_folder(folder, tmp_path / 'data')
    shutil.copytree(folder, tmp_path / 'other')
    with pytest.raises(UserError, match=r'data\.partial was started with source_directory=.*images.*other'):
        prepare_folder(tmp_path / 'other', tmp_path / 'data')


def test_a_folder_that_has_moved_is_found_to_be_the_same(folder, tmp_path):
    prepare_folder(folder, tmp_path / 'data')
    folder.rename(tmp_path / 'moved')
    with pytest.raises(UserError, match=r'if the images have only moved, run the same command with --mode=prepare'):
        opened(tmp_path / 'moved', tmp_path / 'data')
    data, text = prepare_folder(tmp_path / 'moved', tmp_path / 'data')
    assert f'{tmp_path / "moved"} holds the images of {folder}.' in text
    assert data.source_directory == str(tmp_path / 'moved')
    again, text = opened(tmp_path / 'moved', tmp_path / 'data')
    assert again == data and text == ''


def test_training_says_where_the_source_has_changed(folder, tmp_path):
    data, _ = prepare_folder(folder, tmp_path / 'data')
    changes = (
        lambda: picture(folder, 'train/cat/8', (1, 1, 1)),
        lambda: (folder / 'validation/dog/1.png').unlink(),
        lambda: os.utime(folder / 'train/dog/1.png', ns=(1, 1)),
        lambda: (folder / 'train/dog/1.png').rename(folder / 'train/cat/7.png'),
        lambda: picture(folder, 'train/emu/8', (1, 1, 1)),
    )
    for change in changes:
        assert opened(folder, tmp_path / 'data')[1] == ''
        change()
        found, text = opened(folder, tmp_path / 'data')
        assert text.startswith('warning: ') and 'changed since' in text and '--mode=prepare' in text
        assert found == data
        if change == changes[-1]:
            picture(folder, 'validation/emu/8', (2, 2, 2))
        data, _ = prepare_folder(folder, tmp_path / 'data')


def test_a_folder_that_looks_changed_and_is_not(folder, tmp_path):
    data, _ = prepare_folder(folder, tmp_path / 'data')
    (folder / 'train/cat/notes').write_text('no image')
    assert opened(folder, tmp_path / 'data')[1].startswith(f'warning: {folder}/train/cat has changed since ')
    again, text = prepare_folder(folder, tmp_path / 'data')
    assert again == data and 'its images are those of the source' in text
    assert opened(folder, tmp_path / 'data')[1] == ''


ARCHIVES = {
    'cifar10': lambda: {'cifar-10-binary.tar.gz': tgz_of(cifar10_files('bin')[0])},
    'cifar10, unpacked': lambda: cifar10_files('py')[0],
    'tiny_imagenet': lambda: {'tiny-imagenet-200.zip': zip_of(tiny_imagenet_files()[0])},
    'tiny_imagenet, unpacked': lambda: tiny_imagenet_files()[0],
    'imagenette': lambda: {'imagenette2.tgz': tgz_of(imagenette_files()[0])},
    'imagenette, unpacked': lambda: imagenette_files()[0],
    'fashion_mnist': lambda: idx_files()[0],
    'folder, in a folder': lambda: {
        path: data for path, data in imagenette_files('inner')[0].items() if path.endswith('JPEG')
    },
}


@pytest.mark.parametrize('which', ARCHIVES)
def test_every_source_is_found_unchanged_until_it_changes(tmp_path, which):
    files, source = ARCHIVES[which](), which.split(',')[0]
    write_folder(tmp_path / 'there', files)
    data, _ = prepare_folder(tmp_path / 'there', tmp_path / 'data', source=source)
    for _ in range(2):
        assert opened(tmp_path / 'there', tmp_path / 'data', source=source) == (data, '')
        again, text = prepare_folder(tmp_path / 'there', tmp_path / 'data', source=source)
        assert again == data and 'is prepared already, and whole; its images are those of the source.' in text
    assert data.places()
    for path in (tmp_path / 'there').rglob('*'):
        if path.is_file():
            os.utime(path, ns=(5, 5))
    assert opened(tmp_path / 'there', tmp_path / 'data', source=source)[1].startswith('warning: ')
    again, text = prepare_folder(tmp_path / 'there', tmp_path / 'data', source=source)
    assert 'have changed since' in text and again.shards == data.shards
    assert opened(tmp_path / 'there', tmp_path / 'data', source=source) == (again, '')


def test_a_damaged_data_set_is_not_mended_from_another_folder(folder, tmp_path):
    prepare_folder(folder, tmp_path / 'data')
    (tmp_path / 'data' / MEAN_IMAGE).unlink()
    before = contents(tmp_path / 'data')
    shutil.copytree(folder, tmp_path / 'other')
    with pytest.raises(UserError, match=r'is damaged: mean_image\.npy\. It was prepared from .*images; name that'):
        prepare_folder(tmp_path / 'other', tmp_path / 'data')
    assert contents(tmp_path / 'data') == before
    assert 'is whole again' in prepare_folder(folder, tmp_path / 'data')[1]


def test_a_file_that_vanishes_while_it_is_listed(folder, tmp_path, monkeypatch):
    source = open_source('folder', str(folder))
    (folder / 'train/cat/1.png').unlink()
    monkeypatch.setattr('alexnet_jax.data.opening.open_source', lambda *_: source)
    with pytest.raises(UserError, match=r'The file .*cat/1\.png of the source cannot be read: No such file'):
        prepare_folder(folder, tmp_path / 'data')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['images']


@pytest.mark.parametrize('directory', ['images', 'elsewhere'])
def test_without_its_source_a_data_set_is_as_good_as_ever(folder, tmp_path, directory):
    data, _ = prepare_folder(folder, tmp_path / 'data')
    shutil.rmtree(folder)
    found, text = opened(tmp_path / directory, tmp_path / 'data')
    assert found == data and ('which is not here, and is used as it is' in text) == (directory == 'elsewhere')
    found, text = prepare_folder(tmp_path / directory, tmp_path / 'data')
    assert found == data and 'is prepared already, and whole. Its source is not at hand: ' in text


def test_sources_of_the_same_images_are_not_exchanged(folder, tmp_path, monkeypatch):
    # `cifar10` and `tfds:cifar10` have the same images in another order, with which a run could not go on.
    data, _ = prepare_folder(folder, tmp_path / 'data')
    monkeypatch.setattr('alexnet_jax.data.opening.images_of', lambda source: 'the same')
    shutil.copytree(folder, tmp_path / 'copy')
    again, text = prepare_folder(folder, tmp_path / 'data', source='cifar10')
    assert again == data and 'is prepared already, and whole; its images are those of the source.' in text
    assert opened(tmp_path / 'copy', tmp_path / 'data', source='cifar10') == (data, '')


# --- files of a finished data set ---

DAMAGE = {
    'a byte': lambda path: path.write_bytes(
        path.read_bytes()[:700] + bytes([path.read_bytes()[700] ^ 1]) + path.read_bytes()[701:]
    ),
    'cut': lambda path: path.write_bytes(path.read_bytes()[:-9]),
    'missing': lambda path: path.unlink(),
}


@pytest.mark.parametrize('damage', DAMAGE)
@pytest.mark.parametrize('file', ['train-00001{}', 'validation-00000{}', 'train-00000.sums', MEAN_IMAGE, BROKEN_IMAGES])
def test_damaged_files_are_prepared_again(folder, tmp_path, storage, damage, file):
    (tmp_path / 'images' / 'train' / 'cat' / 'x.png').write_bytes(b'broken' * 300)
    options = {'storage': storage, 'skip_broken': True}
    data, _ = prepare_folder(folder, tmp_path / 'data', **options)
    whole = contents(tmp_path / 'data')
    path = tmp_path / 'data' / file.format('.raw' if storage == 'raw' else '.array_record')
    if path.stat().st_size < 700:
        path.write_text('x' * 800)
    DAMAGE[damage](path)
    found, text = prepare_folder(folder, tmp_path / 'data', **options)
    assert f'{path} is prepared again: ' in text and found == data
    assert contents(tmp_path / 'data') == whole
    assert sorted(item.name for item in tmp_path.iterdir()) == ['data', 'images']
    shutil.rmtree(folder)
    DAMAGE['missing'](path)
    with pytest.raises(UserError, match=f'{path.name} \\(it is missing\\).*To prepare that again: '):
        prepare_folder(folder, tmp_path / 'data', **options)


def test_names_of_a_raw_shard_are_checked_too(folder, tmp_path):
    prepare_folder(folder, tmp_path / 'data', storage='raw')
    whole = contents(tmp_path / 'data')
    (tmp_path / 'data' / 'train-00000.names').write_text('other\n' * 8)
    _, text = prepare_folder(folder, tmp_path / 'data', storage='raw')
    assert 'train-00000.names is prepared again: it has ' in text and contents(tmp_path / 'data') == whole


def as_of_an_earlier_version(directory):
    """Without what that did not write."""
    for path in [*directory.glob('*.sums'), directory / PLACES]:
        path.unlink()
    fields = json.loads((directory / MANIFEST).read_text())
    for name in ('source_directory', 'checksums', 'seen'):
        del fields[name]
    (directory / MANIFEST).write_text(json.dumps(fields))


def test_data_sets_of_an_earlier_version_stay_as_they_are(folder, tmp_path, storage):
    data, _ = prepare_folder(folder, tmp_path / 'data', storage=storage)
    images = next(evaluation_batches(data, 'train', batch_size=8))
    as_of_an_earlier_version(tmp_path / 'data')
    before = contents(tmp_path / 'data')
    old, text = opened(tmp_path / 'elsewhere', tmp_path / 'data', storage=storage)
    assert text == '' and old.shards == data.shards
    np.testing.assert_array_equal(next(evaluation_batches(old, 'train', batch_size=8))['image'], images['image'])
    picture(folder, 'train/cat/8', (1, 1, 1))
    _, text = prepare_folder(folder, tmp_path / 'data', storage=storage)
    assert 'is of an earlier version' in text and contents(tmp_path / 'data') == before
    ending = {'raw': 'raw', 'jpeg': 'array_record'}[storage]
    DAMAGE['a byte'](tmp_path / 'data' / f'train-00000.{ending}')
    data, text = prepare_folder(folder, tmp_path / 'data', storage=storage)
    assert data.examples('train') == 9 and data.checksums
    if storage == 'raw':
        assert_the_pixels_are_the_files(data, folder)


def test_an_unfinished_preparation_of_an_earlier_version_begins_anew(folder, tmp_path):
    partial = tmp_path / 'data.partial'
    partial.mkdir()
    (partial / 'train-00000.raw').write_bytes(bytes(8 * (4 + 3 * SIZE**2)))
    np.savez(partial / 'train-00000.sums.npz', facts=np.array('{}'), pixels=np.zeros(3), products=np.zeros(3))
    (partial / 'train-00000.sums.npz').rename(partial / 'train-00000.sums')
    (partial / 'lock').write_text('')
    settings = {'source': 'folder', 'image_size': SIZE, 'storage': 'raw', 'quality': 90, 'images_per_shard': 8}
    (partial / 'settings.json').write_text(json.dumps({**settings, 'splits': {'train': 8}, 'classes': '2, of ids a'}))
    data, _ = prepare_folder(folder, tmp_path / 'data', storage='raw')
    assert_the_pixels_are_the_files(data, folder)


# --- several processes ---


def test_whoever_waits_finds_it_prepared(tmp_path):
    reading, going_on, results, on = threading.Event(), threading.Event(), [], console()

    class Slow(Images):
        def item(self, split, index):
            reading.set()
            assert going_on.wait(20)
            return super().item(split, index)

    images = [(f'{i}', image(i)) for i in range(6)]
    first, second = Slow(images, images), Images(images, images)
    threads = [
        threading.Thread(
            target=lambda source=source: results.append(
                module.prepare(source, fakes.settings(storage='raw'), tmp_path / 'data', on, wait=True)
            )
        )
        for source in (first, second)
    ]
    threads[0].start()
    assert reading.wait(20)
    with pytest.raises(UserError, match=r'is being prepared by process \d+ on .*; wait for it'):
        prepared(second, tmp_path / 'data', storage='raw')
    threads[1].start()
    while 'waiting for it.' not in on.file.getvalue():
        assert threads[1].is_alive()
    going_on.set()
    for thread in threads:
        thread.join(20)
    assert len(results) == 2 and results[0] == results[1] == open_prepared(tmp_path / 'data') and second.asked == []
    assert [path.name for path in tmp_path.iterdir()] == ['data']


# --- integrity of raw storage ---


def test_changed_labels_and_blackened_images_are_noticed(tmp_path):
    images = [(f'{i}', image(i)) for i in range(20)]
    data = prepared(Images(images, images[:3]), tmp_path / 'data', storage='raw', image_size=SIZE)
    size = 4 + 3 * SIZE**2
    path = tmp_path / 'data' / 'train-00000.raw'
    whole = path.read_bytes()
    for record in range(20):
        for damage in (b'\x02', b'\x00\x00\x00\x00' + bytes(size - 4)):
            changed = bytearray(whole)
            changed[record * size : record * size + len(damage)] = damage
            if changed == whole:
                continue
            path.write_bytes(changed)
            shards = open_shards(data, 'train')
            with pytest.raises(
                UserError, match=rf'train-00000\.raw, record {record}, is damaged: its checksum differs'
            ):
                read(shards, record, 3)
            read(shards, (record + 1) % 20, 3)


def test_manifest_of_another_size_than_the_file(folder, tmp_path):
    data, _ = prepare_folder(folder, tmp_path / 'data')
    checksums = {name: [size + 1, digest] for name, (size, digest) in data.checksums.items()}
    write_manifest(module.dataclasses.replace(data, checksums=checksums), tmp_path / 'data')
    with pytest.raises(UserError, match=r'has [\d,]+ bytes, .* says [\d,]+; prepare the data set again'):
        open_prepared(tmp_path / 'data')
