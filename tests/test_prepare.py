"""Guards preparation (section 2: size, cut, statistics) and the prepared data set that it leaves on disk."""

import dataclasses
import hashlib
import io
import json
import pickle
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from array_record.python.array_record_data_source import ArrayRecordDataSource
from PIL import Image

from alexnet_jax.data import records
from alexnet_jax.data.prepare import normalized, prepare
from alexnet_jax.data.prepared import MANIFEST, MEAN_IMAGE, PreparedDataSet, open_prepared, write_manifest
from alexnet_jax.data.sources import Item
from alexnet_jax.errors import UserError

SIZE = 24


def encoded(pixels, mode=None, kind='PNG', **options):
    buffer = io.BytesIO()
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def ramp(height, width):
    """Smooth, and another in each channel: rows in red, columns in green, both in blue."""
    rows, columns = np.mgrid[:height, :width]
    rows, columns = rows * 255 / max(height - 1, 1), columns * 255 / max(width - 1, 1)
    return np.round(np.stack([rows, columns, 255 - (rows + columns) / 2], axis=-1)).astype(np.uint8)


class Images:
    """A source of given images: each a name and encoded bytes, its label its place modulo the classes."""

    def __init__(self, train, validation, classes=3):
        self._images = {'train': train, 'validation': validation}
        self.class_names = tuple(f'class {i}' for i in range(classes))
        self.splits = {split: len(images) for split, images in self._images.items()}

    def items(self, split):
        for i, (name, image) in enumerate(self._images[split]):
            yield Item(name, image, i % len(self.class_names))


def a_source():
    """Train and validation differ a lot, so that statistics over the wrong images show."""
    tints = np.array([[1.0, 0.5, 0.25], [0.75, 0.75, 0.5], [0.2, 0.6, 1.0]])
    train = [(f'train {i}', encoded(noise(30 + i, 40 - i, i) * tints[i % 3])) for i in range(11)]
    return Images(train, [(f'held out {i}', encoded(np.full((9, 9, 3), 250))) for i in range(4)])


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    where = tmp_path_factory.mktemp('prepare') / 'some' / 'place'
    prepare(a_source(), 'fake', where, image_size=SIZE, quality=90)
    return where


@pytest.fixture
def copy(directory, tmp_path):
    """The prepared data set, to be damaged."""
    where = tmp_path / 'copy'
    where.mkdir()
    for path in directory.iterdir():
        (where / path.name).write_bytes(path.read_bytes())
    return where


def stored(directory, split):
    """The records of a split, read without the code under test's reader."""
    source = ArrayRecordDataSource(sorted(str(path) for path in directory.glob(f'{split}-*')))
    return [records.decode(data) for data in source.__getitems__(list(range(len(source))))]


def decoded(directory, split):
    return np.stack([simplejpeg.decode_jpeg(record.image, colorspace='RGB') for record in stored(directory, split)])


# --- size and cut ---


def resized_then_cut(image, size):
    """Section 2 to the letter: first the whole image, its shorter side to `size`; then the central patch."""
    picture = Image.open(io.BytesIO(image)).convert('RGB')
    scale = size / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.LANCZOS)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return np.asarray(picture)[top : top + size, left : left + size]


@pytest.mark.parametrize(
    'height, width', [(48, 48), (48, 144), (144, 48), (8, 24), (24, 40), (12, 16), (96, 72), (24, 24)]
)
def test_shorter_side_then_central_cut(height, width):
    # Sizes at which nothing is rounded: the two ways must agree, whatever the image.
    image = encoded(noise(height, width))
    np.testing.assert_allclose(normalized(image, SIZE).astype(int), resized_then_cut(image, SIZE), atol=1)


