"""Four simulated devices for every test, so that meshes up to (2, 2) can be tried on any machine."""

from alexnet_jax.devices import choose_platform

choose_platform(simulated=4)
