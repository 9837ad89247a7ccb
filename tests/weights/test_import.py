"""Networks of other software, read in: made files of every format against float64 arithmetic, channels first.

The files are written by `foreign_files.py`, the arithmetic is that of `reference.py`; neither knows `alexnet_jax`.
"""

import io
import json
import zipfile

import foreign_files as made
import jax
import numpy as np
import pytest
import reference
import safetensors.numpy
import small_run
from configs import typed
from fakes import console
from PIL import Image

from alexnet_jax.commands.evaluate import evaluate_run
from alexnet_jax.commands.export import export
from alexnet_jax.commands.features import extract
from alexnet_jax.commands.figures import draw_figures
from alexnet_jax.commands.import_weights import import_weights
from alexnet_jax.commands.predict import predict
from alexnet_jax.commands.train import train
from alexnet_jax.runs.parameters_file import PARAMETERS
from alexnet_jax.runs.trained import load_run
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import torch_files
from alexnet_jax.weights.files import read_weights
from experiments import finetune, one_weird_trick

MEAN = (104.0, 117.0, 123.0)


def computed(layers, x, *, convolutions='down', pooling='up', k=1.0, columns=1, dropped=1.0):
    """Logits in float64, of images [batch, height, width, channels] as the network takes them.

    `columns` is the number of parts over which each normalization runs by itself; `dropped` the power of a dropout's
    (1 - rate) by which its values are multiplied: 0 for inverted dropout.
    """
    x = x.astype(float)
    for kind, options, weight, bias in layers:
        match kind:
            case 'conv':
                groups = options.get('group', 1)
                parts = zip(np.split(x, groups, -1), np.split(weight, groups), np.split(bias, groups), strict=True)
                windows = {'stride': options.get('stride', 1), 'pad': options.get('pad', 0), 'rounding': convolutions}
                done = [
                    reference.convolution(part, w.astype(float).transpose(2, 3, 1, 0), b, **windows)[0]
                    for part, w, b in parts
                ]
                x = np.concatenate(done, -1)
            case 'fc':
                x = x.transpose(0, 3, 1, 2).reshape(len(x), -1) if x.ndim == 4 else x
                x = x @ weight.astype(float).T + bias
            case 'relu':
                x = np.maximum(x, 0)
            case 'tanh':
                x = np.tanh(x)
            case 'lrn' if options.get('within'):
                alpha = options['alpha'] / options['n'] ** 2
                x = reference.spatial_normalization(x, 1.0, options['n'], alpha, options['beta'])[0]
            case 'lrn':
                constants = {'k': k, 'n': options['n'], 'alpha': options['alpha'] / options['n']}
                done = [
                    reference.local_response_normalization(part, beta=options['beta'], **constants)[0]
                    for part in np.split(x, columns, -1)
                ]
                x = np.concatenate(done, -1)
            case 'pool':
                pool = reference.average_pooling if options.get('average') else reference.max_pooling
                x = pool(x, options['size'], options['stride'], pooling)[0]
            case 'dropout':
                x = x * (1 - options['rate']) ** dropped
    return x


def pixels(count=3, size=made.CROP):
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def load(content, directory, **options):
    """The run that an import makes of a file."""
    file, workdir = directory / 'weights', directory / 'run'
    file.write_bytes(content)
    import_weights(str(file), str(workdir), console(), **options)
    return load_run(workdir)


def logits(run, images):
    """Of uint8 RGB images of the size that the network takes, less its mean image."""
    x = images.astype(np.float32) - run.data.mean_image()[None]
    return np.asarray(jax.jit(run.network.apply)(run.variables, x))


def check(run, images, right):
    assert reference.relative_error(logits(run, images), right) < 2e-5
    shifted = np.exp(right - right.max(1, keepdims=True))
    np.testing.assert_allclose(run.predict(images, views='center'), shifted / shifted.sum(1, keepdims=True), atol=2e-5)


ORDERS = {'AlexNet': ('relu', 'lrn', 'pool'), 'CaffeNet': ('relu', 'pool', 'lrn')}


