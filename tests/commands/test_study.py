"""`--mode=study`: which runs are made, in which order, and what becomes of those that fail or are stopped."""

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time

import fakes
import pytest
from launching import wait_for

from alexnet_jax.commands import flags
from alexnet_jax.commands.study import study
from alexnet_jax.runtime.errors import StoppedError, UserError

# Stands in for launch.py: writes what a run writes, fails, or waits for a signal, as its variant says.
LAUNCH = """
import json, os, pathlib, shutil, signal, sys, time
trained, variant, seed, workdir, mode, calls = sys.argv[1:]
run = pathlib.Path(workdir)
with open(calls, 'a') as file:
    print(variant, seed, mode, file=file)
if variant == 'waits':
    time.sleep(60)
if variant == 'ignores':
    os.kill(os.getppid(), signal.SIGHUP), os.kill(os.getpid(), signal.SIGHUP)
if variant == 'fails' or (variant, mode) == ('fails_in_eval', 'eval'):
    sys.exit(2)
if mode == 'train' and not run.exists():
    shutil.copytree(trained, run)
    config = json.loads((run / 'config.json').read_text())
    config.update(name='digits' if variant == 'base' else f'digits:{variant}', seed=int(seed))
    (run / 'config.json').write_text(json.dumps(config))
if mode == 'eval':
    step = json.loads((run / 'metrics.jsonl').read_text().splitlines()[-1])['step']
    views = {'center': {'top1_error': 0.1 + 0.01 * int(seed), 'top5_error': 0.01}}
    found = {'step': step, 'epoch': 3, 'source': 'digits', 'split': 'validation', 'examples': 360, 'views': views}
    (run / 'eval.json').write_text(json.dumps(found))
"""


@pytest.fixture
def made(trained, tmp_path):
    """made(variants, seeds): what a study printed; and the calls so far."""
    calls = tmp_path / 'calls'
    calls.touch()

    def command(variant, seed, workdir, mode):
        return [sys.executable, '-c', LAUNCH, str(trained[1]), variant, str(seed), workdir, mode, str(calls)]

    def made(variants, seeds, views=('center',), failed=0):
        console = fakes.console()
        lacking = pytest.raises(UserError, match=f'^{failed} of {len(variants) * len(seeds)} runs did not finish')
        with lacking if failed else contextlib.nullcontext():
            study(variants, seeds, str(tmp_path / 'study'), 'validation', views, command, console)
        return console.file.getvalue()

    made.calls = lambda: calls.read_text().splitlines()
    made.directory = tmp_path / 'study'
    return made


def comparison(made):
    return json.loads((made.directory / 'comparison.json').read_text())


def test_all_seeds_of_all_variants_are_trained_evaluated_and_compared(made):
    said = made(['base', 'deeper'], [0, 7])
    trials = ['base 0', 'deeper 0', 'base 7', 'deeper 7']
    assert made.calls() == [f'{trial} {mode}' for trial in trials for mode in ('train', 'eval')]
    assert 'deeper, seed 0: run 2 of 4' in said
    found = comparison(made)
    assert [one['name'] for one in found['variants']] == ['digits', 'digits:deeper']
    assert [len(one['workdirs']) for one in found['variants']] == [2, 2] and found['notes'] == []
    assert found['variants'][0]['top1_error']['mean'] == pytest.approx(0.135)
    assert (made.directory / 'figures' / 'comparison.png').exists()


def test_what_is_done_is_not_done_again(made):
    made(['base'], [0])
    before = len(made.calls())
    made(['base'], [0, 1])
    assert made.calls()[before:] == ['base 0 train', 'base 1 train', 'base 1 eval']  # launch.py checks what has ended


def test_of_a_log_of_any_length_the_last_line_tells_what_is_done(made, parsed):
    made(['base'], [0])
    log = made.directory / 'base' / 'seed0' / 'metrics.jsonl'
    first = next(line for line in log.read_text().splitlines(keepends=True) if '"train"' in line)
    log.write_text(3000 * first + log.read_text())
    parsed.clear()
    made(['base'], [0])
    assert made.calls()[-1] == 'base 0 train' and len(parsed) < 10


def test_an_evaluation_of_an_earlier_step_is_made_again(made):
    made(['base'], [0])
    path = made.directory / 'base' / 'seed0' / 'eval.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'step': 1}))
    made(['base'], [0])
    assert made.calls()[-1] == 'base 0 eval'


def test_an_evaluation_without_all_views_is_made_again(made):
    made(['base'], [0])
    made(['base'], [0], views=('center', 'ten'))
    assert made.calls()[-1] == 'base 0 eval'


def test_a_run_that_fails_is_named_and_the_rest_goes_on(made):
    said = made(['base', 'fails', 'fails_in_eval', 'deeper'], [0], failed=2)
    assert 'training failed (exit code 2). The study goes on' in said
    found = comparison(made)
    assert [one['name'] for one in found['variants']] == ['digits', 'digits:deeper']
    runs = {name: made.directory / name / 'seed0' for name in ('fails', 'fails_in_eval')}
    assert f'{runs["fails"]} is missing: training failed (exit code 2).' in found['notes']
    assert f'{runs["fails_in_eval"]} is missing: evaluation failed (exit code 2).' in found['notes']


def test_a_run_with_damaged_results_is_named_and_the_rest_goes_on(made):
    made(['base'], [0, 1])
    (made.directory / 'base' / 'seed0' / 'eval.json').write_text('{')
    assert 'eval.json' in made(['base'], [0, 1], failed=1)
    assert len(comparison(made)['variants'][0]['workdirs']) == 1 and 'seed0 is missing' in comparison(made)['notes'][0]


