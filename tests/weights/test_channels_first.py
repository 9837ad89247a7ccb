"""Exported networks compute what ours do: on random tables of layers, and on photographs through ours."""

import dataclasses
import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from configs import typed

from alexnet_jax.model.alexnet import AlexNet, classes_of
from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Flatten,
    LocallyConnected,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    SpatialNormalization,
    Tanh,
)
from alexnet_jax.weights.channels_first import channels_first
from alexnet_jax.weights.export_torch import torch_module
from experiments import caffe_alexnet, cifar10, networks_2012, one_weird_trick, paper, source_2012


@dataclasses.dataclass
class Network:
    """A network with random parameters, large enough that its activations stay large; and a mean image."""

    table: tuple
    columns: int
    crop: int
    seed: int = 0

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        image = jax.ShapeDtypeStruct((1, self.crop, self.crop, 3), jnp.float32)
        shapes = jax.eval_shape(lambda x: self.module.init(jax.random.key(0), x), image)['params']
        self.parameters = {}
        for name, arrays in shapes.items():
            shape = arrays['kernel'].shape
            inputs = np.prod(shape[3 if isinstance(dict(self.table)[name], LocallyConnected) else 1 : -1])
            kernel, bias = rng.normal(0, np.sqrt(2 / inputs), shape), rng.normal(0, 3, arrays['bias'].shape)
            self.parameters[name] = {'kernel': np.float32(kernel), 'bias': np.float32(bias)}
        self.mean = np.float32(rng.uniform(90, 140, (self.crop, self.crop, 3)))

    @property
    def module(self):
        return AlexNet(self.table, self.columns)

    def logits(self, images):
        options = {'xla_backend_optimization_level': 0}
        apply = jax.jit(self.module.apply, compiler_options=options)
        return np.asarray(apply({'params': self.parameters}, images - self.mean))

    def exported(self):
        """Steps, number of classes and mean image, as the writers of all formats take them."""
        steps = list(channels_first(self.table, self.columns, self.crop, self.parameters))
        return steps, classes_of(self.table), self.mean.transpose(2, 0, 1)


def by_onnx(network, images):
    onnx, onnxruntime = pytest.importorskip('onnx'), pytest.importorskip('onnxruntime')
    from alexnet_jax.weights.export_onnx import onnx_model

    model = onnx_model(*network.exported(), {'class_names': ['a', 'b'], 'name': 'made'})
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    batches = [images[:1], images[1:]]  # of any size
    return np.concatenate([session.run(['logits'], {'images': x.transpose(0, 3, 1, 2)})[0] for x in batches])


def in_torch(network, train=False):
    torch = pytest.importorskip('torch')
    text, arrays = torch_module(*network.exported(), 'a "title" \\ of\ntwo lines')
    names = {}
    exec(compile(text, 'alexnet.py', 'exec'), names)
    module = names['AlexNet']().train(train)
    module.load_state_dict({name: torch.tensor(x) for name, x in arrays.items()})
    return module


