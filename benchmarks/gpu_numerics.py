"""What a GPU computes, beside what the CPU of the same machine computes: logits and gradients of one training batch.

    python -m benchmarks.gpu_numerics

Both start from the same parameters and images, without dropout. The CPU computes in float32; the device in float32 with
its products rounded as little as possible, in float32 as JAX does by default (TF32 on newer GPUs), and in bfloat16.
A difference is the norm of what differs over the norm of the array. The exit code is 1 where one is above its limit.
"""

import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from alexnet_jax.config import Config
from alexnet_jax.data.augment import training_images
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.runs.build import Experiment, first_state
from alexnet_jax.runtime.devices import choose_platform
from benchmarks.step_sides import made_batch, on_one_device

CONFIG = config_flags.DEFINE_config_file('config', 'experiments/paper.py', 'The experiment, as for launch.py.')
IMAGES = flags.DEFINE_integer('images', 16, 'Of the batch.', lower_bound=1)
# By what is computed: activations, how products are rounded, and the limits of logits and of gradients, which jump
# where rounding makes another value of a pooling window the largest.
KINDS = {
    'float32, highest': (jnp.float32, 'highest', 1e-4, 1e-2),
    'float32, default': (jnp.float32, None, 5e-3, 1.5e-1),
    'bfloat16': (jnp.bfloat16, None, 5e-2, 5e-1),
}


def logits_and_gradients(
    experiment: Experiment, parameters: Any, images: np.ndarray, labels: np.ndarray, dtype: Any, rounding: str | None
) -> dict[str, np.ndarray]:
    """'logits', and the loss gradient of each layer's kernel, as computed by the default device."""
    network = AlexNet(experiment.config.network, experiment.config.columns, dtype=dtype)

    def loss_of(parameters: Any) -> tuple[jax.Array, jax.Array]:
        logits = network.apply({'params': parameters}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    with jax.default_matmul_precision(rounding or 'default'):
        (_, logits), gradients = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(parameters)
    return {'logits': np.asarray(logits, np.float32)} | {
        name: np.asarray(arrays['kernel'], np.float32) for name, arrays in gradients.items()
    }


def differences(experiment: Experiment) -> dict[str, dict[str, float]]:
    """For each of the `KINDS` the difference of each array from the CPU's."""
    batch, constants = made_batch(experiment)
    parameters = jax.device_get(first_state(experiment).parameters)
    with jax.default_device(jax.devices('cpu')[0]):
        images = np.asarray(training_images(batch, constants))
        expected = logits_and_gradients(experiment, parameters, images, batch['label'], jnp.float32, 'highest')
    found = {}
    for kind, (dtype, rounding, *_) in KINDS.items():
        computed = logits_and_gradients(experiment, parameters, images, batch['label'], dtype, rounding)
        found[kind] = {name: difference(values, expected[name]) for name, values in computed.items()}
    return found


def within_limits(found: Mapping[str, float], kind: str) -> bool:
    """Whether all differences are below the limits of a kind; NaN is not."""
    *_, of_logits, of_gradients = KINDS[kind]
    return all(value <= (of_logits if name == 'logits' else of_gradients) for name, value in found.items())


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The norm of the difference of two arrays over that of the other."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def main(argv: list[str]) -> None:
    """Compares and prints; exit code 1 where a limit is passed."""
    console = Console(width=120)
    console.print(choose_platform(), highlight=False)
    found = differences(on_one_device(Config.from_fields(CONFIG.value), IMAGES.value, 'float32'))
    table = Table(title=f'{jax.devices()[0].device_kind} beside the CPU: norm of the difference over norm')
    table.add_column('')
    for kind in found:
        table.add_column(kind, justify='right')
    for name in next(iter(found.values())):
        table.add_row(name, *(f'{by_name[name]:.1e}' for by_name in found.values()))
    table.add_row('limit of logits; gradients', *(f'{one:.0e}; {other:.0e}' for *_, one, other in KINDS.values()))
    console.print(table)
    passed = [kind for kind, by_name in found.items() if not within_limits(by_name, kind)]
    if passed:
        console.print(f'Above its limit: {", ".join(passed)}.')
        sys.exit(1)


if __name__ == '__main__':
    app.run(main)
