"""The command line as a user drives it: each test runs `python launch.py ...` and looks at what it says and leaves.

The runs are short, their networks tiny; compiled programs are shared between them through JAX's cache on disk,
without which the tests would mostly wait for the compiler, and compiled in haste. Apart from that the processes get no
JAX_ or XLA_ variable but those that a test is about. Where an NVIDIA driver is found, they run on the GPU. Where it
does not matter how a process begins, it is forked from one that has imported everything.
"""

import concurrent.futures
import contextlib
import fcntl
import json
import math
import os
import pathlib
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading

import jax
import numpy as np
import pytest
from configs import typed
from launching import Ended, environment, wait_for
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from alexnet_jax.runs.build import build
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runtime import devices
from experiments import digits

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGITS = '--config=experiments/digits.py'
TRAINING, VALIDATION = 1437, 360
BATCH, EPOCHS = 64, 3
STEPS = math.ceil(EPOCHS * TRAINING / BATCH)
EPOCH_ENDS = [math.ceil(epoch * TRAINING / BATCH) for epoch in range(1, EPOCHS + 1)]
TINY = {
    'batch_size': BATCH,
    'epochs': EPOCHS,
    'checkpoint_every_steps': 5,
    'keep_checkpoints': 2,
    'learning_rate': 0.02,
    'rate_control.schedule': ((2, 0.007),),
    'network.conv1.kernels': 16,
    'network.conv2.kernels': 16,
    'network.conv3.kernels': 16,
    'network.conv4.kernels': 16,
    'network.conv5.kernels': 16,
    'network.fc6.units': 64,
    'network.fc7.units': 64,
    'network.conv1.std': 0.02,
    'network.conv2.std': 0.1,
    'network.conv3.std': 0.15,
    'network.conv4.std': 0.15,
    'network.conv5.std': 0.15,
    'network.fc6.std': 0.3,
    'network.fc7.std': 0.15,
    'network.fc8.std': 0.1,
}
on_cpu_by_itself = pytest.mark.skipif(devices._has_nvidia_driver(), reason='there is an NVIDIA driver')


def flags(fields):
    return [f'--config.{name}={value}' for name, value in fields.items()]


def tiny(workdir, data, **more):
    """The arguments of a tiny run; `more` overrides fields."""
    return [f'--workdir={workdir}', DIGITS, *flags(TINY | {'data.directory': data} | more)]


@pytest.fixture(scope='module')
def start():
    """Starts `python launch.py ...`; all that are still running at the end of the module are killed."""
    started = []

    def start(*arguments, variables=None, cwd=ROOT, **more):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / 'launch.py'), *map(str, arguments)],
            cwd=cwd,
            env=environment(**(variables or {})),
            **{'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **more},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(scope='module')
def launch_anew(start):
    """Runs it in a process that begins as a user's does."""

    def launch_anew(*arguments, **more):
        process = start(*arguments, **more)
        out, err = process.communicate(timeout=300)
        return Ended(process.returncode, out.decode(), err.decode())

    return launch_anew


@pytest.fixture(scope='module')
def launch(forked):
    return forked.launch


@pytest.fixture(scope='module')
def all_at_once(request):
    """Of a test with many parameters, runs `work(parameter)` for all that were selected, two at a time."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:

        def all_at_once(test, work):
            items = [item for item in request.session.items if item.path == request.path]
            parameters = [item.callspec.params['case'] for item in items if item.originalname == test]
            return {parameter: pool.submit(work, parameter) for parameter in parameters}

        yield all_at_once
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return tmp_path_factory.mktemp('runs')


@pytest.fixture(scope='module')
def data(place):
    """Prepared by the first run."""
    return place / 'prepared' / 'digits'


@pytest.fixture(scope='module')
def undisturbed(launch_anew, place, data):
    """A run of three epochs in one go: its workdir, and what it printed."""
    workdir = place / 'not' / 'there' / 'undisturbed'
    return workdir, launch_anew(*tiny(workdir, data)).succeeded()


@pytest.fixture(scope='module')
def finished(undisturbed):
    return undisturbed[0]


def metrics(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def files(directory):
    """All that is below a directory, by path: the bytes of files, None for directories."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob('*'))
    }


def checkpoints(workdir):
    return sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir() if path.name.isdigit())


def restored(workdir, step):
    """A checkpoint's arrays by name, and its progress."""
    config = digits.get_config()
    config.update_from_flattened_dict(TINY | {'mesh.data': 1, 'mesh.column': 1})
    experiment = build(typed(config))
    state, progress = Checkpoints(workdir, read_only=True).restore(step, experiment.shapes, experiment.mesh)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}, progress


