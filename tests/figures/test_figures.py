"""The pictures of a run: what is drawn, and how it comes to disk."""

import dataclasses
import pathlib
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from configs import typed
from fakes import Images, console, encoded, noise, prepared, tinted
from matplotlib.colors import to_hex
from PIL import Image

from alexnet_jax.commands import figures
from alexnet_jax.data import pipeline
from alexnet_jax.data.augment import statistics_of
from alexnet_jax.data.device_feed import statistics_to_devices
from alexnet_jax.evaluation.color import chance_of_gap, color_columns
from alexnet_jax.figures import style
from alexnet_jax.figures.codes import recall_curve
from alexnet_jax.figures.curves import color_curves, learning_curves
from alexnet_jax.figures.examples import Example, example_of, figure_4_left, figure_4_right, short_name, whole_percent
from alexnet_jax.figures.figure1 import figure_1
from alexnet_jax.figures.kernels import figure_3, in_a_row, sheet
from alexnet_jax.figures.style import fitted, printable, save, text_width
from alexnet_jax.model.columns import Columns
from alexnet_jax.runs.build import build
from alexnet_jax.runs.progress import Progress
from alexnet_jax.runs.trained import Run
from alexnet_jax.runtime.errors import UserError
from experiments import digits

WEIRD = ['$x_1$ & <b>', '$', 'a_b^{c', '\\frac{', '猫 кошка', 'zero\0byte', '\ud800', 'two\nlines', '', ', ', '_hidden']


def line(split, epoch, loss, **more):
    return {'step': round(10 * epoch), 'epoch': epoch, 'split': split, 'loss': loss} | more


def metrics():
    found = []
    for epoch, rate in ((1, 0.01), (2, 0.01), (3, 0.001), (4, 0.0001)):
        errors = {'top1_error': 0.8 / epoch, 'top5_error': 0.4 / epoch}
        found.append(line('train', epoch - 0.5, 2 / epoch, learning_rate=rate, **errors))
        found.append(line('train', epoch, 1.9 / epoch, learning_rate=rate, **errors))
        errors = {'top1_error': 0.9 / epoch, 'top5_error': 0.5 / epoch}
        colors = {'color_column1': 0.6 / epoch, 'color_column2': 0.7 + epoch / 20}
        found.append(line('validation', epoch, 2.2 / epoch, **errors, **colors))
    return found


def labeled(axes):
    """The lines of axes, by their names in the legend."""
    legend = axes.get_legend()
    drawn = [one for one in axes.lines if len(one.get_xdata()) and one.get_linestyle() != ':']
    return dict(zip([text.get_text() for text in legend.get_texts()], drawn, strict=True))


def points(drawn):
    return np.asarray(drawn.get_xydata())


def same_look(one, other):
    return all(getattr(one, f'get_{part}')() == getattr(other, f'get_{part}')() for part in ('linestyle', 'marker'))


@pytest.fixture
def coarse(monkeypatch):
    """Pictures of few dots, which take less time."""
    monkeypatch.setattr(style, '_DOTS_PER_INCH', 40)


# Curves.


def test_learning_curves_show_the_metrics():
    loss, errors = learning_curves(metrics(), 'digits').axes
    drawn = labeled(loss)
    np.testing.assert_allclose(points(drawn['train'])[:3], [[0.5, 2], [1, 1.9], [1.5, 1]])
    np.testing.assert_allclose(points(drawn['validation']), [[e, 2.2 / e] for e in (1, 2, 3, 4)])
    drawn = labeled(errors)
    assert list(drawn) == ['top-1, train', 'top-1, validation', 'top-5, train', 'top-5, validation']
    np.testing.assert_allclose(points(drawn['top-1, train'])[::2, 1], [80 / e for e in (1, 2, 3, 4)])
    np.testing.assert_allclose(points(drawn['top-1, validation'])[:, 1], [90 / e for e in (1, 2, 3, 4)])
    np.testing.assert_allclose(points(drawn['top-5, train'])[::2, 1], [40 / e for e in (1, 2, 3, 4)])
    np.testing.assert_allclose(points(drawn['top-5, validation'])[:, 1], [50 / e for e in (1, 2, 3, 4)])
    names = list(drawn)
    assert not any(same_look(drawn[one], drawn[other]) for one in names for other in names if one < other)
    for axes, unit in ((loss, 'nats'), (errors, '%')):
        assert axes.get_xlabel() == 'epoch' and unit in axes.get_ylabel()
        assert axes.get_xlim() == (0, 4) and axes.get_ylim()[0] == 0


