"""Guards the source of Parquet files: splits, columns, classes, every image by its row, and plain messages."""

import concurrent.futures
import io
import json
import os
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from configs import typed
from fakes import console, encoded, noise
from PIL import Image

from alexnet_jax.config import default_config
from alexnet_jax.data.opening import prepare_data
from alexnet_jax.data.pipeline import Shards
from alexnet_jax.data.sources import open_source, parquet_rows
from alexnet_jax.data.sources.base import Identified
from alexnet_jax.data.sources.parquet import Parquet
from alexnet_jax.data.sources.parquet_pages import pages
from alexnet_jax.runtime.errors import UserError

NAMES = ['tench', 'crane', 'shark']
IMAGE = pa.struct({'bytes': pa.binary(), 'path': pa.string()})


def image(number):
    """PNG bytes of two pixels that say which they are."""
    return encoded(np.full((1, 2, 3), [number % 256, number // 256, 7]))


def number_in(content):
    red, green, blue = Image.open(io.BytesIO(content)).getpixel((0, 0))
    assert blue == 7
    return red + 256 * green


def metadata(label='label', image='image', names=NAMES, **more):
    features = {image: {'_type': 'Image'}, label: {'names': names, '_type': 'ClassLabel'}, **more}
    return {b'huggingface': json.dumps({'info': {'features': features}}).encode()}


def table(labels, first=0, names=NAMES, image_column='image', label_column='label', kind=None, path='{}.png'):
    kind = kind or pa.int64()
    rows = [{'bytes': image(first + i), 'path': path and path.format(first + i)} for i in range(len(labels))]
    schema = pa.schema([(image_column, IMAGE), (label_column, kind)])
    found = pa.table({image_column: pa.array(rows, IMAGE), label_column: pa.array(labels, kind)}, schema)
    return found.replace_schema_metadata(metadata(label_column, image_column, names) if names else None)


def write(folder, name, content, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path, **options)
    return path


def read(source, split):
    return [source.item(split, i) for i in range(source.splits[split])]


def message(*arguments):
    with pytest.raises(UserError) as caught:
        Parquet(*arguments)
    return str(caught.value)


@pytest.fixture
def shards(tmp_path):
    """Two files for training, one for validation, in the layout of Hugging Face."""
    write(tmp_path, 'data/train-00000-of-00002.parquet', table([0, 1, 2, 0, 1], 0), row_group_size=2)
    write(tmp_path, 'data/train-00001-of-00002.parquet', table([2, 2, 1], 5))
    write(tmp_path, 'data/validation-00000-of-00001.parquet', table([1, 0], 100))
    return tmp_path


def test_images_labels_and_names(shards):
    source = Parquet('', shards)
    assert source.splits == {'train': 8, 'validation': 2}
    assert source.class_names == source.class_ids == tuple(NAMES)
    train, validation = read(source, 'train'), read(source, 'validation')
    assert [number_in(item.image) for item in train] == list(range(8))
    assert [item.label for item in train] == [0, 1, 2, 0, 1, 2, 2, 1]
    assert [item.name for item in train] == [f'{i}.png' for i in range(8)]
    assert [(item.name, item.label) for item in validation] == [('100.png', 1), ('101.png', 0)]


def test_it_is_opened_by_name(shards, monkeypatch):
    assert open_source('parquet', str(shards)).splits == {'train': 8, 'validation': 2}
    assert open_source('parquet:data/*.parquet', str(shards)).splits == {'train': 8, 'validation': 2}
    monkeypatch.chdir(shards)
    for name in ('parquet:data', 'parquet:data/*', f'parquet:{shards}/data/*'):
        assert open_source(name, '/nowhere').splits == {'train': 8, 'validation': 2}
    assert Parquet('', f'{shards}/d*/*').splits == {'train': 8, 'validation': 2}


def test_preparation_stores_these_images(tmp_path):
    pictures = {
        split: [encoded(noise(20, 24, i)) for i in range(count)] for split, count in (('train', 40), ('test', 9))
    }
    for split, some in pictures.items():
        rows = [{'bytes': content, 'path': None} for content in some]
        content = pa.table({'image': pa.array(rows, IMAGE), 'label': pa.array([i % 3 for i in range(len(rows))])})
        write(tmp_path, f'set/{split}-00000-of-00001.parquet', content, row_group_size=7)
    config = default_config()
    config.data.update({'source': 'parquet', 'source_directory': str(tmp_path / 'set'), 'storage': 'raw'})
    config.data.update({'directory': str(tmp_path / 'prepared'), 'image_size': 16, 'crop_size': 16})
    data = prepare_data(typed(config).data, console())
    assert data.class_names == ('0', '1', '2')
    for split, origin in (('train', 'train'), ('validation', 'test')):
        stored = Shards(data.files(split), data.counts(split), 'raw', 16)
        assert len(stored) == len(pictures[origin])
        for i, picture in enumerate(pictures[origin]):
            pixels, label = stored.read(i)
            whole = Image.open(io.BytesIO(picture)).resize((16, 16), Image.Resampling.LANCZOS, (2, 0, 22, 20))
            np.testing.assert_array_equal(pixels, np.asarray(whole))
            assert label == i % 3 and stored.name(i) == f'{origin}-00000-of-00001.parquet/{i}'


def test_an_identity_is_that_of_file_and_row(shards):
    source = Parquet('', shards)
    assert isinstance(source, Identified)
    path = shards / 'data' / 'train-00001-of-00002.parquet'
    status = path.stat()
    assert source.identity('train', 6) == (
        *('data/train-00001-of-00002.parquet', '1', status.st_size, status.st_mtime_ns),
        2,
    )


# --- reading ---


@pytest.mark.parametrize('size', [1, 7, 1000])
def test_threads_in_any_order_read_what_they_ask_for(tmp_path, size, monkeypatch):
    monkeypatch.setattr(parquet_rows, '_BATCH_ROWS', 4)
    monkeypatch.setattr(parquet_rows, '_KEPT_BATCHES', 3)
    write(tmp_path, 'train-00000.parquet', table([i % 3 for i in range(100)]), row_group_size=size)
    write(tmp_path, 'val-00000.parquet', table([1] * 30, 100), row_group_size=size)
    source = Parquet('', tmp_path)
    wanted = [('train', i) for i in range(100)] + [('validation', i) for i in range(30)]
    random.Random(size).shuffle(wanted)

    def right(asked):
        split, index = asked
        return number_in(source.item(split, index).image) == index + 100 * (split == 'validation')

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, wanted + wanted))


def test_read_in_order_a_row_group_is_read_once(shards, monkeypatch):
    opened, batches = [], []
    real = parquet_rows.Rows._open
    monkeypatch.setattr(parquet_rows.Rows, '_open', lambda rows, *more: opened.append(more[:2]) or real(rows, *more))
    keep = parquet_rows.Rows._keep
    monkeypatch.setattr(
        parquet_rows.Rows, '_keep', lambda rows, key, batch: batches.append(key) or keep(rows, key, batch)
    )
    source = Parquet('', shards)
    read(source, 'train')
    assert len(opened) == len(set(opened)) == 4 and len(batches) == len(set(batches))
    assert not source._rows._kept and source._rows._size == 0


def test_what_is_kept_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, '_BATCH_ROWS', 2)
    monkeypatch.setattr(parquet_rows, '_KEPT_BYTES', 1500)
    write(tmp_path, 'train.parquet', table([i % 3 for i in range(100)]))
    source = Parquet('', tmp_path)
    for i in (80, 5, 60, 70):
        assert source.item('train', i)
        assert 0 < source._rows._size <= 1500
        assert source._rows._size == sum(batch.nbytes for batch, _ in source._rows._kept.values())


