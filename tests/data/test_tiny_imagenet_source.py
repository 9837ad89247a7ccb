"""Guards Tiny ImageNet: the zip and the folder in the official layout, the order of labels, and odd or lost files."""

import concurrent.futures
import errno
import os
import zipfile

import numpy as np
import pytest
from made_archives import tiny_imagenet_files, write_folder, zip_of

from alexnet_jax.data.sources import archives, open_source
from alexnet_jax.data.sources.published import MissingFilesError
from alexnet_jax.data.sources.tiny_imagenet import TinyImageNet
from alexnet_jax.runtime.errors import UserError

TOP = 'tiny-imagenet-200'


def items(source):
    return {split: [source.item(split, index) for index in range(n)] for split, n in source.splits.items()}


@pytest.mark.parametrize('compression', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_and_folder_are_the_same_and_right(compression, tmp_path):
    files, made = tiny_imagenet_files()
    litter = {'__MACOSX/tiny-imagenet-200/._wnids.txt': b'x', f'{TOP}/val/images/.DS_Store': b'x', 'a/wnids.txt': b'x'}
    (tmp_path / 'tiny-imagenet-200.zip').write_bytes(zip_of(files | litter, compression))
    write_folder(tmp_path / 'unpacked', files | litter)
    places = (tmp_path, tmp_path / 'tiny-imagenet-200.zip', tmp_path / 'unpacked', tmp_path / 'unpacked' / TOP)
    for directory in places:
        source = open_source('tiny_imagenet', str(directory))
        assert source.class_ids == ('n01443537', 'n02124075', 'n04540053')  # not in the order of wnids.txt
        assert source.class_names == ('goldfish', 'Egyptian cat', 'volleyball')
        assert source.splits == {'train': 12, 'validation': 5}
        assert source.notes == ('Test images have no labels, and are left out: 1 of them.',)
        found = items(source)
        for split, right in made.items():
            assert [item.name for item in found[split]] == list(right)
            assert [(item.image, source.class_ids[item.label]) for item in found[split]] == list(right.values())
    order = np.random.default_rng(0).permutation(12).tolist()
    zipped = TinyImageNet(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda index: zipped.item('train', index), order)) == [found['train'][i] for i in order]


@pytest.mark.parametrize('inner', ['', 'images/'])
def test_validation_images_in_class_folders(inner, tmp_path):
    files, made = tiny_imagenet_files()
    for path, (image, synset) in list(made['validation'].items()):
        del files[f'{TOP}/{path}'], made['validation'][path]
        moved = f'val/{synset}/{inner}{path.removeprefix("val/images/")}'
        files[f'{TOP}/{moved}'], made['validation'][moved] = image, (image, synset)
    write_folder(tmp_path, files)
    source = TinyImageNet(tmp_path)
    found = items(source)['validation']
    assert [item.name for item in found] == list(made['validation'])
    assert [(item.image, source.class_ids[item.label]) for item in found] == list(made['validation'].values())
    (tmp_path / TOP / 'val' / 'n09').mkdir()
    with pytest.raises(UserError, match=r'has a folder val/n09, which is not one of those in wnids\.txt'):
        TinyImageNet(tmp_path)


def test_a_folder_under_another_name(tmp_path):
    files, _ = tiny_imagenet_files()
    write_folder(tmp_path, files)
    (tmp_path / TOP).rename(tmp_path / 'tiny')
    assert TinyImageNet(tmp_path / 'tiny').splits == {'train': 12, 'validation': 5}


def test_a_zip_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, '_MOST_FILES', 20)
    files, _ = tiny_imagenet_files()
    (tmp_path / 'tiny-imagenet-200.zip').write_bytes(zip_of(files))
    with pytest.raises(UserError, match=r'tiny-imagenet-200\.zip holds more than 20 files'):
        TinyImageNet(tmp_path)


def test_words_that_two_classes_share_get_the_id(tmp_path):
    files, _ = tiny_imagenet_files()
    files[f'{TOP}/words.txt'] = b'n02124075\tcrane, x\nn01443537\tcrane\nn04540053\tball\n'
    write_folder(tmp_path, files)
    assert TinyImageNet(tmp_path).class_names == ('crane (n01443537)', 'crane (n02124075)', 'ball')


