"""A trained run, opened: the network with its parameters on a mesh, and what it takes to look at images."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import Array

from alexnet_jax.config import Config
from alexnet_jax.data.augment import VIEWS, Statistics, statistics_of
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.device_feed import statistics_to_devices, to_devices
from alexnet_jax.data.image_files import find_image_files
from alexnet_jax.data.images import resized
from alexnet_jax.data.own_images import as_stored, read_as_prepared
from alexnet_jax.evaluation.activations import FeatureStep, activation_of, make_feature_step
from alexnet_jax.evaluation.predictor import GUESSES, PredictionStep, Predictor, make_prediction_step, most_probable
from alexnet_jax.model.alexnet import AlexNet, Parameters, classes_of
from alexnet_jax.model.columns import DATA, EVERYWHERE, make_mesh, sharding
from alexnet_jax.runs.build import Experiment, build
from alexnet_jax.runs.diagnosis import GoneError
from alexnet_jax.runs.parameters_file import has_parameters_file, network_to_devices, read_network
from alexnet_jax.runs.progress import Progress
from alexnet_jax.runs.workdir import read_config, remembered_data
from alexnet_jax.runtime.errors import UserError, shown
from alexnet_jax.runtime.paths import local_path

if TYPE_CHECKING:
    from alexnet_jax.runs.checkpoint import Checkpoints

Images = np.ndarray | str | os.PathLike[str] | Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained network, ready for images.

    Attributes:
      workdir: of the run.
      experiment: its config, and the network on its mesh.
      progress: of training, at the checkpoint.
      parameters: {layer: {'kernel', 'bias'}} of the checkpoint, on the mesh; the leading axis is the column.
      data: the data set it was trained on, without the images.
      statistics: of the training images, on the mesh.
    """

    workdir: str
    experiment: Experiment
    progress: Progress
    parameters: Parameters
    data: PreparedDataSet
    statistics: Statistics

    @property
    def config(self) -> Config:
        """The config that the run was made with."""
        return self.experiment.config

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the network's outputs."""
        return self.data.class_names

    @functools.cached_property
    def network(self) -> AlexNet:
        """The network as an ordinary module: `run.network.apply(run.variables, images)`.

        It takes float images [batch, crop_size, crop_size, 3] from which the training mean has been subtracted.
        """
        config = self.config
        return AlexNet(config.network, config.columns, dtype=self.experiment.network.dtype)

    @property
    def variables(self) -> dict[str, Parameters]:
        """The parameters as `network.apply` takes them."""
        return {'params': self.parameters}

    def predict(self, images: Images, views: str | None = None) -> np.ndarray:
        """Class probabilities of images, as `--mode=predict` computes them (section 4.1).

        Images are read as preparation reads them, so that those of a split have the errors of `--mode=eval`; arrays of
        the prepared size are taken as they are.

        Args:
          images: uint8 [batch, height, width, 3], RGB, of any size; or a path or paths of image files and folders.
          views: 'center', or 'ten' patches that are averaged, five where training images were not mirrored; None for
            those of `config.evaluation.views`, the ten if they are among them.

        Returns:
          float32 [images, classes].

        Raises:
          UserError: an image cannot be read, or there are no such views.
        """
        probabilities: np.ndarray = np.exp(self._log_probabilities(images, views))
        return probabilities

    def top_classes(
        self, images: Images, count: int = GUESSES, views: str | None = None
    ) -> list[list[tuple[str, float]]]:
        """For each image the names of its most probable classes with their probabilities (Figure 4, left)."""
        scores = self._log_probabilities(images, views)
        return [[(self.class_names[label], share) for label, share in most_probable(one, count)] for one in scores]

    def features(self, images: Images, layer: str = 'fc7') -> np.ndarray:
        """Activations of a layer for the central patch of images, as `--mode=features` computes them (section 6.1).

        Args:
          images: as for `predict`.
          layer: a layer of `config.network`; one with kernels stands for its ReLU.

        Returns:
          float16 [images, values].

        Raises:
          UserError: there is no such layer, or an image cannot be read.
        """
        pixels, features = self._pixels(images), self._feature_steps(activation_of(self.config.network, layer))

        def step(batch: np.ndarray) -> Array:
            placed = to_devices({'image': batch}, self.experiment.mesh)
            return features(self.parameters, placed, self.statistics)

        return self._computed(pixels, step)

    def _log_probabilities(self, images: Images, views: str | None) -> np.ndarray:
        if views not in (None, *VIEWS):
            raise UserError(f'views={views!r} must be one of {", ".join(map(repr, VIEWS))}.')
        pixels, predict = self._pixels(images), self._predictors(views or most_views(self.config))

        def step(batch: np.ndarray) -> Array:
            return predict({'image': batch})['log_probabilities']

        return self._computed(pixels, step)

    @functools.cached_property
    def _predictors(self) -> Callable[[str], Predictor]:
        """Predictors by their views, each compiled once."""
        return functools.cache(functools.partial(predictor, self))

    @functools.cached_property
    def _feature_steps(self) -> Callable[[str], FeatureStep]:
        """Feature steps by their layer, each compiled once."""
        experiment = self.experiment
        crop_size = experiment.config.data.crop_size
        return functools.cache(
            lambda layer: make_feature_step(experiment.network, experiment.mesh, layer=layer, crop_size=crop_size)
        )

    def _pixels(self, images: Images) -> list[np.ndarray]:
        size = self.data.image_size
        if isinstance(images, str | os.PathLike):
            images = [images]
        named = not isinstance(images, np.ndarray) and all(isinstance(one, str | os.PathLike) for one in images)
        if named and len(images):
            paths = find_image_files([os.fspath(one) for one in images], lambda line: warnings.warn(line, stacklevel=4))
            files = list(read_as_prepared(paths, self.data, 0, self.config.data.max_megapixels))
            for file in files:
                if file.pixels is None:
                    raise UserError(f'{shown(file.path)} cannot be read: {file.error}.')
            return [file.pixels for file in files if file.pixels is not None]
        arrays = [np.asarray(one) for one in images]
        for one in arrays:
            if one.ndim != 3 or one.shape[2] != 3 or one.dtype != np.uint8:
                raise UserError(f'images must be uint8 [batch, height, width, 3], RGB; one is {one.dtype} {one.shape}.')
        return [one if one.shape[:2] == (size, size) else as_stored(resized(one, size), self.data) for one in arrays]

    def _computed(self, images: Sequence[np.ndarray], step: Callable[[np.ndarray], Array]) -> np.ndarray:
        """A step's results, in batches; a few images do not wait for a full one."""
        results = [np.asarray(step(batch))[:count] for batch, count in in_batches(self, images, len(images))]
        if results:
            return np.concatenate(results)
        [(batch, _)] = in_batches(self, [np.zeros((self.data.image_size, self.data.image_size, 3), np.uint8)], 1)
        return np.asarray(step(batch))[:0]


