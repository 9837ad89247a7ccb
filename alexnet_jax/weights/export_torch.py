"""A trained network for PyTorch: the text of a module that needs nothing else, and its state dict.

The columns become groups of channels, as in PyTorch's convolutions: column 1's come first. Before an exchange a layer
has as many groups as there are columns, after it one.
"""

import re
from collections.abc import Sequence
from typing import assert_never

import numpy as np

from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Flatten,
    LocallyConnected,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    SpatialNormalization,
    Tanh,
)
from alexnet_jax.runtime.errors import printable
from alexnet_jax.weights.channels_first import Step, across_columns, smallest_k

_MODULE = '''"""{title}

    network = AlexNet().eval()
    network.load_state_dict(safetensors.torch.load_file('alexnet.safetensors'))
    logits = network(images)  # images: float [batch, 3, {crop}, {crop}], RGB, 0..255; the mean is subtracted inside

Needs PyTorch alone; the package safetensors reads the weights.
"""

import torch
import torch.nn.functional as F
from torch import nn


class AlexNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('mean_image', torch.zeros(3, {crop}, {crop}))
{init}

    def forward(self, images):
        x = images - self.mean_image
{forward}
        return x
{functions}'''

_FUNCTIONS = {
    'column_norm': '''

def column_norm(x, columns, *constants):
    """Local response normalization within each column."""
    return torch.cat([F.local_response_norm(part, *constants) for part in x.chunk(columns, 1)], 1)
''',
    'spatial_norm': '''

def spatial_norm(x, size, alpha, beta, k):
    """The same over size x size positions of each map."""
    squares = F.avg_pool2d(x * x, size, 1, size // 2) * size * size
    return x / (k + alpha * squares) ** beta
''',
    'Local': '''

class Local(nn.Module):
    """A convolution with other kernels and biases at each position."""

    def __init__(self, groups, kernels, inputs, size, stride, rows, columns):
        super().__init__()
        self.size, self.stride = size, stride
        self.weight = nn.Parameter(torch.zeros(groups, rows, columns, kernels, inputs * size * size))
        self.bias = nn.Parameter(torch.zeros(groups, kernels, rows, columns))

    def forward(self, x):
        groups, rows, columns = self.weight.shape[:3]
        windows = F.unfold(x, self.size, stride=self.stride).unflatten(2, (rows, columns))
        windows = windows.unflatten(1, (-1, self.weight.shape[4])).expand(-1, groups, -1, -1, -1)
        return (torch.einsum('ngirc,grcki->ngkrc', windows, self.weight) + self.bias).flatten(1, 2)
''',
}


def torch_module(
    steps: Sequence[Step], classes: int, mean_image: np.ndarray, title: str
) -> tuple[str, dict[str, np.ndarray]]:
    """The module of a network and the state dict that it loads.

    In training it is the paper's network too: the halving at test time (section 4.2) is in the weights after a dropout,
    before which PyTorch's dropout, which doubles what it keeps, comes to the same as the paper's.

    Args:
      steps: of `channels_first`.
      classes: number of them.
      mean_image: float32 [3, crop_size, crop_size], 0..255.
      title: the first line of the module's docstring.

    Returns:
      The text of a Python file; and float32 arrays by their names in the state dict.
    """
    arrays: dict[str, np.ndarray] = {'mean_image': np.ascontiguousarray(mean_image, np.float32)}
    init: list[str] = []
    forward: list[str] = []
    for number, step in enumerate(steps):
        name = _attribute(step.name, number)
        if step.weights:
            made, weight, bias = _made(step, classes if step is steps[-1] else None)
            init.append(f'self.{name} = {made}')
            arrays |= {f'{name}.weight': weight, f'{name}.bias': bias}
        if step.order is not None:
            places = np.concatenate(
                [step.order + i * len(step.order) for i in range(1 if step.joined else step.columns)]
            )
            init.append(f"self.register_buffer('{name}_order', torch.zeros({len(places)}, dtype=torch.int64))")
            arrays[f'{name}_order'] = places
        forward += _forward(step, f'self.{name}')
    if steps[-1].outputs[0] * steps[-1].columns > classes and not steps[-1].joined:
        forward.append(f'x = x[:, :{classes}]')
    text = '\n'.join(init + forward)
    module = _MODULE.format(
        title=printable(title).replace('\n', ' ').replace('\\', '\\\\').replace('"', '\\"'),
        crop=mean_image.shape[1],
        init=_indented(init),
        forward=_indented(forward),
        functions=''.join(function for name, function in _FUNCTIONS.items() if f'{name}(' in text),
    )
    return module, arrays


def _indented(lines: Sequence[str]) -> str:
    return '\n'.join(f'        {line}' for line in lines)


