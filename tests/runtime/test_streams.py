"""Standard streams in processes of their own: encodings, closed ones, readers that leave, disks that are full."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import os, sys
from alexnet_jax.runtime.errors import exit_codes
from alexnet_jax.runtime.streams import check_printed, has_reader, lasting_streams
with lasting_streams(), exit_codes():
    number = os.open('/dev/null', os.O_RDONLY)
    assert number > 2, number
    print('ch\\xe2t \\udcff \\u753b')
    for line in range(20_000):
        print('a line of which there are many')
    if '--check' in sys.argv:
        check_printed()
    print('reader', has_reader(), file=sys.stderr)
"""


def run(redirect='', *arguments, **variables):
    script = f'"$@" {redirect}'
    command = ['/bin/bash', '-c', script, 'bash', sys.executable, '-c', PROGRAM, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, env={'PATH': '/usr/bin:/bin', **variables}, timeout=60
    )


@pytest.mark.parametrize(
    'encoding, printed',
    [
        ('ascii', rb'ch\xe2t \udcff \u753b'),
        ('latin-1', b'ch\xe2t \\udcff \\u753b'),
        ('utf-8', 'chât \\udcff 画'.encode()),
    ],
)
def test_what_an_encoding_lacks_is_escaped(encoding, printed):
    ended = run(PYTHONIOENCODING=encoding)
    assert ended.returncode == 0 and ended.stdout.splitlines()[0] == printed


@pytest.mark.parametrize('redirect', ['>&-', '<&-', '<&- >&-', '<&- >&- 2>&-'])
def test_closed_streams_do_no_harm(redirect):
    ended = run(redirect)
    assert ended.returncode == 0 and b'Traceback' not in ended.stderr


def test_a_reader_that_leaves_stops_nothing():
    ended = run('| head -1 >&2; exit ${PIPESTATUS[0]}')
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines() == ['chât \\udcff 画'.encode(), b'reader False']


def test_a_full_disk_is_told_once_and_stops_only_who_prints_alone():
    told = b'standard output cannot be written: No space left on device'
    ended = run('> /dev/full')
    assert ended.returncode == 0 and ended.stderr.splitlines() == [
        b'warning: ' + told + b'; nothing more is printed there.',
        b'reader True',
    ]
    ended = run('> /dev/full', '--check')
    assert ended.returncode == 2 and ended.stderr.endswith(b'error: ' + told + b'.\n')


def test_warnings_are_no_errors():
    code = """
from alexnet_jax.runtime.streams import tolerate_warnings
import warnings
tolerate_warnings()
warnings.warn('a harmless one')
print('done')
"""
    command = [sys.executable, '-W', 'error', '-c', code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == 'done\n' and 'UserWarning: a harmless one' in ended.stderr
