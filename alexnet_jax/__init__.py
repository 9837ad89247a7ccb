"""AlexNet (Krizhevsky, Sutskever and Hinton, NIPS 2012) in JAX: the public API.

    import alexnet_jax as ax

    network = ax.AlexNet(ax.figure_2(classes=1000))     # a Flax (linen) module
    run = ax.load_run('runs/digits')                    # a trained run
    run.predict(images)

Names are loaded when they are first used: importing the package imports nothing else and changes nothing in the
process. docs/python.md has examples.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_jax.config import Config, default_config, network_config
    from alexnet_jax.figures.figure2 import network_figure
    from alexnet_jax.model.alexnet import AlexNet, initial_parameters
    from alexnet_jax.model.columns import Columns, make_mesh
    from alexnet_jax.model.figure_2 import figure_2
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
    from alexnet_jax.model.summary import network_lines
    from alexnet_jax.runs.trained import Run, load_run
    from alexnet_jax.runtime.errors import UserError
    from alexnet_jax.training.optimizer import update_rule

_LAYERS = (
    *('AveragePooling', 'Convolution', 'Dense', 'Dropout', 'Exchange', 'Flatten', 'LocalResponseNormalization'),
    *('LocallyConnected', 'MaxPooling', 'ReLU', 'SpatialNormalization', 'Tanh'),
)
_MODULES = {
    'config': ('Config', 'default_config', 'network_config'),
    'figures.figure2': ('network_figure',),
    'model.alexnet': ('AlexNet', 'initial_parameters'),
    'model.columns': ('Columns', 'make_mesh'),
    'model.figure_2': ('figure_2',),
    'model.layer_specs': _LAYERS,
    'model.summary': ('network_lines',),
    'runs.trained': ('Run', 'load_run'),
    'runtime.errors': ('UserError',),
    'training.optimizer': ('update_rule',),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    'AlexNet',
    'AveragePooling',
    'Columns',
    'Config',
    'Convolution',
    'Dense',
    'Dropout',
    'Exchange',
    'Flatten',
    'LocalResponseNormalization',
    'LocallyConnected',
    'MaxPooling',
    'ReLU',
    'Run',
    'SpatialNormalization',
    'Tanh',
    'UserError',
    'default_config',
    'figure_2',
    'initial_parameters',
    'load_run',
    'make_mesh',
    'network_config',
    'network_figure',
    'network_lines',
    'update_rule',
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_PLACES[name]}'), name)


def __dir__() -> list[str]:
    return __all__
