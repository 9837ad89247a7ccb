"""Pre-training on some classes and fine-tuning on others; what may differ from the run that a network begins with."""

import re

import fakes
import jax
import numpy as np
import pytest
import small_run
from configs import typed
from PIL import Image
from sklearn.datasets import load_digits

from alexnet_jax.commands.train import train
from alexnet_jax.data.augment import statistics_of
from alexnet_jax.data.dataset import open_prepared
from alexnet_jax.data.opening import prepare_data
from alexnet_jax.runs.build import build, first_state
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.metrics_log import read_metrics
from alexnet_jax.runs.pretrained import check_pretrained, mean_image_of, with_pretrained
from alexnet_jax.runs.trained import open_run
from alexnet_jax.runs.workdir import read_config, remembered_data
from alexnet_jax.runtime.errors import UserError
from experiments import finetune


@pytest.fixture(scope='session')
def pictures(tmp_path_factory):
    """Folders of digits, light on dark or the reverse: 'many' of 0 to 5; of 6 to 9 'few', five a class for training."""
    root, digits, seen = tmp_path_factory.mktemp('pictures'), load_digits(), dict.fromkeys(range(10), 0)
    chance = np.random.default_rng(0)
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        seen[label] += 1
        if label < 6:
            place, copies = root / 'many' / ('validation' if seen[label] % 10 == 1 else 'train'), 2
        else:
            place, copies = root / 'few' / ('train' if seen[label] <= 5 else 'validation'), 1
        (place / str(label)).mkdir(parents=True, exist_ok=True)
        for copy in range(copies):
            canvas, (top, left) = np.zeros((24, 24)), chance.integers(3, 6, 2)
            digit = Image.fromarray((image * 15.9).astype(np.uint8)).resize((16, 16), Image.BILINEAR)
            canvas[top : top + 16, left : left + 16] = np.asarray(digit)
            canvas = 255 - canvas if chance.random() < 0.5 else canvas
            canvas = np.clip(canvas * 0.7 + chance.normal(40, 10, canvas.shape), 0, 255)
            Image.fromarray(canvas.astype(np.uint8)).save(place / str(label) / f'{number:04d}-{copy}.png')
    return root


@pytest.fixture(scope='session')
def pretrained(pictures, tmp_path_factory):
    """Directory of a run on the digits 0 to 5."""
    directory = tmp_path_factory.mktemp('pretrained')
    config = small_run.get_config()
    config.update_from_flattened_dict(
        {
            'epochs': 6,
            'network.fc8.units': 6,
            'data.source': 'folder',
            'data.source_directory': str(pictures / 'many'),
            'data.directory': str(directory / 'data'),
        }
    )
    prepared_and_trained(config, directory / 'run')
    return directory / 'run'


def prepared_and_trained(config, workdir):
    prepare_data(typed(config).data, fakes.console())
    return train(typed(config), str(workdir), fakes.console())


def config_for(run, pictures, directory, **fields):
    config = finetune.get_config(str(run))
    config.update_from_flattened_dict(
        {
            'data.source_directory': str(pictures / 'few'),
            'data.directory': str(directory / 'data'),
            'network.fc8.units': 4,
            'batch_size': 4,
            'epochs': 6,
            'learning_rate': 0.0001,
        }
        | fields
    )
    return config


def last_error(run):
    return [line for line in read_metrics(run) if line['split'] == 'validation'][-1]['top1_error']


def test_fine_tuning_is_better_than_training_from_scratch_for_as_many_steps(pretrained, pictures, tmp_path):
    config = config_for(pretrained, pictures, tmp_path)
    tuned = prepared_and_trained(config, tmp_path / 'tuned')
    config.pretrained.workdir = ''
    config.rate_control.layer_factors = ()
    scratch = prepared_and_trained(config, tmp_path / 'scratch')
    assert tuned.step == scratch.step == 30
    assert last_error(tmp_path / 'tuned') < last_error(tmp_path / 'scratch') - 0.05


@pytest.mark.parametrize('mean', ['run', 'own'])
def test_the_mean_that_is_subtracted_is_that_which_the_layers_expect(mean, pretrained, pictures, tmp_path, monkeypatch):
    config = config_for(pretrained, pictures, tmp_path, epochs=1)
    config.pretrained.mean = mean
    used = []

    def statistics(data, config, mean_image=None):
        used.append(mean_image)
        return statistics_of(data, config, mean_image)

    monkeypatch.setattr('alexnet_jax.commands.train.statistics_of', statistics)
    prepared_and_trained(config, tmp_path / 'run')
    theirs, own = remembered_data(pretrained).mean_image(), open_prepared(tmp_path / 'data').mean_image()
    expected = theirs if mean == 'run' else own
    assert np.abs(theirs - own).max() > 1
    np.testing.assert_array_equal(used[-1], expected)
    np.testing.assert_array_equal(remembered_data(tmp_path / 'run').mean_image(), expected)
    monkeypatch.setattr('alexnet_jax.runs.pretrained.open_run', None)
    config.pretrained.workdir, config.epochs = str(pretrained), 2  # resumed, the other run is not asked again
    moved = pretrained.rename(pretrained.with_name('away'))
    try:
        train(typed(config), str(tmp_path / 'run'), fakes.console(), ['epochs'])
    finally:
        moved.rename(pretrained)
    np.testing.assert_array_equal(used[-1], expected)


