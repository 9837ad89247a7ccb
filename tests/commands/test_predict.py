"""A user's own images: what is printed, drawn and said of those that cannot be read."""

import errno
import json
import os
import pathlib

import fakes
import numpy as np
import pytest
import simplejpeg
from configs import typed
from PIL import Image

from alexnet_jax.commands.predict import _drawing_names, class_of_folder, predict
from alexnet_jax.data.image_files import find_image_files, read_image_files
from alexnet_jax.data.images import normalized
from alexnet_jax.figures import style
from alexnet_jax.runs.trained import open_run, predictor
from alexnet_jax.runtime.errors import UserError, writing


@pytest.fixture
def pictures(tmp_path):
    """Files of all kinds; two have the same name, one is of a known class, two cannot be read."""
    place = tmp_path / 'pictures'
    (place / '7').mkdir(parents=True)
    files = {
        'color.jpg': fakes.encoded(fakes.noise(40, 60), kind='JPEG'),
        'gray.png': fakes.encoded(fakes.ramp(30, 24), mode='L'),
        'cmyk.jpg': fakes.encoded(fakes.ramp(300, 50), mode='CMYK', kind='JPEG'),
        '7/gray.png': fakes.encoded(fakes.noise(24, 24, seed=3), mode='L'),
        'cut.jpg': fakes.encoded(fakes.noise(40, 60), kind='JPEG')[:200],
        'text.png': b'not an image',
        'notes.txt': b'left alone in a folder',
    }
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place


READABLE = ['7/gray.png', 'cmyk.jpg', 'color.jpg', 'gray.png']


def predicted(run, images, as_json=False):
    """What is printed, and what is raised in the end."""
    config, workdir = run
    on, error = fakes.console(), None
    try:
        predict(typed(config), str(workdir), 'newest', [str(image) for image in images], as_json, on)
    except UserError as raised:
        error = str(raised)
    return on.file.getvalue(), error


def direct(run, path):
    """Probabilities of one picture as it would be prepared, averaged over the views of digits, five."""
    config, workdir = run
    opened = open_run(typed(config), str(workdir), 'newest', print)
    image = normalized(path.read_bytes(), opened.data.image_size)
    quality = opened.data.settings.quality
    image = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(image, quality, colorsubsampling='420'))
    return np.exp(np.asarray(predictor(opened, 'ten')({'image': image[None]})['log_probabilities'])[0])


def test_json_holds_five_classes_of_every_picture(run, pictures, capsys):
    printed, error = predicted(run, [pictures], as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line['file'] for line in lines] == [
        str(pictures / name) for name in sorted([*READABLE, 'cut.jpg', 'text.png'])
    ]
    for line in lines:
        path = pathlib.Path(line['file'])
        if path.name in ('cut.jpg', 'text.png'):
            assert set(line) == {'file', 'error'} and line['error']
            continue
        expected, found = direct(run, path), line['predictions']
        assert [one['label'] for one in found] == np.argsort(-expected, kind='stable')[:5].tolist()
        for one in found:
            assert one['probability'] == pytest.approx(expected[one['label']], abs=1e-6)
            assert one['name'] == one['id'] == str(one['label'])
    assert error.startswith('2 of 6 images cannot be read, the first: ') and 'cut.jpg' in error
    assert 'cut.jpg' in printed and 'text.png' in printed
    assert f'Left out of {pictures}: 1 file of other kinds (.txt 1)' in printed
    assert not (run[1] / 'predictions').exists()


def test_names_that_are_not_utf_8_and_files_of_other_kinds(run, tmp_path, capsys):
    folder = os.path.join(os.fsencode(tmp_path), b'caf\xe9')
    os.mkdir(folder)
    for name, content in {
        b'\xff[b].png': fakes.encoded(np.full((9, 9, 3), 7)),
        b'bad\xfe.jpg': b'',
        b'x.heic1': b'!',
    }.items():
        with open(os.path.join(folder, name), 'wb') as file:
            file.write(content)
    printed, error = predicted(run, [os.fsdecode(folder)], as_json=True)
    out = capsys.readouterr().out
    assert '\\ud' not in out and out.encode()
    files = {line['file']: line for line in map(json.loads, out.splitlines())}
    assert set(files) == {rf'{tmp_path}/caf\xe9/{name}' for name in (r'\xff[b].png', r'bad\xfe.jpg')}
    assert files[rf'{tmp_path}/caf\xe9/bad\xfe.jpg']['error'] == 'the file is empty'
    assert rf'Left out of {tmp_path}/caf\xe9: 1 file of other kinds (.heic1 1).' in printed
    assert rf'{tmp_path}/caf\xe9/bad\xfe.jpg: the file is empty' in error


def test_from_python_what_is_left_out_is_a_warning(trained, pictures):
    opened = open_run(typed(trained[0]), str(trained[1]), 'newest', print)
    said = pytest.warns(UserWarning, match=r'Left out of .*: 1 file of other kinds \(.txt 1\)')
    with said, pytest.raises(UserError, match=r'cut.jpg cannot be read: Truncated'):
        opened.predict(pictures)