VAL = f'{TOP}/val/val_annotations.txt'
CHANGES = {
    'no wnids.txt': ({f'{TOP}/wnids.txt': None}, 'wnids.txt'),
    'no words.txt': ({f'{TOP}/words.txt': None}, 'words.txt'),
    'no annotations': ({VAL: None}, 'val_annotations.txt'),
    'a class without words': ({f'{TOP}/words.txt': b'n02124075\tcat\n'}, 'no words for the class n01443537'),
    'words that are no text': ({f'{TOP}/words.txt': b'\xff\xfe\x00'}, 'damaged words.txt'),
    'a class more in wnids.txt': ({f'{TOP}/wnids.txt': b'n02124075\nn01443537\nn04540053\nn09\n'}, "'n09'"),
    'a class less in wnids.txt': ({f'{TOP}/wnids.txt': b'n02124075\nn01443537\n'}, "'n04540053'"),
    'a class twice': ({f'{TOP}/wnids.txt': b'n02124075\nn01443537\nn04540053\nn04540053\n'}, 'twice'),
    'an image without a line': ({f'{TOP}/val/images/val_9.JPEG': b'x'}, "no line for 'val_9.JPEG'"),
    'a line without an image': ({f'{TOP}/val/images/val_3.JPEG': None}, r"lacks 'val_3.JPEG'.*line 2 of"),
    'an unknown label': ({VAL: b'val_0.JPEG\tn00000001\t0\t0\t0\t0\n'}, "the class 'n00000001' in line 1"),
    'a file of another kind': ({f'{TOP}/train/n01443537/images/x.txt': b'x'}, r"'x\.txt' in train/n01443537/images"),
    'no image of a class': (
        {f'{TOP}/train/n01443537/images/n01443537_{n}.JPEG': None for n in (8, 9, 10, 11)}
        | {f'{TOP}/train/n01443537/x': b''},
        'no images in train/n01443537',
    ),
}


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('change', CHANGES)
def test_what_is_missing_or_odd_is_named(change, zipped, tmp_path):
    changes, says = CHANGES[change]
    files = {name: content for name, content in (tiny_imagenet_files()[0] | changes).items() if content is not None}
    if zipped:
        (tmp_path / 'tiny-imagenet-200.zip').write_bytes(zip_of(files))
    else:
        write_folder(tmp_path, files)
    with pytest.raises(UserError, match=says) as caught:
        TinyImageNet(tmp_path)
    assert str(tmp_path / TOP) in str(caught.value)


def test_damaged_zips(tmp_path):
    archive = tmp_path / 'tiny-imagenet-200.zip'
    files, made = tiny_imagenet_files()
    whole = zip_of(files, zipfile.ZIP_STORED)
    for content in (whole[:-30], whole[: len(whole) // 2], b'', b'<html>404</html>'):
        archive.write_bytes(content)
        with pytest.raises(UserError, match=r'tiny-imagenet-200\.zip is damaged, not completely downloaded'):
            TinyImageNet(tmp_path)
    image = next(iter(made['train'].values()))[0]
    place = whole.index(image) + len(image) // 2
    archive.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    source = TinyImageNet(tmp_path)
    with pytest.raises(UserError, match=r'damaged: train/n01443537/images/n01443537_10\.JPEG cannot be read'):
        source.item('train', 0)
    archive.unlink()
    with pytest.raises(
        MissingFilesError, match=r'not have the files of tiny_imagenet: .*tiny-imagenet-200\.zip from .*cs231n'
    ):
        TinyImageNet(tmp_path)


def test_compressions_whose_damage_is_of_no_known_kind(tmp_path):
    files, _ = tiny_imagenet_files(per_class=1, validation=1)
    (tmp_path / 'tiny-imagenet-200.zip').write_bytes(zip_of(files, zipfile.ZIP_LZMA))
    with pytest.raises(UserError, match=r'holds wnids\.txt compressed in another way'):
        TinyImageNet(tmp_path)


def test_damage_anywhere_in_a_zip_ends_in_a_message(tmp_path):
    """Of its table of contents, and of a name that becomes empty, above all."""
    whole = zip_of(tiny_imagenet_files(per_class=1, validation=1)[0], zipfile.ZIP_STORED)
    table, chance = whole.index(b'PK\x01\x02'), np.random.default_rng(0)
    places = [table + int(offset) for offset in chance.integers(0, len(whole) - table, 150)]
    places += [whole.index(b'tiny-imagenet-200/words.txt', table), *chance.integers(0, table, 50).tolist()]
    refused = 0
    for place in places:
        value = int(chance.choice([0, 255, whole[place] ^ 1])) if place != places[150] else 0
        (tmp_path / 'tiny-imagenet-200.zip').write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        try:
            items(TinyImageNet(tmp_path))
        except UserError:
            refused += 1
    assert refused > 100


def refuse(error):
    def refused(*arguments, **more):
        raise error

    return refused


def test_what_the_system_refuses_is_no_damage_of_a_zip(tmp_path, monkeypatch):
    (tmp_path / 'tiny-imagenet-200.zip').write_bytes(zip_of(tiny_imagenet_files()[0], zipfile.ZIP_STORED))
    source = TinyImageNet(tmp_path)
    refusal = OSError(errno.EIO, os.strerror(errno.EIO))
    monkeypatch.setattr(zipfile.ZipFile, 'read', refuse(refusal))
    with pytest.raises(UserError, match=r'tiny-imagenet-200\.zip cannot be read: Input/output error'):
        source.item('train', 0)
    # `zipfile` says of a file that it cannot read that it is none.
    monkeypatch.setattr(zipfile, 'ZipFile', refuse(zipfile.BadZipFile('File is not a zip file')))
    monkeypatch.setattr(archives, 'read_through', refuse(refusal))
    with pytest.raises(UserError, match=r'tiny-imagenet-200\.zip cannot be read: Input/output error'):
        TinyImageNet(tmp_path)
