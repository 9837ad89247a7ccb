"""Writes a trained network for other programs: `--mode=export`."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

import numpy as np
from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.model.alexnet import classes_of
from alexnet_jax.runs.parameters_file import write_network
from alexnet_jax.runs.trained import Run, open_run
from alexnet_jax.runtime.errors import UserError, printable, say, writing
from alexnet_jax.runtime.files import sync_tree, unused
from alexnet_jax.weights.channels_first import Step, channels_first

CLASSES = 'classes.txt'


def export(
    config: Config, workdir: str, which: str, to: str | None, half: bool, console: Console, output: str | None = None
) -> pathlib.Path:
    """Writes a trained network as other programs read it, into a new directory.

    torch: alexnet.py, a module that needs PyTorch alone, and its state dict, alexnet.safetensors. onnx: alexnet.onnx.
    Both with classes.txt, a name per line, and in float32. safetensors: a workdir without checkpoints, which every mode
    but training reads. huggingface: the same with a card, README.md, and a picture of the first layer's kernels.

    Args:
      config: of the run.
      workdir: of the run.
      which: 'newest', 'best', or a step.
      to: 'torch', 'onnx', 'safetensors' or 'huggingface'.
      half: whether a workdir's numbers are written in half precision.
      console: for output.
      output: the directory, which must be empty or not exist; None for WORKDIR/exported/TO-stepSTEP.

    Returns:
      The directory.

    Raises:
      UserError: the run cannot be used, the directory is not empty or cannot be written, or a package is missing.
        Nothing is left behind then.
    """
    run = open_run(config, workdir, which, lambda line: say(console, line))
    place = pathlib.Path(output) if output else pathlib.Path(workdir, 'exported', f'{to}-step{run.progress.step}')
    with _new_directory(place.absolute()) as directory:
        match to:
            case 'torch':
                _write_torch(run, directory)
            case 'onnx':
                _write_onnx(run, directory)
            case 'safetensors':
                _write_workdir(run, directory, half)
            case 'huggingface':
                from alexnet_jax.weights.export_huggingface import shareable, write_card

                _write_workdir(shareable(run), directory, half)
                write_card(run, directory, half)
    for path in sorted(path for path in place.rglob('*') if path.is_file()):
        say(console, f'wrote {path}')
    return place


@contextlib.contextmanager
def _new_directory(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory to write into, which appears at `place` in the end, whole or not at all.

    Raises:
      UserError: there is something at `place`, or it cannot be written.
    """
    with writing(place):
        if os.path.lexists(place) and not (place.is_dir() and not any(place.iterdir())):
            raise UserError(f'--output={place} already exists; name a new directory.')
        missing = [parent for parent in place.parents if not parent.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        new = unused(place.with_name(f'{place.name}.new'))
        new.mkdir()
        try:
            yield new
            sync_tree(new)
            new.replace(place)
        except BaseException:
            shutil.rmtree(new)
            for parent in missing:
                parent.rmdir()
            raise


def _write_torch(run: Run, directory: pathlib.Path) -> None:
    from safetensors.numpy import save_file

    from alexnet_jax.weights.export_torch import torch_module

    trained = f', after step {run.progress.step}' if run.progress.step else ''
    title = f'{run.config.name}{trained}, exported by AlexNet in JAX.'
    text, arrays = torch_module(_steps(run), classes_of(run.config.network), _mean_image(run), title)
    (directory / 'alexnet.py').write_text(text, encoding='utf-8')
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, directory / 'alexnet.safetensors')
    _write_classes(run, directory)


def _write_onnx(run: Run, directory: pathlib.Path) -> None:
    from alexnet_jax.weights.export_onnx import onnx_model

    facts = {'name': run.config.name, 'step': run.progress.step, 'channels': 'rgb', 'class_names': run.class_names}
    facts |= {'image_size': run.data.image_size}
    model = onnx_model(_steps(run), classes_of(run.config.network), _mean_image(run), facts)
    (directory / 'alexnet.onnx').write_bytes(model.SerializeToString())
    _write_classes(run, directory)


def _write_workdir(run: Run, directory: pathlib.Path, half: bool) -> None:
    parameters = {
        layer: {name: np.asarray(x) for name, x in arrays.items()} for layer, arrays in run.parameters.items()
    }
    done = {'step': run.progress.step, 'epoch': run.progress.epoch}
    mean_image = run.data.mean_image()
    write_network(str(directory), run.config, run.data, mean_image, parameters, half=half, flag='--output', **done)


def _write_classes(run: Run, directory: pathlib.Path) -> None:
    names = (' '.join(printable(name).split('\n')) for name in run.class_names)
    (directory / CLASSES).write_text(''.join(f'{name}\n' for name in names), encoding='utf-8')


def _steps(run: Run) -> list[Step]:
    config = run.config
    return list(channels_first(config.network, config.columns, config.data.crop_size, run.parameters))


def _mean_image(run: Run) -> np.ndarray:
    """The mean of the training images in the central patch, float32 [3, crop_size, crop_size]."""
    crop = run.config.data.crop_size
    first = (run.data.image_size - crop) // 2
    return run.data.mean_image()[first : first + crop, first : first + crop].transpose(2, 0, 1)