def test_rates_are_marked_where_they_change():
    for axes in learning_curves(metrics(), 'digits').axes:
        dotted = [one.get_xdata()[0] for one in axes.lines if one.get_linestyle() == ':']
        assert dotted == [2, 3]
        assert [text.get_text() for text in axes.texts] == ['rate 0.001', 'rate 0.0001']
        assert [text.xy[0] for text in axes.texts] == [2, 3]


def test_a_rate_per_epoch_is_a_curve_of_its_own():
    rates = [0.02 * (1 + np.cos(np.pi * epoch / 37)) for epoch in range(37)]
    lines = [
        line('train', epoch, 1.0, top1_error=0.5, top5_error=0.1, learning_rate=r) for epoch, r in enumerate(rates)
    ]
    for axes in learning_curves(lines, 'cosine').axes:
        (dotted,) = [one for one in axes.lines if one.get_linestyle() == ':']
        np.testing.assert_allclose(points(dotted)[:, 1], np.array(rates) / rates[0])
        assert [text.get_text() for text in axes.texts] == ['dotted: learning rate, at most 0.04']


def test_of_five_classes_there_is_no_top5_error():
    errors = learning_curves(metrics(), 'five', classes=5).axes[1]
    assert list(labeled(errors)) == ['top-1, train', 'top-1, validation']


def test_of_many_columns_the_ends_are_named(tmp_path, coarse):
    lines = [line('validation', epoch, 1.0, **{f'color_column{n}': n / 40 for n in range(1, 33)}) for epoch in (1, 2)]
    figure = color_curves(lines, 'many')
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[0].texts] == ['column 1', 'random kernels', 'column 32']


def test_long_curves_show_means_of_neighbors():
    rng = np.random.default_rng(0)
    values = rng.normal(size=1001)
    lines = [line('train', i / 10, v, top1_error=0.5, top5_error=0.1) for i, v in enumerate(values)]
    drawn = points(labeled(learning_curves(lines, 'long').axes[0])['train'])
    assert len(drawn) == 334
    np.testing.assert_allclose(drawn[:333, 1], values[:999].reshape(-1, 3).mean(axis=1))
    np.testing.assert_allclose(drawn[-1], [99.95, values[999:].mean()])
    np.testing.assert_allclose(drawn[0, 0], 0.1)


@pytest.mark.parametrize('loss', [float('nan'), float('inf'), 0.0])
def test_one_line_is_seen_whatever_it_holds(loss, tmp_path, coarse):
    lines = [line('train', 0.1, loss, top1_error=0.5, top5_error=0.1, learning_rate=0.01)]
    figure = learning_curves(lines, 'one')
    assert labeled(figure.axes[1])['top-1, train'].get_marker() == 'o'  # a line of one point is none
    assert all(path.stat().st_size > 1000 for path in save(figure, tmp_path / 'one', line_art=True))


def test_color_curves():
    axes = color_curves(metrics(), 'digits').axes[0]
    drawn = [one for one in axes.lines if one.get_linestyle() != ':']
    np.testing.assert_allclose(points(drawn[0]), [[e, 0.6 / e] for e in (1, 2, 3, 4)])
    np.testing.assert_allclose(points(drawn[1]), [[e, 0.7 + e / 20] for e in (1, 2, 3, 4)])
    assert drawn[0].get_linestyle() != drawn[1].get_linestyle() and drawn[0].get_marker() != drawn[1].get_marker()
    (dotted,) = [one for one in axes.lines if one.get_linestyle() == ':']
    assert set(dotted.get_ydata()) == {2 / 3}
    assert axes.get_ylim() == (0, 1) and axes.get_xlim() == (0, 4)
    names = {text.get_text(): text for text in axes.texts}
    assert sorted(names) == ['column 1', 'column 2', 'random kernels']
    assert names['column 1'].get_color() == drawn[0].get_color()
    assert names['column 2'].xy[1] == pytest.approx(0.9)


