"""The schema: what is refused and with which words, what is accepted, names of earlier versions, the documents."""

import json
import pathlib
import re
import runpy

import pytest
from configs import table_of

from alexnet_jax.config import RENAMED, Config, default_config, network_config, resume_rule, schema
from alexnet_jax.model.layer_specs import Exchange, ReLU
from alexnet_jax.runtime.errors import UserError
from experiments import paper

REFUSED = [
    ('name', 3, 'must be a text'),
    ('seed', -1, 'at least 0'),
    ('seed', 2**32, 'below 4,294,967,296'),
    ('seed', 1.5, 'a whole number'),
    ('columns', 0, 'at least 1'),
    ('precision', 'float16', "'float32' or 'bfloat16'"),
    ('batch_size', 0, 'above 0'),
    ('batch_size', True, 'a whole number'),
    ('batch_size', 2**16 + 1, 'at most 65,536'),
    ('momentum', float('nan'), 'a finite number'),
    ('momentum', 10**400, 'a finite number'),
    ('learning_rate', -0.1, 'at least 0'),
    ('learning_rate', '0.1', 'a finite number'),
    ('decay_biases', 1, 'True or False'),
    ('data', 3, 'a group of fields'),
    ('data.storage', 'tar', "'jpeg' or 'raw'"),
    ('data.storage', '', "'jpeg' or 'raw'"),
    ('data.color_scale', 'root', "'deviation' or 'eigenvalue'"),
    ('data.mean_patch', 'scalar', "'matching' or 'center'"),
    ('data.blend_probability', 1.5, 'at most 1'),
    ('data.blend_weight', -0.25, 'at least 0'),
    ('data.image_size', 0, 'above 0'),
    ('data.image_size', 2**12 + 1, 'at most 4,096'),
    ('data.crop_size', 0, 'above 0'),
    ('data.quality', 0, 'at least 1'),
    ('data.quality', 101, 'at most 100'),
    ('data.images_per_shard', 0, 'above 0'),
    ('data.threads', -1, 'at least 0'),
    ('data.color_std', -0.1, 'at least 0'),
    ('data.color_std', float('inf'), 'a finite number'),
    ('data.crop', 200, "did you mean 'crop_size'"),
    ('data.xyz', 200, 'there are source, source_directory'),
    ('evaluation.views', ('eleven',), "'center' or 'ten'"),
    ('evaluation.views', 'ten', 'a tuple'),
    ('mesh.data', -1, 'at least 0'),
    ('rate_control.divide_by', 0.0, 'above 0'),
    ('rate_control.schedule', ((51, 0.0001), (23, 0.001)), 'ascending'),
    ('rate_control.schedule', ((5, 0.1), (5, 0.01)), 'ascending'),
    ('rate_control.schedule', ((0, 0.1),), 'pairs'),
    ('rate_control.schedule', ((1.5, 0.1),), 'pairs'),
    ('rate_control.schedule', ((3, -0.1),), 'pairs'),
    ('rate_control.schedule', ((3, float('nan')),), 'pairs'),
    ('rate_control.schedule', ((3,),), 'pairs'),
    ('rate_control.schedule', ((3, 0.1, 0.2),), 'pairs'),
    ('rate_control.schedule', (3, 0.1), 'pairs'),
    ('rate_control.schedule', 'never', 'a tuple'),
    ('rate_control.layer_rates', ((0, 'conv1'),), 'rules'),
    ('rate_control.layer_rates', ((0, 'conv1', -0.1),), 'rules'),
    ('rate_control.layer_rates', ((-1, 'conv1', 0.1),), 'rules'),
    ('rate_control.layer_rates', ((0, 1, 0.1),), 'rules'),
    ('rate_control.layer_factors', ('conv1',), 'rules'),
    ('rate_control.layer_factors', ((0, 'conv1', float('nan')),), 'rules'),
    ('layer_decays', (('conv1', -0.1),), 'pairs'),
    ('layer_decays', ('conv1', 0.1), 'pairs'),
    ('network', 'conv1', 'a group of layers'),
    ('network.conv1', 3, 'is not a layer'),
    ('network.conv1.kernels', 0, 'at least 1'),
    ('network.conv1.kernels', 96.0, 'a whole number'),
    ('network.conv1.std', -1.0, 'at least 0'),
    ('network.conv1.kernel', 96, "did you mean 'kernels'"),
    ('network.relu1.slope', 0.1, 'there are none'),
    ('network.conv1.type', 'deconvolution', 'max_pooling'),
    ('network.drop6.rate', 1.0, 'below 1'),
    ('network.pool1.stride', 4, 'the stride is at most the size'),
]


