"""The config of a run that exists, as launch.py loads it where no --config is given: run_config.py:WORKDIR."""

from ml_collections import ConfigDict

from alexnet_jax.runs.workdir import read_config


def get_config(workdir: str) -> ConfigDict:
    """Every field that the run was made with, in the order of its layers."""
    return read_config(workdir)
