"""What kind of value each field of a config holds; the first thing that is checked."""

import math

from ml_collections import ConfigDict

from alexnet_jax.runtime.errors import UserError

FIELDS: dict[str, type] = {
    'name': str,
    'seed': int,
    'network': ConfigDict,
    'columns': int,
    'precision': str,
    'batch_size': int,
    'accumulation_steps': int,
    'epochs': int,
    'momentum': float,
    'weight_decay': float,
    'decay_biases': bool,
    'learning_rate': float,
    'rate_control': ConfigDict,
    'rate_control.divide_by': float,
    'rate_control.drops': int,
    'rate_control.patience': int,
    'rate_control.tolerance': float,
    'rate_control.schedule': tuple,
    'rate_control.layer_rates': tuple,
    'rate_control.layer_factors': tuple,
    'pretrained': ConfigDict,
    'pretrained.workdir': str,
    'pretrained.checkpoint': str,
    'pretrained.new_layers': tuple,
    'data': ConfigDict,
    'data.source': str,
    'data.source_directory': str,
    'data.directory': str,
    'data.storage': str,
    'data.quality': int,
    'data.images_per_shard': int,
    'data.skip_broken': bool,
    'data.image_size': int,
    'data.crop_size': int,
    'data.random_crop': bool,
    'data.mirror': bool,
    'data.color_std': float,
    'data.color_scale': str,
    'data.color_epochs': int,
    'data.color_rescale': bool,
    'data.threads': int,
    'evaluation': ConfigDict,
    'evaluation.views': tuple,
    'mesh': ConfigDict,
    'mesh.data': int,
    'mesh.column': int,
    'log_every_steps': int,
    'checkpoint_every_steps': int,
    'keep_checkpoints': int,
}
_WORDS = {
    str: 'a text',
    int: 'a whole number',
    float: 'a finite number',
    bool: 'True or False',
    tuple: 'a tuple',
    ConfigDict: 'a group of fields',
}


def check_types(config: ConfigDict) -> None:
    """Raises UserError where a config lacks a field, or one holds another kind of value; see `FIELDS`."""
    for field, kind in FIELDS.items():
        value = config
        for part in field.split('.'):
            if part not in value:
                raise UserError(
                    f'the config has no field {field!r}; begin with the config of experiments/paper.py, which has them '
                    'all.'
                )
            value = value[part]
        if not _is_of(value, kind):
            raise UserError(f'config.{field}={value!r:.100} must be {_WORDS[kind]}.')


def _is_of(value: object, kind: type) -> bool:
    if kind is float:
        return type(value) in (int, float) and abs(value) < 2**1000 and math.isfinite(value)
    if kind is tuple:
        return isinstance(value, list | tuple)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
