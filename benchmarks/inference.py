"""Photographs to features of fc7: `--mode=features` beside a script of PyTorch, each a whole process.

    python -m benchmarks.inference --directory=PHOTOGRAPHS

The photographs are the JPEGs below the directory; without one they are those of `prepare.py`. The network is the
paper's with the parameters that training begins with. Both sides start, read the network, decode and rescale the
photographs as in section 2, compute the features and write them: PyTorch's (`torch_features.py`) with a DataLoader,
Pillow and as many workers as cores, channels last. Ours also stores each image as JPEG and reads it back, as training
does. The sides take turns; the first round, in which programs are compiled and kept, does not count, and of the others
the least time does.
"""

import argparse
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from rich.console import Console

from alexnet_jax.config import Config
from alexnet_jax.data.dataset import PreparedDataSet
from alexnet_jax.data.opening import settings_of
from alexnet_jax.data.placing import link
from alexnet_jax.runs.build import build, first_state
from alexnet_jax.runs.parameters_file import write_network
from alexnet_jax.runtime.devices import available_cores
from benchmarks.gpu import devices_here
from benchmarks.photographs import photographs
from experiments import digits, paper

EXPERIMENTS = {'paper': paper, 'digits': digits}
ROOT = pathlib.Path(__file__).parents[1]


def write_untrained(workdir: str, config: Config) -> None:
    """Writes a network with its first parameters, as `--mode=export` would."""
    size, names = config.data.image_size, tuple(map(str, range(config.network[-1][1].units)))
    colors = [0.0] * 3, np.eye(3).tolist()
    data = PreparedDataSet(
        pathlib.Path(workdir), settings_of(config.data), names, names, {'train': [], 'validation': []}, 0, *colors
    )
    parameters = jax.device_get(first_state(build(config)).parameters)
    write_network(workdir, config, data, np.full((size, size, 3), 127.5, np.float32), parameters)


def ours(workdir: str, folder: pathlib.Path, output: pathlib.Path) -> tuple[float, np.ndarray]:
    """Seconds of a process of `--mode=features`, and the features."""
    own = [f'--workdir={workdir}', '--mode=features', '--layer=fc7', f'--images={folder}', f'--output={output}']
    start = time.perf_counter()
    subprocess.run([sys.executable, 'launch.py', *own], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    (found,) = output.glob('features/*/values.npy')
    return seconds, np.load(found)


def with_torch(kind: str, workdir: str, folder: pathlib.Path, output: pathlib.Path) -> tuple[float, np.ndarray]:
    """Seconds of a process of `torch_features.py` without its imports of this software, and the features."""
    command = [sys.executable, '-m', 'benchmarks.torch_features', workdir, f'{output}.npy', *kind.split(), str(folder)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    seconds = time.perf_counter() - start
    return seconds - float(done.stdout.split()[-1]), np.load(f'{output}.npy')


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """The least correlation of an image's features on two sides, [images, values] each, less their mean over images."""
    one, other = (values.astype(np.float64) - values.mean(0, np.float64) for values in (one, other))
    return float(((one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).min())


def main() -> None:
    """Measures in turns, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--directory', default='', help='where JPEGs are, in folders of any depth')
    parser.add_argument('--images', type=int, default=1000, help='how many, at most')
    parser.add_argument('--rounds', type=int, default=3, help='that count')
    parser.add_argument('--experiment', default='paper', choices=EXPERIMENTS, help='whose network')
    kinds = ['eager whole', 'eager draft', 'compiled draft']
    parser.add_argument('--rivals', nargs='*', default=kinds, help="PyTorch's kinds, as in torch_features.py")
    options = parser.parse_args()
    console = Console(width=120, highlight=False)
    jax.config.update('jax_platforms', 'cpu')  # of this process alone, so that those that are measured find memory free
    console.print('{}, {} of them'.format(*devices_here()))
    has_torch = importlib.util.find_spec('torch') is not None
    if not has_torch:
        console.print('PyTorch is not installed: only our side is measured.')
    best: dict[str, float] = {}
    features: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        workdir, folder, written = str(root / 'network'), root / 'photographs', root / 'written'
        folder.mkdir()
        written.mkdir()
        for number, path in enumerate(photographs(written, options.directory, options.images)):
            link(path, folder / f'{number:06d}.jpg')
        count = len(list(folder.iterdir()))
        write_untrained(workdir, Config.from_fields(EXPERIMENTS[options.experiment].get_config()))
        for number in range(options.rounds + 1):
            for kind in ['ours', *(options.rivals if has_torch else ())]:
                output = root / f'{kind}-{number}'.replace(' ', '-')
                seconds, found = (
                    ours(workdir, folder, output) if kind == 'ours' else with_torch(kind, workdir, folder, output)
                )
                features[kind] = found
                best[kind] = min(seconds, best.get(kind, seconds)) if number > 1 else seconds
    size = f'{count:,} photographs, {available_cores()} cores'
    for kind, seconds in best.items():
        times = ''
        if kind != 'ours':
            same = correlation(features['ours'], features[kind])
            times = f'; ours is {seconds / best["ours"]:.2f} times as fast, and the features correlate at {same:.3f}'
        console.print(f'{kind}: {count / seconds:.1f} images/s, {seconds:.1f} s for {size}{times}', soft_wrap=True)


if __name__ == '__main__':
    main()
