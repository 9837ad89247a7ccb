"""The documents: their Python runs, their links lead somewhere, and what they name exists."""

import contextlib
import functools
import importlib
import io
import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from experiments import paper

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = sorted(
    str(path.relative_to(ROOT)) for where in ('*.md', 'docs/*.md', '.github/**/*.md') for path in ROOT.glob(where)
)
# Directories of the repository, at which the name of a file of its own may begin.
PLACES = ('alexnet_jax', 'benchmarks', 'docs', 'experiments', 'notebooks', 'tests', '.ci', '.github')
ROOMS = sorted(path.name for path in (ROOT / 'alexnet_jax').iterdir() if path.is_dir() and path.name[0] != '_')


@functools.cache
def text(name):
    return (ROOT / name).read_text(encoding='utf-8')


def python(name):
    """The Python blocks of a document, without those of files that a user would write."""
    blocks = re.findall(r'^```python\n(.*?)^```', text(name), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if 'def get_config' not in block]


def execute(blocks, **names):
    """Executes code blocks in one namespace; returns what they print."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, 'docs', 'exec'), names)
    return printed.getvalue()


def anchors(name):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(
        r'^#+ (.*)$', re.sub(r'^```.*?^```', '', text(name), flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


def named_files(words):
    """The files of the repository that are named among words, and the modules called by `python -m`."""
    places, rooms = '|'.join(map(re.escape, PLACES)), '|'.join(ROOMS)
    files = re.findall(rf'(?<![\w/.-])((?:{places})/[\w./-]*\w|[\w-]+\.(?:md|toml|cff)|requirements[\w-]*\.txt)', words)
    files += re.findall(rf'`((?:{rooms})/(?:[\w/]+\.py)?)`', words)
    return {*files, *(f'{module.replace(".", "/")}.py' for module in re.findall(r'python -m (benchmarks\.\w+)', words))}


def without_old_names(words):
    """Without the rows of the changelog that have a name of old beside the new one."""
    return re.sub(r'^ *\|.*(?:colour|neighbours|experiments\.figure1).*$', '', words, flags=re.MULTILINE)


@pytest.fixture
def here(run, tmp_path, monkeypatch):
    """A directory with a trained run in runs/digits, as a user has it after the README's first command."""
    (tmp_path / 'here' / 'runs').mkdir(parents=True)
    run[1].rename(tmp_path / 'here' / 'runs' / 'digits')
    monkeypatch.chdir(tmp_path / 'here')
    return tmp_path / 'here'


def test_the_python_guide_runs(here):
    printed = execute(python('docs/python.md'))
    assert '(16, 10)' in printed and "{'bias': (2, 4), 'kernel': (2, 11, 11, 3, 4)}" in printed
    assert "('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')" in printed
    assert 'runs/none' in printed.splitlines()[-1]  # the error is about what was given
    assert 'def step' in ''.join(python('docs/python.md')) and len(python('docs/python.md')) >= 7


def test_the_readmes_python_runs(here):
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save('a.jpg')
    [block] = python('README.md')
    execute([block])
    assert 'load_run' in block and 'AlexNet' in block and sum(map(bool, block.splitlines())) <= 8


def test_scikit_learn_reads_features_as_documented(here, trained, forked):
    workdir = here / 'runs' / 'digits'
    forked.launch(f'--workdir={workdir}', '--mode=features').succeeded()
    [features] = (workdir / 'features').iterdir()
    features.rename(features.with_name('fc7-train-step270'))  # the embedded example's last step
    [block] = python('docs/modes.md')
    execute([f'{block}\nassert classifier.score(values, labels) > 0.9'])


def test_the_readme_is_a_page():
    assert len(text('README.md').split()) <= 1000


@pytest.mark.parametrize('name', NAMES)
def test_links_lead_somewhere(name):
    for link in re.findall(r'\]\(([^)\s]+)\)', text(name)):
        if re.match(r'https?:', link):
            continue
        path, _, anchor = link.partition('#')
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists(), f'{name} links to {link}'
        if anchor:
            assert anchor in anchors(str(target.relative_to(ROOT))), f'{name}: {link}'


@pytest.mark.parametrize('name', NAMES)
def test_files_that_are_named_exist(name):
    beside = (ROOT, ROOT / 'alexnet_jax', (ROOT / name).parent)
    files = named_files(text(name))
    assert sorted(file for file in files if not any((place / file).exists() for place in beside)) == []


@pytest.mark.parametrize('name', NAMES)
def test_commands_name_modes_flags_fields_and_experiments_that_exist(name):
    launcher = text('launch.py')
    modes = re.findall(r"^    '(\w+)': ", launcher, re.MULTILINE)
    flags = re.findall(r"(?:DEFINE|define)_\w+\(\s*'(\w+)'", launcher)
    assert {'train', 'neighbors'} <= set(modes) and {'workdir', 'mode'} <= set(flags)
    words = without_old_names(text(name))
    assert set(re.findall(r'--mode=([a-z]\w*)', words)) - set(modes) == set()
    for line in re.findall(r'python launch\.py (.*)', words):
        assert set(re.findall(r'--([a-z_]+)\b(?!\.)', line)) - set(flags) - {'help'} == set(), line
    fields = paper.get_config('deeper')  # the network with the most layers
    for field in re.findall(r'(?<![\w.])config\.(?!json|md|py)([a-z_]+(?:\.[a-z_0-9]+)*)(?![\w./])', words):
        value = fields
        for part in field.split('.'):
            assert part in value, f'{name}: config.{field}'
            value = value[part]
    for file, variant in re.findall(r'(\w+)\.py:(\w+)', words):
        if file != 'finetune' and variant.islower():
            importlib.import_module(f'experiments.{file}').get_config(variant)


ROW = re.compile(r'^\| (.+?) \| (\d) \| (\S+) % \((\S+) to (\S+)\) \| (?:(\S+) ± (\S+))? ?\|', re.M)


def test_the_table_of_ablations_is_that_of_its_numbers():
    runs = json.loads((ROOT / 'docs/ablations_cifar10.json').read_text())

    def errors(variant, views='ten'):
        return np.array([100 * run['errors'][views]['top1'] for run in runs if run['variant'] == variant])

    text, base = (ROOT / 'docs/ablations.md').read_text(), errors('cifar10_columns')
    rows = {words[0]: words[1:] for words in ROW.findall(text[text.index('## On photographs') :])}
    assert len(rows) == 1 + len({run['variant'] for run in runs})
    for name, (seeds, mean, least, most, difference, uncertain) in rows.items():
        variant = re.search(r'`(\w+)(?:\.py)?`', name)
        own = f'cifar10_columns:{variant[1]}' if variant and variant[1] != 'cifar10_columns' else 'cifar10_columns'
        found = errors(own, 'center' if 'center' in name else 'ten')
        assert int(seeds) == len(found)
        np.testing.assert_allclose(
            [float(mean), float(least), float(most)], [found.mean(), found.min(), found.max()], atol=6e-3
        )
        if difference:
            assert float(difference) == pytest.approx(found.mean() - base.mean(), abs=6e-3), name
            each = [np.std(one, ddof=1) / len(one) ** 0.5 for one in (found, base)]
            if 'center' in name:
                each = [np.std(found - base, ddof=1) / len(base) ** 0.5]
            assert float(uncertain) == pytest.approx(np.hypot(*each) if len(each) > 1 else each[0], abs=6e-3), name
