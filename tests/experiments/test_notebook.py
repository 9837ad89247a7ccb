"""The notebook: all of its cells, one after the other, as IPython runs them; a small network on the embedded digits."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from configs import typed
from launching import environment

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOK = ROOT / 'notebooks' / 'imagenette.ipynb'
RUN = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in json.load(open(sys.argv[1]))['cells']:
    if cell['cell_type'] == 'code':
        shell.run_cell(''.join(cell['source'])).raise_error()
"""


PYTHON3 = """#!/bin/sh
if [ "$1 $2" = "-m pip" ]; then echo "$@" > {place}/pip.txt; exit; fi
exec "{python}" "$@"
"""


def run_cells(place, **variables):
    """Runs all code cells in a process of its own, in the repository.

    python3 is the Python of these tests, but what it would install is left in place/pip.txt. (A link would be the
    Python that the tests' environment was made with: it finds that by what lies beside it.)
    """
    (place / 'bin').mkdir()
    (place / 'bin' / 'python3').write_text(PYTHON3.format(place=place, python=sys.executable))
    (place / 'bin' / 'python3').chmod(0o755)
    own = {'PATH': f'{place / "bin"}:{os.environ["PATH"]}', 'IPYTHONDIR': str(place / 'ipython')}
    return subprocess.run(
        [sys.executable, '-c', RUN, str(NOTEBOOK)],
        cwd=NOTEBOOK.parent,
        env=environment() | own | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_every_cell_runs_on_the_embedded_digits(tmp_path):
    done = run_cells(
        tmp_path,
        EXPERIMENT='tests/small_run.py',
        OPTIONS=f'--config.data.directory={tmp_path / "data"} --config.epochs=1',
        WORKDIR=str(tmp_path / 'run'),
        PYTHONPATH=str(ROOT / 'tests'),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Traceback' not in done.stdout + done.stderr
    assert (tmp_path / 'pip.txt').read_text().split() == ['-m', 'pip', 'install', '--quiet', '-r', 'requirements.txt']
    errors = json.loads((tmp_path / 'run' / 'eval.json').read_text())['views']
    assert set(errors) == {'center', 'ten'} and 'Ended after step 45,' in done.stdout
    shown = [line for line in done.stdout.splitlines() if line.endswith('.png') and '/' not in line]
    assert shown == sorted(path.name for path in (tmp_path / 'run' / 'figures').glob('*.png')) and len(shown) >= 3


def test_a_cell_that_fails_fails_the_notebook(tmp_path):
    done = run_cells(tmp_path, EXPERIMENT='experiments/none.py', WORKDIR=str(tmp_path / 'run'))
    assert done.returncode != 0 and 'there is no such file' in done.stdout + done.stderr
    assert not (tmp_path / 'run').exists()


def test_the_notebook_is_left_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())['cells']
    assert all(not cell['outputs'] and cell['execution_count'] is None for cell in cells if 'outputs' in cell)
    assert any('imagenette' in ''.join(cell['source']) for cell in cells)


@pytest.mark.parametrize('field, value', [('epochs', 60), ('batch_size', 128), ('columns', 2)])
def test_imagenettes_config_is_the_papers_network_for_ten_classes(field, value):
    from alexnet_jax.runs.build import build
    from experiments import imagenette, paper

    config, base = imagenette.get_config(), paper.get_config()
    assert config[field] == value
    base.network.fc8.units = 10
    assert build(typed(config)).config.network == build(typed(base)).config.network