# What a run leaves.


def test_train_leaves_the_config_in_force(finished, data):
    config = digits.get_config()
    config.update_from_flattened_dict(TINY | {'data.directory': str(data)})
    written = json.loads((finished / 'config.json').read_text())
    assert written == json.loads(json.dumps(config.to_dict()))
    assert written['network']['conv1']['kernels'] == 16 and written['rate_control']['schedule'] == [[2, 0.007]]


def test_train_leaves_checkpoints(finished):
    validated = {line['step']: line['top1_error'] for line in metrics(finished) if line['split'] == 'validation'}
    best = min(sorted(validated, reverse=True), key=validated.get)  # of equal ones the latest
    newest = STEPS - 1 - (STEPS - 1) % 5
    assert checkpoints(finished) == sorted({best, newest, STEPS})
    _, progress = restored(finished, STEPS)
    assert (progress.step, progress.epoch) == (STEPS, EPOCHS)
    assert (progress.control.learning_rate, progress.control.best_error) == (0.007, validated[best])


def test_train_leaves_metrics(finished):
    lines = metrics(finished)
    common = {'step', 'epoch', 'split', 'loss', 'top1_error', 'top5_error'}
    for line in lines:
        color = {'color_column1', 'color_column2'}
        more = {'learning_rate', 'images_per_second'} if line['split'] == 'train' else color
        assert set(line) == common | more
        assert 0 <= line['top5_error'] <= line['top1_error'] <= 1
        assert 0 < line['loss'] < 100
        assert line['epoch'] == pytest.approx(line['step'] * BATCH / TRAINING, abs=1e-6)
    train = [line for line in lines if line['split'] == 'train']
    steps = [line['step'] for line in train]
    assert steps == sorted({*EPOCH_ENDS, *range(5, STEPS + 1, 5)})
    assert all(line['images_per_second'] > 0 for line in train)
    assert [line['learning_rate'] for line in train] == [0.02 if step <= EPOCH_ENDS[1] else 0.007 for step in steps]
    assert [line['step'] for line in lines if line['split'] == 'validation'] == EPOCH_ENDS
    assert [line['step'] for line in lines] == sorted(line['step'] for line in lines)
    # The error of a window is a mean over its batches, that of a validation over 360 images: whole numbers of images.
    for before, line in zip([{'step': 0}, *train], train, strict=False):
        wrong = line['top1_error'] * BATCH * (line['step'] - before['step'])
        assert wrong == pytest.approx(round(wrong), abs=1e-3)
    for line in lines:
        if line['split'] == 'validation':
            assert line['top1_error'] * VALIDATION == pytest.approx(round(line['top1_error'] * VALIDATION), abs=1e-6)
    assert train[-1]['loss'] < math.log(10)  # what guessing costs


def scalars(workdir):
    """(step, tag) -> value from TensorBoard's files, without TensorFlow: length, checksum, record, checksum."""
    found = {}
    for path in sorted((workdir / 'tensorboard').iterdir()):
        content, position = path.read_bytes(), 0
        while position + 8 <= len(content):
            (length,) = struct.unpack_from('<Q', content, position)
            if position + 16 + length > len(content):  # cut off by a kill
                break
            event = Event.FromString(content[position + 12 : position + 12 + length])
            position += 16 + length
            if event.session_log.status == SessionLog.START:  # what came before from this step on is void
                found = {key: value for key, value in found.items() if key[0] < event.step}
            for value in event.summary.value:
                assert (event.step, value.tag) not in found
                found[event.step, value.tag] = value.simple_value
    return found


def logged(workdir):
    """What `scalars` should find."""
    return {
        (line['step'], f'{line["split"]}/{name}'): value
        for line in metrics(workdir)
        for name, value in line.items()
        if name not in ('step', 'epoch', 'split')
    }


def test_tensorboard_holds_what_metrics_does(finished):
    expected = logged(finished)
    assert len(expected) > 50
    assert scalars(finished) == pytest.approx(expected, rel=1e-6)


def test_plain_lines_where_there_is_no_terminal(undisturbed):
    _, ended = undisturbed
    assert not re.search(r'[\x1b\r\b]', ended.out + ended.err)
    lines = ended.out.splitlines()
    train = [line for line in lines if line.startswith('training: ')]
    assert [int(re.match(rf'training: step (\d+)/{STEPS}, ', line)[1]) for line in train] == [
        line['step'] for line in metrics(undisturbed[0]) if line['split'] == 'train'
    ]
    assert all('images/s' in line and 'loss' in line and 'learning rate 0.0' in line for line in train)
    assert sum(line.startswith('epoch ') and 'validation' in line for line in lines) == EPOCHS
    assert sum('0.02 -> 0.007' in line for line in lines) == 1
    assert lines[-1].startswith(f'Ended after step {STEPS}, epoch {EPOCHS}')


