"""Reading files that may hold anything: no pipe is waited for, no endless device read, no nesting followed for ever."""

import json
import os
import pathlib
import stat
from typing import Any

LARGEST = 2**28  # bytes; no image, manifest or list of names comes near it


def read_file(path: str | bytes | pathlib.Path) -> bytes:
    """Reads a whole file.

    Raises:
      ValueError: it is no plain file, or larger than 268 MB.
      OSError: it cannot be read.
    """
    with open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError('it is no plain file')
        if status.st_size > LARGEST:
            raise ValueError(f'{status.st_size:,} bytes are more than {LARGEST:,}')
        return file.read(LARGEST)


def read_json(path: str | pathlib.Path) -> Any:
    """Reads a JSON file.

    Raises:
      ValueError: it holds something else; or as of `read_file`.
      OSError: it cannot be read.
    """
    try:
        return json.loads(read_file(path))
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error
