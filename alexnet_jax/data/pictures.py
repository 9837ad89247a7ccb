"""A user's own image files, as the network takes them (section 2)."""

import collections
import concurrent.futures
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from alexnet_jax.data.images import normalized
from alexnet_jax.data.sources.folder import EXTENSIONS
from alexnet_jax.runtime.devices import available_cores
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import read_file


class Picture(NamedTuple):
    """An image file that was read, or why it was not.

    Attributes:
      path: of the file.
      pixels: uint8 [size, size, 3], RGB; None where the file cannot be read.
      error: what was wrong; '' where nothing was.
    """

    path: str
    pixels: np.ndarray | None
    error: str


def find_pictures(paths: Sequence[str]) -> list[str]:
    """The image files that a user named: files as they are, folders with all pictures in them, sorted.

    Args:
      paths: of files, of whatever extension, and of folders. In folders pictures are told by their extension
        (`folder.EXTENSIONS`); what begins with a dot is left out.

    Raises:
      UserError: nothing was named, or a path does not exist, or a folder holds no picture.
    """
    found = []
    for path in paths:
        if os.path.isdir(path):
            inside = sorted(
                os.path.join(place, name)
                for place, _, names in os.walk(path)
                for name in names
                if name.lower().endswith(EXTENSIONS) and not name.startswith('.')
            )
            if not inside:
                raise UserError(f'--images: the folder {path} holds no picture ({" ".join(EXTENSIONS)}).')
            found += inside
        elif os.path.exists(path):
            found.append(path)
        else:
            raise UserError(f'--images: there is no file {path}.')
    if not found:
        raise UserError('--images is missing: image files or folders, as in --images=cat.jpg,holiday/.')
    return found


def read_pictures(paths: Sequence[str], size: int, threads: int = 0) -> Iterator[Picture]:
    """Reads image files in order, some ahead, in threads.

    Args:
      paths: of the files.
      size: height and width to bring them to, in pixels.
      threads: 0 for one a core, up to 16.

    Yields:
      A picture for each path, also for those that cannot be read.
    """

    def read(path: str) -> Picture:
        try:
            return Picture(path, normalized(read_file(path), size), '')
        except (OSError, ValueError) as error:
            return Picture(path, None, getattr(error, 'strerror', None) or str(error))

    threads = threads or min(16, available_cores())
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        ahead: collections.deque[concurrent.futures.Future[Picture]] = collections.deque()
        for path in paths:
            ahead.append(pool.submit(read, path))
            if len(ahead) > 4 * threads:
                yield ahead.popleft().result()
        for picture in ahead:
            yield picture.result()
