"""A network without checkpoints: written, read by every mode, and refused where it is not what was written."""

import json
import pathlib
import struct

import jax
import numpy as np
import pytest
import small_run
from fakes import console

from alexnet_jax.commands.evaluate import evaluate_run
from alexnet_jax.commands.figures import draw_figures
from alexnet_jax.commands.train import train
from alexnet_jax.runs.build import build, first_state
from alexnet_jax.runs.parameters_file import PARAMETERS, write_network
from alexnet_jax.runs.pretrained import with_pretrained
from alexnet_jax.runs.trained import load_run
from alexnet_jax.runs.workdir import read_config
from alexnet_jax.runtime.errors import UserError


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    _, workdir = small_run.trained_in(tmp_path_factory.mktemp('parameters_file'), train=True)
    return load_run(workdir)


def write(run, directory, **options):
    write_network(str(directory), run.config, run.data, run.data.mean_image(), run.parameters, **options)
    return directory


def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), np.uint8)


def test_the_network_is_the_same(run, tmp_path):
    copy = load_run(write(run, tmp_path / 'copy', step=135, epoch=3))
    np.testing.assert_array_equal(copy.predict(pixels()), run.predict(pixels()))
    assert (copy.progress.step, copy.progress.epoch) == (135, 3)
    assert copy.class_names == run.class_names


def test_half_precision_rounds_each_number_once(run, tmp_path):
    copy = load_run(write(run, tmp_path / 'half', half=True))
    for layer, arrays in run.parameters.items():
        for array, values in arrays.items():
            expected = np.asarray(values).astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(copy.parameters[layer][array], expected)
    assert (tmp_path / 'half' / PARAMETERS).stat().st_size < 0.52 * sum(
        x.nbytes for x in jax.tree.leaves(run.parameters)
    )


def test_the_file_is_what_the_format_says(run, tmp_path):
    content = (write(run, tmp_path / 'copy') / PARAMETERS).read_bytes()
    length = struct.unpack('<Q', content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    begin, end = header['conv1.kernel']['data_offsets']
    values = np.frombuffer(content[8 + length :][begin:end], '<f4').reshape(header['conv1.kernel']['shape'])
    np.testing.assert_array_equal(values, run.parameters['conv1']['kernel'])


def test_eval_has_the_errors_of_the_run(run, tmp_path):
    copy = str(write(run, tmp_path / 'copy'))
    config = read_config(copy)
    errors = [evaluate_run(config, one, 'best', 'validation', console()).views for one in (copy, run.workdir)]
    assert errors[0] == errors[1]


def test_figures_without_a_log_have_kernels_and_a_report(run, tmp_path):
    copy = str(write(run, tmp_path / 'copy'))
    names = {path.name for path in draw_figures(read_config(copy), copy, 'newest', console())}
    assert 'report.html' in names and any(name.startswith('predictions') for name in names)
    assert not any(name.startswith('learning_curves') for name in names)


def test_fine_tuning_begins_from_it(run, tmp_path):
    copy = str(write(run, tmp_path / 'copy'))
    config = run.config.replace(**{'pretrained.workdir': copy, 'pretrained.checkpoint': 'best', 'seed': 5})
    experiment = build(config.replace(**{'pretrained.new_layers': ('fc8',)}))
    state = with_pretrained(experiment, first_state(experiment), lambda line: None)
    np.testing.assert_array_equal(state.parameters['fc7']['kernel'], run.parameters['fc7']['kernel'])
    assert not np.array_equal(state.parameters['fc8']['kernel'], run.parameters['fc8']['kernel'])


def test_training_does_not_go_on_in_it(run, tmp_path):
    copy = write(run, tmp_path / 'copy')
    before = (copy / PARAMETERS).read_bytes()
    with pytest.raises(UserError, match=r'without checkpoints.*finetune'):
        train(read_config(copy), str(copy), console())
    assert (copy / PARAMETERS).read_bytes() == before
    assert not (copy / 'checkpoints').exists()


def test_steps(run, tmp_path):
    copy = write(run, tmp_path / 'copy', step=7)
    assert load_run(copy, 7).progress.step == 7
    with pytest.raises(UserError, match='is of step 7; take newest'):
        load_run(copy, 8)


def cut(content):
    return content[:-1]


def flipped(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize('change', [cut, flipped, lambda content: b'', lambda content: b'\xff' * 100])
def test_a_damaged_file_is_named(run, tmp_path, change):
    path = write(run, tmp_path / 'copy') / PARAMETERS
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=r'parameters\.safetensors is damaged'):
        load_run(tmp_path / 'copy')


def test_another_network_is_named(run, tmp_path):
    copy = write(run, tmp_path / 'copy')
    fields = json.loads((copy / 'config.json').read_text())
    fields['network']['fc7']['units'] = 32
    (copy / 'config.json').write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r'does not fit config\.json beside it: fc7\.bias is \[2, 32\], not'):
        load_run(copy)


def test_a_file_of_others_is_refused(run, tmp_path):
    from safetensors.numpy import save_file

    copy = write(run, tmp_path / 'copy')
    save_file({'features.0.weight': np.zeros(3, np.float32)}, copy / PARAMETERS)
    with pytest.raises(UserError, match='not written by this software; --mode=import'):
        load_run(copy)


def test_nothing_is_written_over(run, tmp_path):
    with pytest.raises(UserError, match=r'holds config\.json already'):
        write(run, pathlib.Path(run.workdir))
    assert not (pathlib.Path(run.workdir) / PARAMETERS).exists()


@pytest.mark.parametrize('last', ['replace_file', 'write_config'])
def test_on_a_full_disk_nothing_is_half_written(last, run, tmp_path, monkeypatch):
    def full(path, *_):
        (path.with_name(f'{path.name}.new') if last == 'replace_file' else tmp_path / 'run' / 'config.json').touch()
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(f'alexnet_jax.runs.parameters_file.{last}', full)
    with pytest.raises((UserError, OSError), match='No space left'):
        write(run, tmp_path / 'run')
    assert list((tmp_path / 'run').iterdir()) == []


def test_numbers_too_large_for_half_precision_are_named(run, tmp_path):
    parameters = {**run.parameters, 'fc8': {**run.parameters['fc8'], 'bias': np.full((2, 5), 1e6, np.float32)}}
    with pytest.raises(UserError, match=r'fc8\.bias has values that float16 cannot hold'):
        write_network(str(tmp_path / 'x'), run.config, run.data, run.data.mean_image(), parameters, half=True)
    assert not (tmp_path / 'x').exists()