@on_cpu_by_itself
def test_says_once_that_the_cpu_is_used_and_has_nothing_to_complain_of(undisturbed):
    _, ended = undisturbed
    assert ended.out.startswith('Running on the CPU (no NVIDIA driver found).\n')
    assert ended.out.count('CPU') == 1
    assert 'cuda' not in (ended.out + ended.err).lower()


# Carrying on.


def test_a_finished_run_is_left_as_it_is(launch, finished, data):
    before = files(finished)
    again = launch(*tiny(finished, data)).succeeded()
    assert f'from step {STEPS}, epoch {EPOCHS}' in again.out
    assert f'Ended after step {STEPS}, epoch {EPOCHS}' in again.out
    assert 'training:' not in again.out and 'validation:' not in again.out
    now = files(finished)
    assert {name: now[name] for name in before} == before
    assert all(name.startswith('tensorboard/') for name in now.keys() - before.keys())


@pytest.fixture(scope='module')
def in_two_halves(launch, place, data, finished):
    """One epoch, then the command again with three: the workdir and both processes."""
    workdir = place / 'halves'
    first = launch(*tiny(workdir, data, epochs=1)).succeeded()
    assert json.loads((workdir / 'config.json').read_text())['epochs'] == 1
    assert checkpoints(workdir)[-1] == EPOCH_ENDS[0]
    return workdir, first, launch(*tiny(workdir, data)).succeeded()


@pytest.fixture(scope='module')
def killed(forked, place, data, finished):
    """Killed in the middle, as by a power cut, and with a last line cut short; then the command again."""
    workdir = place / 'killed'
    process = forked.start(*tiny(workdir, data))
    wait_for(lambda: (workdir / 'checkpoints').exists() and checkpoints(workdir), process)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    last = checkpoints(workdir)[-1]
    assert last < STEPS
    with (workdir / 'metrics.jsonl').open('a') as file:
        file.write(json.dumps({'step': STEPS + 1, 'split': 'train', 'loss': 0}) + '\n{"step": 12, "epo')
    return workdir, last, forked.launch(*tiny(workdir, data)).succeeded()


BAR = re.compile(rf'training .* \d+/{STEPS} loss \d+\.\d+, rate 0\.02, \d+ images/s')
VALIDATED = re.compile(r'epoch 1, validation: loss .*, top-1 error .*%, top-5 error .*%')


def readable(screen):
    """What a terminal was sent, without the codes that move its cursor and color its text."""
    return re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', screen.decode(errors='ignore'))


@pytest.fixture(scope='module')
def on_a_terminal(start, launch, place, data, finished):
    """On a terminal, with Ctrl-C in the middle: its screen; then the command again."""
    workdir = place / 'terminal'
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 120, 0, 0))
    # A shell's background job ignores Ctrl-C, and its children inherit that: not so this run.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start(
        *tiny(workdir, data), variables={'TERM': 'xterm-256color'}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    signal.signal(signal.SIGINT, before)
    os.close(theirs)
    screen = bytearray()

    def read():
        with contextlib.suppress(OSError):  # Linux says so when the last writer has gone
            while piece := os.read(ours, 65536):
                screen.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    wait_for(lambda: b'epoch 1, validation' in screen, process)  # the whole run takes a second or two
    process.send_signal(signal.SIGINT)
    process.wait(timeout=120)
    reader.join(timeout=60)
    os.close(ours)
    last = checkpoints(workdir)[-1]
    assert last < STEPS
    return workdir, process.returncode, bytes(screen), launch(*tiny(workdir, data)).succeeded()


@pytest.mark.parametrize('how', ['in_two_halves', 'killed', 'on_a_terminal'])
def test_an_interrupted_run_equals_the_undisturbed_one(how, finished, request):
    workdir = request.getfixturevalue(how)[0]
    assert checkpoints(workdir) == checkpoints(finished)
    for step in checkpoints(finished):
        arrays, progress = restored(finished, step)
        other_arrays, other_progress = restored(workdir, step)
        assert other_progress == progress
        assert arrays.keys() == other_arrays.keys() and len(arrays) == 33
        for name, array in arrays.items():
            assert other_arrays[name].tobytes() == array.tobytes(), name

    def without_speed(line):
        return {name: value for name, value in line.items() if name != 'images_per_second'}

    assert list(map(without_speed, metrics(workdir))) == list(map(without_speed, metrics(finished)))
    assert json.loads((workdir / 'config.json').read_text()) == json.loads((finished / 'config.json').read_text())
    assert scalars(workdir) == pytest.approx(logged(workdir), rel=1e-6)


