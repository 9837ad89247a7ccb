"""Whether the files of a prepared data set are those that its manifest names."""

import hashlib

from rich.console import Console

from alexnet_jax.data.dataset import MEAN_IMAGE, PreparedDataSet
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.progress_bar import Display

_BLOCK = 1 << 22  # bytes read at a time


def damaged_files(data: PreparedDataSet, console: Console) -> dict[str, str]:
    """Reads all files of a data set and compares their checksums with the manifest's.

    Returns:
      For each file that differs, how: {name: reason}.

    Raises:
      UserError: the system cannot read a file that is there.
    """
    sums = {name: (size, sha256) for name, (size, sha256) in data.checksums.items()}
    if not sums:  # by an earlier version
        shards = [shard for of_split in data.shards.values() for shard in of_split]
        sums = {shard['file']: (None, shard['sha256']) for shard in shards}
    found = {}
    try:
        data.mean_image()
    except UserError as error:
        found[MEAN_IMAGE] = str(error)
    paths = {name: data.directory / name for name in sums}
    total = sum(path.stat().st_size for path in paths.values() if path.is_file()) // 1_000_000
    with Display(console, total, 0, name='checking', unit='MB') as display:
        done = 0
        for name, (size, sha256) in sums.items():
            digest = hashlib.sha256()
            try:
                with paths[name].open('rb') as file:
                    while block := file.read(_BLOCK):
                        digest.update(block)
                        done += len(block)
                        display.update(done // 1_000_000)
                    end = file.tell()
            except FileNotFoundError:
                found[name] = 'it is missing'
                continue
            except OSError as error:
                raise UserError(f'{paths[name]} cannot be read: {error.strerror}.') from error
            if size is not None and end != size:
                found[name] = f'it has {end:,} bytes instead of {size:,}'
            elif digest.hexdigest() != sha256:
                found[name] = 'its checksum differs'
    return found
