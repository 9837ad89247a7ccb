"""Section 5: the update rule, the control of the learning rate, and rates of single layers."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import tree_map_with_path

from alexnet_jax.config import Config, RateControlConfig
from alexnet_jax.runtime.errors import UserError


def update_rule(
    learning_rate: Any,
    *,
    momentum: float,
    weight_decay: float,
    decay_biases: bool = True,
    layer_decays: Sequence[tuple[str, float]] = (),
) -> optax.GradientTransformation:
    """The paper's update: v <- momentum v - weight_decay rate w - rate gradient; w <- w + v.

    The learning rate is inside the velocity: after a drop, the accumulated velocity keeps its size. `optax.sgd`
    applies the rate outside, which is a different rule as soon as the rate changes.

    Args:
      learning_rate: epsilon of section 5, a scalar, which may differ from call to call; or a tree of scalars shaped
        like the parameters (`layer_rates`): a rate of 0 freezes an array, parameter and velocity, as in the 2012 code.
      momentum: 0.9 in the paper.
      weight_decay: 0.0005 in the paper.
      decay_biases: whether biases decay too, as in the paper's formula; not so in the 2012 code.
      layer_decays: pairs (which, weight decay) for layers that have their own, as in the files of cuda-convnet's
        CIFAR-10 networks; `which` is as in `matches`, and of the pairs that match the last holds.

    Returns:
      A transformation whose state is that of `optax.trace`: the velocity, shaped like the parameters.
    """
    each = isinstance(learning_rate, dict)
    rule = optax.chain(
        optax.add_decayed_weights(weight_decay)
        if decay_biases and not layer_decays
        else _add_decays(weight_decay, decay_biases, layer_decays),
        optax.stateless(lambda gradients, _: _by_rate(learning_rate, gradients))
        if each
        else optax.scale_by_learning_rate(learning_rate),
        optax.trace(decay=momentum),
    )
    return _frozen_where_zero(learning_rate, rule) if each else rule


def _add_decays(
    weight_decay: float, decay_biases: bool, layer_decays: Sequence[tuple[str, float]]
) -> optax.GradientTransformation:
    def add(path: tuple[Any, ...], gradient: jax.Array, parameter: jax.Array) -> jax.Array:
        layer, array = path[-2].key, path[-1].key
        decays = [weight_decay] + [decay for which, decay in layer_decays if matches(f'{layer}.{array}', which)]
        return gradient + decays[-1] * parameter if decay_biases or array != 'bias' else gradient

    return optax.stateless(lambda gradients, parameters: tree_map_with_path(add, gradients, parameters))


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
    """State of the learning rate's control, part of every checkpoint.

    Attributes:
      learning_rate: the current epsilon.
      best_error: lowest validation error so far (0..1); 1 before the first.
      error_to_beat: the error at the last improvement by more than the tolerance.
      epochs_without_improvement: validations since then.
      drops: number of drops so far.
      finished: whether the run has ended.
    """

    learning_rate: float
    best_error: float = 1.0
    error_to_beat: float = 1.0
    epochs_without_improvement: int = 0
    drops: int = 0
    finished: bool = False


def after_epoch(control: RateControl, error: float, epoch: int, config: RateControlConfig) -> RateControl:
    """The state after an epoch's validation: by the config's schedule where there is one, else on a plateau.

    Args:
      control: the state before.
      error: validation error after `epoch` epochs, 0..1.
      epoch: epochs completed.
      config: when the rate changes.
    """
    if config.schedule:
        return _on_schedule(control, error, epoch, config)
    return _on_plateau(control, error, config)


def after_training(control: RateControl, error: float, config: RateControlConfig) -> RateControl:
    """The state after steps whose mean training error is `error` (0..1): ended where that is low enough."""
    reached = 0 < config.end_at_training_error >= error
    return dataclasses.replace(control, finished=True) if reached else control


def _on_plateau(control: RateControl, error: float, config: RateControlConfig) -> RateControl:
    """The paper's heuristic: divide the rate when the validation error stops improving, then end.

    "We ... divide the learning rate by 10 when the validation error rate stopped improving with the current
    learning rate. The learning rate was ... reduced three times prior to termination."
    """
    control = _with_error(control, error, config.tolerance)
    if control.epochs_without_improvement < config.patience:
        return control
    if control.drops >= config.drops:
        return dataclasses.replace(control, finished=True)
    return dataclasses.replace(
        control,
        learning_rate=control.learning_rate / config.divide_by,
        drops=control.drops + 1,
        epochs_without_improvement=0,
    )


def _on_schedule(control: RateControl, error: float, epoch: int, config: RateControlConfig) -> RateControl:
    """A fixed list instead of the heuristic: the last rate whose epoch has been reached."""
    rate = ([control.learning_rate] + [rate for first, rate in config.schedule if first <= epoch])[-1]
    drops = control.drops + (rate < control.learning_rate)
    return dataclasses.replace(_with_error(control, error, 0.0), learning_rate=rate, drops=drops)


def _with_error(control: RateControl, error: float, tolerance: float) -> RateControl:
    """Takes a validation error into account; NaN is no improvement."""
    improved = error < control.error_to_beat - tolerance
    return dataclasses.replace(
        control,
        best_error=min(control.best_error, error),
        error_to_beat=error if improved else control.error_to_beat,
        epochs_without_improvement=0 if improved else control.epochs_without_improvement + 1,
    )


def layer_rates(parameters: Any, rate: float, epochs: float, config: RateControlConfig) -> Any:
    """The learning rate of every array: "an equal learning rate for all layers", unless the config has rules.

    The 2012 code had them: its biases learned at another rate, and towards the end of a run its first layer was slowed
    down and then frozen. A rule is (epochs, which, number) and is due after so many passes over the training set;
    `which` is as in `matches`. Of the rules that are due and match an array the last one holds; `layer_rates` take
    precedence over `layer_factors`, and an array that no rule matches learns at the current rate.

    Args:
      parameters: {layer: {'kernel', 'bias'}}; only the names count.
      rate: the current learning rate.
      epochs: passes over the training set, with their fraction.
      config: holds the rules.

    Returns:
      float32 scalars in the structure of the parameters; or `rate` alone, as float32, where there are no rules.
    """
    if not config.layer_rates and not config.layer_factors:
        return np.float32(rate)

    def rate_of(name: str) -> np.float32:
        own = _last_match(config.layer_rates, name, epochs)
        factor = _last_match(config.layer_factors, name, epochs)
        return np.float32(own if own is not None else rate if factor is None else rate * factor)

    return {layer: {array: rate_of(f'{layer}.{array}') for array in arrays} for layer, arrays in parameters.items()}


def _last_match(rules: Sequence[tuple[float, str, float]], name: str, epochs: float) -> float | None:
    numbers = [number for first, which, number in rules if first <= epochs and matches(name, which)]
    return numbers[-1] if numbers else None


def matches(name: str, which: str) -> bool:
    """Whether 'conv1', 'conv1.kernel', 'conv*' or '*.bias', say, matches 'LAYER.ARRAY' or a layer's name."""
    return fnmatch.fnmatchcase(name, which) or fnmatch.fnmatchcase(name.split('.')[0], which)


def check_layer_rules(config: Config, layers: Iterable[str]) -> None:
    """Raises UserError where a rule for single layers matches none of the layers, which are those with parameters."""
    layers = list(layers)
    names = [f'{layer}.{array}' for layer in layers for array in ('kernel', 'bias')]
    control = config.rate_control
    rules = {
        'rate_control.layer_rates': [which for _, which, _ in control.layer_rates],
        'rate_control.layer_factors': [which for _, which, _ in control.layer_factors],
        'layer_decays': [which for which, _ in config.layer_decays],
    }
    for field, which in ((field, which) for field, all_of_it in rules.items() for which in all_of_it):
        if not any(matches(name, which) for name in names):
            raise UserError(
                f'config.{field}: {which!r} matches no layer with parameters; there are {", ".join(layers)}.'
            )
