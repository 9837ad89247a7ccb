"""Published results: the paper's tables (section 6), its ablations, and the authors' logs of 2012."""

import dataclasses

from alexnet_jax.data.sources.published import images_of
from alexnet_jax.evaluation.logs_2012 import LOGGED, PAPERS_NETWORK


@dataclasses.dataclass(frozen=True)
class Row:
    """One published result.

    Attributes:
      model: as the table calls it.
      views: 'center', 'ten', or '' where it does not apply.
      top1_error, top5_error: 0..1; None if not published.
      where: the table or page.
      runs: number of networks averaged; 0 for methods other than convolutional networks.
    """

    model: str
    views: str
    top1_error: float | None
    top5_error: float | None
    where: str
    runs: int = 1


# By source and split of the images.
ROWS: dict[tuple[str, str], tuple[Row, ...]] = {
    ('imagenet2010', 'test'): (
        Row('sparse coding', '', 0.471, 0.282, 'Table 1', 0),
        Row('SIFT + FVs', '', 0.457, 0.257, 'Table 1', 0),
        Row('CNN', 'ten', 0.375, 0.170, 'Table 1'),
        Row('CNN', 'center', 0.390, 0.183, 'section 6'),
    ),
    ('imagenet2012', 'validation'): (
        Row('1 CNN', 'ten', 0.407, 0.182, 'Table 2'),
        Row('5 CNNs', 'ten', 0.381, 0.164, 'Table 2', 5),
        Row('1 CNN*, six convolutions, pre-trained', 'ten', 0.390, 0.166, 'Table 2'),
        Row('7 CNNs*', 'ten', 0.367, 0.154, 'Table 2', 7),
        Row('bvlc_alexnet', 'center', 0.429, 0.198, "Caffe's model page"),
    ),
}


# Classes and images of these splits.
_SIZES = {('imagenet2010', 'test'): (1000, 150_000), ('imagenet2012', 'validation'): (1000, 50_000)}


def rows_for(source: str, split: str, classes: int | None, examples: int) -> tuple[Row, ...]:
    """The published results on a split of a data set, if any; none for a part of it.

    Args:
      source: as `config.data.source` names it.
      split: 'validation' or 'test'.
      classes: of the data set; None if that was not kept, as by earlier versions.
      examples: images of the split, of which one in a hundred may be missing, as damaged files are left out.
    """
    key = (images_of(source), split)
    whole, images = _SIZES.get(key, (0, 0))
    return ROWS.get(key, ()) if classes in (None, whole) and examples >= 0.99 * images else ()


@dataclasses.dataclass(frozen=True)
class Difference:
    """Published effect of a change to a network.

    Attributes:
      top1, top5: increase of the error, in percentage points; None if not published.
      where: the paper's section and words, and the authors' log of 2012.
      bound: 'over' or 'about' if the paper gives no exact number.
      images: data set and views of both measurements.
    """

    top1: float
    top5: float | None
    where: str
    bound: str = ''
    images: str = 'ImageNet, ten views'


_170 = 'ILSVRC-2012 validation, against 170'
_MIDDLE = Difference(2.0, None, "section 7: any middle layer removed, 'about 2% for the top-1'; no log", 'about')

# By the variant's name in configs, after the colon; 'center_patch' is one view of the unchanged network.
DIFFERENCES: dict[str, Difference] = {
    'one_gpu': Difference(1.70, 1.23, 'section 3.2: 1.7 and 1.2; log of network 145-half, ILSVRC-2010 test'),
    'no_normalization': Difference(
        1.37,
        1.15,
        'section 3.3: 1.4 and 1.2; log of network 148, ILSVRC-2012 validation: no spatial normalization either',
    ),
    'pooling_2': Difference(0.39, 0.30, 'section 3.4: 0.4 and 0.3; log of network 147, ILSVRC-2012 validation'),
    'no_normalization_2': Difference(
        -0.11, 0.01, 'not in the paper; log of network 167, ILSVRC-2012 validation, against 169, whose rates end higher'
    ),
    'no_exchange': Difference(1.16, 1.12, 'not in the paper; log of network 150, ILSVRC-2012 validation'),
    'float16_exchange': Difference(0.00, 0.37, f'not in the paper; log of network 170-quant, {_170}'),
    'blending': Difference(-0.28, 0.07, f'not in the paper; log of network 170-fade, {_170}'),
    'dropout_4': Difference(0.16, 0.26, f'not in the paper; log of network 177, {_170}'),
    'no_color': Difference(1.0, None, "section 4.1: 'over 1%'; no log", 'over'),
    'no_conv2': _MIDDLE,
    'no_conv3': _MIDDLE,
    'no_conv4': _MIDDLE,
    'no_conv5': _MIDDLE,
    'center_patch': Difference(1.55, 1.30, 'section 6: 39.0 % and 18.3 %; log of network 145, ILSVRC-2010 test'),
}

# By the config's name before the colon.
_OTHER_NETWORKS: dict[str, dict[str, Difference]] = {
    'cifar10': {'no_normalization': Difference(2.0, None, 'section 3.3: 13 % and 11 %', images='CIFAR-10')},
}


def difference_for(base: str, change: str) -> Difference | None:
    """The published effect of a change to an unchanged network, if any.

    Args:
      base: name of the unchanged network's config, as in 'paper'.
      change: the variant's name, as in 'no_normalization', or 'center_patch'.
    """
    network, _, variant = base.partition(':')
    if variant in DIFFERENCES:
        return None
    known = DIFFERENCES if network in PAPERS_NETWORK else _OTHER_NETWORKS.get(network, {})
    return known.get(change)


def difference_between(base: str, name: str) -> Difference | None:
    """The published difference of one network from another, if any; both by the names of their configs."""
    family, _, change = name.rpartition(':')
    if family == base:
        return difference_for(base, change)
    one, other = LOGGED.get(base), LOGGED.get(name)
    if one is None or other is None or one.images != other.images:
        return None
    where = f'logs of networks {other.network} and {one.network}, {one.images}'
    return Difference(round(other.top1 - one.top1, 2), round(other.top5 - one.top5, 2), where)
