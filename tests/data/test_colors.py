"""Guards pixels of every mode and depth against formulas in float64, and that the picture's values set no scale."""

import io
import struct
import zlib

import numpy as np
import PIL
import pytest
from fakes import ramp
from PIL import Image, ImageCms

from alexnet_jax.data.formats import FORMATS
from alexnet_jax.data.images import normalized

SIDE = 32
OLD_PILLOW = int(PIL.__version__.split('.')[0]) < 13  # which refuses some TIFFs


def decoded(encoded, side=SIDE):
    """A square image at its own size, at which nothing is resampled."""
    return normalized(encoded, side)


def saved(picture, kind='PNG', **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values, bits=None, photometric=1, signed=False, order='<', packed=None, extra=None):
    """An uncompressed TIFF of values, [height, width] or [height, width, samples], by hand."""
    height, width = values.shape[:2]
    samples = 1 if values.ndim == 2 else values.shape[2]
    bits = bits or values.dtype.itemsize * 8
    kind = 3 if values.dtype.kind == 'f' else 2 if values.dtype.kind == 'i' else 1
    data = values.astype(values.dtype.newbyteorder(order)).tobytes() if packed is None else packed
    tags = {256: [width], 257: [height], 258: [bits] * samples, 259: [1], 262: [photometric], 273: [8], 277: [samples]}
    tags |= {530: [1, 1]} if photometric == 6 else {}  # chroma is not subsampled
    tags |= {278: [height], 279: [len(data)], 339: [kind] * samples} | ({338: [extra]} if extra else {})
    entries, after, start = b'', b'', 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        wide = tag in (273, 279)
        content = struct.pack(f'{order}{len(value)}{"I" if wide else "H"}', *value)
        if len(content) > 4:
            content, after = struct.pack(f'{order}I', start + len(after)), after + content
        entries += struct.pack(f'{order}HHI', tag, 4 if wide else 3, len(value)) + content.ljust(4, b'\0')
    head = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(f'{order}I', 8 + len(data))
    return head + data + struct.pack(f'{order}H', len(tags)) + entries + bytes(4) + after


def png(width, height, bits, color, rows, transparent=None, *chunks):
    def chunk(name, content):
        return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, color, 0, 0, 0))
    more = b''.join(chunk(name, content) for name, content in chunks)
    more += b'' if transparent is None else chunk(b'tRNS', transparent)
    body = chunk(b'IDAT', zlib.compress(b''.join(b'\0' + row for row in rows))) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + header + more + body


def gray(expected):
    return np.repeat(np.asarray(expected)[..., None], 3, -1)


# --- gray of more than 8 bits ---

SIXTEEN = np.random.default_rng(0).permutation(2**16).astype(np.uint16).reshape(256, 256)  # every value once
WRITTEN = {
    'PNG': lambda values: saved(Image.fromarray(values)),
    'TIFF': tiff,
    'big-endian TIFF': lambda values: tiff(values, order='>'),
    'deflated TIFF': lambda values: saved(Image.fromarray(values), 'TIFF', compression='tiff_adobe_deflate'),
    'PGM': lambda values: b'P5 256 256 65535\n' + values.astype('>u2').tobytes(),
    'JPEG 2000': lambda values: saved(Image.fromarray(values), 'JPEG2000'),
}


@pytest.mark.parametrize('kind', WRITTEN)
def test_each_of_65536_grays_is_rounded_to_the_nearest_of_256(kind):
    expected = np.rint(SIXTEEN / 65535 * 255)
    np.testing.assert_array_equal(decoded(WRITTEN[kind](SIXTEEN), 256), gray(expected))
    assert abs(expected - (SIXTEEN >> 8)).max() <= 1  # what others do


