"""Guards the order in which steps are dispatched."""

import jax
import pytest

from alexnet_jax.data.device_feed import results_ahead
from alexnet_jax.model.columns import make_mesh


class Result:
    """What a step returns; says when it is waited for."""

    def __init__(self, batch, events):
        self.batch, self.events = batch, events

    def block_until_ready(self):
        self.events.append(f'wait for {self.batch}')
        return self


@pytest.mark.parametrize('count', [0, 2, 9])
def test_on_a_cpu_a_step_is_dispatched_when_the_one_before_has_ended_and_the_next_batch_is_there(count):
    events = []

    def batches():
        for batch in range(3):
            events.append(f'batch {batch}')
            yield batch

    def step(batch):
        events.append(f'step {batch}')
        return Result(batch, events)

    found = [result.batch for result in results_ahead(step, batches(), make_mesh(1, 1, 1), count)]
    assert jax.devices()[0].platform == 'cpu' and found == [0, 1, 2]
    in_turn = ['batch 0', 'step 0', 'batch 1', 'wait for 0', 'step 1', 'batch 2', 'wait for 1', 'step 2']
    assert events == in_turn