def test_large_row_groups_are_not_read_as_a_whole(tmp_path):
    draw = np.random.default_rng(0)
    rows = pa.array([{'bytes': draw.bytes(100_000), 'path': ''} for _ in range(300)], IMAGE)
    labels = pa.array([i % 3 for i in range(300)])
    content = pa.table({'image': rows, 'label': labels})
    write(tmp_path, 'train.parquet', content, write_batch_size=8, write_statistics=False)
    source = Parquet('', tmp_path)
    del rows, content
    before = pa.total_allocated_bytes()
    assert len(source.item('train', 0).image) == 100_000
    assert pa.total_allocated_bytes() - before < 20_000_000


@pytest.mark.parametrize('version', ['1.0', '2.0'])
@pytest.mark.parametrize('codec', ['none', 'snappy', 'zstd', 'gzip'])
@pytest.mark.parametrize(
    'more', [{}, {'use_dictionary': False, 'write_statistics': False}, {'write_page_checksum': True}]
)
def test_the_pages_are_those_of_the_file(tmp_path, version, codec, more):
    content = table([i % 3 for i in range(300)]).append_column('x', pa.array(np.arange(300.0)))
    more |= {'data_page_version': version, 'compression': codec, 'data_page_size': 500, 'write_batch_size': 20}
    path = write(tmp_path, 'train.parquet', content, row_group_size=200, **more)
    group = pq.ParquetFile(path).metadata.row_group(0)
    with path.open('rb') as file:
        for chunk in map(group.column, range(group.num_columns)):
            start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
            found = list(pages(file, start, chunk.total_compressed_size))
            headers = chunk.total_uncompressed_size - sum(page.unpacked for page in found)
            assert headers == chunk.total_compressed_size - sum(page.packed for page in found)
            assert 10 * len(found) <= headers <= 200 * len(found)
            assert len(found) > 3 or chunk.path_in_schema != 'image.bytes'


