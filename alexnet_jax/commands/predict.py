"""The five most probable classes of image files (Figure 4, left): `--mode=predict`."""

import errno
import itertools
import json
import pathlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.data.augment import patches_of
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.image_files import ImageFile, find_image_files, read_image_files
from alexnet_jax.data.own_images import read_as_prepared
from alexnet_jax.evaluation.predictor import most_probable
from alexnet_jax.model.columns import DATA
from alexnet_jax.runs.trained import Run, most_views, open_run, predictor
from alexnet_jax.runtime.errors import StoppedError, UserError, say, shown
from alexnet_jax.runtime.progress_bar import Display
from alexnet_jax.runtime.streams import has_reader

if TYPE_CHECKING:
    from alexnet_jax.figures.examples import Example

_SHARP = 256  # pixels of a drawn image's side, at least
_TOGETHER = 8  # images in one drawing


def predict(
    config: Config,
    workdir: str,
    which: str,
    images: Sequence[str],
    as_json: bool,
    console: Console,
    output: str | None = None,
) -> None:
    """Prints five classes with their probabilities for every image, and draws them.

    The views are those of `config.evaluation.views`, the ten if they are among them, and images are read as preparation
    reads them: predictions are those that `--mode=eval` measures. An image in a folder named after a class, as the
    folder source has them, counts as of that class. Drawings go to WORKDIR/predictions, or OUTPUT/predictions; several
    images are also drawn together, the first eight of them, as predictions.png beside it. Where drawings cannot be
    written, a line says so and predictions are printed all the same.

    Args:
      config: of the run.
      workdir: of the run; its data set is not needed.
      which: 'newest', 'best', or a step.
      images: files and folders.
      as_json: print to standard output one JSON object per image instead: 'file', and 'predictions', a list of
        {'label', 'name', 'id', 'probability'}, or 'error'. In 'file' bytes that are not UTF-8 are written `\\xff`.
      console: for output.
      output: directory for the drawings; None for the workdir.

    Raises:
      UserError: the run cannot be used; or an image cannot be read, after all others were predicted.
    """
    paths = find_image_files(images, lambda line: say(console, line))
    run = open_run(config, workdir, which, lambda line: say(console, line))
    place = pathlib.Path(output or workdir)
    draw = None if as_json else _Drawings(place / 'predictions', run.data, config.data.max_megapixels)
    names, broken = _drawing_names(paths), []
    patches = patches_of(most_views(config), config.data.mirror)
    say(
        console,
        f'Predictions are averaged over {patches} views.' if patches > 1 else 'Predictions are from the center view.',
    )
    with Display(console, len(paths), 0, name='predicting', unit='images') as display:
        for done, (file, scores) in enumerate(_predictions(run, paths)):
            if file.pixels is None:
                broken.append(f'{shown(file.path)}: {file.error}')
                display.line(f'cannot be read: {broken[-1]}')
            elif draw:
                truth = class_of_folder(file.path, run.data)
                display.line(_lines(file.path, scores, truth, run.data))
                display.line(f'  {draw(names[done], file, scores, truth)}')
            if as_json:
                sys.stdout.write(_as_json(file, scores, run.data) + '\n')
                sys.stdout.flush()
                if not has_reader():
                    raise StoppedError(signal.SIGPIPE)
            display.update(done + 1)
        if draw and len(paths) > 1 and (line := draw.together()):
            display.line(line)
    if broken:
        raise UserError(f'{len(broken)} of {len(paths)} images cannot be read, the first: {broken[0]}.')


