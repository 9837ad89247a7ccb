"""Guards the sources, against scikit-learn itself, and the bytes of a record."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from alexnet_jax.data.records import Record, decode, encode
from alexnet_jax.data.sources import Digits, open_source
from alexnet_jax.errors import UserError


@pytest.fixture(scope='module')
def digits():
    return Digits()


def index_of(item):
    return int(item.name.removeprefix('digit-'))


def test_digits_hold_out_every_fifth_from_the_first(digits):
    train, validation = list(digits.items('train')), list(digits.items('validation'))
    assert digits.splits == {'train': 1437, 'validation': 360}
    assert [index_of(item) for item in validation] == list(range(0, 1797, 5))
    assert [index_of(item) for item in train] == [i for i in range(1797) if i % 5]


def test_digits_come_in_the_same_order_every_time(digits):
    for split in ('train', 'validation'):
        assert list(digits.items(split)) == list(digits.items(split)) == list(Digits().items(split))


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_digits_are_scikit_learns_pixels_and_labels(digits, split):
    theirs = load_digits()
    for item in digits.items(split):
        assert item.image.startswith(b'\x89PNG\r\n\x1a\n')
        pixels = np.asarray(Image.open(io.BytesIO(item.image)))
        values = theirs.images[index_of(item)].astype(int)  # 0..16
        # value * 255 / 16 to the nearest; a half (8 is 127.5) goes up, to the even 128
        np.testing.assert_array_equal(pixels, (values * 255 + 8) // 16)
        assert pixels.dtype == np.uint8
        assert item.label == theirs.target[index_of(item)]
        assert digits.class_names[item.label] == str(item.label)
    assert digits.class_names == tuple('0123456789')


def test_source_by_name():
    assert isinstance(open_source('digits'), Digits)


@pytest.mark.parametrize('name', ['cats', '', 'Digits'])
def test_unknown_source_is_named_together_with_the_known(name):
    with pytest.raises(UserError, match=r'config\.data\.source.*digits') as caught:
        open_source(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize('name', ['n01440764_10026.JPEG', '', 'schön/魚-🐟.jpg', 'x' * 65535])
@pytest.mark.parametrize('label', [0, 999, 2**32 - 1])
def test_record_comes_back_as_it_was(name, label):
    record = Record(name, label, b'\xff\xd8\x00\xff\xd9')
    assert decode(encode(record)) == record


def test_record_layout_on_disk():
    # Prepared data sets outlive the code: label and length are little-endian, the name is UTF-8.
    assert encode(Record('ü', 258, b'JPEG')) == b'\x02\x01\x00\x00' + b'\x02\x00' + b'\xc3\xbc' + b'JPEG'


def test_every_truncation_up_to_the_image_is_no_record():
    whole = encode(Record('näme', 7, b'JPEG'))
    header_and_name = len(whole) - 4
    for length in range(header_and_name + 1):
        with pytest.raises(ValueError, match='bytes'):
            decode(whole[:length])
    assert decode(whole[: header_and_name + 1]).image == b'J'


def test_name_that_is_no_utf8_is_no_record():
    with pytest.raises(ValueError, match='utf-8'):
        decode(b'\x00\x00\x00\x00\x02\x00\xff\xfeJPEG')