def by_torch(network, images):
    import torch

    with torch.no_grad():
        return in_torch(network)(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()


BY = {'onnxruntime': by_onnx, 'torch': by_torch}


def check(network, images, share=1e-4):
    """The largest difference of logits is a small share of the largest logit, in all runtimes that there are."""
    here = [by for name, by in BY.items() if importlib.util.find_spec(name)]
    if not here:
        pytest.skip('neither onnxruntime nor PyTorch is installed')
    expected = network.logits(images)
    for by in here:
        found = by(network, images)
        assert found.shape == expected.shape and found.dtype == np.float32
        assert np.abs(found - expected).max() <= share * np.abs(expected).max(), by.__name__


def random_table(rng, columns, side):
    """Layers in any order that fits: a map, then a vector, then logits."""
    table = []

    def pick(*options):
        return options[rng.integers(len(options))]

    def add(layer):
        table.append((f'layer{len(table)}', layer))

    def anywhere():
        exchanges = sum(isinstance(layer, Exchange) for _, layer in table)
        across = pick(True, False)
        constants = {'k': pick(1.0, 2.0), 'alpha': pick(1e-4, 1e-2), 'beta': pick(0.5, 0.75, 1.0)}
        width = pick(1, 2, 3) if across else pick(1, 2, 3, 4, 5)  # which one channel in a column has room for
        normalization = LocalResponseNormalization(n=width, across_columns=across, **constants)
        return pick(
            *(ReLU(), Tanh(), normalization, Dropout(rate=pick(0.25, 0.5))),
            Exchange() if exchanges < 3 else normalization,
        )

    def along(size, stride, pad=0, far_pad=0, rounding='up'):
        windows = (side + pad + far_pad - size) / stride
        return 1 + (math.ceil(windows) if rounding == 'up' else math.floor(windows))

    for _ in range(rng.integers(2, 7)):
        size, stride, pad = (int(rng.integers(1, min(side, 5) + 1)), int(rng.integers(1, 4)), int(rng.integers(0, 4)))
        kernels, rounding, far_pad = columns * int(rng.integers(1, 4)), pick('up', 'down'), pick(0, 1, 2, 3)
        match rng.integers(6):
            case 0:
                add(Convolution(kernels, size, stride, pad, rounding=rounding, far_pad=far_pad))
                side = along(size, stride, pad, far_pad, rounding)
            case 1:
                add(LocallyConnected(kernels, size, stride, pad))
                side = along(size, stride, pad, pad)
            case 2:
                add(pick(MaxPooling, AveragePooling)(size, min(stride, size), rounding))
                side = along(size, min(stride, size), rounding=rounding)
            case 3:
                add(SpatialNormalization(k=1.0, size=pick(1, 2, 3, 5), alpha=pick(1e-4, 1e-2)))
            case _:
                add(anywhere())
    add(Flatten())
    for _ in range(rng.integers(0, 5)):
        add(Dense(units=columns * int(rng.integers(1, 9))) if rng.random() < 0.4 else anywhere())
    add(Dense(units=int(rng.integers(1, 12))))
    return tuple(table)


@pytest.mark.parametrize('seed', range(5))
def test_random_tables_of_layers(seed):
    rng = np.random.default_rng(seed)
    columns, crop = int(rng.integers(1, 4)), int(rng.integers(8, 16))
    network = Network(random_table(rng, columns, crop), columns, crop, seed)
    check(network, np.float32(rng.integers(0, 256, (3, crop, crop, 3))))


@pytest.mark.parametrize('normalization', [LocalResponseNormalization(k=0.0), SpatialNormalization(k=0.0, size=3)])
def test_without_k_zeros_stay_zeros(normalization):
    network = Network((('norm1', normalization), ('flatten1', Flatten()), ('fc1', Dense(units=4))), 2, 12)
    images = np.float32(np.random.default_rng(0).integers(150, 256, (2, 12, 12, 3)))
    images[0, :6] = network.mean[:6]
    check(network, images)


def photographs(crop):
    """Parts of scikit-image's photographs, float32 [6, crop, crop, 3]."""
    whole = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    parts = [picture[first:, first:][: 2 * crop : 2, : 2 * crop : 2] for picture in whole for first in (10, 90)]
    return np.float32(np.stack(parts))


# An experiment's network with fewer kernels and units, for smaller images: its columns, and one column.
SMALL = {
    'paper': (paper.get_config, (2, 1), 68),
    'no_exchange': (lambda: paper.get_config('no_exchange'), (2,), 68),
    'source_2012': (source_2012.get_config, (2,), 68),
    'halves between the columns': (lambda: networks_2012.get_config('170_quant'), (2,), 68),
    'caffe_alexnet': (caffe_alexnet.get_config, (2,), 67),
    'one_weird_trick': (one_weird_trick.get_config, (1,), 68),
    'cifar10': (cifar10.get_config, (1,), 24),
}
CASES = [(name, columns) for name, (_, each, _) in SMALL.items() for columns in each]


def smaller(config):
    """Its table with a sixteenth of the kernels and units, and nine classes, which two columns do not divide."""
    layers = dict(typed(config).network)
    for name, layer in layers.items():
        if isinstance(layer, Convolution) and layer.kernels > 16:
            layers[name] = dataclasses.replace(layer, kernels=layer.kernels // 16)
        if isinstance(layer, Dense) and layer.units > 256:
            layers[name] = dataclasses.replace(layer, units=layer.units // 16)
    last = list(layers)[-1]
    return tuple((layers | {last: dataclasses.replace(layers[last], units=9)}).items())


@pytest.mark.parametrize('name, columns', CASES)
def test_our_experiments_on_photographs(name, columns):
    make, _, crop = SMALL[name]
    # Where a value is rounded to half precision, the last bit of float32 decides between neighbors 2^-11 apart.
    share = 1e-3 if name == 'halves between the columns' else 1e-4
    check(Network(smaller(make()), columns, crop), photographs(crop), share)


def test_exchanges_in_half_precision_round_what_is_exchanged():
    layers = {'exchange1': Exchange(precision='float16'), 'flatten1': Flatten(), 'fc1': Dense(units=1)}
    network = Network(tuple(layers.items()), 2, 1)
    network.mean[:] = 0
    network.parameters['fc1'] = {'kernel': np.zeros((2, 6, 1), np.float32), 'bias': np.zeros((2, 1), np.float32)}
    network.parameters['fc1']['kernel'][0, 3] = 1.0  # red, as the second column has it
    image = np.full((1, 1, 1, 3), 100.03, np.float32)
    expected = network.logits(image)
    assert expected == np.float32(np.float16(100.03))
    check(network, image)


def test_the_onnx_model_is_drawn_as_figure_2():
    pytest.importorskip('onnx')
    from alexnet_jax.weights.export_onnx import onnx_model

    network = Network(smaller(paper.get_config()), 2, 68)
    model = onnx_model(*network.exported(), {'class_names': ['a', 'b']})
    inputs = {node.output[0]: node for node in model.graph.node}
    for layer, sees in (('conv2', 'pool1_column1'), ('conv3', 'exchange3'), ('conv4', 'relu3_column1')):
        assert inputs[f'{layer}_column1'].input[0] == sees
    assert list(inputs['exchange3'].input) == ['pool2_column1', 'pool2_column2']
    assert {node.op_type for node in model.graph.node} == {
        *('Sub', 'Conv', 'Relu', 'LRN', 'MaxPool', 'Concat', 'Flatten', 'Gemm', 'Slice')
    }
    [norm] = [node for node in model.graph.node if node.name == 'norm1_column2']
    constants = {attribute.name: attribute.f or attribute.i for attribute in norm.attribute}
    assert constants == pytest.approx({'size': 5, 'alpha': 5e-4, 'beta': 0.75, 'bias': 2.0})  # alpha is divided by size
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == 'batch'


def test_dropout_in_training_is_the_papers():
    torch = pytest.importorskip('torch')
    layers = {'flatten1': Flatten(), 'drop1': Dropout(rate=0.25), 'relu1': ReLU(), 'fc1': Dense(units=2)}
    network = Network(tuple(layers.items()), 1, 4)
    image = np.float32(np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)))
    module = in_torch(network, train=True)
    torch.manual_seed(0)
    found = module(torch.tensor(image.transpose(0, 3, 1, 2))).detach().numpy()
    torch.manual_seed(0)
    kept = torch.nn.functional.dropout(torch.ones(1, 48), 0.25).numpy() > 0
    values = (image - network.mean).transpose(0, 3, 1, 2).reshape(1, 48) * kept  # not rescaled
    kernel = network.parameters['fc1']['kernel'][0].reshape(4, 4, 3, 2).transpose(2, 0, 1, 3).reshape(48, 2)
    expected = np.maximum(values, 0) @ kernel + network.parameters['fc1']['bias']
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_weights_of_the_torch_module_are_as_torch_lays_them_out():
    network = Network(smaller(paper.get_config()), 2, 68)
    text, arrays = torch_module(*network.exported(), '')
    compile(text, 'alexnet.py', 'exec')
    parameters = network.parameters
    np.testing.assert_array_equal(arrays['conv2.weight'][11, 2, 3, 4], parameters['conv2']['kernel'][1, 3, 4, 2, 3])
    np.testing.assert_array_equal(arrays['conv2.bias'][11], parameters['conv2']['bias'][1, 3])
    # Column 2's third unit: its weight for each column's sixth channel, at the second row and first column of 2 x 2.
    weights = arrays['fc6.weight'][parameters['fc6']['bias'].shape[1] + 2]
    channels = parameters['conv5']['bias'].shape[1]
    for column in range(2):
        here = parameters['fc6']['kernel'][1, (column * 2 * 2 + 2) * channels + 5, 2]
        assert weights[((column * channels + 5) * 2 + 1) * 2] == here
    np.testing.assert_allclose(arrays['fc8.weight'][3, 7], 0.5 * parameters['fc8']['kernel'][0, 7, 3])
    assert arrays['fc8.weight'].shape == (9, parameters['fc8']['kernel'].shape[1])


def test_names_of_layers_that_a_module_cannot_have():
    torch = pytest.importorskip('torch')
    layers = {'forward': Flatten(), 'train': Dense(units=4), 'a.b': ReLU(), 'import': Dense(units=4), 'fc-3': Dense(3)}
    network = Network(tuple(layers.items()), 2, 4)
    check(network, np.float32(np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3))))
    assert isinstance(in_torch(network), torch.nn.Module)
