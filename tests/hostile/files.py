"""Special files in place of pictures, and hostile names of files and classes."""

import os
import shutil

from hostile.ground import GOOD, Case
from hostile.pictures import JPEG


def sparse(path):
    path.write_bytes(JPEG[:300])
    os.truncate(path, 40 << 30)


def link(to):
    return lambda path: path.symlink_to(to)


# How each is made, and whether it is named where it is found among pictures to prepare; else it is left out.
KINDS = {
    'a pipe': (os.mkfifo, False),
    'a link to a pipe': (lambda path: (os.mkfifo(pipe := path.with_suffix('.pipe')), path.symlink_to(pipe)), False),
    'a link to /dev/zero': (link('/dev/zero'), False),
    'a link to /dev/stdin': (link('/dev/stdin'), False),
    'a link to nowhere': (link('nowhere'), True),
    'a link to itself': (link('bad.jpg'), True),
    'a file of 40 GB': (sparse, True),
    'an empty folder': (os.mkdir, False),
    'a folder that leads back': (lambda path: (path.mkdir(), (path / 'x').symlink_to('..')), False),
    'a socket': (lambda path: os.mknod(path, 0o140600), False),
    'a link out': (link('../../../outside/secret.txt'), True),
}
NAMES = {
    'of two lines': b'two\nlines.jpg',
    'with quotes': b'it\'s "so".jpg',
    'with escape codes': b'\x1b[31mred\x1b[0m\x1b]0;title\x07.jpg',
    'with carriage returns': b'good\rbad\x08\x7f.jpg',
    'that is no text': b'caf\xe9\xff.jpg',
    'with C1 controls': 'a\x9b31mb\x85c.jpg'.encode(),
    'with markup': b'[red]x[bold].jpg',
    'with a link in markup': b'[link=file:..]x.jpg',
    'of 250 characters': b'n' * 246 + b'.jpg',
    'of 250 bytes, two a letter': 'ü'.encode() * 123 + b'.jpg',
    'with braces and percents': b'{0} %s %n ${HOME} `ls`.jpg',
    'like a flag': b'--mode=train.jpg',
    'from right to left': '\u202egpj.exe\u202c.jpg'.encode(),
}


def preparing(put):
    """Prepares a folder of pictures to which `put(folder)` has been."""

    def make(place):
        put(place.folder())
        return {'config': place.prepare_config()}

    return make


def asking(put, whole_folder=False, **more):
    """Gives what `put(images)` returns, or the whole folder, to a run."""

    def make(place):
        place.copy_run()
        image = put(place.images)
        return {'images': [str(place.images) if whole_folder else os.fsdecode(image)], **more}

    return make


def below(folder, *parts):
    return os.path.join(os.fsencode(folder), *parts)


def special_files():
    for name, (make_file, named) in KINDS.items():

        def put(folder, make_file=make_file):
            make_file(folder / 'bad.jpg')
            return folder / 'bad.jpg'

        says = ('bad.jpg',) if named else None
        into = preparing(lambda source, put=put: put(source / 'train' / 'a'))
        yield Case(f'special file: {name}, among pictures to prepare', 'prepare', into, says)
        yield Case(f'special file: {name}, to predict', 'predict', asking(put), ('bad.jpg',))
        inside = asking(put, whole_folder=True)
        yield Case(f'special file: {name}, in a folder, for features', 'features', inside, ('{place}/images',))


def names():
    for what, name in NAMES.items():
        for kind, image in (('good', GOOD), ('broken', b'no picture')):

            def put(folder, name=name, image=image):
                with open(below(folder, name), 'wb') as file:
                    file.write(image)
                return below(folder, name)

            says = None if kind == 'good' else ('images cannot be read',)
            into = preparing(lambda source, put=put: put(source / 'train' / 'a'))
            yield Case(f'name {what}, {kind}, to prepare', 'prepare', into, says)
            odd = 'text' in what or 'codes' in what
            if kind == 'broken' or 'controls' in what or odd:
                yield Case(f'name {what}, {kind}, to predict', 'predict', asking(put, as_json=False), says)
            if kind == 'good' or odd:
                yield Case(f'name {what}, {kind}, for features', 'features', asking(put, whole_folder=True), says)

        def rename(source, name=name):
            os.rename(below(source, b'train', b'b'), below(source, b'train', name))
            shutil.rmtree(source / 'validation' / 'b')

        yield Case(f'name {what}, of a class', 'prepare', preparing(rename), None)
        empty = preparing(lambda source, name=name: os.mkdir(below(source, b'train', name)))
        yield Case(f'name {what}, of an empty class', 'prepare', empty, ('{place}/source/train',))


def cases():
    yield from special_files()
    yield from names()
