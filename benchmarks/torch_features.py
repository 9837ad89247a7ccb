"""PyTorch's side of `inference.py`: the features of photographs by a DataLoader with Pillow and the same network.

    python -m benchmarks.torch_features WORKDIR OUTPUT eager|compiled whole|draft FOLDER

WORKDIR holds a network as `--mode=export` leaves one; OUTPUT becomes an .npy file, float16 [photographs, values]. With
`draft` the JPEG library decodes large photographs at a fraction of their size, as ours does. The last line printed is
how long it took to import this software, which a script of PyTorch alone would not: it does not count.
"""

import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

_STARTED = time.perf_counter()
from safetensors.numpy import load_file  # noqa: E402 - timed

from alexnet_jax.evaluation.activations import activation_of  # noqa: E402
from alexnet_jax.runs.workdir import read_config, remembered_data  # noqa: E402
from alexnet_jax.runtime.devices import available_cores  # noqa: E402
from benchmarks import torch_alexnet  # noqa: E402

OUR_IMPORTS = time.perf_counter() - _STARTED
LAYER = 'fc7'


class Photographs(Dataset[torch.Tensor]):
    """Central patches of photographs, uint8 [crop, crop, 3]: section 2, one step after the other."""

    def __init__(self, paths: Sequence[str], size: int, crop: int, draft: bool) -> None:
        """Rescales to `size` pixels, of which `crop` are taken; see `draft` above."""
        self._paths, self._size, self._crop, self._draft = paths, size, crop, draft

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        """A photograph's patch."""
        file = Image.open(self._paths[index])
        if self._draft:
            file.draft('RGB', (4 * self._size, 4 * self._size))
        image = ImageOps.exif_transpose(file).convert('RGB')
        shorter = min(image.size)
        width, height = (round(side * self._size / shorter) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        left, top = (width - self._size) // 2, (height - self._size) // 2
        margin = (self._size - self._crop) // 2
        left, top = left + margin, top + margin
        return torch.from_numpy(np.array(image.crop((left, top, left + self._crop, top + self._crop))))


def features(workdir: str, paths: Sequence[str], *, compiled: bool, draft: bool, workers: int) -> np.ndarray:
    """Activations of fc7, float16 [photographs, values], in batches of the network's size."""
    config, data = read_config(workdir), remembered_data(workdir)
    table, crop, size = config.network, config.data.crop_size, data.image_size
    last = [name for name, _ in table].index(activation_of(table, LAYER))
    network = torch_alexnet.TorchAlexNet(table[: last + 1], config.columns, crop, written_out=True)
    arrays = load_file(pathlib.Path(workdir) / 'parameters.safetensors')
    network.load({name: {part: arrays[f'{name}.{part}'] for part in ('kernel', 'bias')} for name in network.layers})
    torch_alexnet.set_up()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    run = torch.compile(network, dynamic=False) if compiled else network
    margin, batch = (size - crop) // 2, min(config.batch_size, len(paths))
    mean = data.mean_image()[margin : margin + crop, margin : margin + crop]
    loader = DataLoader(Photographs(paths, size, crop, draft), batch, num_workers=workers)
    found = []
    with torch.no_grad():
        for images in loader:
            given = np.zeros((batch, crop, crop, 3), np.float32)  # as many always, or it would be compiled again
            given[: len(images)] = images.numpy() - mean
            x = torch.from_numpy(torch_alexnet.padded(given, table)).to(device, memory_format=torch.channels_last)
            found.append(run(x)[: len(images)].half().cpu().numpy())
    return np.concatenate(found)


def main() -> None:
    """Computes and writes."""
    workdir, output, kind, decoding, folder = sys.argv[1:]
    paths = sorted(map(str, pathlib.Path(folder).iterdir()))
    compiled, draft = kind == 'compiled', decoding == 'draft'
    np.save(output, features(workdir, paths, compiled=compiled, draft=draft, workers=available_cores()))
    print(OUR_IMPORTS)


if __name__ == '__main__':
    main()
