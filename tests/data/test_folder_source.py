"""Guards the pictures of a folder: which are found, in which order, class and split, and what is refused."""

import concurrent.futures
import os

import pytest
from configs import typed
from fakes import console, encoded, noise
from PIL import Image

from alexnet_jax.config import default_config
from alexnet_jax.data.formats import EXTENSIONS
from alexnet_jax.data.opening import prepare_data
from alexnet_jax.data.sources import how_to_get
from alexnet_jax.data.sources.folder import Folder
from alexnet_jax.runtime.errors import UserError


def write(directory, *paths):
    """Files whose content is their own path, so that a mix-up shows."""
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(path.encode())


def names(folder, split):
    return [folder.item(split, index).name for index in range(folder.splits[split])]


def check_items(folder):
    for split, count in folder.splits.items():
        for index in range(count):
            item = folder.item(split, index)
            assert item.image == item.name.encode()
            assert folder.class_names[item.label] in item.name.split('/')


@pytest.mark.parametrize('validation', ['validation', 'val', 'Validation'])
def test_folders_for_training_and_validation(tmp_path, validation):
    write(tmp_path, 'train/dog/2.jpg', 'train/dog/10.jpg', 'train/cat/b.png', 'train/ant/x.gif', 'train/cat/a.png')
    write(tmp_path, f'{validation}/dog/9.jpg', f'{validation}/ant/8.jpg')
    folder = Folder(tmp_path)
    assert folder.class_names == folder.class_ids == ('ant', 'cat', 'dog')
    assert folder.splits == {'train': 5, 'validation': 2}
    # sorted by code points: 10 before 2
    assert names(folder, 'train') == [
        'train/ant/x.gif',
        'train/cat/a.png',
        'train/cat/b.png',
        'train/dog/10.jpg',
        'train/dog/2.jpg',
    ]
    assert [folder.item('train', index).label for index in range(5)] == [0, 1, 1, 2, 2]
    assert names(folder, 'validation') == [f'{validation}/ant/8.jpg', f'{validation}/dog/9.jpg']
    assert [folder.item('validation', index).label for index in range(2)] == [0, 2]
    check_items(folder)


def test_test_is_a_split_of_its_own_only_beside_validation(tmp_path):
    write(tmp_path, 'train/a/1.jpg', 'train/b/1.jpg', 'test/b/2.jpg')
    assert Folder(tmp_path).splits == {'train': 2, 'validation': 1}
    assert names(Folder(tmp_path), 'validation') == ['test/b/2.jpg']
    write(tmp_path, 'val/a/3.jpg', 'val/b/3.jpg')
    assert Folder(tmp_path).splits == {'train': 2, 'validation': 2, 'test': 1}
    assert names(Folder(tmp_path), 'test') == ['test/b/2.jpg']


@pytest.mark.parametrize('top', ['', 'train/'])
def test_every_tenth_picture_of_a_class_is_held_out(tmp_path, top):
    counts = {'one': 1, 'two': 2, 'ten': 10, 'eleven': 11, 'many': 35}
    for name, count in counts.items():
        write(tmp_path, *(f'{top}{name}/{index:02d}.jpg' for index in range(count)))
    folder = Folder(tmp_path)
    held_out = {name: list(range(0, count, 10)) if count > 1 else [] for name, count in counts.items()}
    assert names(folder, 'validation') == [
        f'{top}{name}/{index:02d}.jpg' for name in sorted(counts) for index in held_out[name]
    ]
    assert names(folder, 'train') == [
        f'{top}{name}/{index:02d}.jpg'
        for name in sorted(counts)
        for index in range(counts[name])
        if index not in held_out[name]
    ]
    check_items(folder)