@pytest.mark.parametrize('old, order', [(True, 'AlexNet'), (False, 'CaffeNet')])
def test_caffe_in_both_versions(old, order, tmp_path):
    layers = made.small_network(first=0.05 / 0.02, kinds=ORDERS[order])
    run = load(made.caffemodel(layers, old, crop_size=made.CROP, scale=0.02, mean=MEAN), tmp_path)
    assert run.config.columns == 2 and run.config.data.crop_size == made.CROP
    network = dict(run.config.network)
    assert network['norm1'].across_columns and network['norm1'].alpha == 0.05 / 5
    names = list(network)
    assert names[:4] == ['conv1', 'relu1', *(['norm1', 'pool1'] if order == 'AlexNet' else ['pool1', 'norm1'])]
    assert names[-5:] == ['fc5', 'relu5', 'drop5', 'exchange6', 'fc6']
    images = pixels()
    right = computed(layers, (images[..., ::-1] - np.array(MEAN)) * 0.02, dropped=0)
    check(run, images, right)


def test_columns_on_two_devices_compute_the_same(tmp_path):
    load(made.caffemodel(made.small_network(), old=False, crop_size=made.CROP, mean=MEAN), tmp_path)
    one, two = (load_run(tmp_path / 'run', data=1, column=devices) for devices in (1, 2))
    np.testing.assert_allclose(two.predict(pixels()), one.predict(pixels()), atol=1e-6)
    np.testing.assert_allclose(two.features(pixels(), 'fc5'), one.features(pixels(), 'fc5'), rtol=2e-3)


def test_caffe_of_one_column_with_maps_normalized_within_and_averages(tmp_path):
    generator = np.random.default_rng(2)
    layers = [one for one in made.small_network() if one[0] not in ('lrn', 'dropout')]
    layers[3] = (
        'conv',
        {'size': 3, 'pad': 1, 'kernels': 12},
        made.draw(generator, 12, 8, 3, 3),
        made.draw(generator, 12),
    )
    layers.insert(3, ('lrn', {'n': 3, 'alpha': 0.05, 'beta': 0.75, 'within': 1}, None, None))
    layers[9] = ('pool', {'size': 3, 'stride': 2, 'average': 1}, None, None)
    assert ' '.join(one[0] for one in layers[:10]) == 'conv relu pool lrn conv relu pool conv relu pool'
    mean = np.random.default_rng(3).uniform(90, 130, (3, 40, 40))
    np.save(tmp_path / 'mean.npy', np.float32(mean))
    content = made.caffemodel(layers, old=True, crop_size=made.CROP)
    run = load(content, tmp_path, channels='rgb', mean=str(tmp_path / 'mean.npy'))
    assert run.config.columns == 1 and run.data.image_size == 40 and run.config.evaluation.views == ('center', 'ten')
    images = pixels(size=40)
    less = (images - np.float32(mean).transpose(1, 2, 0))[:, 2:37, 2:37]
    right = computed(layers, less)
    found = np.log(run.predict(images, views='center'))
    right -= np.log(np.exp(right).sum(1, keepdims=True))
    np.testing.assert_allclose(found, right, atol=2e-4)


def torchvision_layers(arrays):
    def learned(kind, name, **options):
        return kind, options, arrays[f'{name}.weight'], arrays[f'{name}.bias']

    relu, pool = ('relu', {}, None, None), ('pool', {'size': 3, 'stride': 2}, None, None)
    return [
        *(learned('conv', 'features.0', stride=4, pad=2), relu, pool),
        *(learned('conv', 'features.3', pad=2), relu, pool),
        *(learned('conv', 'features.6', pad=1), relu),
        *(learned('conv', 'features.8', pad=1), relu),
        *(learned('conv', 'features.10', pad=1), relu, pool),
        *(learned('fc', 'classifier.1'), relu, learned('fc', 'classifier.4'), relu, learned('fc', 'classifier.6')),
    ]


