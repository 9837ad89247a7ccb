"""The tables of one network and of two; and the command lines of --beside and --mode=compare, each in a process."""

import io
import pathlib

import pytest
import small_run
from configs import typed
from rich.console import Console

from alexnet_jax.commands.inspect import inspect, inspect_beside, pairs
from alexnet_jax.model.summary import Line
from alexnet_jax.runtime.errors import UserError
from experiments import digits, paper

ROOT = pathlib.Path(__file__).parents[2]


def rows(one, other):
    """What is printed of two configs, a list of words a line."""
    on = Console(file=io.StringIO(), width=160)
    inspect_beside(typed(one), typed(other), on)
    return [line.split() for line in on.file.getvalue().splitlines()]


def single_tower():
    """The paper's network in one column; every layer sees all of the one before."""
    config = paper.get_config()
    config.name, config.columns = 'single', 1
    for name in ('exchange3', 'exchange6', 'exchange7', 'exchange8'):
        del config.network[name]
    return config


def named(*names):
    return [Line(name, 'ReLU', '', '', (1,), 0, 0) for name in names]


# The table.


@pytest.mark.parametrize(
    'first, second, expected',
    [
        ('abc', 'abc', 'aa bb cc'),
        ('abc', 'xaybzc', '-x aa -y bb -z cc'),
        ('abcd', 'acx', 'aa b- cc -x d-'),
        ('ab', 'bxa', 'aa bb -x'),
        ('ab', 'xy', '-x -y a- b-'),
        ('ab', 'axyb', 'aa -x -y bb'),
    ],
)
def test_lines_are_matched_by_name(first, second, expected):
    found = [''.join(line.name if line else '-' for line in pair) for pair in pairs(named(*first), named(*second))]
    assert found == expected.split()


def test_two_columns_beside_one_tower():
    found = rows(paper.get_config(), single_tower())
    assert ['sum', '60,965,224', '62,378,344', '724,406,816', '1,135,256,096'] in found
    assert ['ratio', '1.023', '1.567'] in found  # 62,378,344 / 60,965,224 and 1,135,256,096 / 724,406,816
    convolution = [27 * 27 * 256 * 5 * 5 * channels for channels in (48, 96)]
    parameters = [256 * 5 * 5 * channels + 256 for channels in (48, 96)]
    numbers = [f'{number:,}' for number in [*parameters, *convolution]]
    assert ['conv2', '*', '27x27x256', '27x27x256', *numbers] in found
    assert ['exchange3', '*', '13x13x256'] in found
    assert ['pool5', '6x6x256', '6x6x256'] in found  # the same in both
    assert ['single'] not in found and [word for line in found for word in line].count('single') >= 4


def test_names_are_plain_text():
    """Brackets in names are neither markup of the console nor lost."""
    config = typed(digits.get_config())
    *layers, (_, last) = config.network
    network = dict([*layers, ('[/bold]', last)])
    config = config.replace(**{'name': '[red]digits[/red]', 'network': network, 'mesh.data': 1, 'mesh.column': 1})
    on = Console(file=io.StringIO(), width=160)
    inspect(config, on)
    inspect_beside(config, config, on)
    assert on.file.getvalue().count('[red]digits[/red]') == 9  # three in titles, and six columns of the second table
    assert on.file.getvalue().count('[/bold]') == 4  # layers twice, kernel and bias


def test_the_same_network_twice():
    found = rows(digits.get_config(), digits.get_config())
    assert ['ratio', '1.000', '1.000'] in found and not any('*' in line[1:2] for line in found)


def test_in_micro_batches_columns_exchange_as_much():
    def exchanged(parts):
        config = small_run.get_config()
        config.mesh.column, config.accumulation_steps = 2, parts
        on = Console(file=io.StringIO(), width=160)
        inspect(typed(config), on)
        lines = [line.split() for line in on.file.getvalue().split('What devices exchange')[1].splitlines()]
        return [(line[1], *line[-2:]) for line in lines if line[:1] == ['column']]  # their sum is the last

    assert len(exchanged(1)) == 6 and exchanged(4) == exchanged(1)


def test_no_devices_are_needed():
    config = digits.get_config()
    config.mesh.data = config.mesh.column = 1000
    assert ['ratio', '1.000', '1.000'] in rows(config, config)


def test_the_second_is_named_where_it_makes_no_sense():
    wrong = paper.get_config()
    wrong.columns = 3
    with pytest.raises(UserError, match=r'^--beside: .*must be divisible by the number of columns, 3'):
        rows(paper.get_config(), wrong)
    with pytest.raises(UserError, match=r'^config.network.*must be divisible by the number of columns, 3'):
        rows(wrong, paper.get_config())


# Command lines.