def test_what_counts_as_a_picture(tmp_path):
    known = '.jpg .jpeg .jpe .jfif .mpo .png .apng .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .pfm .webp .jp2 .j2k'
    assert {*known.split()} <= {*EXTENSIONS}
    pictures = [f'a/x{ending}' for ending in EXTENSIONS] + [
        'a/Y.JPEG',
        'a/z.tar.Png',
        'a/deep/er/1.jpg',
        'a/s p é🐟.jpg',
    ]
    write(tmp_path, *pictures, 'b/1.jpg', 'b/2.jpg')
    write(tmp_path, 'a/.hidden.jpg', 'a/.cache/1.jpg', '.git/1.jpg', 'a/notes.txt', 'a/jpg', 'a/x.jpg.part')
    write(tmp_path, 'README.md', '__MACOSX/a/1.jpg', 'b/1.heic1', 'b/2.HEIC1')
    write(tmp_path, 'a/folder.jpg/inside.jpg', 'loose.jpg')
    folder = Folder(tmp_path)
    found = names(folder, 'train') + names(folder, 'validation')
    assert sorted(found) == sorted([*pictures, 'a/folder.jpg/inside.jpg', 'b/1.jpg', 'b/2.jpg'])
    check_items(folder)
    left_out = {
        '.heic1': 2,
        '.txt': 1,
        'without extension': 1,
        '.part': 1,
        '.md': 1,
        'hidden folder': 3,
        'hidden file': 1,
    }
    assert folder.left_out == left_out
    text = '\n'.join(folder.notes)
    assert '6 files of other kinds (.heic1 2, ' in text and '3 hidden folders (' in text and '.git' in text
    assert f'{tmp_path} has 1 image beside its folders' in text


def test_name_that_is_no_text_is_read_and_shown(tmp_path):
    write(tmp_path, 'a/1.jpg', 'a/2.jpg', 'b/1.jpg', 'b/2.jpg')
    with open(os.path.join(os.fsencode(tmp_path), b'a', b'0\xff.jpg'), 'wb') as file:
        file.write(b'!')
    item = Folder(tmp_path).item('validation', 0)
    assert (item.name, item.image) == (r'a/0\xff.jpg', b'!')
    item.name.encode()


def test_symbolic_links_are_followed(tmp_path):
    write(tmp_path, 'elsewhere/1.jpg', 'elsewhere/2.jpg', 'elsewhere/sub/3.jpg')
    write(tmp_path, 'data/a/1.jpg', 'data/a/2.jpg', 'data/b/1.jpg')
    (tmp_path / 'data/b/linked.jpg').symlink_to(tmp_path / 'elsewhere/1.jpg')
    (tmp_path / 'data/c').symlink_to(tmp_path / 'elsewhere')
    folder = Folder(tmp_path / 'data')
    assert folder.class_names == ('a', 'b', 'c')
    assert names(folder, 'train') == ['a/2.jpg', 'b/linked.jpg', 'c/2.jpg', 'c/sub/3.jpg']
    assert folder.item('train', 1).image == b'elsewhere/1.jpg'


@pytest.mark.parametrize('link', ['a/x.jpg', 'a/x', 'c'])
def test_broken_link_is_named(tmp_path, link):
    write(tmp_path, 'a/1.jpg', 'a/2.jpg', 'b/1.jpg')
    (tmp_path / link).symlink_to(tmp_path / 'gone')
    with pytest.raises(UserError, match='symbolic link') as caught:
        Folder(tmp_path)
    assert str(tmp_path / link) in str(caught.value)
    assert 'gone' in str(caught.value)


def test_a_class_whose_name_is_no_text(tmp_path):
    for name in (b'a', b'\xffb'):
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
        for number in range(2):
            with open(os.path.join(os.fsencode(tmp_path), name, b'%d.jpg' % number), 'wb') as file:
                file.write(name)
    folder = Folder(tmp_path)
    assert folder.class_names == ('a', r'\xffb')
    item = folder.item('train', 1)
    assert (item.name, item.image, item.label) == (r'\xffb/1.jpg', b'\xffb', 1)


def test_a_circle_ends_and_is_said(tmp_path):
    write(tmp_path, 'a/1.jpg', 'a/2.jpg', 'b/1.jpg')
    (tmp_path / 'a/deep').mkdir()
    (tmp_path / 'a/deep/loop').symlink_to(tmp_path / 'a')
    folder = Folder(tmp_path)
    assert folder.splits == {'train': 2, 'validation': 1}
    assert f'1 symbolic link leading back to a folder around it ({tmp_path}/a/deep/loop)' in folder.notes[0]


