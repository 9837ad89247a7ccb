"""Writes docs/config.md from the schema: python docs/generate_config.py > docs/config.md"""

import dataclasses
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

sys.path.insert(0, str(Path(__file__).parents[1]))

from alexnet_jax.config import Config, resume_rule, schema
from alexnet_jax.model.layer_specs import TYPES

ON_RESUME = {'free': 'may change', 'ask': '`--allow_changes`', 'fixed': 'fixed'}


def _type(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if get_origin(kind) is tuple:
        return 'tuple'
    return ' or '.join(f"`'{one}'`" for one in get_args(kind)) or kind.__name__


def _range(metadata: list[Any]) -> str:
    signs = (('gt', '> {:,}'), ('ge', '>= {:,}'), ('lt', '< {:,}'), ('le', '<= {:,}'))
    found = [text.format(getattr(one, name)) for one in metadata for name, text in signs if hasattr(one, name)]
    return ', '.join(found)


def _row(name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra
    unit = extra.get('unit') if isinstance(extra, dict) else ''
    default = 'Figure 2' if name == 'network' else f'`{field.default!r}`'
    cells = [f'`{name}`', _type(field), _range(field.metadata), str(unit or ''), default, ON_RESUME[resume_rule(name)]]
    return f'| {" | ".join([*cells, field.description or ""])} |'


def _section(title: str, rows: list[str]) -> list[str]:
    head = '| field | type | range | unit | default | on resume | meaning |'
    return [f'## {title}', '', head, '|---|---|---|---|---|---|---|', *rows, '']


def _layers() -> list[str]:
    lines = ['## Layers', '', 'Layers of `config.network`, by their `type`:', '', '| type | fields | meaning |']
    lines.append('|---|---|---|')
    for name, spec in TYPES.items():
        fields = []
        for field in dataclasses.fields(spec):
            default = field.default
            value = f'={default!r}' * isinstance(default, bool | str)
            if type(default) in (int, float):
                value = f'={default:g}'
            fields.append(f'`{field.name}{value}`')
        meaning = ' '.join((spec.__doc__ or '').split('\n\n')[0].split())
        lines.append(f'| `{name}` | {", ".join(fields)} | {meaning} |')
    return lines


def markdown() -> str:
    """The document."""
    lines = [
        '# Fields of a config',
        '',
        'Generated from [`alexnet_jax/config.py`](../alexnet_jax/config.py) by `python docs/generate_config.py`. Every',
        'field can be set on the command line, as in `--config.data.crop_size=200`. "On resume" says whether a run may',
        'resume with another value: freely, as the result does not change; with `--allow_changes=FIELD`; or never.',
        '',
    ]
    plain = [_row(name, field) for name, field in schema() if '.' not in name]
    lines += _section('The experiment', plain)
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows = [_row(path, one) for path, one in schema() if path.startswith(f'{name}.')]
            lines += _section(f'`{name}`', rows)
            lines.insert(-len(rows) - 3, f'{field.annotation.__doc__}\n')
    return '\n'.join([*lines, *_layers()]) + '\n'


if __name__ == '__main__':
    print(markdown(), end='')