def test_arrays_do_change_from_checkpoint_to_checkpoint(finished):
    before, after = (restored(finished, step)[0] for step in checkpoints(finished)[-2:])
    assert all((before[name] != after[name]).any() for name in before)


def test_more_epochs_carry_on_from_the_newest_checkpoint(in_two_halves):
    _, first, second = in_two_halves
    half = EPOCH_ENDS[0]
    assert 'from the start' in first.out and f'Ended after step {half}, epoch 1' in first.out
    assert f'from step {half}, epoch 1' in second.out
    assert re.findall(r'training: step (\d+)/', second.out)[0] == str(half + 2)


def test_a_killed_run_says_where_it_carries_on(killed):
    _, last, again = killed
    assert f'from step {last}, ' in again.out


def test_a_terminal_shows_a_bar(on_a_terminal):
    _, _, screen, _ = on_a_terminal
    text = readable(screen)
    assert BAR.search(text) and '━' in text, text
    assert VALIDATED.search(text)
    assert 'training: step' not in text  # the bar says it


def test_ctrl_c_ends_a_run_quietly(on_a_terminal):
    _, code, screen, _ = on_a_terminal
    assert code == 130
    assert b'Traceback' not in screen
    assert b'resumes' in screen.splitlines()[-1]
    assert screen.rfind(b'\x1b[?25h') > screen.rfind(b'\x1b[?25l')  # the cursor is back


# Evaluation.


@pytest.fixture(scope='module')
def evaluate(launch, finished, data, tmp_path_factory):
    """Evaluates in a copy of the finished run: what is printed, and eval.json."""

    def evaluate(*more, **fields):
        workdir = tmp_path_factory.mktemp('evaluate')
        for name in ('checkpoints', 'data_set'):
            shutil.copytree(finished / name, workdir / name)
        # On the CPU, where any mesh can be had, and where a GPU's rounding does not enter the comparison.
        ended = launch(*tiny(workdir, data, **fields), '--mode=eval', *more, environment={'JAX_PLATFORMS': 'cpu'})
        return ended.succeeded().out, json.loads((workdir / 'eval.json').read_text())

    return evaluate


def counts(result):
    """Wrong images, by view and error."""
    return {
        (view, top): errors[top] * VALIDATION
        for view, errors in result['views'].items()
        for top in ('top1_error', 'top5_error')
    }


@pytest.fixture(scope='module')
def evaluated(evaluate):
    return evaluate()


def test_eval_prints_and_writes_the_errors(evaluated):
    out, result = evaluated
    assert (result['step'], result['epoch'], result['examples']) == (STEPS, EPOCHS, VALIDATION)
    assert (result['source'], result['split']) == ('digits', 'validation')
    assert set(result) == {'step', 'epoch', 'source', 'split', 'examples', 'classes', 'views'}
    assert list(result['views']) == ['center', 'ten']
    assert 'top-1 error' in out and 'top-5 error' in out
    for view, errors in result['views'].items():
        assert {'top1_error', 'top5_error'} <= set(errors)
        assert 0 <= errors['top5_error'] <= errors['top1_error'] < 0.9  # it has learned something
        kind = {'center': 'center', 'ten': 'five, not mirrored'}[view]  # as digits are not mirrored
        (row,) = (line for line in out.splitlines() if kind in line and '%' in line)
        assert f' {errors["top1_error"]:.2%} ' in row and f' {errors["top5_error"]:.2%} ' in row
    for count in counts(result).values():
        assert count == pytest.approx(round(count), abs=1e-6)
    assert result['views']['center'] != result['views']['ten']


def test_eval_agrees_with_the_validation_in_training(evaluated, finished):
    center, line = evaluated[1]['views']['center'], metrics(finished)[-1]
    assert (line['split'], line['step']) == ('validation', STEPS)
    tolerance = 1.01 / VALIDATION if devices._has_nvidia_driver() else 0  # there it was trained on the GPU
    for name in ('top1_error', 'top5_error'):
        assert center[name] == pytest.approx(line[name], abs=tolerance)


