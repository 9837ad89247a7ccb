"""The schema of an experiment's config: every field with its type, range, default, and whether it may change on resume.

From it come the checks and their messages, the resume rules, and docs/config.md. Defaults are the paper's values where
the paper has one; experiments/paper.py states them beside its sentences.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import ml_collections
import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer
from pydantic.fields import FieldInfo

from alexnet_jax.model.figure_2 import figure_2
from alexnet_jax.model.layer_specs import TYPES, Layer, Table, layer_fields
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.paths import local_path

Resume = Literal['free', 'ask', 'fixed']
"""Whether a field may change on resume: freely, as it does not change the result; only with --allow_changes; never."""

# Names of earlier versions, which still work.
RENAMED = {f'data.colour_{name}': f'data.color_{name}' for name in ('std', 'scale', 'epochs', 'rescale')}
_MOST_LAYERS = 1000


def _field(default: Any, description: str, *, resume: Resume = 'ask', unit: str = '', **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={'resume': resume, 'unit': unit}, **limits)


def _ascending(schedule: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    epochs = [epoch for epoch, _ in schedule]
    if epochs != sorted(set(epochs)):
        raise ValueError('epochs must be in ascending order, as in ((23, 0.001), (51, 0.0001))')
    return schedule


Rate = Annotated[float, Field(ge=0)]
Schedule = Annotated[tuple[tuple[Annotated[int, Field(ge=1)], Rate], ...], AfterValidator(_ascending)]
LocalPath = Annotated[str, AfterValidator(local_path)]
LayerRules = tuple[tuple[Rate, str, Rate], ...]


class _Section(BaseModel):
    model_config = pydantic.ConfigDict(extra='forbid', frozen=True, strict=True, allow_inf_nan=False)


class RateControlConfig(_Section):
    """Section 5: when the learning rate changes, and rates of single layers."""

    divide_by: float = _field(10.0, 'divisor of the learning rate when the validation error stops improving', gt=0)
    drops: int = _field(3, 'number of such drops; at the next one the run ends', ge=0)
    patience: int = _field(5, 'validations without improvement that count as having stopped', gt=0, unit='epochs')
    tolerance: float = _field(0.0005, 'an improvement is larger than this', ge=0, unit='error, 0..1')
    schedule: Schedule = _field((), 'pairs (epochs completed, learning rate from then on), in place of all that')
    end_at_training_error: float = _field(
        0.0,
        'mean over log_every_steps steps at which the run ends, as for Figure 1; 0 for never',
        ge=0,
        le=1,
        unit='error, 0..1',
        resume='free',
    )
    layer_rates: LayerRules = _field(
        (),
        "rules (epochs, which, learning rate) for single arrays, as in (0, 'conv1', 0.0), (23, '*.bias', 0.02) or (0, "
        "'conv*.kernel', 0.1); of the rules that are due and match an array the last holds; a rate of 0.0 freezes it",
    )
    layer_factors: LayerRules = _field(
        (), 'rules (epochs, which, factor) that multiply the current learning rate, matched likewise'
    )


class PretrainedConfig(_Section):
    """Section 6: the run whose parameters this one starts from."""

    workdir: LocalPath = _field('', "that run's workdir; '' for random initialization")
    checkpoint: str = _field('newest', "its checkpoint: 'newest', 'best', or a step")
    mean: Literal['own', 'run'] = _field(
        'own', "the mean image that is subtracted: of the training images here, or that run's, which its layers expect"
    )
    new_layers: tuple[str, ...] = _field((), "layers initialized at random all the same, as in ('fc8',) or ('fc*',)")


class DataConfig(_Section):
    """Sections 2 and 4.1: the data set, its preparation and augmentation."""

    source: str = _field('imagenet2012', 'where the images come from; see docs/data.md')
    source_directory: LocalPath = _field('data/downloads', "directory of the source's own files", resume='free')
    download: bool = _field(
        False, "whether preparation downloads the source's files where they are missing and published", resume='free'
    )
    download_from: str = _field('', "address of a folder that has them, in place of the publisher's", resume='free')
    directory: LocalPath = _field('data/imagenet2012', 'directory of the prepared data set', resume='free')
    storage: Literal['jpeg', 'raw'] = _field('jpeg', "format of prepared images; 'raw' pixels need no decoding")
    quality: int = _field(90, 'of prepared JPEGs', ge=1, le=100)
    images_per_shard: int = _field(8192, 'images in a file of the prepared data set', gt=0, resume='free')
    skip_broken: bool = _field(False, 'whether preparation leaves out unreadable images', resume='free')
    max_megapixels: int = _field(
        70,
        'of an image; a JPEG may have eight times as many, a progressive one twice (docs/data.md)',
        ge=1,
        le=178,
        unit='million pixels',
        resume='free',
    )
    image_size: int = _field(256, 'height and width of prepared images', gt=0, le=2**12, unit='pixels')
    crop_size: int = _field(224, 'height and width of the patches that the network sees', gt=0, unit='pixels')
    random_crop: bool = _field(True, 'whether training patches are random; otherwise central')
    mirror: bool = _field(True, 'whether half of the training patches are mirrored')
    mean_patch: Literal['matching', 'center'] = _field(
        'matching',
        "what is subtracted from a patch: the mean image's same pixels, or, as in the 2012 code, always its central "
        'patch, after mirroring',
    )
    blend_probability: float = _field(
        0.0,
        'that 32 consecutive training images are blended with others, their labels kept; 0.05 in network 170-fade of '
        'the 2012 code',
        ge=0,
        le=1,
    )
    blend_weight: float = _field(0.25, 'of the other image in such a blend', ge=0, le=1)
    color_std: float = _field(0.1, 'standard deviation of the color noise a_i; 0 for none', ge=0)
    color_scale: Literal['deviation', 'eigenvalue'] = _field(
        'deviation', 'what a_i multiplies: the standard deviation along p_i, as in the 2012 code, or the eigenvalue'
    )
    color_epochs: int = _field(0, 'epochs with color noise; 0 for all', ge=0, unit='epochs')
    color_rescale: bool = _field(False, 'whether noisy images are divided by 1 + color_std, as in the 2012 code')
    threads: int = _field(0, 'batches made at the same time; 0 for one a core, up to 16', ge=0, le=2**10, resume='free')

    @pydantic.model_validator(mode='after')
    def _crop_fits(self) -> Self:
        if self.crop_size > self.image_size:
            raise ValueError(f'crop_size={self.crop_size} is larger than image_size={self.image_size}')
        return self


class EvaluationConfig(_Section):
    """Section 4.1: how predictions are averaged."""

    views: tuple[Literal['center', 'ten'], ...] = _field(
        ('center', 'ten'),
        'patches of an image that are averaged: the center alone, or ten; five, none of them a mirror image, where '
        'data.mirror is off',
        resume='free',
    )


class MeshConfig(_Section):
    """Section 3.2: the devices. Two columns go to two devices wherever their number is even."""

    data: int = _field(0, 'devices that share a batch; 0 for as many as there are', ge=0, resume='free')
    column: int = _field(0, 'devices that the columns are split over; 0 for as many as fit', ge=0, resume='free')


def _read_network(value: Any) -> Table:
    """Reads a table of layers: specifications, or fields as `layer_fields` gives them."""
    if not isinstance(value, Mapping):
        try:
            value = dict(value)
        except (TypeError, ValueError) as error:
            raise ValueError('must be a group of layers') from error
    if len(value) > _MOST_LAYERS:
        raise ValueError(f'has {len(value):,} layers; the limit is {_MOST_LAYERS:,}')
    return tuple((name, _read_layer(name, fields)) for name, fields in value.items())


def _read_layer(name: str, fields: Any) -> Layer:
    path = f'config.network.{name}'
    if isinstance(fields, Layer):
        return fields
    if not isinstance(fields, Mapping):
        raise UserError(f"{path}={fields!r:.100} is not a layer: it must have a type and that type's fields.")
    given = dict(fields)
    kind = given.pop('type', None)
    if not isinstance(kind, str) or kind not in TYPES:
        raise UserError(f'{path}: unknown layer type {kind!r:.100}; known are {", ".join(sorted(TYPES))}.')
    try:
        return TYPES[kind](**given)
    except pydantic.ValidationError as error:
        raise UserError(_message(error, path, list(TYPES[kind].__dataclass_fields__))) from error


class Config(_Section):
    """A complete, checked config: what `config.json` of a run holds, as typed objects."""

    name: str = _field('paper', 'of the experiment, for tables and figures', resume='free')
    seed: int = _field(0, 'of initialization, shuffling, augmentation and dropout', ge=0, lt=2**32)
    network: Annotated[Table, BeforeValidator(_read_network), PlainSerializer(layer_fields)] = _field(
        figure_2(),
        'the layers by name, in order; their types are those under "Layers"',
        resume='fixed',
        validate_default=True,
    )
    columns: int = _field(2, 'columns of the network (section 3.2)', ge=1, le=2**10, resume='fixed')
    precision: Literal['float32', 'bfloat16'] = _field('float32', "of activations; 'bfloat16' is faster on GPUs")
    batch_size: int = _field(128, 'images in a batch, over all devices', gt=0, le=2**16, resume='fixed')
    accumulation_steps: int = _field(
        1, 'micro-batches, one after the other: less memory, the same update', gt=0, resume='free'
    )
    epochs: int = _field(90, 'passes over the training set, at most', gt=0, resume='free')
    momentum: float = _field(0.9, 'of the update rule', ge=0)
    weight_decay: float = _field(0.0005, 'of the update rule', ge=0)
    decay_biases: bool = _field(True, 'whether biases decay too; not so in the 2012 code')
    layer_decays: tuple[tuple[str, Rate], ...] = _field(
        (),
        "pairs (which, weight decay) for single layers, as in ('conv*', 0.0); of those that match the last holds",
    )
    learning_rate: float = _field(0.01, 'epsilon of section 5, at the start', ge=0)
    rate_control: RateControlConfig = RateControlConfig()
    pretrained: PretrainedConfig = PretrainedConfig()
    data: DataConfig = DataConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    mesh: MeshConfig = MeshConfig()
    log_every_steps: int = _field(20, 'steps between lines of metrics.jsonl', gt=0, resume='free', unit='steps')
    checkpoint_every_steps: int = _field(
        1000, 'steps between checkpoints; there is one after every epoch besides', gt=0, resume='free', unit='steps'
    )
    keep_checkpoints: int = _field(3, 'newest checkpoints that are kept; the best is kept besides', gt=0, resume='free')

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any], say: Callable[[str], None] = lambda line: None) -> Self:
        """Checks nested fields, as of an ml_collections.ConfigDict or a config.json; missing ones take their defaults.

        Args:
          fields: {name: value}, sections being mappings themselves; lists count as tuples.
          say: told of names that are outdated but understood.

        Raises:
          UserError: a field is unknown, of the wrong type, or out of range; the message names it.
        """
        try:
            return cls.model_validate(_renamed(_plain(fields), say))
        except pydantic.ValidationError as error:
            raise UserError(_message(error, 'config')) from error
        except RecursionError as error:
            raise UserError('config: its fields refer to each other.') from error

    def fields(self) -> dict[str, Any]:
        """Nested fields, as `from_fields` takes them and config.json holds them."""
        return self.model_dump()

    def replace(self, **changes: Any) -> Self:
        """A copy with other values; names are dotted, as in `config.replace(**{'data.threads': 2, 'seed': 1})`.

        Raises:
          UserError: as `from_fields`.
        """
        fields = self.fields()
        for path, value in changes.items():
            *sections, name = path.split('.')
            place: Any = fields
            for section in sections:
                place = place.get(section)
                if not isinstance(place, dict):
                    raise UserError(f'config has no section {".".join(sections)!r}, in which {name!r} would be.')
            place[name] = value.model_dump() if isinstance(value, BaseModel) else value
        return type(self).from_fields(fields)


def config_dict(fields: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Nested fields as the ConfigDict that experiments return; the order of layers is kept."""
    config = ml_collections.ConfigDict(sort_keys=False)
    for name, value in fields.items():
        config[name] = config_dict(value) if isinstance(value, Mapping) else value
    return config