@pytest.mark.parametrize('shares', [(0.66, 0.67, 0.668), (1, 1, 1), (0, 0.01, 0.99), (float('nan'), 0.5, 0.5)])
def test_names_of_columns_do_not_touch(shares):
    lines = [line('validation', 1, 1, **{f'color_column{i}': share for i, share in enumerate(shares, 1)})]
    heights = sorted(text.xy[1] for text in color_curves(lines, '').axes[0].texts)
    assert len(heights) == 1 + np.isfinite(shares).sum()
    assert min(np.diff(heights)) > 0.07 and heights[0] >= 0 and heights[-1] <= 1


def test_columns_are_found_by_number():
    lines = [
        line(
            'validation',
            1,
            1,
            **{f'color_column{number}': number / 20 for number in (10, 2)} | {'colour_column1': 0.05},
        )
    ]
    assert color_columns(lines) == {1: [(1, 0.05)], 2: [(1, 0.1)], 10: [(1, 0.5)]}
    assert color_columns([line('train', 1, 1)]) == {}
    with pytest.raises(ValueError, match='color'):
        color_curves([line('train', 1, 1)], '')


# Figure 1.


def test_the_drawing_holds_the_curves_and_the_line_they_race_to():
    curves = {'ReLU, rate 1': [(0.1, 0.8), (0.5, 0.25)], 'tanh, rate 2': [(0.2, 0.84), (2.0, 0.3)]}
    axes = figure_1(curves, 0.25, 'a title').axes[0]
    solid, dashed, target = axes.lines
    assert [tuple(point) for point in solid.get_xydata()] == [(0.1, 80.0), (0.5, 25.0)]
    assert [tuple(point) for point in dashed.get_xydata()] == [(0.2, 84.0), (2.0, 30.0)]
    assert (solid.get_linestyle(), dashed.get_linestyle(), target.get_linestyle()) == ('-', '--', '--')
    assert list(target.get_ydata()) == [25.0, 25.0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(curves)
    assert to_hex(solid.get_color()) != to_hex(dashed.get_color())
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 2.0), (0, 90))


def test_the_drawing_of_nothing_is_empty():
    assert len(figure_1({'ReLU: diverged': (), 'tanh: diverged': ()}, 0.25, '').axes[0].lines) == 3


# Figure 3.


def test_a_sheet_holds_each_kernel_in_its_place_on_its_own_scale():
    kernels = np.random.default_rng(0).normal(size=(5, 3, 3, 32)) * np.logspace(-3, 2, 32)
    kernels[..., 7] = 0
    dots = sheet(kernels)
    assert dots.shape == (2 * 22 - 2, 16 * 14 - 2, 3)
    seen = np.zeros(dots.shape[:2], bool)
    for number in range(32):
        top, left = (0 if number < 16 else 22), 14 * (number % 16)
        whole = np.kron(kernels[..., number].transpose(2, 0, 1), np.ones((4, 4))).transpose(1, 2, 0)
        wanted = np.full_like(whole, 0.5) if number == 7 else (whole / abs(whole).max() + 1) / 2
        np.testing.assert_allclose(dots[top : top + 20, left : left + 12], wanted, atol=1e-12)
        seen[top : top + 20, left : left + 12] = True
    assert (dots[~seen] == 1).all()


@pytest.mark.parametrize('count, across', [(48, 16), (32, 16), (24, 12), (20, 10), (16, 16), (17, 9), (3, 3), (1, 1)])
def test_rows_are_of_equal_length_where_they_can_be(count, across):
    assert in_a_row(count) == across


def test_figure_3_puts_column_1_on_top_with_its_share():
    kernels = np.random.default_rng(1).normal(size=(2, 11, 11, 3, 48))
    figure = figure_3(kernels, [0.125, float('nan')], 'paper')
    first, second = figure.axes
    np.testing.assert_array_equal(first.images[0].get_array(), sheet(kernels[0]))
    np.testing.assert_array_equal(second.images[0].get_array(), sheet(kernels[1]))
    assert first.get_position().y0 > second.get_position().y1
    assert [text.get_text() for text in first.texts] == ['column 1', 'color 0.12']
    assert [text.get_text() for text in second.texts] == ['column 2', 'all zero']
    assert all(axes.images[0].get_interpolation() == 'none' for axes in figure.axes)


