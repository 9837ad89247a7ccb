"""Guards the ablations: what each of them changes and nothing else, its sizes, where its columns meet, that it learns.

Parameters and exchanges at the paper's size are compared with the arithmetic of `CHANGED` and `RECEIVED`.
"""

import re

import fakes
import jax
import numpy as np
import pytest
from configs import typed
from learning import drawn
from ml_collections import ConfigDict

from alexnet_jax.commands.inspect import lines_of, lowered_step, step_arguments
from alexnet_jax.data.pipeline import training_batches
from alexnet_jax.runs.build import build
from alexnet_jax.runtime.errors import UserError
from experiments import cifar10_columns, digits, paper, tiny_imagenet
from experiments.ablations import ABLATIONS, ablated

ONE_COLUMN = ('one_gpu', 'single_tower')
SAME_NETWORK = ('no_color', 'no_crop_no_mirror', 'blending')  # as the paper's

# Layer by layer: how many outputs over all columns, and how many values each of them sees.
PAPER = {
    'conv1': (96, 11 * 11 * 3),
    'conv2': (256, 5 * 5 * 48),
    'conv3': (384, 3 * 3 * 256),
    'conv4': (384, 3 * 3 * 192),
    'conv5': (256, 3 * 3 * 192),
    'fc6': (4096, 6 * 6 * 256),
    'fc7': (4096, 4096),
    'fc8': (1000, 4096),
}
DIGITS = {
    'conv1': (32, 11 * 11 * 3),
    'conv2': (128, 5 * 5 * 16),
    'conv3': (192, 3 * 3 * 128),
    'conv4': (192, 3 * 3 * 96),
    'conv5': (128, 3 * 3 * 96),
    'fc6': (512, 1 * 1 * 128),
    'fc7': (512, 512),
    'fc8': (10, 512),
}
CHANGED = {
    'paper': {
        'one_gpu': {
            'conv1': (48, 11 * 11 * 3),
            'conv2': (128, 5 * 5 * 48),
            'conv3': (192, 3 * 3 * 128),
            'conv4': (192, 3 * 3 * 192),
        },
        'single_tower': {'conv2': (256, 5 * 5 * 96), 'conv4': (384, 3 * 3 * 384), 'conv5': (256, 3 * 3 * 384)},
        'no_exchange': {
            'conv2': (2 * 160, 5 * 5 * 48),
            'conv3': (384, 3 * 3 * 160),
            'fc6': (2 * 4096, 6 * 6 * 128),
            'fc7': (2 * 2048, 4096),
        },
        'exchange_from_fc6': {'conv2': (2 * 160, 5 * 5 * 48), 'conv3': (384, 3 * 3 * 160)},
        'no_conv2': {'conv2': None, 'conv3': (384, 3 * 3 * 96)},
        'no_conv3': {'conv3': None, 'conv4': (384, 3 * 3 * 256)},
        'no_conv4': {'conv4': None},
        'no_conv5': {'conv5': None, 'fc6': (4096, 6 * 6 * 384)},
        'deeper': {'conv3b': (384, 3 * 3 * 192), 'conv4b': (384, 3 * 3 * 192), 'conv5b': (256, 3 * 3 * 128)},
    },
    'digits': {
        'one_gpu': {
            'conv1': (16, 11 * 11 * 3),
            'conv2': (64, 5 * 5 * 16),
            'conv3': (96, 3 * 3 * 64),
            'conv4': (96, 3 * 3 * 96),
        },
        'single_tower': {'conv2': (128, 5 * 5 * 32), 'conv4': (192, 3 * 3 * 192), 'conv5': (128, 3 * 3 * 192)},
        'no_exchange': {
            'conv2': (2 * 80, 5 * 5 * 16),
            'conv3': (192, 3 * 3 * 80),
            'fc6': (2 * 512, 1 * 1 * 64),
            'fc7': (2 * 256, 512),
        },
        'exchange_from_fc6': {'conv2': (2 * 80, 5 * 5 * 16), 'conv3': (192, 3 * 3 * 80)},
        'no_conv2': {'conv2': None, 'conv3': (192, 3 * 3 * 32)},
        'no_conv3': {'conv3': None, 'conv4': (192, 3 * 3 * 128)},
        'no_conv4': {'conv4': None},
        'no_conv5': {'conv5': None, 'fc6': (512, 1 * 1 * 192)},
        'deeper': {'conv3b': (192, 3 * 3 * 96), 'conv4b': (192, 3 * 3 * 96), 'conv5b': (128, 3 * 3 * 64)},
    },
}
# What a column receives for an image at the paper's size, in order: conv3, fc6, fc7, fc8, and the logits.
IN_THE_PAPER = ['13x13x256', '9216', '4096', '4096', '1000']
RECEIVED = {
    'no_exchange': ['4096', '1000'],
    'exchange_from_fc6': ['9216', '4096', '4096', '1000'],
    'no_conv2': ['13x13x96', '9216', '4096', '4096', '1000'],
    'no_conv5': ['13x13x256', '13824', '4096', '4096', '1000'],
}
# Height and width after these lines.
SIDES = {'conv1': 55, 'pool1': 27, 'conv2': 27, 'pool2': 13, 'conv3': 13, 'conv4': 13, 'conv5': 13, 'pool5': 6}
OTHER_SIDES = {
    'pooling_2': {'pool1': 28, 'conv2': 26, 'conv5': 11},
    'deeper': {'conv3b': 13, 'conv4b': 13, 'conv5b': 13},
}
# The lines that go, those that come (after which), and all fields that differ elsewhere.
GONE = {
    'no_normalization': {'norm1', 'norm2'},
    'no_normalization_2': {'norm2'},
    'one_gpu': {'exchange3', 'exchange6', 'exchange7', 'exchange8'},
    'single_tower': {'exchange3', 'exchange6', 'exchange7', 'exchange8'},
    'no_exchange': {'exchange3', 'exchange6', 'exchange7'},
    'exchange_from_fc6': {'exchange3'},
    'no_dropout': {'drop6', 'drop7'},
    'no_conv2': {'conv2', 'relu2', 'norm2'},
    'no_conv3': {'conv3', 'relu3'},
    'no_conv4': {'conv4', 'relu4'},
    'no_conv5': {'conv5', 'relu5'},
}
COME = {
    'normalization_5': {'relu5': ['norm5']},
    'dropout_4': {'relu4': ['drop4']},
    'deeper': {'relu3': ['conv3b', 'relu3b'], 'relu4': ['conv4b', 'relu4b'], 'relu5': ['conv5b', 'relu5b']},
}
FIELDS = {
    'pooling_2': {
        **{f'network.pool{i}.size': 2 for i in (1, 2, 5)},
        'network.conv2.pad': 1,
        'network.conv5.pad': 0,
    },
    'one_gpu': {
        'columns': 1,
        'network.conv1.kernels': 48,
        'network.conv2.kernels': 128,
        'network.conv3.kernels': 192,
        'network.conv4.kernels': 192,
    },
    'single_tower': {'columns': 1},
    'no_exchange': {'network.conv2.kernels': 320, 'network.fc6.units': 8192},
    'exchange_from_fc6': {'network.conv2.kernels': 320},
    'float16_exchange': {f'network.exchange{i}.precision': 'float16' for i in (3, 6, 7, 8)},
    'blending': {'data.blend_probability': 0.05},
    'no_color': {'data.color_std': 0.0},
    'no_crop_no_mirror': {'data.random_crop': False, 'data.mirror': False},
    'tanh': {f'network.{new}.type': 'tanh' for new in [f'tanh{i}' for i in range(1, 8)]}
    | {f'network.{name}.bias': 0.0 for name in ('conv2', 'conv4', 'conv5', 'fc6', 'fc7')},
}


