"""Errors in the authors' logs of 2012, by the names of configs here: docs/networks_2012.md has them all."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Logged:
    """Errors of a network, as the notes below its parameter file have them.

    Attributes:
      network: its name there.
      top1, top5: errors, in percent.
      images: what they are of.
      views: 'ten' or 'center'.
    """

    network: str
    top1: float
    top5: float
    images: str = 'ILSVRC-2012 validation'
    views: str = 'ten'


_TEST_2010 = 'ILSVRC-2010 test'

# By the config's name.
LOGGED = {
    'source_2012': Logged('145-2010', 37.473, 16.999, _TEST_2010),
    'source_2012:2012': Logged('145', 40.664, 18.210),
    'six_convolutions': Logged('146-2012-2011', 38.990, 16.622),
    'six_convolutions:from_fall2009': Logged('146-2012-2009', 39.100, 16.876),
    'networks_2012:166': Logged('166', 41.096, 18.674),
    'networks_2012:167': Logged('167', 40.488, 18.118),
    'networks_2012:169': Logged('169', 40.596, 18.112),
    'networks_2012:170': Logged('170', 40.528, 18.048),
    'networks_2012:170_fade': Logged('170-fade', 40.250, 18.116),
    'networks_2012:170_quant': Logged('170-quant', 40.524, 18.416),
    'networks_2012:171': Logged('171', 40.420, 18.140),
    'networks_2012:174': Logged('174', 40.438, 18.042),
    'networks_2012:177': Logged('177', 40.690, 18.304),
}
# By the change to the paper's network, at any size and on any images.
LOGGED_CHANGES = {
    '': LOGGED['source_2012:2012'],
    'small': LOGGED['source_2012:2012'],  # photographs:small
    'center_patch': Logged('145-2010', 39.025, 18.295, _TEST_2010, 'center'),
    'one_gpu': Logged('145-half', 39.168, 18.229, _TEST_2010),
    'no_normalization': Logged('148', 42.034, 19.362),
    'no_normalization_2': LOGGED['networks_2012:167'],
    'pooling_2': Logged('147', 41.058, 18.510),
    'no_exchange': Logged('150', 41.828, 19.330),
    'float16_exchange': LOGGED['networks_2012:170_quant'],
    'blending': LOGGED['networks_2012:170_fade'],
    'dropout_4': LOGGED['networks_2012:177'],
}
PAPERS_NETWORK = (
    *('paper', 'source_2012', 'digits', 'photographs', 'imagenette'),
    *('tiny_imagenet', 'cifar10_columns', 'fashion_mnist'),
)


def logged_for(name: str) -> Logged | None:
    """What the logs have of a network, if anything, whatever images the one here is trained on.

    Args:
      name: of its config, as in 'digits', 'paper:one_gpu' or 'networks_2012:170'.
    """
    family, _, change = name.partition(':')
    return LOGGED.get(name) or (LOGGED_CHANGES.get(change) if family in PAPERS_NETWORK else None)