def test_an_odd_environment_changes_no_number(launch_anew, finished, data, evaluated, tmp_path):
    """`tests/environments.py` tries all of it one by one, in all modes."""
    variables = {
        'JAX_ENABLE_X64': '1',
        'JAX_NUMPY_RANK_PROMOTION': 'raise',
        'JAX_NUMPY_DTYPE_PROMOTION': 'strict',
        'JAX_DISABLE_JIT': '1',
        'PYTHONWARNINGS': 'error',
        'PYTHONOPTIMIZE': '2',
        'PYTHONIOENCODING': 'ascii',
        'LC_ALL': 'C',
        'TERM': 'dumb',
        'FORCE_COLOR': '1',
        'COLUMNS': '30',
        'HOME': '/dev/null',
        'TMPDIR': str(tmp_path / 'missing'),
        'OMP_NUM_THREADS': '1',
    }
    output = tmp_path / 'ch\xe2t\n2'
    arguments = [*tiny(finished, data), '--mode=eval', f'--output={output}']
    ended = launch_anew(*arguments, variables=variables)
    assert ended.code == 0 and 'Traceback' not in ended.err, ended.err
    assert json.loads((output / 'eval.json').read_text()) == evaluated[1]
    assert ended.out.count(' is ignored: what is computed') == 4
    assert all(f'{errors["top1_error"]:.2%}' in ended.out for errors in evaluated[1]['views'].values())


# By name: fields, and more arguments. The run was written with batches of 64, on one device.
BATCHES_AND_MESHES = {
    'batch 7': ({'batch_size': 7}, ['--checkpoint=newest']),
    'batch 512': ({'batch_size': 512}, [f'--checkpoint={STEPS}']),
    'batch 100, column 2': ({'batch_size': 100, 'mesh.column': 2}, []),
    'batch 360, data 2': ({'batch_size': 360, 'mesh.data': 2}, []),
}


@pytest.fixture(scope='module')
def evaluations(all_at_once, evaluate):
    def work(case):
        fields, more = BATCHES_AND_MESHES[case]
        return evaluate(*more, **fields)

    return all_at_once('test_eval_counts_the_same_whatever_the_batch_and_the_mesh', work)


@pytest.mark.parametrize('case', BATCHES_AND_MESHES)
def test_eval_counts_the_same_whatever_the_batch_and_the_mesh(case, evaluations, evaluated):
    out, result = evaluations[case].result()
    assert ('simulating 2 devices' in out) == (',' in case)
    assert result['examples'] == VALIDATION
    assert result['step'] == STEPS
    assert counts(result) == counts(evaluated[1])
    for view in ('center', 'ten'):
        assert result['views'][view]['loss'] == pytest.approx(evaluated[1]['views'][view]['loss'], rel=1e-5)


def test_eval_of_the_best_checkpoint(evaluate, finished):
    lines = [line for line in metrics(finished) if line['split'] == 'validation']
    best = min(reversed(lines), key=lambda line: line['top1_error'])
    _, result = evaluate('--checkpoint=best', **{'evaluation.views': "('center',)"})
    assert result['step'] == best['step'] and list(result['views']) == ['center']
    tolerance = 1.01 / VALIDATION if devices._has_nvidia_driver() else 0
    assert result['views']['center']['top1_error'] == pytest.approx(best['top1_error'], abs=tolerance)


def test_eval_of_a_step(evaluate, evaluated, finished):
    step = checkpoints(finished)[-2]
    _, result = evaluate(f'--checkpoint={step}', **{'evaluation.views': "('center',)"})
    assert result['step'] == step
    assert result['views']['center']['loss'] != evaluated[1]['views']['center']['loss']


# The other modes.


def test_inspect_prints_the_network_its_places_and_exchanges(launch_anew, tmp_path):
    arguments = [f'--config={ROOT / "experiments" / "paper.py"}', '--mode=inspect', '--config.mesh.column=2']
    ended = launch_anew(*arguments, cwd=tmp_path, variables={'JAX_PLATFORMS': 'cpu'}).succeeded()
    assert 'simulating 2 devices' in ended.out
    rows = [line.split() for line in ended.out.splitlines()]
    assert ['sum', '60,965,224', '724,406,816'] in rows
    assert ['fc6/kernel', '2x9216x2048', 'column', '1', 'column', '2'] in rows
    assert sum(row[2:] == ['column', '1', 'column', '2'] for row in rows) == 16  # eight kernels, eight biases
    # Forward into conv3: what the partner's column made of 128 images, 13 x 13 x 128 of 4 bytes each.
    assert ['column', 'all-gather', 'f32[128,13,13,256]', '11,075,584', '86,528'] in rows
    assert list(tmp_path.iterdir()) == []  # it needs no workdir and leaves nothing


