"""Time of each operation, read from a profile that `jax.profiler` wrote.

Operations run at the same time, and loops are events around those of their bodies, so durations do not add up. Each
moment is therefore divided equally among the operations in progress on a device; the shares add up to the whole time.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Iterable

from jax.profiler import ProfileData, ProfilePlane


@dataclasses.dataclass(frozen=True)
class Operation:
    """One run of an instruction on a device, from `start` to `end` in nanoseconds."""

    name: str
    device: str
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Share:
    """The time of all runs of an instruction, in nanoseconds, and the number of runs; means over the devices."""

    time: float
    runs: float


@dataclasses.dataclass(frozen=True)
class TimeShares:
    """Nanoseconds from the first operation's start to the last one's end: `total`, and what it is made up of.

    Attributes:
      by_name: share of each instruction.
      idle: time in which a device did nothing, the mean over the devices.
    """

    by_name: dict[str, Share]
    idle: float
    total: float


def read_operations(path: pathlib.Path, module: str) -> list[Operation]:
    """The operations of a compiled program in a profile.

    Args:
      path: of a file .xplane.pb.
      module: name of the program, such as 'jit_train_step'.

    Raises:
      OSError, ValueError: the file cannot be read, or is not a profile.
    """
    try:
        planes = ProfileData.from_serialized_xspace(path.read_bytes()).planes
        found = [(plane.name, _operations(plane, module)) for plane in planes]
    except RuntimeError as error:
        raise ValueError(f'{path} is not a profile: {error}') from error
    # Where there are accelerators, the host's events of the same operations only start them.
    accelerators = [(name, operations) for name, operations in found if name.startswith('/device:') and operations]
    return [operation for _, operations in accelerators or found for operation in operations]


def _operations(plane: ProfilePlane, module: str) -> list[Operation]:
    lines = list(plane.lines)
    streams = [line for line in lines if line.name.startswith('Stream')]  # of a GPU; its other lines repeat them
    begun, ends = [], {}  # XLA's CPU starts convolutions and products, and reports their ends from other threads
    for event in (event for line in streams or lines for event in line.events):
        stats = dict(event.stats)
        if event.name.startswith('end: '):
            ends[event.name.removeprefix('end: '), stats.get('_c')] = event.start_ns
        elif 'hlo_op' in stats and stats.get('hlo_module') == module:
            begun.append((event, stats))
    operations = []
    for event, stats in begun:
        own_end = event.start_ns + event.duration_ns
        end = max(own_end, ends.get((event.name, stats.get('_p', '')), own_end))
        device = f'{plane.name} {stats.get("device_ordinal", 0)}'
        operations.append(Operation(str(stats['hlo_op']), device, event.start_ns, end))
    return operations


def time_shares(operations: Iterable[Operation], contains: Callable[[str], bool]) -> TimeShares:
    """Divides the time among instructions.

    Args:
      operations: in any order.
      contains: whether an instruction only runs others, as a loop does; it gets the moments in which none of them runs.
    """
    by_device: dict[str, list[Operation]] = collections.defaultdict(list)
    for one in operations:
        by_device[one.device].append(one)
    if not by_device:
        return TimeShares({}, 0.0, 0.0)
    everything = [one for own in by_device.values() for one in own]
    total = max(one.end for one in everything) - min(one.start for one in everything)
    runs = collections.Counter(one.name for one in everything)
    times: dict[str, float] = dict.fromkeys(runs, 0.0)
    for own in by_device.values():
        _add_times(own, contains, times)
    devices = len(by_device)
    shares = {name: Share(times[name] / devices, runs[name] / devices) for name in runs}
    return TimeShares(shares, total - sum(times.values()) / devices, total)


def _add_times(operations: list[Operation], contains: Callable[[str], bool], times: dict[str, float]) -> None:
    """Adds the time of each instruction on one device to `times`."""
    moments = [
        moment
        for number, one in enumerate(operations)
        if one.end > one.start
        for moment in ((one.start, True, number), (one.end, False, number))
    ]
    computing: set[int] = set()
    containing: set[int] = set()
    before = 0.0
    for time, begins, number in sorted(moments):
        in_progress = computing or containing
        for one in in_progress:
            times[operations[one].name] += (time - before) / len(in_progress)
        before, own = time, containing if contains(operations[number].name) else computing
        (own.add if begins else own.remove)(number)
