"""The network of section 3.5 and Figure 2, as a table, and the Flax module that runs any such table.

A column is what the paper puts on one GPU: half of every layer's kernels. The module holds a column's
parameters along a leading axis, and runs `columns.here` of `columns.count` columns: both of them on one
device, or one of them on each of two devices. It is a pure function of parameters, images and draws.
"""

import zlib
from typing import Any, assert_never

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from alexnet_jax.model import fft_convolution as fourier
from alexnet_jax.model import layers
from alexnet_jax.model.columns import Columns
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
)
from alexnet_jax.runtime.errors import UserError


class Parameters(nn.Module):
    """Kernel and bias of a layer for the columns that live here, drawn as section 5 says.

    Attributes:
      shape: of the kernel, [columns here, ..., outputs].
      std, bias: of the kernel's draws, and the constant that biases begin with.
      places: rows and columns of a map, where every one of them has a bias of its own.
    """

    shape: tuple[int, ...]
    std: float
    bias: float
    places: tuple[int, ...] = ()

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """Returns the kernel, of `shape`, and the bias, [columns here, *places, outputs]."""
        kernel = self.param('kernel', nn.initializers.normal(self.std), self.shape)
        biases = (self.shape[0], *self.places, self.shape[-1])
        bias = self.param('bias', nn.initializers.constant(self.bias), biases)
        return kernel, bias


