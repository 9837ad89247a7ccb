"""Ablations: the paper without one of its parts, or with another in its place.

experiments/paper.py:NAME is one of `ABLATIONS` at the paper's size, experiments/digits.py:NAME on a laptop; each is a
function of a complete config that changes a few fields, at any width. The docstrings quote the paper and the logs of
the authors' 2012 code; all their errors are for ten patches. Network 145 of that code is the paper's: 37.47 % top-1 and
17.00 % top-5 on the ILSVRC-2010 test set, 40.66 % and 18.21 % on ILSVRC-2012's validation set. Ours: not yet run on
ImageNet. On CIFAR-10, and how to answer questions with these variants: docs/ablations.md.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config import Config, config_dict, network_config
from alexnet_jax.model.layer_specs import (
    Convolution,
    Dropout,
    Exchange,
    Layer,
    LocalResponseNormalization,
    MaxPooling,
    Normalization,
    ReLU,
    Tanh,
    outputs_along,
)
from alexnet_jax.runtime.errors import UserError

Lines = dict[str, Layer]
Ablation = Callable[[ConfigDict], ConfigDict]


def ablated(config: ConfigDict, name: str, others: tuple[str, ...] = ()) -> ConfigDict:
    """A copy of a config with one of the `ABLATIONS`, named after both, as in 'paper:no_dropout'.

    Args:
      config: complete, with the names of layers that the paper's network has.
      name: of the ablation.
      others: variants that the config's file has besides, for the message.

    Raises:
      UserError: there is no such ablation.
    """
    name = RENAMED.get(name, name)
    if name not in ABLATIONS:
        known = ', '.join([*others, *ABLATIONS])
        raise UserError(
            f'experiments/{config.name}.py has no variant {name!r}; it has: {known}. What each of them is: '
            'docs/ablations.md.'
        )
    return _with(ABLATIONS[name](config), {'name': f'{config.name}:{name}'})


# --- Normalization, pooling ---


def no_normalization(config: ConfigDict) -> ConfigDict:
    """No normalization (section 3.3).

    Published: network 148 of the 2012 code, 2012 validation, 42.03 % / 19.36 %: 1.37 and 1.15 worse. The paper says 1.4
    and 1.2. That network lacks three normalizations, 145's spatial one too; the paper's text has two to leave out.
    """
    return _with_network(config, _without_types(_lines(config), Normalization))


def no_normalization_2(config: ConfigDict) -> ConfigDict:
    """No normalization after conv2.

    Published: network 167 of the 2012 code, 2012 validation, 40.49 % / 18.12 %, 0.11 better and 0.01 worse than its
    relative 169. They differ besides in the rates' end: a 1000th of the first, and a 500th.
    """
    return _with_network(config, _without(_lines(config), 'norm2'))


def normalization_5(config: ConfigDict) -> ConfigDict:
    """A response normalization after conv5's ReLU as well.

    Published: nothing. Network 149 of the 2012 code has it, on conv5's linear output; its log gives no result.
    """
    return _with_network(config, _inserted(_lines(config), 'relu5', norm5=LocalResponseNormalization()))


def pooling_2(config: ConfigDict) -> ConfigDict:
    """Pooling without overlap, in windows of 2 x 2 (section 3.4).

    conv2 and conv5 pad by 1 less, as in network 147, or one of them alone, so that fc6 keeps its size.

    Published: network 147, 2012 validation, 41.06 % / 18.51 %: 0.39 and 0.30 worse. The paper says 0.4 and 0.3.
    """
    lines = _lines(config)
    pools = {name: {'size': 2, 'stride': 2} for name, layer in lines.items() if isinstance(layer, MaxPooling)}
    changed = []
    for narrower in (('conv2', 'conv5'), ('conv2',), ('conv5',)):
        changed.append(_replaced(lines, pools | {name: {'pad': lines[name].pad - 1} for name in narrower}))
        if _last_side(changed[-1], config) == _last_side(lines, config):
            return _with_network(config, changed[-1])
    return _with_network(config, changed[0])


# --- Columns ---


def one_gpu(config: ConfigDict) -> ConfigDict:
    """One column: half the kernels of conv1 to conv4; conv5 and the fully-connected layers keep theirs (section 3.2).

    Published: network 145-half, 2010 test, 39.17 % / 18.23 %: 1.70 and 1.23 worse. The paper says 1.7 and 1.2.
    """
    halves = {name: {'kernels': _lines(config)[name].kernels // 2} for name in ('conv1', 'conv2', 'conv3', 'conv4')}
    return single_tower(_with_network(config, _replaced(_lines(config), halves)))


def single_tower(config: ConfigDict) -> ConfigDict:
    """One column with the kernels of both, every layer seeing all of the one before: 62,378,344 parameters.

    Published: nothing in the paper. Many later implementations are this network.
    """
    return _with(_with_network(config, _without_types(_lines(config), Exchange)), {'columns': 1})


def no_exchange(config: ConfigDict) -> ConfigDict:
    """Columns that do not meet before fc8. conv2 has a quarter more kernels, fc6 twice its neurons.

    Published: nothing in the paper. Network 150, 2012 validation, 41.83 % / 19.33 %: 1.16 and 1.12 worse, with 160
    kernels a column in conv2, fc6 with 4096 neurons a column that see their own column's pool5, fc7 with 2048 a column.
    """
    lines = _lines(exchange_from_fc6(config))
    lines = _replaced(lines, {'fc6': {'units': lines['fc6'].units * 2}})
    return _with_network(config, _without(lines, 'exchange6', 'exchange7'))


def exchange_from_fc6(config: ConfigDict) -> ConfigDict:
    """Convolutions that keep to their column, conv3 too; conv2 has a quarter more kernels. From fc6 on as in the paper.

    Published: nothing. The 2012 code has relatives without errors: 127 has no exchange at conv3, while its
    fully-connected layers see both columns; 127a, with 256 kernels a column in conv3, was stopped at epoch 36,
    "significantly worse" than its base 120. 132 and 133 moved the exchange to conv4, and were worse than 131.
    """
    lines = _lines(config)
    lines = _replaced(lines, {'conv2': {'kernels': lines['conv2'].kernels * 5 // 4}})
    return _with_network(config, _without(lines, 'exchange3'))


def float16_exchange(config: ConfigDict) -> ConfigDict:
    """What the columns exchange, and its gradients, in half precision.

    Published: network 170-quant of the 2012 code, 2012 validation, 40.52 % / 18.42 %, 0.00 better and 0.37 worse than
    170.
    """
    lines = _lines(config)
    exchanges = [name for name, layer in lines.items() if isinstance(layer, Exchange)]
    return _with_network(config, _replaced(lines, {name: {'precision': 'float16'} for name in exchanges}))


# --- Against overfitting, and the nonlinearity ---


def blending(config: ConfigDict) -> ConfigDict:
    """A twentieth of the chunks of 32 images become 0.75 of themselves and 0.25 of others, and keep their labels.

    Published: network 170-fade of the 2012 code, 2012 validation, 40.25 % / 18.12 %, 0.28 better and 0.07 worse than
    170.
    """
    return _with(config, {'data.blend_probability': 0.05, 'data.blend_weight': 0.25})


def dropout_4(config: ConfigDict) -> ConfigDict:
    """Dropout of 0.2 over conv4 as well.

    Published: network 177 of the 2012 code, 2012 validation, 40.69 % / 18.30 %, 0.16 and 0.26 worse than 170.
    """
    return _with_network(config, _inserted(_lines(config), 'relu4', drop4=Dropout(rate=0.2)))


def no_color(config: ConfigDict) -> ConfigDict:
    """No change of color in training (section 4.1).

    Published: the paper says that it "reduces the top-1 error rate by over 1%". No log of such a run exists.
    """
    return _with(config, {'data.color_std': 0.0})


def no_crop_no_mirror(config: ConfigDict) -> ConfigDict:
    """In training every image as its patch in the center, never mirrored (section 4.1); its color still changes.

    Published: no number. The paper: without this scheme "our network suffers from substantial overfitting".
    """
    return _with(config, {'data.random_crop': False, 'data.mirror': False})


def no_dropout(config: ConfigDict) -> ConfigDict:
    """No dropout (section 4.2), so nothing is halved at test time either.

    Published: no number. The paper: without it "our network exhibits substantial overfitting", and with it training
    takes about twice the iterations.
    """
    return _with_network(config, _without_types(_lines(config), Dropout))


def tanh(config: ConfigDict) -> ConfigDict:
    """tanh in place of every ReLU (section 3.1), with biases of 0 where ReLUs have 1 (section 5: to give them positive
    inputs, where tanh is flat). The rate stays; try others (--config.learning_rate).

    Published: nothing for this network. Figure 1 compares them on CIFAR-10 with four layers: ReLUs came to 25 %
    training error six times sooner, each with its own best rate.
    """
    lines = _lines(config)
    lines = _replaced(lines, {name: {'bias': 0.0} for name, layer in lines.items() if getattr(layer, 'bias', 0.0)})
    return _with_network(
        config,
        {
            name.replace('relu', 'tanh') if isinstance(layer, ReLU) else name: Tanh()
            if isinstance(layer, ReLU)
            else layer
            for name, layer in lines.items()
        },
    )


# --- Depth ---


def no_conv2(config: ConfigDict) -> ConfigDict:
    """Without conv2, its ReLU and its normalization; conv3 sees both columns' pooled conv1.

    Published: the paper says that removing any of the middle layers costs about 2 % top-1. No log of such a run exists.
    """
    return _with_network(config, _without(_lines(config), 'conv2', 'relu2', 'norm2'))


def no_conv3(config: ConfigDict) -> ConfigDict:
    """Without conv3 and its ReLU; conv4 sees both columns in its place. Published: as for `no_conv2`."""
    return _with_network(config, _without(_lines(config), 'conv3', 'relu3'))


def no_conv4(config: ConfigDict) -> ConfigDict:
    """Without conv4 and its ReLU. Published: as for `no_conv2`."""
    return _with_network(config, _without(_lines(config), 'conv4', 'relu4'))


def no_conv5(config: ConfigDict) -> ConfigDict:
    """Without conv5 and its ReLU. fc6 grows by half, as conv4 has half more kernels. Published: as for `no_conv2`."""
    return _with_network(config, _without(_lines(config), 'conv5', 'relu5'))


def deeper(config: ConfigDict) -> ConfigDict:
    """A second layer like it after each of conv3 to conv5, of 3 x 3 and as many kernels, within its own column.

    Published: nothing; the paper's own step deeper, a sixth convolution after pool5, came with pre-training.
    """
    lines = _lines(config)
    for name in ('3', '4', '5'):
        new = {f'conv{name}b': lines[f'conv{name}'], f'relu{name}b': ReLU()}
        lines = _inserted(lines, f'relu{name}', **new)
    return _with_network(config, lines)


ABLATIONS: dict[str, Ablation] = {
    change.__name__: change
    for change in (
        *(no_normalization, no_normalization_2, normalization_5, pooling_2),
        *(one_gpu, single_tower, no_exchange, exchange_from_fc6, float16_exchange),
        *(no_color, no_crop_no_mirror, blending, no_dropout, dropout_4, tanh),
        *(no_conv2, no_conv3, no_conv4, no_conv5, deeper),
    )
}


RENAMED = {'no_colour': 'no_color'}  # earlier names, which still work


# --- Configs and tables; arguments are not modified ---


def _copy(config: ConfigDict) -> ConfigDict:
    """A copy that keeps the order of layers; copy.deepcopy sorts them by name."""
    return config_dict(config.to_dict())


def _with(config: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
    """With other values of fields, named as in 'data.mirror'."""
    copy = _copy(config)
    copy.update_from_flattened_dict(fields)
    return copy


def _with_network(config: ConfigDict, lines: Lines) -> ConfigDict:
    copy = _copy(config)
    copy.network = network_config(lines)
    return copy


def _lines(config: ConfigDict) -> Lines:
    return dict(Config.from_fields(config).network)


def _last_side(lines: Lines, config: ConfigDict) -> int:
    """Height and width of the last map."""
    side = config.data.crop_size
    for layer in lines.values():
        if isinstance(layer, Convolution):
            side = outputs_along(side, layer.size, layer.stride, layer.pad, rounding=layer.rounding)
        elif isinstance(layer, MaxPooling):
            side = outputs_along(side, layer.size, layer.stride, rounding=layer.rounding)
    return side


def _replaced(lines: Lines, fields: Mapping[str, Mapping[str, Any]]) -> Lines:
    """With other values of some lines' fields: {line: {field: value}}."""
    return lines | {name: dataclasses.replace(lines[name], **values) for name, values in fields.items()}


def _without(lines: Lines, *names: str) -> Lines:
    return {name: layer for name, layer in lines.items() if name not in names}


def _without_types(lines: Lines, types: type) -> Lines:
    return {name: layer for name, layer in lines.items() if not isinstance(layer, types)}


def _inserted(lines: Lines, after: str, **new: Layer) -> Lines:
    """With new lines right after one."""
    names = list(lines)
    place = names.index(after) + 1
    return {name: lines[name] for name in names[:place]} | new | {name: lines[name] for name in names[place:]}
