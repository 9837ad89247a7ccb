"""Guards section 2's size and cut, for images of every kind that a data set may hold, and for what is no image."""

import contextlib
import io
import struct
import time
import zlib

import numpy as np
import pytest
from fakes import encoded, noise, ramp
from PIL import Image

from alexnet_jax.data import images
from alexnet_jax.data.formats import FORMATS
from alexnet_jax.data.images import normalized
from benchmarks.resident import peak_growth

SIZE = 24


def saved(picture, kind='PNG', **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, content):
    return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))


def sixteen_bit_tiff(values, place_is_text=False):
    """By hand, as Pillow writes no big-endian ones."""
    height, width = values.shape
    data = values.astype('>u2').tobytes()
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags.append((279, len(data)))
    entries = b''.join(
        struct.pack('>HHII', tag, 2 if place_is_text and tag == 273 else 4, 1, value) for tag, value in tags
    )
    return b'MM\x00*' + struct.pack('>I', 8 + len(data)) + data + struct.pack('>H', len(tags)) + entries + bytes(4)


# --- size and cut ---


def resized_then_cut(image, size):
    """Section 2 to the letter: first the whole image, its shorter side to `size`; then the central patch."""
    picture = Image.open(io.BytesIO(image)).convert('RGB')
    scale = size / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.LANCZOS)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return np.asarray(picture)[top : top + size, left : left + size]


@pytest.mark.parametrize(
    'height, width', [(48, 48), (48, 144), (144, 48), (8, 24), (24, 40), (12, 16), (96, 72), (24, 24)]
)
def test_shorter_side_then_central_cut(height, width):
    # Sizes at which nothing is rounded: the two ways must agree, whatever the image.
    image = encoded(noise(height, width))
    np.testing.assert_allclose(normalized(image, SIZE).astype(int), resized_then_cut(image, SIZE), atol=1)


@pytest.mark.parametrize('height, width', [(375, 500), (500, 333), (53, 31), (31, 97), (7, 10), (211, 212)])
def test_odd_sizes_differ_by_the_rounding_of_the_longer_side_alone(height, width):
    # Rounding moves the cut by at most half a pixel, and a ramp rises by at most 255 / 24 = 11 a pixel.
    image = encoded(ramp(height, width))
    np.testing.assert_allclose(normalized(image, SIZE).astype(int), resized_then_cut(image, SIZE), atol=6)


@pytest.mark.parametrize('scale', [1, 2])
@pytest.mark.parametrize('portrait', [False, True])
def test_margins_are_cut_off_evenly(scale, portrait):
    # Red | the middle | blue, along the longer side. A line of each margin's color would be one pixel off.
    square = noise(SIZE, SIZE)
    square[..., 1] = 255
    pixels = np.concatenate([np.full_like(square, [255, 0, 0]), square, np.full_like(square, [0, 0, 255])], axis=1)
    if portrait:
        pixels, square = pixels.transpose(1, 0, 2), square.transpose(1, 0, 2)
    result = normalized(encoded(pixels.repeat(scale, 0).repeat(scale, 1)), SIZE)
    if scale == 1:
        np.testing.assert_array_equal(result, square)
    assert result[..., 1].min() > 200  # neither margin has green


@pytest.mark.parametrize('height, width', [(1, 100), (100, 1), (1, 1), (2, 3), (1, 5000), (5000, 1)])
@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_very_thin_images(height, width, kind):
    image = encoded(np.zeros((height, width, 3), np.uint8) + np.uint8([10, 20, 30]), kind=kind)
    result = normalized(image, SIZE).astype(int)
    expected = np.broadcast_to([10, 20, 30], (SIZE, SIZE, 3))
    np.testing.assert_allclose(result, expected, atol=0 if kind == 'PNG' else 4)


