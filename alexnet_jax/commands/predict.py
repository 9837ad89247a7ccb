"""The five most probable classes of a user's own images (Figure 4, left): `--mode=predict`."""

import collections
import itertools
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.images import ImageFile, find_image_files, read_image_files
from alexnet_jax.evaluation.predictor import most_probable
from alexnet_jax.model.columns import DATA
from alexnet_jax.runs.trained import Run, open_run, predictor
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.progress_bar import Display


def predict(config: Config, workdir: str, which: str, images: Sequence[str], as_json: bool, console: Console) -> None:
    """Prints five labels with their probabilities for every image, averaged over ten views, and draws them.

    A picture in a folder named after a class, as the folder source has them, counts as of that class. The pictures
    are drawn to WORKDIR/predictions.

    Args:
      config: the experiment that the run was made with.
      workdir: of the run; the images of its data set are not needed.
      which: 'newest', 'best', or the number of a step.
      images: files and folders.
      as_json: print to standard output one JSON object an image: 'file', and 'predictions', a list of {'label',
        'name', 'id', 'probability'}, or 'error'; no tables and pictures.
      console: where to print otherwise.

    Raises:
      UserError: the run or an image cannot be used; all other images were predicted all the same.
    """
    paths = find_image_files(images)
    run = open_run(config, workdir, which)
    directory = pathlib.Path(workdir) / 'predictions'
    names, broken = _names(paths), []
    with Display(console, len(paths), 0, name='predicting', unit='images') as display:
        for done, (picture, scores) in enumerate(_scores(run, paths), 1):
            if scores is None:
                broken.append(f'{picture.path}: {picture.error}')
                display.line(f'cannot be read: {broken[-1]}')
            elif not as_json:
                truth = truth_of(picture.path, run.data)
                display.line(_lines(picture.path, scores, truth, run.data))
                display.line(f'  drawn: {_draw(picture, scores, truth, run.data, directory, names[done - 1])}')
            if as_json:
                sys.stdout.write(json.dumps(_as_json(picture, scores, run.data)) + '\n')
                sys.stdout.flush()
            display.update(done)
    if broken:
        raise UserError(f'{len(broken)} of {len(paths)} images cannot be read, the first: {broken[0]}.')


def _scores(run: Run, paths: Sequence[str]) -> Iterator[tuple[ImageFile, np.ndarray | None]]:
    """Every picture with its log-probabilities, [classes]; None for one that cannot be read."""
    config = run.experiment.config
    copies = run.experiment.mesh.shape[DATA]
    batch_size = min(config.batch_size, -(-len(paths) // copies) * copies)  # one image shall not wait for 127 others
    predict_batch = predictor(run, 'ten')
    pictures = read_image_files(paths, run.data.image_size, config.data.threads)
    while batch := list(itertools.islice(pictures, batch_size)):
        images = np.zeros((batch_size, run.data.image_size, run.data.image_size, 3), np.uint8)
        for image, picture in zip(images, batch, strict=False):
            image[:] = 0 if picture.pixels is None else picture.pixels
        scores = np.asarray(predict_batch({'image': images})['log_probabilities'])
        for picture, own in zip(batch, scores, strict=False):
            yield picture, None if picture.pixels is None else own


def truth_of(path: str, data: PreparedDataSet) -> int | None:
    """The class that the folder of a file is named after, by id or by name; None where there is none, or several."""
    folder = pathlib.Path(path).absolute().parent.name
    for names in (data.class_ids, data.class_names):
        if names.count(folder) == 1:
            return names.index(folder)
    return None


def _lines(path: str, scores: np.ndarray, truth: int | None, data: PreparedDataSet) -> str:
    """For a person: the file, and the classes with their probabilities, the right one marked."""
    known = '' if truth is None else f' (it is: {data.class_names[truth]})'
    guesses = [
        f'  {probability:7.2%}  {data.class_names[label]}{" *" * (label == truth)}'
        for label, probability in most_probable(scores)
    ]
    return '\n'.join([path + known, *guesses])


def _as_json(picture: ImageFile, scores: np.ndarray | None, data: PreparedDataSet) -> dict[str, Any]:
    if scores is None:
        return {'file': picture.path, 'error': picture.error}
    found = [
        {'label': label, 'name': data.class_names[label], 'id': data.class_ids[label], 'probability': probability}
        for label, probability in most_probable(scores)
    ]
    return {'file': picture.path, 'predictions': found}


def _draw(
    picture: ImageFile, scores: np.ndarray, truth: int | None, data: PreparedDataSet, directory: pathlib.Path, name: str
) -> pathlib.Path:
    from alexnet_jax.figures.examples import example_of, figure_4_left  # not above: with --json nothing is drawn
    from alexnet_jax.figures.style import save

    return save(figure_4_left([example_of(picture.pixels, scores, data.class_names, truth)]), directory / name)[0]


def _names(paths: Sequence[str]) -> list[str]:
    """What to call the pictures' drawings: after their files, numbered where several have the same name."""
    seen: collections.Counter[str] = collections.Counter()
    names = []
    for path in paths:
        stem = pathlib.Path(path).stem
        seen[stem] += 1
        names.append(stem if seen[stem] == 1 else f'{stem}-{seen[stem]}')
    return names
