"""Compiled programs, read from their HLO text: instructions, and what devices exchange."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jax.sharding import Mesh

COLLECTIVES = ('all-gather', 'all-reduce', 'reduce-scatter', 'collective-permute', 'all-to-all', 'collective-broadcast')

_COMPUTATION = re.compile(r'^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) .*\{\s*$')
_INSTRUCTION = re.compile(r'^\s*(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>\S.*)$')
_ARRAY = re.compile(r'\b(pred|[a-z]+(?:\d+)\w*)\[([\d,]*)\]')
_IOTA = re.compile(r'\[(?P<shape>[\d,]+)\]<=\[(?P<dimensions>[\d,]+)\](?:T\((?P<permutation>[\d,]+)\))?')
_MESH = re.compile(
    r"mesh\[(?P<axes>['\w]+=\d+(?:,['\w]+=\d+)*)\]"
    r'(?:, device_ids=\((?:\[(?P<iota>[\d,]+)\]T\((?P<permutation>[\d,]+)\)|(?P<ids>[\d,]+))\))?'
    r" \{(?P<grouped>(?:['\w]+,?)*)\}"
)


@dataclasses.dataclass(frozen=True)
class ArrayType:
    """Element type, such as 'f32', and dimensions of an array."""

    element: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        bits = re.search(r'\d+', self.element)
        return math.prod(self.shape) * int(bits[0] if bits else 8) // 8

    def __str__(self) -> str:
        return f'{self.element}[{",".join(map(str, self.shape))}]'


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a computation.

    Attributes:
      name, opcode: as XLA writes them.
      arrays: types of the results.
      operands: names of instructions of the same computation; a parameter's is its number.
      attributes: the text after the operands.
      root: whether its result is the computation's.
    """

    name: str
    opcode: str
    arrays: tuple[ArrayType, ...]
    operands: tuple[str, ...]
    attributes: str
    root: bool

    @property
    def size(self) -> int:
        """Bytes of the results."""
        return sum(array.size for array in self.arrays)

    @property
    def source(self) -> str:
        """Path of named scopes of the operation in the source; '' where XLA has none."""
        return self.attribute(r'op_name="([^"]*)"')

    @property
    def target(self) -> str:
        """Library function of a custom call, or ''."""
        return self.attribute(r'custom_call_target="([^"]*)"')

    @property
    def called(self) -> str:
        """Computation that a fusion, call or loop runs, or ''."""
        return self.attribute(r'(?:calls|to_apply|body)=%?([^,\s}]+)')

    @property
    def collective(self) -> str:
        """Its name among `COLLECTIVES`, for both ends of an asynchronous one, or ''."""
        kind = re.sub('-(start|done)$', '', self.opcode)
        return kind if kind in COLLECTIVES else ''

    def attribute(self, pattern: str) -> str:
        """The first group of a regular expression in the attributes, or ''."""
        match = re.search(pattern, self.attributes)
        return match[1] if match else ''


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations of a program by name, in the order of the text, and the name of its entry."""

    computations: Mapping[str, Sequence[Instruction]]
    entry: str

    def body(self, one: Instruction) -> Sequence[Instruction]:
        """The instructions inside a fusion; none for others."""
        return self.computations.get(one.called, ()) if one.opcode == 'fusion' else ()


def read_program(text: str) -> Program:
    """Reads `jitted.lower(...).compile().as_text()`; ValueError if a line cannot be read."""
    computations: dict[str, list[Instruction]] = collections.defaultdict(list)
    entry = computation = ''
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            computations[computation].append(_instruction(match))
        elif match := _COMPUTATION.match(line):
            computation = match['name']
            entry = computation if match['entry'] else entry
    return Program(dict(computations), entry)


def _instruction(match: re.Match[str]) -> Instruction:
    rest = match['rest']
    shape, rest = _bracketed(rest) if rest.startswith('(') else rest.split(' ', 1)
    opcode, bracket, rest = rest.strip().partition('(')
    operands, attributes = _bracketed(bracket + rest)
    arrays = tuple(
        ArrayType(element, tuple(int(n) for n in dimensions.split(',') if n))
        for element, dimensions in _ARRAY.findall(shape)
    )
    names = re.sub(r'/\*.*?\*/', '', operands[1:-1])
    operands_found = tuple(part.split()[-1].lstrip('%') for part in re.split(r', (?=%|[a-z(])', names) if part.strip())
    return Instruction(match['name'], opcode, arrays, operands_found, attributes, bool(match['root']))


def _bracketed(text: str) -> tuple[str, str]:
    """Splits a text that begins with a bracket after the one that closes it."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in '([{') - (character in ')]}')
        if depth == 0:
            return text[: place + 1], text[place + 1 :]
    raise ValueError(f'not an instruction of a compiled program, as its brackets do not close: {text:.80}')


