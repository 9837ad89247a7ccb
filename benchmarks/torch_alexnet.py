"""The same network and training step in PyTorch, as fast as PyTorch can run it, for `train_step.py`.

The columns become groups of a convolution; a layer after an exchange sees them all. Channels and units are those of
column 1, then those of column 2.
"""

import contextlib
import dataclasses
import math
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch._dynamo
import torch.nn.functional as F  # noqa: N812 - as everyone calls it
from torch import Tensor, nn

from alexnet_jax.model.layer_specs import (
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Flatten,
    LocallyConnected,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    Table,
    Tanh,
)
from alexnet_jax.model.layers import outputs_along
from alexnet_jax.runtime.errors import UserError

Parameters = dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to run it.

    Attributes:
      compiled: by torch.compile; else eager.
      channels_last: whether the channels of a map lie next to each other in memory; else the pixels.
      written_out: whether the normalization is that of `Normalization` below; else PyTorch's own.
      graphs: whether the compiled step is replayed as CUDA graphs.
    """

    compiled: bool = False
    channels_last: bool = False
    written_out: bool = False
    graphs: bool = False

    def __str__(self) -> str:
        words = ['compiled' if self.compiled else 'eager']
        words += ['with graphs'] * self.graphs + ['channels last'] * self.channels_last
        return 'torch ' + ', '.join(words + ['own LRN'] * self.written_out)


def variants(device: str) -> list[Variant]:
    """All variants possible here: compiling for a CPU needs a C++ compiler, graphs need a GPU."""
    can_compile = device != 'cpu' or shutil.which('g++') is not None
    kinds = [(False, False)] + [(True, False)] * can_compile + [(True, True)] * (device != 'cpu')
    return [
        Variant(compiled, channels_last, written_out, graphs)
        for compiled, graphs in kinds
        for channels_last in (False, True)
        for written_out in (False, True)
    ]


class Normalization(torch.autograd.Function):
    """Section 3.3 within each column, with its gradient written out as in `alexnet_jax.model.layers`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: int, n: int, k: float, alpha: float, beta: float) -> Tensor:
        """x: [batch, channels of all columns, height, width], as is the result."""
        ctx.save_for_backward(x)
        ctx.constants = columns, n, k, alpha, beta
        a = x.float()
        return (a * _power(k + alpha * _sum_near(a.square(), columns, n), beta)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of x, and none of the constants."""
        (x,), (columns, n, k, alpha, beta) = ctx.saved_tensors, ctx.constants
        a = x.float()
        base = k + alpha * _sum_near(a.square(), columns, n)
        scaled = gradient.float() * _power(base, beta)
        near = _sum_near(scaled * a / base, columns, n)
        return (scaled - 2 * alpha * beta * a * near).to(x.dtype), None, None, None, None, None


def _power(base: Tensor, beta: float) -> Tensor:
    if beta != 0.75:
        return base.pow(-beta)
    root = base.rsqrt()
    return root * root.sqrt()


def _sum_near(values: Tensor, columns: int, n: int) -> Tensor:
    """The sum over the n channels around each, within its column."""
    apart = values.unflatten(1, (columns, -1))
    channels = apart.shape[2]
    padded = F.pad(apart, (0, 0, 0, 0, n // 2, n // 2))
    total = padded[:, :, :channels]
    for j in range(1, n // 2 * 2 + 1):
        total = total + padded[:, :, j : j + channels]
    return total.flatten(1, 2)


class LocallyConnected2d(nn.Module):
    """A convolution with other weights at each position; PyTorch has none."""

    def __init__(self, channels: int, layer: LocallyConnected, positions: int) -> None:
        super().__init__()
        self.size, self.stride, self.pad = layer.size, layer.stride, layer.pad
        self.weight = nn.Parameter(torch.empty(positions, channels * layer.size**2, layer.kernels))
        self.bias = nn.Parameter(torch.empty(positions * layer.kernels))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, side, side] to [batch, kernels, outputs, outputs]."""
        windows = F.unfold(x, self.size, padding=self.pad, stride=self.stride)
        found = torch.einsum('bip,pik->bpk', windows, self.weight) + self.bias.view(len(self.weight), -1)
        return found.transpose(1, 2).unflatten(2, (math.isqrt(len(self.weight)), -1))


class TorchAlexNet(nn.Module):
    """A table of layers, of the kinds in section 3.5, and of those of cuda-convnet's CIFAR-10 networks."""

    def __init__(self, table: Table, columns: int, crop: int, written_out: bool = False) -> None:
        """Builds the layers, for images of `crop` pixels a side, padded as `padded` does."""
        super().__init__()
        self.table, self.columns, self.written_out = table, columns, written_out
        self.layers = nn.ModuleDict()
        self.ceil: dict[str, bool] = {}  # whether the last window of a pooling layer runs past the edge
        channels, side, groups = 3, crop, 1
        for name, layer in table:
            match layer:
                case Convolution(kernels, size, stride, pad):
                    self.layers[name] = nn.Conv2d(channels, kernels, size, stride, pad, groups=groups)
                    outputs = outputs_along(side, size, stride, pad, rounding=layer.rounding)
                    runs_past = name != table[0][0] and (outputs - 1) * stride + size > side + 2 * pad
                    if runs_past or layer.far_pad not in (-1, pad):
                        raise UserError(f'config.network.{name}: its edges are not built for PyTorch here.')
                    channels, side, groups = kernels, outputs, columns
                case LocallyConnected(kernels, size, stride, pad):
                    outputs = outputs_along(side, size, stride, pad)
                    if columns > 1 or (outputs - 1) * stride + size > side + 2 * pad:
                        raise UserError(f'config.network.{name}: its columns or edges are not built for PyTorch here.')
                    self.layers[name] = LocallyConnected2d(channels, layer, outputs**2)
                    channels, side = kernels, outputs
                case MaxPooling(size, stride, rounding):
                    outputs = outputs_along(side, size, stride, rounding=rounding)
                    self.ceil[name] = (outputs - 1) * stride + size > side
                    side = outputs
                case Flatten():
                    channels *= side * side
                case Dense(units):
                    self.layers[name] = nn.Linear(channels, units)
                    channels = units
                case Exchange():
                    groups = 1
                case ReLU() | Tanh() | LocalResponseNormalization() | Dropout():
                    pass
                case _:
                    raise UserError(f'config.network.{name}: {type(layer).__name__} is not built for PyTorch here.')

    def forward(self, x: Tensor) -> Tensor:
        """Images, float [batch, 3, height, width], to logits [batch, classes]."""
        for name, layer in self.table:
            match layer:
                case Convolution() | LocallyConnected() | Dense():
                    x = self.layers[name](x)
                case ReLU():
                    x = F.relu(x)
                case Tanh():
                    x = torch.tanh(x)
                case LocalResponseNormalization(k, n, alpha, beta, across_columns):
                    x = self._normalized(x, 1 if across_columns else self.columns, n, k, alpha, beta)
                case MaxPooling(size, stride):
                    x = F.max_pool2d(x, size, stride, ceil_mode=self.ceil[name])
                case Flatten():
                    x = x.flatten(1)
                case Dropout(rate):  # in training PyTorch's, which costs the same; at test time the paper's
                    x = F.dropout(x, rate) if self.training else x * (1 - rate)
        return x

    def _normalized(self, x: Tensor, columns: int, n: int, k: float, alpha: float, beta: float) -> Tensor:
        if self.written_out:
            return Normalization.apply(x, columns, n, k, alpha, beta)
        parts = [F.local_response_norm(part, n, alpha * n, beta, k) for part in x.chunk(columns, 1)]
        return torch.cat(parts, 1)

    def load(self, parameters: Parameters) -> None:
        """Loads the JAX network's parameters, each [column, ..., outputs of the column]."""
        for name, layer in self.layers.items():
            kernel, bias = (np.asarray(parameters[name][part]) for part in ('kernel', 'bias'))
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(self.weight_of(name, kernel)))
                layer.bias.copy_(torch.tensor(bias.reshape(-1)[: len(layer.bias)]))

    def weight_of(self, name: str, kernel: np.ndarray) -> np.ndarray:
        """A kernel of the JAX network as a weight of this one."""
        layer = dict(self.table)[name]
        if isinstance(layer, LocallyConnected):  # a window's values are height, width, channel there
            _, rows, columns, _, kernels = kernel.shape
            windows = kernel.reshape(rows * columns, layer.size, layer.size, -1, kernels)
            return windows.transpose(0, 3, 1, 2, 4).reshape(rows * columns, -1, kernels)
        if isinstance(layer, Convolution):
            return kernel.transpose(0, 4, 3, 1, 2).reshape(-1, kernel.shape[3], *kernel.shape[1:3])
        if name == next(line for line, layer in self.table if isinstance(layer, Dense)):
            # Flattened, a map is height, width, channel there, and channel, height, width here.
            channels = [layer.kernels for _, layer in self.table if isinstance(layer, Convolution | LocallyConnected)][
                -1
            ] // self.columns
            side = math.isqrt(kernel.shape[1] // (self.columns * channels))
            kernel = kernel.reshape(len(kernel), self.columns, side, side, channels, -1).transpose(0, 5, 1, 4, 2, 3)
            kernel = kernel.reshape(len(kernel), kernel.shape[1], -1)
        else:
            kernel = kernel.swapaxes(1, 2)
        return kernel.reshape(-1, kernel.shape[-1])[: self.layers[name].out_features]


def padded(images: np.ndarray, table: Table) -> np.ndarray:
    """Images [batch, height, width, 3] as [batch, 3, ...], with the zeros that the first windows read past the edge."""
    _, first = table[0]
    side = images.shape[1]
    outputs = outputs_along(side, first.size, first.stride, first.pad, rounding=first.rounding)
    far = (outputs - 1) * first.stride + first.size - side - first.pad
    far = max(0, far - first.pad)
    return np.pad(images, ((0, 0), (0, far), (0, far), (0, 0))).transpose(0, 3, 1, 2)


def set_up() -> None:
    """Global settings of PyTorch.

    Float32 products may be rounded to TF32 on a GPU, as JAX does unless told otherwise; cuDNN tries its algorithms; and
    no variant falls back to eager because others have been compiled before it.
    """
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    torch.set_float32_matmul_precision('high')
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def training_step(
    network: TorchAlexNet,
    images: np.ndarray,
    labels: np.ndarray,
    variant: Variant,
    *,
    device: str,
    bfloat16: bool,
    rate: float,
    momentum: float,
    weight_decay: float,
) -> Callable[[int], float]:
    """Moves network and batch to a device.

    Args:
      network: with its parameters.
      images: float32 [batch, 3, height, width], ready for the network.
      labels: int32 [batch].
      variant: how to run it.
      device: 'cpu' or 'cuda'.
      bfloat16: whether activations are, by autocast; parameters are float32.
      rate, momentum, weight_decay: of the update rule.

    Returns:
      A function that makes so many steps on the batch, waits for them, and returns the last loss.
    """
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    network = network.to(device).to(memory_format=layout).train()
    x = torch.tensor(np.ascontiguousarray(images)).to(device).to(memory_format=layout)
    target = torch.tensor(labels, dtype=torch.int64).to(device)
    optimizer = torch.optim.SGD(network.parameters(), rate, momentum, weight_decay=weight_decay, fused=True)

    def loss_of(x: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16) if bfloat16 else contextlib.nullcontext():
            return F.cross_entropy(network(x).float(), target)

    if variant.compiled:
        loss_of = torch.compile(loss_of, mode='reduce-overhead' if variant.graphs else 'default', dynamic=False)

    def steps(count: int) -> float:
        for _ in range(count):
            if variant.graphs:
                torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(x, target)
            loss.backward()
            optimizer.step()
        if device == 'cuda':
            torch.cuda.synchronize()
        return float(loss.detach())

    return steps