@pytest.mark.parametrize('height, width', [(375, 500), (500, 333), (53, 31), (31, 97), (7, 10), (211, 212)])
def test_odd_sizes_differ_by_the_rounding_of_the_longer_side_alone(height, width):
    # Rounding moves the cut by at most half a pixel, and a ramp rises by at most 255 / 24 = 11 a pixel.
    image = encoded(ramp(height, width))
    np.testing.assert_allclose(normalized(image, SIZE).astype(int), resized_then_cut(image, SIZE), atol=6)


@pytest.mark.parametrize('scale', [1, 2])
@pytest.mark.parametrize('portrait', [False, True])
def test_margins_are_cut_off_evenly(scale, portrait):
    # Red | the middle | blue, along the longer side. A line of each margin's colour would be one pixel off.
    square = noise(SIZE, SIZE)
    square[..., 1] = 255
    pixels = np.concatenate([np.full_like(square, [255, 0, 0]), square, np.full_like(square, [0, 0, 255])], axis=1)
    if portrait:
        pixels, square = pixels.transpose(1, 0, 2), square.transpose(1, 0, 2)
    result = normalized(encoded(pixels.repeat(scale, 0).repeat(scale, 1)), SIZE)
    if scale == 1:
        np.testing.assert_array_equal(result, square)
    assert result[..., 1].min() > 200  # neither margin has green


MODES = {
    'RGB PNG': encoded(ramp(40, 60)),
    'RGB JPEG': encoded(ramp(40, 60), kind='JPEG', quality=95),
    'CMYK JPEG': encoded(ramp(40, 60), 'CMYK', 'JPEG', quality=95),
    'RGBA PNG': encoded(ramp(40, 60), 'RGBA'),
    'palette PNG': encoded(ramp(40, 60) // 64 * 64, 'P'),
}


@pytest.mark.parametrize('mode', MODES)
def test_colour_modes_all_become_the_same_rgb(mode):
    result = normalized(MODES[mode], SIZE)
    assert result.shape == (SIZE, SIZE, 3) and result.dtype == np.uint8
    if not mode.startswith('palette'):
        np.testing.assert_allclose(result.astype(int), normalized(MODES['RGB PNG'], SIZE), atol=12)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_grey_becomes_three_equal_channels(kind):
    result = normalized(encoded(ramp(40, 60), 'L', kind), SIZE)
    assert result.shape == (SIZE, SIZE, 3) and result.dtype == np.uint8
    assert (result == result[..., :1]).all() and np.ptp(result) > 50


@pytest.mark.parametrize('height, width', [(1, 100), (100, 1), (1, 1), (2, 3)])
def test_very_thin_images(height, width):
    image = np.zeros((height, width, 3), np.uint8) + np.uint8([10, 20, 30])
    np.testing.assert_array_equal(normalized(encoded(image), SIZE), np.broadcast_to([10, 20, 30], (SIZE, SIZE, 3)))


# --- what is stored ---


def test_records_hold_the_images_in_order_as_jpeg(directory):
    for split in ('train', 'validation'):
        expected = list(a_source().items(split))
        records_ = stored(directory, split)
        assert [(record.name, record.label) for record in records_] == [(item.name, item.label) for item in expected]
        for record, item in zip(records_, expected, strict=True):
            picture = Image.open(io.BytesIO(record.image))
            assert (picture.format, picture.mode, picture.size) == ('JPEG', 'RGB', (SIZE, SIZE))
            difference = np.asarray(picture).mean((0, 1)) - normalized(item.image, SIZE).mean((0, 1))
            assert np.abs(difference).max() < 3  # red is red, and blue is blue


def test_jpeg_of_a_smooth_image_stays_close(tmp_path):
    source = Images([('ramp', encoded(ramp(64, 64)))], [('ramp', encoded(ramp(64, 64)))])
    prepare(source, 'fake', tmp_path / 'data', image_size=64, quality=95)
    assert np.abs(decoded(tmp_path / 'data', 'train')[0].astype(int) - ramp(64, 64)).max() <= 8


def test_quality_is_the_jpegs(directory, tmp_path):
    prepare(a_source(), 'fake', tmp_path / 'coarse', image_size=SIZE, quality=20)
    fine, coarse = (
        sum(len(record.image) for record in stored(path, 'train')) for path in (directory, tmp_path / 'coarse')
    )
    assert coarse < 0.7 * fine
    assert open_prepared(tmp_path / 'coarse').quality == 20


def test_manifest(directory):
    data = open_prepared(directory)
    assert (data.directory, data.source, data.image_size, data.quality) == (directory, 'fake', SIZE, 90)
    assert data.class_names == ('class 0', 'class 1', 'class 2')
    assert (data.examples('train'), data.examples('validation')) == (11, 4)
    for split in ('train', 'validation'):
        assert sum(shard['examples'] for shard in data.shards[split]) == len(stored(directory, split))
        for shard, path in zip(data.shards[split], data.files(split), strict=True):
            assert path == str(directory / shard['file'])
            assert shard['sha256'] == hashlib.sha256((directory / shard['file']).read_bytes()).hexdigest()
    assert sorted(p.name for p in directory.iterdir()) == sorted(
        [MANIFEST, MEAN_IMAGE, *(shard['file'] for shards in data.shards.values() for shard in shards)]
    )


def test_the_same_images_give_the_same_bytes(directory, tmp_path):
    prepare(a_source(), 'fake', tmp_path / 'again', image_size=SIZE, quality=90)
    for path in directory.iterdir():
        assert (tmp_path / 'again' / path.name).read_bytes() == path.read_bytes(), path.name


def test_mean_image_of_the_decoded_training_pixels(directory):
    mean = open_prepared(directory).mean_image()
    assert mean.dtype == np.float32
    pixels = decoded(directory, 'train').astype(np.float64)
    np.testing.assert_array_equal(mean, pixels.mean(0).astype(np.float32))


def test_rgb_statistics_of_the_decoded_training_pixels(directory):
    data = open_prepared(directory)
    pixels = decoded(directory, 'train').reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(data.rgb_mean, pixels.mean(0), rtol=1e-14)
    np.testing.assert_allclose(data.rgb_covariance, np.cov(pixels.T, bias=True), rtol=1e-12)


# --- what can go wrong in preparation ---


def png_with_a_broken_chunk():
    """Intact but for the name of its second block of pixels; Pillow says SyntaxError, which is no OSError."""
    data = encoded(noise(200, 200))
    at = data.index(b'IDAT', data.index(b'IDAT') + 4)
    return data[:at] + b'\x9b\xe8\x1e\xd4' + data[at + 4 :]


def png_chunk(name, content):
    return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))


