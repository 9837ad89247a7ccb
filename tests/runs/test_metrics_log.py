"""What a run says: lines of metrics that survive an interruption, the same in TensorBoard, a bar or plain lines."""

import io
import json
import math
import re
import struct
import time
import tracemalloc

import jax.numpy as jnp
import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event, SessionLog

from alexnet_jax.commands.reporting import Reporter
from alexnet_jax.runs import metrics_log
from alexnet_jax.runs.metrics_log import MetricsLog, _cut, last_line, last_lines, last_step, read_metrics, validations
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.progress_bar import Display
from alexnet_jax.training.metrics_window import NotFiniteLossError, Window

VALUES = {'loss': 1 / 3, 'top1_error': 0.5, 'top5_error': 0.125}


def write(workdir, steps, first_step=0):
    log = MetricsLog(workdir, first_step)
    for step in steps:
        log.write(step, step / 7, 'train', VALUES | {'learning_rate': 0.01, 'images_per_second': 10.0 * step})
    log.close()


def steps(workdir):
    return [line['step'] for line in read_metrics(workdir)]


def scalars(workdir):
    """(step, tag) -> value from TensorBoard's files: length, checksum, record, checksum."""
    found = {}
    for path in sorted((workdir / 'tensorboard').iterdir()):
        content, position = path.read_bytes(), 0
        while position < len(content):
            (length,) = struct.unpack_from('<Q', content, position)
            event = Event.FromString(content[position + 12 : position + 12 + length])
            position += 16 + length
            if event.session_log.status == SessionLog.START:  # what came before from this step on is void
                found = {key: value for key, value in found.items() if key[0] < event.step}
            found |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
    return found


