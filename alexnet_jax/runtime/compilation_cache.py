"""What JAX compiles is kept on disk, so that a program's second start takes it from there."""

import contextlib
import hashlib
import os
import pathlib
import platform
import sys
import tempfile
import warnings
import zlib

_MOST = 2**30  # bytes; a program of the paper's network takes some hundred thousand
_CHECKED = 'checked'  # a file as old as the last look at the entries
_ZLIB = b'\x78'  # what JAX's entries begin with, unless another compression is installed


def keep_compiled(most: int = _MOST) -> str | None:
    """Lets JAX keep compiled programs in `default_directory`; before anything is compiled.

    Nothing is changed where the user has settled it, by JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE or
    JAX's configuration. Whatever befalls the directory later, such as a full disk, what cannot be kept is
    compiled anew, silently.

    Args:
      most: bytes that may be kept; what has not been used for longest goes first.

    Returns:
      A line for the user where nothing can be kept; None where all is well.
    """
    import jax

    if 'JAX_COMPILATION_CACHE_DIR' in os.environ or jax.config.jax_compilation_cache_dir is not None:
        return None
    if not jax.config.jax_enable_compilation_cache:
        return None
    try:
        directory = default_directory()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # private: what is in it will be run
        tidy(directory.parent, most)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(4096))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        why = error.strerror if isinstance(error, OSError) else error
        return f'Compiled programs cannot be kept for the next start: {why}; JAX_COMPILATION_CACHE_DIR names a place.'
    # An entry that cannot be read or written is compiled anew, which is all that could be said of it.
    warnings.filterwarnings('ignore', 'Error (reading|writing) persistent compilation cache entry')
    jax.config.update('jax_compilation_cache_dir', str(directory))
    if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
        # Small programs too: each takes a tenth of a second to compile and a thousandth to load.
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    return None


def default_directory() -> pathlib.Path:
    """Where the operating system wants such files, in a directory of this kind of processor.

    Home directories are shared by machines whose processors differ, and what is compiled for one may not run on
    another.

    Raises:
      RuntimeError: there is no home directory.
    """
    if os.environ.get('XDG_CACHE_HOME'):
        caches = pathlib.Path(os.environ['XDG_CACHE_HOME'])
    elif sys.platform == 'win32':
        caches = pathlib.Path(os.environ.get('LOCALAPPDATA') or pathlib.Path.home() / 'AppData' / 'Local')
    elif sys.platform == 'darwin':
        caches = pathlib.Path.home() / 'Library' / 'Caches'
    else:
        caches = pathlib.Path.home() / '.cache'
    return caches / 'alexnet_jax' / 'compiled' / hashlib.sha256(_processor().encode()).hexdigest()[:12]


def _processor() -> str:
    """The processor and its instructions, as far as the system tells."""
    lines = ''
    with contextlib.suppress(OSError):
        lines = pathlib.Path('/proc/cpuinfo').read_text()
    told = {line for line in lines.splitlines() if line.startswith(('model name', 'flags', 'Features', 'CPU part'))}
    return '\n'.join([platform.machine(), platform.processor(), *sorted(told)])


def tidy(directory: pathlib.Path, most: int) -> None:
    """Removes entries below a directory that were cut short, as by a power cut, and the oldest beyond `most` bytes.

    JAX would try in vain to load the former at every start. Only what is new since the last time is read.

    Raises:
      OSError: the directory cannot be read or written.
    """
    checked = directory / _CHECKED
    since = checked.stat().st_mtime if checked.exists() else 0.0
    checked.touch()
    entries = []
    for path in directory.rglob('*'):
        with contextlib.suppress(FileNotFoundError):  # another process tidies as well
            status = path.stat()
            if path == checked or not path.is_file():
                continue
            if status.st_mtime >= since and path.name.endswith('-cache') and not _whole(path):
                path.unlink()
            else:
                entries.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    size = sum(size for _, size, _ in entries)
    for _, one, path in sorted(entries):
        if size <= most:
            break
        path.unlink(missing_ok=True)
        size -= one


def _whole(path: pathlib.Path) -> bool:
    """Whether an entry of JAX's cache can be decompressed; of other compressions than zlib's it is taken on trust."""
    content = path.read_bytes()
    if not content.startswith(_ZLIB):
        return bool(content)
    try:
        zlib.decompress(content)
    except zlib.error:
        return False
    return True
