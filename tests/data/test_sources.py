"""Guards the embedded source, against scikit-learn itself, and how a source is found by its name."""

import concurrent.futures
import io
import os

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from alexnet_jax.data.sources import EMBEDDED, Item, open_source
from alexnet_jax.data.sources.base import Identity, identity_of
from alexnet_jax.data.sources.digits import Digits
from alexnet_jax.data.sources.photographs import Photographs
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


# --- identities ---


class Unidentified:
    """A source that does not know its images without reading them."""

    def __init__(self, source):
        self.class_names, self.class_ids, self.splits, self.item = (
            source.class_names,
            source.class_ids,
            source.splits,
            source.item,
        )


def identities(source):
    return [identity_of(source, split, index) for split, count in source.splits.items() for index in range(count)]


def test_an_image_that_is_read_to_be_identified_counts_by_its_bytes(digits):
    found = identities(Unidentified(digits))
    assert len(set(found)) == 1797 and found == identities(Unidentified(Digits()))
    assert [identity.label for identity in found] == [identity.label for identity in identities(digits)]
    changed = Unidentified(digits)
    changed.item = lambda split, index: digits.item(split, index)._replace(image=b'another')
    assert identity_of(changed, 'train', 0) != identity_of(Unidentified(digits), 'train', 0)


def test_digits_and_photographs_are_identified_without_reading(digits, monkeypatch):
    photographs = Photographs('3')
    for source in (digits, photographs):
        splits = list(source.splits.items())
        labels = [source.item(split, index).label for split, n in splits for index in range(n)]
        monkeypatch.setattr(type(source), 'item', lambda *_: pytest.fail('read'))
        found = identities(source)
        assert [identity.label for identity in found] == labels
        assert len({identity.member for identity in found}) == len(found)
        assert {(identity.file, identity.size, identity.time) for identity in found} == {('', 0, 0)}


def test_a_file_is_identified_by_path_size_and_time(tmp_path):
    for name in ('cat/1.png', 'cat/2.png', 'dog/1.png', 'dog/2.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
        os.utime(tmp_path / name, ns=(0, 1_700_000_000_123_456_789))
    source = open_source('folder', str(tmp_path))
    assert identities(source) == [
        Identity(f'{name}/{number}.png', '', 9, 1_700_000_000_123_456_789, label)
        for number in (2, 1)
        for label, name in enumerate(('cat', 'dog'))
    ]
    os.utime(tmp_path / 'cat' / '2.png', ns=(0, 5))
    (tmp_path / 'dog' / '2.png').write_bytes(b'longer than that')
    first, second = identities(source)[:2]
    assert first.time == 5 and second.size == 16
    (tmp_path / 'cat' / '2.png').unlink()
    with pytest.raises(FileNotFoundError):
        identity_of(source, 'train', 0)