def default_config() -> ml_collections.ConfigDict:
    """All fields with their defaults, for an experiment to change."""
    return config_dict(Config().fields())


def network_config(layers: Mapping[str, Layer] | Table) -> ml_collections.ConfigDict:
    """A table of layers as an experiment's `config.network`, so that `--config.network.conv1.kernels=48` works."""
    return config_dict(layer_fields(layers))


def schema(section: type[BaseModel] = Config, path: str = '') -> Iterator[tuple[str, FieldInfo]]:
    """Dotted names of all fields that hold a value, with what the schema says of them."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from schema(field.annotation, f'{path}{name}.')
        else:
            yield path + name, field


def unknown_fields(fields: Mapping[str, Any], section: type[BaseModel] = Config, path: str = '') -> list[str]:
    """Dotted names of fields that the schema does not have, as another version of this software may have written."""
    found = []
    for name, value in fields.items():
        known = section.model_fields.get(name)
        if known is None:
            found += [] if path + name in RENAMED else [path + name]
        elif isinstance(value, Mapping) and isinstance(known.annotation, type) and name != 'network':
            found += unknown_fields(value, known.annotation, f'{path}{name}.')
    return found


def resume_rule(path: str) -> Resume:
    """Whether a field, or a layer's field such as 'network.conv1.kernels', may change on resume.

    Raises:
      KeyError: there is no such field.
    """
    fields = dict(schema())
    extra = fields['network' if path.startswith('network.') else path].json_schema_extra
    assert isinstance(extra, dict)
    return extra['resume']  # type: ignore[return-value]  # what _field has put there


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping | ml_collections.ConfigDict):
        return {name: _plain(one) for name, one in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _renamed(fields: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    for old, new in RENAMED.items():
        section, _, name = old.partition('.')
        if isinstance(fields.get(section), dict) and name in fields[section]:
            fields[section][new.partition('.')[2]] = fields[section].pop(name)
            say(f'config.{old} is now called config.{new}.')
    return fields


_TYPE_ERRORS = {
    'int_type': 'a whole number',
    'float_type': 'a finite number',
    'finite_number': 'a finite number',
    'bool_type': 'True or False',
    'string_type': 'a text',
    'tuple_type': 'a tuple',
    'model_type': 'a group of fields',
}
_LIMIT_ERRORS = {
    'greater_than': ('above', 'gt'),
    'greater_than_equal': ('at least', 'ge'),
    'less_than': ('below', 'lt'),
    'less_than_equal': ('at most', 'le'),
}


def _message(error: pydantic.ValidationError, path: str, siblings: Sequence[str] | None = None) -> str:
    """The first of a validation's errors in one sentence: the field, its value, and what it must be."""
    first = error.errors()[0]
    names = [part for part in first['loc'] if isinstance(part, str)]
    where = '.'.join([path, *names])
    kind, context = first['type'], first.get('ctx', {})
    if len(names) < len(first['loc']) and kind != 'literal_error':  # inside a tuple
        return f'{where} must be {dict(schema())[".".join(names)].description}; {first["input"]!r:.100} is not.'
    if kind in ('extra_forbidden', 'unexpected_keyword_argument'):
        prefix = '.'.join(names[:-1])
        known = [name.rpartition('.')[2] for name, _ in schema() if name.rpartition('.')[0] == prefix]
        known = known if siblings is None else list(siblings)
        close = difflib.get_close_matches(names[-1], known, 1)
        hint = f'did you mean {close[0]!r}?' if close else f'there are {", ".join(known) or "none"}.'
        return f'{where}: there is no such field; {hint}'
    value = f'{where}={first["input"]!r:.100}'
    if kind == 'missing':
        return f'{where} is missing.'
    if kind in _LIMIT_ERRORS:
        word, limit = _LIMIT_ERRORS[kind]
        return f'{value} must be {word} {context[limit]:,}.'
    if kind == 'literal_error':
        return f'{value} is not known; known are {context["expected"]}.'
    if kind == 'value_error':
        return f'{where}: {context["error"]}.'
    return f'{value} must be {_TYPE_ERRORS.get(kind, first["msg"])}.'
