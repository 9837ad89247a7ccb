"""Exact search against distances computed directly in float64, on data that is easy and on data that is not."""

import numpy as np
import pytest

from alexnet_jax.evaluation import nearest as search
from alexnet_jax.evaluation.nearest import nearest
from alexnet_jax.runtime.errors import UserError


def direct(values, queries, count):
    """Nearest neighbors by float64 distances of everything to everything."""
    values = values.astype(np.float64)
    rows, distances = [], []
    for query in queries.astype(np.float64):
        squares = np.square(values - query).sum(axis=1)
        order = np.lexsort((np.arange(len(values)), squares))[:count]
        rows.append(order)
        distances.append(np.sqrt(squares[order]))
    return np.array(rows), np.array(distances)


def check(values, queries, count, **options):
    rows, distances = nearest(values, queries, count, **options)
    wanted, wanted_distances = direct(values, queries, count)
    assert rows.dtype == np.int64 and distances.dtype == np.float64
    np.testing.assert_array_equal(rows, wanted)
    np.testing.assert_allclose(distances, wanted_distances, rtol=1e-12, atol=0)


def like_relu(rows, d, seed, kind=np.float16):
    return np.maximum(np.random.default_rng(seed).normal(size=(rows, d)), 0).astype(kind)


@pytest.fixture
def passes(monkeypatch):
    """The number of queries of every second pass."""
    seen, original = [], search._below
    monkeypatch.setattr(
        search, '_below', lambda values, queries, *rest: seen.append(len(queries)) or original(values, queries, *rest)
    )
    return seen


@pytest.mark.parametrize('kind', [np.float16, np.float32])
@pytest.mark.parametrize('block', [0, 1, 128, 333, 999, 1000, 5000])
def test_blocks_of_any_size(kind, block):
    if block == 1:
        check(like_relu(20, 32, 0, kind), like_relu(5, 32, 1, kind), 3, block=block)
    else:
        check(like_relu(1000, 32, 0, kind), like_relu(5, 32, 1, kind), 6, block=block)


def test_what_fills_up_the_last_block_is_no_row(passes):
    check(like_relu(130, 8, 21) + np.float16(1), np.zeros((2, 8), np.float16), 5, block=100)  # as near as can be
    check(np.full((130, 8), 3, np.float16), np.zeros((2, 8), np.float16), 5, block=100)
    assert passes == [2]


def test_several_tiles_in_a_block(monkeypatch):
    monkeypatch.setattr(search, '_TILE', 32 * 40)  # 32 rows at a time
    check(like_relu(1000, 40, 2), like_relu(5, 40, 3), 6, block=200)


def test_easy_data_takes_one_pass(passes):
    check(like_relu(3000, 300, 4), like_relu(20, 300, 5), 6, block=512)
    assert passes == []


def test_a_query_that_is_a_row():
    values = like_relu(500, 64, 6)
    rows, distances = nearest(values, values[[3, 499]], 2, block=100)
    assert rows[:, 0].tolist() == [3, 499] and distances[:, 0].tolist() == [0, 0]
    assert (distances[:, 1] > 1).all()


def test_of_equal_rows_the_earlier_come_first(passes):
    values = np.repeat(like_relu(4, 16, 7), 200, axis=0)[np.random.default_rng(8).permutation(800)]
    check(values, values[:5], 150, block=64)
    check(np.ones((700, 16), np.float16), np.zeros((2, 16), np.float16), 3, block=64)
    assert passes == [2]  # the first of these finds 300 rows, of which 200 are equal


def test_all_rows_asked_for():
    check(like_relu(37, 8, 9), like_relu(4, 8, 10), 37, block=10)
    check(like_relu(1, 8, 9), like_relu(4, 8, 10), 1)


@pytest.mark.parametrize('kind', [np.float16, np.float32])
def test_tiny_distances_far_from_the_origin(passes, kind):
    """What float32 loses altogether: differences of 1e-7 of the lengths, squared."""
    random = np.random.default_rng(11)
    values = np.full((2000, 64), 1024.0, kind)
    values[np.arange(2000), random.integers(64, size=2000)] += random.choice([1.0, 2.0, 3.0], 2000).astype(kind)
    values[np.arange(2000), random.integers(64, size=2000)] -= kind(1)
    check(values, values[:7], 5, block=300)
    assert passes == [7]


def test_only_the_queries_that_need_it_are_searched_again(passes):
    cluster = (like_relu(1, 64, 12) + np.zeros((300, 1))).astype(np.float16)
    cluster[np.arange(300), np.arange(300) % 64] += np.float16(1e-3)
    values = np.concatenate([like_relu(1000, 64, 13), cluster])
    queries = np.concatenate([like_relu(4, 64, 14), cluster[:1], like_relu(4, 64, 15)])
    done = []
    check(values, queries, 6, block=500, on_block=done.append)
    assert passes == [1]
    assert done == [500, 1000, 1300] * 2


