"""Networks of other software, read in: made files of every format against float64 arithmetic, channels first.

The files are written by `foreign_files.py`, the arithmetic is that of `reference.py`; neither knows `alexnet_jax`.
"""

import io
import zipfile

import foreign_files as made
import jax
import numpy as np
import pytest
import reference
import safetensors.numpy
from configs import typed
from fakes import console

from alexnet_jax.commands.import_weights import import_weights
from alexnet_jax.runs.trained import load_run
from experiments import one_weird_trick

CROP, CLASSES = 35, 5
MEAN = (104.0, 117.0, 123.0)


def draw(generator, *shape, scale=None):
    scale = 1.5 / np.sqrt(np.prod(shape[1:])) if scale is None else scale
    return np.float32(scale * generator.standard_normal(shape))


def small_network(first=0.05, kinds=('relu', 'lrn', 'pool'), flat=2):
    """Maps of 16, 8, 4 and 2 pixels where pooling rounds up, 7, 3 and 1 (`flat`) where not; conv2 in two groups."""
    generator = np.random.default_rng(0)
    after = {
        'relu': ('relu', {}, None, None),
        'lrn': ('lrn', {'n': 5, 'alpha': 0.05, 'beta': 0.75}, None, None),
        'pool': ('pool', {'size': 3, 'stride': 2}, None, None),
    }
    conv = {'size': 5, 'stride': 2, 'kernels': 8}
    return [
        ('conv', conv, draw(generator, 8, 3, 5, 5, scale=first), draw(generator, 8, scale=0.3)),
        *(after[kind] for kind in kinds),
        ('conv', {'size': 3, 'pad': 1, 'kernels': 12, 'group': 2}, draw(generator, 12, 4, 3, 3), draw(generator, 12)),
        *(after[kind] for kind in kinds),
        ('conv', {'size': 3, 'pad': 1, 'kernels': 8}, draw(generator, 8, 12, 3, 3), draw(generator, 8)),
        after['relu'],
        # A pooling right before the first dense layer, as in AlexNet.
        ('pool', {'size': 2, 'stride': 2}, None, None),
        ('fc', {'units': 16}, draw(generator, 16, 8 * flat**2), draw(generator, 16)),
        after['relu'],
        ('dropout', {'rate': 0.5}, None, None),
        ('fc', {'units': 12}, draw(generator, 12, 16), draw(generator, 12)),
        after['relu'],
        ('dropout', {'rate': 0.25}, None, None),
        ('fc', {'units': CLASSES}, draw(generator, CLASSES, 12), draw(generator, CLASSES)),
        ('softmax', {}, None, None),
    ]


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


def pixels(count=3, size=CROP):
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


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('old', [True, False])
def test_caffe_in_both_versions(old, order, tmp_path):
    layers = small_network(first=0.05 / 0.02, kinds=ORDERS[order])
    run = load(made.caffemodel(layers, old, crop_size=CROP, scale=0.02, mean=MEAN), tmp_path)
    assert run.config.columns == 2 and run.config.data.crop_size == CROP
    network = dict(run.config.network)
    assert network['norm1'].across_columns and network['norm1'].alpha == 0.05 / 5
    names = list(network)
    assert names[:4] == ['conv1', 'relu1', *(['norm1', 'pool1'] if order == 'AlexNet' else ['pool1', 'norm1'])]
    assert names[-5:] == ['fc5', 'relu5', 'drop5', 'exchange6', 'fc6']
    images = pixels()
    right = computed(layers, (images[..., ::-1] - np.array(MEAN)) * 0.02, dropped=0)
    check(run, images, right)


def test_columns_on_two_devices_compute_the_same(tmp_path):
    load(made.caffemodel(small_network(), old=False, crop_size=CROP, mean=MEAN), tmp_path)
    one, two = (load_run(tmp_path / 'run', data=1, column=devices) for devices in (1, 2))
    np.testing.assert_allclose(two.predict(pixels()), one.predict(pixels()), atol=1e-6)
    np.testing.assert_allclose(two.features(pixels(), 'fc5'), one.features(pixels(), 'fc5'), rtol=2e-3)