def test_a_page_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, '_MAX_PAGE', 5000)
    path = write(tmp_path, 'train.parquet', table([i % 3 for i in range(300)]), write_statistics=False)
    with pytest.raises(UserError, match=r"a page of the column 'image' takes 0\.0 MB of memory"):
        Parquet('', tmp_path).item('train', 0)
    assert path.exists()


def test_an_image_that_is_too_large_is_named(shards, monkeypatch):
    monkeypatch.setattr(parquet_rows, 'LARGEST', 10)
    with pytest.raises(UserError, match=r'train-00000-of-00002\.parquet, row 3: \d+ bytes are too many for an image'):
        Parquet('', shards).item('train', 3)


# --- splits ---


@pytest.mark.parametrize(
    ('names', 'splits'),
    [
        (['train-00000-of-00001-abc.parquet', 'val-00000-of-00001-def.parquet'], {'train': 12, 'validation': 12}),
        (['default/train/0000.parquet', 'default/test/0000.parquet'], {'train': 12, 'validation': 12}),
        (['x_train.parquet', 'x_dev.parquet', 'x_test.parquet'], {'train': 12, 'validation': 12, 'test': 12}),
        (['training.parquet', 'valid.parquet'], {'train': 12, 'validation': 12}),
        (['latest-0.parquet', 'latest-1.parquet'], {'train': 21, 'validation': 3}),
        (['train.parquet'], {'train': 10, 'validation': 2}),
    ],
)
def test_splits_by_names(tmp_path, names, splits):
    for number, name in enumerate(names):
        write(tmp_path, name, table([0, 1, 2] * 4, 12 * number))
    source = Parquet('', tmp_path)
    assert source.splits == splits
    assert sorted(number_in(item.image) for split in splits for item in read(source, split)) == list(
        range(12 * len(names))
    )


def test_every_tenth_is_held_out(tmp_path):
    write(tmp_path, 'train.parquet', table([i % 3 for i in range(25)]))
    source = Parquet('', tmp_path)
    assert [number_in(item.image) for item in read(source, 'validation')] == [0, 10, 20]
    assert [item.label for item in read(source, 'validation')] == [0, 1, 2]


