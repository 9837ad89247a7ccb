"""--mode=export: what it writes is whole and says the same as the run, and where it fails it leaves nothing."""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest
import yaml
from fakes import console
from PIL import Image

from alexnet_jax.commands.evaluate import evaluate_run
from alexnet_jax.commands.export import export
from alexnet_jax.commands.import_weights import import_weights
from alexnet_jax.config import Config
from alexnet_jax.model.layer_specs import Dropout
from alexnet_jax.runs.trained import load_run
from alexnet_jax.runs.workdir import read_config
from alexnet_jax.runtime.errors import UserError


def exported(run, to, half=False, output=None):
    config, workdir = run
    return export(Config.from_fields(config), str(workdir), 'newest', to, half, console(), output and str(output))


def pixels(count=4):
    """Images of the prepared size."""
    return np.random.default_rng(0).integers(0, 256, (count, 24, 24, 3), np.uint8)


def center(images):
    """The patches that the network sees, as an exported one takes them."""
    return np.float32(images[:, 1:22, 1:22].transpose(0, 3, 1, 2))


def as_probabilities(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_onnx_predicts_as_the_run_does(trained, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    place = exported(trained, 'onnx', output=tmp_path / 'made' / 'here')
    assert sorted(path.name for path in place.iterdir()) == ['alexnet.onnx', 'classes.txt']
    session = onnxruntime.InferenceSession(str(place / 'alexnet.onnx'))
    [logits] = session.run(None, {'images': center(pixels())})
    np.testing.assert_allclose(as_probabilities(logits), load_run(trained[1]).predict(pixels(), 'center'), atol=1e-5)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts['class_names']) == (place / 'classes.txt').read_text().split() == [*'0123456789']
    assert facts['name'] == 'digits' and facts['step'] == '135' and facts['channels'] == 'rgb'


def test_torch_predicts_as_the_run_does(trained, tmp_path):
    torch = pytest.importorskip('torch')
    from safetensors.torch import load_file

    place = exported(trained, 'torch', output=tmp_path / 'made')
    specification = importlib.util.spec_from_file_location('alexnet', place / 'alexnet.py')
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    network = module.AlexNet().eval()
    network.load_state_dict(load_file(place / 'alexnet.safetensors'))
    with torch.no_grad():
        logits = network(torch.tensor(center(pixels()))).numpy()
    np.testing.assert_allclose(as_probabilities(logits), load_run(trained[1]).predict(pixels(), 'center'), atol=1e-5)


def test_a_workdir_is_the_same_network(run):
    config, workdir = run
    place = exported(run, 'safetensors')
    assert place == workdir / 'exported' / 'safetensors-step135'
    copy, original = load_run(place), load_run(workdir)
    np.testing.assert_array_equal(copy.predict(pixels()), original.predict(pixels()))
    same = read_config(place)  # batches of one size: in those of another, sums may be rounded otherwise
    errors = [evaluate_run(same, str(one), 'newest', 'validation', console()) for one in (place, workdir)]
    assert errors[0].views == errors[1].views
    again = exported((config, place), 'safetensors')  # of what was exported
    np.testing.assert_array_equal(load_run(again).predict(pixels()), original.predict(pixels()))


def test_what_onnx_says_is_read_back(tmp_path):
    """Out and in again by --mode=import, which follows the model's nodes: the same table, the same logits."""
    pytest.importorskip('onnx')
    workdir = pathlib.Path(__file__).parents[1] / 'runs' / 'old_run'  # of two columns that meet where the paper's do
    place = exported((read_config(workdir).fields(), workdir), 'onnx', output=tmp_path / 'model')
    back = str(tmp_path / 'back')
    import_weights(str(place / 'alexnet.onnx'), back, console())
    copy, original = load_run(back), load_run(workdir)
    assert copy.class_names == original.class_names and copy.config.columns == 2
    kept = [
        (name, layer) for name, layer in original.config.network if not isinstance(layer, Dropout)
    ]  # now in weights
    assert [(name, type(layer)) for name, layer in copy.config.network] == [(n, type(layer)) for n, layer in kept]
    images = np.random.default_rng(0).integers(0, 256, (4, 72, 72, 3), np.uint8)
    found, expected = (run.predict(images, 'center') for run in (copy, original))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_half_precision(trained, tmp_path):
    whole = exported(trained, 'safetensors', output=tmp_path / 'whole')
    half = exported(trained, 'safetensors', half=True, output=tmp_path / 'half')
    sizes = [(place / 'parameters.safetensors').stat().st_size for place in (half, whole)]
    assert sizes[0] < 0.6 * sizes[1]
    probabilities = [load_run(place).predict(pixels()) for place in (half, whole)]
    np.testing.assert_allclose(*probabilities, atol=0.01)


def card(place):
    """The head of a card and its text."""
    _, head, text = (place / 'README.md').read_text().split('---\n', 2)
    return yaml.safe_load(head), text


def test_a_folder_for_a_hub(run, tmp_path):
    config, workdir = run
    evaluation = evaluate_run(read_config(workdir), str(workdir), 'newest', 'validation', console())
    place = exported(run, 'huggingface', output=tmp_path / 'hub')
    head, text = card(place)
    assert head['library_name'] == 'alexnet-jax' and head['pipeline_tag'] == 'image-classification'
    center, _ = head['model-index'][0]['results']
    values = [metric['value'] for metric in center['metrics']]
    assert values == pytest.approx([evaluation.views['center'].top1_error, evaluation.views['center'].top5_error], 1e-5)
    assert f'| center | {evaluation.views["center"].top1_error:.2%} |' in text
    assert 'CC BY 4.0' in text and 'two columns' in text and '10 classes' in text
    assert Image.open(place / 'kernels.png').width > 100 and '](kernels.png)' in text
    np.testing.assert_array_equal(load_run(place).predict(pixels()), load_run(workdir).predict(pixels()))
    # Where the run and its images were on this machine is nobody's business.
    assert pathlib.Path(config.data.directory).is_absolute()
    files = [path.read_bytes() for path in place.rglob('*') if path.is_file()]
    assert not any(str(pathlib.Path(config.data.directory).parent).encode() in content for content in files)


def test_a_card_without_errors_of_these_parameters(run, tmp_path):
    _, workdir = run
    evaluate_run(read_config(workdir), str(workdir), 'newest', 'validation', console())
    written = json.loads((workdir / 'eval.json').read_text())
    (workdir / 'eval.json').write_text(json.dumps(written | {'step': 7}))
    head, text = card(exported(run, 'huggingface', output=tmp_path / 'hub'))
    assert 'model-index' not in head and 'Not measured' in text


def test_a_card_with_names_that_mean_something_to_markdown(run, tmp_path):
    config, workdir = run
    manifest = json.loads((workdir / 'data_set' / 'manifest.json').read_text())
    manifest['settings']['source'] = 'folder'
    (workdir / 'data_set' / 'manifest.json').write_text(json.dumps(manifest))
    config.name = 'a" <b>`c`\n---\n![d](e) \N{GRINNING FACE}'
    evaluate_run(read_config(workdir), str(workdir), 'newest', 'validation', console())
    head, text = card(exported((config, workdir), 'huggingface', output=tmp_path / 'hub'))
    assert '<b>' not in text and '](e)' not in text and head['model-index'][0]['name'] == config.name
    assert 'terms of these images are not known' in text


def test_what_is_there_stays(trained, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'alexnet.py').write_text('precious')
    for place in (tmp_path / 'mine', tmp_path / 'mine' / 'alexnet.py'):
        with pytest.raises(UserError, match='already exists; name a new directory'):
            exported(trained, 'torch', output=place)
    assert (tmp_path / 'mine' / 'alexnet.py').read_text() == 'precious'
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


def test_into_the_current_directory(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exported(trained, 'torch', output='.') == pathlib.Path()
    assert (tmp_path / 'alexnet.py').exists()


def full(*_, **__):
    raise OSError(28, 'No space left on device')


@pytest.mark.parametrize('to', ['torch', 'safetensors', 'huggingface'])
def test_a_full_disk_leaves_nothing(trained, tmp_path, monkeypatch, to):
    monkeypatch.setattr('alexnet_jax.commands.export.sync_tree', full)
    with pytest.raises(UserError, match='cannot be written: No space left'):
        exported(trained, to, output=tmp_path / 'a' / 'b')
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_onnx(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    monkeypatch.delitem(sys.modules, 'alexnet_jax.weights.export_onnx', raising=False)
    with pytest.raises(UserError, match=r'--to=onnx needs the package onnx: pip install'):
        exported(trained, 'onnx', output=tmp_path / 'a')
    assert list(tmp_path.iterdir()) == []


def test_from_the_command_line(trained, forked, tmp_path):
    arguments = ['--mode=export', '--to=torch', f'--output={tmp_path / "made"}']
    done = forked.launch(f'--workdir={trained[1]}', *arguments).succeeded()
    assert (tmp_path / 'made' / 'alexnet.py').exists() and f'wrote {tmp_path}/made/alexnet.py' in done.out
