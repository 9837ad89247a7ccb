"""The report of a run: WORKDIR/report.html, one self-contained page."""

import base64
import contextlib
import datetime
import itertools
import json
import math
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import jinja2
from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.data.augment import patches_of
from alexnet_jax.evaluation.color import color_columns
from alexnet_jax.evaluation.published import ROWS, Row, rows_for
from alexnet_jax.model.alexnet import classes_of
from alexnet_jax.model.layer_specs import Dropout
from alexnet_jax.model.summary import Line, column_exchanges, network_lines
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.eval_json import Evaluation, read_evaluation
from alexnet_jax.runs.metrics_log import last_lines, validations
from alexnet_jax.runs.parameters_file import PARAMETERS, has_parameters_file
from alexnet_jax.runs.trained import most_views
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.runtime.files import write_bytes
from alexnet_jax.runtime.formatting import format_count, format_percent, format_top5

_BYTES = {'float32': 4, 'bfloat16': 2}  # per activation
_KINDS = (('.svg', 'image/svg+xml'), ('.png', 'image/png'))  # the sharper first
_PICTURES = ('learning_curves', 'color', 'kernels', 'predictions', 'neighbors', 'codes', 'network', 'network_narrow')
_EARLIER_NAMES = {'color': 'colour', 'neighbors': 'neighbours'}  # of early runs' files


def write_report(config: Config, workdir: str, console: Console, output: str | None = None) -> pathlib.Path:
    """Writes report.html from metrics.jsonl, eval.json, figures/ and the names of the checkpoints.

    For what is missing it says how to make it.

    Args:
      config: of the run.
      workdir: of the run.
      console: for output.
      output: another directory for the page, whose eval.json and figures come first; None for the workdir.

    Returns:
      The file's path.

    Raises:
      UserError: the config is not valid, eval.json is damaged, or the report cannot be written.
    """
    path = pathlib.Path(output or workdir) / 'report.html'
    page = _template().render(contents(config, workdir, output))
    write_bytes(path, page.encode(errors='backslashreplace'))
    say(console, f'wrote {path}')
    return path


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {'percent': format_percent, 'top5': format_top5, 'number': format_count}
    return environment.get_template('report.html.jinja')


def contents(config: Config, workdir: str, output: str | None = None) -> dict[str, Any]:
    """The page's contents, by the names in its template."""
    directory = pathlib.Path(workdir)
    places = [pathlib.Path(place) for place in (output, workdir) if place]
    evaluation = next(filter(None, map(read_evaluation, places)), None)
    last, validated = next(last_lines(workdir), None), validations(workdir)
    network = network_lines(config.network, config.columns, config.data.crop_size)
    return {
        'name': config.name,
        'command': ['python', 'launch.py', f'--workdir={shlex.quote(workdir)}'],
        'facts': _facts(config, directory, network, last, validated),
        'config': json.dumps(config.fields(), indent=2, ensure_ascii=False),
        'progress': _progress(directory, validated),
        'evaluation': evaluation,
        'results': [] if evaluation is None else evaluation.results(config.name),
        'published': _published(evaluation),
        'paper_tables': _paper_tables(),
        'pictures': {
            name: next(filter(None, (picture(place / 'figures', name) for place in places)), None) for name in _PICTURES
        },
        'classes': classes_of(config.network),
        'shares': [(column, *points[-1]) for column, points in color_columns(validated).items()],
        'columns': config.columns,
        'captions': _captions(config),
        'precision': config.precision,
        'network': network,
        'parameters': sum(line.parameters for line in network),
        'multiply_adds': sum(line.multiply_adds for line in network),
        'exchanges': column_exchanges(network, config.columns, _BYTES[config.precision]),
    }


def _captions(config: Config) -> dict[str, str]:
    """What the pictures show that depends on the config."""
    patches = 'random patches' if config.data.random_crop else 'central patches'
    dropout = ' with dropout' if any(isinstance(layer, Dropout) for _, layer in config.network) else ''
    views = patches_of(most_views(config), config.data.mirror)
    return {
        'learning_curves': f'training on {patches}{dropout}, validation on the central patch',
        'kernels': 'Column below column, in' if config.columns > 1 else 'In',
        'predictions': f'averaged over {views} patches' if views > 1 else 'from the central patch',
    }


