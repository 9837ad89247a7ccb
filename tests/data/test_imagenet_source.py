"""Guards ImageNet from its tar files: order, labels and bytes, and plain messages for tars that cannot be right."""

import concurrent.futures
import io
import itertools
import pickle
import subprocess
import sys
import tarfile
import time
import tracemalloc

import pytest
import rich
from made_imagenet import (
    SYNSETS_2010,
    picture,
    synset_tars,
    tar_of,
    tfds_list,
    write_imagenet2010,
    write_imagenet2012,
)
from PIL import Image
from rich.console import Console

from alexnet_jax.data.sources.imagenet import ImageNet2012, imagenet_names
from alexnet_jax.data.sources.imagenet2010 import ImageNet2010
from alexnet_jax.runtime.errors import UserError

TRAIN, VAL = 'ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'
MD5 = {TRAIN: '1d675b47d978889d74fa0da5fadfb00e', VAL: '29b22e2961454d5413ddabcf34fc5622'}


def items(source, split):
    return [source.item(split, index) for index in range(source.splits[split])]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp('imagenet')
    return directory, write_imagenet2012(directory)


@pytest.fixture
def small(tmp_path):
    """A directory with a small ImageNet that a test may damage."""
    write_imagenet2012(tmp_path, validation=4, size=8)
    return tmp_path


# ILSVRC-2012.


def test_names_are_those_of_tfds_classes_and_all_different():
    names = imagenet_names()
    assert list(names) == tfds_list('labels.txt')
    assert len(set(names.values())) == len(names) == 1000
    assert names['n01440764'] == 'tench' and names['n15075141'] == 'toilet tissue'
    assert {names['n02012849'], names['n03126707']} == {'crane (bird)', 'crane (machine)'}
    assert {names['n03710637'], names['n03710721']} == {'maillot (tights)', 'maillot (tank suit)'}


def test_2012_has_every_image_in_order_with_its_bytes(made):
    directory, images = made
    source = ImageNet2012(directory)
    assert source.splits == {'train': 12, 'validation': 6}
    assert source.class_ids == ('n01440764', 'n01443537', 'n01484850')
    assert source.class_names == ('tench', 'goldfish', 'great white shark')
    for split in source.splits:
        assert [(item.name, item.image) for item in items(source, split)] == list(images[split].items())


@pytest.mark.parametrize('write, kind', [(write_imagenet2012, ImageNet2012), (write_imagenet2010, ImageNet2010)])
def test_images_are_identified_by_their_tar_and_their_place_in_it(tmp_path, write, kind):
    write(tmp_path)
    source = kind(tmp_path)
    for split, count in source.splits.items():
        for index in range(count):
            item, identity = source.item(split, index), source.identity(split, index)
            status = (tmp_path / identity.file).stat()
            assert (identity.label, identity.time) == (item.label, status.st_mtime_ns)
            assert item.name in identity.member
            assert identity.size == len(item.image) or item.name == 'n02012849/n02012849_2.JPEG'
    every = {source.identity(split, index) for split, count in source.splits.items() for index in range(count)}
    assert len(every) == sum(source.splits.values())


def test_2012_order_is_that_of_file_names_and_not_that_of_the_tars(made):
    directory, _ = made
    with tarfile.open(directory / TRAIN) as tar:
        inside = tar.getnames()
    with tarfile.open(directory / VAL) as tar:
        inside_val = tar.getnames()
    assert inside != sorted(inside) and inside_val != sorted(inside_val)  # else this test shows nothing
    names = [item.name for item in items(ImageNet2012(directory), 'train')]
    assert names == sorted(names) and names[:2] == ['n01440764/n01440764_11.JPEG', 'n01440764/n01440764_2.JPEG']


def test_2012_labels_are_tfds(made):
    source, truth = ImageNet2012(made[0]), tfds_list('validation_labels.txt')
    for item in items(source, 'train'):
        assert source.class_ids[item.label] == item.name.split('/')[0]
    for item in items(source, 'validation'):
        assert source.class_ids[item.label] == truth[int(item.name[15:23]) - 1]
        assert isinstance(item.label, int)