def test_caffe_of_one_column_with_maps_normalized_within_and_averages(tmp_path):
    generator = np.random.default_rng(2)
    layers = [one for one in small_network() if one[0] not in ('lrn', 'dropout')]
    layers[3] = ('conv', {'size': 3, 'pad': 1, 'kernels': 12}, draw(generator, 12, 8, 3, 3), draw(generator, 12))
    layers.insert(3, ('lrn', {'n': 3, 'alpha': 0.05, 'beta': 0.75, 'within': 1}, None, None))
    layers[9] = ('pool', {'size': 3, 'stride': 2, 'average': 1}, None, None)
    assert ' '.join(one[0] for one in layers[:10]) == 'conv relu pool lrn conv relu pool conv relu pool'
    mean = np.random.default_rng(3).uniform(90, 130, (3, 40, 40))
    np.save(tmp_path / 'mean.npy', np.float32(mean))
    run = load(
        made.caffemodel(layers, old=True, crop_size=CROP), tmp_path, channels='rgb', mean=str(tmp_path / 'mean.npy')
    )
    assert run.config.columns == 1 and run.data.image_size == 40 and run.config.evaluation.views == ('center', 'ten')
    images = pixels(size=40)
    less = (images - np.float32(mean).transpose(1, 2, 0))[:, 2:37, 2:37]
    right = computed(layers, less)
    found = np.log(run.predict(images, views='center'))
    right -= np.log(np.exp(right).sum(1, keepdims=True))
    np.testing.assert_allclose(found, right, atol=2e-4)


def torchvision_arrays(classes=CLASSES):
    """A state dict of torchvision's AlexNet, an eighth as wide."""
    generator = np.random.default_rng(5)
    names = ('features.0', 'features.3', 'features.6', 'features.8', 'features.10')
    names += ('classifier.1', 'classifier.4', 'classifier.6')
    shapes = ((8, 3, 11, 11), (24, 8, 5, 5), (48, 24, 3, 3), (32, 48, 3, 3), (32, 32, 3, 3))
    shapes += ((64, 32 * 36), (64, 64), (classes, 64))
    arrays = {}
    for name, shape in zip(names, shapes, strict=True):
        arrays |= {f'{name}.weight': draw(generator, *shape), f'{name}.bias': draw(generator, shape[0], scale=0.3)}
    return arrays


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


FORMS = {
    'zip': made.torch_zip,
    'before 2020': made.torch_legacy,
    'safetensors': safetensors.numpy.save,
    'a training script, in parallel': lambda arrays: made.torch_zip(
        {name.replace('features.', 'features.module.'): x for name, x in arrays.items()}
    ),
}


@pytest.fixture(scope='module')
def torchvision():
    """Arrays, images, and the logits that they have."""
    arrays, images = torchvision_arrays(), pixels(2, 224)
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


def onnx_layers(pool_pads=(0, 0, 1, 1)):
    """Windows as the model zoo's AlexNet has them: rounded down, but for a padded last pooling."""
    layers = small_network(flat=2)
    layers[3] = ('pool', {'size': 3, 'stride': 2}, None, None)  # 16 to 7
    layers[7] = ('pool', {'size': 3, 'stride': 2}, None, None)  # 7 to 3
    layers[10] = ('pool', {'size': 2, 'stride': 2, 'pads': pool_pads}, None, None)  # 3 to 2, not 1
    return layers


@pytest.mark.parametrize('raw', [True, False])
def test_onnx(raw, tmp_path):
    layers = onnx_layers()
    run = load(made.onnx_model(layers, CROP, raw=raw), tmp_path, channels='bgr', mean='104,117,123')
    network = dict(run.config.network)
    pools = [network[name].rounding for name in ('pool1', 'pool2', 'pool3')]
    assert run.config.columns == 2 and pools == ['down', 'up', 'up']  # 7 to 3 comes out even
    first = computed(layers[:8], pixels()[..., ::-1] - np.array(MEAN), pooling='down', dropped=0)
    assert first.shape[1] == 3
    right = computed(layers[8:], first, dropped=0)
    check(run, pixels(), right)


def test_onnx_with_the_mean_in_its_graph_and_uneven_padding(tmp_path):
    layers = onnx_layers()
    layers[0][1]['pads'] = (2, 2, 0, 0)  # 35 to 17; pooled to 8, and to 3
    mean = np.random.default_rng(4).uniform(90, 130, (3, CROP, CROP))
    before = [('Sub', mean[None]), ('Div', np.array([58.0, 57.0, 57.5]).reshape(3, 1, 1)), ('Mul', 50.0)]
    run = load(made.onnx_model(layers, CROP, before), tmp_path, channels='rgb')
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
    layers = small_network()
    layers[-2] = ('fc', {'units': 6}, *(np.concatenate([x, x[:1]]) for x in layers[-2][2:]))
    layers[7], layers[5] = layers[5], layers[7]  # the ReLU after the pooling
    reversed_in_b = 'fc14b'
    assert [one[0] for one in layers].index('dropout') == 13 and layers[14][0] == 'fc'
    content = made.cuda_convnet(layers, CROP, reverse=reversed_in_b)
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