@pytest.mark.parametrize('field, value, words', REFUSED, ids=lambda value: str(value)[:30])
def test_refused_by_name(field, value, words):
    with pytest.raises(UserError) as caught:
        Config().replace(**{field: value})
    message = str(caught.value)
    named = field if field not in ('network.pool1.stride', 'network.conv1.type') else field.rpartition('.')[0]
    assert message.startswith(f'config.{named}') and words in message


@pytest.mark.parametrize('field', ['dat.threads', 'seed.x', 'network.conv1.size.x', 'data.threads.x'])
def test_a_section_that_there_is_not(field):
    with pytest.raises(UserError, match='config has no section'):
        Config().replace(**{field: 2})


def test_a_crop_larger_than_its_image_names_both():
    with pytest.raises(UserError, match=r'config\.data: crop_size=257 is larger than image_size=256'):
        Config().replace(**{'data.crop_size': 257})


ACCEPTED = [
    ('data.crop_size', 256),
    ('data.quality', 1),
    ('data.quality', 100),
    ('data.images_per_shard', 1),
    ('data.color_std', 0.0),
    ('learning_rate', 1),
    ('seed', 2**32 - 1),
    ('rate_control.schedule', ((23, 0.001), (51, 0.0001))),
    ('rate_control.schedule', ((1, 0.1), (2, 0.0))),
    ('network.conv1.kernels', 48),
    ('network.conv1.bias', -1.0),
]


@pytest.mark.parametrize('field, value', ACCEPTED, ids=str)
def test_accepted(field, value):
    part = Config().replace(**{field: value}).fields()
    for name in field.split('.'):
        part = part[name]
    assert part == value


def test_what_is_written_as_json_is_read_back():
    config = Config.from_fields(paper.get_config()).replace(**{'rate_control.schedule': ((3, 0.1),)})
    assert Config.from_fields(json.loads(json.dumps(config.fields()))) == config
    assert [name for name, _ in config.network] == list(paper.get_config().network)  # in order


def test_missing_fields_take_their_defaults_and_the_paper_says_what_they_are():
    """The paper's experiment states values; those are the defaults, but for the deviations of the 2012 code."""
    assert Config.from_fields({}) == Config()
    ours = Config.from_fields(paper.get_config('literal')).replace(name='paper')
    assert ours == Config()
    ours = Config.from_fields(paper.get_config())
    assert ours == Config().replace(**{f'network.conv{number}.std': 0.03 for number in (3, 4, 5)})


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match='frozen'):
        Config().seed = 1


@pytest.mark.parametrize('old, new', RENAMED.items())
def test_earlier_names_still_work_and_are_told(old, new):
    section, name = old.split('.')
    value = {'std': 0.3, 'scale': 'eigenvalue', 'epochs': 5, 'rescale': True}[name.partition('_')[2]]
    for fields in ({section: {name: value}}, default_config()):
        fields[section][name] = value
        told = []
        config = Config.from_fields(fields, told.append)
        assert getattr(config.data, new.split('.')[1]) == value
        assert told == [f'config.{old} is now called config.{new}.']


def test_tables_of_specifications_and_of_fields_are_the_same():
    layers = {'relu1': ReLU(), 'exchange1': Exchange()}
    assert table_of(layers) == table_of(tuple(layers.items())) == table_of(network_config(layers))


def test_too_many_layers():
    with pytest.raises(UserError, match='1,001 layers'):
        table_of({f'relu{number}': ReLU() for number in range(1001)})


def test_every_field_is_described_and_has_a_rule():
    for name, field in schema():
        assert field.description and resume_rule(name) in ('free', 'ask', 'fixed')
        assert re.fullmatch('[a-z0-9_.]+', name)


def test_docs_config_is_what_the_schema_generates():
    root = pathlib.Path(__file__).parents[1]
    generated = runpy.run_path(str(root / 'docs' / 'generate_config.py'))['markdown']()
    assert (root / 'docs' / 'config.md').read_text() == generated, (
        'run: python docs/generate_config.py > docs/config.md'
    )
