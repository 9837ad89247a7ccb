"""A few of the faults that tests/faults.py can raise, and that it would notice what goes wrong."""

import re
import subprocess
import sys

import faults
import pytest
from launching import ROOT, environment

TRACED = 'Traceback (most recent call last):\nTypeError: a defect of the software'


def test_faults_lose_nothing(tmp_path):
    """Four faults in a run that resumes."""
    given = [
        sys.executable,
        'tests/faults.py',
        '--scenario=resume',
        '--first=11',
        '--every=61',
        f'--directory={tmp_path}',
    ]
    ended = subprocess.run(given, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = re.fullmatch(
        r'(\d+) places, (\d+) faults, (\d+) survived, (\d+) not reached, 0 violations', ended.stdout.splitlines()[-1]
    )
    places, met, survived, missed = map(int, found.groups())
    assert places == met >= 2 and survived < met and met + missed >= 3


@pytest.mark.parametrize(
    'code, text, fault, word',
    [
        (2, 'error: EIO\n', 'EIO', None),
        (130, 'interrupted; the same command resumes\n', 'KeyboardInterrupt', None),
        (1, TRACED, 'TypeError', None),
        (0, 'Ended after step 4\n', 'EIO', None),
        (1, TRACED, 'EIO', 'a traceback'),
        (2, 'error: one\nerror: two\n', 'EIO', '2 messages'),
        (2, 'nothing\n', 'EIO', '0 messages'),
        (3, 'error: EIO\n', 'EIO', 'exit code 3'),
        (2, 'error: a defect\n', 'TypeError', 'a defect ended with code 2'),
        (-9, '', 'EIO', 'it took more than'),
    ],
)
def test_how_a_run_that_met_a_fault_may_end(code, text, fault, word):
    wrong = faults.complaints(faults.Ended(code, text, [], True, 1.0), fault)
    assert wrong == [] if word is None else word in wrong[0]


def test_a_fault_is_raised_at_its_place_alone(tmp_path):
    def calls(injector):
        """What four calls from one line raise, every other of them on a path elsewhere."""
        raised, stat = [], injector.of_path('stat', lambda path: None)
        for number, path in enumerate([tmp_path / 'a', '/elsewhere', tmp_path / 'b', tmp_path / 'c']):
            try:
                stat(path)
            except OSError as error:
                raised.append((number, error.strerror, error.filename))
        return raised

    first = faults.Injector(tmp_path)
    assert calls(first) == [] and [place.split(' #')[1] for place in first.places] == ['1', '2']
    second = faults.Injector(tmp_path, list(first.places)[1], 'EROFS')
    assert calls(second) == [(2, 'Read-only file system', str(tmp_path / 'b'))] and second.hit
    assert calls(faults.Injector(tmp_path, 'another place', 'EROFS')) == []


def test_a_checkpoint_may_be_half_deleted_only_where_two_newer_are_there():
    before = {f'checkpoints/{step}/{name}': b'x' for step in (1, 2, 3) for name in ('state', 'progress')}
    for step in (1, 2, 3):
        after = {name: content for name, content in before.items() if name != f'checkpoints/{step}/state'}
        assert faults.changed(before, after) == ([] if step == 1 else [f'checkpoints/{step}/state'])
