"""The five most probable classes of a user's own images (Figure 4, left): `--mode=predict`."""

import itertools
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from alexnet_jax.columns import DATA
from alexnet_jax.data.pictures import Picture, find_pictures, read_pictures
from alexnet_jax.data.prepared import PreparedDataSet
from alexnet_jax.errors import UserError
from alexnet_jax.figures.examples import Example, figure_4_left
from alexnet_jax.figures.style import save
from alexnet_jax.logs import Display
from alexnet_jax.prediction import Predictor, Run, open_run, predictor

GUESSES = 5


class Guesses(NamedTuple):
    """What a network says of a picture.

    Attributes:
      picture: what it looked at.
      classes: labels of the most probable classes, the most probable first.
      probabilities: of these classes.
      truth: the picture's label, where it is known.
    """

    picture: Picture
    classes: list[int]
    probabilities: list[float]
    truth: int | None


def predict(
    config: ConfigDict, workdir: str, which: str, images: Sequence[str], as_json: bool, console: Console
) -> None:
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
    paths = find_pictures(images)
    run = open_run(config, workdir, which)
    directory = pathlib.Path(workdir) / 'predictions'
    broken = []
    with Display(console, len(paths), 0, name='predicting', unit='images') as display:
        for done, (picture, guesses) in enumerate(_guesses(run, paths), 1):
            if guesses is None:
                broken.append(f'{picture.path}: {picture.error}')
                display.line(f'cannot be read: {broken[-1]}')
            elif not as_json:
                console.print(_table(guesses, run.data))
                display.line(f'  drawn: {_draw(guesses, run.data, directory)}')
            if as_json:
                sys.stdout.write(json.dumps(_as_json(picture, guesses, run.data)) + '\n')
                sys.stdout.flush()
            display.update(done)
    if broken:
        raise UserError(f'{len(broken)} of {len(paths)} images cannot be read, the first: {broken[0]}.')


def _guesses(run: Run, paths: Sequence[str]) -> Iterator[tuple[Picture, Guesses | None]]:
    config = run.experiment.config
    copies = run.experiment.mesh.shape[DATA]
    batch_size = min(config.batch_size, -(-len(paths) // copies) * copies)  # one image shall not wait for 127 others
    predict_batch = predictor(run, 'ten')
    pictures = read_pictures(paths, run.data.image_size, config.data.threads)
    while batch := _next(pictures, batch_size):
        yield from _of_batch(batch, predict_batch, batch_size, run.data)


def _next(pictures: Iterator[Picture], count: int) -> list[Picture]:
    return [picture for _, picture in zip(range(count), pictures, strict=False)]


def _of_batch(
    pictures: list[Picture], predict_batch: Predictor, batch_size: int, data: PreparedDataSet
) -> Iterator[tuple[Picture, Guesses | None]]:
    images = np.zeros((batch_size, data.image_size, data.image_size, 3), np.uint8)
    for place, picture in enumerate(pictures):
        if picture.pixels is not None:
            images[place] = picture.pixels
    log_probabilities = np.asarray(predict_batch({'image': images})['log_probabilities'])
    for picture, scores in zip(pictures, log_probabilities, strict=False):
        yield picture, None if picture.pixels is None else guess(picture, scores, data)


def guess(picture: Picture, log_probabilities: np.ndarray, data: PreparedDataSet, truth: int | None = None) -> Guesses:
    """The most probable classes of a picture.

    Args:
      picture: what the network looked at.
      log_probabilities: [classes].
      data: which knows the classes.
      truth: the picture's label; where it is not given, the folders that the picture lies in are asked.
    """
    classes = np.argsort(-log_probabilities, kind='stable')[:GUESSES]
    truth = truth_of(picture.path, data) if truth is None else truth
    return Guesses(picture, classes.tolist(), np.exp(log_probabilities[classes]).tolist(), truth)


def truth_of(path: str, data: PreparedDataSet) -> int | None:
    """The class that the folder of a file is named after, by id or by name; None where there is none, or several."""
    folder = pathlib.Path(path).absolute().parent.name
    for names in (data.class_ids, data.class_names):
        if names.count(folder) == 1:
            return names.index(folder)
    return None


def _table(guesses: Guesses, data: PreparedDataSet) -> Table:
    truth = '' if guesses.truth is None else f' (it is {data.class_names[guesses.truth]})'
    table = Table(title=f'{escape(guesses.picture.path)}{escape(truth)}', box=SIMPLE_HEAD, title_justify='left')
    table.add_column('class', no_wrap=True)
    table.add_column('probability', justify='right')
    for label, probability in zip(guesses.classes, guesses.probabilities, strict=True):
        table.add_row(escape(data.class_names[label]), f'{probability:.2%}', style='bold' * (label == guesses.truth))
    return table


def _as_json(picture: Picture, guesses: Guesses | None, data: PreparedDataSet) -> dict[str, Any]:
    if guesses is None:
        return {'file': picture.path, 'error': picture.error}
    found = [
        {'label': label, 'name': data.class_names[label], 'id': data.class_ids[label], 'probability': probability}
        for label, probability in zip(guesses.classes, guesses.probabilities, strict=True)
    ]
    return {'file': picture.path, 'predictions': found}


def example_of(guesses: Guesses, data: PreparedDataSet) -> Example:
    """What Figure 4 shows of a prediction."""
    names = [data.class_names[label] for label in guesses.classes]
    truth = None if guesses.truth is None else data.class_names[guesses.truth]
    right = guesses.classes.index(guesses.truth) if guesses.truth in guesses.classes else None
    return Example(guesses.picture.pixels, names, guesses.probabilities, truth, right)


def _draw(guesses: Guesses, data: PreparedDataSet, directory: pathlib.Path) -> pathlib.Path:
    """Draws a prediction under the file's name, which two files may share."""
    name = pathlib.Path(guesses.picture.path).stem
    free = next(
        path
        for path in (directory / f'{name}{"" if number == 1 else f"-{number}"}' for number in itertools.count(1))
        if not path.with_name(f'{path.name}.png').exists()
    )
    return save(figure_4_left([example_of(guesses, data)]), free)[0]
