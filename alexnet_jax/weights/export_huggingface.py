"""A trained network as a folder for a model hub: beside the workdir's files a card, README.md, and a picture."""

import dataclasses
import json
import pathlib

import numpy as np

from alexnet_jax.data.sources.published import images_of
from alexnet_jax.evaluation.color import color_shares
from alexnet_jax.figures.kernels import figure_3
from alexnet_jax.figures.style import save
from alexnet_jax.runs.eval_json import Evaluation, read_evaluation
from alexnet_jax.runs.parameters_file import PARAMETERS
from alexnet_jax.runs.trained import Run, first_kernels
from alexnet_jax.runtime.errors import printable
from alexnet_jax.runtime.files import write_bytes
from alexnet_jax.runtime.formatting import format_percent, format_top5

CARD, PICTURE = 'README.md', 'kernels'

_IMAGENET = "ImageNet's terms: non-commercial research and education. The photographs belong to their photographers"
# What the images may be used for, as those who publish them say.
_TERMS = {
    'digits': 'Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak): CC BY 4.0',
    'photographs': 'photographs of scikit-image and scikit-learn: public domain, CC0 and CC BY, as these say of each',
    'imagenet': _IMAGENET,
    'tiny': _IMAGENET,
    'imagewoof': _IMAGENET,
    'cifar': 'CIFAR (A. Krizhevsky): no license is stated; its authors ask to cite "Learning Multiple Layers of '
    'Features from Tiny Images" (2009)',
    'fashion': 'Fashion-MNIST (Zalando SE): MIT',
    'mnist': 'MNIST (Y. LeCun, C. Cortes and C. Burges): no license is stated by its authors',
}


def shareable(run: Run) -> Run:
    """The run as others may see it: without the paths of this machine."""
    config = run.config
    fields = {'data.directory': config.data.directory, 'data.source_directory': config.data.source_directory}
    fields['pretrained.workdir'] = config.pretrained.workdir
    names = {field: pathlib.Path(path).name for field, path in fields.items() if pathlib.Path(path).is_absolute()}
    experiment = dataclasses.replace(run.experiment, config=config.replace(**names))
    return dataclasses.replace(run, experiment=experiment, data=dataclasses.replace(run.data, source_directory=''))


def write_card(run: Run, directory: pathlib.Path, half: bool) -> None:
    """Writes the card, and draws the first layer's kernels where they see colors (Figure 3).

    The errors are those of WORKDIR/eval.json, if they are of the same step.

    Raises:
      UserError: eval.json is damaged, or a file cannot be written.
    """
    kernels = first_kernels(run.experiment, run.parameters)
    colored = kernels.ndim == 5 and kernels.shape[3] == 3
    if colored:
        save(figure_3(kernels, color_shares(kernels), ''), directory / PICTURE)
    evaluation = read_evaluation(run.workdir)
    if evaluation and evaluation.step != run.progress.step:
        evaluation = None
    sections = [_front(run, evaluation), _network(run, half, colored), _errors(evaluation), _use(run), _terms(run)]
    write_bytes(directory / CARD, '\n'.join(sections).encode())


def _front(run: Run, evaluation: Evaluation | None) -> str:
    """The head of the card, which hubs read, as YAML; every text in it is JSON."""
    lines = ['---', 'library_name: alexnet-jax', 'pipeline_tag: image-classification', 'license: other']
    lines += ['license_name: terms-of-the-training-images', 'license_link: README.md', 'tags: [alexnet, jax, flax]']
    if evaluation:
        name, source, split = map(_quoted, (run.config.name, evaluation.source, evaluation.split))
        lines += ['model-index:', f'- name: {name}', '  results:']
        for views, errors in evaluation.views.items():
            lines += ['  - task: {type: image-classification}']
            lines += [f'    dataset: {{name: {source}, type: {source}, split: {split}}}']
            lines += ['    metrics:']
            for number in (1, 5):
                error = errors.top1_error if number == 1 else errors.top5_error
                metric = f'name: "top-{number} error, {errors.described(views)}", type: top-{number}-error'
                lines += [f'    - {{{metric}, value: {error:.6g}}}']
    return '\n'.join([*lines, '---', ''])


def _quoted(text: str) -> str:
    """A text as YAML has it, in double quotes; unlike JSON, YAML takes no surrogate pairs."""
    return json.dumps(printable(text), ensure_ascii=False)


def _network(run: Run, half: bool, colored: bool) -> str:
    config, data = run.config, run.data
    count = sum(int(np.prod(x.shape)) for arrays in run.parameters.values() for x in arrays.values())
    columns = {1: 'one column', 2: 'two columns'}.get(config.columns, f'{config.columns} columns')
    training = 'It was imported from other software; how it was trained is not recorded here.'
    if run.progress.step:
        training = (
            f'Trained on {data.examples("train"):,} images of `{_plain(data.settings.source)}`, of {data.image_size} '
            f'pixels a side, for {run.progress.epoch} epochs ({run.progress.step:,} steps) in batches of '
            f'{config.batch_size}, at a learning rate of {config.learning_rate:g} at first. Everything else is in '
            '`config.json`.'
        )
    facts = [
        f'# {_plain(config.name)}',
        '',
        f'AlexNet (Krizhevsky, Sutskever and Hinton, 2012) in JAX: {columns}, {count:,} parameters, '
        f'{"half precision" if half else "float32"}, {len(run.class_names):,} classes. {training}',
        '',
    ]
    if colored:
        facts += [f'![First-layer kernels, a column above the other]({PICTURE}.png)', '']
        facts += ["*The kernels of the first layer, as in the paper's Figure 3.*", '']
    return '\n'.join(facts)


def _errors(evaluation: Evaluation | None) -> str:
    lines = ['## Errors', '']
    if evaluation is None:
        return '\n'.join([*lines, 'Not measured for these parameters.', ''])
    lines += [f'On {evaluation.examples:,} images of the split `{_plain(evaluation.split)}`:', '']
    lines += ['| views | top-1 | top-5 |', '|---|---|---|']
    for views, errors in evaluation.views.items():
        top1, top5 = format_percent(errors.top1_error), format_top5(errors.top5_error, evaluation.classes)
        lines.append(f'| {errors.described(views)} | {top1} | {top5} |')
    return '\n'.join([*lines, ''])


def _use(run: Run) -> str:
    return f"""## Use

This folder is a workdir of the package `alexnet-jax`:

```python
import alexnet_jax as ax

run = ax.load_run('FOLDER')
run.top_classes(['photograph.jpg'])
```

`python launch.py --workdir=FOLDER --mode=predict --images=photograph.jpg` prints the same;
`--mode=export --to=torch` and `--to=onnx` write the network for others. `{PARAMETERS}` has an array for each kernel and
bias, the leading axis being the column. Images are RGB, 0..255, less the mean image of `data_set/`; the network sees
patches of {run.config.data.crop_size} pixels a side.
"""


def _terms(run: Run) -> str:
    source = images_of(run.data.settings.source)
    known = next((terms for start, terms in _TERMS.items() if source.startswith(start)), None)
    words = f'{known}.' if known else 'The terms of these images are not known to the software that wrote this card.'
    return f"""## License

The training images: {words} Whoever publishes this folder says under which license the parameters are.
"""


def _plain(text: str) -> str:
    """A name in a Markdown text: one line, without anything that Markdown or HTML would interpret."""
    return ''.join(sign if sign.isalnum() or sign in ' .,:/-_=' else '?' for sign in printable(text))