def test_inspect_on_one_device(launch_anew, tmp_path):
    arguments = [f'--config={ROOT / "experiments" / "digits.py"}', '--mode=inspect']
    ended = launch_anew(*arguments, cwd=tmp_path, variables={'JAX_PLATFORMS': 'cpu'}).succeeded()
    assert ended.out.count('columns 1, 2') == 16
    assert 'no device needs another' in ended.out
    assert list(tmp_path.iterdir()) == []


def test_figures_are_drawn(launch, finished, data):
    ended = launch(*tiny(finished, data), '--mode=figures').succeeded()
    written = sorted((finished / 'figures').iterdir())
    pictures = {
        'color.png',
        'kernels.png',
        'learning_curves.png',
        'network.png',
        'network_narrow.png',
        'predictions.png',
    }
    assert {path.name for path in written if path.suffix == '.png'} == pictures
    for path in [path for path in written if path.suffix == '.png']:
        assert str(path) in ended.out
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert('RGB'))
        assert min(pixels.shape[:2]) > 100
        inked = (pixels != pixels[0, 0]).any(axis=-1)
        assert 0.01 < inked.mean() < 0.99
        assert len(np.unique(pixels[inked], axis=0)) > 20


# Mistakes.

CONFIGS = {
    'syntax.py': 'def get_config(:\n    pass\n',
    'value.py': "def get_config():\n    raise ValueError('seven is not even')\n",
    'key.py': "def get_config():\n    return {}['lerning_rate']\n",
    'division.py': 'def get_config():\n    return 1 / 0\n',
    'import.py': 'import not_to_be_found\n\n\ndef get_config():\n    return None\n',
    'without.py': 'config = 3\n',
    'nothing.py': 'def get_config():\n    pass\n',
    'dictionary.py': "def get_config():\n    return {'seed': 0}\n",
    'typo.py': "from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({'sede': 0})\n",
}
# By name: the arguments besides a --workdir that does not exist yet, and words that the message must hold.
MISTAKES = {
    'unknown field': ([DIGITS, '--config.lerning_rate=0.1'], ['lerning_rate', "'learning_rate'"]),
    'unknown field of a layer': ([DIGITS, '--config.network.conv1.kernel=8'], ['conv1.kernel', "'kernels'"]),
    'mistyped number': ([DIGITS, '--config.learning_rate=fast'], ['config.learning_rate', 'fast']),
    'fraction for a whole number': ([DIGITS, '--config.epochs=1.5'], ['config.epochs', '1.5']),
    'mistyped tuple': ([DIGITS, '--config.rate_control.schedule=((5,'], ['config.rate_control.schedule']),
    'unknown config file': (['--config=experiments/nothing.py'], ['experiments/nothing.py', 'no such file']),
    'empty config': (['--config='], ['--config']),
    'config: syntax': (['--config={tmp}/syntax.py'], ['syntax.py', 'line 1', 'invalid syntax']),
    'config: ValueError': (['--config={tmp}/value.py'], ['value.py', 'seven is not even', 'line 2']),
    'config: KeyError': (['--config={tmp}/key.py'], ['key.py', 'lerning_rate']),
    'config: ZeroDivisionError': (['--config={tmp}/division.py'], ['division.py', 'division by zero']),
    'config: ImportError': (['--config={tmp}/import.py'], ['import.py', 'not_to_be_found']),
    'config: no get_config': (['--config={tmp}/without.py'], ['without.py', 'get_config']),
    'config: returns a dict': (['--config={tmp}/dictionary.py'], ['dictionary.py']),
    'config: unknown field': (['--config={tmp}/typo.py'], ['config.sede', "'seed'"]),
    'unknown variant': (['--config=experiments/paper.py:litteral'], ['litteral', 'literal']),
    'variant where there is none': (['--config=tests/three_layers.py:big'], ['three_layers.py:big', 'no variants']),
    'unknown variant of digits': (['--config=experiments/digits.py:big'], ['big', 'no_dropout']),
    'no config': ([], ['--config']),
    'fields without a config': (['--config.epochs=3'], ['--config=']),
    'stray argument': ([DIGITS, 'runs'], ["'runs'"]),
    'unknown flag': ([DIGITS, '--wrkdir=runs'], ['no flag --wrkdir; did you mean --workdir?']),
    'unknown mode': ([DIGITS, '--mode=trian'], ["--mode=trian: there is no such mode; did you mean 'train'?"]),
    'unknown mode unlike any': ([DIGITS, '--mode=xyz'], ['--mode=xyz', 'there are train, eval, predict,']),
    'address as workdir': ([DIGITS, '--workdir=gs://bucket/run'], ["'gs://bucket/run' is an address; only local"]),
    'address as pictures': (
        [DIGITS, '--mode=predict', '--images=a.jpg,s3://bucket/b.jpg'],
        ["'s3://bucket/b.jpg' is an address"],
    ),
    'address as data': ([DIGITS, '--config.data.directory=hdfs://n/x'], ["config.data.directory: 'hdfs://n/x' is an"]),
    'home of nobody': ([DIGITS, '--workdir=~nobody-of-that-name/x'], ["no home directory of '~nobody-of-that-name'"]),
    'quotes left open': ([DIGITS, '--mode=predict', '--images="a.jpg'], ['--images']),
    'no ImageNet': (
        ['--config=experiments/paper.py', '--config.data.directory={tmp}/imagenet'],
        [
            'ILSVRC2012_img_train.tar',
            'ILSVRC2012_img_val.tar',
            'image-net.org',
            '{tmp}/imagenet',
            'python launch.py --workdir=runs/digits --config=experiments/digits.py',
        ],
    ),
    'half of all formats': ([DIGITS, '--mode=export', '--to=onnx', '--half'], ['--half is for --to=safetensors']),
    'an ensemble of one': (['--mode=eval', '--ensemble={tmp}/a,{tmp}/b/../a'], ['names {tmp}/a twice']),
    'data below a file': ([DIGITS, '--config.data.directory={tmp}/syntax.py/digits'], ['syntax.py/digits']),
    'batch over copies': ([DIGITS, '--config.batch_size=5', '--config.mesh.data=2'], ['batch_size=5', 'mesh.data']),
    'columns over kernels': ([DIGITS, '--config.network.conv2.kernels=9'], ['conv2.kernels=9', 'columns, 2']),
    'columns over units': ([DIGITS, '--config.columns=3', '--config.network.conv1.kernels=33'], ['columns, 3']),
    'columns over devices': ([DIGITS, '--config.mesh.column=3'], ['config.mesh.column=3', 'columns, 2']),
    'window that does not fit': ([DIGITS, '--config.data.crop_size=20'], ['pool5', '3 x 3', '1 x 1']),
    'schedule out of order': (
        [DIGITS, '--config.rate_control.schedule=((5, 0.1), (3, 0.01))'],
        ['rate_control.schedule', 'ascending'],
    ),
    'schedule without pairs': (
        [DIGITS, '--config.rate_control.schedule=(5,)'],
        ['rate_control.schedule', 'pairs', '5'],
    ),
    'unknown views': ([DIGITS, "--config.evaluation.views=('five',)"], ["'five'", 'center', 'ten']),
    'seed beyond 64 bits': ([DIGITS, '--config.seed=99999999999999999999'], ['config.seed']),
}