def test_weights_have_sharp_edges(tmp_path):
    kernels = np.random.default_rng(1).normal(size=(1, 4, 4, 3, 8))
    (path,) = save(figure_3(kernels, [0.5], ''), tmp_path / 'kernels')
    pixels = np.asarray(Image.open(path).convert('RGB'))
    wanted = np.round(255 * sheet(kernels[0])).astype(int).repeat(2, axis=0).repeat(2, axis=1)
    down, right = (pixels.shape[i] - wanted.shape[i] - 20 for i in (0, 1))  # the margins are a tenth of an inch
    found = pixels[down : down + wanted.shape[0], right : right + wanted.shape[1]]
    assert abs(found.astype(int) - wanted).max() <= 1


# Figure 4.


def example(names=('cat', 'dog', 'cow', 'owl', 'fox'), right=1, truth='dog', seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    return Example(pixels, list(names), [0.5, 0.25, 0.125, 0.0625, 0.001][: len(names)], truth, right)


def test_figure_4_left_shows_image_label_and_bars():
    shown = example(['tench, Tinca tinca', 'dog', 'cow', 'owl', 'fox'])
    figure = figure_4_left([shown], 'title with $dollars$')
    image, box, bars = figure.axes
    np.testing.assert_array_equal(image.images[0].get_array(), shown.pixels)
    assert [text.get_text() for text in box.texts] == ['dog'] and box.spines['left'].get_visible()
    assert [bar.get_width() for bar in bars.patches] == shown.probabilities
    assert [bar.get_x() for bar in bars.patches] == [0] * 5
    assert bars.get_xlim() == (0, 1)
    heights = [bars.transData.transform((0, bar.get_y()))[1] for bar in bars.patches]
    assert heights == sorted(heights, reverse=True)
    names, numbers = bars.texts[::2], bars.texts[1::2]
    assert [text.get_text() for text in names] == ['tench', 'dog', 'cow', 'owl', 'fox']
    assert [text.get_text() for text in numbers] == ['50 %', '25 %', '12 %', '6 %', '<1 %']
    assert image.get_position().y0 > box.get_position().y1 > box.get_position().y0 > bars.get_position().y1
    assert figure.get_suptitle() == 'title with $dollars$'


@pytest.mark.parametrize('right', [None, 0, 1, 4])
def test_the_right_label_alone_is_red_and_bold(right):
    bars = figure_4_left([example(right=right)]).axes[2]
    reds = []
    for place, bar in enumerate(bars.patches):
        red, green, blue = (int(to_hex(bar.get_facecolor())[i : i + 2], 16) for i in (1, 3, 5))
        if red > 200 and green < 130 and blue < 130:
            reds.append(place)
        else:
            assert blue > red  # of the others none is near red
        bold = bars.texts[2 * place].get_weight() == 'bold'
        assert bold == (place == right)
    assert reds == ([] if right is None else [right])


def test_eight_examples_lie_four_across():
    figure = figure_4_left([example(seed=seed) for seed in range(8)])
    images = [axes for axes in figure.axes if axes.images]
    tops = [round(axes.get_position().y1, 6) for axes in images]
    lefts = [round(axes.get_position().x0, 6) for axes in images]
    assert tops == [tops[0]] * 4 + [tops[4]] * 4 and tops[0] > tops[4]
    assert lefts[:4] == lefts[4:] == sorted(set(lefts))
    for number, axes in enumerate(images):
        np.testing.assert_array_equal(axes.images[0].get_array(), example(seed=number).pixels)
    boxes = [axes.get_position() for axes in figure.axes]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    width, height = figure.get_size_inches()
    assert all(box.x0 > 0 and box.x1 < 1 and box.y0 > 0 and box.y1 < 1 for box in boxes)
    assert len({(round(box.width * width, 3), round(box.height * height, 3)) for box in boxes}) == 3


def test_unknown_labels_and_few_classes():
    figure = figure_4_left([example(['yes', 'no'], right=None, truth=None)])
    image, bars = figure.axes  # no box
    assert image.images and len(bars.patches) == 2


def test_weird_names_are_drawn_as_they_are(tmp_path, recwarn, coarse):
    shown = [example([name, *'abcd'], right=0, truth=name) for name in WEIRD]
    figure = figure_4_left(shown, title=' '.join(WEIRD))
    for name, box, bars in zip(WEIRD, figure.axes[1::3], figure.axes[2::3], strict=True):
        for text in (box.texts[0], bars.texts[0]):
            assert text.get_text() == printable(short_name(name)) and not text.get_parse_math()
    assert save(figure, tmp_path / 'weird')[0].exists()
    codes = recall_curve([16, 32], {name: [0.1, 0.2] for name in WEIRD}, None, WEIRD[2])
    assert list(labeled(codes.axes[0])) == [printable(name) for name in WEIRD]
    assert save(codes, tmp_path / 'codes', line_art=True)
    assert not [str(warning.message) for warning in recwarn if 'Glyph' in str(warning.message)]


def test_names_are_cut_to_what_fits():
    assert (
        short_name('American Staffordshire terrier, Staffordshire terrier, pit bull')
        == 'American Staffordshire terrier'
    )
    assert short_name('1,000 things') == '1,000 things'
    assert short_name('coffee at (261, 123), 96 wide') == 'coffee at (261, 123)'
    assert short_name('odd, (half') == 'odd' and short_name('odd), (half') == 'odd)'
    assert fitted('dog', 1, 9) == 'dog'
    cut = fitted('a class of a very long name that does not fit', 1, 9)
    assert cut.startswith('a class') and cut.endswith('…') and ' …' not in cut
    assert 0.8 < text_width(cut, 9) <= 1
    assert text_width('wide', 9, 'bold') > text_width('wide', 9)
    figure = figure_4_left([example(['W' * 99] * 5, truth='W' * 99)])
    figure.canvas.draw()
    for axes in figure.axes[1:]:
        for text in axes.texts:
            inside, box = text.get_window_extent(), axes.get_window_extent()
            assert inside.x0 >= box.x0 and inside.x1 <= box.x1
    for name, number in zip(figure.axes[2].texts[::2], figure.axes[2].texts[1::2], strict=True):
        assert name.get_window_extent().x1 < number.get_window_extent().x0


@pytest.mark.parametrize(
    'probability, words', [(0, '0 %'), (0.004, '<1 %'), (0.5, '50 %'), (0.999, '>99 %'), (1, '100 %')]
)
def test_probabilities_in_words(probability, words):
    assert whole_percent(probability) == words


def test_examples_of_scores():
    scores = np.log(np.array([0.1, 0.05, 0.3, 0.02, 0.3, 0.2, 0.03], np.float32))
    pixels = np.zeros((4, 4, 3), np.uint8)
    found = example_of(pixels, scores, list('abcdefg'), truth=5)
    assert found.names == ['c', 'e', 'f', 'a', 'b'] and found.truth == 'f' and found.right == 2
    np.testing.assert_allclose(found.probabilities, [0.3, 0.3, 0.2, 0.1, 0.05], rtol=1e-5)
    assert example_of(pixels, scores, list('abcdefg'), truth=3).right is None
    assert example_of(pixels, scores, list('abcdefg'), truth=None).truth is None


def test_figure_4_right():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 7, 8, 8, 3), np.uint8)
    figure = figure_4_right(images[:, 0], images[:, 1:], ['tench, Tinca tinca', '$x$'])
    axes = np.array(figure.axes).reshape(2, 7)
    for row in range(2):
        lefts = [one.get_position().x0 for one in axes[row]]
        assert lefts[1] - lefts[0] > 1.05 * (lefts[2] - lefts[1])  # the first column stands apart
        assert lefts == sorted(lefts) and axes[row, -1].get_position().x1 < 1
        for place in range(7):
            np.testing.assert_array_equal(axes[row, place].images[0].get_array(), images[row, place])
    assert axes[0, 0].get_position().y0 > axes[1, 0].get_position().y1
    assert [one.get_title(loc='left') for one in axes[:, 0]] == ['tench', '$x$']


