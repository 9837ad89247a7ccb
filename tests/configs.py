"""Configs of experiments, as tests change them, to the typed ones that the software takes."""

from alexnet_jax.config import Config


def typed(config):
    """A ConfigDict checked; a Config as it is."""
    return config if isinstance(config, Config) else Config.from_fields(config)


def table_of(network):
    """A network's table from the fields of its layers, as `config.network` has them."""
    return Config.from_fields({'network': network}).network