def test_all_1000_classes_have_tfds_labels_and_any_validation_images(tmp_path):
    known, truth = tfds_list('labels.txt'), tfds_list('validation_labels.txt')
    tars = synset_tars({f'{synset}/{synset}_7.JPEG': synset.encode() for synset in known})
    (tmp_path / TRAIN).write_bytes(tar_of(tars))
    (tmp_path / VAL).write_bytes(tar_of({f'ILSVRC2012_val_{n:08d}.JPEG': b'x' for n in (50000, *range(1, 200))}))
    source = ImageNet2012(tmp_path)
    assert list(source.class_ids) == known
    assert list(source.class_names) == list(imagenet_names().values())
    assert [item.image.decode() for item in items(source, 'train')] == known
    assert [item.label for item in items(source, 'train')] == list(range(1000))
    assert [item.label for item in items(source, 'validation')] == [
        known.index(synset) for synset in (*truth[:199], truth[-1])
    ]


def test_made_images_have_the_odd_kinds_of_the_official_ones(made):
    source = ImageNet2012(made[0])
    opened = [Image.open(io.BytesIO(item.image)) for item in items(source, 'train')]
    assert [(image.format, image.mode) for image in opened[:4]] == [
        ('JPEG', 'CMYK'),
        ('PNG', 'RGB'),
        ('JPEG', 'L'),
        ('JPEG', 'RGB'),
    ]
    assert {min(image.size) for image in opened} == {32} and len({image.size for image in opened}) > 2