def test_recall_curve():
    figure = recall_curve([16, 32, 256], {'a': [0.1, 0.2, 0.3], '_b': [0.2, 0.4, 0.9]}, [40, 20.5, 3], 'codes')
    axes = figure.axes[0]
    drawn = labeled(axes)
    assert list(drawn) == ['a', '_b']
    np.testing.assert_allclose(points(drawn['_b']), [[16, 0.2], [32, 0.4], [256, 0.9]])
    assert not same_look(drawn['a'], drawn['_b'])
    assert axes.get_xscale() == 'log'
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['16', '32', '256']
    (above,) = axes.child_axes
    figure.canvas.draw()
    assert [tick.get_text() for tick in above.get_xticklabels()] == ['40', '20.5', '3']
    assert not recall_curve([16], {'a': [0.1]}, None, '').axes[0].child_axes


# On disk.


def test_the_same_bytes_each_time(tmp_path):
    first, again = (
        save(learning_curves(metrics(), 'digits'), tmp_path / directory / 'curves.v2', line_art=True)
        for directory in ('one/deep', 'two')
    )
    assert [path.name for path in first] == ['curves.v2.png', 'curves.v2.svg']
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    svg = first[1].read_text()
    assert '<text' not in svg and '<dc:date>' not in svg  # letters are paths
    with Image.open(first[0]) as drawn:
        assert drawn.format == 'PNG' and drawn.size in (
            (1920, 820),
            (1920, 819),
        )  # Matplotlib before 3.11.1 rounds down
    assert len(save(figure_4_left([example()]), tmp_path / 'pixels')) == 1


