"""Guards Imagenette and its kin: archive and folder, in order; and the random access to a gzipped tar behind them."""

import concurrent.futures
import gzip
import os

import numpy as np
import pytest
from made_archives import imagenette_files, tgz_of, write_folder
from made_imagenet import picture

from alexnet_jax.data.sources import gunzipped, open_source
from alexnet_jax.data.sources.gunzipped import Gunzipped
from alexnet_jax.data.sources.published import MissingFilesError
from alexnet_jax.runtime.errors import UserError


def items(source):
    return {split: [source.item(split, index) for index in range(n)] for split, n in source.splits.items()}


@pytest.mark.parametrize('name', ['imagenette2', 'imagenette2-320', 'imagenette2-160', 'imagewoof2-160'])
def test_archive_and_folder_are_the_same_and_right(name, tmp_path):
    files, made = imagenette_files(name)
    (tmp_path / f'{name}.tgz').write_bytes(tgz_of(files))
    write_folder(tmp_path / 'unpacked', files)
    for directory in (tmp_path, tmp_path / f'{name}.tgz', tmp_path / 'unpacked', tmp_path / 'unpacked' / name):
        source = open_source(name, str(directory))
        assert source.class_ids == ('n01440764', 'n02102040', 'n03888257')
        assert source.class_names == ('tench', 'English springer', 'parachute')
        assert source.splits == {'train': 9, 'validation': 6}
        found = items(source)
        for split, right in made.items():
            assert [item.name for item in found[split]] == list(right)  # sorted, as they are made
            assert [(item.image, source.class_ids[item.label]) for item in found[split]] == list(right.values())


def test_a_folder_under_another_name(tmp_path):
    write_folder(tmp_path, imagenette_files()[0])
    (tmp_path / 'imagenette2').rename(tmp_path / 'mine')
    assert open_source('imagenette', str(tmp_path / 'mine')).splits == {'train': 9, 'validation': 6}


def test_the_short_name_is_the_full_size(tmp_path):
    (tmp_path / 'imagenette2.tgz').write_bytes(tgz_of(imagenette_files()[0]))
    assert open_source('imagenette', str(tmp_path)).splits == {'train': 9, 'validation': 6}
    for name in ('imagenette3', 'imagenette-320', 'imagenette2-321'):
        with pytest.raises(UserError, match=r'is not a known source.*imagenette2-320'):
            open_source(name, str(tmp_path))
    with pytest.raises(MissingFilesError, match=r'not have the files of imagewoof2: .*imagewoof2\.tgz'):
        open_source('imagewoof', str(tmp_path))


CHANGES = {
    'a class that ImageNet does not have': ({'train/n00000001/x.JPEG': b'x'}, "train/n00000001, .* ImageNet's classes"),
    'a class without training images': ({'val/n02099601/x.JPEG': b'x'}, 'val/n02099601, .* those in train'),
    'another file': ({'train/n01440764/x.txt': b'x'}, r"'x\.txt' in train/n01440764"),
    'nothing in train': ({}, 'no class folders in train'),
}


@pytest.mark.parametrize('change', CHANGES)
def test_what_is_odd_is_named(change, tmp_path):
    changes, says = CHANGES[change]
    files = imagenette_files()[0] if changes else {'imagenette2/val/n01440764/x.JPEG': b'x'}
    (tmp_path / 'imagenette2.tgz').write_bytes(
        tgz_of(files | {f'imagenette2/{path}': x for path, x in changes.items()})
    )
    with pytest.raises(UserError, match=rf'imagenette2\.tgz has .*{says}'):
        open_source('imagenette', str(tmp_path))


# --- Random access in gzip files ---


@pytest.fixture
def content():
    """Three megabytes that compress by half or so, and not in blocks."""
    return np.random.default_rng(0).integers(0, 16, 3_300_000, np.uint8).tobytes()