def test_the_mean_of_a_run_on_images_of_another_size_is_one_color(pretrained, pictures, tmp_path):
    config = config_for(pretrained, pictures, tmp_path)
    config.data.image_size += 4
    data = prepare_data(typed(config).data, fakes.console())
    mean = mean_image_of(typed(config), data, str(tmp_path / 'run'))
    assert mean.shape == (config.data.image_size,) * 2 + (3,) and mean.dtype == np.float32
    np.testing.assert_allclose(mean[3, 5], remembered_data(pretrained).mean_image().mean((0, 1)), rtol=1e-5)
    assert (mean == mean[0, 0]).all()


def test_frozen_layers_stay_from_their_epoch_on_and_new_ones_are_drawn(pretrained, pictures, tmp_path):
    config = config_for(pretrained, pictures, tmp_path, epochs=2)
    config.rate_control.layer_rates = ((0, 'conv1', 0.0), (1, 'fc7', 0.0))
    prepared_and_trained(config, tmp_path / 'run')
    before = open_run(typed(read_config(pretrained)), str(pretrained), 'best', print).parameters
    first, second = (open_run(typed(config), str(tmp_path / 'run'), step, print).parameters for step in ('5', '10'))
    for array in ('kernel', 'bias'):
        np.testing.assert_array_equal(before['conv1'][array], second['conv1'][array])
        np.testing.assert_array_equal(first['fc7'][array], second['fc7'][array])
        assert np.any(before['fc7'][array] != first['fc7'][array])
        assert np.any(first['fc8'][array] != second['fc8'][array])
    assert second['fc8']['kernel'].shape == (2, 64, 2)


def test_all_but_the_new_layers_are_those_of_the_run(pretrained, pictures, tmp_path):
    experiment, lines = build(typed(config_for(pretrained, pictures, tmp_path))), []
    drawn = first_state(experiment)
    state = with_pretrained(experiment, drawn, lines.append)
    run = open_run(typed(read_config(pretrained)), str(pretrained), 'best', print)
    for layer in ('conv1', 'fc7'):
        jax.tree.map(np.testing.assert_array_equal, state.parameters[layer], run.parameters[layer])
    jax.tree.map(np.testing.assert_array_equal, state.parameters['fc8'], drawn.parameters['fc8'])
    assert not any(np.any(x) for x in jax.tree.leaves(state.velocity)) and state.step == 0
    assert lines == [f'Began with {pretrained}, step {run.progress.step}; new are: fc8.']


def test_a_run_that_began_with_another_carries_on_without_it(pretrained, pictures, tmp_path):
    config = config_for(pretrained, pictures, tmp_path, epochs=1)
    prepared_and_trained(config, tmp_path / 'run')
    moved = pretrained.rename(tmp_path / 'moved')
    try:
        config.epochs = 2
        assert train(typed(config), str(tmp_path / 'run'), fakes.console()).epoch == 2
    finally:
        moved.rename(pretrained)


@pytest.mark.parametrize(
    'fields, words',
    [
        ({'pretrained.new_layers': ()}, r"the parameter fc8/\w+ is .* here and is .* there. Add 'fc8'"),
        ({'pretrained.new_layers': ('fc8', 'conv7')}, "'conv7' matches no layer with parameters; there are conv1, fc7"),
        ({'network.conv1.kernels': 8}, r'the parameter conv1/\w+ is .* here and is'),
        ({'columns': 1}, 'is a run of 2 column'),
        ({'pretrained.workdir': 'nowhere'}, 'nowhere is not the directory of a run'),
    ],
)
def test_what_does_not_fit_the_run_is_told_before_anything_is_made(pretrained, pictures, tmp_path, fields, words):
    config = config_for(pretrained, pictures, tmp_path, **fields)
    with pytest.raises(UserError, match=words):
        train(typed(config), str(tmp_path / 'run'), fakes.console())
    assert not (tmp_path / 'run').exists() and not (tmp_path / 'data').exists()


def test_a_layer_that_the_run_does_not_have_is_told(pretrained, pictures, tmp_path):
    config = config_for(pretrained, pictures, tmp_path)
    lines = config.network.to_dict()
    del config.network.fc8
    config.network.fc9 = lines['fc8']
    config.pretrained.new_layers, config.rate_control.layer_factors = (), ()
    with pytest.raises(UserError, match=r"fc9/\w+ is .* here and does not exist there. Add 'fc9'"):
        check_pretrained(build(typed(config)))


def test_a_checkpoint_that_is_not_there_is_told(pretrained, pictures, tmp_path):
    experiment = build(typed(config_for(pretrained, pictures, tmp_path, **{'pretrained.checkpoint': '7'})))
    steps = ', '.join(map(str, Checkpoints(pretrained, read_only=True).steps()))
    with pytest.raises(UserError, match=re.escape(f'--checkpoint=7: {pretrained}/checkpoints has none')):
        with_pretrained(experiment, first_state(experiment), print)
    assert steps


def test_finetune_needs_a_run():
    with pytest.raises(UserError, match=r'finetune\.py needs a run to begin with'):
        finetune.get_config()