def test_a_figure_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r'file.*kernels\.png cannot be written'):
        save(figure_4_left([example()]), tmp_path / 'file' / 'kernels')


def test_no_display_is_needed():
    code = (
        'import sys, alexnet_jax.figures, alexnet_jax.figures.codes as codes\n'
        'import io; codes.recall_curve([16], {"a": [0.1]}, None, "").savefig(io.BytesIO())\n'
        'assert "matplotlib.pyplot" not in sys.modules'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=pathlib.Path(__file__).parents[2])


# A run.


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    images = [(f'image {i}', encoded(noise(9 + i, 9 + i, i))) for i in range(17)]
    source = Images(images[:6], images[6:])
    return prepared(source, tmp_path_factory.mktemp('data') / 'set', image_size=72)


@pytest.fixture
def run(data, tmp_path, monkeypatch, coarse):
    """A run of a small network, as `open_run` would give it; `.draw()` draws it and tells what was said."""
    config = digits.get_config()
    for name, layer in config.network.items():
        if layer.type == 'convolution':
            layer.kernels = 8
        elif layer.type == 'dense':
            layer.units = 3 if name == 'fc8' else 8
    config.data.directory = str(data.directory)
    experiment = build(typed(config))
    rng = np.random.default_rng(0)
    shapes = experiment.shapes.parameters
    parameters = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    for own in parameters.values():
        shape = own['kernel'].shape
        own['kernel'] = np.float32(2 * rng.normal(size=shape) / np.sqrt(np.prod(shape[1:-1])))
    statistics = statistics_to_devices(statistics_of(data, experiment.config.data), experiment.mesh)
    opened = Run(str(tmp_path), experiment, Progress(34, 3, None), parameters, data, statistics)
    checkpoints = types.SimpleNamespace(steps=lambda: [34], close=lambda: None)
    monkeypatch.setattr(figures, 'Checkpoints', lambda *_, **__: checkpoints)
    monkeypatch.setattr(
        figures,
        'open_run',
        lambda config, *_: dataclasses.replace(opened, experiment=dataclasses.replace(experiment, config=config)),
    )
    monkeypatch.setattr(figures, 'read_metrics', lambda _: metrics())
    monkeypatch.setattr(figures.report, 'write_report', lambda *_: tmp_path / 'report.html')

    def draw(which='newest'):
        on = console()
        return [
            path.relative_to(tmp_path).as_posix()
            for path in figures.draw_figures(typed(config), str(tmp_path), which, on)
        ], on

    return types.SimpleNamespace(opened=opened, config=config, checkpoints=checkpoints, draw=draw)