def test_lines_hold_what_was_written(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.write(3, 0.1234567890123, 'train', VALUES | {'learning_rate': 0.01, 'images_per_second': 99.5})
    log.write(3, 0.1234567890123, 'validation', VALUES)
    log.close()
    text = (tmp_path / 'metrics.jsonl').read_text()
    assert text.endswith('}\n')
    train, validation = map(json.loads, text.splitlines())
    assert train == {
        'step': 3,
        'epoch': 0.123457,
        'split': 'train',
        **VALUES,
        'learning_rate': 0.01,
        'images_per_second': 99.5,
    }
    assert validation == {'step': 3, 'epoch': 0.123457, 'split': 'validation', **VALUES}
    assert read_metrics(tmp_path) == [train, validation]
    expected = {(3, f'train/{name}'): train[name] for name in train.keys() - {'step', 'epoch', 'split'}}
    expected |= {(3, f'validation/{name}'): value for name, value in VALUES.items()}
    assert scalars(tmp_path) == pytest.approx(expected, rel=1e-6)


def test_flushed_lines_are_on_disk(tmp_path):
    """In metrics.jsonl and in TensorBoard, from where a checkpoint counts on them."""
    log = MetricsLog(tmp_path, 0)
    for step in range(1, 51):  # often, as a background thread may happen to be quick
        log.write(step, 0.1, 'train', VALUES)
        log.flush()
        assert steps(tmp_path) == list(range(1, step + 1))
        assert len(scalars(tmp_path)) == 3 * step
    log.close()


@pytest.mark.parametrize('first_step, kept', [(0, []), (20, [10, 20]), (25, [10, 20]), (40, [10, 20, 30, 40])])
def test_reopening_drops_what_comes_after_the_checkpoint(tmp_path, first_step, kept):
    write(tmp_path, [10, 20, 30, 40])
    before = (tmp_path / 'metrics.jsonl').read_text().splitlines(keepends=True)
    write(tmp_path, [41], first_step)
    after = (tmp_path / 'metrics.jsonl').read_text().splitlines(keepends=True)
    assert steps(tmp_path) == [*kept, 41]
    assert after[:-1] == before[: len(kept)]  # byte for byte
    assert list(tmp_path.glob('metrics*')) == [tmp_path / 'metrics.jsonl']


@pytest.mark.parametrize('first_step', [10, 20])
def test_tensorboard_drops_it_too(tmp_path, first_step):
    write(tmp_path, [10, 20, 30])
    time.sleep(1.1)  # TensorBoard's files are named after the second
    write(tmp_path, [25, 30], first_step)
    assert (
        sorted({step for step, _ in scalars(tmp_path)}) == steps(tmp_path) == [*range(10, first_step + 1, 10), 25, 30]
    )


@pytest.mark.parametrize('cut', ['{"step": 20, "epo', '{"step": 20, "epoch": 1.0, "split": "train", "loss": 1.0}', '{'])
def test_reopening_drops_a_last_line_cut_short(tmp_path, cut):
    write(tmp_path, [10])
    with (tmp_path / 'metrics.jsonl').open('a') as file:
        file.write(cut)
    assert steps(tmp_path) == [10]
    write(tmp_path, [21], first_step=20)
    assert steps(tmp_path) == [10, 21]


@pytest.mark.parametrize('content', [None, '', '{"step": 1'])
def test_no_metrics_to_read(tmp_path, content):
    if content is not None:
        (tmp_path / 'metrics.jsonl').write_text(content)
    with pytest.raises(UserError, match=r'holds no metrics\.jsonl with a line in it; train first') as caught:
        read_metrics(tmp_path)
    assert str(tmp_path) in str(caught.value)


def show(**options):
    """What a display prints on a console of these options."""
    file = io.StringIO()
    console = Console(file=file, width=100, **options)
    with Display(console, 40, 10) as display:
        display.update(11, 'loss 2.303, rate 0.01, 512 images/s')
        display.plain(12, 'loss 2.303')
        display.line('epoch 1: [bold]50.00%[/bold] ' + 'and so on ' * 12)
        display.update(20, 'loss 1.234, rate 0.01, 512 images/s')
    return file.getvalue()


def test_plain_lines_without_a_terminal():
    long = 'epoch 1: [bold]50.00%[/bold] ' + 'and so on ' * 12
    assert show() == f'training: step 12/40, loss 2.303\n{long}\n'


def test_a_bar_on_a_terminal():
    screen = show(force_terminal=True)
    assert '━' in screen and '\x1b[' in screen
    assert 'training' in screen and '20/40' in screen and 'loss 1.234, rate 0.01, 512 images/s' in screen
    assert 'step 12/40' not in screen  # the bar says it
    assert 'epoch 1: [bold]50.00%[/bold] and so on' in screen  # a line that stays
    assert screen.rstrip().endswith('\x1b[2K')  # the bar itself goes away


def test_a_bar_says_what_matters_on_80_columns():
    """A run as long as the paper's: of all that is shown, the step, the loss, the rate and the speed may not go."""
    file, window = io.StringIO(), Window(128)
    for step in range(4):
        window.add(step, 0.01, {'loss': 6.908})
    with Display(Console(file=file, width=80, force_terminal=True), 900_810, 450_000) as display:
        display.update(450_001, window.status(0.01))
    screen = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', file.getvalue())
    for part in (r'450001/900810', r'loss 6\.908', r'rate 0\.01', r'\d images/s'):
        assert re.search(part, screen), part


def test_a_display_in_other_units():
    file = io.StringIO()
    with Display(Console(file=file), 360, 0, name='evaluating', unit='images') as display:
        display.update(128)
        display.plain(128, 'fine')
    assert file.getvalue() == 'evaluating: image 128/360, fine\n'


def test_a_bar_goes_away_when_something_fails():
    file = io.StringIO()
    with pytest.raises(KeyError), Display(Console(file=file, force_terminal=True), 40, 0):
        raise KeyError
    assert file.getvalue().rfind('\x1b[?25h') > file.getvalue().rfind('\x1b[?25l')  # the cursor is back


# Windows of steps.


def metrics_of(step):
    """Of a made-up step, on the device; what they add up to depends on the order."""
    return {name: jnp.float32(math.sin(step * number)) for number, name in enumerate(VALUES, start=1)}


def means(*parts):
    """Of a window over the steps of all parts, each but the first in a window that goes on where the last stopped."""
    sums = {}
    for part in parts:
        window = Window(8, json.loads(json.dumps(sums)))  # as a checkpoint keeps them
        for step in part:
            window.add(step, 0.01, metrics_of(step))
        sums = window.state()
        assert window.state() == sums and sums['steps'] == part[-1]
    values = window.close()
    assert values.pop('images_per_second') >= 0
    return values


@pytest.mark.parametrize('parts', [([1], [2], range(3, 10)), (range(1, 8), [8, 9]), (range(1, 9), [9])], ids=str)
def test_a_window_goes_on_after_an_interruption(parts):
    assert means(*parts) == means(range(1, 10))  # to the last bit
    exact = {name: sum(float(metrics_of(step)[name]) for step in range(1, 10)) / 9 for name in VALUES}
    assert means(*parts) == pytest.approx(exact, rel=1e-12)


def test_a_window_begins_anew_once_it_was_closed():
    window = Window(8, {'steps': 3, **dict.fromkeys(VALUES, 10.0)})
    window.close()
    assert window.interval_error() == 10 / 3 and window.state() == {}
    window.add(4, 0.01, metrics_of(4))
    assert window.close()['loss'] == float(metrics_of(4)['loss'])


@pytest.mark.parametrize('interrupted', [False, True])
def test_an_interval_is_of_all_its_lines_and_may_be_interrupted(interrupted):
    window = Window(8)
    for line in ([1, 2, 3], [4]):
        for step in line:
            window.add(step, 0.01, {'loss': 1.0, 'top1_error': float(step)})
        window.close()
        if interrupted:
            window = Window(8, json.loads(json.dumps(window.state())))
    assert window.interval_error() == 2.5 and window.state() == {}


@pytest.mark.parametrize('loss', [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_noticed_two_steps_later(loss):
    window = Window(8)
    for step in (1, 2):
        window.add(step, 0.1, metrics_of(step))
    window.add(3, 0.25, metrics_of(3) | {'loss': jnp.float32(loss)})
    window.add(4, 0.01, metrics_of(4))
    with pytest.raises(NotFiniteLossError, match=f'^the loss is {loss} at step 3, at the learning rate 0.25$'):
        window.add(5, 0.01, metrics_of(5))


@pytest.mark.parametrize('then', ['training', 'saving'])
def test_a_loss_that_is_not_finite_is_noticed_before_a_line_is_written_or_a_checkpoint(then, tmp_path):
    log = MetricsLog(tmp_path, 0)
    with Display(Console(file=io.StringIO()), 40, 0) as display:
        report = Reporter(log, display, 8, 80, {})
        report.stepped(1, metrics_of(1) | {'loss': jnp.float32(math.nan)}, 0.01)
        with pytest.raises(NotFiniteLossError, match='at step 1,'):
            report.training(1, 0.01) if then == 'training' else report.saving()
    log.close()
    assert (tmp_path / 'metrics.jsonl').read_text() == ''


# What the disk may do.


@pytest.mark.parametrize('damage', ['{"step": 20', '{"split": "train"}', '[20]', '{"step": "20"}', '', 'null', '\x00'])
def test_a_damaged_line_is_named(damage, tmp_path):
    write(tmp_path, [10, 20, 30])
    path = tmp_path / 'metrics.jsonl'
    lines = path.read_text().splitlines()
    lines[1] = damage
    path.write_text('\n'.join(lines) + '\n')
    for use in (read_metrics, lambda workdir: MetricsLog(workdir, 20)):
        with pytest.raises(UserError, match=r'metrics\.jsonl, line 2 is damaged; remove that line, or the file'):
            use(tmp_path)
    assert path.read_text().splitlines() == lines
    MetricsLog(tmp_path, 30).close()  # what it has no business with stays as it is
    assert path.read_text().splitlines() == lines


def test_a_log_of_any_size_is_cut_at_its_end(tmp_path):
    """As much is read as is dropped, and nothing is written."""
    path = tmp_path / 'metrics.jsonl'
    with path.open('wb') as file:
        for step in range(1, 200_001):
            file.write(b'{"step": %d, "epoch": 0.5, "split": "train", "loss": 2.302585092994046}\n' % step)
    end = path.read_bytes().index(b'{"step": 199991,')
    before = path.stat()
    tracemalloc.start()
    _cut(path, 199_990)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size == end and most < 100_000 < before.st_size // 100
    assert last_step(tmp_path) == 199_990 and path.stat().st_ino == before.st_ino
    _cut(path, 200_000)
    assert path.stat().st_size == end


def test_of_a_log_of_any_size_the_end_alone_is_read(tmp_path, monkeypatch):
    write(tmp_path, range(20, 400_020, 20))
    read = []

    class Counted(io.FileIO):
        def read(self, size):
            read.append(size)
            return super().read(size)

    monkeypatch.setattr(metrics_log, 'open_regular', Counted)
    assert last_step(tmp_path) == last_line(tmp_path)['step'] == 400_000
    lines = last_lines(tmp_path)
    assert [next(lines)['step'] for _ in range(3)] == [400_000, 399_980, 399_960]
    assert sum(read) < 100_000 < (tmp_path / 'metrics.jsonl').stat().st_size // 20


def test_validations_are_found_without_parsing_the_other_lines(tmp_path, parsed):
    log = MetricsLog(tmp_path, 0)
    for step in range(1, 101):
        log.write(step, step / 50, 'train', VALUES)
        if step % 50 == 0:
            log.write(step, step / 50, 'validation', VALUES)
    log.close()
    assert validations(tmp_path) == parsed and [line['step'] for line in parsed] == [50, 100]
    assert validations(tmp_path / 'nowhere') == list(last_lines(tmp_path / 'nowhere')) == []


@pytest.mark.parametrize('content', [None, '', '{"step": 1'])
def test_no_last_line(tmp_path, content):
    if content is not None:
        (tmp_path / 'metrics.jsonl').write_text(content)
    with pytest.raises(UserError, match=r'holds no metrics\.jsonl with a line in it; train first'):
        last_line(tmp_path)


@pytest.mark.parametrize('block', [1, 7, 64, 4096])
@pytest.mark.parametrize('rest', [b'', b'{"step": 5, "spl', bytes(9000)])
def test_the_end_is_found_wherever_the_blocks_begin(block, rest, tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_log, '_BLOCK', block)
    lines = [b'{"step": %d, "split": "train"%s}\n' % (step, b' ' * (step * 40)) for step in range(1, 5)]
    path = tmp_path / 'metrics.jsonl'
    for first_step in range(6):
        path.write_bytes(b''.join(lines) + rest)
        assert last_step(tmp_path) == 4
        _cut(path, first_step)
        assert path.read_bytes() == b''.join(lines[:first_step])


def test_what_is_not_finite_is_left_out_of_a_line(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.write(1, 1.0, 'validation', VALUES | {'color_column1': math.nan, 'color_column2': 0.25, 'other': math.inf})
    log.close()
    text = (tmp_path / 'metrics.jsonl').read_text()
    assert json.loads(text, parse_constant=pytest.fail)['color_column2'] == 0.25
    assert 'color_column1' not in text and 'other' not in text


def test_a_disk_that_is_full_is_told(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log._file.close()
    log._file = open('/dev/full', 'w')  # noqa: SIM115
    log.write(1, 0.1, 'train', VALUES)
    with pytest.raises(UserError, match=r'metrics\.jsonl cannot be written: No space left on device'):
        log.flush()
    with pytest.raises(UserError, match='No space left on device'):
        log.close()


def test_a_log_that_cannot_be_opened_is_told(tmp_path):
    (tmp_path / 'tensorboard').write_text('a file, where a directory should be')
    with pytest.raises(UserError, match=r'metrics\.jsonl cannot be written: File exists'):
        MetricsLog(tmp_path, 0)


def test_the_bar_shows_the_speed_of_the_window_before_until_a_step_has_ended():
    window = Window(8)
    for step in range(4):
        window.add(step, 0.1, VALUES)
    before = window.close()['images_per_second']
    window.add(4, 0.1, VALUES)
    (shown,) = re.findall(r' (\d+) images/s', window.status(0.1))
    assert before > 0 and abs(int(shown) - before) < 1  # each rounds for itself
