"""Which devices JAX may use; to be settled before the first of them is touched."""

import ctypes
import logging
import os
from typing import TYPE_CHECKING

from alexnet_jax.runtime.errors import UserError

if TYPE_CHECKING:
    import jax

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # what <malloc.h> calls them


def choose_platform(simulated: int = 0, processes: int = 1) -> str:
    """Chooses the CPU where there is no NVIDIA driver, so that no plugin stumbles over its absence.

    Args:
      simulated: CPU devices to make over all processes, where the CPU is used; 0 for one.
      processes: of this run.

    Returns:
      One line that says what is used, for the user.

    Raises:
      UserError: JAX_PLATFORMS asks for devices that are not there.
    """
    import jax  # not above: a mistake on the command line is found before it, which takes a while to import

    chosen = os.environ.get('JAX_PLATFORMS', '') or jax.config.jax_platforms or ''
    if not chosen and not _has_nvidia_driver():
        chosen = 'cpu'
        jax.config.update('jax_platforms', chosen)
    if {'cuda', 'gpu'} & set(chosen.split(',')) and not _has_nvidia_driver():
        raise UserError(f'JAX_PLATFORMS={chosen} asks for a GPU, and there is no NVIDIA driver; unset it.')
    # JAX warns that a GPU may be present on this machine; that is what was just looked into.
    logging.getLogger('jax._src.xla_bridge').setLevel(logging.ERROR)
    simulated //= processes
    if chosen.split(',')[0] == 'cpu':
        keep_freed_memory()
        if simulated > 1:
            jax.config.update('jax_num_cpu_devices', simulated)
    try:
        devices = jax.devices()
    except RuntimeError as error:
        raise UserError(f'JAX_PLATFORMS={chosen} cannot be had: {str(error).splitlines()[0]}') from error
    together = f', in {processes} processes' if processes > 1 else ''
    if devices[0].platform == 'cpu':
        reason = 'JAX finds no GPU' if _has_nvidia_driver() else 'no NVIDIA driver found'
        reason = 'as JAX_PLATFORMS asks' if os.environ.get('JAX_PLATFORMS') else reason
        simulation = f', simulating {len(devices)} devices' if len(devices) > 1 else ''
        return f'Running on the CPU ({reason}){simulation}{together}.'
    kinds = ', '.join(sorted({device.device_kind for device in devices}))
    return f'Running on {len(devices)} device(s): {kinds}{together}.'


def keep_freed_memory() -> None:
    """Has the C library keep what is freed, for all threads together; where it is not glibc nothing is done.

    Otherwise a step on a CPU gives gigabytes back to the system, and gets them again page by page: a fifth of the time
    of the paper's network. To be called before the first thread allocates.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt:
        for name, value in ((_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0), (_ARENA_MAX, 1)):  # never, none, one
            mallopt(name, value)


def memory_of(device: 'jax.Device') -> int:
    """Bytes of memory that a device has; all of the machine's for a CPU."""
    statistics = device.memory_stats() or {}
    if 'bytes_limit' in statistics:
        return statistics['bytes_limit']
    if 'SC_PHYS_PAGES' in os.sysconf_names:
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    return 2**40


def available_cores() -> int:
    """Processor cores that this process may use; where the system does not say, those that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL('libcuda.so.1')
    except OSError:
        return False
    return True
