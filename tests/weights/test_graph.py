"""Graphs of other software as layers of columns: how columns may be drawn, and what is refused."""

import numpy as np
import pytest

from alexnet_jax.model.layer_specs import Convolution, Dense, LocalResponseNormalization, ReLU
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.graph import Node, steps_of

NORM = LocalResponseNormalization(k=1.0)


def conv(name, inputs, kernels=2, channels=3, seed=0, groups=1):
    weight = np.random.default_rng(seed).standard_normal((kernels, channels, 3, 3))
    return Node(name, inputs, name, Convolution(kernels=kernels, size=3), weight, np.full(kernels, seed), groups)


def two_columns(join=True):
    nodes = [conv('1a', ('',), seed=1), conv('1b', ('',), seed=2)]
    nodes += [Node(f'n{name}', (f'1{name}',), f'n{name}', NORM) for name in 'ba']
    after = ('both',) if join else ('na', 'nb')
    nodes += [Node('join', ('na', 'nb'), 'both', None)] * join
    return [*nodes, conv('2a', after, channels=4, seed=3), conv('2b', after, channels=4, seed=4)]


@pytest.mark.parametrize('join', [True, False])
def test_a_node_for_each_column(join):
    nodes = two_columns(join)
    first, norm, second = steps_of(nodes)
    assert first.layer.kernels == second.layer.kernels == 4 and first.groups == second.groups == 1
    np.testing.assert_array_equal(first.weight, np.concatenate([nodes[0].weight, nodes[1].weight]))
    np.testing.assert_array_equal(first.bias, [1, 1, 2, 2])
    assert norm.groups == 2 and not norm.layer.across_columns


def test_groups_are_columns_too_and_share_a_normalization():
    nodes = [conv('1', ('',), kernels=4), Node('n', ('1',), 'n', NORM), conv('2', ('n',), channels=2, groups=2)]
    _, norm, second = steps_of(nodes)
    assert norm.layer.across_columns and second.groups == 2


def test_a_column_may_list_its_inputs_the_other_way_round():
    nodes = two_columns(join=False)
    weight = nodes[-1].weight
    turned = np.concatenate([weight[:, 2:], weight[:, :2]], axis=1)
    nodes[-1] = Node('2b', ('nb', 'na'), '2b', nodes[-1].layer, turned, nodes[-1].bias)
    np.testing.assert_array_equal(steps_of(nodes)[-1].weight[2:], weight)


REFUSED = {
    'another branch': [*two_columns(), Node('x', ('na',), 'x', ReLU())],
    'columns of other widths': [conv('1a', ('',)), conv('1b', ('',), kernels=3)],
    'columns of other layers': [*two_columns()[:2], Node('ra', ('1a',), 'ra', ReLU()), Node('nb', ('1b',), 'nb', NORM)],
    'a value joined with itself': [conv('1', ('',)), Node('join', ('1', '1'), 'both', None)],
    'columns joined in another order': [*two_columns()[:4], Node('join', ('nb', 'na'), 'both', None)],
    'a circle': [Node('fc', ('fc',), 'fc', Dense(units=1), np.ones((1, 1)))],
    'too many': [conv('1', ('',))] * 1001,
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_a_table_cannot_say_is_refused(what):
    with pytest.raises(UserError, match=r'branches|not the output of the layer before|the limit is'):
        steps_of(REFUSED[what])
