"""Which part of a training step each instruction of a compiled program belongs to, read from the program itself."""

import collections
import dataclasses
import re

from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Dropout,
    Exchange,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    SpatialNormalization,
    Table,
    Tanh,
)

SCOPES = ('input', 'loss', 'accumulation', 'update')  # what step.py names besides the network's layers
EXCHANGES, OTHER = 'exchanges', 'other'  # of no layer: gradients and logits; whatever has no name in the program

_INSTRUCTION = re.compile(
    r'^\s*(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?:\(.*?\)|\S+) (?P<opcode>[\w\-]+)\((?P<rest>.*)$'
)
_NAME, _CALLED = re.compile(r'%?([\w.\-]+)'), re.compile(r'calls=%?([\w.\-]+)')
_COMPUTATION = re.compile(r'^(?:ENTRY )?%?(?P<name>[\w.\-]+) .*\{$')
_COLLECTIVES = (
    'all-gather',
    'all-reduce',
    'reduce-scatter',
    'collective-permute',
    'all-to-all',
    'collective-broadcast',
)
_CONTAINERS = ('while', 'call', 'conditional', 'async-start', 'async-update', 'async-done')
_MOVES = {
    *('parameter', 'constant', 'bitcast', 'bitcast-convert', 'copy', 'copy-start', 'copy-done', 'transpose', 'reshape'),
    *('slice', 'dynamic-slice', 'dynamic-update-slice', 'concatenate', 'pad', 'broadcast', 'reverse', 'iota', 'tuple'),
    *('get-tuple-element', 'convert', 'gather'),
}
_KINDS = {
    LocalResponseNormalization: 'normalization',
    SpatialNormalization: 'normalization',
    MaxPooling: 'pooling',
    AveragePooling: 'pooling',
    ReLU: 'activation',
    Tanh: 'activation',
    Dropout: 'dropout',
    Exchange: 'exchange',
}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where an instruction comes from.

    Attributes:
      layer: a line of the network's table, one of `SCOPES`, `EXCHANGES` or `OTHER`.
      backward: whether it is of the gradient's computation.
      kind: what it does: 'convolution', 'matrix product', 'exchange' (between devices, or a sum over columns), 'copy'
        (values are moved, none is computed), or else by its layer: 'normalization', 'pooling', 'activation',
        'dropout', 'bias and rest' of a layer with kernels, and the scopes and `OTHER` themselves.
      contains: whether it only runs other instructions, as a loop does.
    """

    layer: str
    backward: bool
    kind: str
    contains: bool = False


@dataclasses.dataclass(frozen=True)
class _Instruction:
    opcode: str
    path: str  # op_name of its metadata
    operands: str
    computation: str
    called: str  # the computation of a fusion
    target: str  # of a custom call
    root: bool


def origins(program: str, table: Table) -> dict[str, Origin]:
    """The origin of every instruction of a compiled training step.

    A fusion belongs to the layer of its root, although it may hold instructions of other layers too: a bias is added
    in the fusion that ends in the ReLU. An instruction without a name, such as the copy of a kernel into another
    layout, belongs to the nearest instruction that uses it, or else whose value it takes.

    Args:
      program: its text, `jitted.lower(...).compile().as_text()`.
      table: the network's.

    Returns:
      {name of the instruction, as a profile has it: where it comes from}.
    """
    found = _parsed(program)
    bodies: dict[str, list[str]] = collections.defaultdict(list)
    uses = {
        name: [operand for operand in _NAME.findall(one.operands) if operand in found] for name, one in found.items()
    }
    users: dict[str, list[str]] = collections.defaultdict(list)
    for name, one in found.items():
        bodies[one.computation].append(name)
        for operand in uses[name]:
            users[operand].append(name)
    names = {name for name, _ in table}.union(SCOPES)
    places = {
        name: _place_of(one, [found[inside] for inside in bodies[one.called]], names) for name, one in found.items()
    }
    kinds = {name: _KINDS.get(type(layer), 'bias and rest') for name, layer in table}

    result = {}
    for name, one in found.items():
        inside = [one.opcode, *(found[other].opcode for other in bodies[one.called])]
        collective = any(opcode.startswith(_COLLECTIVES) for opcode in inside)
        if collective:
            layer, backward = places[name] or (EXCHANGES, False)
        else:
            layer, backward = _nearest(name, places, users) or _nearest(name, places, uses) or (OTHER, False)
        if collective:
            kind = 'exchange'
        elif 'convolution' in inside or 'conv' in one.target.lower():
            kind = 'convolution'
        elif 'dot' in inside or re.search('gemm|matmul', one.target):
            kind = 'matrix product'
        elif _MOVES.issuperset(inside[1:] or inside):
            kind = 'copy'
        else:
            kind = kinds.get(layer, layer)
        result[name] = Origin(layer, backward, kind, contains=one.opcode in _CONTAINERS)
    return result


def _parsed(program: str) -> dict[str, _Instruction]:
    found, computation = {}, ''
    for line in program.splitlines():
        if match := _INSTRUCTION.match(line):
            operands, _, attributes = match['rest'].partition(')')
            path, called, target = (
                re.search(pattern, attributes)
                for pattern in (r'op_name="([^"]*)"', _CALLED, r'custom_call_target="([^"]*)"')
            )
            found[match['name']] = _Instruction(
                match['opcode'],
                path[1] if path else '',
                operands,
                computation,
                called[1] if called and match['opcode'] == 'fusion' else '',
                target[1] if target else '',
                bool(match['root']),
            )
        elif match := _COMPUTATION.match(line):
            computation = match['name']
    return found


def _place_of(one: _Instruction, body: list[_Instruction], names: set[str]) -> tuple[str, bool] | None:
    """Layer and direction that an instruction itself tells: the root of a fusion's body, or else its own metadata."""
    for path in [*(inside.path for inside in body if inside.root), one.path]:
        layers = [word for word in re.findall(r'[^/()]+', path) if word in names]
        if layers:
            return layers[0], 'transpose(' in path
    return None


def _nearest(
    name: str, places: dict[str, tuple[str, bool] | None], neighbors: dict[str, list[str]]
) -> tuple[str, bool] | None:
    """The place of an instruction, or of the nearest that has one, going from neighbor to neighbor."""
    ring, seen = [name], {name}
    while ring:
        for one in ring:
            if place := places[one]:
                return place
        ring = [other for one in ring for other in neighbors.get(one, ()) if other not in seen]
        seen.update(ring)
    return None
