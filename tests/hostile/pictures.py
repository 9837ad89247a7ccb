"""Hostile pictures."""

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from hostile.ground import PICKLE, Case


def encoded(kind, mode='RGB', height=40, width=48, **options):
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    pixels[: height // 2] = 90
    written = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(written, kind, **options)
    return written.getvalue()


JPEG, PNG, GIF, BMP, TIFF = (encoded(kind) for kind in ('JPEG', 'PNG', 'GIF', 'BMP', 'TIFF'))
WEBP, PPM = encoded('WEBP', lossless=True), encoded('PPM')
AVIF, JP2 = encoded('AVIF'), encoded('JPEG2000')
PROGRESSIVE, CMYK = encoded('JPEG', progressive=True), encoded('JPEG', 'CMYK')
_PALETTE_END = 13 + 3 * 2 ** ((GIF[10] & 7) + 1)
WHOLE = {'JPEG': JPEG, 'PNG': PNG, 'GIF': GIF, 'BMP': BMP, 'TIFF': TIFF, 'WebP': WEBP, 'PPM': PPM}


def chunk(kind, content, length=None, crc=None):
    length = len(content) if length is None else length
    crc = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack('>I', length) + kind + content + struct.pack('>I', crc)


def png(width, height, *chunks, bits=8, color=2, interlace=0, method=0):
    header = struct.pack('>IIBBBBB', width, height, bits, color, method, 0, interlace)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + b''.join(chunks) + chunk(b'IEND', b'')


def zeros(count, level=1):
    """`count` zeros, packed."""
    packer = zlib.compressobj(level)
    block, parts = bytes(1 << 20), []
    for _ in range(count >> 20):
        parts.append(packer.compress(block))
    return b''.join([*parts, packer.compress(bytes(count % (1 << 20))), packer.flush()])


def rows(width, height, bands=3, bits=8):
    return chunk(b'IDAT', zeros((1 + -(-width * bands * bits // 8)) * height))


def patched(image, at, new):
    return image[:at] + new + image[at + len(new) :]


def flipped(image, seed, first, last):
    """The image with a few bits flipped in a part of it."""
    chance, image = np.random.default_rng(seed), bytearray(image)
    for at in chance.integers(first, min(last, len(image)), 3):
        image[at] ^= 1 << chance.integers(8)
    return bytes(image)


def segment(marker, content, length=None):
    return bytes([0xFF, marker]) + struct.pack('>H', len(content) + 2 if length is None else length) + content


def jpeg_with(*segments):
    return JPEG[:2] + b''.join(segments) + JPEG[2:]


def at_marker(image, marker):
    return image.index(bytes([0xFF, marker]))


def many_scans(side, scans):
    """A progressive JPEG of a few kB that has the decoder walk over all its blocks again and again."""
    table = segment(0xC4, b'\x10' + bytes([1, *[0] * 15]) + b'\xe0')  # one code, of one bit: the end of 2**14 blocks
    blocks = (side // 8) ** 2
    bits = ('0' + '1' * 14) * -(-blocks // (2**15 - 1))
    bits += '0' * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, 'big').replace(b'\xff', b'\xff\x00')
    scan = segment(0xDA, b'\x01\x01\x00\x01\x3f\x00') + packed
    return (
        b'\xff\xd8'
        + segment(0xDB, b'\x00' + b'\x01' * 64)
        + segment(0xC2, struct.pack('>BHHB', 8, side, side, 1) + b'\x01\x11\x00')
        + table
        + scan * scans
        + b'\xff\xd9'
    )


def gif_frame(width, height, left=0, top=0, code=2, data=b'\x02\x44\x01\x00'):
    return b'\x2c' + struct.pack('<HHHHB', left, top, width, height, 0) + bytes([code]) + data


def gif(width, height, *blocks):
    return b'GIF89a' + struct.pack('<HHBBB', width, height, 0x80, 0, 0) + bytes(6) + b''.join(blocks) + b'\x3b'


def tiff(*entries, following=0, after=b''):
    """A TIFF of these (tag, type, count, value)."""
    packed = b''.join(struct.pack('<HHII', *(entry[:3]), entry[3] % 2**32) for entry in sorted(entries))
    return b'II*\x00' + struct.pack('<IH', 8, len(entries)) + packed + struct.pack('<I', following) + after


def tiff_of(width=9, height=9, bits=8, following=0, after=bytes(400), **changes):
    """A gray TIFF without compression; changes are `t259=(3, 1, 5)`, a tag's type, count, value."""
    entries = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, bits), 259: (3, 1, 1), 262: (3, 1, 1)}
    entries |= {273: (4, 1, 8 + 2 + 12 * 10 + 4), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, width * height)}
    entries |= {int(name[1:]): value for name, value in changes.items()}
    return tiff(*((tag, *value) for tag, value in entries.items()), following=following, after=after)


def bmp(width, height, bits=24, compression=0, colors=0, data=bytes(500)):
    header = struct.pack('<IiiHHIIiiII', 40, width, height, 1, bits, compression, 0, 0, 0, colors, 0)
    return b'BM' + struct.pack('<IHHI', 54 + len(data), 0, 0, 54) + header + data


def ico(width, height, image):
    entry = struct.pack('<BBBBHHII', width, height, 0, 0, 1, 32, len(image), 22)
    return b'\x00\x00\x01\x00\x01\x00' + entry + image


def exif(*entries, following=0):
    return segment(0xE1, b'Exif\x00\x00' + tiff(*entries, following=following))


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 40 40
%%EndComments
(outside/written) (w) file closefile
showpage
%%EOF
"""


def orientation_png(text):
    return PNG[:33] + chunk(b'iTXt', b'XML:com.adobe.xmp\x00\x00\x00\x00\x00' + text) + PNG[33:]


# By name: the file, or a function that makes it; each is broken.
BROKEN: dict[str, Any] = {}
for _kind, _cuts in {
    'JPEG': (1, 2, 3, 4, 11, 20, 100, 300, 700, len(JPEG) // 2),
    'PNG': (1, 8, 12, 20, 33, 37, 60, len(PNG) // 2),
    'GIF': (3, 6, 10, 13, 200, len(GIF) // 2),
    'BMP': (2, 14, 30, 54, len(BMP) // 2),
    'TIFF': (2, 8, 100, len(TIFF) // 2),
    'WebP': (4, 12, 20, 25, len(WEBP) // 2),
    'PPM': (2, 5, 9, len(PPM) // 2),
}.items():
    for _cut in _cuts:
        BROKEN[f'{_kind} cut at {_cut}'] = WHOLE[_kind][:_cut]
BROKEN |= {
    'progressive JPEG cut in its first scan': PROGRESSIVE[:700],
    'a JFIF note cut': jpeg_with(segment(0xE0, b'JFIF')),
    'PNG with a profile that is a bomb': lambda: png(9, 9, chunk(b'iCCP', b'a\x00\x00' + zeros(300 << 20)), rows(9, 9)),
    'CMYK JPEG cut': CMYK[:-900],
    'empty': b'',
    'one byte': b'\xff',
    'text': b'this is a text\n' * 50,
    'HTML saved as picture': b'<!DOCTYPE html><html><body>404 Not Found</body></html>',
    'SVG': b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>',
    'JSON': b'{"a": 1}',
    'zip': b'PK\x03\x04' + bytes(100),
    'PDF': b'%PDF-1.7\n' + bytes(100),
    'pointer of Git LFS': b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n',
    'HEIF cut': b'\0\0\0\x1cftypheic\0\0\0\0mif1heic',
    'AVIF cut': AVIF[:200],
    'AVIF of garbage': AVIF[:40] + b'\xff' * 400,
    'JPEG 2000 that claims 2**31 a side': patched(JP2, JP2.index(b'ihdr') + 4, b'\x7f\xff\xff\xff' * 2),
    'JPEG that claims 65,000 x 8,000': patched(JPEG, at_marker(JPEG, 0xC0) + 5, struct.pack('>HH', 65000, 8000)),
    'program': b'\x7fELF' + bytes(200),
    'pickle': PICKLE,
    'zeros': bytes(3000),
    'only a JPEG start': b'\xff\xd8\xff',
    'PostScript': EPS,
    'PostScript in a DOS envelope': b'\xc5\xd0\xd3\xc6'
    + struct.pack('<IIIIIIH', 30, len(EPS), 0, 0, 0, 0, 0xFFFF)
    + EPS,
    'JPEG that claims 60,000 x 60,000': patched(JPEG, at_marker(JPEG, 0xC0) + 5, struct.pack('>HH', 60000, 60000)),
    'JPEG that claims 65,535 x 65,535': patched(JPEG, at_marker(JPEG, 0xC0) + 5, b'\xff\xff\xff\xff'),
    'JPEG of no height': patched(JPEG, at_marker(JPEG, 0xC0) + 5, bytes(2)),
    'JPEG of no width': patched(JPEG, at_marker(JPEG, 0xC0) + 7, bytes(2)),
    'JPEG of no components': patched(JPEG, at_marker(JPEG, 0xC0) + 9, bytes(1)),
    'JPEG of 255 components': patched(JPEG, at_marker(JPEG, 0xC0) + 9, b'\xff'),
    'JPEG of 12 bits': patched(JPEG, at_marker(JPEG, 0xC0) + 4, b'\x0c'),
    'JPEG with a quantization table too short': patched(JPEG, at_marker(JPEG, 0xDB) + 2, b'\x00\x03'),
    'JPEG with a segment of no length': patched(JPEG, at_marker(JPEG, 0xDB) + 2, b'\x00\x00'),
    'JPEG with garbage for Huffman codes': patched(JPEG, at_marker(JPEG, 0xC4) + 4, b'\xff' * 12),
    'JPEG, arithmetic': patched(JPEG, at_marker(JPEG, 0xC0), b'\xff\xcb'),
    'JPEG, hierarchical': patched(JPEG, at_marker(JPEG, 0xC0), b'\xff\xc5'),
    'JPEG with a frame twice': jpeg_with(JPEG[at_marker(JPEG, 0xC0) :][:19]),
    'JPEG without pixels': JPEG[: at_marker(JPEG, 0xDA)] + b'\xff\xd9',
    'progressive JPEG with 20,000 scans': lambda: many_scans(8000, 20000),
    'PNG that claims 65,000 x 65,000': png(65000, 65000, chunk(b'IDAT', b'')),
    'PNG that claims 2**31 - 1 a side': png(2**31 - 1, 2**31 - 1, chunk(b'IDAT', b'')),
    'PNG that claims 2**32 - 1 by 1': png(2**32 - 1, 1, chunk(b'IDAT', b'')),
    'PNG of no width': png(0, 9, rows(1, 9)),
    'PNG of 3 bits': png(9, 9, rows(9, 9), bits=3),
    'PNG of an unknown color type': png(9, 9, rows(9, 9), color=5),
    'PNG with its header damaged': patched(PNG, 17, b'\x99'),
    'PNG without pixels': png(9, 9),
    'PNG with a chunk that claims 2 GB': png(9, 9, chunk(b'IDAT', b'xx', length=2**31 - 1)),
    'PNG with a chunk that claims 4 GB': png(9, 9, chunk(b'tEXt', b'xx', length=2**32 - 1)),
    'PNG without a palette': png(9, 9, rows(9, 9, 1), color=3),
    'PNG bomb, 40,000 x 40,000': lambda: png(40000, 40000, rows(40000, 2000), color=0),
    'PNG with a text bomb, zTXt': lambda: png(9, 9, chunk(b'zTXt', b'a\x00\x00' + zeros(300 << 20)), rows(9, 9)),
    'PNG with a text bomb, iTXt': lambda: png(
        9, 9, chunk(b'iTXt', b'a\x00\x01\x00\x00\x00' + zeros(300 << 20)), rows(9, 9)
    ),
    'PNG with a hundred text bombs': lambda: png(9, 9, chunk(b'zTXt', b'a\x00\x00' + zeros(1 << 20)) * 100, rows(9, 9)),
    'PNG with a header that is too short': b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', bytes(5)) + rows(9, 9),
    'PNG with a byte that is no chunk': png(9, 9, b'\x00', rows(9, 9)),
    'GIF without a frame': gif(9, 9),
    'GIF with a code size of 255': gif(9, 9, gif_frame(9, 9, code=255)),
    'GIF with a code size of 13': gif(9, 9, gif_frame(9, 9, code=13)),
    'GIF with a frame that claims 65,535 a side': gif(9, 9, gif_frame(65535, 65535)),
    'GIF that claims 65,535 a side': gif(65535, 65535, gif_frame(65535, 65535)),
    'GIF whose pixels are missing': gif(9, 9, gif_frame(9, 9, data=b'\x00')),
    'BMP of height -2**31': bmp(9, -(2**31)),
    'BMP of width -9': bmp(-9, 9),
    'BMP of width 2**31 - 1': bmp(2**31 - 1, 9),
    'BMP of width 0': bmp(0, 9),
    'BMP of 7 bits': bmp(9, 9, bits=7),
    'BMP of 2**32 - 1 colors': bmp(9, 9, bits=8, colors=2**32 - 1),
    'BMP with unknown compression': bmp(9, 9, compression=99),
    'BMP with run lengths that are cut': bmp(99, 99, bits=8, compression=1, data=bytes(1024) + b'\x05\x01'),
    'BMP with a header that claims 4 GB': patched(BMP, 14, b'\xff\xff\xff\xff'),
    'ICO around nothing': ico(9, 9, b''),
    'ICO around a PNG that claims 65,000 a side': ico(9, 9, png(65000, 65000, chunk(b'IDAT', b''))),
    'TIFF that claims 2**31 a side': tiff_of(2**31, 2**31),
    'TIFF of no entries': tiff(),
    'TIFF whose entries are beyond its end': b'II*\x00' + struct.pack('<I', 2**31),
    'TIFF with 65,535 samples a pixel': tiff_of(t277=(3, 1, 65535)),
    'TIFF of 255 bits': tiff_of(bits=255),
    'TIFF with a billion strips': tiff_of(t273=(4, 10**9, 150)),
    'TIFF with strips beyond its end': tiff_of(t273=(4, 1, 2**31)),
    'TIFF with garbage as JPEG': tiff_of(t259=(3, 1, 7)),
    'TIFF with garbage as LZW': tiff_of(t259=(3, 1, 5), after=b'\xff' * 400),
    'TIFF with garbage as deflate': tiff_of(t259=(3, 1, 8)),
    'TIFF with garbage as fax': tiff_of(bits=1, t259=(3, 1, 4), after=b''),
    'TIFF of floats beyond white': encoded('TIFF', 'F'),
    'TIFF of floats that are no numbers': tiff_of(bits=32, t339=(3, 1, 3), t279=(4, 1, 4 * 81), after=b'\xff' * 400),
    'TIFF of signed integers': encoded('TIFF', 'I'),
    'TIFF with an unknown compression': tiff_of(t259=(3, 1, 9999)),
    'TIFF with a text for a width': tiff_of(t256=(2, 4, 0x65666768)),
    'WebP that claims 16,384 a side': b'RIFF'
    + struct.pack('<I', 30)
    + b'WEBPVP8X'
    + struct.pack('<I', 10)
    + b'\x00' * 4
    + b'\xff\x3f\x00' * 2,
    'WebP whose pixels are missing': WEBP[:40] + bytes(len(WEBP) - 40),
    'PPM that claims 10**9 a side': b'P6 1000000000 1000000000 255\n' + bytes(99),
    'PPM of letters': b'P6 ab cd 255\n' + bytes(99),
    'PPM with a largest value of 0': b'P6 9 9 0\n' + bytes(999),
    'PPM of text, with a word of a megabyte': b'P3 9 9 255\n' + b'1' * (1 << 20),
    'PFM that claims 100,000 a side': b'Pf\n100000 100000\n-1.0\n',
    'FITS': b'SIMPLE  =                    T'.ljust(80) + b'BITPIX  = 16'.ljust(80) + b'END'.ljust(2720),
    'DDS': b'DDS '
    + struct.pack('<7I', 124, 0x1007, 9, 9, 0, 0, 0)
    + bytes(44)
    + struct.pack('<8I', 32, 4, 0, 0, 0, 0, 0, 0),
    'PSD that claims 300,000 a side': b'8BPS\x00\x01'
    + bytes(6)
    + struct.pack('>HIIHH', 3, 300000, 300000, 8, 3)
    + bytes(99),
    'ICNS': b'icns' + struct.pack('>I', 2**31) + b'ic10' + struct.pack('>I', 2**31),
    'JPEG 2000 cut': b'\x00\x00\x00\x0cjP  \r\n\x87\n' + bytes(40),
    'SGI that claims 65,535 a side': b'\x01\xda\x01\x01' + struct.pack('>HHHH', 3, 65535, 65535, 3) + bytes(500),
    'TGA that claims 65,535 a side': struct.pack('<BBBHHBHHHHBB', 0, 0, 10, 0, 0, 0, 0, 0, 65535, 65535, 24, 0)
    + bytes(9),
    'PCX that claims 65,535 a side': b'\x0a\x05\x01\x08' + struct.pack('<HHHH', 0, 0, 65535, 65535) + bytes(120),
}

# By name: what looks bad and is not: it must be read.
HARMLESS_PICTURES: dict[str, Any] = {
    'TIFF with tiles of no size': tiff_of(t322=(3, 1, 0), t323=(3, 1, 0), t324=(4, 1, 150)),
    'TIFF of tiles that are not there': tiff_of(t322=(3, 1, 16), t323=(3, 1, 16), t324=(4, 1, 2**30)),
    'PNG with too few pixels': png(99, 99, rows(99, 20)),
    'PNG with a wrong sum of its pixels': png(9, 9, chunk(b'IDAT', zeros(9 * 28), crc=7)),
    'CMYK JPEG whose Adobe note is cut': patched(CMYK, at_marker(CMYK, 0xEE) + 2, b'\x00\x05'),
    'JPEG with a million restart markers': JPEG[: at_marker(JPEG, 0xDA) + 14] + b'\xff\xd0' * 10**6,
    'JPEG without Huffman codes': JPEG.replace(b'\xff\xc4', b'\xff\xee'),
    '1 x 1': encoded('PNG', height=1, width=1),
    '1 x 1 JPEG': encoded('JPEG', height=1, width=1),
    '1 x 65,500': encoded('PNG', height=1, width=65500),
    '65,500 x 1': encoded('JPEG', height=65500, width=1),
    '16 bits': png(9, 9, rows(9, 9, bits=16), bits=16),
    '16 bits of gray': png(9, 9, rows(9, 9, 1, 16), bits=16, color=0),
    'trailing garbage': JPEG + b'<script>' * 1000,
    'PNG with 20,000 empty blocks of pixels': png(9, 9, chunk(b'IDAT', b'') * 20000, rows(9, 9)),
    'PNG with 20,000 texts': png(9, 9, chunk(b'tEXt', b'a\x00b') * 20000, rows(9, 9)),
    'PNG with a note of 10 MB': png(9, 9, chunk(b'prVt', bytes(10 << 20)), rows(9, 9)),
    'PNG with palette entries that are not there': png(
        9, 9, chunk(b'PLTE', bytes(3)), chunk(b'IDAT', zlib.compress((b'\x00' + b'\xfe' * 9) * 9)), color=3
    ),
    'PNG with more transparency than palette': png(
        9, 9, chunk(b'PLTE', bytes(3)), chunk(b'tRNS', bytes(256)), rows(9, 9, 1), color=3
    ),
    'animated PNG that claims 2**32 - 1 frames': png(
        9, 9, chunk(b'acTL', struct.pack('>II', 2**32 - 1, 0)), rows(9, 9)
    ),
    'GIF of 100,000 frames': gif(3, 3, gif_frame(3, 3, data=b'\x02\x84\x51\x00') * 100_000),
    'GIF with a remark of 10 MB': GIF[:_PALETTE_END]
    + b'\x21\xfe'
    + (b'\xff' + bytes(255)) * 40_000
    + b'\x00'
    + GIF[_PALETTE_END:],
    'BMP from top to bottom': bmp(9, -9),
    'TIFF whose pages go round in a circle': tiff_of(following=8),
    'TIFF whose next page is nowhere': tiff_of(following=2**31),
    'orientation 0': jpeg_with(exif((0x0112, 3, 1, 0))),
    'orientation 9': jpeg_with(exif((0x0112, 3, 1, 9))),
    'orientation 65,535': jpeg_with(exif((0x0112, 3, 1, 65535))),
    'orientation as a text': jpeg_with(exif((0x0112, 2, 4, 0x41424344))),
    'orientation as a billion numbers': jpeg_with(exif((0x0112, 3, 10**9, 8))),
    'EXIF in a circle': jpeg_with(exif((0x8769, 4, 1, 8), (0x8825, 4, 1, 8), following=8)),
    'EXIF of garbage': jpeg_with(segment(0xE1, b'Exif\x00\x00' + b'\xff' * 60)),
    'several pictures in a JPEG, of garbage': jpeg_with(segment(0xE2, b'MPF\x00' + b'II*\x00' + b'\xff' * 60)),
    'several pictures in a JPEG, a billion': jpeg_with(
        segment(0xE2, b'MPF\x00' + tiff((0xB001, 4, 1, 10**8), (0xB002, 7, 16 * 10**8, 8)))
    ),
    'Photoshop notes of garbage': jpeg_with(segment(0xED, b'Photoshop 3.0\x00' + b'8BIM' + b'\xff' * 60)),
    'color profile of garbage': jpeg_with(segment(0xE2, b'ICC_PROFILE\x00\x00\xff' + b'\xff' * 60)),
    'Adobe note with an unknown transform': jpeg_with(segment(0xEE, b'Adobe\x00\x64' + bytes(4) + b'\x63')),
    'ten thousand notes': jpeg_with(segment(0xFE, b'a') * 10_000),
    'XMP that is no XML': orientation_png(b'<x:xmpmeta tiff:Orientation="99999"'),
    'XMP with an orientation of letters': orientation_png(b'<x tiff:Orientation="\xff\xfe">'),
}
# What takes much room: 70 million pixels are allowed, whatever they take for each.
LARGE: dict[str, Any] = {
    'RGB PNG of 11,500 x 11,500': lambda: png(11500, 11500, rows(11500, 11500)),
    'RGBA PNG of 11,500 x 11,500': lambda: png(11500, 11500, rows(11500, 11500, 4), color=6),
    'PNG of 8,300 x 4,000 with 16 bits of gray': lambda: png(8300, 4000, rows(8300, 4000, 1, 16), bits=16, color=0),
    'PNG of 8,300 x 8,300, transparent palette': lambda: png(
        8300, 8300, chunk(b'PLTE', bytes(3)), chunk(b'tRNS', b'\x00'), rows(8300, 8300, 1, 1), bits=1, color=3
    ),
}


def made(image):
    return image() if callable(image) else image


def prepared_with(image, name='bad.jpg'):
    def make(place):
        (place.folder() / 'train' / 'a' / name).write_bytes(made(image))
        return {'config': place.prepare_config()}

    return make


def predicted_with(image, name='bad.jpg', **more):
    def make(place):
        place.copy_run()
        (place.images / name).write_bytes(made(image))
        return {'images': [str(place.images / name)], **more}

    return make


def cases():
    preparing, predicting = ('prepare', prepared_with), ('predict', predicted_with)
    modes = itertools.cycle([preparing, predicting, preparing, ('features', predicted_with), preparing])

    def next_case(name, image, says, either=False):
        mode, maker = next(modes)
        return Case(name, mode, maker(image), says, either)

    bad = ('bad.jpg',)
    for name, image in BROKEN.items():
        yield next_case(f'picture: {name}', image, bad)
    for name, image in HARMLESS_PICTURES.items():
        yield next_case(f'harmless picture: {name}', image, None)
    for name, image in LARGE.items():
        yield Case(f'large picture: {name}', 'predict', predicted_with(image), bad, either=True)
    for kind, image in WHOLE.items():
        for seed, (where, first, last) in enumerate((('head', 2, 150), ('body', 150, 10**6))):
            damaged = flipped(image, seed, first, last)
            yield next_case(f'picture: {kind}, bits of its {where} flipped, {seed}', damaged, bad, either=True)
