"""Paths that a user names, on the command line and in configs."""

import csv
import os
import re
from collections.abc import Sequence

_ADDRESS = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+://')


def local_path(text: str) -> str:
    """A path of a local file or directory, with '~' and '~USER' at its start expanded.

    Raises:
      ValueError: it is the address of something that is not local, such as gs://bucket/run; or there is no such user.
    """
    if _ADDRESS.match(text):
        raise ValueError(
            f'{text!r:.200} is an address; only local files and directories, mounted ones included, are used'
        )
    path = os.path.expanduser(text)
    if path.startswith('~'):
        user = text.split('/')[0]
        raise ValueError(f'{text!r:.200}: there is no home directory of {user!r}; a directory of that name is ./{user}')
    return path


def split_list(values: Sequence[str]) -> list[str]:
    """The items of a flag that takes several: given several times, or separated by commas.

    A value that is the name of an existing file as a whole is one item; other items with commas are quoted as in CSV,
    as in '"a,b.jpg",c.jpg'.
    """
    items = []
    for value in values:
        if os.path.lexists(os.path.expanduser(value)):
            items.append(value)
        else:
            items += [item.strip() for row in csv.reader([value], strict=True) for item in row]
    return items