CONFIGS = {
    'syntax.py': 'def get_config(:\n    pass\n',
    'value.py': "def get_config():\n    raise ValueError('seven is not even')\n",
    'without.py': 'config = 3\n',
    'dictionary.py': "def get_config():\n    return {'seed': 0}\n",
    'short.py': "from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({'seed': 0})\n",
}
INSPECT = ['--mode=inspect', '--config=experiments/digits.py']
# By name: the arguments, the exit code, and words that are printed.
COMMANDS = {
    'a variant beside': (
        ['--mode=inspect', '--config=experiments/paper.py', '--beside=experiments/paper.py:literal'],
        0,
        ['paper and paper:literal', '60,965,224', '1.000', 'conv3 *', 'conv4 *', 'conv5 *'],
    ),
    'a field of the second': (
        [*INSPECT, '--beside', 'experiments/digits.py', '--beside.network.fc7.units=256', '--config.batch_size=32'],
        0,
        ['fc7 * 512 256'],
    ),
    'drawn into a workdir': (
        [*INSPECT, '--config.mesh.column=2', '--workdir={tmp}/drawn'],
        0,
        ['wrote {tmp}/drawn/figures/network.png', 'wrote {tmp}/drawn/figures/network_narrow.svg'],
    ),
    'no such file': ([*INSPECT, '--beside=nothing.py'], 2, ['--beside=nothing.py', 'no such file']),
    'no Python file': ([*INSPECT, '--beside=README.md'], 2, ['--beside=README.md', 'not a Python file']),
    'a field without a file': ([*INSPECT, '--beside.seed=3'], 2, ['--beside.seed=3 needs --beside=FILE']),
    'an unknown field': (
        [*INSPECT, '--beside=experiments/digits.py', '--beside.sed=3'],
        2,
        ["--beside.sed=3: the config has no field 'sed'", "'seed'"],
    ),
    'a mistyped field': ([*INSPECT, '--beside=experiments/digits.py', '--beside.seed=x'], 2, ['--beside.seed=x']),
    'syntax': ([*INSPECT, '--beside={tmp}/syntax.py'], 2, ['syntax.py', 'line 1', 'invalid syntax']),
    'ValueError': (
        [*INSPECT, '--beside={tmp}/value.py'],
        2,
        ['--beside={tmp}/value.py', 'seven is not even', 'line 2'],
    ),
    'no get_config': ([*INSPECT, '--beside={tmp}/without.py'], 2, ['--beside={tmp}/without.py', 'get_config']),
    'a dictionary': ([*INSPECT, '--beside={tmp}/dictionary.py'], 2, ['--beside={tmp}/dictionary.py', 'not dict']),
    'only some fields': ([*INSPECT, '--beside={tmp}/short.py'], 0, ['digits and paper', '60,965,224']),
    'no such variant': ([*INSPECT, '--beside=experiments/paper.py:litteral'], 2, ['litteral', 'literal']),
    'no variants': (
        [*INSPECT, '--beside=tests/three_layers.py:x'],
        2,
        ['--beside=tests/three_layers.py:x', 'no variants'],
    ),
    'the first is the wrong one': (
        ['--mode=inspect', '--config={tmp}/without.py', '--beside=experiments/digits.py'],
        2,
        ['--config={tmp}/without.py: the file has no function'],
    ),
    'beside nothing': (['--mode=inspect', '--beside=experiments/digits.py'], 2, ['--config is missing']),
    'runs': (
        ['--mode=compare', '--runs={trained},{another}', '--workdir={tmp}/result'],
        0,
        ['digits', '360 images', 'wrote {tmp}/result/figures/comparison.png'],
    ),
    'runs, printed alone': (['--mode=compare', '--runs={trained}'], 0, ['digits', '360 images']),
    'no runs': (['--mode=compare'], 2, ['--runs is missing']),
    'no run': (['--mode=compare', '--runs={tmp}'], 2, ['{tmp} is not the directory of a run']),
    'into a run': (['--mode=compare', '--runs={trained}', '--workdir={another}'], 2, ['is the directory of a run']),
}


@pytest.fixture(scope='module')
def commands(trained, another, tmp_path_factory, forked):
    tmp = tmp_path_factory.mktemp('commands')
    for name, text in CONFIGS.items():
        (tmp / name).write_text(text)
    places = {'tmp': tmp, 'trained': trained[1], 'another': another[1]}
    ended = {name: forked.launch(*(word.format(**places) for word in COMMANDS[name][0])) for name in COMMANDS}
    return places, {name: (one.code, one.out + one.err) for name, one in ended.items()}


@pytest.mark.parametrize('name', COMMANDS)
def test_a_command(name, commands):
    places, results = commands
    (code, output), (_, expected, words) = results[name], COMMANDS[name]
    assert code == expected, output
    assert 'Traceback' not in output and output.count('error: ') == (expected == 2)
    printed = ' '.join(output.split())
    for word in words:
        assert word.format(**places) in printed


def test_what_commands_leave(commands):
    pictures = ['color.png', 'color.svg', 'comparison.png', 'comparison.svg']
    left = sorted(str(path.relative_to(commands[0]['tmp'])) for path in commands[0]['tmp'].glob('result/**/*.*'))
    assert left == ['result/comparison.json', *(f'result/figures/{name}' for name in pictures)]
    assert not (commands[0]['another'] / 'comparison.json').exists()
    drawn = sorted(path.name for path in (commands[0]['tmp'] / 'drawn').glob('**/*.*'))
    assert drawn == ['network.png', 'network.svg', 'network_narrow.png', 'network_narrow.svg']
