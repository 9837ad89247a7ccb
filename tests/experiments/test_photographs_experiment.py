"""Guards experiments/photographs.py: what differs from the paper, and that places can be told apart by learning."""

import json

import fakes
import pytest
from configs import typed
from flax.traverse_util import flatten_dict
from small_run import FIELDS, NETWORK

from alexnet_jax.commands.train import train
from alexnet_jax.config import network_config
from alexnet_jax.data.dataset import open_prepared
from alexnet_jax.runs.build import build
from alexnet_jax.runtime.errors import UserError
from experiments import digits, paper, photographs


def differing(config, base):
    ours, theirs = (flatten_dict(each.to_dict(), sep='.') for each in (config, base))
    assert ours.keys() == theirs.keys()
    return {field for field in ours if ours[field] != theirs[field]}


def test_the_network_and_its_learning_are_the_papers():
    config = photographs.get_config()
    expected = {'name', 'epochs', 'rate_control.schedule', 'data.source', 'data.directory'}
    assert differing(config, paper.get_config()) == expected
    assert config.data.source == f'photographs:{config.network.fc8.units}'


def test_small_differs_from_the_digits_in_what_is_seen_and_how_long():
    config = photographs.get_config('small')
    learning = {'batch_size', 'learning_rate', 'rate_control.schedule'}
    seen = {'data.source', 'data.directory', 'data.mirror', 'network.fc8.units'}
    assert differing(config, digits.get_config()) == {'name'} | learning | seen
    assert config.data.source == f'photographs:{config.network.fc8.units}'
    assert config.data.mirror == paper.get_config().data.mirror
    build(typed(config))


def test_unknown_variant_is_named_together_with_the_known():
    with pytest.raises(UserError, match=r"'large'.*small"):
        photographs.get_config('large')


def test_five_places_are_learned_from_images_that_are_prepared_when_first_asked_for(tmp_path):
    config = photographs.get_config('small')
    config.network = network_config(NETWORK)
    config.network.fc8.units = 5
    small = {'data.source': 'photographs:5', 'data.directory': str(tmp_path / 'data'), 'epochs': 3, 'batch_size': 16}
    config.update_from_flattened_dict(FIELDS | small)
    train(typed(config), str(tmp_path / 'run'), fakes.console())
    data = open_prepared(tmp_path / 'data')
    assert (data.examples('train'), data.examples('validation')) == (200, 25)
    assert all(' at (' in name for name in data.class_names) and len(data.class_names) == 5
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    errors = [line['top1_error'] for line in lines if line['split'] == 'validation']
    losses = [line['loss'] for line in lines if line['split'] == 'validation']
    assert len(errors) == 3 and losses[-1] < losses[0]
    assert errors[-1] <= 0.5  # chance: 0.8