def test_twelve_bits_have_their_own_white():
    values = np.arange(64 * 64).reshape(64, 64)
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()
    image = tiff(values.astype(np.uint16), bits=12, packed=packed)
    np.testing.assert_array_equal(decoded(image, 64), gray(np.rint(values / 4095 * 255)))
    portable = b'P5 64 64 4095\n' + values.astype('>u2').tobytes()
    np.testing.assert_allclose(decoded(portable, 64), gray(values / 4095 * 255), atol=0.51)


@pytest.mark.parametrize('order', '<>')
def test_floats_from_0_to_1(order):
    values = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    expected = np.rint(values.astype(np.float64) * 255)
    np.testing.assert_allclose(decoded(tiff(values, order=order)), gray(expected), atol=0)
    flipped = values[::-1].astype(f'{order}f4').tobytes()  # a PFM begins at the bottom
    portable = b'Pf\n%d %d\n%s1.0\n' % (SIDE, SIDE, b'-' if order == '<' else b'') + flipped
    np.testing.assert_array_equal(decoded(portable), gray(expected))
    outside = values + np.float32(0.003) * np.sign(values - np.float32(0.5))  # as resampling leaves it
    assert np.ptp(outside) > 1
    np.testing.assert_allclose(decoded(tiff(outside)), gray(np.clip(outside, 0, 1) * 255), atol=0.51)


def test_unsigned_integers_of_32_bits():
    values = np.linspace(0, 2**32 - 1, SIDE * SIDE).astype(np.uint32).reshape(SIDE, SIDE)
    np.testing.assert_array_equal(decoded(tiff(values)), gray(np.rint(values / (2**32 - 1) * 255)))


@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.float32])
def test_where_zero_is_white(kind):
    white = 1 if kind == np.float32 else np.iinfo(kind).max
    values = np.linspace(0, white, SIDE * SIDE).astype(kind).reshape(SIDE, SIDE)
    expected = 255 - np.rint(values.astype(np.float64) / white * 255)
    np.testing.assert_array_equal(decoded(tiff(values, photometric=0)), gray(expected))


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'PGM'])
def test_one_pixel_does_not_change_the_scale_of_the_others(kind):
    dark = np.random.default_rng(1).integers(0, 256, (256, 256), np.uint16)
    dark[3, 5] = 255
    brighter = dark.copy()
    brighter[3, 5] = 256
    one, other = (decoded(WRITTEN[kind](values), 256) for values in (dark, brighter))
    np.testing.assert_array_equal(one, other)
    assert one.max() == 1  # 255 of 65,535


REFUSED = {
    'signed 8 bits': (np.full((9, 9), 20, np.int8), 'signed integers'),
    'signed 16 bits': (np.full((9, 9), 20, np.int16), 'signed integers'),
    'signed 32 bits': (np.full((9, 9), 20, np.int32), 'signed integers'),
    'floats to 255': (np.full((9, 9), 200, np.float32), 'values from 200 to 200, where black is 0 and white is 1'),
    'floats from -1': (np.full((9, 9), -1, np.float32), 'values from -1 to -1'),
    'floats that are no numbers': (np.full((9, 9), np.nan, np.float32), 'values from nan'),
    'infinite floats': (np.full((9, 9), np.inf, np.float32), 'values from inf'),
}


@pytest.mark.parametrize('kind', REFUSED)
def test_an_unknown_scale_is_refused_rather_than_guessed(kind):
    values, reason = REFUSED[kind]
    with pytest.raises(ValueError, match=f'{reason}.*save it with unsigned integers of 8 or 16 bits'):
        decoded(tiff(values))


# --- transparency ---


def over_white(color, alpha):
    alpha = np.asarray(alpha, np.float64)[..., None] / 255
    return alpha * color + (1 - alpha) * 255