def in_batches(run: Run, images: Iterable[np.ndarray], count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Images in batches of one size, the last one padded with zeros, each with its number of images.

    Args:
      run: whose batch size is taken, unless there are fewer images.
      images: uint8 [size, size, 3] each.
      count: number of images.
    """
    copies, images = run.experiment.mesh.shape[DATA], iter(images)
    batch_size = min(run.config.batch_size, -(-count // copies) * copies)
    while some := list(itertools.islice(images, batch_size)):
        batch = np.zeros((batch_size, *some[0].shape), np.uint8)
        batch[: len(some)] = some
        yield batch, len(some)


def load_run(
    workdir: str | os.PathLike[str],
    checkpoint: str | int = 'newest',
    *,
    data: int = 0,
    column: int = 0,
    say: Callable[[str], None] = print,
) -> Run:
    """Opens a trained run: its parameters, not the velocity, and neither images nor an experiment's file.

    Args:
      workdir: of the run.
      checkpoint: 'newest', 'best' (by validation error), or a step.
      data, column: devices along the mesh's axes, which need not be those that trained; 0 for as many as there are.
      say: told of a damaged checkpoint, in whose place the one before is taken.

    Raises:
      UserError: it is not a run, or has no such checkpoint, or does not fit the devices.
    """
    workdir = local_path(os.fspath(workdir))
    config = read_config(workdir)
    copies = make_mesh(config.columns, data, column).shape[DATA]
    batch_size = -(-config.batch_size // copies) * copies
    changes = {'mesh.data': data, 'mesh.column': column, 'batch_size': batch_size, 'accumulation_steps': 1}
    return open_run(config.replace(**changes), workdir, str(checkpoint), say)


def open_run(config: Config, workdir: str, which: str, say: Callable[[str], None]) -> Run:
    """Opens a run at one of its checkpoints, with another config than its own where wished.

    Args:
      config: the experiment that the run was made with; mesh and batch size may differ.
      workdir, which, say: as for `load_run`.

    Raises:
      UserError: the run has no such checkpoint, or is of another network.
    """
    if has_parameters_file(workdir):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:  # while the network is traced, which takes as long
            reading = pool.submit(read_network, workdir)
            experiment = build(config)
        data = remembered_data(workdir)
        _check_fits(experiment, data)
        shapes, mesh = experiment.shapes.parameters, experiment.mesh
        parameters, progress = network_to_devices(reading.result(), workdir, which, config, shapes, mesh)
    else:
        from alexnet_jax.runs.checkpoint import Checkpoints  # Orbax takes as long to import as JAX

        experiment = build(config)
        with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
            checkpoints.find(which)
            data = remembered_data(workdir)
            _check_fits(experiment, data)
            state, progress = _restored(experiment, checkpoints, which, say)
        parameters = state['parameters']
    statistics = statistics_to_devices(statistics_of(data, config.data), experiment.mesh)
    return Run(workdir, experiment, progress, parameters, data, statistics)


def _restored(
    experiment: Experiment, checkpoints: 'Checkpoints', which: str, say: Callable[[str], None]
) -> tuple[dict[str, Parameters], Progress]:
    """The parameters of a checkpoint; where training deletes it meanwhile, of the one that then has its name."""
    shapes = {'parameters': experiment.shapes.parameters}  # half of a checkpoint: no velocity
    while True:
        step = checkpoints.find(which)
        try:
            if which != 'newest':
                return checkpoints.restore(step, shapes, experiment.mesh)
            found = checkpoints.restore_newest(shapes, experiment.mesh, say)
            assert found, 'find() has found a checkpoint'
            return found
        except GoneError:
            checkpoints.reload()


def _check_fits(experiment: Experiment, data: PreparedDataSet) -> None:
    """Raises UserError where a run remembers another data set than its network can be for."""
    classes, crop_size = classes_of(experiment.config.network), experiment.config.data.crop_size
    if len(data.class_names) != classes:
        raise UserError(
            f'{data.directory} has {len(data.class_names)} classes, the network of the config has {classes}. Give the '
            'config that the run was made with (see config.json in its workdir).'
        )
    if data.image_size < crop_size:
        raise UserError(
            f'{data.directory} is of images of {data.image_size} pixels a side, config.data.crop_size={crop_size} is '
            'more. Give the config that the run was made with (see config.json in its workdir).'
        )


def prediction_step(experiment: Experiment, views: str) -> PredictionStep:
    """The jitted prediction of an experiment's network, as `make_prediction_step` describes it."""
    data = experiment.config.data
    return make_prediction_step(
        experiment.network, experiment.mesh, crop_size=data.crop_size, views=views, mirror=data.mirror
    )


def most_views(config: Config) -> str:
    """The views by which single images are predicted: of those that are evaluated, 'ten' before 'center'."""
    return 'ten' if 'ten' in config.evaluation.views else 'center'


def predictor(run: Run, views: str) -> Predictor:
    """The prediction of a trained network, for 'center' or 'ten' views."""
    return Predictor(prediction_step(run.experiment, views), run.parameters, run.statistics, run.experiment.mesh)


def first_kernels(experiment: Experiment, parameters: Parameters) -> np.ndarray:
    """Kernels of the first layer, [columns, height, width, 3, kernels of a column], from whatever devices hold them."""
    name = next(name for name, _ in experiment.config.network if name in parameters)
    everywhere = sharding(experiment.mesh, EVERYWHERE)
    return np.asarray(jax.jit(lambda x: x, out_shardings=everywhere)(parameters[name]['kernel']))
