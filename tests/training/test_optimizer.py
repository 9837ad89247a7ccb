"""Guards section 5: the update rule number by number, and when the learning rate drops and the run ends."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.config import RateControlConfig
from alexnet_jax.training.optimizer import (
    RateControl,
    after_epoch,
    update_rule,
)

# The rate drops by 10 in the middle.
RATES = [0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
GRADIENTS = [1.0, -0.5, 2.0, 0.25, -1.0, 0.0]
MOMENTUM, WEIGHT_DECAY = 0.9, 0.05


def by_hand(w, gradients=GRADIENTS, rates=RATES, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY):
    """The weights after every step, from the paper's formula."""
    v, weights = 0.0, []
    for gradient, rate in zip(gradients, rates, strict=True):
        v = momentum * v - weight_decay * rate * w - rate * gradient
        w = w + v
        weights.append(w)
    return weights


def run_rule(make_rule, w, gradients=GRADIENTS, rates=RATES):
    params = {'kernel': jnp.array([w], jnp.float32)}
    state = make_rule(rates[0]).init(params)
    weights = []
    for gradient, rate in zip(gradients, rates, strict=True):
        updates, state = make_rule(rate).update({'kernel': jnp.array([gradient], jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        weights.append(float(params['kernel'][0]))
    return weights


def paper_rule(rate):
    return update_rule(rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def todays_rule(rate):
    return optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(rate, momentum=MOMENTUM))


def test_first_steps_worked_out_on_paper():
    # v1 = -0.05 * 0.1 * 2 - 0.1 * 1 = -0.11; w1 = 1.89
    # v2 = 0.9 * -0.11 - 0.05 * 0.1 * 1.89 + 0.1 * 0.5 = -0.05845; w2 = 1.83155
    np.testing.assert_allclose(by_hand(2.0)[:2], [1.89, 1.83155], rtol=1e-12)
    np.testing.assert_allclose(run_rule(paper_rule, 2.0)[:2], [1.89, 1.83155], rtol=1e-6)


@pytest.mark.parametrize('w', [2.0, -0.3, 0.0])
def test_rule_follows_the_formula_over_a_drop(w):
    np.testing.assert_allclose(run_rule(paper_rule, w), by_hand(w), rtol=1e-5, atol=1e-7)


def test_rule_is_todays_sgd_until_the_rate_drops():
    paper, today = run_rule(paper_rule, 2.0), run_rule(todays_rule, 2.0)
    np.testing.assert_allclose(paper[:3], today[:3], rtol=1e-6)
    assert abs(paper[3] - today[3]) > 0.1


def test_velocity_keeps_its_size_when_the_rate_drops():
    def rule(rate):
        return update_rule(rate, momentum=0.9, weight_decay=0.0)

    weights = run_rule(rule, 0.0, gradients=[1.0, 0.0, 0.0], rates=[1.0, 1e-6, 1e-6])
    np.testing.assert_allclose(weights, [-1.0, -1.9, -2.71], rtol=1e-6)


def test_weight_decay_acts_on_biases_too_and_is_scaled_by_the_rate():
    params = {'kernel': jnp.array([4.0]), 'bias': jnp.array([1.0])}
    rule = update_rule(0.01, momentum=0.9, weight_decay=0.0005)
    updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
    np.testing.assert_allclose(updates['kernel'], [-0.0005 * 0.01 * 4], rtol=1e-6)
    np.testing.assert_allclose(updates['bias'], [-0.0005 * 0.01], rtol=1e-6)


def test_rate_may_be_traced():
    @jax.jit
    def step(rate, gradient, state, params):
        updates, state = paper_rule(rate).update(gradient, state, params)
        return state, optax.apply_updates(params, updates)

    params = jnp.float32(2.0)
    state, weights = paper_rule(0.0).init(params), []
    for gradient, rate in zip(GRADIENTS, RATES, strict=True):
        state, params = step(rate, jnp.float32(gradient), state, params)
        weights.append(float(params))
    np.testing.assert_allclose(weights, by_hand(2.0), rtol=1e-5)
    assert step._cache_size() == 1  # a drop of the rate compiles nothing anew


def rate_control_config(**changes):
    return RateControlConfig(**{'patience': 1, 'tolerance': 0.0} | changes)


def follow(errors, **options):
    """The states of a run after each validation, on a plateau with these options."""
    config = rate_control_config(**{'patience': 2, 'tolerance': 0.01} | options)
    control, states = RateControl(0.01), []
    for epoch, error in enumerate(errors, start=1):
        control = after_epoch(control, error, epoch, config)
        states.append(control)
    return states


def test_plateau_keeps_the_rate_while_the_error_falls():
    states = follow([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert {(s.learning_rate, s.drops, s.epochs_without_improvement, s.finished) for s in states} == {
        (0.01, 0, 0, False)
    }
    assert [s.best_error for s in states] == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]


def test_plateau_waits_as_long_as_patience_says():
    # Improves, waits one, improves (which forgives), waits two: the drop comes with the second.
    states = follow([0.9, 0.95, 0.8, 0.85, 0.82, 0.81])
    assert [s.epochs_without_improvement for s in states] == [0, 1, 0, 1, 0, 1]
    assert [s.drops for s in states] == [0, 0, 0, 0, 1, 1]
    np.testing.assert_allclose([s.learning_rate for s in states], [0.01] * 4 + [0.001] * 2, rtol=1e-12)


def test_plateau_does_not_count_improvement_within_tolerance_but_keeps_it_as_best():
    states = follow([0.5, 0.495, 0.492])
    assert [s.epochs_without_improvement for s in states] == [0, 1, 0]
    assert [s.drops for s in states] == [0, 0, 1]
    assert [s.best_error for s in states] == [0.5, 0.495, 0.492]


@pytest.mark.parametrize('tolerance, improved', [(0.0, True), (0.004, True), (0.006, False)])
def test_plateau_tolerance_is_in_units_of_error(tolerance, improved):
    state = follow([0.5, 0.495], tolerance=tolerance)[-1]
    assert state.epochs_without_improvement == (0 if improved else 1)


def test_plateau_counts_slow_steady_progress():
    states = follow([0.5 - 0.009 * epoch for epoch in range(10)], tolerance=0.01, patience=2)
    assert [s.drops for s in states] == [0] * 10
    assert states[-1].best_error == pytest.approx(0.419)


def test_plateau_is_not_spoilt_by_an_error_that_is_not_a_number():
    states = follow([0.5, float('nan'), 0.4], patience=5)
    assert [s.best_error for s in states] == [0.5, 0.5, 0.4]
    assert [s.epochs_without_improvement for s in states] == [0, 1, 0]


def test_plateau_equal_error_is_no_improvement():
    assert follow([0.5, 0.5], tolerance=0.0)[-1].epochs_without_improvement == 1


def test_plateau_drops_three_times_and_then_ends():
    states = follow([0.5] + [0.6] * 8)
    assert [s.drops for s in states] == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert [s.finished for s in states] == [False] * 8 + [True]
    np.testing.assert_allclose(
        [s.learning_rate for s in states], [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-5], rtol=1e-9
    )
    assert {s.best_error for s in states} == {0.5}


def test_plateau_goes_on_after_the_last_drop_while_the_error_falls():
    states = follow([0.5, 0.5, 0.4, 0.3, 0.3], drops=1, patience=1)
    assert [s.drops for s in states] == [0, 1, 1, 1, 1]
    assert [s.finished for s in states] == [False, False, False, False, True]


def test_plateau_without_drops_ends_at_the_first():
    states = follow([0.5, 0.5], drops=0, patience=1)
    assert states[-1].finished
    assert states[-1].learning_rate == 0.01


def test_plateau_takes_other_divisors_and_patiences():
    states = follow([0.5] * 5, divide_by=2.0, patience=3)
    assert [s.drops for s in states] == [0, 0, 0, 1, 1]
    assert states[-1].learning_rate == 0.005


def test_plateau_leaves_the_state_before_alone():
    before = RateControl(0.01)
    after_epoch(before, 0.5, 1, rate_control_config())
    assert before == RateControl(0.01)


def test_schedule_changes_the_rate_at_its_epochs():
    schedule = ((2, 0.001), (4, 0.0001))
    control, states = RateControl(0.01), []
    for epoch, error in enumerate([0.9, 0.8, 0.85, 0.7, 0.75], start=1):
        control = after_epoch(control, error, epoch, rate_control_config(schedule=schedule))
        states.append(control)
    assert [s.learning_rate for s in states] == [0.01, 0.001, 0.001, 0.0001, 0.0001]
    assert [s.drops for s in states] == [0, 1, 1, 2, 2]
    assert [s.best_error for s in states] == [0.9, 0.8, 0.8, 0.7, 0.7]
    assert [s.epochs_without_improvement for s in states] == [0, 0, 1, 0, 1]
    assert not any(s.finished for s in states)


def test_schedule_may_raise_the_rate_and_is_found_when_entered_late():
    config = rate_control_config(schedule=((2, 0.001), (5, 0.02), (9, 0.1)))
    control = after_epoch(RateControl(0.01), 0.5, 7, config)
    assert control.learning_rate == 0.02
    assert control.drops == 0


def test_after_epoch_follows_the_schedule_where_there_is_one():
    config = rate_control_config(schedule=((3, 0.005),))
    control = RateControl(0.01, best_error=0.1)
    assert after_epoch(control, 0.9, 2, config).learning_rate == 0.01  # a plateau would have dropped it
    assert after_epoch(control, 0.9, 3, config).learning_rate == 0.005


def test_after_epoch_watches_the_error_otherwise():
    control = RateControl(0.01, best_error=0.5, error_to_beat=0.5, drops=1)
    assert after_epoch(control, 0.4, 1, rate_control_config()).learning_rate == 0.01
    dropped = after_epoch(control, 0.5, 1, rate_control_config(divide_by=4.0))
    assert (dropped.learning_rate, dropped.drops) == (0.0025, 2)
    assert after_epoch(control, 0.5, 1, rate_control_config(drops=1)).finished
    assert after_epoch(control, 0.5, 1, rate_control_config(patience=2)).learning_rate == 0.01
    assert after_epoch(control, 0.45, 1, rate_control_config(tolerance=0.1)).learning_rate == 0.001