@pytest.mark.parametrize('portrait', [False, True])
def test_a_line_shows_its_middle(portrait):
    line = np.zeros((1, 5001, 3), np.uint8)
    line[0, 2500 - 3 : 2500 + 4] = 255  # what Lanczos' filter looks at around the middle pixel
    result = normalized(encoded(line.transpose(1, 0, 2) if portrait else line), SIZE)
    assert (result == 255).all()


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
@pytest.mark.parametrize('side', [2 * SIZE, 8 * SIZE, 40 * SIZE + 7])
def test_fine_checkerboard_shrinks_to_gray(side, kind):
    # Without a filter against aliasing, pixels would be black or white. The outermost have fewer to average over.
    board = (np.indices((side, side)).sum(0) % 2 * 255).astype(np.uint8)
    result = normalized(
        encoded(np.stack([board] * 3, -1), kind=kind, **({'quality': 95} if kind == 'JPEG' else {})), SIZE
    )
    np.testing.assert_allclose(result[2:-2, 2:-2].astype(int), 128, atol=6)
    np.testing.assert_allclose(result.astype(int), 128, atol=24)


@pytest.mark.parametrize('side', [8, 17, 40])
def test_a_large_jpeg_is_as_good_as_the_same_pixels(side):
    # It is decoded at a fraction of its size, which must not show: not even of noise.
    pixels = ramp(side * SIZE, side * SIZE) // 2 + noise(side * SIZE, side * SIZE) // 2
    image = encoded(pixels, kind='JPEG', quality=95, subsampling=0)
    decoded = encoded(np.asarray(Image.open(io.BytesIO(image))), compress_level=1)
    np.testing.assert_allclose(normalized(image, SIZE).astype(int), normalized(decoded, SIZE), atol=4)


# --- colors ---


def cmyk(adobe):
    """A CMYK JPEG as Pillow writes it: inverted, with Adobe's marker; or without the marker."""
    data = encoded(ramp(40, 60), 'CMYK', 'JPEG', quality=95)
    at = data.index(b'\xff\xee')
    assert data[at + 4 : at + 9] == b'Adobe'
    return data if adobe else data[:at] + data[at + 2 + struct.unpack('>H', data[at + 2 : at + 4])[0] :]


ALIKE = {
    'RGB JPEG': lambda: encoded(ramp(40, 60), kind='JPEG', quality=95),
    'progressive JPEG': lambda: encoded(ramp(40, 60), kind='JPEG', quality=95, progressive=True),
    'CMYK JPEG, Adobe': lambda: cmyk(True),
    'CMYK JPEG': lambda: cmyk(False),
    'RGBA PNG': lambda: encoded(ramp(40, 60), 'RGBA'),
    'RGB TIFF': lambda: encoded(ramp(40, 60), kind='TIFF'),
    'RGB BMP': lambda: encoded(ramp(40, 60), kind='BMP'),
    'WebP': lambda: encoded(ramp(40, 60), kind='WEBP', lossless=True),
}


@pytest.mark.parametrize('kind', ALIKE)
def test_formats_and_modes_all_become_the_same_rgb(kind):
    # Names do not matter: ImageNet has a PNG among its .JPEG files, and CMYK ones.
    result = normalized(ALIKE[kind](), SIZE)
    assert result.shape == (SIZE, SIZE, 3) and result.dtype == np.uint8
    np.testing.assert_allclose(result.astype(int), normalized(encoded(ramp(40, 60)), SIZE), atol=12)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_gray_becomes_three_equal_channels(kind):
    result = normalized(encoded(ramp(40, 60), 'L', kind), SIZE)
    assert result.shape == (SIZE, SIZE, 3) and result.dtype == np.uint8
    assert (result == result[..., :1]).all() and np.ptp(result) > 50
    gray = np.asarray(Image.fromarray(normalized(encoded(ramp(40, 60)), SIZE)).convert('L')).astype(int)
    np.testing.assert_allclose(result[..., 0], gray, atol=2 if kind == 'PNG' else 8)


def halves(first, second, mode, **options):
    """An image of two colors, left and right."""
    picture = Image.new(mode, (2 * SIZE, 2 * SIZE), first)
    picture.paste(second, (SIZE, 0, 2 * SIZE, 2 * SIZE))
    return saved(picture, **options)