def _published(evaluation: Evaluation | None) -> tuple[Row, ...]:
    if evaluation is None:
        return ()
    return rows_for(evaluation.source, evaluation.split, evaluation.classes, evaluation.examples)


def _facts(
    config: Config,
    directory: pathlib.Path,
    network: Sequence[Line],
    last: dict[str, Any] | None,
    validated: Sequence[dict[str, Any]],
) -> dict[str, str]:
    """The run's main properties by name."""
    data, control, path = config.data, config.rate_control, directory / 'metrics.jsonl'
    changes = ''.join(f', {value:g} from epoch {epoch} on' for epoch, value in control.schedule)
    if not control.schedule and control.patience >= config.epochs:
        changes = ' throughout'
    elif not control.schedule:
        changes = (
            f', divided by {control.divide_by:g} after {control.patience} epochs without improvement, '
            f'at most {control.drops} times'
        )
    if control.layer_rates or control.layer_factors:
        changes += '; some layers have rates of their own (rate_control in the config below)'
    decays = ''.join(f', {decay:g} in {which}' for which, decay in config.layer_decays)
    facts = {'directory': str(directory)}
    if last:
        facts['trained'] = f'{last["step"]:,} steps, {last["epoch"]:.2f} of {config.epochs} epochs'
    if path.exists():
        when = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
        facts['last written'] = f'{when:%Y-%m-%d %H:%M} UTC (metrics.jsonl)'
    size = f'{data.image_size} x {data.image_size} pixels, patches of {data.crop_size}'
    parameters = f'{sum(line.parameters for line in network):,} parameters'
    return facts | {
        'checkpoints': _checkpoints(directory, validated),
        'images': f'{data.source}, {size}, {"mirrored" if data.mirror else "not mirrored"}',
        'network': f'{config.columns} {"column" if config.columns == 1 else "columns"}, {parameters}',
        'batch size': f'{config.batch_size} images',
        'learning rate': f'{config.learning_rate:g}{changes}',
        'momentum': f'{config.momentum:g}',
        'weight decay': f'{config.weight_decay:g}{decays}',
        'precision': config.precision,
        'seed': str(config.seed),
    }


def _checkpoints(directory: pathlib.Path, validated: Sequence[dict[str, Any]]) -> str:
    if has_parameters_file(directory):
        return f'none; the parameters alone, in {PARAMETERS}'
    if not (directory / 'checkpoints').is_dir():
        return 'none'
    with contextlib.closing(Checkpoints(directory, read_only=True)) as checkpoints:
        steps, best = checkpoints.steps(), checkpoints.best()
    if not steps:
        return 'none'
    since = itertools.takewhile(lambda line: line['step'] >= steps[-1], last_lines(directory))
    epochs = {line['step']: f' (epoch {line["epoch"]:.2f})' for line in [*validated, *since]}
    newest = f'newest: step {steps[-1]}{epochs.get(steps[-1], "")}'
    return newest if best is None else f'{newest}; best: step {best}{epochs.get(best, "")}'


def _progress(directory: pathlib.Path, validated: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The last lines of the metrics and the best validation, with their names."""
    training = (line for line in last_lines(directory) if line['split'] == 'train')
    finite = [line for line in validated if math.isfinite(line['top1_error'])]
    rows = [('training, last line', line) for line in itertools.islice(training, 1)]
    rows += [('validation, last', line) for line in validated[-1:]]
    if finite:
        rows.append(('validation, lowest top-1 error', min(finite, key=lambda line: line['top1_error'])))
    return rows


def _paper_tables() -> list[tuple[str, tuple[Row, ...]]]:
    names = {'imagenet2010': 'ImageNet, ILSVRC-2010', 'imagenet2012': 'ImageNet, ILSVRC-2012'}
    return [(f'{names.get(source, source)}, {split} images', rows) for (source, split), rows in ROWS.items()]


def picture(directory: pathlib.Path, name: str) -> str | None:
    """A picture as a data URI, the SVG if there is one; None if there is no picture.

    Args:
      directory: of the pictures.
      name: of the picture, without '.svg' or '.png'.

    Raises:
      UserError: it cannot be read.
    """
    for stem in (name, _EARLIER_NAMES.get(name, name)):
        for ending, kind in _KINDS:
            path = directory / (stem + ending)
            if path.exists():
                try:
                    return f'data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}'
                except OSError as error:
                    raise UserError(f'{path} cannot be read: {error}.') from error
    return None
