"""Hostile inputs, each with the way it is to be met: what `test_hostile.py` runs. One file a kind of input."""

import functools

from hostile import (
    archives,
    checkpoints,
    commands,
    configs,
    data_sets,
    files,
    parquets,
    pictures,
    tars,
    weights,
    workdirs,
)


@functools.cache
def cases():
    """All cases, by name."""
    kinds = (pictures, files, tars, archives, parquets, data_sets, configs, workdirs, checkpoints, weights)
    found = [case for kind in kinds for case in kind.cases()] + [*workdirs.ensembles(), *commands.cases()]
    by_name = {case.name: case for case in found}
    assert len(by_name) == len(found)
    return by_name