@pytest.mark.parametrize('train', ['train', 'training', 'Train'])
@pytest.mark.parametrize('validation', ['val', 'valid', 'validation', 'test', 'testing'])
def test_names_of_splits(tmp_path, train, validation):
    write(tmp_path, f'{train}/a/1.jpg', f'{train}/b/1.jpg', f'{validation}/b/2.jpg')
    folder = Folder(tmp_path)
    assert folder.splits == {'train': 2, 'validation': 1}
    assert names(folder, 'validation') == [f'{validation}/b/2.jpg']


def test_a_split_in_a_folder_of_its_name(tmp_path):
    write(tmp_path, 'train/train/a/1.jpg', 'train/train/b/1.jpg', 'val/val/b/2.jpg', 'test/test/3.jpg')
    folder = Folder(tmp_path)
    assert folder.splits == {'train': 2, 'validation': 1} and folder.class_names == ('a', 'b')
    assert names(folder, 'validation') == ['val/val/b/2.jpg']


def test_classes_that_are_named_a_little_like_splits(tmp_path):
    write(tmp_path, *(f'{name}/{number}.jpg' for name in ('test_tube', 'train_station', 'tree') for number in '12'))
    assert Folder(tmp_path).class_names == ('test_tube', 'train_station', 'tree')


@pytest.mark.parametrize('inside', ['', 'train/'])
def test_a_folder_around_all(tmp_path, inside):
    write(tmp_path, f'animals/v1/{inside}a/1.jpg', f'animals/v1/{inside}b/1.jpg', f'animals/v1/{inside}b/2.jpg')
    write(tmp_path, '__MACOSX/animals/._1.jpg', 'README.txt')
    folder = Folder(tmp_path)
    assert folder.class_names == ('a', 'b') and folder.splits == {'train': 2, 'validation': 1}
    assert names(folder, 'train') == [f'{inside}a/1.jpg', f'{inside}b/2.jpg']
    assert folder.identity('train', 0).file == f'animals/v1/{inside}a/1.jpg'
    assert folder.left_out == {'.txt': 1, 'hidden folder': 1}
    assert f'The only folder in {tmp_path} is read: {tmp_path}/animals/v1.' in folder.notes


@pytest.mark.parametrize('test', ['test', 'test/unknown', 'Testing/test'])
@pytest.mark.parametrize('validation', ['val', None])
def test_test_images_without_labels_are_left_out_and_said(tmp_path, test, validation):
    write(tmp_path, *(f'train/{name}/{number}.jpg' for name in 'ab' for number in range(3)))
    write(tmp_path, *(f'{test}/{number}.jpg' for number in range(7)))
    if validation:
        write(tmp_path, 'val/a/9.jpg')
    folder = Folder(tmp_path)
    assert folder.splits == ({'train': 6, 'validation': 1} if validation else {'train': 4, 'validation': 2})
    top = tmp_path / test.split('/')[0]
    note = next(note for note in folder.notes if 'without labels' in note)
    assert note.startswith(f'{top} has 7 images') and note.endswith(f'To predict: --mode=predict --images={top}')


def test_folders_inside_a_class_are_said(tmp_path):
    write(tmp_path, 'animal/cat/1.jpg', 'animal/dog/2.jpg', 'animal/dog/old/3.jpg', 'plant/4.jpg', 'plant/moss/5.jpg')
    folder = Folder(tmp_path)
    assert folder.class_names == ('animal', 'plant')
    assert folder.notes[0] == '2 classes have images in inner folders, as animal/cat, which count as of the class.'
    write(tmp_path, 'plant/train/1.jpg', 'plant/valid/1.jpg')
    with pytest.raises(UserError, match=rf'The class folder {tmp_path}/plant has folders for training and testing of'):
        Folder(tmp_path)


def test_a_folder_without_images_beside_the_splits(tmp_path):
    write(tmp_path, 'train/a/1.jpg', 'train/b/1.jpg', 'val/a/2.jpg', 'annotations/a/1.xml')
    folder = Folder(tmp_path)
    assert folder.splits == {'train': 2, 'validation': 1}
    assert f'{tmp_path}/annotations has no images, and is left out.' in folder.notes


