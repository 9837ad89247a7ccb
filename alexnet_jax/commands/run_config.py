"""The config of an existing run, as launch.py loads it without --config: run_config.py:WORKDIR."""

from ml_collections import ConfigDict

from alexnet_jax.config import config_dict
from alexnet_jax.runs.workdir import read_config


def get_config(workdir: str) -> ConfigDict:
    """All fields that the run was made with, in the order of its layers."""
    return config_dict(read_config(workdir).fields())
