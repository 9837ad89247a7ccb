"""Guards the embedded photographs: which places are cut out, and what their variations are, against NumPy and SciPy."""

import collections
import concurrent.futures
import io
import math

import numpy as np
import pytest
import skimage.data
from PIL import Image
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_sample_image

from alexnet_jax.data.sources import open_source
from alexnet_jax.data.sources import photographs as module
from alexnet_jax.data.sources.photographs import Photographs, Place, Reflected, Variation, recolored, variation
from alexnet_jax.runtime.errors import UserError

ORIGINALS = {
    'astronaut': skimage.data.astronaut,
    'cat': skimage.data.chelsea,
    'coffee': skimage.data.coffee,
    'galaxies': skimage.data.hubble_deep_field,
    'tissue': skimage.data.immunohistochemistry,
    'retina': skimage.data.retina,
    'rocket': skimage.data.rocket,
    'temple': lambda: load_sample_image('china.jpg'),
    'flower': lambda: load_sample_image('flower.jpg'),
}  # 'motorcycle' has no function that does without a download
PINNED = [0.7825965689950403, 0.1291820701124387, 0.0930268720595056, 9.446075007037894]
TEMPLE = 1  # the label of a place
SAME = Variation(1.0, (0.0, 0.0), 0.0, (1.0, 1.0, 1.0), 1.0, 0.0, 0.0, 1.0)


@pytest.fixture(scope='module')
def many():
    return Photographs('1000')


@pytest.fixture(scope='module')
def everything():
    return Photographs('1900')


@pytest.fixture(scope='module')
def few():
    return Photographs('5')


def pixels_of(item):
    return np.asarray(Image.open(io.BytesIO(item.image)), np.float64)


# --- places ---


def test_classes_are_as_many_as_asked_for_and_named_by_their_places(many):
    assert len(set(many.class_names)) == len(many.class_names) == 1000 and many.class_ids == many.class_names
    assert many.splits == {'train': 40_000, 'validation': 5_000}
    for name, place in zip(many.class_names, many.places, strict=True):
        assert name == f'{place.photograph} at ({place.x}, {place.y}), {place.side} wide'


def test_first_places_and_images_are_the_same_whatever_the_number_of_classes(many, few):
    assert few.places == many.places[:5]
    for label in range(5):
        for split in ('train', 'validation'):
            assert few.item(split, 5 * 3 + label) == many.item(split, 1000 * 3 + label)


def test_places_lie_in_their_photographs(many):
    sizes = {name: original().shape for name, original in ORIGINALS.items()}
    for photograph, x, y, side in many.places:
        if photograph != 'motorcycle':
            height, width, _ = sizes[photograph]
            assert side // 2 <= x <= width - side // 2 and side // 2 <= y <= height - side // 2


def test_no_two_places_have_a_view_in_common(many):
    for side in module.SIDES:
        for photograph in {place.photograph for place in many.places}:
            centers = np.array([[p.x, p.y] for p in many.places if (p.photograph, p.side) == (photograph, side)])
            apart = abs(centers[:, None] - centers).max(-1) + 1e9 * np.eye(len(centers))
            assert apart.min() >= 2 * module.TRANSLATION * side  # two translations that meet
    small, large = module.SIDES
    assert small * module.SCALE[1] <= large * module.SCALE[0] * (1 + 1e-9)


def gradients(photograph, places):
    """How much gradient there is in that quarter of each place which has least, from NumPy's gradient."""
    down, across = np.gradient(ORIGINALS[photograph]().astype(np.float64).mean(-1))
    steps, found = 2 * (abs(down) + abs(across)), []  # its differences are halved
    for place in places:
        top, left, half = place.y - place.side // 2, place.x - place.side // 2, place.side // 2
        corners = [(y, x) for y in (top, top + half) for x in (left, left + half)]
        found.append(min(steps[y : y + half, x : x + half].mean() for y, x in corners))
    return np.array(found)


def test_every_quarter_of_a_place_has_something_to_see_and_the_first_places_more(everything):
    first, last = [], []
    for photograph in ('astronaut', 'coffee', 'retina', 'temple'):
        found = gradients(photograph, [place for place in everything.places if place.photograph == photograph])
        assert found.min() >= 2.9  # 3, but for what NumPy does at the photograph's edges
        half = len(found) // 2
        first.append(found[:half].mean() / found.mean())
        last.append(found[half:].mean() / found.mean())
    assert np.mean(first) > np.mean(last) + 0.1


def test_photographs_are_used_by_how_much_there_is_to_see(many, everything):
    available = collections.Counter(place.photograph for place in everything.places)
    used = collections.Counter(place.photograph for place in many.places)
    assert len(used) == 10
    for photograph, count in used.items():
        expected = 1000 * available[photograph] / 1900
        assert abs(count - expected) < 4 * math.sqrt(expected)


