"""The embedded example learns: at most 2 % error on the 360 held-out digits, as the README says."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def test_digits_reach_two_per_cent(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(('JAX', 'XLA'))}
    arguments = [f'--workdir={tmp_path / "run"}', '--config=experiments/digits.py']
    arguments += [f'--config.data.directory={tmp_path / "data"}']
    done = subprocess.run(
        [sys.executable, 'launch.py', *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    validations = [line for line in lines if line['split'] == 'validation']
    assert len(validations) == 24
    assert validations[0]['top1_error'] > 0.5  # it had to be learned
    assert validations[-1]['top1_error'] <= 0.02
