"""Guards ILSVRC-2012 from folders: Kaggle's and others, with the labels of validation images that lie loose."""

import pytest
from made_imagenet import picture, tfds_list, write_imagenet2012

from alexnet_jax.data.sources import imagenet_folders, open_source
from alexnet_jax.data.sources.imagenet import ImageNet2012, imagenet_names
from alexnet_jax.data.sources.imagenet_folders import ImageNet2012Folders
from alexnet_jax.runtime.errors import UserError

SYNSETS = tfds_list('labels.txt')[:3]
TRUTH = dict(enumerate(tfds_list('validation_labels.txt'), 1))
NUMBERS = [number for number, synset in TRUTH.items() if synset in SYNSETS][:5]
SOLUTION = 'LOC_val_solution.csv'


def write(directory, folder='', val='loose'):
    """Writes train and val in a folder of the directory; returns (name, bytes, WordNet id) in order, by split."""
    made = {'train': [], 'validation': []}
    for label, synset in enumerate(SYNSETS):
        for number in (10, 9):  # 10 comes before 9
            made['train'].append((f'train/{synset}/{synset}_{number}.JPEG', picture(label, number, 32), synset))
    for number in NUMBERS:
        synset = f'{TRUTH[number]}/' if val == 'folders' else ''
        path = f'val/{synset}ILSVRC2012_val_{number:08d}.JPEG'
        made['validation'].append((path, picture(7, number, 32), TRUTH[number]))
    made['validation'].sort()
    for images in made.values():
        for path, image, _ in images:
            (directory / folder / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / folder / path).write_bytes(image)
    return made


def write_solution(path, numbers=NUMBERS, lie=lambda synset: synset):
    lines = [f'ILSVRC2012_val_{n:08d},{lie(TRUTH[n])} 1 2 3 4 {lie(TRUTH[n])} 5 6 7 8 \n' for n in reversed(numbers)]
    path.write_text('ImageId,PredictionString\n' + ''.join(lines))


def check(source, made):
    assert source.class_ids == tuple(SYNSETS) and source.class_names == ('tench', 'goldfish', 'great white shark')
    assert source.splits == {split: len(images) for split, images in made.items()}
    for split, images in made.items():
        items = [source.item(split, index) for index in range(len(images))]
        assert [(item.name, item.image, source.class_ids[item.label]) for item in items] == images


@pytest.mark.parametrize('folder', ['', 'ILSVRC/Data/CLS-LOC'])
@pytest.mark.parametrize('val', ['loose', 'folders', 'solution'])
def test_every_image_and_label(folder, val, tmp_path, monkeypatch):
    made = write(tmp_path, folder, val)
    if val == 'solution':
        write_solution(tmp_path / SOLUTION)
        monkeypatch.setattr(imagenet_folders, 'validation_ids', lambda: 1 / 0)  # not needed then
    (tmp_path / folder / 'test').mkdir()
    (tmp_path / folder / 'test' / 'ILSVRC2012_test_00000001.JPEG').write_bytes(b'x')
    source = open_source('imagenet2012', str(tmp_path))
    check(source, made)
    assert source.notes == ('Test images have no labels, and are left out: 1 of them.',)


@pytest.mark.parametrize('place', ['ILSVRC', 'ILSVRC/Data', 'ILSVRC/Data/CLS-LOC'])
def test_any_of_kaggles_folders_will_do(place, tmp_path, monkeypatch):
    made = write(tmp_path, 'ILSVRC/Data/CLS-LOC')
    write_solution(tmp_path / SOLUTION)
    monkeypatch.setattr(imagenet_folders, 'validation_ids', lambda: 1 / 0)  # the solution is found
    check(open_source('imagenet2012', str(tmp_path / place)), made)


def test_validation_is_val(tmp_path):
    made = write(tmp_path)
    (tmp_path / 'val').rename(tmp_path / 'validation')
    made['validation'] = [(f'validation/{path[4:]}', *rest) for path, *rest in made['validation']]
    check(open_source('imagenet2012', str(tmp_path)), made)


def test_the_solution_is_read_not_guessed(tmp_path):
    write(tmp_path)
    write_solution(tmp_path / SOLUTION, lie=lambda synset: SYNSETS[2])
    source = ImageNet2012Folders(tmp_path)
    assert {source.item('validation', index).label for index in range(len(NUMBERS))} == {2}


def test_tars_come_first(tmp_path):
    write(tmp_path)
    write_imagenet2012(tmp_path)
    assert isinstance(open_source('imagenet2012', str(tmp_path)), ImageNet2012)


def test_names_and_order_are_imagenets():
    """Facts that are public: the first and last classes, and the cats."""
    names = imagenet_names()
    known = {0: 'n01440764', 1: 'n01443537', 281: 'n02123045', 282: 'n02123159', 999: 'n15075141'}
    assert list(names) == sorted(names) and len(names) == 1000
    assert {index: list(names)[index] for index in known} == known
    assert [names[known[index]] for index in (0, 281)] == ['tench', 'tabby']


CHANGES = {
    'a class of another ImageNet': ('train/n00000001/x.JPEG', b'x', 'train/n00000001, .* the 1,000 classes'),
    'a file of another kind': ('train/n01440764/x.tar', b'x', r"'x\.tar' in train/n01440764"),
    'a name that is not official': ('val/cat.JPEG', b'x', r'cat\.JPEG, which is not named like ILSVRC2012_val_'),
    'a number beyond': ('val/ILSVRC2012_val_00050001.JPEG', b'x', 'val_00050001.JPEG, which is not named'),
    'a class that is not in train': ('val/ILSVRC2012_val_00000001.JPEG', b'x', 'of the class n.*not in train'),
    'class folders beside loose images': ('val/n01440764/x.JPEG', b'x', 'beside the class folders'),
    'a solution that is none': (SOLUTION, b'a,b\n', 'first line'),
    'a solution without labels': (SOLUTION, b'ImageId,PredictionString\nILSVRC2012_val_00000001,\n', 'cannot be read'),
    'a solution of other images': (SOLUTION, b'ImageId,PredictionString\nx,n01440764 1\n', 'says nothing'),
    'a solution of nulls': (SOLUTION, b'\0\0\n', 'cannot be read'),
}


@pytest.mark.parametrize('change', CHANGES)
def test_what_is_odd_is_named(change, tmp_path):
    path, content, says = CHANGES[change]
    write(tmp_path)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        open_source('imagenet2012', str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_without_val(tmp_path):
    write(tmp_path)
    (tmp_path / 'val').rename(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match='no images in validation'):
        open_source('imagenet2012', str(tmp_path))


def test_loose_images_without_their_labels(tmp_path, monkeypatch):
    def missing():
        raise UserError('no package')

    write(tmp_path)
    monkeypatch.setattr(imagenet_folders, 'validation_ids', missing)
    with pytest.raises(
        UserError, match=r'pip install tensorflow-datasets.*LOC_val_solution\.csv from Kaggle'
    ) as caught:
        open_source('imagenet2012', str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_neither_tars_nor_folders(tmp_path):
    with pytest.raises(
        UserError, match=r'ILSVRC2012_img_train\.tar cannot be found.*train/WNID and val, are read as well'
    ):
        open_source('imagenet2012', str(tmp_path))
