"""What `benchmarks/train_step.py` counts, how its sides take turns, and that both are the same network and step."""

import fakes
import numpy as np
import pytest
from configs import typed

from alexnet_jax.config import network_config
from alexnet_jax.model.layer_specs import Convolution, Dense, Flatten, MaxPooling, ReLU
from alexnet_jax.runs.build import build
from alexnet_jax.runtime.errors import UserError
from benchmarks import limits
from benchmarks.step_sides import Side, compare, made_batch, our_steps, paper_experiment, take_turns, torch_sides
from experiments import digits


def small_experiment(**fields):
    """The digits' network on one device, half as wide."""
    config = digits.get_config()
    config.batch_size, config.mesh.data, config.mesh.column = 4, 1, 1
    for name in ('conv1', 'conv2', 'conv3', 'conv4', 'conv5'):
        config.network[name].kernels //= 2
    config.update_from_flattened_dict(fields)
    return build(typed(config))


def test_operations_and_parameters_are_those_of_figure_2():
    experiment = paper_experiment(1, 'float32')
    first = 55 * 55 * 96 * 11 * 11 * 3
    convolutions = 27**2 * 256 * 5 * 5 * 48 + 13**2 * (384 * 9 * 256 + 384 * 9 * 192 + 256 * 9 * 192)
    dense = 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    # Forward, the gradient of the inputs and that of the kernels: a multiply and an add each; none of the image.
    assert limits.flops(experiment) == 2 * (2 * first + 3 * (convolutions + dense))
    assert limits.parameter_bytes(experiment) == 60_965_224 * 4 * 8


def test_bytes_of_activations_by_hand():
    config = digits.get_config()
    config.mesh.data = config.mesh.column = config.columns = 1
    config.network = network_config(
        {
            'conv1': Convolution(kernels=2, size=8, stride=8),
            'relu1': ReLU(),
            'pool1': MaxPooling(size=2, stride=2),
            'conv2': Convolution(kernels=3, size=1),
            'flatten': Flatten(),
            'fc': Dense(units=10),
        }
    )
    # conv1 gives 8 x 8 x 2 values: written, read by the pooling, read for its gradient; their gradient written,
    # and read for the kernels. The pooled 4 x 4 x 2: written, read forward and for the kernels; gradient written, read.
    # conv2's 4 x 4 x 3 and fc's 10: three times, and their gradients three times. The image: once, in bytes.
    values = 5 * 128 + 5 * 32 + 6 * 48 + 6 * 10
    assert limits.activation_bytes(build(typed(config)), 2) == 2 * values + 64 * 64 * 3


def made_side(order, name, duration, clock):
    def steps(count):
        order.append((name, count))
        clock[0] += count * duration
        return 1.0

    return Side(steps)


def test_everyone_has_a_first_look_and_the_fastest_go_on(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr('benchmarks.step_sides.time.perf_counter', lambda: clock[0])
    durations = {'ours': 2.0, 'slow': 8.0, 'fast': 1.0}
    sides = {name: made_side(order, name, duration, clock) for name, duration in durations.items()}
    ahead = take_turns(sides, fakes.console(), rounds=2, seconds=4.0, finalists=1)
    assert ahead == ['fast']
    looks = [(name, 1) for name in durations for _ in range(3)]  # compiling, one step unmeasured, one measured
    assert order == looks + 2 * [('ours', 1), ('ours', 2), ('fast', 1), ('fast', 4)]
    assert {name: side.seconds for name, side in sides.items()} == {
        'ours': [2.0, 2.0],
        'slow': [8.0],
        'fast': [1.0, 1.0],
    }


def test_a_side_that_cannot_be_compiled_is_left_out_and_said_so():
    def broken(count):
        raise RuntimeError('no compiler\nat length')

    console = fakes.console()
    sides = {'ours': Side(lambda count: 1.0), 'torch compiled': Side(broken)}
    with console.capture() as said:
        assert take_turns(sides, console, rounds=1, seconds=0.0, finalists=1) == []
    assert 'torch compiled: left out, no compiler' in said.get()
    assert list(sides) == ['ours']
    with pytest.raises(RuntimeError, match='no compiler'):
        take_turns({'ours': Side(broken)}, console, rounds=1, seconds=0.0, finalists=1)


@pytest.mark.parametrize('step', [2, 3, 5])
def test_a_side_that_fails_later_costs_one_line(step):
    left = [step]

    def breaks(count):
        left[0] -= 1
        if not left[0]:
            raise MemoryError('out of memory')
        return 1.0

    console, sides = fakes.console(), {'ours': Side(lambda count: 1.0), 'torch eager': Side(breaks)}
    assert take_turns(sides, console, rounds=2, seconds=0.0, finalists=1) == []
    assert 'torch eager: left out, out of memory' in console.file.getvalue() and len(sides['ours'].seconds) == 2


def test_a_quick_step_is_first_looked_at_for_a_second(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr('benchmarks.step_sides.time.perf_counter', lambda: clock[0])
    sides = {'ours': made_side(order, 'ours', 0.01, clock)}
    take_turns(sides, fakes.console(), rounds=1, seconds=1.5, finalists=1)
    assert ('ours', 100) in order and len(sides['ours'].seconds) == 1


def test_what_diverges_is_not_measured():
    with pytest.raises(UserError, match='the loss is nan'):
        Side(lambda count: float('nan')).measure(0)


@pytest.mark.parametrize('written_out', [False, True])
def test_both_networks_compute_the_same(written_out):
    pytest.importorskip('torch')
    # Measured: at most 2e-6. The kernels of conv2 are as likely to see the other column's maps as anything is.
    # The last map is 2 x 2, so that the order in which it is flattened counts.
    differences = compare(small_experiment(**{'data.image_size': 104, 'data.crop_size': 96}), written_out)
    assert set(differences) == {'logits', *(f'conv{i}' for i in range(1, 6)), 'fc6', 'fc7', 'fc8'}
    assert max(differences.values()) < 1e-4, differences


def test_both_steps_learn_the_same():
    torch = pytest.importorskip('torch')
    experiment = small_experiment(
        **{'network.drop6.rate': 0.0, 'network.drop7.rate': 0.0, 'learning_rate': 0.003, 'weight_decay': 1.0}
    )
    batch, constants = made_batch(experiment)
    sides = torch_sides(experiment, batch, constants, ['eager'], fakes.console())
    assert len(sides) == 4
    ours = our_steps(experiment, batch, constants)
    ours = [ours(1) for _ in range(5)]
    assert ours[-1] < 0.99 * ours[0]
    if not torch.cuda.is_available():
        for name, steps in sides.items():
            np.testing.assert_allclose([steps(1) for _ in range(5)], ours, rtol=1e-4, err_msg=name)
