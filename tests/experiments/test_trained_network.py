"""Guards the network that comes with the software: it is what its card and its experiment say, and knows its coffee."""

import json
import re

import pytest
import skimage.data
from configs import typed
from launching import ROOT

import alexnet_jax as ax
from alexnet_jax.runs.workdir import read_config
from experiments import tiny_imagenet

PLACE = ROOT / 'trained' / 'tiny_imagenet'


@pytest.fixture(scope='module')
def run():
    return ax.load_run(PLACE, data=1, column=1)


def test_it_was_trained_as_its_experiment_says():
    assert read_config(PLACE) == typed(tiny_imagenet.get_config())


def test_it_names_classes_and_knows_its_coffee(run):
    assert len(run.class_names) == len(set(run.class_names)) == 200
    (labels,) = run.top_classes(skimage.data.coffee()[None])
    assert labels[0][0] == 'espresso' and labels[0][1] > 0.8 and len(labels) == 5


def test_the_card_has_the_errors_of_its_log():
    lines = [json.loads(line) for line in (PLACE / 'metrics.jsonl').read_text().splitlines()]
    last = [line for line in lines if line['split'] == 'validation'][-1]
    center = re.search(r'\| center view \| (\S+) % \| (\S+) % \|', (PLACE / 'README.md').read_text())
    logged = [f'{100 * last[name]:.2f}' for name in ('top1_error', 'top5_error')]
    assert center and center[2] == logged[1] and float(center[1]) == pytest.approx(float(logged[0]), abs=0.05)
    assert f'In single precision the top-1 errors are {logged[0]} and' in (PLACE / 'README.md').read_text()
    assert int(last['epoch']) == sum(tiny_imagenet.EPOCHS)


def test_it_is_small_and_names_no_machine():
    files = [path for path in PLACE.rglob('*') if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10e6
    for path in files:
        if path.suffix == '.json':
            assert not re.search(r'"/\w+/', path.read_text()), path
