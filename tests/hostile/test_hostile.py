"""Hundreds of hostile inputs: each ends in one message or, where it is listed as harmless, well.

The cases are tables in the other files, which `runner.py` runs; the tests look up what each did.
"""

import collections
import json
import shutil
import subprocess
import sys

import pytest

import hostile
from hostile import runner

# Of the many that are alike, so many-th; `python tests/hostile/runner.py DIRECTORY` runs them all.
_EVERY = {'eval': 5, 'command': 4, 'prepare': 3, 'import': 2}


def by_default():
    """By name: all cases, but of some modes only every so many."""
    numbers = collections.Counter()
    for name, case in hostile.cases().items():
        numbers[case.mode] += 1
        if numbers[case.mode] % _EVERY.get(case.mode, 1) == 0:
            yield name, case


CASES = dict(by_default())


@pytest.fixture(scope='module')
def reports(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp('hostile')
    chosen = [
        item.callspec.params['name']
        for item in request.session.items
        if item.path == request.path and hasattr(item, 'callspec')
    ]
    (directory / 'names.txt').write_text('\n'.join(chosen))
    given = [sys.executable, runner.__file__, str(directory)]
    ended = subprocess.run(given, capture_output=True, text=True, errors='replace', timeout=1800)
    assert ended.returncode == 0, ended.stderr[-5000:]
    lines = map(json.loads, (directory / 'report.jsonl').read_text().splitlines())
    yield {line['name']: line for line in lines if 'name' in line}
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize('name', CASES)
def test_it_ends_in_a_message_and_does_no_harm(name, reports):
    assert not runner.complaints(CASES[name], reports[name])


def test_there_are_hundreds_of_cases():
    assert len(hostile.cases()) >= 1174 and len(CASES) >= 500
    assert sum(case.says is not None for case in CASES.values()) >= 400
