"""How long each operation took, read from a profile that `jax.profiler` wrote.

A plain sum of durations says little. XLA's CPU runs several operations at a time, on threads; a convolution or a matrix
product there is an event of a few microseconds, which only starts it, and an event at its end, in another thread; loops
are events around those of their bodies; a GPU may run several kernels at a time. So time is dealt here: each moment
goes in equal parts to the operations that are in progress on a device, and the parts of a step add up to its time.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Iterable

import jax


@dataclasses.dataclass(frozen=True)
class Operation:
    """One run of an instruction.

    Attributes:
      name: of the instruction, as in the compiled program's text.
      device: that ran it.
      start, end: nanoseconds.
    """

    name: str
    device: str
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Share:
    """What an instruction took of the time, all its runs together.

    Attributes:
      time: nanoseconds, the mean of the devices.
      runs: how often it ran, the mean of the devices.
    """

    time: float
    runs: float


def read_operations(path: pathlib.Path, module: str) -> list[Operation]:
    """The operations of a compiled program in a profile.

    Args:
      path: of a file .xplane.pb.
      module: name of the program, such as 'jit_train_step'.

    Raises:
      OSError, ValueError: the file cannot be read, or is no profile.
    """
    try:
        planes = list(jax.profiler.ProfileData.from_serialized_xspace(path.read_bytes()).planes)
    except RuntimeError as error:
        raise ValueError(f'{path} is no profile: {error}') from error
    found = [(plane.name, _of_plane(plane, module)) for plane in planes]
    # Where there are accelerators, what the host says of the same operations is how it started them.
    if any(operations for name, operations in found if name.startswith('/device:')):
        found = [(name, operations) for name, operations in found if name.startswith('/device:')]
    return [operation for _, operations in found for operation in operations]


def _of_plane(plane: 'jax.profiler.ProfilePlane', module: str) -> list[Operation]:
    lines = list(plane.lines)
    streams = [line for line in lines if line.name.startswith('Stream')]  # of a GPU; its other lines repeat them
    begun, ends = [], {}
    for line in streams or lines:
        for event in line.events:
            if event.name.startswith('end: '):
                ends[event.name.removeprefix('end: '), dict(event.stats).get('_c')] = event.start_ns
                continue
            stats = dict(event.stats)
            if 'hlo_op' in stats and stats.get('hlo_module') == module:
                begun.append((event, stats))
    operations = []
    for event, stats in begun:
        own_end = event.start_ns + event.duration_ns
        end = max(own_end, ends.get((event.name, stats.get('_p', '')), own_end))
        device = f'{plane.name} {stats.get("device_ordinal", 0)}'
        operations.append(Operation(stats['hlo_op'], device, event.start_ns, end))
    return operations


def dealt(operations: Iterable[Operation], contains: Callable[[str], bool]) -> tuple[dict[str, Share], float, float]:
    """Deals the time from the first operation's start to the last one's end.

    Args:
      operations: in any order.
      contains: whether an instruction only runs others, as a loop does; it gets the moments in which none of them runs.

    Returns:
      What each instruction took; the time in which a device did nothing (nanoseconds, the mean of the devices); the
      whole time. The first and the second add up to the third.
    """
    by_device: dict[str, list[Operation]] = collections.defaultdict(list)
    for operation in operations:
        by_device[operation.device].append(operation)
    everything = [operation for own in by_device.values() for operation in own]
    if not everything:
        return {}, 0.0, 0.0
    whole = max(one.end for one in everything) - min(one.start for one in everything)
    times, runs = collections.Counter(), collections.Counter()
    for own in by_device.values():
        _deal(own, contains, times)
        runs.update(one.name for one in own)
    count = len(by_device)
    shares = {name: Share(times[name] / count, runs[name] / count) for name in runs}
    return shares, whole - sum(times.values()) / count, whole


def _deal(operations: list[Operation], contains: Callable[[str], bool], times: collections.Counter) -> None:
    """Adds what each instruction took on one device to `times`."""
    lasting = [(number, one) for number, one in enumerate(operations) if one.end > one.start]
    moments = [(one.start, 1, number) for number, one in lasting] + [(one.end, 0, number) for number, one in lasting]
    running: tuple[set[int], set[int]] = (set(), set())  # what computes, and what contains
    before = 0.0
    for time, begins, number in sorted(moments):
        served = running[0] or running[1]
        for one in served:
            times[operations[one].name] += (time - before) / len(served)
        before, own = time, running[contains(operations[number].name)]
        if begins:
            own.add(number)
        else:
            own.discard(number)
