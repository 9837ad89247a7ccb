"""Several processes, on one machine or many: joining, the leader, and stopping together."""

import contextlib
import faulthandler
import os
import re
import sys
import traceback
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from alexnet_jax.runtime.errors import StoppedError, UserError, plain_message

HEARTBEAT = 30  # seconds of silence after which a process counts as lost
_ADDRESS = re.compile(r'([\w.-]+|\[[0-9a-fA-F:]+\]):([1-9][0-9]{0,4})')
_LAST_PORT = 2**16 - 1
_AGAIN = 'Start all of them again; the run resumes from the latest checkpoint.'


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> int:
    """Joins the other processes of a run, if there are any; to be called before JAX looks for devices.

    Under SLURM (`srun`) and Open MPI (`mpirun`) the environment is enough; otherwise all arguments are needed:
    HOST:PORT of process 0, the number of processes, and the number of this one, from 0.

    Returns:
      The number of processes.

    Raises:
      UserError: an argument is missing, or the other processes cannot be reached.
    """
    given = [value is not None for value in (coordinator, processes, process)]
    found = _from_environment()
    if not any(given) and found is None:
        return 1
    automatic = not any(given) and ('SLURM_STEP_NODELIST' in os.environ or 'OMPI_MCA_orte_hnp_uri' in os.environ)
    if processes is not None and process is not None and coordinator is not None:
        count, number = processes, process
    elif found and (automatic or given == [True, False, False]):  # Open MPI 5 does not say where process 0 is
        count, number = found
    elif not any(given):
        raise UserError('Open MPI does not say where process 0 is; give --coordinator=HOST:PORT, a free port there.')
    else:
        raise UserError(
            '--coordinator=HOST:PORT, --processes=COUNT and --process=NUMBER belong together; give all three, or none '
            'under SLURM (srun) and Open MPI (mpirun).'
        )
    if coordinator is not None:
        address = _ADDRESS.fullmatch(coordinator)
        if address is None or int(address[2]) > _LAST_PORT:
            raise UserError(f'--coordinator={coordinator}: give HOST:PORT, as in node0:1234, with a port up to 65535.')
    if not 0 <= number < count:
        raise UserError(f'--process={number} must be from 0 to {count - 1}, as --processes={count}.')
    try:
        jax.distributed.initialize(
            coordinator,
            None if automatic else count,
            None if automatic else number,
            initialization_timeout=120,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=60,
        )
    except (RuntimeError, ValueError) as error:
        where = coordinator or 'the address that the environment gives'
        first = str(error).splitlines()[0]
        raise UserError(
            f'process {number} of {count} cannot join the others at {where}: {first}. Are all of them started?'
        ) from error
    faulthandler.disable()  # JAX aborts the others when a process is lost; the dump would tell nothing
    return count


def _from_environment() -> tuple[int, int] | None:
    """The number of processes and that of this one, if SLURM or Open MPI started several."""
    for count, number in (('SLURM_STEP_NUM_TASKS', 'SLURM_PROCID'), ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK')):
        if int(os.environ.get(count) or 1) > 1 and number in os.environ:
            return int(os.environ[count]), int(os.environ[number])
    return None


def several() -> bool:
    """Whether this run has more than one process."""
    return bool(jax.process_count() > 1)


def is_leader() -> bool:
    """Whether this is process 0, the only one that writes logs and prints."""
    return bool(jax.process_index() == 0)


@contextlib.contextmanager
def leader_first(name: str) -> Iterator[None]:
    """A block that the other processes enter when process 0 has left it; `name` is that of the barrier."""
    if several() and not is_leader():
        multihost_utils.sync_global_devices(name)
    try:
        yield
    finally:
        if several() and is_leader():
            multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; a collective, which all of them must call."""
    return bool(multihost_utils.process_allgather(np.array(flag)).any()) if several() else flag


@contextlib.contextmanager
def leaving_together() -> Iterator[None]:
    """Several processes end together, whether they are done, are stopped, or one of them fails.

    A process that is done waits for the others: JAX aborts a process that is still ending when process 0 has ended. One
    that fails ends at once, so that the others notice instead of waiting for it. If a process dies silently, JAX ends
    the others within `HEARTBEAT` seconds.
    """
    stopped = None
    try:
        try:
            yield
        except StoppedError as error:
            stopped = error
        jax.distributed.shutdown()  # nothing where there is one process
    except Exception as error:
        if not jax.distributed.is_initialized():
            raise
        if known := plain_message(error):
            message, code = known, 2
        elif isinstance(error, jax.errors.JaxRuntimeError):
            first = str(error).splitlines()[0][:200]
            message, code = f'another process of this run has been lost ({first}). {_AGAIN}', 2
        else:
            traceback.print_exc()
            message, code = 'this is a defect of the program', 1
        print(f'error: process {jax.process_index()} of {jax.process_count()}: {message}', file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(code)
    if stopped:
        raise stopped