# By their files: the source that reads them, and its directory.
OTHERS = {
    'wnids.txt train/n01/images/1.JPEG train/n02/images/1.JPEG val/images/val_0.JPEG': ('tiny_imagenet', ''),
    'train/n01/1.JPEG train/n02/1.JPEG val/ILSVRC2012_val_00000001.JPEG': ('imagenet2012', ''),
    'LOC_val_solution.csv ILSVRC/Annotations/CLS-LOC/1.xml ILSVRC/Data/CLS-LOC/train/n01/1.JPEG': ('imagenet2012', ''),
    'ILSVRC/Annotations/CLS-LOC/1.xml ILSVRC/Data/CLS-LOC/train/n01/1.JPEG': ('imagenet2012', ''),
    'CLS-LOC/train/n01/1.JPEG CLS-LOC/train/n02/1.JPEG CLS-LOC/val/1.JPEG': ('imagenet2012', 'CLS-LOC'),
    'ILSVRC2010_images_train/x.tar': ('imagenet2010', ''),
    'cifar-10-python.tar.gz': ('cifar10', ''),
    'data_batch_1.bin': ('cifar10', ''),
    'cifar-100-binary.tar.gz': ('cifar100', ''),
    'train-images-idx3-ubyte.gz': ('mnist', ''),
    'imagenette2-320.tgz': ('imagenette2-320', ''),
    'train-00000-of-00001.parquet': ('parquet', ''),
}


@pytest.mark.parametrize('files', OTHERS)
def test_a_layout_of_another_source_is_recognized(tmp_path, files):
    source, place = OTHERS[files]
    write(tmp_path, *files.split())
    with pytest.raises(UserError) as caught:
        Folder(tmp_path)
    where = str(tmp_path / place)
    assert f"config.data.source='{source}' reads, with config.data.source_directory={where!r}." in str(caught.value)
    assert how_to_get(source, '')  # a source of that name exists