@pytest.mark.parametrize('label', [-1, None])
def test_a_split_without_labels_is_left_out(shards, label):
    write(shards, 'data/test-00000-of-00001.parquet', table([label] * 3, 200))
    assert Parquet('', shards).splits == {'train': 8, 'validation': 2}
    write(shards, 'data/validation-00000-of-00001.parquet', table([label] * 3, 200))
    assert Parquet('', shards).splits == {'train': 7, 'validation': 1}


def test_links_are_followed_once(shards):
    for path in list((shards / 'data').iterdir()):
        (shards / 'snapshot').mkdir(exist_ok=True)
        (shards / 'snapshot' / path.name).symlink_to(path)
    (shards / 'snapshot' / 'back').symlink_to(shards)
    assert Parquet('', shards).splits == {'train': 8, 'validation': 2}
    assert Parquet('snapshot/*.parquet', shards).splits == {'train': 8, 'validation': 2}


# --- columns and classes ---


def test_other_names_of_columns_are_found_by_their_kind(tmp_path):
    write(tmp_path, 'train.parquet', table([0, 1, 2], image_column='img', label_column='labels'))
    assert Parquet('', tmp_path).class_names == tuple(NAMES)
    both = table([0, 1, 2], image_column='img').append_column('id', pa.array([5, 6, 7]))
    write(
        tmp_path, 'train.parquet', both.rename_columns(['img', 'kind', 'id']).replace_schema_metadata(metadata('kind'))
    )
    assert Parquet('', tmp_path).class_names == tuple(NAMES)


@pytest.fixture
def two_labels(tmp_path):
    """As CIFAR-100 is stored."""
    fine = table([0, 1, 2], image_column='img', label_column='fine_label')
    features = metadata('fine_label', 'img', coarse_label={'names': ['fish', 'bird'], '_type': 'ClassLabel'})
    both = fine.append_column('coarse_label', pa.array([0, 1, 0])).replace_schema_metadata(features)
    write(tmp_path, 'cifar/train.parquet', both)
    return tmp_path


def test_one_of_several_columns_is_named(two_labels):
    said = message('', two_labels)
    for words in ('img (struct<bytes: binary, path: string>)', 'fine_label (int64), coarse_label (int64)'):
        assert words in said
    assert 'it is not clear which is that of labels' in said and "'parquet:*.parquet,label=fine_label'" in said
    assert Parquet('label=fine_label', two_labels).class_names == tuple(NAMES)
    assert Parquet(',label=coarse_label,image=img', two_labels).class_names == ('fish', 'bird')
    source = open_source('parquet:cifar,label=coarse_label', str(two_labels))
    assert [item.label for item in read(source, 'train')] == [1, 0]


@pytest.mark.parametrize('column', ['nothing', 'img'])
def test_a_named_column_that_has_no_labels(two_labels, column):
    assert f"'{column}' cannot be that of labels. Labels are whole numbers or texts." in message(
        f'label={column}', two_labels
    )


def test_images_that_are_mere_bytes(tmp_path):
    rows = pa.array([image(i) for i in range(3)], pa.large_binary())
    write(tmp_path, 'train.parquet', pa.table({'image': rows, 'label': [0, 1, 2]}))
    source = Parquet('', tmp_path)
    assert [item.name for item in read(source, 'train')] == ['train.parquet/1', 'train.parquet/2']