@pytest.fixture(scope='module')
def mistakes(all_at_once, launch, tmp_path_factory):
    def work(case):
        directory = tmp_path_factory.mktemp('mistake')
        for name, text in CONFIGS.items():
            (directory / name).write_text(text)
        before = files(directory)
        arguments = [argument.format(tmp=directory) for argument in MISTAKES[case][0]]
        # On simulated devices, so that a mesh of any size can be asked for.
        environment = {'JAX_PLATFORMS': 'cpu'} if any('mesh' in argument for argument in arguments) else None
        ended = launch(f'--workdir={directory / "run"}', *arguments, environment=environment)
        shutil.rmtree(directory / '__pycache__', ignore_errors=True)  # of the config files
        return directory, ended, before, files(directory)

    return all_at_once('test_a_mistake_ends_in_one_message_and_leaves_nothing', work)


@pytest.mark.parametrize('case', MISTAKES)
def test_a_mistake_ends_in_one_message_and_leaves_nothing(case, mistakes):
    directory, ended, before, after = mistakes[case].result()
    assert after == before
    ended.failed(*(word.format(tmp=directory) for word in MISTAKES[case][1]))


WITHOUT_JAX = """import runpy, sys

sys.modules['jax'] = None
runpy.run_path('launch.py', run_name='__main__')
"""


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--mode=trian'], "did you mean 'train'?"),
        ([DIGITS, '--config.batch_size=0'], 'batch_size=0 must be above 0'),
        (['--config=experiments/paper.py', '--config.data.directory=nowhere'], 'there is no prepared data set in'),
        (['--mode=predict', '--images=nowhere.jpg'], 'is not the directory of a run'),
        (['--mode=eval'], 'is not the directory of a run'),
        (['--mode=eval', '--ensemble=nowhere'], 'is not the directory of a run'),
        (['--mode=compare', '--runs=nowhere'], 'is not the directory of a run'),
        ([DIGITS, '--mode=export', '--to=torch', '--half'], '--to=torch is in float32'),
        ([DIGITS, '--mode=neighbors', '--layer=fc9'], 'fc9'),
        (['--mode=import', '--weights=nowhere'], '--weights=nowhere: there is no such file'),
    ],
    ids=str,
)
def test_common_mistakes_are_found_before_jax_is_imported(arguments, words, tmp_path):
    given = [sys.executable, '-c', WITHOUT_JAX, *arguments, f'--workdir={tmp_path / "run"}']
    ended = subprocess.run(given, cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, '') and words in ended.stderr, ended.stderr


