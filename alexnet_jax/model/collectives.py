"""What devices exchange in a compiled program, read from the program itself."""

import dataclasses
import math
import re

import numpy as np
from jax.sharding import Mesh

_KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'collective-permute', 'all-to-all', 'collective-broadcast')
_INSTRUCTION = re.compile(
    rf'=\s+(?P<shape>\(.*?\)|\S+)\s+(?P<kind>{"|".join(_KINDS)})(?P<start>-start)?\((?P<operands>[^)]*)\)(?P<rest>.*)$'
)
_ARRAY = re.compile(r'\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange between devices.

    Attributes:
      kind: its name in XLA: 'all-gather', 'reduce-scatter', 'all-reduce', ...
      axes: the mesh axes along which it joins devices, such as ('column',).
      shapes: type and shape of each array that results on a device.
      received: bytes that a device receives from others if none is sent twice.
      where: the operation in the source that asked for it.
    """

    kind: str
    axes: tuple[str, ...]
    shapes: tuple[str, ...]
    received: int
    where: str


def collectives(program: str, mesh: Mesh) -> list[Collective]:
    """Finds every exchange in a compiled program.

    Args:
      program: its text, `jitted.lower(...).compile().as_text()`.
      mesh: the mesh that it was compiled for.

    Returns:
      The exchanges in the order of the text. Those between a device and itself are left out.
    """
    found = []
    for line in program.splitlines():
        match = _INSTRUCTION.search(line)
        if match is None:
            continue
        groups = _groups(match['rest'], mesh.size)
        size = len(groups[0])
        if size == 1:
            continue
        arrays = [(kind, int(bits or 8), shape) for kind, bits, shape in _ARRAY.findall(match['shape'])]
        if match['start'] and match['kind'] != 'all-reduce':  # the result of a -start repeats its operands first
            arrays = arrays[len(arrays) // 2 :]
        total = sum(math.prod(map(int, filter(None, shape.split(',')))) * bits // 8 for _, bits, shape in arrays)
        # From the size of the result: a gather brings the others' parts; a scatter of sums brings as much from
        # each other device as it leaves; a sum over all is a scatter of sums and a gather.
        received = {
            'all-gather': total * (size - 1) // size,
            'reduce-scatter': total * (size - 1),
            'all-reduce': 2 * total * (size - 1) // size,
        }.get(match['kind'], total)
        where = re.search(r'op_name="([^"]*)"', match['rest'])
        found.append(
            Collective(
                match['kind'],
                _axes(groups, mesh),
                tuple(f'{kind}[{shape}]' for kind, _, shape in arrays),
                received,
                where[1] if where else '',
            )
        )
    return found


def _groups(attributes: str, devices: int) -> list[list[int]]:
    """The groups of devices that an instruction joins, from either of the notations XLA uses."""
    pairs = re.search(r'source_target_pairs=\{(\{[\d,{}]*\})\}', attributes)
    if pairs:
        return [[int(i) for i in pair.split(',')] for pair in re.findall(r'\{([\d,]+)\}', pairs[1])]
    listed = re.search(r'replica_groups=\{(\{[\d,{}]*\})\}', attributes)
    if listed:
        return [[int(i) for i in group.split(',')] for group in re.findall(r'\{([\d,]+)\}', listed[1])]
    iota = re.search(r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', attributes)
    if iota:
        shape, dimensions = ([int(i) for i in part.split(',')] for part in (iota[1], iota[2]))
        ids = np.arange(math.prod(dimensions)).reshape(dimensions)
        if iota[3]:
            ids = ids.transpose([int(i) for i in iota[3].split(',')])
        return ids.reshape(shape).tolist()
    return [list(range(devices))]


def _axes(groups: list[list[int]], mesh: Mesh) -> tuple[str, ...]:
    """The mesh axes along which the members of the groups differ."""
    places = [np.unravel_index(group, mesh.devices.shape) for group in groups]
    return tuple(
        name for axis, name in enumerate(mesh.axis_names) if any(len(set(place[axis].tolist())) > 1 for place in places)
    )
