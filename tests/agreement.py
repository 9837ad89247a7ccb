"""Predictions of the files of a split against evaluation, for runs whose source of images is at hand.

    python tests/agreement.py WORKDIR ... [--split=validation]

Writes the images of the split as files, as their source has them, and compares the errors of --mode=predict --json on
them with those of --mode=eval, for the center view and for ten. Differences are errors.
"""

import argparse
import contextlib
import io
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from PIL import Image
from rich.console import Console

from alexnet_jax.commands.evaluate import evaluate_run
from alexnet_jax.commands.predict import predict
from alexnet_jax.config import Config
from alexnet_jax.data.sources import open_source
from alexnet_jax.runs.workdir import read_config
from alexnet_jax.runtime.devices import choose_platform


def write_files(config: Config, split: str, directory: pathlib.Path) -> list[int]:
    """Writes the images of a split as its source has them, named so that they sort in order; returns their labels."""
    source = open_source(config.data.source, config.data.source_directory)
    labels = []
    for index in range(source.splits[split]):
        item = source.item(split, index)
        file = directory / f'{index:06d}.png'
        if isinstance(item.image, bytes):
            file.write_bytes(item.image)  # what it is, its content says
        else:
            Image.fromarray(item.image).save(file, compress_level=1)
        labels.append(item.label)
    return labels


def errors_of_json(lines: list[str], labels: list[int]) -> dict[str, float]:
    """Top-1 and top-5 error of the lines of --json."""
    guesses = [[one['label'] for one in json.loads(line)['predictions']] for line in lines]
    wrong = {k: sum(label not in own[:k] for own, label in zip(guesses, labels, strict=True)) for k in (1, 5)}
    return {f'top{k}_error': count / len(labels) for k, count in wrong.items()}


def compare(config: Config, workdir: str, views: str, split: str, files: pathlib.Path, labels: list[int]) -> list[dict]:
    """The errors of evaluation and of prediction, by the same views."""
    config, quiet, printed = config.replace(**{'evaluation.views': (views,)}), Console(quiet=True), io.StringIO()
    with tempfile.TemporaryDirectory() as output:
        evaluated = evaluate_run(config, workdir, 'newest', split, quiet, output).views[views]
    with contextlib.redirect_stdout(printed):
        predict(config, workdir, 'newest', [str(files)], True, quiet)
    measured = {name: getattr(evaluated, name) for name in ('top1_error', 'top5_error')}
    return [measured, errors_of_json(printed.getvalue().splitlines(), labels)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('workdirs', nargs='+', metavar='WORKDIR')
    parser.add_argument('--split', default='validation')
    given = parser.parse_args()
    choose_platform()
    differences = 0
    for workdir in given.workdirs:
        config = read_config(workdir)
        with tempfile.TemporaryDirectory() as directory:
            labels = write_files(config, given.split, pathlib.Path(directory))
            for views in ('center', 'ten'):
                one, other = compare(config, workdir, views, given.split, pathlib.Path(directory), labels)
                differences += one != other
                what = 'equal' if one == other else 'DIFFERENT'
                print(
                    f'{config.name}, {len(labels):,} images, {views}: eval {one}, predict {other}: {what}', flush=True
                )
    sys.exit(bool(differences))


if __name__ == '__main__':
    main()
