"""A compiled GPU program as a schedule: its kernels one after the other, and the exchanges that run beside them.

XLA has put the entry computation into the order of execution. The bytes and operations of a kernel are counted from
shapes, the sum of its operands and results, as if no cache kept anything between kernels and no fusion computed
anything twice.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

from alexnet_jax.model.compiled import Instruction, Program, read_program
from alexnet_jax.training.attribution import scope_of

_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id', 'replica-id'}
_SLICES = ('slice', 'dynamic-slice', 'gather')  # which read no more of their operand than they return
_NOT_COUNTED = _FREE | {'fusion', 'broadcast', 'reshape', 'copy', 'transpose', 'slice', 'pad', 'concatenate', 'iota'}
_NOT_COUNTED |= {'dot'}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel or an exchange.

    Attributes:
      name: of the instruction.
      opcode: 'fusion', 'custom-call', 'copy', ...; 'start' and 'done' for the two ends of an exchange that runs beside
        the kernels between them.
      layer: of the network's table, or 'input', 'loss', 'update'; '' where none is named.
      backward: whether it belongs to the gradient.
      kind: 'convolution', 'matmul', an exchange's such as 'all-gather', or '' for all else.
      moved: bytes read and written.
      flops: of matrix products and convolutions.
      vector: other operations, one a value.
      times: how often a step runs it.
      of: for an exchange, the instruction that started it.
      exchange: the instruction that says what is exchanged between which devices, at the start of an exchange.
    """

    name: str
    opcode: str
    layer: str
    backward: bool
    kind: str
    moved: int
    flops: int
    vector: int
    times: int = 1
    of: str = ''
    exchange: Instruction | None = None


def kernels(text: str, layers: frozenset[str]) -> list[Kernel]:
    """The kernels of a program in the order in which they are started.

    Args:
      text: `jitted.lower(...).compile().as_text()`, of a GPU program.
      layers: names by which the source's scopes are told apart.
    """
    program = read_program(text)
    return list(_kernels(program, program.entry, layers, 1))


def _kernels(program: Program, name: str, layers: frozenset[str], times: int) -> Iterator[Kernel]:
    body = program.computations[name]
    known = {instruction.name: instruction for instruction in body}
    for one in body:
        if one.opcode in _FREE:
            continue
        kind, exchange = one.collective, one
        if not kind and one.opcode.startswith('async-'):  # some exchanges are wrapped
            inside = program.computations.get(one.called, ())
            exchange = next((each for each in inside if each.collective), None)
            kind = exchange.collective if exchange else one.opcode
        if kind:
            end = next((end for end in ('start', 'done') if one.opcode.endswith(f'-{end}')), kind)
            of = one.operands[0] if end == 'done' else one.name
            layer, backward = scope_of(one.source, layers) or ('', 'transpose(' in one.source)
            what = None if end == 'done' else exchange
            yield Kernel(one.name, end, layer, backward, kind, 0, 0, 0, times, of, what)
        elif one.opcode == 'while':
            trips = int(one.attribute(r'"known_trip_count":\{"n":"(\d+)"') or 1)
            yield from _kernels(program, one.called, layers, times * trips)
        elif one.opcode == 'call':
            yield from _kernels(program, one.called, layers, times)
        else:
            yield _kernel(program, known, one, layers, times)


def _kernel(
    program: Program, known: dict[str, Instruction], one: Instruction, layers: frozenset[str], times: int
) -> Kernel:
    inside = program.body(one)
    read = [known[name].size for name in one.operands]
    written = one.size
    if inside:
        read = [_read(inside, number, size) for number, size in enumerate(read)]
        written = _written(inside, one.size)
    moved = 2 * one.size if one.opcode in _SLICES else sum(read) + written
    flops = sum(_products(program, known, one))
    is_convolution = 'conv' in one.target or any(each.opcode == 'convolution' for each in inside)
    kind = 'convolution' if is_convolution else 'matmul' if flops else ''
    # Where the fusion's own name is lost, that of the operations in it, the last first.
    scopes = (scope_of(each.source, layers) for each in [one, *reversed(inside)])
    layer, backward = next((scope for scope in scopes if scope), ('', 'transpose(' in one.source))
    return Kernel(one.name, one.opcode, layer, backward, kind, moved, flops, _vector(program, one), times)


def _read(inside: Sequence[Instruction], number: int, size: int) -> int:
    """Bytes that a fusion reads of an operand: only the slices that it takes, if it takes slices."""
    parameter = next(each for each in inside if each.opcode == 'parameter' and int(each.operands[0]) == number)
    names, total = [parameter.name], 0
    while names:
        name = names.pop()
        for user in inside:
            if name not in user.operands:
                continue
            if user.opcode == 'bitcast':
                names.append(user.name)
            elif user.opcode in _SLICES and user.operands[0] == name:
                total += user.size
            elif user.opcode == 'dynamic-update-slice' and user.operands[0] == name:
                pass  # written in place; what is replaced is not read
            else:
                return size
    return min(size, total)


def _written(inside: Sequence[Instruction], size: int) -> int:
    """Bytes that a fusion writes: of an array changed in place, the part that changes."""
    root = next(each for each in inside if each.root)
    if root.opcode == 'dynamic-update-slice':
        return next(each.size for each in inside if each.name == root.operands[1])
    return size


def _products(program: Program, known: dict[str, Instruction], one: Instruction) -> Iterator[int]:
    """Floating point operations of each matrix product and convolution in an instruction; a multiply-add is two."""
    if one.opcode == 'fusion':
        inside = {each.name: each for each in program.body(one)}
        for each in inside.values():
            yield from _products(program, inside, each)
    elif one.opcode in ('dot', 'convolution', 'custom-call'):
        shapes = [known[name].arrays[0].shape for name in one.operands if name in known and known[name].arrays]
        result = one.arrays[0].shape
        contracting = one.attribute(r'lhs_contracting_dims=\{([\d,]*)\}')
        if 'gemm' in one.target or 'matmul' in one.target:  # cuBLAS: the dimensions are in its own configuration
            contracting = one.attribute(r'"lhs_contracting_dimensions":\[([^\]]*)\]')
        if axes := re.findall(r'\d+', contracting):
            yield 2 * math.prod(result) * math.prod(shapes[0][int(axis)] for axis in axes)
        elif one.opcode == 'convolution' or 'cudnn$conv' in one.target:
            yield _convolution(shapes, result, one)


def _convolution(shapes: list[tuple[int, ...]], result: tuple[int, ...], one: Instruction) -> int:
    """A convolution's kernel is used once for each of its outputs, also in the two products of the gradient."""
    labels = one.attribute(r'dim_labels=\w+_(\w+)->')
    if 'BackwardFilter' in one.target:
        outputs, kernel = shapes[1], result
    elif 'BackwardInput' in one.target:
        outputs, kernel = shapes[0], shapes[1]
    else:
        outputs, kernel = result, shapes[1]
    return 2 * math.prod(outputs) * math.prod(kernel) // kernel[labels.index('o')]


def _vector(program: Program, one: Instruction) -> int:
    """Operations outside of products, one a value; a reduction has one for each value that goes in."""
    inside = {each.name: each for each in program.body(one)}
    total = 0
    for each in inside.values():
        total += _vector(program, each)
        if each.opcode in ('reduce', 'reduce-window'):
            total += math.prod(inside[each.operands[0]].arrays[0].shape)
        elif each.opcode not in _NOT_COUNTED and each.arrays:
            total += math.prod(each.arrays[0].shape)
    return total