# As of torch.optim.SGD, whose state is by the numbers of the parameters.
TRAINING = {
    'epoch': 3,
    'optimizer': {
        'state': {0: {'momentum_buffer': None}, 1: {'momentum_buffer': None}},
        'param_groups': [{'lr': 0.1, 'nesterov': False, 'params': [0, 1]}],
    },
}
FORMS = {
    'zip': made.torch_zip,
    'before 2020': made.torch_legacy,
    'safetensors': safetensors.numpy.save,
    'a training script, in parallel': lambda arrays: made.torch_zip(
        {name.replace('features.', 'features.module.'): x for name, x in arrays.items()}, beside=TRAINING
    ),
}


@pytest.fixture(scope='module')
def torchvision():
    """Arrays, images, and the logits that they have."""
    arrays, images = made.torchvision_arrays(), pixels(2, 224)
    normal = (images / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return arrays, images, computed(torchvision_layers(arrays), normal, pooling='down')


@pytest.mark.parametrize('form', FORMS)
def test_torchvision_in_every_form(form, torchvision, tmp_path):
    arrays, images, right = torchvision
    run = load(FORMS[form](arrays), tmp_path)
    assert run.config.columns == 1 and run.data.image_size == 256
    table = [(name, type(layer)) for name, layer in run.config.network]
    assert table == [(name, type(layer)) for name, layer in typed(one_weird_trick.get_config()).network]
    x = images.astype(np.float32) - run.data.mean_image()[None, :224, :224]
    assert reference.relative_error(jax.jit(run.network.apply)(run.variables, x), right) < 2e-5


@pytest.mark.parametrize('zipped', [True, False])
def test_what_pytorch_itself_saves(zipped, tmp_path):
    torch = pytest.importorskip('torch')
    arrays = made.torchvision_arrays()
    tensors = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in arrays.items()}
    tensors['features.3.weight'] = tensors['features.3.weight'].half()
    options = {'_use_new_zipfile_serialization': zipped}
    optimizer = torch.optim.SGD(tensors.values(), lr=0.1, momentum=0.9)
    for tensor in tensors.values():
        tensor.grad = torch.zeros_like(tensor)
    optimizer.step()
    content = {'epoch': 3, 'state_dict': tensors, 'best': torch.tensor(0.5), 'optimizer': optimizer.state_dict()}
    torch.save(content, tmp_path / 'weights', **options)
    found = {
        step.name: step.weight for step in read_weights(str(tmp_path / 'weights')).steps if step.weight is not None
    }
    for name, weight in found.items():
        expected = arrays[f'{name}.weight']
        np.testing.assert_array_equal(weight, np.float16(expected) if name == 'features.3' else expected)


def test_numbers_that_are_missing_from_a_zip_are_not_read_from_elsewhere(tmp_path):
    whole = zipfile.ZipFile(io.BytesIO(made.torch_zip(made.torchvision_arrays())))
    with zipfile.ZipFile(tmp_path / 'weights', 'w') as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name)[: -4 if name == 'archive/data/2' else None])
    with pytest.raises(UserError, match=r'archive/data/2 has 19,196 bytes; 19,200 were expected'):
        read_weights(str(tmp_path / 'weights'))


def onnx_layers(pool_pads=(0, 0, 1, 1)):
    """Windows as the model zoo's AlexNet has them: rounded down, but for a padded last pooling."""
    layers = made.small_network(flat=2)
    layers[3] = ('pool', {'size': 3, 'stride': 2}, None, None)  # 16 to 7
    layers[7] = ('pool', {'size': 3, 'stride': 2}, None, None)  # 7 to 3
    layers[10] = ('pool', {'size': 2, 'stride': 2, 'pads': pool_pads}, None, None)  # 3 to 2, not 1
    return layers


@pytest.mark.parametrize('raw', [True, False])
def test_onnx(raw, tmp_path):
    layers = onnx_layers()
    std = {} if raw else {'std': '1.5,0.5,2'}
    run = load(made.onnx_model(layers, made.CROP, raw=raw), tmp_path, channels='bgr', mean='104,117,123', **std)
    network = dict(run.config.network)
    pools = [network[name].rounding for name in ('pool1', 'pool2', 'pool3')]
    assert run.config.columns == 2 and pools == ['down', 'up', 'up']  # 7 to 3 comes out even
    x = (pixels()[..., ::-1] - np.array(MEAN)) / (1 if raw else np.array([1.5, 0.5, 2]))
    first = computed(layers[:8], x, pooling='down', dropped=0)
    assert first.shape[1] == 3
    right = computed(layers[8:], first, dropped=0)
    check(run, pixels(), right)


