"""`benchmarks/gpu.py`: every part runs here, in small; one that fails is reported, and the rest goes on."""

import os
import re
import subprocess
import sys

import pytest
from launching import ROOT, environment

from alexnet_jax.runtime.errors import UserError
from benchmarks import gpu


def test_all_parts_run_in_small_on_a_cpu(tmp_path):
    output = tmp_path / 'gpu.md'
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.gpu', '--small', f'--output={output}'],
        cwd=ROOT,
        env=environment(XLA_FLAGS=f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count=2'),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = output.read_text()
    names = list(gpu.parts(True, 2, ''))
    assert re.findall(r'^\| (.+) \| done \| \d+ s \|$', page, re.MULTILINE) == names and 'two columns, float32' in names
    assert 'images/s, median' in page and 'Ended after step' in page and 'of the slower' in page


def test_a_part_that_fails_is_reported_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    commands = {
        'one': ('-c', 'print("one is done")'),
        'two': ('-c', 'import sys; print("\\x1b[31mtwo is not\\x1b[0m"); sys.exit(3)'),
        'three': ('-c', 'import os; print("three", os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"])'),
    }
    monkeypatch.setattr(gpu, 'parts', lambda small, devices, directory: commands)
    monkeypatch.setattr(sys, 'argv', ['gpu', f'--output={tmp_path / "gpu.md"}'])
    assert gpu.main() == 1
    page = (tmp_path / 'gpu.md').read_text()
    assert '| two | **failed, exit code 3** |' in page and '\ntwo is not\n' in page
    assert '| three | done |' in page and '\nthree false\n' in page
    assert 'Failed: two.' in capsys.readouterr().out


def test_some_parts_and_one_that_takes_too_long(tmp_path, monkeypatch):
    commands = {
        'ours, float32': ('-c', 'print("ours is done")'),
        'ours, bfloat16': ('-c', 'import time; print("begun", flush=True); time.sleep(60)'),
        'step': ('-c', 'raise AssertionError'),
    }
    monkeypatch.setattr(gpu, 'parts', lambda small, devices, directory: commands)
    monkeypatch.setattr(sys, 'argv', ['gpu', f'--output={tmp_path / "gpu.md"}', '--parts=ours', '--timeout=3'])
    assert gpu.main() == 1
    page = (tmp_path / 'gpu.md').read_text()
    assert '| ours, float32 | done |' in page and '\nbegun\n' in page and '| ours, bfloat16 | **failed' in page
    assert '| step' not in page
    monkeypatch.setattr(sys, 'argv', ['gpu', f'--output={tmp_path / "gpu.md"}', '--parts=nothing'])
    with pytest.raises(UserError, match='--parts=nothing names no part'):
        gpu.main()


def test_the_shipped_document_is_of_gpus_alone(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['gpu', '--small'])
    with pytest.raises(UserError, match=r'docs/gpu\.md is for a GPU'):
        gpu.main()