def assert_halves(image, first, second):
    result = normalized(image, SIZE).astype(int)
    np.testing.assert_allclose(result[:, : SIZE // 2 - 4], np.broadcast_to(first, (SIZE, 8, 3)), atol=1)
    np.testing.assert_allclose(result[:, SIZE // 2 + 4 :], np.broadcast_to(second, (SIZE, 8, 3)), atol=1)


def palette(kind='PNG', **options):
    picture = Image.new('P', (2 * SIZE, 2 * SIZE), 0)
    picture.putpalette([200, 10, 20, 30, 210, 40])
    picture.paste(1, (SIZE, 0, 2 * SIZE, 2 * SIZE))
    return saved(picture, kind, **options)


@pytest.mark.parametrize('kind', ['PNG', 'GIF'])
def test_palettes_are_looked_up_before_anything_is_averaged(kind):
    assert_halves(palette(kind), (200, 10, 20), (30, 210, 40))


def test_what_is_transparent_becomes_white():
    # Under a transparent pixel lies a color that nobody was meant to see.
    assert_halves(halves((10, 20, 30, 0), (10, 20, 30, 255), 'RGBA'), (255, 255, 255), (10, 20, 30))
    assert_halves(halves((10, 20, 30, 128), (0, 0, 0, 64), 'RGBA'), (132, 137, 142), (191, 191, 191))
    assert_halves(halves((10, 0), (10, 255), 'LA'), (255, 255, 255), (10, 10, 10))
    assert_halves(palette(transparency=0), (255, 255, 255), (30, 210, 40))
    assert_halves(palette(transparency=b'\xff\x00'), (200, 10, 20), (255, 255, 255))
    assert_halves(palette('GIF', transparency=1), (200, 10, 20), (255, 255, 255))
    image = halves((1, 2, 3), (9, 9, 9), 'RGB', transparency=(1, 2, 3))
    assert_halves(image, (255, 255, 255), (9, 9, 9))


def test_one_bit():
    assert_halves(halves(0, 1, '1'), (0, 0, 0), (255, 255, 255))


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'big-endian TIFF', 'PPM'])
def test_sixteen_bits_of_gray_are_scaled_not_cut_off(kind):
    values = np.zeros((2 * SIZE, 2 * SIZE), np.uint16)
    values[:, :SIZE], values[:, SIZE:] = 257 * 20, 257 * 200
    if kind == 'big-endian TIFF':
        image = sixteen_bit_tiff(values)
    else:
        image = saved(Image.fromarray(values), kind)
        assert Image.open(io.BytesIO(image)).mode.startswith('I')
    assert_halves(image, (20, 20, 20), (200, 200, 200))


# --- EXIF ---

# How a camera says that it was held: what a viewer does to show the picture upright.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 1),
}


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('value', UPRIGHT)
def test_turned_upright(value, kind):
    pixels = ramp(3 * SIZE, 2 * SIZE)
    image = encoded(pixels, kind=kind, exif=orientation(value), **({'quality': 95} if kind in ('JPEG', 'WEBP') else {}))
    expected = normalized(encoded(UPRIGHT[value](pixels)), SIZE).astype(int)
    np.testing.assert_allclose(normalized(image, SIZE), expected, atol=12)


ODD_EXIF = {
    'garbage': b'Exif\x00\x00' + bytes(range(40)),
    'empty': b'Exif\x00\x00',
    'cut off': orientation(6)[:-9],
    'unknown orientation': orientation(9),
    # Upside down, and the place of the pixels, which a JPEG need not tell, said to be a text.
    'upside down, and nonsense': b'Exif\x00\x00II*\x00\x08\x00\x00\x00\x02\x00'
    + struct.pack('<HHI4s', 0x0111, 2, 4, b'Me\x00\x00')
    + struct.pack('<HHIHH', 0x0112, 3, 1, 3, 0)
    + bytes(4),
}


@pytest.mark.parametrize('exif', ODD_EXIF)
def test_odd_exif_does_not_make_an_image_unreadable(exif):
    # ImageNet has several; their pixels are as good as any.
    plain, odd = encoded(ramp(40, 40), kind='JPEG'), encoded(ramp(40, 40), kind='JPEG', exif=ODD_EXIF[exif])
    result, expected = normalized(odd, SIZE), normalized(plain, SIZE)
    assert (result == expected).all() or (result == expected[::-1, ::-1]).all()
    assert (result == expected).all() == ('upside down' not in exif)


# --- what is no image ---


def png_with_a_broken_chunk():
    """Intact but for the name of its second block of pixels; Pillow says SyntaxError, which is no OSError."""
    data = encoded(noise(200, 200))
    at = data.index(b'IDAT', data.index(b'IDAT') + 4)
    return data[:at] + b'\x9b\xe8\x1e\xd4' + data[at + 4 :]


BROKEN = {
    'no image': b'this is no image',
    'empty': b'',
    'zeros': bytes(10_000),
    'truncated JPEG': encoded(noise(64, 64), kind='JPEG')[:-2000],
    'truncated progressive JPEG': encoded(noise(64, 64), kind='JPEG', progressive=True)[:1500],
    'truncated PNG': encoded(noise(64, 64))[:-5000],
    'truncated GIF': encoded(noise(64, 64), 'P', 'GIF')[:-1000],
    'truncated TIFF': encoded(noise(64, 64), kind='TIFF')[:-5000],
    'PNG with a broken chunk': png_with_a_broken_chunk(),
    'PNG with a short header': b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', bytes(4)),
    'JPEG header alone': encoded(noise(64, 64), kind='JPEG')[:200],
    'TIFF with text for a number': sixteen_bit_tiff(np.zeros((9, 9)), place_is_text=True),
    'DDS of an unknown kind': b'DDS '
    + struct.pack('<7I', 124, 0x1007, 9, 9, 0, 0, 0)
    + bytes(44)
    + struct.pack('<8I', 32, 0x10000, 0, 0, 0, 0, 0, 0)
    + bytes(500),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_what_cannot_be_read_is_a_value_error_with_a_reason(kind):
    with pytest.raises(ValueError, match=r'\w') as caught:
        normalized(BROKEN[kind], SIZE)
    assert type(caught.value) is ValueError
    assert ' at 0x' not in str(caught.value)  # it goes into a list, which must be the same every time


def test_random_bytes_are_no_image():
    rng = np.random.default_rng(0)
    starts = [b'', b'\xff\xd8\xff\xe0', b'\x89PNG\r\n\x1a\n', b'GIF89a', b'II*\x00', b'MM\x00*', b'BM', b'RIFF']
    for i in range(400):
        with pytest.raises(ValueError):
            normalized(starts[i % len(starts)] + rng.bytes(rng.integers(0, 2000)), SIZE)


def test_damage_anywhere_gives_an_image_or_a_value_error():
    # What else Pillow raises on such files (TypeError, RuntimeError, struct.error...) would end a whole preparation.
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x829A] = 6, 'maker', (1, 3)
    exif.get_ifd(0x8769)[0x9000] = b'0220'
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    whole = [encoded(noise(20, 24), kind=kind, exif=exif.tobytes()) for kind in ('JPEG', 'PNG', 'WEBP')]
    whole += [encoded(noise(20, 24), 'CMYK', 'JPEG'), encoded(noise(20, 24), 'P', 'GIF')]
    rng = np.random.default_rng(2)
    for i in range(2400):
        image = bytearray(whole[i % len(whole)])
        for _ in range(rng.integers(1, 6)):
            image[rng.integers(0, min(len(image), (200, 400, 10_000)[i % 3]))] = rng.integers(256)
        with contextlib.suppress(ValueError):
            assert normalized(bytes(image), SIZE).shape == (SIZE, SIZE, 3)


# --- what claims to be huge ---


def jpeg_that_claims(height, width):
    data = encoded(noise(64, 64), kind='JPEG')
    at = data.index(b'\xff\xc0') + 5  # start of frame: length, bits a sample; then height and width
    return data[:at] + struct.pack('>HH', height, width) + data[at + 4 :]


def png_of_zeros(height, width):
    """A whole PNG of one bit a pixel, small by compression: all of it would be decoded."""
    packer = zlib.compressobj(1)
    rows = bytes((1 + -(-width // 8)) * 100)
    content = b''.join(packer.compress(rows) for _ in range(height // 100)) + packer.flush()
    header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', content) + chunk(b'IEND', b'')


def png_that_claims(height, width):
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', b'')


HUGE = {
    'JPEG': lambda: jpeg_that_claims(60_000, 60_000),
    'JPEG, just too large': lambda: jpeg_that_claims(2**14, 2**13 + 1),
    'PNG': lambda: png_that_claims(65_000, 65_000),
    'PNG bomb': lambda: png_of_zeros(40_000, 40_000),
    'smaller PNG bomb, below what Pillow refuses': lambda: png_of_zeros(12_000, 12_000),
}


@pytest.mark.parametrize('kind', HUGE)
def test_huge_images_are_refused_before_they_are_decoded(kind):
    image = HUGE[kind]()
    assert len(image) < 10**6
    start = time.perf_counter()

    def refused():
        with pytest.raises(ValueError, match='pixels'):
            normalized(image, SIZE)

    assert peak_growth(refused) < 30e6
    assert time.perf_counter() - start < 0.5


def test_the_limit_of_pixels_is_named_with_what_raises_it():
    image = encoded(noise(1000, 2000), compress_level=1)
    assert normalized(image, SIZE, max_megapixels=2).shape == (SIZE, SIZE, 3)
    with pytest.raises(
        ValueError, match=r'2,000 x 1,000 pixels are more than 1\.9 million; raise config.data.max_mega'
    ):
        normalized(image, SIZE, max_megapixels=1.9)


@pytest.mark.parametrize('progressive, factor', [(False, 8), (True, 2)])
def test_a_jpeg_may_have_more_pixels(progressive, factor):
    image = encoded(noise(1000, 2000), kind='JPEG', progressive=progressive)
    expected = normalized(image, SIZE)
    np.testing.assert_array_equal(normalized(image, SIZE, max_megapixels=2 / factor), expected)
    with pytest.raises(ValueError, match='more than'):
        normalized(image, SIZE, max_megapixels=1.99 / factor)
    with pytest.raises(ValueError, match='more than'):  # a thin one is not decoded at a fraction
        normalized(encoded(noise(50, 2000), kind='JPEG'), SIZE, max_megapixels=0.09)


def test_what_pillow_refuses_is_said_in_other_words():
    with pytest.raises(ValueError, match='more than the 178 megapixels that Pillow reads of what is no JPEG; make it'):
        normalized(png_that_claims(20_000, 10_000), SIZE, max_megapixels=1000)
    limit = Image.MAX_IMAGE_PIXELS
    assert int(2 * limit / 1e6) == images._PILLOWS_LIMIT


def test_two_hundred_megapixels_of_a_telephone_are_read():
    # 12,240 x 16,320, which Pillow's own limit refuses.
    image = saved(Image.new('L', (16_320, 12_240), 200), 'JPEG')
    start = time.process_time()
    assert peak_growth(lambda: np.testing.assert_allclose(normalized(image, SIZE), 200, atol=1)) < 100e6
    assert time.process_time() - start < 5


WHY = {
    'the file is empty': b'',
    'a pointer of Git LFS': b'version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n',
    'a web page': b'\n<!DOCTYPE html><html><title>404</title>',
    'a damaged JPEG': b'\xff\xd8\xff',
    'a damaged PNG, or one of a kind': b'\x89PNG\r\n\x1a\n' + bytes(40),
    'a damaged TIFF, or one of a kind': b'II*\0' + bytes(40),
    'no image in a supported format': b'%PDF-1.7',
}


@pytest.mark.parametrize('reason', WHY)
def test_the_reason_is_the_true_one(reason):
    with pytest.raises(ValueError, match=reason):
        normalized(WHY[reason], SIZE)


@pytest.mark.skipif('HEIF' in FORMATS, reason='pillow-heif is installed')
def test_heif_has_a_remedy():
    with pytest.raises(ValueError, match='HEIF: convert to JPEG, or pip install pillow-heif'):
        normalized(b'\0\0\0\x1cftypheic\0\0\0\0mif1heic', SIZE)


def test_a_large_photograph_takes_little_memory():
    # 11,584 x 11,584: decoded at an eighth, for 16 times less than the 400 MB of its pixels.
    image = saved(Image.new('L', (11_584, 11_584), 200), 'JPEG')
    assert peak_growth(lambda: np.testing.assert_allclose(normalized(image, SIZE), 200, atol=1)) < 100e6


def test_a_file_is_looked_at_before_it_is_decoded():
    seen = []
    image = encoded(noise(30, 40), 'CMYK', 'JPEG')
    normalized(image, 8, lambda file: seen.append((file.format, file.mode, file.size)))
    assert seen == [('JPEG', 'CMYK', (40, 30))]
