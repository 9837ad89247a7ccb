"""JAX's persistent compilation cache: where it is, and how it stays whole and small.

JAX's own limit, `jax_compilation_cache_max_size`, is not used: of an entry that was cut short, as by a power cut, it
never writes a new one, and one file missing beside an entry keeps it from writing any entry from then on.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import stat
import tempfile
import warnings
import zlib
from typing import Any

import platformdirs

_MAX_BYTES = 2**30  # a program of the paper's network takes some hundred thousand bytes
_CHECKED = 'checked'  # file whose age is that of the last look at the entries
_ZLIB = b'\x78'  # first byte of JAX's entries, unless another compression is installed


def enable_compilation_cache(max_bytes: int = _MAX_BYTES) -> str | None:
    """Lets JAX keep compiled programs in `default_directory`; to be called before anything is compiled.

    Nothing changes where the user has chosen, by JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE or JAX's
    configuration. Later problems, such as a full disk, only mean that programs are compiled again. Beyond `max_bytes`
    the least recently used entries are removed.

    Returns:
      A line for the user if the cache cannot be used; otherwise None.
    """
    import jax

    config: Any = jax.config  # its attributes are made at run time
    if 'JAX_COMPILATION_CACHE_DIR' in os.environ or config.jax_compilation_cache_dir is not None:
        return None
    if not config.jax_enable_compilation_cache:
        return None
    try:
        directory = default_directory()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in (directory, directory.parent, directory.parent.parent):
            _check_private(place)
        prune(directory.parent, max_bytes)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(4096))
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f'Compiled programs cannot be cached: {reason}; set JAX_COMPILATION_CACHE_DIR to another directory.'
    warnings.filterwarnings('ignore', 'Error (reading|writing) persistent compilation cache entry')
    config.update('jax_compilation_cache_dir', str(directory))
    if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
        # Small programs too: each takes a tenth of a second to compile and a thousandth to load.
        config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    return None


def _check_private(directory: pathlib.Path) -> None:
    """Raises RuntimeError where somebody else may write to a directory, whose contents will be executed."""
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
        raise RuntimeError(f'{directory} belongs to somebody else, or everybody may write to it')


def default_directory() -> pathlib.Path:
    """A directory for this kind of processor in the operating system's cache directory; RuntimeError if it has none.

    Machines that share home directories may have processors that cannot run each other's programs.
    """
    caches = platformdirs.user_cache_path('alexnet_jax', appauthor=False)
    if not caches.is_absolute():
        raise RuntimeError('there is no home directory')
    return caches / 'compiled' / hashlib.sha256(_processor().encode()).hexdigest()[:12]


def _processor() -> str:
    """Model and instruction sets of the processor, as far as the system tells."""
    lines = ''
    with contextlib.suppress(OSError):  # not Linux
        lines = pathlib.Path('/proc/cpuinfo').read_text()
    kind = {line for line in lines.splitlines() if line.startswith(('model name', 'flags', 'Features', 'CPU part'))}
    return '\n'.join([platform.machine(), platform.processor(), *sorted(kind)])


def prune(directory: pathlib.Path, max_bytes: int) -> None:
    """Removes entries below a directory that were cut short, and the least recently used beyond `max_bytes`.

    Only entries newer than the last call are read. Raises OSError.
    """
    checked = directory / _CHECKED
    since = checked.stat().st_mtime if checked.exists() else 0.0
    checked.touch()
    entries = []
    for path in directory.rglob('*'):
        with contextlib.suppress(FileNotFoundError):  # another process prunes too
            status = path.stat()
            if path == checked or not path.is_file():
                continue
            if status.st_mtime >= since and path.name.endswith('-cache') and not _is_whole(path):
                path.unlink()
            else:
                entries.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= max_bytes:
            break
        path.unlink(missing_ok=True)
        total -= size


def _is_whole(path: pathlib.Path) -> bool:
    """Whether an entry can be decompressed; other compressions than zlib's are trusted."""
    content = path.read_bytes()
    try:
        return bool(zlib.decompress(content) if content.startswith(_ZLIB) else content)
    except zlib.error:
        return False
