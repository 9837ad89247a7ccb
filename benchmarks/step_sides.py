"""The two sides of `train_step.py`: our training step and PyTorch's, on the same made-up batch."""

import contextlib
import dataclasses
import gc
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.data.augment import Statistics, training_images
from alexnet_jax.data.device_feed import Batch, statistics_to_devices, to_devices
from alexnet_jax.model.alexnet import AlexNet
from alexnet_jax.runs.build import Experiment, build, first_state, training_step
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.dispatch import compile_first, finish, holds_memory
from alexnet_jax.training.optimizer import layer_rates
from experiments import paper

_QUICK, _LOOK = 0.1, 1.0  # seconds: a step that takes less is first looked at for so long
_MOST_UNMEASURED = 5  # steps before a measurement
_FEW_PAGES = 10_000  # of 4 kB: little beside what a step takes where memory was not kept

Steps = Callable[[int], float]  # makes so many steps, waits for them, returns the last loss


@dataclasses.dataclass
class Side:
    """One side: its steps, and the times of a step in each measurement.

    Attributes:
      steps: see `Steps`.
      seconds: wall-clock.
      own, system: processor time, in user and in kernel mode.
    """

    steps: Steps
    seconds: list[float] = dataclasses.field(default_factory=list)
    own: list[float] = dataclasses.field(default_factory=list)
    system: list[float] = dataclasses.field(default_factory=list)

    def measure(self, seconds: float) -> None:
        """Takes one measurement, of as many steps as fit in `seconds`, after some unmeasured ones.

        These find caches and memory as another side has left them. They go on while the system gives new memory, which
        takes as long as a step or two where it comes page by page.
        """
        count = max(1, round(seconds / self.seconds[-1])) if self.seconds else 1
        for _ in range(_MOST_UNMEASURED):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            self.steps(1)
            if resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < _FEW_PAGES:
                break
        start, before = time.perf_counter(), os.times()
        loss = self.steps(count)
        end, after = time.perf_counter(), os.times()
        self.seconds.append((end - start) / count)
        self.own.append((after.user - before.user) / count)
        self.system.append((after.system - before.system) / count)
        if not np.isfinite(loss):
            raise UserError(f'the loss is {loss}: what is measured is no training.')

    def forget_first(self) -> None:
        """The first measurement no longer counts."""
        for values in (self.seconds, self.own, self.system):
            del values[0]

    @property
    def median(self) -> float:
        """Median wall-clock seconds of a step."""
        return statistics.median(self.seconds)


def paper_experiment(batch: int, precision: str) -> Experiment:
    """The paper's network on one device."""
    return on_one_device(Config.from_fields(paper.get_config()), batch, precision)


def on_one_device(config: Config, batch: int, precision: str, column: int = 1) -> Experiment:
    """Any network on one device, or with its columns on `column` devices."""
    fields = {'batch_size': batch, 'precision': precision, 'mesh.data': 1, 'mesh.column': column}
    fields |= {'learning_rate': 1e-5}  # thousands of steps on one batch of noise are not to diverge or die out
    return build(config.replace(**fields))


def made_batch(experiment: Experiment) -> tuple[Batch, Statistics]:
    """A batch of noise with random draws, and the statistics for it."""
    config, random = experiment.config, np.random.default_rng(0)
    batch, crop, size = config.batch_size, config.data.crop_size, config.data.image_size
    classes = experiment.config.network[-1][1].units
    made = {
        'image': random.integers(0, 256, (batch, crop, crop, 3), np.uint8),
        'label': random.integers(0, classes, batch).astype(np.int32),
        'top': random.integers(0, size - crop + 1, batch).astype(np.int32),
        'left': random.integers(0, size - crop + 1, batch).astype(np.int32),
        'mirror': random.random(batch) < 0.5,
        'color': random.normal(0, 0.1, (batch, 3)).astype(np.float32),
        'dropout_seed': random.integers(0, 2**32, batch).astype(np.uint32),
    }
    mean = np.full((size, size, 3), 127.5, np.float32)
    return made, Statistics(mean, random.normal(0, 30, (3, 3)).astype(np.float32))


def our_steps(experiment: Experiment, batch: Batch, constants: Statistics) -> Steps:
    """Our training step, repeated on a batch that is already on the device, and dispatched as `launch.py` does."""
    config, mesh = experiment.config, experiment.mesh
    on_devices, images = statistics_to_devices(constants, mesh), to_devices(batch, mesh)
    state = first_state(experiment)
    rates = layer_rates(state.parameters, config.learning_rate, 0.0, config.rate_control)
    step = compile_first(training_step(experiment), state, images, on_devices, rates)
    simulated = (
        mesh.size > 1 and mesh.devices.flat[0].platform == 'cpu'
    )  # whose exchanges of two steps may lock each other
    alone, holder = simulated or holds_memory(step), [state]

    def steps(count: int) -> float:
        for _ in range(count):
            holder[0], metrics = step(holder[0], images, on_devices, rates)
            if alone:
                finish(holder[0])
        jax.block_until_ready(holder[0])
        return float(metrics['loss'])

    return steps


