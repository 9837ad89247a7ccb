"""The start of a command: its devices, its console, and a plain message where memory runs out."""

import contextlib
import os
import re
from collections.abc import Iterator

from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.runtime.compilation_cache import enable_compilation_cache
from alexnet_jax.runtime.devices import choose_platform, multiplies_in_tf32, settle_numerics
from alexnet_jax.runtime.errors import UserError, say
from alexnet_jax.runtime.quiet import silence_checkpoint_libraries

_MOST_SIMULATED = 1024  # devices
_WIDTH, _LEAST_WIDTH = 120, 20  # characters of a console


def start(config: Config | None, to_stderr: bool = False, processes: int = 1) -> Console:
    """Chooses the devices, reports them, and returns the console to print to.

    On the CPU, as many devices are simulated as `config.mesh` asks for, over all `processes`, of which only the first
    prints.
    """
    from alexnet_jax.runtime.distributed import is_leader

    simulated = max(1, config.mesh.data) * max(1, config.mesh.column) if config else 1
    if simulated > _MOST_SIMULATED:
        raise UserError(f'config.mesh: {simulated:,} devices; at most {_MOST_SIMULATED:,} can be had.')
    notes = settle_numerics()
    line = choose_platform(simulated=simulated, processes=processes, plugins=False)
    console = new_console(to_stderr=to_stderr, quiet=not is_leader())
    for text in (line, *notes, *_precision_note(config)):
        say(console, text)
    # Of several processes JAX lets only the first write, so that others may have to compile what it has: together or
    # not at all, as a GPU's kernels may be chosen by all of them at once.
    silence_checkpoint_libraries()
    problem = enable_compilation_cache() if processes == 1 else None
    if problem:
        say(console, problem)
    return console


def new_console(to_stderr: bool = False, quiet: bool = False) -> Console:
    """A console as wide as its terminal, or as COLUMNS says; without either there is room for tables.

    It is interactive, with a moving progress bar, on a terminal that can draw one, whatever FORCE_COLOR says.
    """
    console = Console(stderr=to_stderr, quiet=quiet)
    console.is_interactive = console.file.isatty() and not console.is_dumb_terminal
    if not console.file.isatty() and not os.environ.get('COLUMNS', '').isdigit():
        console.width = _WIDTH  # nobody's window
    if console.width < _LEAST_WIDTH:
        console.width = _LEAST_WIDTH
    return console


def _precision_note(config: Config | None) -> list[str]:
    """A line where a GPU's products of float32 are not float32's."""
    if config is None or config.precision != 'float32' or not multiplies_in_tf32():
        return []
    return [
        'This GPU multiplies float32 in TF32, with 10 bits of mantissa; JAX_DEFAULT_MATMUL_PRECISION=float32 has it '
        'use all 23, more slowly.'
    ]


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Turns a lack of memory on the devices, and what JAX_DEBUG_NANS finds, into a plain message."""
    import jax  # not above: a mistake in a flag is found before anything that takes long to import

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not re.search('RESOURCE_EXHAUSTED|[Oo]ut of memory', str(error)):
            raise
        raise UserError(
            f'the devices have not enough memory: {str(error).splitlines()[0]:.200}. Lower config.batch_size, or make '
            'the network smaller.'
        ) from error
    except FloatingPointError as error:
        first = str(error).splitlines()[0][:200]
        raise UserError(f'JAX_DEBUG_NANS stops where a value is not finite: {first} Unset it to go on.') from error
