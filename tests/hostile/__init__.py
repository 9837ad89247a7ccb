"""Hostile inputs, each with the way it is to be met: what `test_hostile.py` runs."""

import functools

from hostile.commands import command_cases
from hostile.data_sets import data_cases
from hostile.ground import _CASES, MODES, Case, Place, console, import_everything, make_base, reuse_programs, text_of
from hostile.pictures import names, pictures, special_files
from hostile.runs import run_cases
from hostile.tars import tar_cases

__all__ = ['MODES', 'Case', 'Place', 'cases', 'console', 'import_everything', 'make_base', 'reuse_programs', 'text_of']


@functools.cache
def cases():
    """All cases."""
    pictures()
    special_files()
    names()
    tar_cases()
    data_cases()
    run_cases()
    command_cases()
    return tuple(_CASES)