def flat(config: ConfigDict) -> dict[str, object]:
    return {
        f'{name}.{below}' if below else name: found
        for name, value in config.items()
        for below, found in (flat(value).items() if isinstance(value, ConfigDict) else [('', value)])
    }


def expected_lines(name):
    """The names of the lines, in order."""
    result = []
    for line in paper.get_config().network:
        if line not in GONE.get(name, ()):
            result.append(line.replace('relu', 'tanh') if name == 'tanh' else line)
        result += COME.get(name, {}).get(line, [])
    return result


def config_of(base, name, column=1):
    config = {'paper': paper, 'digits': digits}[base].get_config(name)
    config.batch_size, config.mesh.data, config.mesh.column = 2, 1, column
    return config


@pytest.mark.parametrize('name', ABLATIONS)
def test_it_differs_where_it_says_and_nowhere_else(name):
    base, config = paper.get_config(), paper.get_config(name)
    assert config.name == f'paper:{name}'
    assert digits.get_config(name).name == f'digits:{name}'
    for file in (paper, digits):
        assert list(file.get_config(name).network) == expected_lines(name)

    for line in config.network:  # those that came are tested below
        if line in {new for lines in COME.get(name, {}).values() for new in lines}:
            base.network[line] = config.network[line]
    before, after = flat(base), flat(config)
    fields = FIELDS.get(name, {}) | {'name': f'paper:{name}'}
    assert {field: value for field, value in after.items() if before.get(field) != value} == fields
    lost = {field.split('.')[1] for field in before.keys() - after.keys()}
    assert lost == ({f'relu{i}' for i in range(1, 8)} if name == 'tanh' else GONE.get(name, set()))


