"""Compiling for GPUs that are not present: descriptions of GPUs for XLA, and our training step compiled for them.

XLA's CUDA plugin, which the requirements include on Linux, compiles without a device from a description of one. It
cannot autotune then: it takes its defaults for matrix products, and leaves the choice of a convolution's algorithm, and
so the algorithm's scratch memory, to run time. With `attached` the program is compiled for this machine's GPU.
"""

import dataclasses
from typing import Any

import jax
from jax.experimental import topologies

from alexnet_jax.commands.inspect import lowered_step
from alexnet_jax.config import Config
from alexnet_jax.model.columns import check_batch, columns_on, make_mesh
from alexnet_jax.runs.build import Experiment, build
from alexnet_jax.runtime.errors import UserError

ATTACHED = 'attached'
_NO_AUTOTUNING = {'xla_gpu_autotune_level': 0}  # as it needs the device


@dataclasses.dataclass(frozen=True)
class GPU:
    """A GPU, by its published figures.

    Attributes:
      name: the maker's.
      capability: CUDA compute capability, (major, minor).
      multiprocessors, lanes, clock: how many, float32 units in each, and GHz at most.
      memory: bytes.
      bandwidth: of the memory, bytes a second.
      l2: bytes of the second-level cache.
      shared, shared_block: bytes of shared memory of a multiprocessor, and of it those that one block may have.
      threads: resident on a multiprocessor at most.
      float32, bfloat16: floating point operations a second of matrix products: float32 as XLA computes them by
        default, in TF32 where the hardware has it; bfloat16 dense, 0 where tensor cores lack it.
      link: bytes a second from another GPU, in one direction, all links together.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    lanes: int
    clock: float
    memory: float
    bandwidth: float
    l2: int
    shared: int
    shared_block: int
    threads: int
    float32: float
    bfloat16: float
    link: float

    @property
    def vector(self) -> float:
        """Float32 operations a second outside matrix products."""
        return 2 * self.multiprocessors * self.lanes * self.clock * 1e9


# From NVIDIA's data sheets of the products; caches, threads and shared memory from its tuning guides and the table
# "Technical Specifications per Compute Capability" of the CUDA C++ Programming Guide. Matrix rates without sparsity.
GPUS = {
    'h200': GPU(
        'NVIDIA H200', (9, 0), 132, 128, 1.98, 141e9, 4.8e12, 50 * 2**20, 233472, 232448, 2048,
        float32=494e12, bfloat16=989e12, link=450e9,  # NVLink 4: 900 GB/s both ways together
    ),
    'h100': GPU(
        'NVIDIA H100 80GB HBM3', (9, 0), 132, 128, 1.98, 80e9, 3.35e12, 50 * 2**20, 233472, 232448, 2048,
        float32=494e12, bfloat16=989e12, link=450e9,
    ),
    'a100': GPU(
        'NVIDIA A100-SXM4-80GB', (8, 0), 108, 64, 1.41, 80e9, 2.039e12, 40 * 2**20, 167936, 166912, 2048,
        float32=156e12, bfloat16=312e12, link=300e9,  # NVLink 3: 600 GB/s both ways together
    ),
    'rtx3090': GPU(
        'NVIDIA GeForce RTX 3090', (8, 6), 82, 128, 1.695, 24e9, 936e9, 6 * 2**20, 102400, 101376, 1536,
        float32=35.6e12, bfloat16=71e12, link=16e9,  # PCIe 4 x16 halved, as traffic passes through the host
    ),
    't4': GPU(
        'Tesla T4', (7, 5), 40, 64, 1.59, 16e9, 320e9, 4 * 2**20, 65536, 65536, 1024,
        float32=8.1e12, bfloat16=0, link=8e9,  # PCIe 3 x16 halved; tensor cores of float16, not of bfloat16
    ),
}  # fmt: skip


def description(gpu: GPU) -> str:
    """A GPU as XLA's `GpuTargetConfigProto`, in protobuf's text form."""
    major, minor = gpu.capability
    return f"""
gpu_device_info {{
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  core_count: {gpu.multiprocessors}
  fpus_per_core: {gpu.lanes}
  clock_rate_ghz: {gpu.clock}
  device_memory_size: {gpu.memory:.0f}
  memory_bandwidth: {gpu.bandwidth:.0f}
  l2_cache_size: {gpu.l2}
  shared_memory_per_core: {gpu.shared}
  shared_memory_per_block: 49152  # without opting in, on every GPU
  shared_memory_per_block_optin: {gpu.shared_block}
  threads_per_core_limit: {gpu.threads}
  threads_per_block_limit: 1024
  threads_per_warp: 32
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}}
platform_name: "CUDA"
runtime_version {{ major: 12 minor: 9 }}
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{gpu.name}"
"""


def devices(name: str, count: int) -> list[Any]:
    """`count` devices to compile for; those of `GPUS` cannot run programs.

    Args:
      name: a key of `GPUS`, or 'attached' for the GPUs of this machine.
      count: how many.

    Raises:
      UserError: the CUDA plugin is not installed, or there is no such GPU.
    """
    if name == ATTACHED:
        if jax.devices()[0].platform != 'gpu':
            raise UserError(f'--gpu={ATTACHED}: there is no GPU here; name one of {", ".join(GPUS)}.')
        return jax.devices()
    try:
        topology = topologies.get_topology_desc(
            name, platform='cuda', target_config=description(GPUS[name]), topology=f'1x1x{count}'
        )
    except NotImplementedError as error:  # what JAX says of a platform that no plugin has registered
        raise UserError(
            "XLA's CUDA plugin, which compiles for GPUs, is not installed; it exists for Linux: "
            'pip install -r requirements.txt.'
        ) from error
    return topology.devices


def experiment_on(config: Config, gpu: str) -> Experiment:
    """A config's experiment on a mesh of such GPUs; 0 along an axis of its mesh means 1.

    Raises:
      UserError: a field does not make sense, or the GPU cannot be had.
    """
    data, column = max(1, config.mesh.data), max(1, config.mesh.column)
    # Everything but the mesh, of which this machine may not have the devices, is checked and built as for training.
    experiment = build(config.replace(**{'mesh.data': 1, 'mesh.column': 1}))
    mesh = make_mesh(config.columns, data, column, devices(gpu, data * column))
    check_batch(config.batch_size, mesh)
    if config.batch_size % (data * config.accumulation_steps):
        raise UserError(
            f'config.batch_size={config.batch_size} cannot be taken in config.accumulation_steps='
            f"{config.accumulation_steps} equal parts on each of {data} device(s) along 'data'."
        )
    network = experiment.network.clone(columns=columns_on(mesh, config.columns), convolve=None)
    return dataclasses.replace(experiment, config=config, mesh=mesh, network=network)


def compiled(experiment: Experiment, gpu: str, options: dict[str, Any] | None = None) -> jax.stages.Compiled:
    """The training step of an `experiment_on` a GPU, compiled for it, with further options for XLA."""
    own = {} if gpu == ATTACHED else _NO_AUTOTUNING
    return lowered_step(experiment).compile(compiler_options=own | (options or {}))