@pytest.mark.parametrize('bits', [1, 2, 4, 8, 16])
def test_the_transparent_gray_of_a_png(bits):
    values = np.arange(256).reshape(16, 16) % 2**bits * (257 if bits == 16 else 1)
    key = 1 if bits < 16 else 257 * 9
    if bits == 16:
        rows = values.astype('>u2')
    else:  # from the highest bits of a byte down
        ones = (values[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)
        rows = np.packbits(ones.reshape(16, -1), axis=1)
    image = png(16, 16, bits, 0, [row.tobytes() for row in rows], struct.pack('>H', key))
    expected = np.where(values == key, 255, np.rint(values / (2**bits - 1) * 255))
    assert (values == key).any() and (values != key).any()
    np.testing.assert_array_equal(decoded(image, 16), gray(expected))


@pytest.mark.parametrize('bits', [8, 16])
def test_the_transparent_color_of_a_png(bits):
    values = np.random.default_rng(2).integers(0, 2, (16, 16, 3)) * (2**bits - 2) + 1
    key = values[4, 4]
    rows = [row.tobytes() for row in values.astype(f'>u{bits // 8}')]
    image = png(16, 16, bits, 2, rows, struct.pack('>3H', *key))
    expected = np.where((values == key).all(-1, keepdims=True), 255, values / (2**bits - 1) * 255)
    np.testing.assert_allclose(decoded(image, 16), expected, atol=1)


def test_alpha_of_8_and_16_bits_is_put_on_white():
    rng = np.random.default_rng(3)
    color, alpha = rng.integers(0, 256, (SIDE, SIDE, 3)), rng.integers(0, 256, (SIDE, SIDE))
    four = np.concatenate([color, alpha[..., None]], -1)
    expected = over_white(color, alpha)
    of_gray = over_white(gray(color[..., 0]), alpha)
    two = np.stack([color[..., 0], alpha], -1)
    images = {
        'RGBA': (saved(Image.fromarray(four.astype(np.uint8))), expected),
        'RGBA of 16 bits': (png(SIDE, SIDE, 16, 6, [row.tobytes() for row in (four * 257).astype('>u2')]), expected),
        'LA': (saved(Image.fromarray(two.astype(np.uint8), 'LA')), of_gray),
        'LA of 16 bits': (png(SIDE, SIDE, 16, 4, [row.tobytes() for row in (two * 257).astype('>u2')]), of_gray),
        'TIFF': (tiff(four.astype(np.uint8), photometric=2, extra=2), expected),
        'TIFF of 16 bits': (tiff((four * 257).astype(np.uint16), photometric=2, extra=2), expected),
    }
    for kind, (image, wanted) in images.items():
        np.testing.assert_allclose(decoded(image), wanted, atol=1, err_msg=kind)


def test_alpha_that_was_multiplied_in_already():
    rng = np.random.default_rng(4)
    alpha = rng.integers(0, 256, (SIDE, SIDE))
    color = (rng.random((SIDE, SIDE, 3)) * (alpha[..., None] + 1)).astype(int)  # at most alpha
    expected = color + 255 - alpha[..., None]
    four = np.concatenate([color, alpha[..., None]], -1).astype(np.uint8)
    np.testing.assert_allclose(decoded(tiff(four, photometric=2, extra=1)), expected, atol=1)
    if OLD_PILLOW:
        return
    two = four[..., [0, 3]]
    np.testing.assert_allclose(decoded(tiff(two, extra=1)), gray(expected[..., 0]), atol=1)


def test_palettes_with_an_alpha_for_each_entry():
    rng = np.random.default_rng(5)
    entries, alpha = rng.integers(0, 256, (256, 3), np.uint8), rng.integers(0, 256, 256, np.uint8)
    indices = rng.permutation(256).astype(np.uint8).reshape(16, 16)
    rows = [row.tobytes() for row in indices]
    image = png(16, 16, 8, 3, rows, alpha.tobytes(), (b'PLTE', entries.tobytes()))
    np.testing.assert_allclose(decoded(image, 16), over_white(entries[indices], alpha[indices]), atol=1)
    opaque = png(16, 16, 8, 3, rows, None, (b'PLTE', entries.tobytes()))
    np.testing.assert_array_equal(decoded(opaque, 16), entries[indices])


# --- other color spaces ---


def test_cmyk_is_multiplied_out():
    inks = np.random.default_rng(6).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
    light = 1 - inks / 255
    expected = 255 * light[..., :3] * light[..., 3:]
    np.testing.assert_allclose(decoded(tiff(inks, photometric=5)), expected, atol=1)
    np.testing.assert_allclose(decoded(tiff(inks.astype(np.uint16) * 257, photometric=5)), expected, atol=1)


@pytest.mark.parametrize('marked', [True, False])
@pytest.mark.parametrize('inks', [(0, 0, 0, 0), (255, 0, 0, 0), (0, 80, 200, 40), (30, 60, 90, 200)])
def test_cmyk_jpegs_hold_inverted_inks(inks, marked):
    # Adobe's note says so; without it they are taken for inverted too.
    image = saved(Image.new('CMYK', (SIDE, SIDE), inks), 'JPEG', quality=100)
    at = image.index(b'\xff\xee')
    if not marked:
        image = image[:at] + image[at + 2 + struct.unpack('>H', image[at + 2 : at + 4])[0] :]
    light = 1 - np.array(inks) / 255
    expected = np.broadcast_to(255 * light[:3] * light[3], (SIDE, SIDE, 3))
    np.testing.assert_allclose(decoded(image), expected, atol=2)


def of_ycbcr(values):
    """JFIF's formula, to 0..255."""
    y, cb, cr = np.moveaxis(values.astype(np.float64), -1, 0)
    cb, cr = cb - 128, cr - 128
    rgb = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
    return np.clip(np.stack(rgb, -1), 0, 255)


def test_ycbcr():
    values = np.random.default_rng(7).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    if not OLD_PILLOW:
        np.testing.assert_allclose(decoded(tiff(values, photometric=6)), of_ycbcr(values), atol=1)
    for color in ((90, 160, 100), (200, 100, 140)):
        picture = Image.merge('YCbCr', [Image.new('L', (SIDE, SIDE), value) for value in color])
        expected = np.broadcast_to(of_ycbcr(np.array(color)), (SIDE, SIDE, 3))
        np.testing.assert_allclose(decoded(saved(picture, 'JPEG', quality=100)), expected, atol=2)


def of_lab(values):
    """CIE L*a*b* of illuminant D50, 8 bits as in ICC profiles, to sRGB 0..255."""
    lightness, a, b = values[..., 0] / 2.55, values[..., 1] - 128.0, values[..., 2] - 128.0
    f = (lightness + 16) / 116
    f = np.stack([f + a / 500, f, f - b / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    to_linear = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(xyz @ np.array(to_linear).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_lab():
    rng = np.random.default_rng(8)
    values = np.stack([rng.integers(60, 200, (SIDE, SIDE)), *rng.integers(108, 149, (2, SIDE, SIDE))], -1)
    stored = np.stack([values[..., 0], values[..., 1] - 128, values[..., 2] - 128], -1).astype(np.int8).view(np.uint8)
    result, expected = decoded(tiff(stored, photometric=8)), of_lab(values)
    inside = ((expected > 1) & (expected < 254)).all(-1)
    assert inside.mean() > 0.9
    np.testing.assert_allclose(result[inside], expected[inside], atol=1.5)


# --- what is not applied ---


def profile(primaries, gamma):
    """An ICC profile of version 2: primaries as XYZ of D50, [3, 3] with a column for each, and one gamma for all."""

    def fixed(*values):
        return struct.pack(f'>{len(values)}i', *(round(value * 65536) for value in values))

    def text(name):
        return b'desc' + bytes(4) + struct.pack('>I', len(name) + 1) + name + bytes(1 + 4 + 4 + 2 + 1 + 67)

    blocks = {
        b'desc': text(b'wide'),
        b'cprt': b'text' + bytes(4) + b'none\0',
        b'wtpt': b'XYZ \0\0\0\0' + fixed(0.9642, 1, 0.8249),
    }
    for channel, column in zip((b'r', b'g', b'b'), np.transpose(primaries), strict=True):
        blocks[channel + b'XYZ'] = b'XYZ \0\0\0\0' + fixed(*column)
        blocks[channel + b'TRC'] = b'curv\0\0\0\0' + struct.pack('>IH', 1, round(gamma * 256))
    table, body, start = b'', b'', 128 + 4 + 12 * len(blocks)
    for name, content in blocks.items():
        table += name + struct.pack('>II', start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        '>I4sI4s4s4s12s4s', start + len(body), bytes(4), 0x02100000, b'mntr', b'RGB ', b'XYZ ', bytes(12), b'acsp'
    )
    head += bytes(28) + fixed(0.9642, 1, 0.8249)
    return head.ljust(128, b'\0') + struct.pack('>I', len(blocks)) + table + body


ADOBE_RGB = [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF', 'WEBP'])
def test_profiles_and_gamma_are_not_applied(kind):
    picture = Image.fromarray(ramp(SIDE, SIDE))
    options = {'quality': 90} if kind in ('JPEG', 'WEBP') else {}
    plain = decoded(saved(picture, kind, **options))
    wide = profile(ADOBE_RGB, 2.2)
    np.testing.assert_array_equal(decoded(saved(picture, kind, icc_profile=wide, **options)), plain)
    if kind == 'PNG':
        rows = [row.tobytes() for row in ramp(SIDE, SIDE)]
        linear = png(SIDE, SIDE, 8, 2, rows, None, (b'gAMA', struct.pack('>I', 100000)))
        np.testing.assert_array_equal(decoded(linear), plain)


def test_how_far_a_profile_would_have_changed_the_pixels():
    # The figures in docs/data.md, by LittleCMS: none for sRGB, a little for others.
    picture, srgb = Image.fromarray(ramp(SIDE, SIDE)), ImageCms.createProfile('sRGB')

    def change(source):
        converted = ImageCms.profileToProfile(picture, source, srgb, outputMode='RGB')
        return np.abs(np.asarray(converted).astype(int) - np.asarray(picture))

    assert change(srgb).max() <= 1
    wide = change(ImageCms.ImageCmsProfile(io.BytesIO(profile(ADOBE_RGB, 2.2))))
    assert 5 < wide.mean() < 20


# --- animations and other formats ---


AVIF = pytest.param('AVIF', marks=pytest.mark.skipif('AVIF' not in FORMATS, reason='this Pillow has no AVIF'))


@pytest.mark.parametrize('kind', ['GIF', 'PNG', 'WEBP', 'TIFF', 'MPO', AVIF])
def test_of_several_pictures_the_first_is_taken(kind):
    first, second = (Image.new('RGB', (SIDE, SIDE), color) for color in ((200, 30, 40), (10, 220, 90)))
    options = {'quality': 95} if kind in ('WEBP', 'AVIF', 'MPO') else {}
    image = saved(first, kind, save_all=True, append_images=[second], **options)
    assert getattr(Image.open(io.BytesIO(image)), 'n_frames', 1) == 2
    np.testing.assert_allclose(decoded(image), np.broadcast_to([200, 30, 40], (SIDE, SIDE, 3)), atol=4)


@pytest.mark.parametrize('kind', [AVIF, 'JPEG2000', 'WEBP', 'DIB'])
def test_formats_without_an_entry_of_their_own(kind):
    pixels = ramp(SIDE, SIDE)
    image = saved(Image.fromarray(pixels), kind, **({'quality': 95} if kind in ('AVIF', 'WEBP') else {}))
    np.testing.assert_allclose(decoded(image).astype(int), pixels, atol=12)
