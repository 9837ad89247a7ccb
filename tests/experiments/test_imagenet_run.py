"""The whole way with ImageNet: the official tars in small, prepared, trained on at full size, evaluated."""

import json
import pathlib

import numpy as np
import pytest
from made_imagenet import write_imagenet2012

from alexnet_jax.data import pipeline
from alexnet_jax.data.dataset import open_prepared


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp('imagenet')
    (directory / 'downloads').mkdir()
    write_imagenet2012(directory / 'downloads', classes=3, per_class=5, validation=5, size=300)
    return directory


@pytest.fixture(scope='module')
def arguments(directory):
    return [
        '--config=experiments/paper.py',
        f'--config.data.source_directory={directory / "downloads"}',
        f'--config.data.directory={directory / "prepared"}',
        '--config.data.images_per_shard=8',
        '--config.network.fc6.units=512',  # the full size of images and maps, and a tenth of the parameters to save
        '--config.network.fc7.units=512',
        '--config.network.fc8.units=3',
        '--config.batch_size=8',
        '--config.epochs=2',
    ]


def test_before_it_is_prepared_the_message_says_what_to_do(directory, arguments, forked):
    done = forked.launch(f'--workdir={directory / "early"}', *arguments)
    assert done.code == 2
    for words in ('ILSVRC2012_img_train.tar', str(directory / 'downloads'), '--mode=prepare', 'experiments/digits.py'):
        assert words in done.err
    assert not (directory / 'early').exists()


def test_the_whole_way(directory, arguments, forked):
    done = forked.launch('--mode=prepare', *arguments).succeeded()
    assert '15 train, 5 validation images' in done.out
    data = open_prepared(directory / 'prepared')
    assert data.counts('train') == [8, 7]
    assert len(data.class_ids) == 3
    assert all(name.startswith('n') for name in data.class_ids)

    workdir = directory / 'run'
    done = forked.launch(f'--workdir={workdir}', *arguments).succeeded()
    assert '2 column(s)' in done.out
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    losses = [line['loss'] for line in lines]
    assert lines[-1]['step'] == 4  # two epochs of 15 images in batches of 8
    assert np.isfinite(losses).all()
    assert sorted(path.name for path in (workdir / 'checkpoints').iterdir() if path.name.isdigit()) == ['2', '4']

    forked.launch(f'--workdir={workdir}', '--mode=eval', *arguments).succeeded()
    result = json.loads((workdir / 'eval.json').read_text())
    assert (result['step'], result['examples'], set(result['views'])) == (4, 5, {'center', 'ten'})
    assert result['views']['center']['top5_error'] == 0  # of three classes


def pixels_by_name(data, split):
    shards = pipeline.open_shards(data, split)
    return {shards.name(i): shards.read(i) for i in range(len(shards))}


def test_the_same_pixels_from_tars_and_from_a_folder(directory, arguments, tmp_path, forked):
    forked.launch('--mode=prepare', *arguments)
    from_tars = open_prepared(directory / 'prepared')
    written = write_imagenet2012(tmp_path, classes=3, per_class=5, validation=5, size=300)
    labels = {name: label for split in written for name, (_, label) in pixels_by_name(from_tars, split).items()}
    for split, images in written.items():
        for name, image in images.items():
            path = tmp_path / 'folder' / split / from_tars.class_ids[labels[name]] / pathlib.Path(name).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
    forked.launch(
        '--mode=prepare',
        *arguments,
        '--config.data.source=folder',
        f'--config.data.source_directory={tmp_path / "folder"}',
        f'--config.data.directory={tmp_path / "prepared"}',
    ).succeeded()
    from_folder = open_prepared(tmp_path / 'prepared')
    for split in ('train', 'validation'):
        one, two = (
            {pathlib.Path(name).name: value for name, value in pixels_by_name(data, split).items()}
            for data in (from_tars, from_folder)
        )
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name][0], two[name][0])
            assert from_tars.class_ids[one[name][1]] == from_folder.class_ids[two[name][1]]
    np.testing.assert_array_equal(from_tars.mean_image(), from_folder.mean_image())
    np.testing.assert_array_equal(from_tars.rgb_covariance, from_folder.rgb_covariance)