def _attribute(name: str, number: int) -> str:
    """A layer's name as an attribute that no module has already: names with a digit are taken as they are."""
    plain = name.isascii() and name.isidentifier() and re.search(r'\d', name) and name[0] != '_'
    return name if plain else f'layer{number}_{re.sub("[^A-Za-z]", "_", name)}'


def _made(step: Step, most: int | None) -> tuple[str, np.ndarray, np.ndarray]:
    """The expression that makes a layer with weights, and these; of a dense layer on joined values the first `most`."""
    groups = 1 if step.joined else step.columns
    inputs, outputs = step.inputs[0] * groups, step.outputs[0] * step.columns
    weight, bias = np.concatenate(step.weights), np.concatenate(step.biases)
    match step.layer:
        case Convolution(size=size, stride=stride):
            options = [f'stride={stride}'] * (stride > 1) + [f'groups={groups}'] * (groups > 1)
            options += [f'padding={step.padding[0]}'] * (_symmetric(step) and step.padding[0] > 0)
            return f'nn.Conv2d({", ".join([str(inputs), str(outputs), str(size), *options])})', weight, bias
        case LocallyConnected(size=size, stride=stride):
            shape = (step.columns, step.outputs[0], step.inputs[0], size, stride, *step.outputs[1:])
            return f'Local{shape}', np.stack(step.weights), np.stack(step.biases)
        case _ if groups > 1:  # units that see their own column alone
            return f'nn.Conv1d({inputs}, {outputs}, 1, groups={groups})', weight[..., None], bias
    return f'nn.Linear({inputs}, {len(bias[:most])})', weight[:most], bias[:most]


def _symmetric(step: Step) -> bool:
    """Whether PyTorch's own padding, the same on all sides, gives the same windows."""
    assert isinstance(step.layer, Convolution)
    steps = step.inputs[1] + 2 * step.padding[0] - step.layer.size
    return 1 + steps // step.layer.stride == step.outputs[1]


def _forward(step: Step, module: str) -> list[str]:
    """The lines that apply a layer to x."""
    groups, (before, after) = 1 if step.joined else step.columns, step.padding
    lines = [f'x = x * {step.scale!r}'] * (step.scale != 1.0)
    pad = [f'x = F.pad(x, ({before}, {after}, {before}, {after}))']
    ceil = ', ceil_mode=True' if after else ''
    match step.layer:
        case Convolution():
            return [*lines, *pad * (not _symmetric(step)), f'x = {module}(x)']
        case LocallyConnected():
            return [*lines, *pad * (before + after > 0), f'x = {module}(x)']
        case Dense():
            return [*lines, f'x = {module}(x.unsqueeze(2)).squeeze(2)' if groups > 1 else f'x = {module}(x)']
        case ReLU():
            return [*lines, 'x = F.relu(x)']
        case Tanh():
            return [*lines, 'x = torch.tanh(x)']
        case LocalResponseNormalization():
            return [*lines, *_local_response_normalization(step, step.layer, module)]
        case SpatialNormalization(k, size, alpha, beta):
            return [*lines, f'x = spatial_norm(x, {size // 2 * 2 + 1}, {alpha!r}, {beta!r}, {smallest_k(k, beta)!r})']
        case MaxPooling(size, stride):
            return [*lines, f'x = F.max_pool2d(x, {size}, {stride}{ceil})']
        case AveragePooling(size, stride):
            return [*lines, f'x = F.avg_pool2d(x, {size}, {stride}{ceil})']
        case Flatten():
            return [*lines, 'x = x.flatten(1)']
        case Exchange(precision):
            lines += [f'x = x.to(torch.{precision}).to(x.dtype)'] * (precision != 'network')
            return [*lines, *_copies(step)]
        case Dropout(rate):
            return [*lines, f'x = F.dropout(x, {rate!r}, self.training)']
        case _:
            assert_never(step.layer)


def _local_response_normalization(step: Step, layer: LocalResponseNormalization, module: str) -> list[str]:
    lines = [f'x = x[:, {module}_order]'] * (step.order is not None)
    lines += _copies(step) * across_columns(step)
    n, k = layer.n // 2 * 2 + 1, smallest_k(layer.k, layer.beta)
    x = 'x' if len(step.inputs) == 3 else 'x.unsqueeze(2)'
    constants = f'{n}, {layer.alpha * n!r}, {layer.beta!r}, {k!r}'
    if step.joined or step.columns == 1 or across_columns(step):
        norm = f'F.local_response_norm({x}, {constants})'
    else:
        norm = f'column_norm({x}, {step.columns}, {constants})'
    return [*lines, f'x = {norm}' + '.squeeze(2)' * (len(step.inputs) == 1)]


def _copies(step: Step) -> list[str]:
    """The line that gives each column its own copy of values that are the same for all, where there are several."""
    if not step.joined or step.columns == 1:
        return []
    return [f'x = x.repeat({", ".join(["1", str(step.columns)] + ["1"] * (len(step.inputs) - 1))})']