def _predictions(run: Run, paths: Sequence[str]) -> Iterator[tuple[ImageFile, np.ndarray]]:
    """Each image file with its log-probabilities, [classes]."""
    config, size = run.experiment.config, run.data.image_size
    copies = run.experiment.mesh.shape[DATA]
    batch_size = min(config.batch_size, -(-len(paths) // copies) * copies)  # one image need not wait for 127 others
    predict_batch = predictor(run, most_views(config))
    found = read_as_prepared(paths, run.data, config.data.threads, config.data.max_megapixels)
    for images, files in padded_batches(found, size, batch_size):
        scores = np.asarray(predict_batch({'image': images})['log_probabilities'])
        yield from zip(files, scores, strict=False)


def padded_batches(
    files: Iterator[ImageFile], image_size: int, batch_size: int
) -> Iterator[tuple[np.ndarray, list[ImageFile]]]:
    """Groups image files into batches: uint8 [batch, size, size, 3], zeros for unreadable ones and as padding."""
    while batch := list(itertools.islice(files, batch_size)):
        images = np.zeros((batch_size, image_size, image_size, 3), np.uint8)
        for image, file in zip(images, batch, strict=False):
            if file.pixels is not None:
                image[:] = file.pixels
        yield images, batch


def class_of_folder(path: str, data: PreparedDataSet) -> int | None:
    """The class that a file's folder is named after, by id or by name; None if there is no or no single one."""
    folder = shown(pathlib.Path(path).absolute().parent.name)
    for names in (data.class_ids, data.class_names):
        if names.count(folder) == 1:
            return names.index(folder)
    return None


def _lines(path: str, scores: np.ndarray, truth: int | None, data: PreparedDataSet) -> str:
    """The file and its most probable classes, the right one marked."""
    known = '' if truth is None else f' (it is: {data.class_names[truth]})'
    guesses = [
        f'  {probability:7.2%}  {data.class_names[label]}{" *" * (label == truth)}'
        for label, probability in most_probable(scores)
    ]
    return '\n'.join([shown(path) + known, *guesses])


def _as_json(file: ImageFile, scores: np.ndarray, data: PreparedDataSet) -> str:
    if file.pixels is None:
        return json.dumps({'file': shown(file.path), 'error': file.error})
    found = [
        {'label': label, 'name': data.class_names[label], 'id': data.class_ids[label], 'probability': probability}
        for label, probability in most_probable(scores)
    ]
    return json.dumps({'file': shown(file.path), 'predictions': found})


def _drawing_names(paths: Sequence[str]) -> list[str]:
    """Names for drawings: those of the files, numbered if several have the same; no two are equal.

    A number is never that of another file's own name, and case does not tell names apart, as on some file systems.
    """
    stems = [pathlib.Path(path).stem for path in paths]
    own = {stem.casefold() for stem in stems}
    taken: set[str] = set()
    names = []
    for stem in stems:
        numbered = (f'{stem}-{number}' for number in itertools.count(2))
        free = (name for name in numbered if name.casefold() not in own | taken)
        names.append(stem if stem.casefold() not in taken else next(free))
        taken.add(names[-1].casefold())
    return names


class _Drawings:
    """Draws images with their predictions as PNG files, as long as these can be written."""

    def __init__(self, directory: pathlib.Path, data: PreparedDataSet, max_megapixels: float) -> None:
        self._directory, self._data, self._max_megapixels = directory, data, max_megapixels
        self._first: list[Example] = []
        self._problem = ''

    def __call__(self, name: str, file: ImageFile, scores: np.ndarray, truth: int | None) -> str:
        """Draws an image, and returns a line for the user."""
        if self._problem:
            return 'not drawn'
        from alexnet_jax.figures.examples import example_of  # unused with --json

        size = max(self._data.image_size, _SHARP)
        (seen,) = read_image_files([file.path], size, 1, self._max_megapixels)
        pixels = file.pixels if seen.pixels is None else seen.pixels
        assert pixels is not None, 'unreadable images are not predicted'
        example = example_of(pixels, scores, self._data.class_names, truth)
        if len(self._first) < _TOGETHER:
            self._first.append(example)
        return self._drawn([example], self._directory / name)

    def together(self) -> str:
        """Draws the first images in one figure, and returns a line for the user."""
        return '' if self._problem or not self._first else self._drawn(self._first, self._directory)

    def _drawn(self, examples: 'Sequence[Example]', path: pathlib.Path) -> str:
        from alexnet_jax.figures.examples import figure_4_left
        from alexnet_jax.figures.style import save

        try:
            return f'drawn: {save(figure_4_left(examples), path)[0]}'
        except UserError as error:
            if getattr(error.__cause__, 'errno', None) == errno.ENAMETOOLONG:
                return f'not drawn: {error}'
            self._problem = str(error)
            return f'not drawn, and neither is what follows: {error} --output=DIRECTORY names another place.'
