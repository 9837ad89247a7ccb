"""The formats of photographs: which of them are read here, by which extensions, and what others may be."""

import importlib.util

from PIL import features

# By Pillow's names. Pillow reads more: drawings, and for one format, PostScript, it would start another program.
_FORMATS = {
    'JPEG': ('.jpg', '.jpeg', '.jpe', '.jfif', '.mpo'),
    'PNG': ('.png', '.apng'),
    'GIF': ('.gif',),
    'BMP': ('.bmp',),
    'DIB': ('.dib',),
    'TIFF': ('.tif', '.tiff'),
    'PPM': ('.ppm', '.pgm', '.pbm', '.pnm', '.pfm'),
    'WEBP': ('.webp',),
    'AVIF': ('.avif', '.avifs'),
    'JPEG2000': ('.jp2', '.j2k', '.j2c', '.jpc', '.jpf', '.jpx'),
    'HEIF': ('.heic', '.heif', '.hif'),  # of telephones
}
_REMEDIES = {
    'WEBP': 'take a Pillow that has WebP',
    'AVIF': 'install Pillow 11.3 or newer',
    'JPEG2000': 'take a Pillow that has OpenJPEG',
    'HEIF': 'convert to JPEG, or pip install pillow-heif',
}
_STARTS = {
    b'\xff\xd8\xff': 'JPEG',
    b'\x89PNG': 'PNG',
    b'GIF8': 'GIF',
    b'BM': 'BMP',
    b'II*\x00': 'TIFF',
    b'MM\x00*': 'TIFF',
    b'II+\x00': 'TIFF',
    b'MM\x00+': 'TIFF',
    b'RIFF': 'WebP',
    b'P1': 'PPM',
    b'P2': 'PPM',
    b'P3': 'PPM',
    b'P4': 'PPM',
    b'P5': 'PPM',
    b'P6': 'PPM',
    b'\x00\x00\x00\x0cjP': 'JPEG 2000',
    b'\xff\x4f\xff\x51': 'JPEG 2000',
}
_BRANDS = {b'avif': 'AVIF', b'avis': 'AVIF'} | dict.fromkeys(
    (b'heic', b'heix', b'hevc', b'heim', b'heis', b'mif1', b'msf1'), 'HEIF'
)


def _is_read(name: str) -> bool:
    """Whether this installation reads a format."""
    match name:
        case 'WEBP' | 'AVIF':
            return name.lower() in features.modules and features.check_module(name.lower())
        case 'JPEG2000':
            return features.check_codec('jpg_2000')
        case 'HEIF':
            return importlib.util.find_spec('pillow_heif') is not None
    return True


FORMATS = tuple(name for name in _FORMATS if _is_read(name))
EXTENSIONS = tuple(extension for name in FORMATS for extension in _FORMATS[name])


def remedy(extension: str) -> str:
    """What to do about image files of an extension that are not read here; '' if nothing is known."""
    for name, extensions in _FORMATS.items():
        if extension in extensions and name not in FORMATS:
            return _REMEDIES[name]
    return ''


def why_unreadable(encoded: bytes) -> str:
    """Why the content of a file is not read as an image, told by its first bytes."""
    start, brand = encoded[:64].lstrip().lower(), _BRANDS.get(encoded[8:12]) if encoded[4:8] == b'ftyp' else None
    if not encoded:
        return 'the file is empty'
    if start.startswith(b'version https://git-lfs'):
        return 'the file is a pointer of Git LFS; git lfs pull fetches the image'
    if start.startswith((b'<!doctype html', b'<html')):
        return 'the file is a web page, not an image'
    if brand and brand not in FORMATS:
        return f'no image in a supported format, but {brand}: {_REMEDIES[brand]}'
    kind = brand or next((kind for magic, kind in _STARTS.items() if encoded.startswith(magic)), None)
    return f'a damaged {kind}, or one of a kind that Pillow does not read' if kind else 'no image in a supported format'