@pytest.mark.parametrize('form', [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_with_long_folders_in_front_of_the_names(tmp_path, form):
    folders = 'a-folder-of-images/' * 7  # 133 characters: more than the 100 of a plain header
    inner = tar_of({folders: b'', f'{folders}n01440764_5.JPEG': b'five', './n01440764_12.JPEG': b'twelve'}, form)
    (tmp_path / TRAIN).write_bytes(tar_of({f'{folders}n01440764.tar': inner}, form))
    (tmp_path / VAL).write_bytes(tar_of({f'{folders}{name}': b'val' for name in [name_of('n01440764')]}, form))
    found = items(ImageNet2012(tmp_path), 'train')
    assert [(item.name, item.image) for item in found] == [
        ('n01440764/n01440764_12.JPEG', b'twelve'),
        ('n01440764/n01440764_5.JPEG', b'five'),
    ]


def name_of(synset):
    """The first validation image of a class."""
    return f'ILSVRC2012_val_{tfds_list("validation_labels.txt").index(synset) + 1:08d}.JPEG'


def test_sizes_in_binary_and_in_posix_headers(tmp_path):
    image, member = b'x' * 700, tarfile.TarInfo('n01440764_1.JPEG')
    member.size = len(image)
    binary = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    binary[124:136] = b'\x80' + (700).to_bytes(11, 'big')
    member.size, member.pax_headers = 0, {'size': '700'}  # a nought in the header: only the POSIX record is right
    posix = member.tobuf(tarfile.PAX_FORMAT)
    binary[148:156] = b'%06o\0 ' % (sum(binary) - sum(binary[148:156]) + 256)
    (tmp_path / VAL).write_bytes(tar_of({name_of('n01440764'): b'val'}))
    for header in (bytes(binary), posix):
        inner = header + image.ljust(1024, b'\0') + bytes(1024)
        (tmp_path / TRAIN).write_bytes(tar_of({'n01440764.tar': inner}))
        assert ImageNet2012(tmp_path).item('train', 0).image == image


def test_folders_have_no_bytes_whatever_their_headers_say(small):
    folder = tarfile.TarInfo('a-folder')
    folder.type, folder.size = tarfile.DIRTYPE, 4096
    inner = folder.tobuf() + tar_of({'n01440764_1.JPEG': b'one'})
    (small / TRAIN).write_bytes(tar_of({'n01440764.tar': inner}))
    (small / VAL).write_bytes(tar_of({name_of('n01440764'): b'val'}))
    assert items(ImageNet2012(small), 'train') == [('n01440764/n01440764_1.JPEG', b'one', 0)]


def test_a_class_tar_may_end_without_the_block_of_zeros(small):
    image = picture(0, 1, 8)
    inner = tar_of({'n01440764_1.JPEG': image})[: 512 + -(-len(image) // 512) * 512]
    (small / TRAIN).write_bytes(tar_of({'n01440764.tar': inner}))
    (small / VAL).write_bytes(tar_of({name_of('n01440764'): b'val'}))
    assert items(ImageNet2012(small), 'train') == [('n01440764/n01440764_1.JPEG', image, 0)]


def test_threads_and_copies_read_the_right_bytes(made):
    directory, images = made
    source = ImageNet2012(directory)
    expected, places = list(images['train'].items()), [place % 12 for place in range(6000)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: source.item('train', place), places))
    assert [(item.name, item.image) for item in found] == [expected[place] for place in places]
    assert items(pickle.loads(pickle.dumps(source)), 'validation') == items(source, 'validation')


def test_tensorflow_stays_out(made):
    code = (
        'import sys; from alexnet_jax.data.sources.imagenet import ImageNet2012; ImageNet2012(sys.argv[1]);'
        'print([name for name in sys.modules if "tensorflow" in name])'
    )
    done = subprocess.run([sys.executable, '-c', code, str(made[0])], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_the_index_is_quick_and_lean(tmp_path):
    count = 8_000
    block = tarfile.TarInfo('n01440764_0000000.JPEG')
    block.size = 1
    first = bytearray(block.tobuf(tarfile.USTAR_FORMAT))
    inner = bytearray()
    for number in range(count):
        first[10:22] = b'%07d.JPEG' % number
        first[148:156] = b' ' * 8
        first[148:156] = b'%06o\0 ' % sum(first)
        inner += first + b'x' + bytes(511)
    (tmp_path / TRAIN).write_bytes(tar_of({'n01440764.tar': bytes(inner + bytes(1024))}))
    (tmp_path / VAL).write_bytes(tar_of({name_of('n01440764'): b'val'}))
    begun = time.perf_counter()
    source = ImageNet2012(tmp_path)
    seconds = time.perf_counter() - begun
    assert source.splits['train'] == count
    assert source.item('train', count - 1).name == f'n01440764/n01440764_{count - 1:07d}.JPEG'
    assert seconds < 2  # about 0.3 on one idle core
    tracemalloc.start()
    source = ImageNet2012(tmp_path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 60 * count  # bytes: the official 1.28 million images stay below 80 MB


def test_progress_is_shown_on_a_terminal_and_nowhere_else(made, monkeypatch, capsys):
    ImageNet2012(made[0])
    assert capsys.readouterr() == ('', '')
    monkeypatch.setattr(rich, 'get_console', lambda: terminal)
    monkeypatch.setattr('rich.progress.get_console', lambda: terminal)
    terminal = Console(force_terminal=True, width=120)
    source = ImageNet2012(made[0])
    assert [(item.name, item.image) for item in items(source, 'train')] == list(made[1]['train'].items())
    shown, _ = capsys.readouterr()
    assert 'finding the training images' in shown and f'finding the images of {VAL}' in shown


# What cannot be right in ILSVRC-2012's files.


def broken(directory, file, pattern):
    """Opens the directory, and checks that the message is one line with the file, what is wrong, and the remedy."""
    with pytest.raises(UserError, match=pattern) as caught:
        ImageNet2012(directory)
    message = str(caught.value)
    assert str(directory / file) in message and MD5[file] in message and '\n' not in message
    assert 'https://image-net.org/download-images' in message and message.endswith(f'into {directory}.')


@pytest.mark.parametrize('file', [TRAIN, VAL])
def test_missing_tars(small, file):
    (small / file).unlink()
    broken(small, file, 'cannot be found')
    (small / file).mkdir()
    broken(small, file, 'cannot be found')


@pytest.mark.parametrize('file', [TRAIN, VAL])
@pytest.mark.parametrize(
    ('content', 'pattern'),
    [
        (b'', 'is cut short: its 0 bytes end'),
        (b'<html>' * 200, 'is not a tar file[.]'),
        (b'\x1f\x8b' * 600, 'is not a tar file[.]'),
        (bytes(10240), 'is empty: it holds no'),
    ],
)
def test_files_that_are_no_tars(small, file, content, pattern):
    (small / file).write_bytes(content)
    broken(small, file, pattern)


def test_tars_cut_short_anywhere(small):
    for file in (TRAIN, VAL):
        whole = (small / file).read_bytes()
        with tarfile.open(small / file) as tar:
            last = max(tar.getmembers(), key=lambda member: member.offset)
        end = last.offset_data + -(-last.size // 512) * 512  # where the closing zeros begin
        for length, pattern in [
            (end + 512, None),  # one block of zeros is enough
            (end, 'is cut short: .* end without the block of zeros'),
            (end - 1, f"is cut short: .* end in the middle of '{last.name}'"),
            (last.offset_data + 5, f"is cut short: .* end in the middle of '{last.name}'"),
            (last.offset + 100, 'is cut short: .* end without the block of zeros'),
            (last.offset, 'is cut short: .* end without the block of zeros'),
        ]:
            (small / file).write_bytes(whole[:length])
            if pattern:
                broken(small, file, pattern)
            else:
                ImageNet2012(small)
        (small / file).write_bytes(whole)


def test_downloads_that_stopped_in_a_file_made_at_full_size(small):
    whole = (small / VAL).read_bytes()
    with tarfile.open(small / VAL) as tar:
        last = max(member.offset for member in tar.getmembers())
    (small / VAL).write_bytes(whole[:last] + bytes(5 << 20))
    broken(small, VAL, 'is damaged or not completely downloaded')


def test_damaged_headers(small):
    content = bytearray((small / VAL).read_bytes())
    with tarfile.open(small / VAL) as tar:
        second = sorted(member.offset for member in tar.getmembers())[1]
    content[second + 20] ^= 1
    (small / VAL).write_bytes(content)
    broken(small, VAL, f'is damaged: there is no valid header at byte {second:,}')


def test_class_tars_cut_short_inside_the_training_tar(small):
    whole = tar_of({'n01440764_1.JPEG': b'x' * 2000})
    for length, pattern in [
        (0, 'its 0 bytes end'),
        (700, "end in the middle of 'n01440764_1.JPEG'"),
        (2700, 'without the block of zeros'),
    ]:
        (small / TRAIN).write_bytes(tar_of({'n01440764.tar': whole[:length]}))
        broken(small, TRAIN, f'^n01440764.tar in .* is cut short: .*{pattern}')


IMAGE = b'x' * 10


@pytest.mark.parametrize(
    ('inner', 'pattern'),
    [
        ({}, '^n01440764.tar in .* is empty: it holds no image'),
        ({'a-folder/': b''}, 'is empty: it holds no image'),
        ({'n01440764_1.JPEG': b''}, 'holds n01440764_1.JPEG with 0 bytes'),
        ({'n01440764_1.JPEG': IMAGE, 'a/n01440764_1.JPEG': IMAGE}, 'holds n01440764_1.JPEG twice'),
        ({'n01443537_1.JPEG': IMAGE}, "holds 'n01443537_1.JPEG', where only images named like n01440764_"),
        ({'n01440764_1.txt': IMAGE}, "holds 'n01440764_1.txt'"),
        ({'._n01440764_1.JPEG': IMAGE}, "holds '._n01440764_1.JPEG'"),
        ({'n01440764_x.JPEG': IMAGE}, "holds 'n01440764_x.JPEG'"),
        ({'n01440764_\u0661.JPEG': IMAGE}, "holds 'n01440764_\u0661.JPEG'"),
        ({f'n01440764_{"1" * 99}.JPEG': IMAGE}, 'where only images'),
        ({'../n01440764_1.JPEG': IMAGE}, "holds '../n01440764_1.JPEG', a name that leads out of the tar"),
        ({'a/../n01440764_1.JPEG': IMAGE}, 'leads out of the tar'),
        ({'/n01440764_1.JPEG': IMAGE}, 'leads out of the tar'),
    ],
)
def test_class_tars_with_what_does_not_belong_there(small, inner, pattern):
    (small / TRAIN).write_bytes(tar_of({'n01440764.tar': tar_of(inner)}))
    broken(small, TRAIN, pattern)


def test_a_name_that_climbs_in_the_part_that_posix_keeps_apart(small):
    name = f'../{"folder/" * 15}n01440764_1.JPEG'
    (small / TRAIN).write_bytes(tar_of({'n01440764.tar': tar_of({name: IMAGE}, tarfile.USTAR_FORMAT)}))
    broken(small, TRAIN, f"holds '{name}', a name that leads out of the tar")


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b'S', b'V'])
@pytest.mark.parametrize('file', [TRAIN, VAL])
def test_links_and_devices(small, kind, file):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode='w') as tar:
        member = tarfile.TarInfo('n01440764.tar' if file == TRAIN else name_of('n01440764'))
        member.type, member.linkname = kind, 'elsewhere'
        tar.addfile(member)
    (small / file).write_bytes(written.getvalue())
    broken(small, file, f"holds '{member.name}', which is a link or another special file")


@pytest.mark.parametrize(
    ('outer', 'pattern'),
    [
        (['readme.txt'], "holds 'readme.txt', which is not named as the tar of a class"),
        (['n123.tar'], "holds 'n123.tar'"),
        (['n01440764.tar.gz'], "holds 'n01440764.tar.gz'"),
        (['../n01440764.tar'], 'leads out of the tar'),
        (['n01440764.tar', 'a/n01440764.tar'], 'holds n01440764.tar twice'),
        (['n01440764.tar', 'n00000000.tar'], 'n00000000.tar, which is not one of the 1,000 classes'),
        (['ILSVRC2012_val_00000001.JPEG'], "holds 'ILSVRC2012_val_00000001.JPEG', which is not named as the tar"),
    ],
)
def test_training_tars_with_what_does_not_belong_there(small, outer, pattern):
    (small / TRAIN).write_bytes(tar_of(dict.fromkeys(outer, tar_of({'n01440764_1.JPEG': IMAGE}))))
    broken(small, TRAIN, pattern)


@pytest.mark.parametrize(
    ('names', 'pattern'),
    [
        (['ILSVRC2012_val_00000000.JPEG'], 'holds ILSVRC2012_val_00000000.JPEG, but there are 50,000 labels'),
        (['ILSVRC2012_val_00050001.JPEG'], 'holds ILSVRC2012_val_00050001.JPEG, but there are 50,000 labels'),
        (['ILSVRC2012_val_1.JPEG'], "holds 'ILSVRC2012_val_1.JPEG', where only images named like"),
        (['ILSVRC2012_test_00000001.JPEG'], "holds 'ILSVRC2012_test_00000001.JPEG'"),
        (['ILSVRC2012_val_00000001.JPEG'], '1.JPEG, which is of a class that the training images do not have'),
    ],
)
def test_validation_tars_with_what_does_not_belong_there(small, names, pattern):
    (small / VAL).write_bytes(tar_of(dict.fromkeys(names, IMAGE)))
    broken(small, VAL, pattern)


@pytest.mark.parametrize(
    ('kind', 'content', 'pattern'),
    [
        (b'x', b'99 path=a\n', "holds 'a.*, where only images|is not a tar file"),  # depends on Python
        (b'x', b'0 path=a\n', 'is not a tar file'),
        (b'x', b'11 size=-5\n', 'is not a tar file|with -5 bytes, which cannot be an image'),  # depends on Python
        (b'x', b'22 GNU.sparse.map=0,5\n', 'which is a link or another special file'),
        (b'x', b'30 path=../n01440764_1.JPEG  \n'[:30].replace(b'  \n', b'.x\n'), 'leads out of the tar'),
        (b'L', b'../../n01440764_1.JPEG\0', 'leads out of the tar'),
        (b'L', None, 'is not a tar file'),
    ],
)
def test_broken_long_names(small, kind, content, pattern):
    about = tarfile.TarInfo('about')
    about.type, about.size = kind, len(content or b'')
    header = about.tobuf(tarfile.USTAR_FORMAT) + (content or b'')
    header += bytes(-len(header) % 512)
    tar = bytes(10240) if content is None else tar_of({'n01440764_1.JPEG': IMAGE})
    (small / TRAIN).write_bytes(tar_of({'n01440764.tar': header + tar}))
    broken(small, TRAIN, pattern)


def test_no_damage_of_a_byte_ends_otherwise_than_in_a_message(small):
    whole = (small / VAL).read_bytes()
    for place, change in itertools.product(range(0, 512, 11), (1, 0x80, 0xFF)):
        content = bytearray(whole)
        content[place] ^= change
        (small / VAL).write_bytes(content)
        broken(small, VAL, 'is not a tar file')


def test_files_that_shrink_or_vanish_while_in_use(small):
    source = ImageNet2012(small)
    with (small / VAL).open('r+b') as file:
        file.truncate(600)
    with pytest.raises(UserError, match='has become shorter since it was opened'):
        items(source, 'validation')
    (small / TRAIN).unlink()
    with pytest.raises(UserError, match=r'Reading n01440764/n01440764_11.JPEG from .* failed: .*No such file'):
        source.item('train', 0)


def test_tensorflow_datasets_missing_or_different(small, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    message = r'ImageNet needs tensorflow-datasets with all of .*labels.txt: pip install -r requirements.txt.'
    with pytest.raises(UserError, match=message):
        ImageNet2012(small)

    class Found:
        origin = str(small / '__init__.py')

    monkeypatch.setattr('importlib.util.find_spec', lambda name: Found)
    with pytest.raises(UserError, match=message):
        ImageNet2012(small)
    lists = small / 'datasets' / 'imagenet2012'
    lists.mkdir(parents=True)
    (lists / 'labels.txt').write_text('n01440764\n')
    with pytest.raises(UserError, match=message):
        ImageNet2012(small)


# ILSVRC-2010.


@pytest.mark.parametrize('nested', [True, False])
def test_2010_has_every_image_in_order_with_its_bytes_and_label(tmp_path, nested):
    images = write_imagenet2010(tmp_path, nested=nested)
    source = ImageNet2010(tmp_path)
    assert source.splits == {'train': 15, 'validation': 6, 'test': 8}
    assert source.class_ids == SYNSETS_2010
    assert source.class_names == ('french fries', 'crane (n02012849)', 'crane (n03126707)', 'tench', 'washer')
    for split in source.splits:  # the one that is packed with gzip too
        assert items(source, split) == [(name, *rest) for name, rest in images[split].items()]


def test_2010_test_ground_truth_may_lie_in_the_devkit(tmp_path):
    write_imagenet2010(tmp_path)
    name = 'ILSVRC2010_test_ground_truth.txt'
    expected = items(ImageNet2010(tmp_path), 'test')
    (tmp_path / name).rename(tmp_path / 'devkit-1.0' / 'data' / name)
    assert items(ImageNet2010(tmp_path), 'test') == expected


DATA = 'devkit-1.0/data/'


@pytest.mark.parametrize(
    ('file', 'content', 'pattern'),
    [
        ('ILSVRC2010_images_train.tar', None, 'cannot be found'),
        ('ILSVRC2010_images_val.tar', None, 'cannot be found'),
        ('ILSVRC2010_images_test.tar', None, 'cannot be found'),
        (DATA + 'meta.mat', None, 'cannot be read.*No such file'),
        (DATA + 'ILSVRC2010_validation_ground_truth.txt', None, 'cannot be read.*No such file'),
        ('ILSVRC2010_test_ground_truth.txt', None, 'cannot be read.*No such file'),
        (DATA + 'meta.mat', b'no table', 'cannot be read as the table of the classes'),
        (DATA + 'meta.mat', b'', 'cannot be read as the table of the classes'),
        ('ILSVRC2010_test_ground_truth.txt', b'1\n2\nthree\n', 'cannot be read as one whole number a line'),
        ('ILSVRC2010_test_ground_truth.txt', b'1\n6\n', 'has 6 in line 2, where 1..5 are expected'),
        ('ILSVRC2010_test_ground_truth.txt', b'0\n', 'has 0 in line 1'),
        (DATA + 'ILSVRC2010_validation_ground_truth.txt', b'1\n' * 7, 'holds 6 images, but .* has 7 lines'),
        (DATA + 'ILSVRC2010_validation_ground_truth.txt', b'1\n' * 5, 'but there are 5 lines in'),
        ('ILSVRC2010_images_train.tar', tar_of({'n07711080.tar': IMAGE}), 'lacks n01440764.tar: the devkit has 5'),
    ],
)
def test_2010_files_that_are_missing_or_wrong(tmp_path, file, content, pattern):
    write_imagenet2010(tmp_path, size=8)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=pattern) as caught:
        ImageNet2010(tmp_path)
    message = str(caught.value)
    assert str(tmp_path / file) in message and str(caught.value).endswith(f'into {tmp_path}.')
    assert 'https://image-net.org/challenges/LSVRC/2010' in message


def test_2010_class_that_the_devkit_does_not_know(tmp_path):
    write_imagenet2010(tmp_path, size=8, nested=False)
    (tmp_path / 'train' / 'n00000000.tar').write_bytes(b'')
    with pytest.raises(UserError, match=r'holds n00000000.tar, which the devkit does not know'):
        ImageNet2010(tmp_path)
    (tmp_path / 'train' / 'n00000000.tar').rename(tmp_path / 'train' / 'all.tar')
    with pytest.raises(UserError, match=r"holds 'all.tar', which is not named as the tar of a class"):
        ImageNet2010(tmp_path)
    for path in (tmp_path / 'train').iterdir():
        path.unlink()
    with pytest.raises(UserError, match='train is empty: it holds no tar of a class'):
        ImageNet2010(tmp_path)


def test_2010_image_in_broken_gzip(tmp_path):
    write_imagenet2010(tmp_path, size=8, nested=False)
    (tmp_path / 'train' / 'n02012849.tar').write_bytes(tar_of({'n02012849_1.JPEG': b'\x1f\x8b' + bytes(50)}))
    with pytest.raises(UserError, match=r'The image n02012849/n02012849_1.JPEG is packed with gzip, and damaged'):
        items(ImageNet2010(tmp_path), 'train')
