"""`benchmarks/scale.py`: what it makes up can be opened, resumed, reported and compared."""

from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.metrics_log import last_step, validations
from benchmarks.scale import cost, growth, write_data, write_runs


def test_costs_are_those_of_a_run_that_has_ended(tmp_path):
    data = write_data(tmp_path / 'data', 20)
    assert data.examples('train') == 20
    write_runs(tmp_path, data, 200)
    for what in ('open', 'batch', 'resume', 'report', 'compare'):
        cost(what, tmp_path)
    assert last_step(tmp_path / 'run') == 200 and len(validations(tmp_path / 'run')) == 2
    assert Checkpoints(tmp_path / 'run', read_only=True).steps() == [200]
    assert (tmp_path / 'run' / 'report.html').exists()


def test_growth_is_that_between_the_two_largest():
    found = {
        count: {'open': {'seconds': seconds, 'read': count / 1e5, 'memory': 0.0}}
        for count, seconds in ((1000, 9.0), (10, 0.0), (100_000, 9.099))
    }
    assert growth(found, 'record') == 'One more record: open 1.000 us and 10.0 bytes read.'
