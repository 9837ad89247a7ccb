"""Figure 2 of any network: what it says, whether it is to scale, and whether it can be read."""

import itertools
import pathlib

import pytest
from configs import table_of, typed
from fakes import console
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon
from PIL import Image

from alexnet_jax.config import network_config
from alexnet_jax.figures.figure2 import NARROW, WIDE, devices_of, network_figure, write_network
from alexnet_jax.figures.network_stages import stages_of
from alexnet_jax.figures.style import VERMILLION
from alexnet_jax.model.columns import make_mesh
from alexnet_jax.model.figure_2 import figure_2
from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Flatten,
    LocallyConnected,
    SpatialNormalization,
)
from alexnet_jax.runtime.errors import UserError
from experiments import caffe_alexnet, cifar10, digits, lenet5, paper, source_2012

TOWER = {name: layer for name, layer in figure_2().items() if not isinstance(layer, Exchange)}


def drawn(config, **options):
    config = typed(config)
    return network_figure(config.network, config.columns, config.data.crop_size, name=config.name, **options)


def patches(figure, kind):
    return [patch for axes in figure.axes for patch in axes.patches if type(patch) is kind]


def arrows_between_columns(figure):
    return [one for one in patches(figure, FancyArrowPatch) if to_hex(one.get_edgecolor()).upper() == VERMILLION]


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def eight_columns():
    config = digits.get_config()
    config.columns, config.network.fc8.units = 8, 12
    return config


def a_layer_of_each_kind():
    """Pooling of the image, a map of one pixel, an exchange of maps that nothing else follows."""
    config = lenet5.get_config()
    config.columns = 2
    config.network = network_config(
        dict(
            pool0=AveragePooling(),
            conv1=Convolution(kernels=8, size=16),
            spatial1=SpatialNormalization(),
            exchange2=Exchange('float16'),
            local2_with_quite_a_long_name=LocallyConnected(kernels=300, size=1),
            flatten2=Flatten(),
            drop2=Dropout(0.25),
            fc3=Dense(units=3),
        )
    )
    return config


CONFIGS = {
    'paper': paper.get_config,
    'source_2012': source_2012.get_config,
    'caffe_alexnet': caffe_alexnet.get_config,
    'no exchange': lambda: paper.get_config('no_exchange'),
    'cifar10': cifar10.get_config,
    'lenet5': lenet5.get_config,
    'digits': digits.get_config,
    'eight columns': eight_columns,
    'each kind': a_layer_of_each_kind,
}


# What it says.


def test_the_papers_network():
    stages = stages_of(figure_2(), 2, 224)
    assert [(stage.name, stage.shape, stage.received) for stage in stages] == [
        ('image', (224, 224, 3), 0),
        ('conv1', (55, 55, 48), 0),
        ('conv2', (27, 27, 128), 0),
        ('conv3', (13, 13, 192), 13 * 13 * 128),
        ('conv4', (13, 13, 192), 0),
        ('conv5', (13, 13, 128), 0),
        ('fc6', (2048,), 6 * 6 * 128),
        ('fc7', (2048,), 2048),
        ('fc8', (500,), 2048),
        ('softmax', (), 500),
    ]
    assert [stage.name for stage in stages if stage.meets] == ['conv3', 'fc6', 'fc7', 'fc8', 'softmax']
    assert [stage.window for stage in stages[1:6]] == [11 / 224, 5 / 27, 3 / 13, 3 / 13, 3 / 13]
    found = words(network_figure(figure_2(), devices=['GPU 1', 'GPU 2']))
    for text, times in {
        '2 columns, 60,965,224 parameters': 1,
        '55×55×48': 2,  # noqa: RUF001
        '3×3×256': 1,  # noqa: RUF001
        '37,752,832': 1,
        '21,632': 1,
        'to 6×6': 1,  # noqa: RUF001
        'dropout 0.5': 2,
        'column 2 on GPU 2: 30,482,612 parameters': 1,
    }.items():
        assert found.count(text) == times, text
    assert 'The image is drawn 2.9 times smaller.' in ' '.join(found[-1].split())  # 224 / 55 * 1.25 / 1.75