def test_without_a_run_of_the_base_that_is_said(made):
    made(['fails', 'base'], [0], failed=1)
    assert 'there is no run of fails: differences are from another variant.' in comparison(made)['notes']


def test_a_study_of_nothing_but_failures_is_one(made):
    with pytest.raises(UserError, match=r'no run of .* finished'):
        made(['fails'], [0, 1])
    assert not (made.directory / 'comparison.json').exists()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_run_and_the_study(number, made):
    def interrupt():
        wait_for(lambda: 'waits 0 train' in made.calls(), seconds=60)
        os.kill(os.getpid(), number)

    before = signal.signal(number, signal.default_int_handler)  # where the tests run in the background it is ignored
    handlers = signal.getsignal(number)
    threading.Thread(target=interrupt, daemon=True).start()
    start = time.monotonic()
    with pytest.raises(StoppedError) as stopped:
        made(['base', 'waits', 'deeper'], [0])
    assert stopped.value.code == 128 + number and time.monotonic() - start < 50
    assert made.calls()[-1] == 'waits 0 train' and signal.getsignal(number) == handlers
    signal.signal(number, before)


def test_a_study_under_nohup_ignores_what_the_terminal_says_and_so_do_its_runs(made):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        made(['ignores'], [0])
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    'variants, seeds, words',
    [
        (['base', 'deeper', 'base'], [0], '--variants=base,deeper,base names base twice'),
        (['base', ''], [0], '--variants=base, is empty, or has an empty name'),
        ([], [0], '--variants= is empty'),
        (['base'], [1, 1], '--seeds=1,1 names 1 twice'),
    ],
)
def test_lists_that_are_refused(variants, seeds, words, made):
    with pytest.raises(UserError, match=words):
        made(variants, seeds)
    assert not made.directory.exists()


def test_the_directory_of_a_run_is_refused(trained):
    with pytest.raises(UserError, match='is the directory of a run'):
        study(['base'], [0], str(trained[1]), 'validation', ('center',), None, fakes.console())


def test_the_command_of_a_run_is_that_of_the_study_for_one_variant_and_seed(monkeypatch):
    study_command = (
        'launch.py --mode study --config=experiments/paper.py --variants=base,tanh --config.epochs=3 --seeds=0'
    )
    monkeypatch.setattr(sys, 'argv', [*study_command.split(), '--workdir=a b', '--config.data.directory=d e'])
    own = ['--config.epochs=3', '--config.data.directory=d e', '--config.seed=4', '--workdir=w', '--mode=eval']
    python = [sys.executable, 'launch.py']
    assert flags.command_of_run('tanh', 4, 'w', 'eval') == [*python, '--config=experiments/paper.py:tanh', *own]
    assert flags.command_of_run('base', 4, 'w', 'eval') == [*python, '--config=experiments/paper.py', *own]


@pytest.mark.parametrize('flag', ['--from_start', '--from_start=True', '-from_start'])
def test_a_run_starts_anew_only_where_no_checkpoint_is_left(flag, monkeypatch, tmp_path):
    (tmp_path / 'whole' / 'checkpoints' / '12').mkdir(parents=True)
    (tmp_path / 'lost' / 'checkpoints' / 'leftover').mkdir(parents=True)
    argv = ['launch.py', '--mode=study', flag, '--config=a.py', '--config.epochs=3', f'--workdir={tmp_path}']
    monkeypatch.setattr(sys, 'argv', argv)
    whole, lost = (flags.command_of_run('base', 0, str(tmp_path / name), 'train') for name in ('whole', 'lost'))
    assert flag in lost and [one for one in lost if one != flag] == [one.replace('whole', 'lost') for one in whole]


@pytest.mark.parametrize('given, words', [(['0', 'x'], "'x' is not a whole number"), (['-1'], "'-1' is not")])
def test_seeds_that_are_no_numbers(given, words, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['launch.py'])
    with pytest.raises(UserError, match=words):
        flags.seeds(given)
    assert flags.seeds(['3', '12']) == [3, 12]


def test_a_seed_given_twice(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['launch.py'])
    with pytest.raises(UserError, match='--seeds=1,2,01 names 1 twice'):
        flags.seeds(['1', '2', '01'])


def test_a_seed_outside_the_list_of_seeds(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['launch.py', '--config=x.py', '--config.seed=3'])
    with pytest.raises(UserError, match='this mode takes its seeds from --seeds'):
        flags.seeds(['0'])


def test_a_study_by_its_command(trained, forked, tmp_path):
    """The run has been trained, which is only checked; it is evaluated and compared."""
    config, workdir = trained
    shutil.copytree(workdir, tmp_path / 'study' / 'base' / 'seed0')
    file = tmp_path / 'small.py'
    file.write_text(
        f'import sys\nsys.path.append({os.path.dirname(__file__)!r} + "/..")\nfrom small_run import get_config\n'
    )
    small = (f'--config={file}', f'--config.data.directory={config.data.directory}')
    ended = forked.launch('--mode=study', *small, f'--workdir={tmp_path}/study').succeeded()
    assert 'base, seed 0: run 1 of 1' in ended.out and 'Ended after step 135' in ended.out
    found = json.loads((tmp_path / 'study' / 'comparison.json').read_text())
    assert (found['base'], found['measurement']['views']) == ('digits', 'ten')
