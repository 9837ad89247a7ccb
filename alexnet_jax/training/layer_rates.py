"""A learning rate of its own for a layer, or for its biases alone.

The paper has "an equal learning rate for all layers". The 2012 code did not: its biases learned at another rate,
and towards the end of a run its first layer was slowed down and then frozen.
"""

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from alexnet_jax.config import Config

from alexnet_jax.runtime.errors import UserError

Rules = Sequence[tuple[float, str, float]]


def rates_of_layers(parameters: Any, rate: float, epochs: float, config: Config) -> Any:
    """The learning rate of every array.

    A rule is (epochs, which, number) and is due once so many passes have been made through the training set. `which`
    names arrays: 'conv1' its kernel and its bias, 'conv1.kernel' and 'conv1.bias' one of them; * stands for any
    letters, as in '*.bias' or 'conv*'. Of the rules that are due and fit an array the last one holds; rates go before
    factors, and an array that no rule fits learns at the rate in force.

    Args:
      parameters: {layer: {'kernel', 'bias'}}; only the names count.
      rate: in force, as the rate's control has it.
      epochs: passes made through the training set, with their fraction.
      config: the experiment's `rate_control`. Of its `layer_rates` the number is the rate itself; of its
        `layer_factors`, by how much the rate in force is multiplied.

    Returns:
      float32 scalars in the structure of the parameters; or `rate` alone, as float32, where there are no rules.
    """
    if not has_rules(config):
        return np.float32(rate)

    def rate_of(name: str) -> np.float32:
        own = _last_that_fits(config.layer_rates, name, epochs)
        factor = _last_that_fits(config.layer_factors, name, epochs)
        return np.float32(own if own is not None else rate if factor is None else rate * factor)

    return {layer: {array: rate_of(f'{layer}.{array}') for array in arrays} for layer, arrays in parameters.items()}


def has_rules(config: Config) -> bool:
    """Whether `rate_control` has rules for single layers."""
    return bool(config.layer_rates or config.layer_factors)


def _last_that_fits(rules: Rules, name: str, epochs: float) -> float | None:
    fitting = [number for first, which, number in rules if first <= epochs and fits(name, which)]
    return fitting[-1] if fitting else None


def fits(name: str, which: str) -> bool:
    """Whether 'LAYER.ARRAY', or a layer's name alone, is meant by a pattern such as 'conv1', 'conv*' or '*.bias'."""
    return fnmatch.fnmatchcase(name, which) or fnmatch.fnmatchcase(name.split('.')[0], which)


def check_rules(config: Config, layers: Iterable[str]) -> None:
    """Checks the rules of a `rate_control`.

    Args:
      config: the experiment's `rate_control`.
      layers: names of the layers that have parameters.

    Raises:
      UserError: a rule is none, or names no array of the network.
    """
    names = [f'{layer}.{array}' for layer in layers for array in ('kernel', 'bias')]
    for field in ('layer_rates', 'layer_factors'):
        for rule in config[field]:
            if not _is_rule(rule):
                raise UserError(
                    f'config.rate_control.{field}: {rule!r:.100} must be (epochs, which, number), as in '
                    "(0, 'conv1', 0.0) or (23, '*.bias', 0.02), with numbers of at least 0."
                )
            if not any(fits(name, rule[1]) for name in names):
                raise UserError(
                    f'config.rate_control.{field}: {rule[1]!r} names no layer with parameters; there are '
                    f'{", ".join(layers)}.'
                )


def _is_rule(rule: Any) -> bool:
    return (
        isinstance(rule, list | tuple)
        and len(rule) == 3
        and isinstance(rule[1], str)
        and all(type(x) in (int, float) and 0 <= x < 2**1000 for x in (rule[0], rule[2]))
    )
