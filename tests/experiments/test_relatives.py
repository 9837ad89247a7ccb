"""Guards LeNet-5, the tower of 2014 and Caffe's networks: parameters, map sizes, and that they learn."""

import pytest
from configs import table_of, typed
from learning import losses

from alexnet_jax.commands.inspect import lines_of
from alexnet_jax.runtime.errors import UserError
from experiments import caffe_alexnet, caffenet, lenet5, one_weird_trick


def counted(config):
    return {line.name: line for line in lines_of(typed(config))}


def test_lenet5_is_the_one_of_1998_but_for_color():
    found = counted(lenet5.get_config())
    gray = (25 * 6 + 6) + (25 * 6 * 16 + 16) + (5 * 5 * 16 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10)
    assert gray == 61_706
    assert sum(line.parameters for line in found.values()) == gray + 25 * 2 * 6 == 62_006
    sizes = [found[name].output for name in ('conv1', 'pool1', 'conv2', 'pool2', 'fc3', 'fc4', 'fc5')]
    assert sizes == [(28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (120,), (84,), (10,)]
    assert found['pool1'].kernel == 'average pooling 2x2, stride 2'
    assert found['pool1'].parameters == found['pool1'].multiply_adds == 0


def test_lenet5_learns():
    before, *_, after = losses(lenet5.get_config(), steps=12)
    assert after < 0.8 * before


def test_one_weird_trick_has_torchvisions_parameters():
    found = counted(one_weird_trick.get_config())
    convolutions = (
        (121 * 3 * 64 + 64)
        + (25 * 64 * 192 + 192)
        + (9 * 192 * 384 + 384)
        + (9 * 384 * 256 + 256)
        + (9 * 256 * 256 + 256)
    )
    dense = (6 * 6 * 256 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000)
    assert sum(line.parameters for line in found.values()) == convolutions + dense == 61_100_840
    sizes = [found[name].output[0] for name in ('conv1', 'pool1', 'conv2', 'pool2', 'conv5', 'pool5')]
    assert sizes == [55, 27, 27, 13, 13, 6]


def test_one_weird_trick_drops_out_before_its_dense_layers():
    names = list(one_weird_trick.get_config().network)
    assert names[-8:] == ['flatten5', 'drop6', 'fc6', 'relu6', 'drop7', 'fc7', 'relu7', 'fc8']
    assert not any('norm' in name for name in names)


def test_conv1_of_one_weird_trick_sees_torchvisions_windows_or_those_of_2014():
    first = dict(typed(one_weird_trick.get_config()).network)['conv1']
    assert (first.pad, first.rounding) == (2, 'down')
    first = dict(typed(one_weird_trick.get_config('cuda_convnet2')).network)['conv1']
    assert (first.pad, first.rounding) == (0, 'up')
    with pytest.raises(UserError, match="no variant 'x'; it has: cuda_convnet2"):
        one_weird_trick.get_config('x')


@pytest.mark.parametrize('experiment, order', [(caffe_alexnet, ['norm', 'pool']), (caffenet, ['pool', 'norm'])])
def test_caffes_networks_have_the_papers_parameters_and_caffes_windows(experiment, order):
    config = experiment.get_config()
    found = counted(config)
    assert sum(line.parameters for line in found.values()) == 60_965_224
    sizes = [found[name].output[0] for name in ('conv1', 'pool1', 'conv2', 'pool2', 'conv5', 'pool5')]
    assert sizes == [55, 27, 27, 13, 13, 6] and config.data.crop_size == 227
    names = list(found)
    for number in ('1', '2'):
        assert names[names.index(f'relu{number}') + 1 :][:2] == [f'{kind}{number}' for kind in order]
        assert found[f'norm{number}'].kernel == 'LRN k=1 n=5 alpha=2e-05 beta=0.75 across columns'
    assert {layer.rounding for _, layer in typed(config).network if hasattr(layer, 'far_pad')} == {'down'}


def test_caffes_rate_falls_every_hundred_thousand_iterations():
    config = typed(caffe_alexnet.get_config())
    assert config.epochs == 90  # 450,000 batches of 256
    assert [epoch for epoch, _ in config.rate_control.schedule] == [20, 40, 60, 80]
    assert [rate for _, rate in config.rate_control.schedule] == pytest.approx([1e-3, 1e-4, 1e-5, 1e-6])


def test_one_weird_trick_learns_at_a_small_size():
    config = one_weird_trick.get_config()
    config.data.image_size = config.data.crop_size = 67  # maps of 15, 7, 3 and 1 pixels
    for name in ('conv1', 'conv2', 'conv3', 'conv4', 'conv5'):
        config.network[name].kernels, config.network[name].std = 8, 0.1
    config.network.conv1.std = 0.005
    config.network.fc6.units = config.network.fc7.units = 32
    config.network.fc6.std = config.network.fc7.std = config.network.fc8.std = 0.2
    found = losses(config, steps=25)
    assert sum(found[-5:]) < 0.8 * sum(found[:5])


@pytest.mark.parametrize(
    'line, message',
    [
        ({'type': 'average_pooling', 'stride': 3}, r'network\.x: pooling windows of 2 must not be 3 apart'),
        ({'type': 'average_pooling', 'size': 0}, r'network\.x\.size=0 must be at least 1'),
        ({'type': 'max_pooling', 'stride': 4}, r'network\.x: pooling windows of 3 must not be 4 apart'),
        ({'type': 'locally_connected', 'size': 3}, r'network\.x\.kernels is missing'),
        ({'type': 'locally_connected', 'kernels': 2**21, 'size': 3}, r'network\.x\.kernels=2097152 must be at most'),
        ({'type': 'locally_connected', 'kernels': 4, 'size': 3, 'std': -1}, r'network\.x\.std=-1 must be .*at least 0'),
    ],
)
def test_new_layers_out_of_bounds_are_named(line, message):
    with pytest.raises(UserError, match=message):
        table_of({'x': line})
