"""Guards section 4.1's arithmetic on the device, against float64 in NumPy, pixel by pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import settings

from alexnet_jax.config import DataConfig
from alexnet_jax.data.augment import VIEWS, Statistics, statistics_of, training_images, view
from alexnet_jax.data.dataset import MEAN_IMAGE, PreparedDataSet

SIZE, CROP, BATCH = 13, 8, 64
ROUNDING = 1e-4  # of float32 sums whose terms stay below 1024


def some_statistics(seed=0):
    """A mean image that differs everywhere, and the axes p with their standard deviations."""
    rng = np.random.default_rng(seed)
    p, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    deviations = np.array([110.0, 25.0, 8.0])
    mean = rng.uniform(0, 255, (SIZE, SIZE, 3)).astype(np.float32)
    return Statistics(mean, (p * deviations).astype(np.float32)), p, deviations


def a_batch(seed=1, crop=CROP):
    rng = np.random.default_rng(seed)
    offsets = SIZE - crop + 1
    return {
        'image': rng.integers(0, 256, (BATCH, crop, crop, 3), np.uint8),
        'label': rng.integers(0, 5, BATCH).astype(np.int32),
        'top': rng.integers(0, offsets, BATCH).astype(np.int32),
        'left': rng.integers(0, offsets, BATCH).astype(np.int32),
        'mirror': rng.random(BATCH) < 0.5,
        'color': rng.normal(0, 0.1, (BATCH, 3)).astype(np.float32),
        'dropout_seed': np.arange(BATCH, dtype=np.uint32),
    }


@pytest.mark.parametrize('compiled', [False, True])
@pytest.mark.parametrize('crop', [CROP, SIZE])
def test_training_images_pixel_by_pixel(compiled, crop):
    statistics, p, deviations = some_statistics()
    batch = a_batch(crop=crop)
    run = jax.jit(training_images) if compiled else training_images
    result = run({name: jnp.asarray(value) for name, value in batch.items()}, statistics)
    assert result.dtype == jnp.float32 and result.shape == (BATCH, crop, crop, 3)

    for i in range(BATCH):
        top, left = batch['top'][i], batch['left'][i]
        shift = p @ (batch['color'][i].astype(np.float64) * deviations)  # [p1 p2 p3] [a1 s1, a2 s2, a3 s3]^T
        expected = np.empty((crop, crop, 3))
        for row in range(crop):
            for column in range(crop):
                seen = crop - 1 - column if batch['mirror'][i] else column
                pixel = batch['image'][i, row, seen].astype(np.float64)
                expected[row, column] = pixel - statistics.mean_image[top + row, left + seen] + shift
        np.testing.assert_allclose(result[i], expected, rtol=0, atol=ROUNDING)


def test_training_images_without_mirror_and_color_are_pixels_minus_mean():
    statistics, _, _ = some_statistics()
    batch = a_batch() | {'mirror': np.zeros(BATCH, bool), 'color': np.zeros((BATCH, 3), np.float32)}
    result = np.asarray(training_images(batch, statistics))
    for i in range(BATCH):
        top, left = batch['top'][i], batch['left'][i]
        mean = statistics.mean_image[top : top + CROP, left : left + CROP]
        np.testing.assert_array_equal(result[i], batch['image'][i].astype(np.float32) - mean)


def test_each_image_is_scaled_by_its_own_number_after_the_color_noise():
    statistics, _, _ = some_statistics()
    batch, scale = a_batch(), np.linspace(0.5, 1.5, BATCH).astype(np.float32)
    plain, scaled = (training_images(b, statistics) for b in (batch, batch | {'scale': scale}))
    np.testing.assert_allclose(scaled, np.asarray(plain, np.float64) * scale[:, None, None, None], rtol=1e-6)


@pytest.mark.parametrize('crop', [CROP, SIZE])
def test_as_in_the_2012_code_the_means_center_is_subtracted_after_mirroring(crop):
    statistics, p, deviations = some_statistics()
    near = (SIZE - crop) // 2
    center = statistics.mean_image[near : near + crop, near : near + crop]
    batch = a_batch(crop=crop)
    result = np.asarray(training_images(batch, statistics._replace(mean_patch=center)))
    for i in range(BATCH):
        pixels = batch['image'][i].astype(np.float64)
        shift = p @ (batch['color'][i].astype(np.float64) * deviations)
        expected = (pixels[:, ::-1] if batch['mirror'][i] else pixels) - center + shift
        np.testing.assert_allclose(result[i], expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize('mean_patch', [False, True])
def test_images_are_blended_with_others_before_the_color_noise(mean_patch):
    statistics, p, deviations = some_statistics()
    center = statistics.mean_image[2 : 2 + CROP, 2 : 2 + CROP]
    batch, others = a_batch(1), a_batch(2)
    weight = np.where(np.arange(BATCH) % 3 == 0, 0.25, 0).astype(np.float32)
    batch |= {f'blend_{name}': others[name] for name in ('image', 'top', 'left', 'mirror')} | {'blend_weight': weight}
    scale = np.linspace(0.5, 1.5, BATCH).astype(np.float32)
    chosen = statistics._replace(mean_patch=center) if mean_patch else statistics
    result = np.asarray(training_images(batch | {'scale': scale}, chosen))

    def less_mean(drawn, i):
        pixels, (top, left) = drawn['image'][i].astype(np.float64), (drawn['top'][i], drawn['left'][i])
        own = 0 if mean_patch else statistics.mean_image[top : top + CROP, left : left + CROP]
        seen = (pixels - own)[:, ::-1] if drawn['mirror'][i] else pixels - own
        return seen - center if mean_patch else seen

    for i in range(BATCH):
        share = 0.25 if i % 3 == 0 else 0.0
        blended = (1 - share) * less_mean(batch, i) + share * less_mean(others, i)
        shift = p @ (batch['color'][i].astype(np.float64) * deviations)
        np.testing.assert_allclose(result[i], (blended + shift) * scale[i], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize('component', range(3))
def test_color_moves_every_pixel_of_an_image_alike_along_its_axis(component):
    statistics, p, deviations = some_statistics()
    still = a_batch() | {'color': np.zeros((BATCH, 3), np.float32)}
    moved = still | {'color': np.zeros((BATCH, 3), np.float32)}
    moved['color'][:, component] = 0.5
    difference = np.asarray(training_images(moved, statistics)) - np.asarray(training_images(still, statistics))
    expected = np.broadcast_to(0.5 * deviations[component] * p[:, component], difference.shape)
    np.testing.assert_allclose(difference, expected, rtol=0, atol=ROUNDING)


def numpy_views(images, mean, crop):
    """The ten views in their order, by slices of the whole image."""
    size = images.shape[1]
    x = images.astype(np.float64) - mean
    middle = (size - crop) // 2
    five = [
        x[:, middle : middle + crop, middle : middle + crop],
        x[:, :crop, :crop],
        x[:, :crop, -crop:],
        x[:, -crop:, :crop],
        x[:, -crop:, -crop:],
    ]
    return five + [patch[:, :, ::-1] for patch in five]


@pytest.mark.parametrize('traced', [False, True])
@pytest.mark.parametrize('crop', [7, 8, 12, SIZE])  # even and odd differences, and none
def test_ten_views_are_numpys_slices(crop, traced):
    statistics, _, _ = some_statistics()
    images = np.random.default_rng(2).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    run = jax.jit(view, static_argnums=3) if traced else view
    expected = numpy_views(images, statistics.mean_image, crop)
    assert len(expected) == VIEWS['ten'] == 10
    for number in range(10):
        result = run(jnp.asarray(images), statistics, number, crop)
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, expected[number], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize('crop', [8, SIZE])
def test_the_means_center_is_subtracted_from_all_ten_views(crop):
    statistics, _, _ = some_statistics()
    near = (SIZE - crop) // 2
    center = statistics.mean_image[near : near + crop, near : near + crop]
    images = np.random.default_rng(2).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    for number, pixels in enumerate(numpy_views(images, 0, crop)):
        result = view(jnp.asarray(images), statistics._replace(mean_patch=center), number, crop)
        np.testing.assert_allclose(result, pixels - center, rtol=0, atol=ROUNDING)


def test_the_paper_looks_from_sixteen_pixels_inside():
    # 224 of 256: the center starts at 16, the corners at 0 and 32.
    rows, columns = np.mgrid[:256, :256]
    images = jnp.asarray(np.stack([rows, columns, rows], axis=-1)[None], jnp.uint8)
    statistics = Statistics(np.zeros((256, 256, 3), np.float32), np.zeros((3, 3), np.float32))
    places = [tuple(np.asarray(view(images, statistics, n, 224))[0, 0, 0, :2].astype(int)) for n in range(5)]
    assert places == [(16, 16), (0, 0), (0, 32), (32, 0), (32, 32)]
    assert VIEWS == {'center': 1, 'ten': 10}


def test_statistics_of_a_prepared_data_set(tmp_path):
    statistics, _, _ = some_statistics()
    covariance = np.diag([4.0, 9.0, 1.0]).tolist()
    data = PreparedDataSet(tmp_path, settings(image_size=SIZE), ('a',), ('a',), {}, 0, [0.0, 0.0, 0.0], covariance)
    np.save(tmp_path / MEAN_IMAGE, statistics.mean_image)
    config = DataConfig(crop_size=CROP)
    result = statistics_of(data, config)
    np.testing.assert_array_equal(result.mean_image, statistics.mean_image)
    np.testing.assert_array_equal(np.abs(result.color_components), [[0, 2, 0], [3, 0, 0], [0, 0, 1]])
    assert result.mean_image.dtype == result.color_components.dtype == np.float32
    assert result.mean_patch is None
    text = statistics_of(data, config.model_copy(update={'color_scale': 'eigenvalue'}))
    np.testing.assert_array_equal(text.mean_image, statistics.mean_image)
    np.testing.assert_array_equal(np.abs(text.color_components), [[0, 4, 0], [9, 0, 0], [0, 0, 1]])
    source = statistics_of(data, config.model_copy(update={'mean_patch': 'center'}))
    np.testing.assert_array_equal(source.mean_patch, statistics.mean_image[2:10, 2:10])  # 8 of 13 pixels
