"""Choice of JAX's devices, to be made before the first of them is used; memory and processor cores."""

import ctypes
import logging
import os
from typing import TYPE_CHECKING, Any

from alexnet_jax.runtime.errors import UserError

if TYPE_CHECKING:
    import jax

_MALLOC_OPTIONS = {-1: -1, -4: 0, -8: 1}  # of <malloc.h>: never trim, never map, one arena


def choose_platform(simulated: int = 0, processes: int = 1) -> str:
    """Chooses the CPU where there is no NVIDIA driver, so that no plugin fails for want of it.

    Where the CPU is used, `simulated` devices are simulated over all `processes`; 0 is for one.

    Returns:
      A line for the user that says what is used.

    Raises:
      UserError: JAX_PLATFORMS asks for devices that are not there.
    """
    import jax  # late: importing it takes a while, and mistakes on the command line are found first

    config: Any = jax.config  # its attributes are made at run time
    chosen = os.environ.get('JAX_PLATFORMS', '') or config.jax_platforms or ''
    has_driver = _has_nvidia_driver()
    if not chosen and not has_driver:
        chosen = 'cpu'
        config.update('jax_platforms', chosen)
    if {'cuda', 'gpu'} & set(chosen.split(',')) and not has_driver:
        raise UserError(f'JAX_PLATFORMS={chosen} asks for a GPU, and there is no NVIDIA driver; unset it.')
    # JAX warns that a GPU may be present on this machine, which has just been checked.
    logging.getLogger('jax._src.xla_bridge').setLevel(logging.ERROR)
    if chosen.split(',')[0] == 'cpu':
        keep_freed_memory()
        if simulated // processes > 1:
            config.update('jax_num_cpu_devices', simulated // processes)
    try:
        devices = jax.devices()
    except RuntimeError as error:
        raise UserError(f'JAX_PLATFORMS={chosen} is not available: {str(error).splitlines()[0]}') from error
    in_processes = f', in {processes} processes' if processes > 1 else ''
    if devices[0].platform == 'cpu':
        reason = 'JAX finds no GPU' if has_driver else 'no NVIDIA driver found'
        reason = 'as JAX_PLATFORMS asks' if os.environ.get('JAX_PLATFORMS') else reason
        simulation = f', simulating {len(devices)} devices' if len(devices) > 1 else ''
        return f'Running on the CPU ({reason}){simulation}{in_processes}.'
    kinds = ', '.join(sorted({device.device_kind for device in devices}))
    return f'Running on {len(devices)} device(s): {kinds}{in_processes}.'


def keep_freed_memory() -> None:
    """Lets glibc's malloc keep freed memory, in one arena; without glibc it does nothing.

    Otherwise a step on a CPU returns gigabytes to the system and gets them back page by page, a fifth of the time of
    the paper's network. To be called before the first thread allocates.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt:
        for option, value in _MALLOC_OPTIONS.items():
            mallopt(option, value)


def memory_of(device: 'jax.Device') -> int:
    """Memory of a device in bytes; for a CPU all of the machine's."""
    statistics = device.memory_stats() or {}
    if 'bytes_limit' in statistics:
        return int(statistics['bytes_limit'])
    if 'SC_PHYS_PAGES' in os.sysconf_names:
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    return 2**40


def available_cores() -> int:
    """Processor cores that this process may use; where the system does not say, those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL('libcuda.so.1')
    except OSError:
        return False
    return True