def test_onnx_in_half_precision_and_what_its_metadata_say(tmp_path):
    """Half precision stands in whole numbers that have its bits, as converters write it."""
    names = ['ant', 'bee', 'cow', 'dog', 'eel']
    facts = [('channels', 'bgr'), ('class_names', json.dumps(names))]
    layers = onnx_layers()
    before = [('Sub', np.zeros((3, 1, 1)))]
    run = load(made.onnx_model(layers, made.CROP, before, raw=False, kind=np.float16, facts=facts), tmp_path)
    assert run.class_names == tuple(names) and not run.data.mean_image().any()
    kernel = np.asarray(run.parameters['conv1']['kernel'])[0]
    np.testing.assert_array_equal(
        kernel[:, :, ::-1], np.float32(np.float16(layers[0][2])).transpose(2, 3, 1, 0)[..., :4]
    )


def swapped(content, one, other):
    """With two inputs of a node the other way round."""
    one, other = made.field(1, one), made.field(1, other)
    assert content.count(one + other) == 1
    return content.replace(one + other, other + one)


def small_onnx(*before, n=5):
    layers = made.small_network(flat=1)
    layers = [(kind, options | {'n': n} if kind == 'lrn' else options, *arrays) for kind, options, *arrays in layers]
    return made.onnx_model(layers, made.CROP, before)