def test_a_person_reads_lines_and_finds_pictures(run, pictures):
    printed, error = predicted(run, [pictures / name for name in READABLE])
    assert error is None
    lines = printed.splitlines()
    for name in READABLE:
        place = next(i for i, line in enumerate(lines) if line.startswith(str(pictures / name)))
        guesses = lines[place + 1 : place + 6]
        shares = [float(line.split('%')[0]) for line in guesses]
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100.1
        assert (' (it is: 7)' in lines[place]) == (name == '7/gray.png')
        assert sum(line.endswith(' *') for line in guesses) <= (name == '7/gray.png')
    drawn = sorted(path.name for path in (run[1] / 'predictions').iterdir())
    assert drawn == ['cmyk.png', 'color.png', 'gray-2.png', 'gray.png']
    for name in drawn:
        with Image.open(run[1] / 'predictions' / name) as picture:
            assert min(picture.size) > 200 and len(set(picture.convert('L').tobytes())) > 10
    with Image.open(run[1] / 'predictions.png') as together, Image.open(run[1] / 'predictions' / 'color.png') as one:
        assert together.width > 3 * one.width  # four beside each other


def test_views_are_those_that_are_evaluated(run, pictures, capsys):
    config, workdir = run
    for views, said in ((('center',), 'from the center view'), (('center', 'ten'), 'averaged over 5 views')):
        config.evaluation.views = views
        printed, _ = predicted(run, [pictures / 'color.jpg'], as_json=True)
        (line,) = capsys.readouterr().out.splitlines()
        best = json.loads(line)['predictions'][0]
        opened = open_run(typed(config), str(workdir), 'newest', print)
        probabilities = opened.predict(pictures / 'color.jpg', views[-1])[0]
        assert (best['label'], best['probability']) == (probabilities.argmax(), pytest.approx(probabilities.max()))
        np.testing.assert_array_equal(probabilities, opened.predict(pictures / 'color.jpg')[0])
        assert said in printed


def test_predictions_are_printed_where_drawings_cannot_be_written(run, pictures, monkeypatch, tmp_path):
    config, workdir = run
    original = style.write_bytes

    def read_only(path, content):
        if path.is_relative_to(workdir):
            with writing(path):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        original(path, content)

    monkeypatch.setattr(style, 'write_bytes', read_only)
    printed, error = predicted(run, [pictures / 'color.jpg', pictures / 'gray.png'])
    assert error is None and printed.count('%') == 10
    assert printed.count('not drawn, and neither is what follows') == 1 and printed.count('not drawn') == 2
    assert '--output=DIRECTORY' in printed
    on, output = fakes.console(), tmp_path / 'elsewhere'
    predict(typed(config), str(workdir), 'newest', [str(pictures / 'color.jpg')], False, on, str(output))
    assert f'drawn: {output / "predictions" / "color.png"}' in on.file.getvalue()


def test_names_of_drawings_are_distinct():
    paths = ['x/a-2.jpg', 'x/a.jpg', 'y/a.png', 'z/A.png', 'b.jpg', 'b.png', 'c/b-3.gif', 'b-2/b.jpg', 'x/a-2.png']
    names = _drawing_names(paths)
    assert len({name.lower() for name in names}) == len(paths)
    assert names == ['a-2', 'a', 'a-3', 'A-4', 'b', 'b-2', 'b-3', 'b-4', 'a-2-2']


def test_one_that_cannot_be_read_does_not_stop_the_rest(run, pictures):
    printed, error = predicted(run, [pictures / 'text.png', pictures / 'color.jpg'])
    assert f'cannot be read: {pictures / "text.png"}: no image' in printed
    assert str(pictures / 'color.jpg') in printed and (run[1] / 'predictions' / 'color.png').exists()
    first = f'{pictures / "text.png"}: no image in a supported format.'
    assert error == f'1 of 2 images cannot be read, the first: {first}'


def test_more_pictures_than_a_batch(run, pictures, capsys):
    config, _ = run
    config.batch_size = 2
    predicted(run, [pictures / name for name in READABLE], as_json=True)
    few = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    config.batch_size = 64
    predicted(run, [pictures / name for name in READABLE], as_json=True)
    many = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for one, other in zip(few, many, strict=True):
        assert one['file'] == other['file']
        for guess, twin in zip(one['predictions'], other['predictions'], strict=True):
            assert guess['label'] == twin['label']
            assert guess['probability'] == pytest.approx(twin['probability'], abs=1e-6)


def test_what_was_named_and_is_not_there(run, pictures, tmp_path):
    (tmp_path / 'empty').mkdir()
    assert 'there is no file' in predicted(run, [pictures / 'color.jpg', tmp_path / 'nothing.jpg'])[1]
    assert 'has no image' in predicted(run, [tmp_path / 'empty'])[1]
    assert '--images is missing' in predicted(run, [])[1]


def test_the_truth_is_the_name_of_the_folder(trained):
    data = open_run(typed(trained[0]), str(trained[1]), 'newest', print).data
    assert class_of_folder('somewhere/7/picture.png', data) == 7
    assert class_of_folder('7/somewhere/picture.png', data) is None
    assert class_of_folder('picture.png', data) is None


@pytest.mark.parametrize('threads', [1, 3])
def test_pictures_come_in_order_whatever_the_threads(tmp_path, threads):
    for number in range(40):
        content = fakes.encoded(np.full((8, 8, 3), number)) if number % 7 else b'broken'
        (tmp_path / f'{number:02d}.png').write_bytes(content)
    paths = find_image_files([str(tmp_path)], print)
    found = list(read_image_files(paths, 8, threads))
    assert [picture.path for picture in found] == paths and len(paths) == 40
    for number, picture in enumerate(found):
        if number % 7:
            assert (picture.pixels == number).all() and not picture.error
        else:
            assert picture.pixels is None and picture.error
