"""Choice of JAX's devices, to be made before the first of them is used; memory and processor cores."""

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from alexnet_jax.runtime.errors import UserError

if TYPE_CHECKING:
    import jax

_AMPERE = 8  # compute capability of the first GPUs that have TF32
_NUMERICS = {
    'jax_enable_x64': False,
    'jax_numpy_rank_promotion': 'allow',
    'jax_numpy_dtype_promotion': 'standard',
    'jax_disable_jit': False,
}
_MALLOC_OPTIONS = {-1: -1, -4: 0, -8: 1}  # of <malloc.h>: never trim, never map, one arena


def choose_platform(simulated: int = 0, processes: int = 1, *, plugins: bool = True) -> str:
    """Chooses the CPU where there is no accelerator, so that no plugin fails for want of an NVIDIA driver.

    Other accelerators, for which a plugin of JAX is installed, are left to JAX.

    Where the CPU is used, `simulated` devices are simulated over all `processes`; 0 is for one. Without `plugins` those
    of JAX are not loaded then: NVIDIA's libraries take 200 MB, and serve to compile for GPUs that are not there.

    Returns:
      A line for the user that says what is used.

    Raises:
      UserError: JAX_PLATFORMS asks for devices that are not there, or XLA_FLAGS holds flags that XLA does not know.
    """
    import jax  # late: importing it takes a while, and mistakes on the command line are found first

    if problem := _refused_xla_flags():
        raise UserError(problem)
    config: Any = jax.config  # its attributes are made at run time
    chosen = os.environ.get('JAX_PLATFORMS', '') or config.jax_platforms or ''
    has_driver = _has_nvidia_driver()
    if not chosen and not has_driver and not _other_accelerators():
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
        with contextlib.nullcontext() if plugins or chosen != 'cpu' else _without_plugins():
            devices = jax.devices()
    except RuntimeError as error:
        raise UserError(f'JAX_PLATFORMS={chosen} is not available: {str(error).splitlines()[0]}') from error
    in_processes = f', in {processes} processes' if processes > 1 else ''
    if devices[0].platform == 'cpu':
        reason = 'JAX finds no GPU' if has_driver else 'no NVIDIA driver found'
        reason = reason if has_driver or chosen else f'JAX finds no device for {", ".join(_other_accelerators())}'
        reason = 'as JAX_PLATFORMS asks' if os.environ.get('JAX_PLATFORMS') else reason
        simulation = f', simulating {len(devices)} devices' if len(devices) > 1 else ''
        return f'Running on the CPU ({reason}){simulation}{in_processes}.'
    kinds = ', '.join(sorted({device.device_kind for device in devices}))
    tested = '' if devices[0].platform in ('gpu', 'cuda') and has_driver else '; tested on CPUs and NVIDIA GPUs alone'
    return f'Running on {len(devices)} device(s): {kinds}{in_processes}{tested}.'


def keep_freed_memory() -> None:
    """Lets glibc's malloc keep freed memory, in one arena; without glibc it does nothing.

    Otherwise a step on a CPU returns gigabytes to the system and gets them back page by page, a fifth of the time of
    the paper's network. To be called before the first thread allocates.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt:
        for option, value in _MALLOC_OPTIONS.items():
            mallopt(option, value)


def release_freed_memory() -> None:
    """Gives the memory that has been freed so far back to the system; without glibc it does nothing."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim:
        trim(0)


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


def settle_numerics() -> list[str]:
    """Undoes settings of JAX's in the environment that are for other programs, or for debugging JAX.

    What is computed, and in which precision, the config says; so results do not depend on them. To be called before
    anything is computed.

    Returns:
      For the user, a line for each that was undone.
    """
    import jax

    config: Any = jax.config
    undone = []
    for name, ours in _NUMERICS.items():
        if getattr(config, name) != ours:
            undone.append(f'{name.upper()} is ignored: what is computed, and how precisely, the config alone says.')
            config.update(name, ours)
    return undone


def multiplies_in_tf32() -> bool:
    """Whether products of float32 are rounded to TF32: on NVIDIA GPUs since Ampere, if JAX is not told otherwise."""
    import jax

    config: Any = jax.config
    device = jax.local_devices()[0]
    capability = str(getattr(device, 'compute_capability', '0')).split('.')[0]
    is_new = device.platform == 'gpu' and capability.isdigit() and int(capability) >= _AMPERE
    return is_new and config.jax_default_matmul_precision in (None, 'default', 'fastest', 'tensorfloat32', 'high')


def _other_accelerators() -> list[str]:
    """Plugins of JAX for other devices than NVIDIA's, by name."""
    plugins = {point.name for point in importlib.metadata.entry_points(group='jax_plugins')}
    found = sorted(name for name in plugins if 'cuda' not in name)
    return found + ['tpu'] * (importlib.util.find_spec('libtpu') is not None)


@contextlib.contextmanager
def _without_plugins() -> Iterator[None]:
    """Blocks the import of JAX's plugins, which JAX takes for not installed."""
    modules = {point.value for point in importlib.metadata.entry_points(group='jax_plugins')} - set(sys.modules)
    blocked: dict[str, Any] = dict.fromkeys(modules)  # Python's own way to block an import
    sys.modules.update(blocked)
    try:
        yield
    finally:
        for module in modules:
            del sys.modules[module]


def _refused_xla_flags() -> str:
    """What is wrong with XLA_FLAGS; '' if nothing.

    XLA ends a process that has flags which it does not know, and so a copy of this one reads them first.
    """
    given = os.environ.get('XLA_FLAGS', '').strip()
    if not given or sys.platform != 'linux':
        return ''
    from jaxlib import xla_client

    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of threads, such as NumPy's, which the copy does not need
        copy = os.fork()
    if not copy:
        os.dup2(writing, 2)
        try:
            xla_client.CompileOptions()
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, errors='replace') as file:
        said = file.read()
    if os.waitpid(copy, 0)[1] == 0:
        return ''
    unknown = re.search(r'Unknown flags? in XLA_FLAGS: *(.*)', said)
    which = unknown[1] if unknown else given
    version = importlib.metadata.version('jaxlib')
    return f'XLA_FLAGS={given}: XLA, as in jaxlib {version}, does not know {which}; take it out.'


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL('libcuda.so.1')
    except OSError:
        return False
    return True