@pytest.mark.parametrize('file', [paper, digits, tiny_imagenet, cifar10_columns], ids=lambda file: file.__name__)
def test_pooling_without_overlap_leaves_fc6_its_inputs(file):
    def inputs(config):
        return [line.output for line in lines_of(typed(config)) if line.name.startswith('flatten')]

    assert inputs(file.get_config('pooling_2')) == inputs(file.get_config())


@pytest.mark.parametrize('name', ABLATIONS)
def test_the_given_config_stays_as_it_is(name):
    config = paper.get_config()
    config.weight_decay, config.network.conv1.std = 0.25, 0.125
    order, before = [list(config), list(config.network)], flat(config)
    changed = ablated(config, name)
    assert [list(config), list(config.network)] == order and flat(config) == before
    assert list(changed) == order[0]
    assert (changed.weight_decay, changed.network.conv1.std) == (0.25, 0.125)


def test_new_lines_are_as_their_models():
    for get_config in (paper.get_config, digits.get_config):
        base, deeper = get_config().network, get_config('deeper').network
        for number in '345':
            assert deeper[f'conv{number}b'] == base[f'conv{number}']
            assert deeper[f'relu{number}b'].type == 'relu'
        assert get_config('normalization_5').network.norm5 == base.norm2
        drop = get_config('dropout_4').network.drop4
        assert (drop.type, drop.rate) == ('dropout', 0.2)


@pytest.mark.parametrize('name', ['', *ABLATIONS])
@pytest.mark.parametrize(('base', 'layers'), [('paper', PAPER), ('digits', DIGITS)])
def test_parameters_are_those_of_the_arithmetic(base, layers, name):
    layers = layers | CHANGED[base].get(name, {})
    shapes = build(typed(config_of(base, name))).shapes.parameters
    found = {line: sum(int(np.prod(x.shape)) for x in layer.values()) for line, layer in shapes.items()}
    assert found == {line: outputs * sees + outputs for line, (outputs, sees) in filter(all, layers.items())}
    if base == 'paper' and name in ('', 'single_tower'):
        assert sum(found.values()) == {'': 60_965_224, 'single_tower': 62_378_344}[name]


@pytest.mark.parametrize('name', ABLATIONS)
def test_maps_keep_their_sizes(name):
    found = {line.name: line.output for line in lines_of(typed(config_of('paper', name)))}
    sides = SIDES | OTHER_SIDES.get(name, {})
    for line in GONE.get(name, ()):
        sides.pop(line, None)
    for line, side in sides.items():
        assert found[line][:2] == (side, side), line
    assert found['flatten5'] == ((6 * 6 * 384,) if name == 'no_conv5' else (9216,))


@pytest.mark.parametrize('name', [name for name in ABLATIONS if name not in (*ONE_COLUMN, *SAME_NETWORK)])
def test_columns_meet_where_it_says_and_nowhere_else(name):
    text = lowered_step(build(typed(config_of('paper', name, column=2)))).as_text()
    received = RECEIVED.get(name, IN_THE_PAPER)
    kinds = ['f16' if name == 'float16_exchange' else 'f32'] * (len(received) - 1) + ['f32']  # the loss's logits
    found = re.findall(r'stablehlo\.all_gather.*-> tensor<2x([\dx]+)x(f\d+)>', text)
    assert found == list(zip(received, kinds, strict=True))
    assert text.count('stablehlo.reduce_scatter') == len(received) - 1  # backward; the loss needs none
    for other in ('all_to_all', 'collective_permute', 'collective_broadcast'):
        assert other not in text


@pytest.mark.parametrize('name', ONE_COLUMN)
def test_one_column_cannot_be_split(name):
    with pytest.raises(UserError, match=r'config\.mesh\.column=2 must be a divisor of the number of columns, 1'):
        build(typed(config_of('paper', name, column=2)))
    assert all(line.sees in ('', 'image', 'own column') for line in lines_of(typed(config_of('paper', name))))


# --- Learning, at a tiny size: maps of 13, 6, 3 and 1 pixels ---