@pytest.mark.parametrize(
    'content, message',
    [
        (swapped(small_onnx(('Sub', 110.0)), 'images', 'constant0'), 'node 1, image0 takes a constant first'),
        (swapped(small_onnx(), 'flat11', 'fc11.w'), 'fc11 takes a constant first'),
        (small_onnx(('Mul', np.ones((5, 1, 1)))), 'node 1, image0 scales the image by something other'),
        (small_onnx(('Mul', np.zeros((3, 1, 1)))), 'node 1, image0 scales the image by something other'),
        (small_onnx(n=4), 'normalizes over 4 channels'),
    ],
    ids=['a constant less the image', 'weights first', 'five scales', 'a scale of 0', 'an even number of channels'],
)
def test_onnx_that_would_be_misread_is_refused(content, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load(content, tmp_path, channels='rgb', mean=None if b'Sub' in content else '0')


def test_onnx_with_the_mean_in_its_graph_and_uneven_padding(tmp_path):
    layers = onnx_layers()
    layers[0][1]['pads'] = (2, 2, 0, 0)  # 35 to 17; pooled to 8, and to 3
    mean = np.random.default_rng(4).uniform(90, 130, (3, made.CROP, made.CROP))
    before = [('Sub', mean[None]), ('Div', np.array([58.0, 57.0, 57.5]).reshape(3, 1, 1)), ('Mul', 50.0)]
    run = load(made.onnx_model(layers, made.CROP, before), tmp_path, channels='rgb')
    np.testing.assert_allclose(run.data.mean_image(), mean.transpose(1, 2, 0), rtol=1e-6)
    conv1 = dict(run.config.network)['conv1']
    assert (conv1.pad, conv1.far_pad, conv1.rounding) == (2, 0, 'down')
    images = pixels()
    x = (images - np.float32(mean).transpose(1, 2, 0)) / np.array([58.0, 57.0, 57.5]) * 50.0
    layers[0] = ('conv', {'size': 5, 'stride': 2, 'kernels': 8}, *layers[0][2:])
    padded = np.pad(x, ((0, 0), (2, 0), (2, 0), (0, 0)))
    first = computed(layers[:8], padded, pooling='down', dropped=0)
    check(run, images, computed(layers[8:], first, dropped=0))


@pytest.mark.parametrize('zipped', [False, True])
def test_checkpoints_of_2012(zipped, tmp_path):
    """Both columns, each normalized by itself; one layer lists its inputs the other way round, as fc2048bb does."""
    layers = made.small_network()
    layers[-2] = ('fc', {'units': 6}, *(np.concatenate([x, x[:1]]) for x in layers[-2][2:]))
    layers[7], layers[5] = layers[5], layers[7]  # the ReLU after the pooling
    reversed_in_b = 'fc14b'
    assert [one[0] for one in layers].index('dropout') == 13 and layers[14][0] == 'fc'
    content = made.cuda_convnet(layers, made.CROP, reverse=reversed_in_b)
    if zipped:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as writer:
            writer.writestr('data', content)
        content = archive.getvalue()
    mean = np.float32(np.random.default_rng(6).uniform(90, 130, (3, 40, 40)))
    names = ['ant', 'bee', 'cow', 'dog', 'eel', 'fox']
    meta = {'data_mean': mean.reshape(-1, 1), 'label_names': names, 'num_vis': mean.size}
    (tmp_path / 'batches.meta').write_bytes(made.pickled(meta))
    run = load(content, tmp_path, mean=str(tmp_path / 'batches.meta'))
    assert run.config.columns == 2 and run.class_names == tuple(names) and run.data.image_size == 40
    network = dict(run.config.network)
    assert not network['norm1'].across_columns and network['norm1'].k == 2.0
    images = pixels(size=40)
    less = (images - mean.transpose(1, 2, 0))[:, 2:37, 2:37]
    right = computed(layers, less, convolutions='up', k=2.0, columns=2)
    found = np.log(run.predict(images, views='center'))
    np.testing.assert_allclose(found, right - np.log(np.exp(right).sum(1, keepdims=True)), atol=2e-4)


def test_a_normalization_without_a_middle_is_refused(tmp_path):
    layers = [
        (kind, options | {'n': 4} if kind == 'lrn' else options, *rest) for kind, options, *rest in made.small_network()
    ]
    with pytest.raises(UserError, match='layer lrn2a normalizes over windows of 4; the size must be odd'):
        load(made.cuda_convnet(layers, made.CROP), tmp_path, mean='0')


# What an imported workdir is good for.


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A run of ours on digits."""
    _, workdir = small_run.trained_in(tmp_path_factory.mktemp('import'), train=True)
    return load_run(workdir)


@pytest.fixture(scope='module')
def digits_network(trained, tmp_path_factory):
    """A Caffe network for the digits of that run, as a workdir, and its layers."""
    generator, directory = np.random.default_rng(7), tmp_path_factory.mktemp('digits')
    layers = [
        ('conv', {'size': 5, 'stride': 2, 'kernels': 6}, made.draw(generator, 6, 3, 5, 5), made.draw(generator, 6)),
        ('relu', {}, None, None),
        ('pool', {'size': 3, 'stride': 2}, None, None),
        ('fc', {'units': 10}, made.draw(generator, 10, 6 * 16), made.draw(generator, 10)),
    ]
    np.save(directory / 'mean.npy', trained.data.mean_image())
    (directory / 'names.txt').write_text('\n'.join(trained.class_names) + '\n')
    options = {'mean': str(directory / 'mean.npy'), 'class_names': str(directory / 'names.txt')}
    run = load(made.caffemodel(layers, old=False, crop_size=21), directory, **options)
    return run, layers


def test_every_mode_reads_it(digits_network, trained, tmp_path):
    run, _ = digits_network
    data = {f'data.{name}': getattr(trained.config.data, name) for name in ('source', 'directory', 'storage', 'mirror')}
    config = run.config.replace(**data, **{'evaluation.views': ('center',)})
    result = evaluate_run(config, run.workdir, 'best', 'validation', console())
    assert result.examples == small_run.VALIDATION and 0.5 < result.views['center'].top1_error <= 1
    Image.fromarray(pixels(1, 40)[0]).save(tmp_path / 'picture.png')
    predict(config, run.workdir, 'newest', [str(tmp_path / 'picture.png')], False, console(), str(tmp_path))
    assert (tmp_path / 'predictions').is_dir()
    extract(config, run.workdir, 'newest', 'conv1', 'validation', [], console(), str(tmp_path))
    assert list((tmp_path / 'features').iterdir())
    drawn = {path.name for path in draw_figures(config, run.workdir, 'newest', console(), str(tmp_path))}
    assert 'report.html' in drawn


def test_fine_tuning_begins_from_it(digits_network, trained, tmp_path):
    run, _ = digits_network
    config = finetune.get_config(run.workdir)
    for name in ('source', 'source_directory', 'directory', 'storage', 'mirror'):
        config.data[name] = getattr(trained.config.data, name)
    config.epochs, config.batch_size, config.evaluation.views = 1, 64, ('center',)
    config.learning_rate = 1e-6  # of kernels that are large, as drawn
    train(typed(config), str(tmp_path / 'run'), console())
    tuned = load_run(tmp_path / 'run')
    before, after = (np.asarray(one.parameters['conv1']['kernel']) for one in (run, tuned))
    assert 0 < np.abs(after - before).max() < 0.5 * np.abs(before).max()


def test_nothing_is_claimed_of_a_training_that_is_not_known(digits_network, tmp_path):
    run, _ = digits_network
    place = export(run.config, run.workdir, 'newest', 'huggingface', False, console(), str(tmp_path / 'hub'))
    card = (place / 'README.md').read_text()
    assert 'how it was trained is not recorded' in card and 'Trained on' not in card and '0 steps' not in card
    pytest.importorskip('flask')
    from alexnet_jax.commands.demo_analysis import Analyzer
    from alexnet_jax.commands.demo_page import application

    page = application(Analyzer(run), local=False).test_client().get('/').text
    assert 'one column, which tells 10 classes apart' in ' '.join(page.split()) and 'trained on' not in page


def test_our_own_networks_come_back(trained, tmp_path):
    export(trained.config, trained.workdir, 'newest', 'safetensors', False, console(), str(tmp_path / 'exported'))
    import_weights(str(tmp_path / 'exported' / PARAMETERS), str(tmp_path / 'back'), console())
    back = load_run(tmp_path / 'back')
    np.testing.assert_array_equal(back.predict(pixels()), trained.predict(pixels()))
    assert back.progress.step == trained.progress.step and back.class_names == trained.class_names


def test_our_own_onnx_models_come_back(trained, tmp_path):
    pytest.importorskip('onnx')
    export(trained.config, trained.workdir, 'newest', 'onnx', False, console(), str(tmp_path / 'exported'))
    import_weights(str(tmp_path / 'exported' / 'alexnet.onnx'), str(tmp_path / 'back'), console())
    back = load_run(tmp_path / 'back')
    assert back.class_names == trained.class_names
    assert back.config.columns == 2 and 'exchange' in ' '.join(name for name, _ in back.config.network)
    np.testing.assert_allclose(back.data.mean_image()[1:22, 1:22], trained.data.mean_image()[1:22, 1:22], atol=1e-4)
    images = np.random.default_rng(9).integers(0, 256, (2, 24, 24, 3), np.uint8)  # of which the center is seen
    np.testing.assert_allclose(*(run.predict(images, views='center') for run in (back, trained)), rtol=1e-3)
    x = np.float32(50 * np.random.default_rng(8).standard_normal((3, 21, 21, 3)))
    found, right = (np.asarray(run.network.apply(run.variables, x)) for run in (back, trained))
    assert reference.relative_error(found, right) < 1e-5


@pytest.mark.parametrize('key', ['state_dict', 'model_state_dict', 'model', 'net'])
@pytest.mark.parametrize('prefix', ['', 'module.', '_orig_mod.', 'model.', 'model._orig_mod.'])
def test_checkpoints_of_training_scripts(key, prefix, tmp_path):
    arrays = made.torchvision_arrays()
    plain = torch_files.tower(arrays)
    found = torch_files.tower({prefix + name: array for name, array in arrays.items()})
    assert [step.name for step in found.steps] == [step.name for step in plain.steps]
    path = tmp_path / 'a.pth'
    path.write_bytes(
        made.torch_zip({prefix + name: array for name, array in arrays.items()}, beside={'epoch': 3}, within=key)
    )
    assert [step.name for step in read_weights(str(path)).steps] == [step.name for step in plain.steps]


# Messages.


def test_a_mean_of_images_from_0_to_1_is_refused(tmp_path):
    (tmp_path / 'a.onnx').write_bytes(made.onnx_model(made.small_network(flat=1), made.CROP))
    given = {'channels': 'rgb', 'mean': '0.485,0.456,0.406', 'std': '0.229,0.224,0.225'}
    with pytest.raises(UserError, match=r'is of images from 0 to 1, .* --mean=123.675,116.28,103.53'):
        import_weights(str(tmp_path / 'a.onnx'), str(tmp_path / 'run'), console(), **given)
    (tmp_path / 'names').write_text(' \n\n')
    with pytest.raises(UserError, match=r'class_names.*it has no names'):
        import_weights(str(tmp_path / 'a.onnx'), str(tmp_path / 'run'), console(), class_names=str(tmp_path / 'names'))


def test_weights_for_pytorch_alone_name_what_can_be_imported(trained, tmp_path):
    export(trained.config, trained.workdir, 'newest', 'torch', False, console(), str(tmp_path / 'exported'))
    with pytest.raises(UserError, match=r'--mode=export --to=torch writes.*--to=safetensors or --to=onnx'):
        import_weights(str(tmp_path / 'exported' / 'alexnet.safetensors'), str(tmp_path / 'back'), console())
    assert not (tmp_path / 'back').exists()


@pytest.mark.parametrize(
    'content, options, message',
    [
        (made.caffemodel(made.small_network(), False), {}, 'what to subtract from images; pass --mean=FILE'),
        (made.onnx_model(made.small_network(flat=1), made.CROP), {'mean': '0'}, 'in which order the .*--channels=rgb'),
        (made.torch_zip(made.torchvision_arrays()), {'std': '2'}, 'a network of torchvision has its own'),
        (
            made.caffemodel(made.small_network(), True, mean=MEAN),
            {'std': '1,2'},
            '--std=1,2 must be a number, or three separated',
        ),
        (made.caffemodel(made.small_network(), True, mean=MEAN), {'std': '1,0,2'}, '--std must be numbers above 0'),
        (made.torch_zip(made.torchvision_arrays()), {'mean': '0'}, 'a network of torchvision subtracts its own'),
        (
            made.caffemodel(made.small_network(), False, mean=MEAN),
            {'crop_size': 99},
            r'fc11: its weight is \[16, 32\], the',
        ),
    ],
    ids=['no mean', 'no order', 'two scales', 'two stds', 'a std of 0', 'two means', 'another size'],
)
def test_what_is_missing_or_does_not_fit_is_named(content, options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load(content, tmp_path, **options)
    assert not (tmp_path / 'run').exists()


def test_lines_with_wordnet_ids_and_gray_images(tmp_path):
    layers = [
        ('conv', {'size': 5, 'stride': 1, 'kernels': 4}, np.ones((4, 1, 5, 5), np.float32), np.zeros(4)),
        ('fc', {'units': 2}, made.draw(np.random.default_rng(9), 2, 4 * 16), np.zeros(2)),
    ]
    names = 'n01440764 tench, Tinca tinca\nn01443537 goldfish\n'
    (tmp_path / 'names.txt').write_text(names, encoding='utf-8-sig')  # as some editors on Windows do
    run = load(made.caffemodel(layers, True, scale=1 / 256), tmp_path, class_names=str(tmp_path / 'names.txt'))
    assert run.data.class_ids == ('n01440764', 'n01443537') and run.class_names == ('tench, Tinca tinca', 'goldfish')
    assert run.config.data.crop_size == run.data.image_size == 8 and not run.data.mean_image().any()
    images = pixels(2, 8)
    gray = images @ np.array([0.299, 0.587, 0.114]) / 256
    check(run, images, computed(layers, gray[..., None]))
