"""Section 5: one training step, a pure function jitted over the mesh."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import Mesh

from alexnet_jax.data.augment import Statistics, training_images
from alexnet_jax.data.device_feed import Batch
from alexnet_jax.evaluation.metrics import top_k_errors
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.model.columns import DATA, EVERYWHERE, PER_COLUMN, PER_EXAMPLE, sharding
from alexnet_jax.runtime.compiler_options import known_options
from alexnet_jax.training.optimizer import update_rule

Metrics = dict[str, Array]
_METRICS = ('loss', 'top1_error', 'top5_error')  # of a batch


@flax.struct.dataclass
class TrainState:
    """The arrays that training updates.

    Attributes:
      step: int32, updates made so far.
      parameters: {layer: {'kernel', 'bias'}}, float32, the leading axis being the column.
      velocity: the state of `optimizer.update_rule`, arrays shaped like the parameters.
    """

    step: Array
    parameters: dict[str, dict[str, Array]]
    velocity: optax.OptState


def initial_state(parameters: dict[str, dict[str, Array]]) -> TrainState:
    """The state before the first step: no velocity."""
    rule = update_rule(0.0, momentum=0.0, weight_decay=0.0)  # the state's shape does not depend on these
    return TrainState(jnp.zeros((), jnp.int32), parameters, rule.init(parameters))


def state_sharding(state: Any, mesh: Mesh) -> Any:
    """Sharding of each array of a `TrainState`: parameters and velocity by column."""
    return jax.tree.map(lambda x: sharding(mesh, PER_COLUMN if x.ndim else EVERYWHERE), state)


def make_train_step(
    network: AlexNet,
    mesh: Mesh,
    *,
    batch_size: int,
    momentum: float,
    weight_decay: float,
    decay_biases: bool = True,
    layer_decays: Sequence[tuple[str, float]] = (),
    accumulation_steps: int = 1,
    in_loop: bool | None = None,
) -> Callable[[TrainState, Batch, Statistics, Any], tuple[TrainState, Metrics]]:
    """Builds the jitted training step.

    Args:
      network: with the columns as they live on a device of the mesh.
      mesh: of axes 'data' and 'column'.
      batch_size: examples in a batch, over all devices.
      momentum, weight_decay, decay_biases, layer_decays: of the update rule.
      accumulation_steps: micro-batches, computed one after the other. A device holds the activations of one and the
        sum of gradients; the update is the same up to float32 rounding.
      in_loop: whether the program has the micro-batches in a loop; otherwise they are written out one after the other,
        which takes longer to compile. None for a loop, but not on CPUs, where XLA's convolutions inside a loop are many
        times slower.

    Returns:
      A function of (state, batch, statistics, learning rate or a tree of rates) that returns the next state and the
      batch's mean 'loss', 'top1_error' and 'top5_error' (float32 scalars). The state given is consumed. What devices
      exchange is: columns before the lines that see both of them, in each part, and once the sum of gradients along
      'data'.
    """

    written_out = mesh.devices.flat[0].platform == 'cpu' if in_loop is None else not in_loop

    def share(parameters: Any, batch: Batch, statistics: Statistics) -> tuple[Any, Metrics]:
        """The contribution of these examples to the batch's gradients and metrics."""

        def share_of_loss(parameters: Any) -> tuple[Array, Array]:
            with jax.named_scope('input'):  # by which a profile tells it from the layers
                images = training_images(batch, statistics)
            variables, seeds = {'params': parameters}, batch['dropout_seed']
            logits = cast(Array, network.apply(variables, images, dropout_seeds=seeds))
            with jax.named_scope('loss'):
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
                return losses.sum() / batch_size, logits

        (loss, logits), gradients = jax.value_and_grad(share_of_loss, has_aux=True)(parameters)
        with jax.named_scope('loss'):
            errors = {
                f'top{k}_error': top_k_errors(logits, batch['label'], k).astype(jnp.float32).sum() / batch_size
                for k in (1, 5)
            }
        return gradients, {'loss': loss, **errors}

    def on_device(parameters: Any, batch: Batch, statistics: Statistics) -> tuple[Any, Metrics]:
        # As parameters of this device alone: their gradients stay its own until all are added up, in float32.
        own = lax.pcast(parameters, DATA, to='varying')
        if accumulation_steps == 1:
            return cast(tuple[Any, Metrics], lax.psum(share(own, batch, statistics), DATA))

        def add(sums: tuple[Any, Metrics], part: Batch) -> tuple[tuple[Any, Metrics], None]:
            if written_out:  # else all micro-batches might be begun at once
                part = part | {'color': part['color'] + _zero_after(sums)}
            own_share = share(own, part, statistics)
            with jax.named_scope('accumulation'):
                return jax.tree.map(jnp.add, sums, own_share), None

        parts = jax.tree.map(lambda x: x.reshape(accumulation_steps, -1, *x.shape[1:]), batch)
        none = {name: lax.pcast(jnp.float32(0), DATA, to='varying') for name in _METRICS}
        sums, _ = lax.scan(add, (jax.tree.map(jnp.zeros_like, own), none), parts, unroll=written_out)
        return cast(tuple[Any, Metrics], lax.psum(sums, DATA))

    gradients_and_metrics = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(PER_COLUMN, PER_EXAMPLE, EVERYWHERE),
        out_specs=(PER_COLUMN, EVERYWHERE),
    )

    def train_step(state: TrainState, batch: Batch, statistics: Statistics, rate: Any) -> tuple[TrainState, Metrics]:
        gradients, metrics = gradients_and_metrics(state.parameters, batch, statistics)
        with jax.named_scope('update'):
            rule = update_rule(
                rate,
                momentum=momentum,
                weight_decay=weight_decay,
                decay_biases=decay_biases,
                layer_decays=layer_decays,
            )
            updates, velocity = rule.update(gradients, state.velocity, state.parameters)
            parameters = optax.apply_updates(state.parameters, updates)
        # Each array stays where it lives, whatever the compiler would choose.
        state = TrainState(state.step + 1, parameters, velocity)
        return lax.with_sharding_constraint(state, state_sharding(state, mesh)), metrics

    # By default XLA joins the sums of gradients of all layers and begins them at the end; joined up to 4 MB each begins
    # while the gradients of the layers below it are computed.
    sums_on_gpus = mesh.devices.flat[0].platform == 'gpu' and mesh.shape[DATA] > 1
    options = known_options({'xla_gpu_all_reduce_combine_threshold_bytes': 4_000_000}) if sums_on_gpus else None
    return jax.jit(train_step, donate_argnums=0, compiler_options=options)


def _zero_after(values: Any) -> Array:
    """0.0, which XLA does not know before it has computed all arrays of a tree.

    Its CPU compiler drops an `optimization_barrier` before it decides in which order to compute.
    """
    firsts = jnp.stack([x[(0,) * x.ndim] for x in jax.tree.leaves(values)])
    bits = lax.bitcast_convert_type(firsts, jnp.uint32).max()
    return ((bits >> 16) >> 16).astype(jnp.float32)