WIDTHS = {
    'conv1': {'kernels': 8, 'std': 0.02},
    'conv2': {'kernels': 16, 'std': 0.12},
    'conv3': {'kernels': 12, 'std': 0.12},
    'conv4': {'kernels': 12, 'std': 0.12},
    'conv5': {'kernels': 8, 'std': 0.12},
    'fc6': {'units': 16, 'std': 0.3},
    'fc7': {'units': 16, 'std': 0.3},
    'fc8': {'units': 4, 'std': 0.2},
}
CROP, BATCH = 59, 16
# Compiling takes seconds each: of variants that are alike, one.
LEARNED = ('no_normalization', 'pooling_2', 'one_gpu', 'no_exchange', 'dropout_4', 'tanh', 'no_conv2', 'deeper')


def tiny():
    config = digits.get_config()
    for name, fields in WIDTHS.items():
        config.network[name].update(fields)
    config.data.crop_size = config.data.image_size = CROP
    config.batch_size, config.mesh.data, config.weight_decay = BATCH, 1, 0.0
    return config


def made_up_arguments(experiment, generator, rate):
    """What the training step takes: parameters drawn as section 5 says, images whose dark quarter is their class."""
    _, batch, statistics, rates = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), step_arguments(experiment))
    state = drawn(experiment, generator)
    batch['label'] += np.arange(BATCH, dtype=np.int32) % 4
    batch['image'] += generator.integers(100, 256, batch['image'].shape, np.uint8)
    for image, label in zip(batch['image'], batch['label'], strict=True):
        top, left = 30 * (label // 2), 30 * (label % 2)
        image[top : top + 29, left : left + 29] -= 100
    batch['dropout_seed'] += generator.integers(0, 2**32, BATCH, np.uint32)
    statistics.mean_image[:] = 150
    return state, batch, statistics, jax.tree.map(lambda _: np.float32(rate), rates)


@pytest.mark.parametrize('name', LEARNED)
def test_it_learns_in_the_training_step_with_a_device_a_column(name):
    """Every kernel of every column has a part in it."""
    config = ablated(tiny(), name)
    config.mesh.column = config.columns
    experiment = build(typed(config))
    step = lowered_step(experiment).compile()
    rate = 0.05 if name == 'tanh' else 0.002  # the paper's small weights pass less of it through tanh
    state, *rest = made_up_arguments(experiment, np.random.default_rng(0), rate)
    before = jax.tree.map(np.copy, state.parameters)
    places = jax.tree.map(lambda x: x.sharding, step_arguments(experiment))
    state, *rest = jax.device_put((state, *rest), places)
    losses = []
    for _ in range(30):
        state, metrics = step(state, *rest)
        losses.append(float(metrics['loss']))
    assert losses[-1] < 0.8 * losses[0]
    for layer, own in state.parameters.items():
        changed = np.asarray(own['kernel']) != before[layer]['kernel']
        assert changed.any(axis=tuple(range(1, changed.ndim))).all(), layer


# --- Data, messages ---


def test_data_fields_do_what_they_say(tmp_path):
    data = fakes.prepared(fakes.tinted(train=64), tmp_path / 'data', image_size=24)

    def batch(config):
        config.data.crop_size = 16
        return next(training_batches(data, config.data, batch_size=64, seed=0))

    found = {name: batch(paper.get_config(name)) for name in ('', 'no_color', 'no_crop_no_mirror')}
    varied = {
        name: {field: len(np.unique(one[field])) > 1 for field in ('top', 'left', 'mirror', 'color')}
        for name, one in found.items()
    }
    everything = {'top': True, 'left': True, 'mirror': True, 'color': True}
    assert varied == {
        '': everything,
        'no_color': everything | {'color': False},
        'no_crop_no_mirror': everything | {'top': False, 'left': False, 'mirror': False},
    }
    assert not found['no_color']['color'].any()
    assert not found['no_crop_no_mirror']['mirror'].any()
    assert found['no_crop_no_mirror']['top'][0] == found['no_crop_no_mirror']['left'][0] == (24 - 16) // 2


@pytest.mark.parametrize('variant', ['no_dropuot', 'NO_DROPOUT', 'no_dropout,tanh', ' '])
def test_an_unknown_variant_is_a_clear_error(variant):
    for module, file, others in ((paper, 'experiments/paper.py', ['literal']), (digits, 'experiments/digits.py', [])):
        with pytest.raises(UserError) as error:
            module.get_config(variant)
        message = str(error.value)
        assert message.startswith(f'{file} has no variant {variant!r}; it has: {", ".join([*others, *ABLATIONS])}.')
    assert 'literal' not in message
