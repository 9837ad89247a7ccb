"""Guards which image files are found in folders that a user names, and what is said of the others."""

import json
import os
import pathlib
import subprocess

import pytest
from fakes import encoded, ramp

from alexnet_jax.data import formats, image_files
from alexnet_jax.data.image_files import find_image_files, read_image_files
from alexnet_jax.data.sources.folder import Folder
from alexnet_jax.runtime.errors import UserError, shown


def write(directory, *paths):
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(b'!')


def found(*paths):
    """Paths found in folders, and the lines that were said."""
    said = []
    return find_image_files([str(path) for path in paths], said.append), said


def test_the_rules_are_those_of_the_folder_source(tmp_path):
    write(
        tmp_path,
        'a/1.jpg',
        'a/deep/2.JFIF',
        'b/3.jpe',
        'b/4.mpo',
        'b/.git/5.jpg',
        'a/.6.jpg',
        'b/7.txt',
        'b/x.jpg/8.png',
    )
    write(tmp_path.parent, f'{tmp_path.name}-elsewhere/9.jpg')
    (tmp_path / 'a/linked').symlink_to(tmp_path.parent / f'{tmp_path.name}-elsewhere')
    (tmp_path / 'b/circle').symlink_to(tmp_path)
    os.mkfifo(tmp_path / 'a/pipe.jpg')
    paths, said = found(tmp_path)
    expected = ['a/1.jpg', 'a/deep/2.JFIF', 'a/linked/9.jpg', 'b/3.jpe', 'b/4.mpo', 'b/x.jpg/8.png']
    assert [os.path.relpath(path, tmp_path) for path in paths] == expected
    assert said == [
        f'Left out of {tmp_path}: 2 files of other kinds (.txt 1, no file 1); 1 hidden folder ({tmp_path}/b/.git); '
        f'1 hidden file; 1 symbolic link leading back to a folder around it ({tmp_path}/b/circle).'
    ]
    folder = Folder(tmp_path)
    both = [folder.item(split, index).name for split, count in folder.splits.items() for index in range(count)]
    assert sorted(both) == expected


def test_what_is_left_out_is_counted_by_kind_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, 'FORMATS', ('JPEG',))
    monkeypatch.setattr(formats, 'EXTENSIONS', ('.jpg',))
    write(tmp_path, '1.jpg', *(f'{number}.HEIC' for number in range(24)), '1.avif', '1.xmp')
    _, said = found(tmp_path)
    assert said == [
        f'Left out of {tmp_path}: 26 files of other kinds (.heic 24, .avif 1, .xmp 1).',
        '.avif: install Pillow 11.3 or newer',
        '.heic: convert to JPEG, or pip install pillow-heif',
    ]
    (tmp_path / '1.jpg').unlink()
    with pytest.raises(UserError, match=r'has no image, but 26 files.*\.heic 24.*\.heic: convert to JPEG'):
        found(tmp_path)


def test_many_kinds_are_not_all_listed(tmp_path):
    write(tmp_path, '1.jpg', *(f'1.kind{number}' for number in range(20)))
    _, [line] = found(tmp_path)
    assert '20 files of other kinds' in line and line.count('.kind') == 8 and ', ...)' in line


def test_nothing_is_said_where_nothing_is_left_out(tmp_path):
    write(tmp_path, '1.jpg', 'a/2.png')
    assert found(tmp_path, tmp_path / '1.jpg') == ([str(tmp_path / one) for one in ('1.jpg', 'a/2.png', '1.jpg')], [])


@pytest.mark.skipif(os.geteuid() == 0, reason='everything is readable for root')
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    write(tmp_path, '1.jpg', 'closed/2.jpg')
    (tmp_path / 'closed').chmod(0)
    with pytest.raises(UserError, match=rf'{tmp_path}/closed cannot be read: Permission denied'):
        found(tmp_path)


def test_an_error_of_a_folder_is_named(tmp_path, monkeypatch):
    write(tmp_path, '1.jpg', 'closed/2.jpg')
    scandir = os.scandir

    def failing(path):
        if str(path).endswith('closed'):
            raise PermissionError(13, 'Permission denied')
        return scandir(path)

    monkeypatch.setattr(image_files.os, 'scandir', failing)
    with pytest.raises(UserError, match=rf'{tmp_path}/closed cannot be read: Permission denied'):
        found(tmp_path)


def test_a_link_to_nowhere_is_named(tmp_path):
    write(tmp_path, '1.jpg')
    (tmp_path / 'gone').symlink_to('nothing')
    with pytest.raises(UserError, match=rf"{tmp_path}/gone leads to 'nothing', which is not there"):
        found(tmp_path)


def test_a_link_to_itself_has_its_own_reason(tmp_path):
    write(tmp_path, '1.jpg')
    (tmp_path / 'loop').symlink_to('loop')
    with pytest.raises(UserError, match=rf"{tmp_path}/loop leads to 'loop', Too many levels of symbolic links"):
        found(tmp_path)


def test_folders_below_each_other_to_any_depth(tmp_path):
    top = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir('a', dir_fd=top)
        inner = os.open('a', os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = inner
    os.close(os.open('1.jpg', os.O_CREAT | os.O_WRONLY, dir_fd=top))
    os.close(top)
    try:
        [path], _ = found(tmp_path)
    finally:
        subprocess.run(['rm', '-r', str(tmp_path / 'a')], check=True)  # too deep for shutil
    assert path == str(tmp_path) + '/a' * 1500 + '/1.jpg'


def test_without_inodes_a_folder_is_known_by_its_path(tmp_path, monkeypatch):
    write(tmp_path, '1.jpg', 'a/2.jpg', 'a/b/3.jpg')
    stat = os.stat
    numbered = os.stat_result((*stat(tmp_path)[:1], 0, *stat(tmp_path)[2:]))
    monkeypatch.setattr(image_files.os, 'stat', lambda path: numbered)
    assert len(list(image_files.find_images(str(tmp_path), image_files.LeftOut()))) == 3


def test_names_that_are_not_utf_8_are_written_with_escapes(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b'\xe9t\xc3\xa9 [b]\n.png')
    with open(name, 'wb') as file:
        file.write(encoded(ramp(9, 9)))
    [path], _ = found(tmp_path)
    [image] = read_image_files([path], 8)
    assert image.pixels is not None
    assert shown(path) == f'{tmp_path}/\\xe9té [b]\n.png'
    assert '\\u' not in json.dumps(shown(path), ensure_ascii=False) and shown(path).encode()


def test_what_cannot_be_read_has_its_reason(tmp_path):
    write(tmp_path, 'a.jpg')
    (tmp_path / 'empty.jpg').touch()
    os.mkfifo(tmp_path / 'pipe')
    paths, _ = found(tmp_path / 'a.jpg', tmp_path / 'empty.jpg', tmp_path / 'pipe')
    reasons = [image.error for image in read_image_files(paths, 8)]
    assert reasons == ['no image in a supported format', 'the file is empty', 'it is not a regular file']


def test_extensions_are_those_of_pillow():
    from PIL import Image

    Image.init()
    registered = {ending: name for ending, name in Image.registered_extensions().items() if name in formats.FORMATS}
    assert {*registered} <= {*formats.EXTENSIONS}
    assert pathlib.Path('x.JFIF').suffix.lower() in formats.EXTENSIONS