@pytest.mark.parametrize('kind', [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_labels_that_are_texts(tmp_path, kind):
    write(tmp_path, 'train.parquet', table(['ox', 'ant', 'ox', 'cat'], names=None, kind=kind))
    write(tmp_path, 'val.parquet', table(['cat'], names=None, kind=kind))
    source = Parquet('', tmp_path)
    assert source.class_names == ('ant', 'cat', 'ox')
    assert [item.label for item in read(source, 'train') + read(source, 'validation')] == [2, 0, 2, 1, 1]


@pytest.mark.parametrize('kind', [pa.uint8(), pa.int16(), pa.uint64()])
def test_without_names_the_classes_are_numbers(tmp_path, kind):
    write(tmp_path, 'train.parquet', table([11, 5, 5], names=None, kind=kind))
    source = Parquet('', tmp_path)
    assert source.class_names == ('5', '11') and source.item('validation', 0).label == 1


def test_names_that_occur_twice_are_told_apart(tmp_path):
    write(tmp_path, 'train.parquet', table([0, 1, 2], names=['crane', 'ox', 'crane']))
    assert Parquet('', tmp_path).class_names == ('crane (0)', 'ox', 'crane (2)')


# --- messages ---


def test_nothing_there(tmp_path):
    (tmp_path / 'a.txt').write_text('x')
    for arguments in (('', tmp_path), ('x/*', tmp_path), ('', tmp_path / 'none'), ('none', tmp_path)):
        assert 'There is no Parquet file in' in message(*arguments)


def test_a_part_that_is_missing(shards):
    (shards / 'data' / 'train-00000-of-00002.parquet').unlink()
    assert 'data/train-00000-of-00002 is missing; 1 of 2 files are there' in message('', shards)
    assert Parquet('data/*', shards).splits == {'train': 3, 'validation': 2}


def test_a_part_that_is_there_twice(shards):
    write(shards, 'data/train-00000-of-00002-abc.parquet', table([0]))
    assert 'are the same part of a series' in message('', shards)


def test_a_file_of_no_split_beside_others(shards):
    path = write(shards, 'data/extra.parquet', table([0]))
    assert f'{path} names no split' in message('', shards)


@pytest.mark.parametrize('label', [3, -1, None, 2**40])
def test_labels_that_are_no_class(shards, label):
    path = write(shards, 'data/train-00001-of-00002.parquet', table([2, label]))
    assert f'{path}, row 1: the label {label} is none of the 3 classes.' in message('', shards)


def test_other_classes_in_another_file(shards):
    write(shards, 'data/train-00001-of-00002.parquet', table([2, 1], names=['shark', 'tench', 'crane']))
    assert 'do not have the same classes' in message('', shards)
    write(shards, 'data/train-00001-of-00002.parquet', table(['a', 'b'], names=None, kind=pa.string()))
    assert 'do not have the same classes' in message('', shards)


def test_one_class_is_too_few(tmp_path):
    write(tmp_path, 'train.parquet', table([0, 0], names=None))
    assert "has only one class, '0'" in message('', tmp_path)


def test_nothing_to_train_on(tmp_path):
    write(tmp_path, 'val.parquet', table([0, 1]))
    assert 'has nothing to train on' in message('', tmp_path)
    write(tmp_path, 'train.parquet', table([-1, None]))
    assert 'has nothing to train on' in message('', tmp_path)


def test_an_image_that_is_null_is_a_broken_one(tmp_path):
    rows = pa.array([None, {'bytes': None, 'path': 'a.png'}, {'bytes': image(1), 'path': None}], IMAGE)
    write(tmp_path, 'train.parquet', pa.table({'image': rows, 'label': [0, 1, 2]}))
    source = Parquet('', tmp_path)
    assert [bool(item.image) for item in read(source, 'validation') + read(source, 'train')] == [False, False, True]


def test_a_pointer_of_git_lfs(shards):
    path = shards / 'data' / 'train-00001-of-00002.parquet'
    path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n')
    assert f'{path} cannot be read' in (said := message('', shards)) and '`git lfs pull`' in said


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = write(tmp_path, 'train.parquet', table([i % 3 for i in range(900)]), row_group_size=100)
    source = Parquet('', tmp_path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=r'train\.parquet cannot be read'):
        read(source, 'train')


def test_pyarrow_is_asked_for_where_it_is_missing(shards, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert 'pip install pyarrow' in message('', shards)
