"""The peak of a process's memory."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from launching import ROOT

from benchmarks.resident import peak, peak_growth, resident

pytestmark = pytest.mark.skipif(not pathlib.Path('/proc/self/clear_refs').exists(), reason='the system has no /proc')


def held(megabytes):
    assert np.ones(megabytes * 1_000_000, np.uint8).all()


def test_growth_counts_from_the_call_on():
    held(400)
    assert peak_growth(lambda: held(100)) == pytest.approx(100e6, abs=20e6)
    assert peak_growth(lambda: None) < 5e6


def test_a_process_does_not_count_what_its_parent_held():
    held(400)
    code = 'from benchmarks.resident import peak; print(peak())'
    child = int(subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, check=True).stdout)
    assert child < 100e6 < resident() <= peak()