# --- variations ---


def test_variations_fill_their_ranges():
    drawn = [variation(label, number) for label in range(60) for number in range(45)]
    columns = {
        'SCALE': [v.scale for v in drawn],
        'CONTRAST': [f for v in drawn for f in v.contrast],
        'SATURATION': [v.saturation for v in drawn],
        'POWER': [v.power for v in drawn],
        'TRANSLATION': [t for v in drawn for t in v.translation],
        'ROTATION': [v.rotation for v in drawn],
        'HUE': [v.hue for v in drawn],
        'BRIGHTNESS': [v.brightness for v in drawn],
    }
    for name, values in columns.items():
        limits = getattr(module, name)
        low, high = np.log(limits) if isinstance(limits, tuple) else (-limits, limits)
        values = (np.log(values) if isinstance(limits, tuple) else np.array(values)) - low
        assert values.min() >= 0 and values.max() <= high - low, name
        histogram = np.histogram(values, 10, (0, high - low))[0] / len(values)
        np.testing.assert_allclose(histogram, 0.1, atol=0.03, err_msg=name)
    assert len({v for v in drawn}) == len(drawn)
    assert np.unique([v.contrast for v in drawn[:100]]).size == 300  # each component its own


def test_variation_is_pinned():
    """NumPy promises that Philox gives the same bits for good; these numbers are those of today."""
    drawn = variation(3, 7)
    np.testing.assert_allclose([drawn.scale, *drawn.translation, drawn.rotation], PINNED, rtol=1e-12)


def test_images_are_the_same_every_time_from_every_thread(few):
    asked = [(split, index) for split, count in few.splits.items() for index in range(0, count, 7)]
    expected = [few.item(*place) for place in asked]
    order = np.random.default_rng(0).permutation(len(asked)).tolist()
    again = Photographs('5')
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: again.item(*asked[place]), order))
    assert found == [expected[place] for place in order]


def test_every_class_has_its_images_and_no_image_is_in_both_splits(few):
    images, names = set(), set()
    for split, each in (('train', 40), ('validation', 5)):
        items = [few.item(split, index) for index in range(few.splits[split])]
        assert collections.Counter(item.label for item in items) == dict.fromkeys(range(5), each)
        assert all(item.name.startswith(few.class_names[item.label] + ', variation ') for item in items)
        images |= {item.image for item in items}
        names |= {item.name for item in items}
    assert len(images) == len(names) == 5 * 45


def test_image_is_the_place_scaled_moved_and_turned():
    """Against SciPy, at places of complex numbers: the image's rows lie at an angle in the original."""
    original = skimage.data.astronaut()
    place = Place('astronaut', 400, 120, 96)  # the variation sees beyond the right edge
    drawn = SAME._replace(scale=1.3, translation=(0.2, -0.1), rotation=17.0)
    found = np.asarray(Reflected(original).view(place, drawn), np.float64)
    grid = np.arange(256) + 0.5 - 128
    offsets = (grid[None, :] + 1j * grid[:, None]) * 96 * 1.3 / 256 * np.exp(1j * math.radians(17.0))
    where = 400 + 0.2 * 96 + 1j * (120 - 0.1 * 96) + offsets - (0.5 + 0.5j)  # SciPy counts from a pixel's center
    assert where.real.max() < 512
    for channel in range(3):
        expected = map_coordinates(
            original[..., channel].astype(np.float64), [where.imag, where.real], order=3, mode='mirror'
        )
        assert np.abs(found[..., channel] - np.clip(expected, 0, 255)).mean() < 1.0
        assert np.corrcoef(found[..., channel].ravel(), expected.ravel())[0, 1] > 0.999