# Collectives.


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange between devices.

    Attributes:
      kind: one of `COLLECTIVES`.
      axes: mesh axes along which devices exchange, such as ('column',).
      shapes: type and shape of each resulting array of a device, as in 'f32[4,128]'.
      received: bytes that a device receives from others if nothing is sent twice, on average over those that take part.
      source: the operation in the source.
    """

    kind: str
    axes: tuple[str, ...]
    shapes: tuple[str, ...]
    received: int
    source: str


def collectives(program: str, mesh: Mesh) -> list[Collective]:
    """All exchanges of a program compiled for the mesh, in the order of its text; ValueError if it cannot be read."""
    instructions = (one for body in read_program(program).computations.values() for one in body)
    found = (collective_of(one, mesh) for one in instructions)
    return [one for one in found if one is not None]


def collective_of(one: Instruction, mesh: Mesh) -> Collective | None:
    """The exchange that an instruction is or starts; None if there is none, or every group is a single device."""
    kind = one.collective
    if not kind or one.opcode.endswith('-done'):
        return None
    groups = device_groups(one.attributes, mesh.size)
    devices = len(groups[0])
    if devices == 1:
        return None
    arrays = one.arrays
    if one.opcode.endswith('-start') and kind != 'all-reduce':  # the results of a start repeat its operands first
        arrays = arrays[len(arrays) // 2 :]
    total = sum(array.size for array in arrays)
    # All-gather brings the others' parts; reduce-scatter, from each other device as much as its result; all-reduce is a
    # reduce-scatter and an all-gather. In a permute some devices may only send.
    received = {
        'all-gather': total * (devices - 1) // devices,
        'reduce-scatter': total * (devices - 1),
        'all-reduce': 2 * total * (devices - 1) // devices,
        'collective-permute': total * len(groups) // len({device for pair in groups for device in pair}),
    }.get(kind, total)
    positions = [np.unravel_index(group, mesh.devices.shape) for group in groups]
    axes = (axis for i, axis in enumerate(mesh.axis_names) if any(np.ptp(position[i]) for position in positions))
    return Collective(kind, tuple(axes), tuple(map(str, arrays)), received, one.source)


def device_groups(attributes: str, devices: int) -> list[list[int]]:
    """Groups of devices that take part in a collective, from its attributes in any of XLA's notations.

        replica_groups={{0,1},{2,3}}    source_target_pairs={{0,1},{1,0}}    replica_groups={} (all in one group)
        replica_groups=[2,2]<=[4]       replica_groups=[2,2]<=[2,2]T(1,0)
        replica_groups=mesh['data'=2,'column'=2] {'column'}, possibly with device_ids=([2,2]T(1,0)) after the mesh

    Raises:
      ValueError: for any other notation.
    """
    start = re.search(r'\b(?:replica_groups|source_target_pairs)=', attributes)
    text = attributes[start.end() :] if start else ''
    if match := re.match(r'\{(\{\d[\d,{}]*\})?\}', text):
        return [_numbers(group) for group in match[1].split('},{')] if match[1] else [list(range(devices))]
    if match := _IOTA.match(text):
        groups = _iota(match['dimensions'], match['permutation']).reshape(_numbers(match['shape']))
    elif match := _MESH.match(text):
        axes = {name: int(size) for name, size in (axis.split('=') for axis in match['axes'].split(','))}
        ids = np.array(_numbers(match['ids'])) if match['ids'] else np.arange(math.prod(axes.values()))
        if match['iota']:
            ids = _iota(match['iota'], match['permutation'])
        grouped = [axis for axis in match['grouped'].split(',') if axis]
        order = [list(axes).index(axis) for axis in [*(axis for axis in axes if axis not in grouped), *grouped]]
        ids = ids.reshape(list(axes.values())).transpose(order)
        groups = ids.reshape(-1, math.prod(axes[axis] for axis in grouped))
    else:
        raise ValueError(f'the devices of a collective are given in an unknown notation: {attributes:.200}')
    return [[int(i) for i in group] for group in groups]


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r'\d+', text)]


def _iota(dimensions: str, permutation: str | None) -> np.ndarray:
    """0, 1, 2, ... in these dimensions, transposed."""
    shape = _numbers(dimensions)
    ids = np.arange(math.prod(shape)).reshape(shape)
    return ids.transpose(_numbers(permutation)) if permutation else ids
