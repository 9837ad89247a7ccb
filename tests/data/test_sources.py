"""Guards the embedded source, against scikit-learn itself, and how a source is found by its name."""

import concurrent.futures
import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from alexnet_jax.data.sources import EMBEDDED, Item, open_source
from alexnet_jax.data.sources.digits import Digits
from alexnet_jax.runtime.errors import UserError


@pytest.fixture(scope='module')
def digits():
    return Digits()


def items(source, split):
    return [source.item(split, index) for index in range(source.splits[split])]


def index_of(item):
    return int(item.name.removeprefix('digit-'))


def test_digits_hold_out_every_fifth_from_the_first(digits):
    train, validation = items(digits, 'train'), items(digits, 'validation')
    assert digits.splits == {'train': 1437, 'validation': 360}
    assert [index_of(item) for item in validation] == list(range(0, 1797, 5))
    assert [index_of(item) for item in train] == [i for i in range(1797) if i % 5]


def test_digits_are_the_same_every_time_from_every_thread(digits):
    for split in ('train', 'validation'):
        expected = items(digits, split)
        assert items(Digits(), split) == expected and all(type(item) is Item for item in expected)
        order = np.random.default_rng(0).permutation(len(expected)).tolist()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda index, split=split: digits.item(split, index), order))
        assert found == [expected[index] for index in order]


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_digits_are_scikit_learns_pixels_and_labels(digits, split):
    theirs = load_digits()
    for item in items(digits, split):
        assert item.image.startswith(b'\x89PNG\r\n\x1a\n')
        pixels = np.asarray(Image.open(io.BytesIO(item.image)))
        values = theirs.images[index_of(item)].astype(int)  # 0..16
        # value * 255 / 16 to the nearest; a half (8 is 127.5) goes up, to the even 128
        np.testing.assert_array_equal(pixels, (values * 255 + 8) // 16)
        assert pixels.dtype == np.uint8
        assert item.label == theirs.target[index_of(item)]
        assert digits.class_names[item.label] == str(item.label)
    assert digits.class_names == digits.class_ids == tuple('0123456789')


def test_source_by_name():
    assert isinstance(open_source('digits', '/nowhere'), Digits)
    assert EMBEDDED == ('digits', 'photographs')


@pytest.mark.parametrize('name', ['cats', '', 'Digits', 'digits:', 'imagenet', 'tfds', 'photographs'])
def test_unknown_source_is_named_together_with_the_known(name):
    with pytest.raises(UserError, match=r'config\.data\.source.*digits') as caught:
        open_source(name, '/nowhere')
    assert repr(name) in str(caught.value)
    for known in ('photographs:CLASSES', 'imagenet2012', 'imagenet2010', 'folder', 'tfds:NAME'):
        assert known in str(caught.value)