def test_no_variation_sees_beyond_the_reflected_edges():
    """Of a white photograph every pixel is white, at every corner and with the outermost of every range."""
    white = Reflected(np.full((300, 260, 3), 255, np.uint8))
    for side in module.SIDES:
        for x, y in ((side // 2, side // 2), (260 - side // 2, 300 - side // 2)):
            for signs in ((-1, -1, 1), (1, 1, -1), (-1, 1, 1)):
                drawn = SAME._replace(
                    scale=module.SCALE[1],
                    translation=(0.2 * signs[0], 0.2 * signs[1]),
                    rotation=module.ROTATION * signs[2],
                )
                assert np.asarray(white.view(Place('white', x, y, side), drawn)).min() == 255


def test_edges_are_reflected():
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[None, :, None], (96, 96, 3))
    seen = np.asarray(Reflected(ramp).view(Place('ramp', 48, 48, 96), SAME._replace(translation=(-0.2, 0.0))))
    row = seen[128, :, 0].astype(int)
    turning = round(0.2 * 256)  # where the edge comes to lie
    assert abs(row[0] - 19) <= 1 and row[turning - 2 : turning + 3].max() <= 1
    np.testing.assert_allclose(row[:40], row[2 * turning - 1 : 2 * turning - 41 : -1], atol=2)


AXES = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
MEAN = np.array([100.0, 120.0, 140.0])
COLORS = np.random.default_rng(2).integers(60, 180, (16, 16, 3)).astype(np.uint8)


def changed(**how):
    image = recolored(Image.fromarray(COLORS), SAME._replace(**how), AXES, MEAN)
    return np.asarray(image, np.float64)


def test_contrast_is_changed_along_the_principal_axes():
    np.testing.assert_array_equal(changed(), COLORS)
    centerd = COLORS - MEAN
    along = centerd @ AXES[:, 1]  # of the second alone
    expected = COLORS + (1.6 - 1) * along[..., None] * AXES[:, 1]
    np.testing.assert_allclose(changed(contrast=(1.0, 1.6, 1.0)), np.clip(expected, 0, 255), atol=0.51)
    np.testing.assert_allclose(changed(contrast=(0.5, 0.5, 0.5)), MEAN + centerd / 2, atol=0.51)


def test_hue_saturation_brightness_and_power():
    np.testing.assert_allclose(changed(hue=120.0), COLORS[..., [2, 0, 1]], atol=0.51)  # red becomes green
    gray = COLORS.mean(-1, keepdims=True)
    np.testing.assert_allclose(changed(saturation=1.25), np.clip(gray + 1.25 * (COLORS - gray), 0, 255), atol=0.51)
    np.testing.assert_allclose(changed(hue=30.0).mean(-1), gray[..., 0], atol=0.51)
    np.testing.assert_array_equal(changed(brightness=20.0), COLORS + 20.0)
    np.testing.assert_allclose(changed(power=1.3), 255 * (COLORS / 255) ** 1.3, atol=0.51)


def test_contrast_of_an_item_is_changed_about_its_place(few):
    """An image's colors differ from the neutral view's as the variation and the place's own mean say."""
    photograph = ORIGINALS[few.places[TEMPLE].photograph]()
    place, drawn = few.places[TEMPLE], variation(TEMPLE, 2)
    half = place.side // 2
    mean = photograph[place.y - half : place.y + half, place.x - half : place.x + half].mean((0, 1))
    colors = np.concatenate([pixels()[::7, ::7].reshape(-1, 3) for pixels in ORIGINALS.values()])
    axes = np.linalg.svd(colors - colors.mean(0), full_matrices=False)[2].T[:, ::-1]  # rising, as from eigh
    expected = recolored(Reflected(photograph).view(place, drawn), drawn, axes, mean)
    difference = np.abs(pixels_of(few.item('train', 2 * 5 + TEMPLE)) - np.asarray(expected, np.float64))
    assert difference.mean() < 4  # these axes are of fewer pixels, without the motorcycle
    assert np.abs(np.asarray(Reflected(photograph).view(place, drawn)) - np.asarray(expected, float)).mean() > 8


def test_held_out_variation_resembles_its_own_place_more_than_others(many):
    """The training image that correlates most, in 24 x 24 gray levels, is of the same place: for four in five."""

    def signatures(split, numbers, labels):
        views = []
        for number in numbers:
            for label in labels:
                image = Image.open(io.BytesIO(many.item(split, number * 1000 + label).image)).convert('L')
                values = np.asarray(image.resize((24, 24), Image.Resampling.BOX), np.float64).ravel()
                views.append((values - values.mean()) / values.std())
        return np.array(views), np.tile(labels, len(numbers))

    labels = np.arange(6)
    train, of_train = signatures('train', range(40), labels)
    validation, of_validation = signatures('validation', range(3), labels)
    nearest = of_train[(validation @ train.T).argmax(1)]
    assert (nearest == of_validation).mean() >= 0.8


# --- errors ---


@pytest.mark.parametrize('classes', ['', '0', '1', '-5', '+5', '05', '1.5', 'many', ' 7', '5x40', '9' * 5000, '٣'])
def test_what_is_no_number_of_classes_is_refused(classes):
    with pytest.raises(UserError, match=r"config\.data\.source='photographs:.*whole number from 2") as caught:
        open_source('photographs:' + classes, '/nowhere')
    assert len(str(caught.value)) < 300


def test_more_classes_than_can_be_cut_are_refused():
    with pytest.raises(UserError, match=r"'photographs:1901'.*at most 1,900 places"):
        open_source('photographs:1901', '/nowhere')


def test_photographs_that_are_not_there_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(module, '_FILES', {'owl': ('skimage', 'data/owl.png')})
    with pytest.raises(UserError, match=r'data/owl\.png.*pip install --force-reinstall scikit-image'):
        Photographs('5')
    monkeypatch.setattr(module.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='scikit-image, which is not installed: pip install scikit-image'):
        Photographs('5')
