"""Section 5: the update rule, and the control of the learning rate."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import tree_map_with_path

from alexnet_jax.runtime.errors import UserError


def update_rule(
    learning_rate: Any, *, momentum: float, weight_decay: float, decay_biases: bool = True
) -> optax.GradientTransformation:
    """The paper's update: v <- momentum v - weight_decay rate w - rate gradient; w <- w + v.

    The rate sits inside the velocity: after a drop the velocity gathered so far keeps its size. `optax.sgd`
    puts the rate outside, which is another rule as soon as the rate changes.

    Args:
      learning_rate: epsilon of section 5, a scalar; may differ from call to call. Or one for each array, in a tree
        shaped like the parameters (`layer_rates.py`): where it is 0 the array is frozen, as in the 2012 code, and
        neither parameter nor velocity changes.
      momentum: 0.9 in the paper.
      weight_decay: 0.0005 in the paper.
      decay_biases: whether it is applied to every parameter, as the paper's formula is; the 2012 code spares biases.

    Returns:
      A transformation whose state is that of `optax.trace`: the velocity, shaped like the parameters.
    """
    each = isinstance(learning_rate, dict)
    rule = optax.chain(
        optax.add_decayed_weights(weight_decay) if decay_biases else _decay_kernels(weight_decay),
        optax.stateless(lambda gradients, _: _by_rate(learning_rate, gradients))
        if each
        else optax.scale_by_learning_rate(learning_rate),
        optax.trace(decay=momentum),
    )
    return _frozen_where_zero(learning_rate, rule) if each else rule


def _decay_kernels(weight_decay: float) -> optax.GradientTransformation:
    def decay(path: tuple[Any, ...], gradient: jax.Array, parameter: jax.Array) -> jax.Array:
        return gradient if path[-1].key == 'bias' else gradient + weight_decay * parameter

    return optax.stateless(lambda gradients, parameters: tree_map_with_path(decay, gradients, parameters))


def _by_rate(rates: Any, gradients: Any) -> Any:
    return jax.tree.map(lambda rate, gradient: -rate * gradient, rates, gradients)


def _frozen_where_zero(rates: Any, rule: optax.GradientTransformation) -> optax.GradientTransformation:
    def update(gradients: Any, state: optax.OptState, parameters: Any) -> tuple[Any, optax.OptState]:
        updates, (*others, velocity) = rule.update(gradients, state, parameters)
        learns = jax.tree.map(lambda rate: rate > 0, rates)
        updates = jax.tree.map(lambda on, x: jnp.where(on, x, 0), learns, updates)
        trace = jax.tree.map(jnp.where, learns, velocity.trace, state[-1].trace)
        return updates, (*others, velocity._replace(trace=trace))

    return optax.GradientTransformation(rule.init, update)


@dataclasses.dataclass(frozen=True)
class RateControl:
    """The learning rate of a run, and what decides when it changes; a checkpoint holds all of it.

    Attributes:
      learning_rate: epsilon in force.
      best_error: lowest validation error so far (0..1); 1, always wrong, before the first.
      error_to_beat: the error at the last improvement by more than the tolerance.
      epochs_without_improvement: validations since then.
      drops: how often the rate has been divided.
      finished: whether the run has ended.
    """

    learning_rate: float
    best_error: float = 1.0
    error_to_beat: float = 1.0
    epochs_without_improvement: int = 0
    drops: int = 0
    finished: bool = False


def on_plateau(
    control: RateControl, error: float, *, divide_by: float, drops: int, patience: int, tolerance: float
) -> RateControl:
    """The paper's heuristic: divide the rate when the validation error stops improving, then end.

    "We ... divide the learning rate by 10 when the validation error rate stopped improving with the current
    learning rate. The learning rate was ... reduced three times prior to termination."

    Args:
      control: the state before this validation.
      error: validation error after one more epoch, 0..1.
      divide_by: 10 in the paper.
      drops: 3 in the paper; when the error stops improving once more, the run is finished.
      patience: validations without improvement that count as having stopped.
      tolerance: an improvement undercuts the error at the last improvement by more than this, 0..1.
    """
    control = _note(control, error, tolerance)
    if control.epochs_without_improvement < patience:
        return control
    if control.drops >= drops:
        return dataclasses.replace(control, finished=True)
    return dataclasses.replace(
        control,
        learning_rate=control.learning_rate / divide_by,
        drops=control.drops + 1,
        epochs_without_improvement=0,
    )


def on_schedule(
    control: RateControl, error: float, *, epoch: int, schedule: Sequence[tuple[int, float]]
) -> RateControl:
    """A fixed list instead of the heuristic: the last rate whose epoch has been reached.

    Args:
      control: the state before this validation.
      error: validation error after `epoch` epochs, 0..1.
      epoch: epochs completed.
      schedule: pairs (epoch, rate), as `check_schedule` wants them.
    """
    rate = ([control.learning_rate] + [rate for first, rate in schedule if first <= epoch])[-1]
    drops = control.drops + (rate < control.learning_rate)
    return dataclasses.replace(_note(control, error, 0.0), learning_rate=rate, drops=drops)


def _note(control: RateControl, error: float, tolerance: float) -> RateControl:
    """Takes a validation error into account; one that is not a number improves nothing."""
    improved = error < control.error_to_beat - tolerance
    return dataclasses.replace(
        control,
        best_error=min(control.best_error, error),
        error_to_beat=error if improved else control.error_to_beat,
        epochs_without_improvement=0 if improved else control.epochs_without_improvement + 1,
    )


def check_schedule(schedule: Sequence[tuple[int, float]]) -> None:
    """Raises UserError where `schedule` is not a list of (epoch, rate) with ascending epochs from 1 on."""
    try:
        epochs = [epoch for epoch, _ in schedule]
        fine = epochs == sorted({int(epoch) for epoch in epochs}) and all(float(rate) >= 0 for _, rate in schedule)
    except (TypeError, ValueError, OverflowError):
        fine = False
    if not fine or (epochs and epochs[0] < 1):
        raise UserError(
            f'config.rate_control.schedule={schedule!r} must be pairs (epochs completed, rate from then on) in '
            'ascending order, for example ((23, 0.001), (51, 0.0001)).'
        )


def after_epoch(control: RateControl, error: float, epoch: int, config) -> RateControl:
    """The state after an epoch's validation: by `config.schedule` where there is one, else on a plateau.

    Args:
      control: the state before.
      error: validation error after `epoch` epochs, 0..1.
      epoch: epochs completed.
      config: the experiment's `rate_control`.
    """
    if config.schedule:
        return on_schedule(control, error, epoch=epoch, schedule=config.schedule)
    return on_plateau(
        control,
        error,
        divide_by=config.divide_by,
        drops=config.drops,
        patience=config.patience,
        tolerance=config.tolerance,
    )
