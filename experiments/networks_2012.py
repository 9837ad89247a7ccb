"""Networks of the authors' logs that were never published: network 145, but.

The parameter files of the authors' 2012 code (github.com/computerhistory/AlexNet-Source-Code) end with notes on the
runs. Errors are theirs: ILSVRC-2012, validation, ten views, top-1 and top-5; network 145 has 40.66 % and 18.21 %.
Ours: none of them has been run on ImageNet yet. The whole record: docs/networks_2012.md.

The rates of these networks fall in steps between two values, from 0.01 to a fraction of it, at equal intervals of 95
epochs ("dexp"); those of the biases from 0.02 to 0.002 after half of them.

networks_2012.py:NAME is one of these:

169             down to a 500th, in four steps: 40.60 % and 18.11 %
170             down to a 250th, in four steps: 40.53 % and 18.05 %. The later cuda-convnet2 has it
171             down to a 500th, in five steps: 40.42 % and 18.14 %
174             as 169, but in the second half of a step the geometric mean with the rate before: 40.44 % and 18.04 %
166             down to a 1000th; conv2's normalizations on its linear output, the ReLU after the pooling, as in
                conv1: 41.10 % and 18.67 %
167             down to a 1000th; no normalization after conv2: 40.49 % and 18.12 %
177             as 170, with dropout of 0.2 over conv4: 40.69 % and 18.30 %
170_quant       as 170, with half-precision values between the columns: 40.52 % and 18.42 %. Here a column's own values
                are rounded too. Two devices add gradients that are rounded; one that has both columns rounds the sum
170_fade        as 170; 5 % of the chunks of 32 images become 0.75 of themselves and 0.25 of 32 others, and keep their
                labels: 40.25 % and 18.12 %. Which others: `blended_with` in alexnet_jax/data/sampling.py
170_256_double  as 170, in batches of 256 at twice the rates: "matches #170 exactly" after 84 epochs

Each ends color noise and then conv1's learning where its notes say so. Networks up to 141 cannot be built here: a
branch of low resolution, a blurred image of which every fourth pixel is taken, leads past conv1 into their conv2. 146
and what it began with: experiments/six_convolutions.py. 145 with half the kernels: experiments/paper.py:one_gpu.
"""

import math

from ml_collections import ConfigDict

from alexnet_jax.runtime.errors import UserError
from experiments import ablations, source_2012

EPOCHS = 95
# By what the rate is divided in the end, number of steps, epochs at which color noise and conv1's learning end.
SCHEDULES = {
    '166': (1000, 4, 64, 73),
    '167': (1000, 4, 63, 73),
    '169': (500, 4, 60, 73),
    '170': (250, 4, 68, 74),
    '171': (500, 5, 60, 72),
    '174': (500, 4, 62, 74),
    '177': (250, 4, 60, 73),
    '170_quant': (250, 4, 68, 74),
    '170_fade': (250, 4, 61, 76),
    '170_256_double': (250, 4, 61, 73),
}
_LOW_RESOLUTION = ('101', '106', '110', '112', '118', '120', '127', '127a', *map(str, range(131, 138)), '139', '141')
_ELSEWHERE = {'145': 'source_2012.py:2012', '146': 'six_convolutions.py', '147': 'paper.py:pooling_2'}
_ELSEWHERE |= {'146_2012_2009': 'six_convolutions.py:from_fall2009', '146_2012_2011': 'six_convolutions.py'}
_ELSEWHERE |= {'148': 'paper.py:no_normalization', '150': 'paper.py:no_exchange', '145_half': 'paper.py:one_gpu'}


def get_config(name: str = '') -> ConfigDict:
    number = name.split('_')[0]  # as in 137_2010
    if number in _LOW_RESOLUTION:
        raise UserError(
            f'experiments/networks_2012.py: network {name} has a branch of low resolution past conv1, which a table of '
            f'layers cannot express. There are: {", ".join(SCHEDULES)}.'
        )
    if name in _ELSEWHERE:
        raise UserError(f'experiments/networks_2012.py: for network {name} take experiments/{_ELSEWHERE[name]}.')
    if name not in SCHEDULES:
        raise UserError(f'experiments/networks_2012.py has no variant {name!r}; it has: {", ".join(SCHEDULES)}.')
    config = source_2012.get_config('2012')
    config.name = f'networks_2012:{name}'
    factor, steps, color_off, conv1_frozen = SCHEDULES[name]
    rate, rate_of_biases = 0.01, 0.02
    if name == '170_256_double':
        config.batch_size = 256
        rate, rate_of_biases = 2 * rate, 2 * rate_of_biases
    config.learning_rate = rate
    config.epochs = EPOCHS
    config.rate_control.schedule = ()
    config.rate_control.patience = EPOCHS + 1  # the rules alone change the rates
    levels = falling_rates(rate, factor, steps)
    if name == '174':
        levels = with_jumps(levels)
    config.rate_control.layer_rates = (
        *((epoch, '*.kernel', level) for epoch, level in levels),
        *((epoch, '*.bias', level) for epoch, level in falling_rates(rate_of_biases, 10, 2)),
        (conv1_frozen, 'conv1', 0.0),
    )
    config.data.color_epochs = color_off

    match name:
        case '166':
            config.network = _reordered(config.network, 'relu2', after='pool2')
        case '167':
            config.network = _without(config.network, 'norm2', 'spatial2')
        case '177':
            config = ablations.dropout_4(config)
        case '170_fade':
            config = ablations.blending(config)
        case '170_quant':
            config = ablations.float16_exchange(config)
    return config


def falling_rates(rate: float, factor: float, steps: int, epochs: int = EPOCHS) -> list[tuple[float, float]]:
    """Pairs (epoch, rate from then on): equal steps, each rate the same fraction of the one before.

    Args:
      rate: the first.
      factor: by which the last is smaller.
      steps: number of rates.
      epochs: of the whole run.
    """
    return [(epochs * step / steps, rate * factor ** (-step / (steps - 1))) for step in range(steps)]


def with_jumps(levels: list[tuple[float, float]], epochs: int = EPOCHS) -> list[tuple[float, float]]:
    """With a jump back in the middle of each step but the first: to the geometric mean of its rate and that before.

    A jump ends with its step, or at nine tenths of the run, when the last rate is there to stay.
    """
    ends = [*(epoch for epoch, _ in levels[1:]), epochs]
    result = [levels[0]]
    for (_, before), (start, rate), end in zip(levels, levels[1:], ends[1:], strict=False):
        middle = (start + end) / 2
        result += [(start, rate), (middle, math.sqrt(rate * before))]
        if end > 0.9 * epochs:
            result.append((0.9 * epochs, rate))
    return result


def _without(network: ConfigDict, *names: str) -> ConfigDict:
    return ConfigDict({name: line for name, line in network.items() if name not in names}, sort_keys=False)


def _reordered(network: ConfigDict, name: str, after: str) -> ConfigDict:
    names = [one for one in network if one != name]
    names.insert(names.index(after) + 1, name)
    return ConfigDict({one: network[one] for one in names}, sort_keys=False)