@pytest.mark.parametrize('arguments', [[DIGITS], ['--workdir=', DIGITS], [DIGITS, '--mode=eval']], ids=str)
def test_no_workdir(arguments, launch, tmp_path):
    launch(*arguments, f'--config.data.directory={tmp_path / "data"}').failed('--workdir')
    assert list(tmp_path.iterdir()) == []


def test_homes_are_expanded_and_lists_added_up(launch, finished, data, tmp_path):
    """`~` in every place that names a file; --images in two flags, one name with a comma."""
    (tmp_path / 'run').symlink_to(finished)
    for name in ('a,b.png', 'c.png'):
        Image.new('RGB', (8, 8)).save(tmp_path / name)
    given = ['--workdir=~/run', '--mode=predict', '--json', '--images=~/a,b.png', '--images=~/c.png']
    out = launch(*given, environment={'HOME': str(tmp_path)}).succeeded().out
    assert [json.loads(line)['file'] for line in out.splitlines()] == [
        str(tmp_path / name) for name in ('a,b.png', 'c.png')
    ]
    assert not (ROOT / '~').exists()


def test_config_files_may_come_last(launch, tmp_path):
    fields = [f'--config.data.directory={tmp_path / "data"}', '--config.epochs=0']
    launch(f'--workdir={tmp_path / "run"}', *fields, DIGITS).failed('config.epochs=0 must be above 0')
    launch(f'--workdir={tmp_path / "run"}', *fields, '--config', DIGITS.split('=')[1]).failed('config.epochs=0')


@pytest.mark.parametrize('mode', ['eval', 'figures'])
def test_nothing_to_look_at(mode, launch, finished, data, tmp_path):
    launch(*tiny(tmp_path / 'run', data), f'--mode={mode}').failed(str(tmp_path / 'run'), 'train first')
    assert list(tmp_path.iterdir()) == []


def test_workdir_that_cannot_be_made(launch, finished, data, tmp_path):
    (tmp_path / 'file').write_text('kept')
    launch(*tiny(tmp_path / 'file' / 'run', data)).failed(str(tmp_path / 'file' / 'run'), 'cannot be written')
    assert files(tmp_path) == {'file': b'kept'}


@pytest.mark.parametrize(
    'mode, more, words',
    [
        ('train', ['--config.network.fc7.units=32'], ['network.fc7.units', '64 before', '32 now', '--workdir']),
        ('train', ['--config.seed=3'], ['config.seed', '0 before', '3 now', '--allow_changes=seed']),
        ('eval', ['--config.network.fc7.units=32'], ['fc7/bias', '[2, 32]', '[2, 16]']),
        ('figures', ['--config.network.conv3.kernels=32'], ['conv3/bias', '[2, 8]', '[2, 16]']),
        ('eval', ['--checkpoint=7'], ['--checkpoint=7', 'newest, best', str(STEPS)]),
        ('eval', ['--checkpoint=last'], ['--checkpoint=last', 'newest, best', str(STEPS)]),
        ('train', ['--config.data.image_size=80'], ['config.data.image_size=80', 'image_size=72']),
        ('train', ['--config.network.fc8.units=12'], ['10 classes', 'network.fc8.units=10']),
        ('train', ['--config.lerning_rate=0.1'], ['lerning_rate']),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else value,
)
def test_a_mistake_leaves_a_run_as_it_is(mode, more, words, launch, finished, data):
    before = files(finished)
    launch(*tiny(finished, data), f'--mode={mode}', *more).failed(*words)
    assert files(finished) == before


@on_cpu_by_itself
def test_a_gpu_that_is_not_there(launch_anew, tmp_path):
    ended = launch_anew(f'--workdir={tmp_path / "run"}', DIGITS, variables={'JAX_PLATFORMS': 'cuda'})
    ended.failed('JAX_PLATFORMS')
    assert list(tmp_path.iterdir()) == []
