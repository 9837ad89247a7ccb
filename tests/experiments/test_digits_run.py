"""The embedded example learns: at most 2 % error on the 360 held-out digits, as the README says."""

import json

from launching import launch


def test_digits_reach_two_per_cent(tmp_path):
    arguments = [f'--workdir={tmp_path / "run"}', '--config=experiments/digits.py']
    arguments += [f'--config.data.directory={tmp_path / "data"}']
    done = launch(*arguments, timeout=900)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    validations = [line for line in lines if line['split'] == 'validation']
    assert len(validations) == 24
    assert validations[0]['top1_error'] > 0.5  # it had to be learned
    assert validations[-1]['top1_error'] <= 0.02