def png_of_unbelievable_size():
    """Says that it has 65000 x 65000 pixels; Pillow says DecompressionBombError, which is no OSError."""
    header = struct.pack('>IIBBBBB', 65000, 65000, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + png_chunk(b'IHDR', header) + png_chunk(b'IDAT', b'')


BROKEN = {
    'no image': b'this is no image',
    'empty': b'',
    'truncated JPEG': encoded(noise(64, 64), kind='JPEG')[:-2000],
    'truncated PNG': encoded(noise(64, 64))[:-5000],
    'PNG with a broken chunk': png_with_a_broken_chunk(),
    'PNG with a short header': b'\x89PNG\r\n\x1a\n' + png_chunk(b'IHDR', bytes(4)),
    'PNG of unbelievable size': png_of_unbelievable_size(),
}


@pytest.mark.parametrize('split', ['train', 'validation'])
@pytest.mark.parametrize('kind', BROKEN)
def test_broken_image_is_named_and_nothing_is_left(tmp_path, kind, split):
    images = {name: [(f'{name} good', encoded(noise(9, 9)))] * 3 for name in ('train', 'validation')}
    images[split].insert(2, ('n0144/broken.JPEG', BROKEN[kind]))
    with pytest.raises(UserError, match=r'n0144/broken\.JPEG') as caught:
        prepare(Images(**images), 'fake', tmp_path / 'data', image_size=SIZE, quality=90)
    assert repr(split) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_any_other_failure_leaves_nothing_either(tmp_path):
    class Interrupted(Images):
        def items(self, split):
            yield from super().items('train')
            raise KeyboardInterrupt

    source = Interrupted([('a', encoded(noise(9, 9)))], [('b', encoded(noise(9, 9)))])
    with pytest.raises(KeyboardInterrupt):
        prepare(source, 'fake', tmp_path / 'data', image_size=SIZE, quality=90)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('below', ['data', 'deeper/data'])
def test_directory_that_cannot_be_written(tmp_path, below):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(UserError, match=r'config\.data\.directory.*file'):
        prepare(a_source(), 'fake', tmp_path / 'file' / below, image_size=SIZE, quality=90)
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_what_is_there_already_is_not_overwritten(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'thesis.tex').write_text('years of work')
    with pytest.raises(UserError, match=str(tmp_path / 'data')):
        prepare(a_source(), 'fake', tmp_path / 'data', image_size=SIZE, quality=90)
    assert [path.name for path in tmp_path.rglob('*')] == ['data', 'thesis.tex']
    assert (tmp_path / 'data' / 'thesis.tex').read_text() == 'years of work'


# --- what can go wrong in opening ---


def edit_manifest(directory, change):
    fields = json.loads((directory / MANIFEST).read_text())
    change(fields)
    (directory / MANIFEST).write_text(json.dumps(fields))


def test_manifest_comes_back_as_it_was(directory, tmp_path):
    data = dataclasses.replace(open_prepared(directory), directory=tmp_path)
    for path in directory.glob('*.array_record'):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_manifest(data)
    assert open_prepared(tmp_path) == data == open_prepared(str(tmp_path))


def test_absent_data_set_is_another_matter_than_a_damaged_one(tmp_path):
    for path in (tmp_path, tmp_path / 'absent'):
        with pytest.raises(FileNotFoundError):
            open_prepared(path)


@pytest.mark.parametrize(
    'text', [b'', b'{"format": 1,', b'\xff\xfe\x00', b'[]', b'3', b'null', b'{}', b'{"format": 1}', b'"format"']
)
def test_damaged_manifest(copy, text):
    (copy / MANIFEST).write_bytes(text)
    with pytest.raises(UserError, match='is damaged') as caught:
        open_prepared(copy)
    assert str(copy / MANIFEST) in str(caught.value)


@pytest.mark.parametrize('version', [0, 2, '1', None])
def test_manifest_of_another_format(copy, version):
    edit_manifest(copy, lambda fields: fields.update(format=version))
    with pytest.raises(UserError, match=f'has format {version}'):
        open_prepared(copy)


@pytest.mark.parametrize('field', ['format', *(f.name for f in dataclasses.fields(PreparedDataSet)[1:])])
def test_manifest_without_a_field(copy, field):
    edit_manifest(copy, lambda fields: fields.pop(field))
    with pytest.raises(UserError, match=f'is damaged.*{field}'):
        open_prepared(copy)


def test_manifest_with_an_unknown_field(copy):
    edit_manifest(copy, lambda fields: fields.update(colour_space='YUV'))
    with pytest.raises(UserError, match=r'is damaged.*colour_space'):
        open_prepared(copy)


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_manifest_without_a_split(copy, split):
    edit_manifest(copy, lambda fields: fields['shards'].pop(split))
    with pytest.raises(UserError, match=split):
        open_prepared(copy)


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_split_without_images(copy, split):
    edit_manifest(copy, lambda fields: fields['shards'].update({split: []}))
    with pytest.raises(UserError, match=f"'{split}' has no images"):
        open_prepared(copy)


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_missing_shard(copy, split):
    shard = next(copy.glob(f'{split}-*'))
    shard.unlink()
    with pytest.raises(UserError, match='is missing') as caught:
        open_prepared(copy)
    assert str(shard) in str(caught.value)


# --- the mean image ---


@pytest.mark.parametrize('shape', [(SIZE, SIZE), (SIZE, SIZE, 1), (SIZE + 1, SIZE, 3), (3, SIZE, SIZE), ()])
def test_mean_image_of_a_wrong_shape(copy, shape):
    np.save(copy / MEAN_IMAGE, np.zeros(shape, np.float32))
    with pytest.raises(UserError, match='shape') as caught:
        open_prepared(copy).mean_image()
    assert str(copy / MEAN_IMAGE) in str(caught.value)


def test_missing_mean_image(copy):
    (copy / MEAN_IMAGE).unlink()
    with pytest.raises(UserError, match=r'cannot be read.*--mode=prepare') as caught:
        open_prepared(copy).mean_image()
    assert str(copy / MEAN_IMAGE) in str(caught.value)


@pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'hello', b'PK\x03\x04'], ids=['empty', 'cut', 'text', 'zip'])
def test_damaged_mean_image(copy, content):
    (copy / MEAN_IMAGE).write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_prepared(copy).mean_image()
    assert str(copy / MEAN_IMAGE) in str(caught.value)


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, 'exploded', True)