def test_any_part_is_read_as_python_reads_it(content, tmp_path):
    path = tmp_path / 'x.gz'
    path.write_bytes(gzip.compress(content, 1))
    file = Gunzipped(path)
    chance = np.random.default_rng(1)
    places = [(int(chance.integers(0, 10**6)), int(chance.integers(0, len(content)))) for _ in range(30)]
    places += [(0, 5), (10, len(content) - 5), (10, len(content)), (10, len(content) + 10**7)]
    for size, offset in places[:3] + places[-3:]:  # in whichever order it becomes known
        assert file.pread(size, offset) == content[offset : offset + size]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: file.pread(*place), places))
    assert found == [content[offset : offset + size] for size, offset in places]
    assert file.seek(0, os.SEEK_END) == len(content)
    assert file.seek(-7, os.SEEK_CUR) and file.read() == content[-7:] and file.tell() == len(content)
    file.close()
    with pytest.raises(OSError):
        Gunzipped(path)._block(0), Gunzipped(tmp_path / 'none')


def test_several_members_and_padding(content, tmp_path):
    path = tmp_path / 'x.gz'
    parts = content[:1_048_576], content[1_048_576:1_048_580], content[1_048_580:]  # the first is a block
    path.write_bytes(b''.join(gzip.compress(part, 1) for part in parts) + bytes(100_000))
    with Gunzipped(path) as file:
        assert file.pread(100, 2_000_000) == content[2_000_000:2_000_100]
        assert file.read() == content
    parts = b'few', bytes(3_000_000), b'more', content  # some end where the block before has left a rest of the input
    path.write_bytes(b''.join(map(gzip.compress, parts)) + bytes(100))
    with Gunzipped(path) as file:
        assert file.read() == b''.join(parts)
    path.write_bytes(gzip.compress(content[:1_048_576], 1))
    with Gunzipped(path) as file:
        assert file.read() == content[:1_048_576]
    path.write_bytes(gzip.compress(b''))
    with Gunzipped(path) as file:
        assert file.read() == b''


def test_files_cut_short_or_changed_anywhere(content, tmp_path):
    whole = gzip.compress(content, 1)
    path = tmp_path / 'x.gz'
    for cut in (0, 1, 9, 10, 1000, len(whole) // 2, len(whole) - 9, len(whole) - 4, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with Gunzipped(path) as file, pytest.raises(OSError, match='cut short'):
            file.read()
    for place in (0, 1, 2, 3, len(whole) // 3, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with Gunzipped(path) as file, pytest.raises(OSError, match=r'damaged|cut short'):
            file.read()
    path.write_bytes(whole + b'something else')
    with Gunzipped(path) as file, pytest.raises(OSError, match='damaged, or not'):
        file.read()


def test_what_unpacks_to_too_much_is_refused_in_time(content, tmp_path, monkeypatch):
    path = tmp_path / 'x.gz'
    path.write_bytes(gzip.compress(content, 1))
    monkeypatch.setattr(gunzipped, 'LARGEST_CONTENT', 1 << 20)
    with Gunzipped(path) as file, pytest.raises(OSError, match='unpacks to more than 1,048,576 bytes'):
        file.seek(0, os.SEEK_END)


def test_images_far_from_each_other_in_a_large_archive(tmp_path):
    names = [f'n01440764_{number}.JPEG' for number in range(12)]
    files = {f'imagenette2/train/n01440764/{name}': picture(0, n, 1000) for n, name in enumerate(names)}
    files['imagenette2/val/n01440764/ILSVRC2012_val_00000001.JPEG'] = picture(0, 99, 40)
    assert sum(map(len, files.values())) > 3 << 20  # several blocks
    (tmp_path / 'imagenette2.tgz').write_bytes(tgz_of(files))
    source = open_source('imagenette', str(tmp_path))
    for index in np.random.default_rng(0).permutation(12).tolist():
        item = source.item('train', index)
        assert item.image == files[f'imagenette2/{item.name}']
