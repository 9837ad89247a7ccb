"""How training steps are given to the devices: compiled first, and one at a time where each would hold much memory."""

import time
from typing import Any

import jax

from alexnet_jax.runtime.devices import release_freed_memory

_MUCH_MEMORY = 2**27  # bytes; a step that takes fewer is so short that the host has to work ahead of it
_UNTIL_FREED = 0.002  # seconds


def compile_first(step: Any, *given: Any) -> jax.stages.Compiled:
    """Compiles a jitted step for its arguments before it is called with them, which does not compile it again.

    What the compiler and the making of the first state have freed, over half a gigabyte for the paper's network on a
    CPU, goes back to the system before the step takes memory of its own.
    """
    compiled: jax.stages.Compiled = step.lower(*given).compile()
    release_freed_memory()
    return compiled


def holds_memory(compiled: jax.stages.Compiled) -> bool:
    """Whether a step should be dispatched only when the last one has ended, as it would hold much memory until then.

    A CPU gives a step the memory of its temporary values, 2.6 GB for the paper's batches of 128, when it is dispatched;
    other devices when it begins.
    """
    (device, *_) = jax.tree.leaves(compiled.input_shardings)[0].device_set
    found = compiled.memory_analysis() if device.platform == 'cpu' else None
    return found is not None and found.temp_size_in_bytes > _MUCH_MEMORY


def finish(state: Any) -> None:
    """Waits until the step that computes a state has ended, and has freed its memory, which it does a moment later."""
    jax.block_until_ready(state)
    time.sleep(_UNTIL_FREED)
