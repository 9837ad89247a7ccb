"""The network: a Flax module that runs a table of layers, such as Figure 2's, in columns (sections 3.2 and 3.5).

A column is what the paper puts on one GPU: half of every layer's kernels. Parameters have the column as their leading
axis, and the module computes all columns or, inside `jax.shard_map`, those of one device.
"""

import functools
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, assert_never, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from alexnet_jax.model import layers as functions
from alexnet_jax.model.columns import Columns
from alexnet_jax.model.half_precision import narrowed, widened
from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Flatten,
    Layer,
    Learned,
    LocallyConnected,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    SpatialNormalization,
    Table,
    Tanh,
    outputs_along,
)
from alexnet_jax.runtime.errors import UserError

Parameters = dict[str, dict[str, Array]]
Convolve = Callable[..., list[Array]]  # such as `fft_convolution.cpu_convolution`


def _normal(key: Array, std: float, shape: tuple[int, ...]) -> Array:
    """What `nn.initializers.normal(std)` draws; drawn as a vector, for which XLA compiles several times faster."""
    return (std * jax.random.normal(key, (math.prod(shape),), jnp.float32)).reshape(shape)


class LayerParameters(nn.Module):
    """Kernel and bias of one layer, initialized as section 5 says: normal with `std`, and constant `bias`.

    Attributes:
      shape: of the kernel, [local columns, ..., outputs].
      positions: rows and columns of a map, where each position has its own biases.
    """

    shape: tuple[int, ...]
    std: float
    bias: float
    positions: tuple[int, ...] = ()

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """Returns the kernel, of `shape`, and the bias, [local columns, *positions, outputs]."""
        kernel = self.param('kernel', _normal, self.std, self.shape)
        bias_shape = (self.shape[0], *self.positions, self.shape[-1])
        return kernel, self.param('bias', nn.initializers.constant(self.bias), bias_shape, jnp.float32)