def test_mean_image_is_never_unpickled(copy):
    np.save(copy / MEAN_IMAGE, np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(UserError):
        open_prepared(copy).mean_image()
    (copy / MEAN_IMAGE).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError):
        open_prepared(copy).mean_image()
    assert not Bomb.exploded


# --- colour components ---


def with_covariance(tmp_path, covariance):
    return PreparedDataSet(tmp_path, 'fake', SIZE, 90, ('a',), {}, [0.0, 0.0, 0.0], np.asarray(covariance).tolist())


def random_covariance(seed):
    factor = np.random.default_rng(seed).normal(0, 40, (3, 3))
    return factor @ factor.T


@pytest.mark.parametrize('seed', range(5))
def test_colour_components_are_the_covariances_principal_axes(tmp_path, seed):
    covariance = random_covariance(seed)
    components = with_covariance(tmp_path, covariance).colour_components()
    assert components.dtype == np.float32 and components.shape == (3, 3)
    c = components.astype(np.float64)
    gram = c.T @ c
    lengths = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(gram / np.outer(lengths, lengths), np.eye(3), atol=1e-5)  # orthogonal columns
    np.testing.assert_allclose(lengths, np.sqrt(np.linalg.eigvalsh(covariance)[::-1]), rtol=1e-5)  # largest first
    np.testing.assert_allclose(c @ c.T, covariance, atol=1e-6 * np.abs(covariance).max())