@pytest.mark.parametrize('beside', [WIDE, NARROW])
def test_columns_meet_where_the_paper_says(beside):
    """Two arrows each into conv3, fc6, fc7, fc8 and the softmax; none in a single tower."""
    figure = network_figure(figure_2(), beside=beside)
    assert len(arrows_between_columns(figure)) == 10
    # Within columns: the four edges of a cone into each of five convolutions, and an arrow into each of three layers.
    assert sum(len(axes.lines) for axes in figure.axes) == 2 * 5 * 4
    assert len(patches(figure, FancyArrowPatch)) == 10 + 2 * 3
    tower = network_figure(TOWER, 1, beside=beside)
    assert arrows_between_columns(tower) == [] and not any('Dark orange' in text for text in words(tower))


@pytest.mark.parametrize('beside', [WIDE, NARROW])
def test_maps_are_to_scale(beside):
    figure = network_figure(TOWER, 1, beside=beside)
    points = [patch.get_xy() for patch in patches(figure, Polygon)]
    # A volume's front face has two sides upright and two level, so that x has two values and y too.
    fronts = [one for one in points if len({round(x, 6) for x, _ in one}) == len({round(y, 6) for _, y in one}) == 2]
    sizes = {
        (round(one[:, 0].max() - one[:, 0].min(), 6), round(one[:, 1].max() - one[:, 1].min(), 6)) for one in fronts
    }
    heights = sorted({height for _, height in sizes}, reverse=True)
    image, largest = heights[:2]
    assert image == pytest.approx(1.75) and largest == pytest.approx(1.25)
    assert {round(largest * side / 55, 4) for side in (27, 13)} <= {round(height, 4) for height in heights}
    thick = {round(width, 4) for width, _ in sizes}
    assert {round(0.4 * channels / 384, 4) for channels in (96, 256, 384)} <= thick


def test_devices_and_what_they_hold():
    one, two, copies = (make_mesh(2, data, column) for data, column in ((1, 1), (1, 2), (2, 2)))
    assert devices_of(one, 2) == ['device 0', 'device 0'] and devices_of(two, 2) == ['device 0', 'device 1']
    assert devices_of(copies, 4) == ['device 0 and 1 copy'] * 2 + ['device 1 and 1 copy'] * 2
    for mesh, panels in ((one, 1), (two, 2)):
        figure = network_figure(figure_2(), devices=devices_of(mesh, 2))
        assert len(patches(figure, FancyBboxPatch)) == panels


def test_of_many_columns_three_are_drawn():
    found = words(drawn(eight_columns()))
    columns = [text.split(':')[0] for text in found if text.startswith('column ')]
    assert columns == ['column 1', 'column 2', 'column 8'] and 'Of 8 columns' in found[-1].replace('\n', ' ')


def test_what_does_not_fit_is_said():
    network = table_of(paper.get_config().network)
    with pytest.raises(UserError, match='must be divisible by the number of columns, 3'):
        network_figure(network, 3)


def test_a_normalization_across_columns_is_an_exchange():
    config = typed(caffe_alexnet.get_config())
    stages = stages_of(config.network, config.columns, config.data.crop_size)
    assert [one for stage in stages for one in stage.after if one.startswith('LRN')] == [
        f'LRN across\ncolumns: {55 * 55 * 2:,}',
        f'LRN across\ncolumns: {27 * 27 * 2:,}',
    ]


# Whether it can be read.


@pytest.mark.parametrize('beside', [WIDE, NARROW])
@pytest.mark.parametrize('name', CONFIGS)
def test_text_is_within_the_page_and_apart(name, beside):
    config = CONFIGS[name]()
    config.name = 'a_name_that_is_longer_than_a_telephone_is_wide, and then some: $x_1$ \ud800'
    figure = drawn(config, devices=['device 0 and 15 copies'] * config.columns, beside=beside)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [text for axes in figure.axes for text in axes.texts if text.get_text()] + figure.texts
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text
    for (text, box), (other, its) in itertools.combinations(boxes, 2):
        apart = box.x1 <= its.x0 + 1 or its.x1 <= box.x0 + 1 or box.y1 <= its.y0 + 3 or its.y1 <= box.y0 + 3
        assert apart, (text, other)


def test_files(tmp_path):
    on = console()
    config = typed(lenet5.get_config())
    written = write_network(config, tmp_path / 'figures', on)
    names = ['network.png', 'network.svg', 'network_narrow.png', 'network_narrow.svg']
    assert [path.name for path in written] == sorted(path.name for path in pathlib.Path(tmp_path, 'figures').iterdir())
    assert [path.name for path in written] == names and on.file.getvalue().count('wrote ') == 4
    wide, narrow = (Image.open(tmp_path / 'figures' / name).size for name in names[::2])
    assert wide[0] > wide[1] and narrow[0] < narrow[1]