class AlexNet(nn.Module):
    """Runs a table of layers on the columns that live on this device.

    Attributes:
      table: the layers; its last line gives the logits.
      columns: how many columns there are, how many live here, and how they meet.
      dtype: type of the activations; parameters are float32.
      at_once: how many images a convolution takes at a time, None for all; see `layers.convolution`.
      fourier: whether convolutions go through Fourier transforms where that saves work; float32 only.
    """

    table: Table
    columns: Columns
    dtype: Any = jnp.float32
    at_once: int | None = None
    fourier: bool = False

    @nn.compact
    def __call__(self, images: Array, dropout_seeds: Array | None = None) -> Array:
        """Computes the logits.

        Args:
          images: float [batch, height, width, 3], the training mean subtracted, in 0..255 units.
          dropout_seeds: in training uint32 [batch], one an example, from which its dropout is drawn;
            None at test time.

        Returns:
          float32 [batch, classes].

        Raises:
          UserError: the table does not fit the images or the number of columns.
        """
        values = [images.astype(self.dtype)] * self.columns.here  # one array a column
        for name, layer in self.table:
            with jax.named_scope(name):  # by which a profile tells the layers apart
                values = self._apply_layer(name, layer, values, dropout_seeds)
            self.sow('intermediates', f'after_{name}', values)  # what inspection reads; free otherwise
        return self.columns.gather_logits(values)[:, : classes_of(self.table)].astype(jnp.float32)

    def _apply_layer(self, name: str, layer: Layer, values: list[Array], dropout_seeds: Array | None) -> list[Array]:
        """What one line of the table makes of each column's values."""
        columns = self.columns
        match layer:
            case Convolution(_, size, stride, pad):
                kernels = self._parameters(name, layer, (size, size, values[0].shape[-1]), layer.kernels)
                self._check_fits(name, values[0], size, stride, pad)
                if self.fourier and stride == 1 and fourier.saves(values[0].shape, kernels[0].shape[1:], pad):
                    return fourier.convolution(values, *kernels, pad=pad)
                return [
                    layers.convolution(x, kernel, bias, stride=stride, pad=pad, at_once=self.at_once)
                    for x, kernel, bias in zip(values, *kernels, strict=True)
                ]
            case LocallyConnected(_, size, stride, pad):
                self._check_fits(name, values[0], size, stride, pad)
                places = tuple(layers.outputs_along(n, size, stride, pad) for n in values[0].shape[1:3])
                sees = (*places, size * size * values[0].shape[-1])
                kernels = self._parameters(name, layer, sees, layer.kernels, places)
                return [
                    layers.locally_connected(x, kernel, bias, size=size, stride=stride, pad=pad)
                    for x, kernel, bias in zip(values, *kernels, strict=True)
                ]
            case Dense():
                if values[0].ndim != 2:
                    raise UserError(
                        f'config.network.{name}: a dense layer takes a vector; put a flatten line before it.'
                    )
                kernels = self._parameters(name, layer, (values[0].shape[-1],), layer.units)
                return [layers.dense(x, kernel, bias) for x, kernel, bias in zip(values, *kernels, strict=True)]
            case ReLU():
                return [layers.relu(x) for x in values]
            case Tanh():
                return [layers.tanh(x) for x in values]
            case SpatialNormalization(k, size, alpha, beta):
                return [layers.spatial_normalization(x, k=k, size=size, alpha=alpha, beta=beta) for x in values]
            case LocalResponseNormalization(k, n, alpha, beta):
                return [layers.local_response_normalization(x, k=k, n=n, alpha=alpha, beta=beta) for x in values]
            case MaxPooling(size, stride):
                self._check_fits(name, values[0], size, stride, 0)
                return [layers.max_pooling(x, size=size, stride=stride) for x in values]
            case AveragePooling(size, stride):
                self._check_fits(name, values[0], size, stride, 0)
                return [layers.average_pooling(x, size=size, stride=stride) for x in values]
            case Flatten():
                return [x.reshape(x.shape[0], -1) for x in values]
            case Exchange():
                return [columns.exchange(values)] * columns.here
            case Dropout(rate):
                keys = self._dropout_keys(name, dropout_seeds)
                return [layers.dropout(x, key, rate=rate) for x, key in zip(values, keys, strict=True)]
            case _:
                assert_never(layer)

    def _parameters(
        self, name: str, layer: Learned, sees: tuple[int, ...], outputs: int, places: tuple[int, ...] = ()
    ) -> tuple[Array, Array]:
        """Kernels and biases of a layer whose outputs are dealt evenly to the columns.

        The last layer's are rounded up where the classes do not divide; `__call__` cuts off the rest.
        """
        count = self.columns.count
        if outputs % count and name != self.table[-1][0]:
            field = 'units' if isinstance(layer, Dense) else 'kernels'
            raise UserError(f'config.network.{name}.{field}={outputs} cannot be dealt to {count} columns evenly.')
        shape = (self.columns.here, *sees, -(-outputs // count))
        return Parameters(shape, layer.std, layer.bias, places, name=name)()

    def _check_fits(self, name: str, x: Array, size: int, stride: int, pad: int) -> None:
        if x.ndim != 4 or min(layers.outputs_along(n, size, stride, pad) for n in x.shape[1:3]) < 1:
            raise UserError(
                f'config.network.{name}: a window of {size} x {size} does not fit its input of '
                f'{" x ".join(map(str, x.shape[1:]))}; give larger images (config.data.crop_size) or leave layers out.'
            )

    def _dropout_keys(self, name: str, seeds: Array | None) -> list[Array | None]:
        """Keys for each column here, [batch]: drawn by example, layer and column, never by device."""
        if seeds is None:
            return [None] * self.columns.here
        layer = zlib.crc32(name.encode())

        def key(seed: Array, column: Array) -> Array:
            return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), layer), column)

        return [jax.vmap(key, (0, None))(seeds, column) for column in self.columns.indices()]


def classes_of(table: Table) -> int:
    """Number of classes that a table tells apart: the units of its last line.

    Raises:
      UserError: the last line is not a dense layer.
    """
    name, layer = table[-1] if table else ('', None)
    if not isinstance(layer, Dense):
        raise UserError(f'config.network: the last layer must be of type dense, to give the logits; it is {name!r}.')
    return layer.units


def initial_parameters(table: Table, columns: int, crop_size: int, seed: int) -> dict[str, dict[str, Array]]:
    """Parameters of all columns as section 5 draws them: normal kernels, constant biases, float32.

    The same for a given seed wherever they will live: the leading axis of every array is the column.

    Args:
      table: the network.
      columns: number of columns.
      crop_size: height and width of the images, in pixels.
      seed: of the draws.
    """
    network = AlexNet(table, Columns(columns, columns))
    images = jax.ShapeDtypeStruct((1, crop_size, crop_size, 3), jnp.float32)
    return network.lazy_init(jax.random.key(seed), images)['params']
