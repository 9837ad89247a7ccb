"""What the paper's tables say (section 6), and the later records that people compare with."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One published result.

    Attributes:
      model: as the table calls it.
      views: 'center', 'ten', or '' where the word does not apply.
      top1_error, top5_error: 0..1; None where nothing was published.
      where: the table or page.
      runs: how many networks are averaged; 0 for what is not a convolutional network.
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
        Row('CNN', 'center', 0.390, 0.183, 'section 6.1'),
    ),
    ('imagenet2012', 'validation'): (
        Row('1 CNN', 'ten', 0.407, 0.182, 'Table 2'),
        Row('5 CNNs', 'ten', 0.381, 0.164, 'Table 2', 5),
        Row('1 CNN*, six convolutions, pre-trained', 'ten', 0.390, 0.166, 'Table 2'),
        Row('7 CNNs*', 'ten', 0.367, 0.154, 'Table 2', 7),
        Row('bvlc_alexnet', 'center', 0.429, 0.198, "Caffe's model page"),
    ),
}


def rows_for(source: str, split: str) -> tuple[Row, ...]:
    """The published results on a split of a data set; none for data that the paper does not report on.

    Args:
      source: as `config.data.source` names it.
      split: 'validation' or 'test'.
    """
    source = 'imagenet2012' if source == 'tfds:imagenet2012' else source
    return ROWS.get((source, split), ())