class AlexNet(nn.Module):
    """A network of columns, from a table of layers.

        network = AlexNet(figure_2(classes=1000))
        variables = network.init(jax.random.key(0), images)
        logits = network.apply(variables, images, train=True, rngs={'dropout': key})

    Attributes:
      layers: names and specifications in order, as a mapping or as pairs; the last one is dense and gives the logits.
      columns: number of columns, all computed here; or a `Columns`, inside `jax.shard_map`.
      dtype: type of the activations; parameters are float32.
      convolve: computes the convolutions of all columns, in place of `layers.convolution` for each.
    """

    layers: Mapping[str, Layer] | Table
    columns: int | Columns = 2
    dtype: Any = jnp.float32
    convolve: Convolve | None = None

    def __post_init__(self) -> None:
        self.layers = tuple(self.layers.items() if isinstance(self.layers, Mapping) else self.layers)
        if isinstance(self.columns, int):
            self.columns = Columns(self.columns, self.columns)
        super().__post_init__()

    @property
    def table(self) -> Table:
        """The layers as pairs of name and specification."""
        return cast(Table, self.layers)

    @property
    def split(self) -> Columns:
        """The columns, and which of them are local."""
        return cast(Columns, self.columns)

    @nn.compact
    def __call__(self, images: Array, train: bool | None = None, dropout_seeds: Array | None = None) -> Array:
        """Computes the logits.

        Args:
          images: float [batch, height, width, 3], in 0..255 units, the training mean subtracted.
          train: whether dropout is active; None: exactly if an rng named 'dropout' or `dropout_seeds` is given.
          dropout_seeds: uint32 [batch], a seed for each image's dropout, as the sharded training step gives them; by
            default they are drawn from the rng 'dropout'.

        Returns:
          float32 [batch, classes].

        Raises:
          UserError: the table does not fit the images or the number of columns.
          flax.errors.InvalidRngError: train=True, and neither an rng 'dropout' nor `dropout_seeds` is given.
        """
        if train is None:
            train = dropout_seeds is not None or self.has_rng('dropout')
        if not train:
            dropout_seeds = None
        elif dropout_seeds is None and any(isinstance(layer, Dropout) for _, layer in self.table):
            dropout_seeds = jax.random.bits(self.make_rng('dropout'), images.shape[:1], jnp.uint32)

        values = [images.astype(self.dtype)] * self.split.local  # one array a column
        for name, layer in self.table:
            with jax.named_scope(name):  # by which a profile tells the layers apart
                values = self._apply_layer(name, layer, values, dropout_seeds)
            self.sow('intermediates', f'after_{name}', values)
        return self.split.gather_logits(values)[:, : classes_of(self.table)].astype(jnp.float32)

    def _apply_layer(self, name: str, layer: Layer, xs: list[Array], dropout_seeds: Array | None) -> list[Array]:
        """Each local column's output of one layer."""

        def each(function: Callable[..., Array], *parameters: Iterable[Array], **options: Any) -> list[Array]:
            return [function(x, *own, **options) for x, *own in zip(xs, *parameters, strict=True)]

        match layer:
            case Convolution(_, size, stride, pad):
                kernels, biases = self._parameters(name, layer, (size, size, xs[0].shape[-1]))
                far_pad = pad if layer.far_pad < 0 else layer.far_pad
                edges: dict[str, Any] = {'rounding': layer.rounding, 'far_pad': far_pad}
                _check_window_fits(name, xs[0], size, stride, pad, **edges)
                if self.convolve:
                    return self.convolve(xs, kernels, biases, stride=stride, pad=pad, **edges)
                return each(functions.convolution, kernels, biases, stride=stride, pad=pad, **edges)
            case LocallyConnected(_, size, stride, pad):
                _check_window_fits(name, xs[0], size, stride, pad)
                positions = tuple(outputs_along(n, size, stride, pad) for n in xs[0].shape[1:3])
                inputs = (*positions, size * size * xs[0].shape[-1])
                parameters = self._parameters(name, layer, inputs, positions)
                return each(functions.locally_connected, *parameters, size=size, stride=stride, pad=pad)
            case Dense():
                if xs[0].ndim != 2:
                    raise UserError(f'config.network.{name}: a dense layer takes a vector; put a flatten layer before.')
                return each(functions.dense, *self._parameters(name, layer, xs[0].shape[-1:]))
            case ReLU():
                return each(functions.relu)
            case Tanh():
                return each(functions.tanh)
            case LocalResponseNormalization(k, n, alpha, beta, across_columns):
                normalize = functools.partial(functions.local_response_normalization, k=k, n=n, alpha=alpha, beta=beta)
                if across_columns and self.split.count > 1:
                    return self._across_columns(name, normalize, xs, n // 2)
                return each(normalize)
            case SpatialNormalization(k, size, alpha, beta):
                return each(functions.spatial_normalization, k=k, size=size, alpha=alpha, beta=beta)
            case MaxPooling(size, stride, rounding):
                _check_window_fits(name, xs[0], size, stride, rounding=rounding)
                return each(functions.max_pooling, size=size, stride=stride, rounding=rounding)
            case AveragePooling(size, stride, rounding):
                _check_window_fits(name, xs[0], size, stride, rounding=rounding)
                return each(functions.average_pooling, size=size, stride=stride, rounding=rounding)
            case Flatten():
                return [x.reshape(x.shape[0], -1) for x in xs]
            case Exchange('network'):
                return [self.split.exchange(xs)] * self.split.local
            case Exchange(precision):
                passed = [narrowed(x, precision) for x in xs]
                return [widened(self.split.exchange(passed), xs[0].dtype)] * self.split.local
            case Dropout(rate):
                if dropout_seeds is None:
                    return each(functions.dropout, rate=rate)
                keys = [_dropout_keys(name, dropout_seeds, column) for column in self.split.indices()]
                return each(functions.dropout, keys, rate=rate)
            case _:
                assert_never(layer)

    def _across_columns(
        self, name: str, normalize: Callable[[Array], Array], xs: list[Array], reach: int
    ) -> list[Array]:
        """Normalizes each column's channels, beside them `reach` channels of each neighboring column."""
        channels = xs[0].shape[-1]
        if channels < reach:
            raise UserError(
                f'config.network.{name}: across_columns needs at least {reach} channels in a column; there are '
                f'{channels}.'
            )
        beside = self.split.neighbors(xs, reach)
        wide = [jnp.concatenate((left, x, right), -1) for x, (left, right) in zip(xs, beside, strict=True)]
        return [normalize(x)[..., reach : reach + channels] for x in wide]

    def _parameters(
        self, name: str, layer: Learned, inputs: tuple[int, ...], positions: tuple[int, ...] = ()
    ) -> tuple[Array, Array]:
        """Kernels and biases of a layer, its outputs divided evenly among the columns.

        The last layer's are rounded up where the columns do not divide the classes; `__call__` drops the excess.
        """
        field = 'units' if isinstance(layer, Dense) else 'kernels'
        outputs, count = getattr(layer, field), self.split.count
        if outputs % count and name != self.table[-1][0]:
            raise UserError(
                f'config.network.{name}.{field}={outputs} must be divisible by the number of columns, {count}.'
            )
        shape = (self.split.local, *inputs, -(-outputs // count))
        return LayerParameters(shape, layer.std, layer.bias, positions, name=name)()


def _check_window_fits(name: str, x: Array, size: int, stride: int, pad: int = 0, **edges: Any) -> None:
    if x.ndim != 4 or min(outputs_along(n, size, stride, pad, **edges) for n in x.shape[1:3]) < 1:
        raise UserError(
            f'config.network.{name}: a window of {size} x {size} does not fit its input of '
            f'{" x ".join(map(str, x.shape[1:]))}; give larger images (config.data.crop_size) or remove layers.'
        )


def _dropout_keys(name: str, seeds: Array, column: Array | int) -> Array:
    """Random keys, [batch], that depend on the example's seed, the layer and the column, never on the device."""

    def key(seed: Array, column: Any) -> Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode())), column)

    return jax.vmap(key, (0, None))(seeds, column)


def classes_of(table: Table) -> int:
    """Number of classes, the units of the last layer; UserError if that is not dense."""
    name, layer = table[-1] if table else ('', None)
    if not isinstance(layer, Dense):
        raise UserError(f'config.network: the last layer must be of type dense, to give the logits; it is {name!r}.')
    return layer.units


def initial_parameters(layers: Mapping[str, Layer] | Table, columns: int, crop_size: int, seed: int) -> Parameters:
    """Initial parameters of all columns, as in section 5: normal kernels, constant biases, float32.

    They depend on the seed alone, not on the devices: what `AlexNet.init` gives with `jax.random.key(seed)`.

    Args:
      layers: of the network.
      columns: number of columns.
      crop_size: height and width of the images, in pixels.
      seed: of the random draws.
    """
    images = jax.ShapeDtypeStruct((1, crop_size, crop_size, 3), jnp.float32)
    variables = AlexNet(layers, columns).lazy_init(jax.random.key(seed), images)
    return cast(Parameters, variables['params'])
