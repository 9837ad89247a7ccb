"""The layer and the kind of operation of each instruction of a compiled training step, for profiles."""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping

from alexnet_jax.model.compiled import COLLECTIVES, Instruction, Program, read_program
from alexnet_jax.model.layer_specs import (
    AveragePooling,
    Dropout,
    Exchange,
    Learned,
    LocalResponseNormalization,
    MaxPooling,
    ReLU,
    SpatialNormalization,
    Table,
    Tanh,
)

SCOPES = ('input', 'loss', 'accumulation', 'update')  # names in a training step besides the network's layers
EXCHANGES, OTHER = 'exchanges', 'other'  # instructions of no layer: sums of gradients, logits; those without a name
PRODUCTS = ('convolution', 'matrix product')  # kinds
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
    """The part of a training step that an instruction belongs to.

    Attributes:
      layer: a layer's name, one of `SCOPES`, `EXCHANGES` or `OTHER`.
      backward: whether it computes a gradient.
      kind: 'convolution', 'matrix product', 'exchange' (between devices, or a sum over columns), 'copy' (no value is
        computed), or else by its layer: 'normalization', 'pooling', 'activation', 'dropout', 'bias and rest' of a layer
        with kernels, and `SCOPES` and `OTHER` themselves.
      contains: whether it only runs other instructions, as a loop does.
    """

    layer: str
    backward: bool
    kind: str
    contains: bool = False


def origins(text: str, table: Table) -> dict[str, Origin]:
    """The origin of every instruction of a compiled training step.

    A fusion belongs to the layer of its root, though it may contain instructions of others: a bias is added in the
    fusion that ends in the ReLU. An instruction without a name, such as a copy into another layout, belongs to the
    layer of the nearest user of its value, or else of the nearest instruction whose value it uses. A product without a
    name that only the sum over micro-batches uses is a gradient of kernels: it belongs to the layer with kernels whose
    output's gradient it is computed from.

    Args:
      text: of the program, see `compiled.read_program`.
      table: of the network.
    """
    program = read_program(text)
    found = {one.name: one for body in program.computations.values() for one in body}
    operands = {name: [other for other in one.operands if other in found] for name, one in found.items()}
    users: dict[str, list[str]] = collections.defaultdict(list)
    for name, others in operands.items():
        for other in others:
            users[other].append(name)
    names = frozenset(name for name, _ in table).union(SCOPES)
    scopes = {name: _scope(one, program, names) for name, one in found.items()}
    kinds = {name: _KINDS.get(type(layer), 'bias and rest') for name, layer in table}
    gradients = {name: scope if scope and scope[1] and scope[0] in kinds else None for name, scope in scopes.items()}
    with_kernels = {
        name: next((one for one, each in reversed(table[: place + 1]) if isinstance(each, Learned)), name)
        for place, (name, _) in enumerate(table)
    }

    result = {}
    for name, one in found.items():
        inside = [one, *program.body(one)]
        exchange = any(each.opcode.startswith(COLLECTIVES) for each in inside)
        if exchange:
            layer, backward = scopes[name] or (EXCHANGES, False)
        else:
            layer, backward = _nearest(name, scopes, users) or _nearest(name, scopes, operands) or (OTHER, False)
        kind = 'exchange' if exchange else _kind(inside) or kinds.get(layer, layer)
        if kind in PRODUCTS and layer in SCOPES and (of_output := _nearest(name, gradients, operands)):
            layer, backward = with_kernels[of_output[0]], True
        result[name] = Origin(layer, backward, kind, contains=one.opcode in _CONTAINERS)
    return result


def _kind(inside: list[Instruction]) -> str:
    """Kind of an instruction, given with those of its fusion, or '' where its layer decides."""
    opcodes, target = [one.opcode for one in inside], inside[0].target.lower()
    if 'convolution' in opcodes or 'conv' in target:
        return 'convolution'
    if 'dot' in opcodes or 'gemm' in target or 'matmul' in target:
        return 'matrix product'
    return 'copy' if _MOVES.issuperset(opcodes[1:] or opcodes) else ''


def _scope(one: Instruction, program: Program, names: frozenset[str]) -> tuple[str, bool] | None:
    """Layer and direction that an instruction itself states: the root of a fusion's body, or else its own metadata."""
    sources = [*(inside.source for inside in program.body(one) if inside.root), one.source]
    return next((scope for source in sources if (scope := scope_of(source, names))), None)


@functools.cache
def scope_of(source: str, names: frozenset[str]) -> tuple[str, bool] | None:
    """The first of `names` in a path of scopes, and whether it belongs to a gradient; None where there is none."""
    layer = next((word for word in re.findall(r'[^/()]+', source) if word in names), None)
    return None if layer is None else (layer, 'transpose(' in source)


def _nearest(
    name: str, scopes: Mapping[str, tuple[str, bool] | None], neighbors: Mapping[str, Iterable[str]]
) -> tuple[str, bool] | None:
    """The scope of an instruction, or of the nearest that has one, going from neighbor to neighbor."""
    ring, seen = [name], {name}
    while ring:
        for one in ring:
            if scope := scopes[one]:
                return scope
        ring = [other for one in ring for other in neighbors.get(one, ()) if other not in seen]
        seen.update(ring)
    return None