def test_rows_that_float32_puts_in_the_wrong_order_are_measured(passes):
    random = np.random.default_rng(22)
    values = (100 + random.integers(0, 2, (60, 256)) / 16).astype(np.float16)
    check(values, values[:4], 5)
    assert passes == []  # there are so few that all were taken


def test_the_first_pass_alone_would_err(monkeypatch):
    """On this data the lowest bounds of float32 are not the nearest rows: the second pass is what makes it exact."""
    random = np.random.default_rng(16)
    values = (100 + random.integers(0, 2, (4000, 256)) / 16).astype(np.float16)
    queries = values[:4]
    with monkeypatch.context() as patched:
        patched.setattr(search, '_below', lambda *arguments: [])
        rows, _ = nearest(values, queries, 6)
    assert (rows != direct(values, queries, 6)[0]).any()
    check(values, queries, 6)


@pytest.mark.parametrize('kind', [np.float16, np.float32])
def test_bounds_are_not_above_the_truth(kind):
    """Also where values are tiny, huge or of both kinds; and not far below."""
    random = np.random.default_rng(17)
    largest = 4 if kind == np.float16 else 16
    smallest = -7 if kind == np.float16 else -42
    scales = 10.0 ** random.uniform(smallest, largest, (400, 1))
    values = (random.normal(size=(400, 96)) * scales).astype(kind)
    values[::3] *= 10.0 ** random.uniform(-3, 0, (134, 96))
    queries = values[::20]
    rows, bounds = search._lowest(values, queries, 400, 150, lambda done: None)
    exact, own = values.astype(np.float64), queries.astype(np.float64)
    truth = np.square(exact).sum(axis=1) - 2 * own @ exact.T
    truth = np.take_along_axis(truth, rows, axis=1)
    assert (bounds <= truth).all()
    lengths = np.linalg.norm(exact, axis=1)[rows] + 1e-17
    room = 3 * 112 * 2.0**-24 * (lengths**2 + 2 * lengths * np.linalg.norm(own, axis=1)[:, None])
    assert (bounds >= truth - room - 1e-33).all()


def test_the_bound_holds_where_every_rounding_goes_the_same_way():
    """Sums that lose as much as float32 can: many small products after a large one."""
    d = 4096
    values = np.full((300, d), 2.0**-12, np.float32)
    values[:, 0] = 1.0 + np.arange(300) / 300
    queries = values[:2]
    rows, bounds = search._lowest(values, queries, 300, 100, lambda done: None)
    exact = values.astype(np.float64)
    truth = np.square(exact).sum(axis=1) - 2 * queries.astype(np.float64) @ exact.T
    assert (bounds <= np.take_along_axis(truth, rows, axis=1)).all()
    check(values, queries, 4)


def test_subnormal_float16_counts():
    values = np.zeros((100, 4), np.float16)
    values[:, 0] = np.arange(100) * np.float16(6e-8)
    check(values, values[[50]], 3)
    assert nearest(values, values[[50]], 3)[0].tolist() == [[50, 49, 51]]


def test_a_mapped_file_and_a_view(tmp_path):
    values = like_relu(900, 48, 18)
    np.save(tmp_path / 'values.npy', values)
    check(np.load(tmp_path / 'values.npy', mmap_mode='r'), values[:3], 4, block=200)
    check(values[::2, ::-1], values[:3, ::-1], 4, block=200)
    check(values, values[:3].astype(np.float32) + np.float32(1e-3), 4)  # another precision than the rows'


def test_no_query():
    rows, distances = nearest(like_relu(9, 4, 0), like_relu(0, 4, 0), 3)
    assert rows.shape == distances.shape == (0, 3)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_an_error(bad):
    values, queries = like_relu(50, 8, 19), like_relu(3, 8, 20)
    values[33, 5] = bad
    with pytest.raises(UserError, match='Row 33 has a value that is not finite'):
        nearest(values, queries, 2, block=20)
    queries[2, 0] = bad
    with pytest.raises(UserError, match='Query 2 has a value that is not finite'):
        nearest(like_relu(50, 8, 19), queries, 2)


def test_what_is_too_large_for_float32_is_an_error():
    values = like_relu(50, 8, 19, np.float32)
    values[40] = 1e18
    with pytest.raises(UserError, match=r'Row 40 has .* too large'):
        nearest(values, values[:1], 2)


def test_what_cannot_be_searched():
    values = like_relu(5, 8, 0)
    with pytest.raises(UserError, match='There are 5 rows, fewer than the 6 nearest neighbors'):
        nearest(values, values, 6)
    with pytest.raises(ValueError, match='rows of 8 values and queries of 7'):
        nearest(values, values[:, :7], 1)
    with pytest.raises(ValueError, match=r'values must be .*, not float64 \[5, 8\]'):
        nearest(values.astype(np.float64), values, 1)
    with pytest.raises(ValueError, match='queries must be'):
        nearest(values, values[0], 1)
    with pytest.raises(ValueError, match='count=0'):
        nearest(values, values, 0)
