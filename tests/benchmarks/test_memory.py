"""`benchmarks/memory.py`: the line by which the largest batch is found."""

import pytest

from benchmarks.memory import largest_batch


@pytest.mark.parametrize(
    'memory, batch',
    [(5e9, 256), (7e9, 384), (6.99e9, 352), (1.5e9, 32), (0.9e9, 0), (0.1e9, 0)],
)
def test_the_largest_batch_is_on_the_line_through_the_two_largest(memory, batch):
    assert largest_batch({32: 9e9, 256: 5e9, 128: 3e9}, memory) == batch
