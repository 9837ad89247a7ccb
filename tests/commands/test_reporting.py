"""Lines of training: hints, what is left out of them, and what metrics.jsonl holds as JSON."""

import json
import math
import types

import fakes
import pytest

from alexnet_jax.commands.reporting import Reporter, describe
from alexnet_jax.commands.train import _hint_on_updates
from alexnet_jax.config import Config
from alexnet_jax.runs.metrics_log import MetricsLog
from alexnet_jax.runtime.progress_bar import Display


@pytest.mark.parametrize(
    'images, batch, epochs, updates',
    [(10, 128, 30, '3'), (10, 128, 3000, '235'), (1000, 100, 9, '90'), (1000, 100, 10, ''), (128, 128, 100, '')],
)
def test_a_hint_where_a_run_makes_few_updates(images, batch, epochs, updates):
    data = types.SimpleNamespace(examples=lambda split: images)
    hint = _hint_on_updates(Config().replace(batch_size=batch, epochs=epochs), data)
    expected = f'{epochs} epochs of {images:,} training images in batches of {batch} are {updates} updates'
    assert (expected in hint and '--config.batch_size' in hint) if updates else hint == ''


@pytest.mark.parametrize('classes, shown', [(2, False), (5, False), (6, True)])
def test_a_top_5_error_that_cannot_be_other_than_zero_is_left_out(classes, shown):
    text = describe({'loss': 0.5, 'top1_error': 0.25, 'top5_error': 0.0}, classes)
    assert text == 'loss 0.5, top-1 error 25.00%' + ', top-5 error 0.00%' * shown


def test_shares_of_color_that_are_no_number_are_left_out_of_the_metrics(tmp_path):
    log = MetricsLog(str(tmp_path), 0)
    with Display(fakes.console(), 9, 0) as display:
        report = Reporter(log, display, 8, 80, {})
        report.validated(10, 1, {'loss': 1.0, 'top1_error': 0.5, 'top5_error': 0.1}, [math.nan, 0.5], 0.1, 0.1)
    log.close()
    (line,) = (tmp_path / 'metrics.jsonl').read_text().splitlines()

    def refuse(name):
        raise AssertionError(f'{name} is no JSON')

    fields = json.loads(line, parse_constant=refuse)
    assert 'color_column1' not in fields and fields['color_column2'] == 0.5