def torch_sides(
    experiment: Experiment, batch: Batch, constants: Statistics, kinds: list[str], console: Console
) -> dict[str, Steps]:
    """PyTorch's steps of the requested kinds; none, with a message, where PyTorch is missing."""
    device = torch_device()
    try:
        import torch

        from benchmarks import torch_alexnet
    except ImportError:
        console.print('PyTorch is not installed: only our side is measured.')
        return {}
    if device == 'cuda' and not torch.cuda.is_available():
        console.print(f'PyTorch {torch.__version__} finds no GPU: only our side is measured.')
        return {}
    possible = torch_alexnet.variants(device)
    if 'compiled' in kinds and not any(variant.compiled for variant in possible):
        console.print('torch.compile needs g++ here, which is not installed: PyTorch is measured without.')
    torch_alexnet.set_up()
    config, constants = experiment.config, jax.tree.map(np.asarray, constants)
    images = torch_alexnet.padded(np.asarray(jax.jit(training_images)(batch, constants)), experiment.config.network)
    parameters = jax.device_get(first_state(experiment).parameters)
    found = {}
    for variant in possible:
        if ('compiled' if variant.compiled else 'eager') not in kinds:
            continue
        network = torch_alexnet.TorchAlexNet(
            experiment.config.network, config.columns, config.data.crop_size, variant.written_out
        )
        network.load(parameters)
        found[str(variant)] = torch_alexnet.training_step(
            network,
            images,
            batch['label'],
            variant,
            device=device,
            bfloat16=config.precision == 'bfloat16',
            rate=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    return found


def torch_device() -> str:
    """PyTorch's name of the device that JAX uses."""
    return 'cpu' if jax.devices()[0].platform == 'cpu' else 'cuda'


def take_turns(sides: dict[str, Side], console: Console, *, rounds: int, seconds: float, finalists: int) -> list[str]:
    """Measures every side once, then ours and the fastest others in turn.

    Args:
      sides: by name; one of PyTorch that fails is taken out, with a line that says so.
      console: where to tell how it goes.
      rounds: how often those that go on are measured.
      seconds: how long a measurement takes.
      finalists: how many beside ours go on after the first look.

    Returns:
      The names of these others. Of them and of ours the first look no longer counts.
    """
    for name, side in list(sides.items()):
        start = time.perf_counter()
        with _leaving_out(name, sides, console):
            side.steps(1)
            ready = time.perf_counter() - start
            side.measure(0)
            if side.median < _QUICK:  # of which one alone says little
                side.measure(min(_LOOK, seconds))
                side.forget_first()
        if name not in sides:
            continue
        console.print(
            f'{name}: ready after {ready:.1f} s; {side.seconds[0]:.4f} s a step, {side.own[0]:.3f} of processor time '
            f"and {side.system[0]:.3f} of the system's",
            highlight=False,
        )
    others = sorted((name for name in sides if name != 'ours'), key=lambda name: sides[name].median)
    ahead = others[:finalists]
    going_on = [name for name in sides if name == 'ours' or name in ahead]
    for name in others[finalists:]:
        sides[name].steps = _left_out  # lets go of its memory
    gc.collect()
    for _ in range(rounds):
        for name in [name for name in going_on if name in sides]:
            with _leaving_out(name, sides, console):
                sides[name].measure(seconds)
    for name in [name for name in going_on if name in sides]:
        sides[name].forget_first()
    return [name for name in ahead if name in sides]


@contextlib.contextmanager
def _leaving_out(name: str, sides: dict[str, Side], console: Console) -> Iterator[None]:
    """Takes a side of PyTorch out where it fails, whatever it raises: torch.compile raises many kinds of errors."""
    try:
        yield
    except Exception as error:
        if name == 'ours':
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        console.print(f'{name}: left out, {first}', highlight=False, soft_wrap=True)
        del sides[name]


def _left_out(count: int) -> float:
    raise AssertionError('a side that was left out is not measured again')


def largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, in units of the largest value."""
    return float(np.abs(np.asarray(one) - other).max() / np.abs(other).max())


def compare(experiment: Experiment, written_out: bool) -> dict[str, float]:
    """Differences between the two networks at test time, in float32 on the CPU.

    Returns:
      For 'logits' and for the loss gradient of each layer's kernel, the largest difference in units of the largest
      value.
    """
    import torch

    from benchmarks import torch_alexnet

    config, table = experiment.config, experiment.config.network
    batch, constants = made_batch(experiment)
    images = np.asarray(training_images(batch, constants))
    parameters = first_state(experiment).parameters
    network = AlexNet(table, config.columns)

    def loss_of(parameters: Any) -> tuple[jax.Array, jax.Array]:
        logits = network.apply({'params': parameters}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch['label']).mean(), logits

    with jax.default_device(jax.devices('cpu')[0]), jax.default_matmul_precision('highest'):
        (_, logits), gradients = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(jax.device_get(parameters))
    other = torch_alexnet.TorchAlexNet(table, config.columns, config.data.crop_size, written_out).eval()
    other.load(jax.device_get(parameters))
    found = other(torch.tensor(torch_alexnet.padded(images, table)))
    torch.nn.functional.cross_entropy(found, torch.tensor(batch['label'], dtype=torch.int64)).backward()
    differences = {'logits': largest_difference(found.detach().numpy(), np.asarray(logits))}
    for name, layer in other.layers.items():
        weight = other.weight_of(name, np.asarray(gradients[name]['kernel']))
        differences[name] = largest_difference(layer.weight.grad.numpy(), weight)
    return differences