def test_colour_components_of_the_prepared_images(directory):
    data = open_prepared(directory)
    c = data.colour_components().astype(np.float64)
    np.testing.assert_allclose(c @ c.T, data.rgb_covariance, rtol=1e-4)


def test_colour_components_have_signs_that_no_eigensolver_chooses(tmp_path, monkeypatch):
    data = [with_covariance(tmp_path, random_covariance(seed)) for seed in range(5)]
    expected = [d.colour_components() for d in data]
    eigh = np.linalg.eigh
    for signs in ([-1, 1, 1], [1, -1, 1], [-1, -1, -1]):
        monkeypatch.setattr(np.linalg, 'eigh', lambda matrix, signs=signs: (eigh(matrix)[0], eigh(matrix)[1] * signs))
        for d, components in zip(data, expected, strict=True):
            np.testing.assert_array_equal(d.colour_components(), components)


def test_colour_components_of_grey_images(tmp_path):
    # Red, green and blue are equal: one axis, and two without length, where rounding may leave less than 0.
    c = with_covariance(tmp_path, np.full((3, 3), 1234.5)).colour_components()
    np.testing.assert_allclose(c[:, 0], np.full(3, np.sqrt(1234.5)), rtol=1e-6)
    np.testing.assert_allclose(c[:, 1:], 0, atol=1e-4)
    assert np.isfinite(c).all()
