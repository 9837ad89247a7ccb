"""Guards what a preparation says of the images that it has seen, against counts made by hand."""

import io
import json

import numpy as np
import pytest
from fakes import console, encoded, noise, prepared, ramp
from PIL import Image
from rich.console import Console
from test_prepare_again import labeled

from alexnet_jax.data.dataset import MANIFEST, open_prepared
from alexnet_jax.data.shard_facts import IMAGE
from alexnet_jax.data.survey import show, survey


def file(mode, size=(20, 10), kind='PNG', seed=0, **options):
    buffer = io.BytesIO()
    pixels = Image.fromarray(noise(size[1], size[0], seed))
    (Image.new(mode, size) if mode in ('I;16', 'F') else pixels.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


SAME = file('RGB', seed=9)
TRAIN = {
    'rgb.png': (file('RGB', (30, 20)), 0),
    'jpeg.jpg': (file('RGB', (40, 20), 'JPEG'), 0),
    'gray.jpg': (file('L', (20, 20), 'JPEG'), 0),
    'cmyk.jpg': (file('CMYK', (50, 60), 'JPEG'), 0),
    'alpha.png': (file('RGBA', (8, 9)), 1),
    'gray alpha.png': (file('LA', (9, 9)), 1),
    'palette.png': (file('P', (7, 7)), 1),
    'palette with hole.png': (file('P', (10, 10), transparency=0), 1),
    'deep.png': (file('I;16', (11, 10)), 1),
    'bits.png': (file('1', (12, 10)), 2),
    'one': (SAME, 2),
    'the same': (SAME, 2),
    'once more': (SAME, 2),
    'broken.png': (b'broken', 2),
    'broken too.png': (b'broken', 2),
}
VALIDATION = {'fine': (encoded(ramp(9, 12)), 1), 'seen before': (SAME, 0), 'broken.png': (b'broken', 1)}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    source = labeled(TRAIN, VALIDATION, classes=4)
    source.left_out = {'.heic': 24}
    return prepared(source, tmp_path_factory.mktemp('survey') / 'data', skip_broken=True, images_per_shard=4)


def test_the_manifest_holds_what_was_seen(data):
    assert (
        json.loads((data.directory / MANIFEST).read_text())['seen'] == data.seen == open_prepared(data.directory).seen
    )
    assert data.seen['classes'] == {
        'train': {'largest': ['class 1', 5], 'smallest': ['class 3', 0], 'empty': 1},
        'validation': {'largest': ['class 0', 1], 'smallest': ['class 2', 0], 'empty': 2},
    }
    assert data.seen['modes'] == {
        **{'RGB': 7, 'L': 1, 'CMYK': 1, 'RGBA': 1, 'LA': 1, 'P': 1, 'P+a': 1, 'I;16': 1, '1': 1},
    }
    areas = sorted((w * h, [w, h]) for w, h in map(size_of, [*TRAIN.values(), *VALIDATION.values()]) if w)
    sizes = data.seen['sizes']
    assert (sizes['smallest'], sizes['largest']) == (areas[0][1], areas[-1][1]) == ([7, 7], [50, 60])
    assert np.prod(sizes['median']) == areas[len(areas) // 2][0]
    assert data.seen['left_out'] == {'.heic': 24, 'unreadable': 3}


def size_of(image_and_label):
    try:
        return Image.open(io.BytesIO(image_and_label[0])).size
    except OSError:
        return 0, 0


def test_equal_files_are_counted_within_training_and_across(data):
    assert data.seen['duplicates'] == {'train': 2, 'validation': 1}  # broken ones are no images
    ((split, name, other),) = data.seen['duplicate_names']
    assert (split, name) == ('validation', 'seen before') and other in ('one', 'the same', 'once more')


def test_files_that_differ_in_a_byte_are_not_equal(tmp_path):
    images = {f'{i}': (SAME + bytes([i]), 0) for i in range(5)}
    found = prepared(labeled(images, {'v': (SAME, 0)}), tmp_path / 'data').seen
    assert found['duplicates'] == {'train': 0, 'validation': 0} and found['duplicate_names'] == []


def test_the_table(data):
    on = console()
    show(data.seen, {split: data.examples(split) for split in data.shards}, on)
    lines = [line.rstrip() for line in on.file.getvalue().splitlines()]
    text = ' '.join(' '.join(lines).split())
    for words in (
        'train 13 images; smallest class 0 (class 3), largest class 5 (class 1), 1 without images',
        'validation 2 images',
        '7 RGB, ',
        *('1 CMYK', '1 gray', '1 gray of more than 8 bits', '1 gray with alpha', '1 palette with transparency'),
        'smallest 7 x 7, median ',
        'largest 50 x 60',
        'left out 24 .heic, 3 unreadable',
        'equal files 2 in train, 1 in both train and validation',
    ):
        assert words in text
    assert text.split('warning: ')[1].startswith(
        'files for training are in other splits too, byte for byte, as in seen'
    )


@pytest.mark.parametrize('width', [20, 50, 300])
def test_nothing_is_cut_off_or_read_as_markup(width):
    rows = np.zeros(3, IMAGE)
    rows['stored'], rows['label'], rows['content'] = True, [0, 0, 1], [1, 2, 3]
    seen = survey({'train': rows, 'validation': rows[:1]}, ['[red]cat[/]', 'dog\x1b[2J'], {}, lambda *_: '[b]name[/x]')
    on = Console(file=io.StringIO(), width=width)
    show(seen, {'train': 3, 'validation': 1}, on)
    text = ''.join(on.file.getvalue().split())
    assert '[red]cat[/]' in text and '[b]name[/x](validation)=[b]name[/x]' in text and '\x1b' not in text
    assert '…' not in text


def test_memory_for_the_whole_of_imagenet():
    assert IMAGE.itemsize * 1_331_167 < 70e6