CURVES = [f'figures/{name}.{kind}' for name in ('learning_curves', 'color') for kind in ('png', 'svg')]
NETWORK = [f'figures/{name}.{kind}' for name in ('network', 'network_narrow') for kind in ('png', 'svg')]


def test_figures_of_a_run(run, data, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, 'figure_4_left', lambda *given: drawn.update(left=given) or figure_4_left(*given))
    monkeypatch.setattr(figures, 'figure_3', lambda *given: drawn.update(kernels=given) or figure_3(*given))
    written, on = run.draw()
    assert written == [*CURVES, 'figures/kernels.png', 'figures/predictions.png', *NETWORK, 'report.html']
    said = on.file.getvalue().splitlines()
    kernels, shares, title = drawn['kernels']
    first, second = shares
    control = f'share of color: column 1 {first:.2f}, column 2 {second:.2f}; of random halves of these kernels '
    assert [line for line in said if line.startswith('wrote')] == [f'wrote {tmp_path / path}' for path in written[:-1]]
    (line,) = [line for line in said if not line.startswith('wrote')]
    assert line == f'{control}{chance_of_gap(kernels):.1%} differ as much'
    assert all((tmp_path / path).exists() for path in written[:-1])

    np.testing.assert_array_equal(kernels, jax.device_get(run.opened.parameters['conv1']['kernel']))
    assert shares == pytest.approx([2 / 3] * 2, abs=0.05) and '34' in title

    examples, title = drawn['left']
    assert len(examples) == 8 and '34' in title
    shards = pipeline.open_shards(data, 'validation')
    network = run.opened.experiment.network
    images = [shards.read(index) for index in range(11)]
    found = []
    for one in examples:
        (index,) = [i for i, (pixels, _) in enumerate(images) if (pixels == one.pixels).all()]
        found.append(index)
        assert one.truth == data.class_names[images[index][1]] == one.names[one.right]
    assert found == [4, 6, 7, 2, 0, 3, 5, 10]  # distinct, in no order, and the same each time
    whole = np.stack([one.pixels - data.mean_image() for one in examples])
    views = [whole[:, top : top + 64, left : left + 64] for top, left in ((4, 4), (0, 0), (0, 8), (8, 0), (8, 8))]
    alone = dataclasses.replace(network, columns=Columns(2, 2))
    softmax = jax.jit(lambda images: jax.nn.softmax(alone.apply({'params': run.opened.parameters}, images)))
    wanted = np.mean([softmax(view) for view in views], axis=0)  # digits are not mirrored
    assert np.ptp(wanted, axis=0).max() > 0.1  # the images are told apart
    for one, of_image in zip(examples, wanted, strict=True):
        np.testing.assert_allclose(one.probabilities, np.sort(of_image)[::-1], rtol=1e-3, atol=1e-6)
        assert one.names[0] == data.class_names[of_image.argmax()]


def test_without_images_the_predictions_are_left_out(run, data, tmp_path):
    run.config.data.directory = str(tmp_path / 'nowhere')
    written, on = run.draw()
    assert written == [*CURVES, 'figures/kernels.png', *NETWORK, 'report.html']
    assert 'no predictions: there is no prepared data set' in on.file.getvalue().replace('\n', ' ')
    other = prepared(tinted(train=6, validation=4), tmp_path / 'other', image_size=24)
    run.config.data.directory = str(other.directory)
    assert 'another data set' in run.draw()[1].file.getvalue()


def test_kernels_that_see_no_colors_are_left_out(run, tmp_path, monkeypatch):
    run.config.data.directory = str(tmp_path / 'nowhere')
    monkeypatch.setattr(figures, 'first_kernels', lambda *_: np.ones((2, 12288, 8)))
    written, on = run.draw('34')
    assert written == [*CURVES, *NETWORK, 'report.html']
    assert 'no kernels: those of the shape [2, 12288, 8] do not see red, green and blue' in on.file.getvalue()


def test_without_a_checkpoint_there_are_curves(run, tmp_path):
    run.checkpoints.steps = lambda: []
    written, on = run.draw()
    assert written == [*CURVES, *NETWORK, 'report.html']
    assert f'no kernels and no predictions: {tmp_path} has no checkpoint yet' in on.file.getvalue()