@pytest.mark.parametrize(
    ('paths', 'message'),
    [
        ([], r'no folder'),
        (['1.jpg', '2.jpg'], r'no folder'),
        (['only/1.jpg', 'only/2.jpg'], r"only one class, 'only'"),
        (['train/1.jpg', 'validation/a/1.jpg'], r'train has 1 image, but no folder'),
        (['train/a/1.jpg', 'train/a/2.jpg'], r"only one class, 'a'"),
        (['a/1.jpg', 'b/notes.txt', 'c/1.jpg'], r'/b has no image'),
        (['a/1.jpg', 'b/.hidden.jpg'], r'/b has no image'),
        (['train/a/1.jpg', 'train/b/1.jpg', 'val/a/1.jpg', 'val/b/1.txt'], r'val/b has no image'),
        (['train/a/1.jpg', 'train/b/1.jpg', 'val/a/1.jpg', 'val/c/1.jpg'], r"val has the class 'c'"),
        (['train/a/1.jpg', 'train/b/1.jpg', 'val/a/1.jpg', 'test/a/1.jpg', 'test/d/1.jpg'], r"test has the class 'd'"),
        (['train/a/1.jpg', 'train/b/1.jpg', 'val/a/1.jpg', 'validation/a/1.jpg'], r"both 'val' and 'validation'"),
        (['train/a/1.jpg', 'train/b/1.jpg', 'extra/a/1.jpg'], r"'extra' beside 'train'"),
        (
            ['train/a/1.jpg', 'train/b/1.jpg', 'val/1.jpg', 'val/2.jpg'],
            r'val has 2 images, but no folder named by its ',
        ),
        (['train/a/1.jpg', 'train/b/1.jpg', 'val/notes.md'], r'val has no folder named by its class.*every tenth'),
        (
            ['train/1.jpg', 'train/2.jpg', 'train.csv'],
            r'train has 2 images, but no folder.*train.csv may have them, are',
        ),
        (
            ['a/train/1.jpg', 'a/test/1.jpg', 'b/train/1.jpg', 'b/test/1.jpg'],
            r'has folders for training and testing of',
        ),
        (['a/1.jpg', 'b/1.xyz', 'b/2.xyz'], r'/b has no image in it, but 2 files of other kinds \(.xyz 2\)'),
        (['images/a/1.jpg', 'images/b/1.jpg', 'meta/x.txt'], r"/meta has no .* are in .*source_directory='.*/images'"),
        (
            ['seg_train/a/1.jpg', 'seg_test/a/1.jpg', 'seg_pred/1.jpg'],
            r'seg_pred, seg_test, seg_train, which are named',
        ),
        (['jpg/1.jpg', 'jpg/2.jpg', 'labels.mat'], r"only one class, 'jpg'.*Labels in a table, as .*/labels.mat may"),
        (['pictures.zip'], r'has archives, as pictures.zip: unpack'),
        (['val/a/1.jpg', 'test/a/1.jpg'], r'no folder "train"'),
        (['car/1.jpg', 'plane/1.jpg', 'train/1.jpg'], r"'car' beside .*'train'.*belong into .*/train"),
        (['a/1.jpg', 'b/1.jpg'], r'no image for validation'),
    ],
)
def test_folder_that_cannot_be_used(tmp_path, paths, message):
    write(tmp_path, *paths)
    with pytest.raises(UserError, match=message) as caught:
        Folder(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_directory_that_is_not_there(tmp_path):
    (tmp_path / 'file').write_text('')
    for path in (tmp_path / 'none', tmp_path / 'file', ''):
        with pytest.raises(UserError, match='is not a directory') as caught:
            Folder(path)
        assert repr(str(path)) in str(caught.value)


def test_picture_that_vanished_is_named(tmp_path):
    write(tmp_path, 'a/1.jpg', 'a/2.jpg', 'b/1.jpg')
    folder = Folder(tmp_path)
    (tmp_path / 'a/2.jpg').unlink()
    assert folder.item('train', 1).name == 'b/1.jpg'
    with pytest.raises(UserError, match='cannot be read: No such file') as caught:
        folder.item('train', 0)
    assert str(tmp_path / 'a/2.jpg') in str(caught.value)


def test_threads_read_what_one_thread_reads(tmp_path):
    write(tmp_path, *(f'{name}/{index:03d}.jpg' for name in 'abc' for index in range(100)))
    folder = Folder(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda index: folder.item('train', index), range(folder.splits['train'])))
    assert together == [folder.item('train', index) for index in range(folder.splits['train'])]


def test_pictures_are_handed_out_byte_by_byte(tmp_path):
    for name in 'ab':
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.new('L', (5, 4), 10 * index).save(tmp_path / name / f'{index}.png')
    assert Folder(tmp_path).item('train', 1).image == (tmp_path / 'b/1.png').read_bytes()


def test_preparing_says_what_was_left_out_and_how_the_folder_was_read(tmp_path):
    for path in ('train/a/1.png', 'train/a/2.png', 'train/b/1.png', 'test/3.png'):
        write(tmp_path / 'set', path)
        (tmp_path / 'set' / path).write_bytes(encoded(noise(9, 9)))
    (tmp_path / 'set/train/a/large.png').write_bytes(encoded(noise(1001, 1000), compress_level=1))
    write(tmp_path / 'set', 'train/a/4.heic1', 'train/.git/5.png')
    config = default_config()
    config.data.update({'source': 'folder', 'source_directory': str(tmp_path / 'set'), 'image_size': 8, 'crop_size': 8})
    config.data.update({'directory': str(tmp_path / 'prepared'), 'max_megapixels': 1})
    on = console()
    with pytest.raises(
        UserError, match=r'large.png: 1,000 x 1,001 pixels are more than 1 million; raise config.data.max_'
    ):
        prepare_data(typed(config).data, on)
    for line in (
        f'Left out of {tmp_path}/set: 1 file of other kinds (.heic1 1); 1 hidden folder ({tmp_path}/set/train/.git).',
        f'{tmp_path}/set/test has 1 image without labels',
        'There is no folder for validation: every tenth image of each class is held out.',
    ):
        assert line in on.file.getvalue()
    config.data.update({'max_megapixels': 2})
    data = prepare_data(typed(config).data, on)
    assert {split: data.examples(split) for split in data.shards} == {'train': 3, 'validation': 1}
