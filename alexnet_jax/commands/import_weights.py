"""Reads a trained network of other software into a workdir: `--mode=import`."""

import pathlib

import jax
from rich.console import Console

from alexnet_jax.runs.parameters_file import PARAMETERS, write_network
from alexnet_jax.runs.trained import load_run
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.weights.files import is_own, numbers, read_class_names, read_mean, read_weights
from alexnet_jax.weights.imported import Given, imported


def import_weights(
    weights: str,
    workdir: str,
    console: Console,
    *,
    mean: str | None = None,
    std: str | None = None,
    class_names: str | None = None,
    channels: str | None = None,
    crop_size: int | None = None,
) -> None:
    """Writes a workdir in which every mode but training works, and from which fine-tuning can start.

    Args:
      weights: a file of Caffe, torchvision, ONNX or cuda-convnet, or parameters.safetensors of this software.
      workdir: for the network; must not hold a run or a network yet.
      console: for output.
      mean: a file, or numbers; see `files.read_mean`.
      std: numbers by which images less their mean are divided, one or one for each channel.
      class_names: a file of names, one per line.
      channels: 'rgb' or 'bgr', the order in which the network takes an image's channels.
      crop_size: height and width of its images, in pixels.

    Raises:
      UserError: a file cannot be read, is damaged, or holds no such network; nothing is written then.
    """
    if is_own(weights):
        _copy(weights, workdir, console, given=[mean, std, class_names, channels, crop_size])
        return
    network = read_weights(weights)
    subtracted, names = read_mean(mean) if mean else (None, None)
    names = read_class_names(class_names) if class_names else names
    try:
        found = imported(
            network,
            f'imported:{pathlib.Path(weights).name}',
            Given(subtracted, numbers('std', std) if std else None, names, channels, crop_size),
            lambda line: say(console, line),
        )
    except UserError as error:
        raise UserError(f'--weights={weights}: {error}') from error
    write_network(workdir, *found)
    config = found.config
    say(
        console,
        f'{workdir}: a network of {network.kind} with {config.columns} column{"s" * (config.columns > 1)}, for images '
        f'of {config.data.crop_size} pixels and {len(found.data.class_names):,} classes. Every mode but training takes '
        f'it; --config=experiments/finetune.py:{workdir} starts from it.',
    )


def _copy(weights: str, workdir: str, console: Console, given: list[object]) -> None:
    """Copies a network of this software, from the directory that the file is in."""
    path = pathlib.Path(weights)
    if any(one is not None for one in given):
        raise UserError(
            f'--weights={weights} has its mean, classes and sizes beside it, in {path.parent}; name it alone.'
        )
    if path.name != PARAMETERS:
        raise UserError(f'--weights={weights} must be named {PARAMETERS}, with config.json and data_set beside it.')
    run = load_run(path.parent, data=1, column=1, say=lambda line: say(console, line))
    parameters = jax.device_get(run.parameters)
    progress = run.progress
    config = run.config.replace(**{'mesh.data': 0, 'mesh.column': 0})
    write_network(
        workdir, config, run.data, run.data.mean_image(), parameters, step=progress.step, epoch=progress.epoch
    )
    say(console, f'{workdir}: the network of {path.parent}, step {progress.step}.')
