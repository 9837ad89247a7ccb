"""A compiled GPU program as what it is: kernels one after the other, and exchanges that run beside them.

Read from the program's text, whose entry computation XLA has put into the order of execution. What a kernel moves and
computes is counted from the shapes there; a sum of its operands and results, as if no cache held anything between two
kernels, and as if a fusion computed nothing twice.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r'^(ENTRY )?%?(\S+) \(.*\{\s*$')
_INSTRUCTION = re.compile(r'^\s+(?P<root>ROOT )?%?(?P<name>\S+) = (?P<rest>.+)$')
_OPCODE = re.compile(r'^\s*(?P<opcode>[a-z][\w-]*)\(')
_ARRAY = re.compile(r'\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]')
_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id', 'replica-id'}
_EXCHANGES = ('all-gather', 'all-reduce', 'reduce-scatter', 'collective-permute', 'all-to-all', 'collective-broadcast')
_PARTS = ('slice', 'dynamic-slice', 'gather')  # which read no more of their operand than they return
_NOT_COUNTED = _FREE | {'fusion', 'broadcast', 'reshape', 'copy', 'transpose', 'slice', 'pad', 'concatenate', 'iota'}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a computation.

    Attributes:
      name, opcode: as XLA writes them.
      arrays: of the result, (bits of a value, dimensions) each.
      operands: names of instructions of the same computation.
      attributes: the text behind the operands.
      root: whether its result is the computation's.
      text: its line.
    """

    name: str
    opcode: str
    arrays: tuple[tuple[int, tuple[int, ...]], ...]
    operands: tuple[str, ...]
    attributes: str
    root: bool
    text: str

    @property
    def size(self) -> int:
        """Bytes of the result."""
        return sum(math.prod(shape) * bits // 8 for bits, shape in self.arrays)

    @property
    def source(self) -> str:
        """The operation in the source: its path of scopes, '' where XLA does not say."""
        return _found(r'op_name="([^"]*)"', self.attributes)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Something that the GPU runs.

    Attributes:
      name: of the instruction.
      opcode: 'fusion', 'custom-call', 'copy', ...; 'start' and 'done' for the two ends of an exchange that runs beside
        what stands between them.
      layer: the line of the network's table, or 'input', 'loss', 'update'; '' where none is named.
      backward: whether it belongs to the gradient.
      kind: 'convolution', 'matmul', an exchange's such as 'all-gather', or '' for all else.
      moved: bytes read and written.
      flops: of matrix products and convolutions; vector: of everything else, an operation a value.
      times: how often a step runs it.
      of: for an exchange, the instruction that started it.
      text: of an exchange, the line that says what is exchanged between whom.
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
    text: str = ''


Program = dict[str, list[Instruction]]


def parsed(text: str) -> tuple[Program, str]:
    """The computations of a program, by name, and the name of its entry."""
    program: Program = {}
    entry, body = '', None
    for line in text.splitlines():
        start = _COMPUTATION.match(line)
        if start:
            body = program.setdefault(start[2], [])
            entry = start[2] if start[1] else entry
        elif line.startswith('}'):
            body = None
        elif body is not None and (match := _INSTRUCTION.match(line)):
            body.append(_instruction(match))
    return program, entry


def _instruction(match: re.Match) -> Instruction:
    rest = match['rest']
    shape, rest = _split(rest) if rest.startswith('(') else rest.split(' ', 1)
    opcode = _OPCODE.match(rest)
    operands, attributes = _split(rest[opcode.end() - 1 :])
    arrays = tuple(
        (int(bits or 8), tuple(int(n) for n in dimensions.split(',') if n))
        for _, bits, dimensions in _ARRAY.findall(shape)
    )
    names = re.sub(r'/\*.*?\*/', '', operands[1:-1])
    operands = tuple(part.split()[-1].lstrip('%') for part in re.split(r', (?=%|[a-z(])', names) if part.strip())
    return Instruction(match['name'], opcode['opcode'], arrays, operands, attributes, bool(match['root']), match[0])


def _split(text: str) -> tuple[str, str]:
    """What stands in the brackets that a text begins with, and what follows them."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in '([{') - (character in ')]}')
        if depth == 0:
            return text[: place + 1], text[place + 1 :]
    raise ValueError(f'brackets do not close: {text:.80}')


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ''


def kernels(text: str, layers: frozenset[str]) -> list[Kernel]:
    """The kernels of a program in the order in which they are started.

    Args:
      text: `jitted.lower(...).compile().as_text()`, of a GPU program.
      layers: names by which the source's scopes are told apart.
    """
    program, entry = parsed(text)
    return list(_kernels(program, entry, layers, 1))


def _kernels(program: Program, name: str, layers: frozenset[str], times: int) -> Iterator[Kernel]:
    body = program[name]
    known = {instruction.name: instruction for instruction in body}
    for one in body:
        if one.opcode in _FREE:
            continue
        exchange = next((kind for kind in _EXCHANGES if one.opcode.startswith(kind)), '')
        called = _found(r'(?:calls|to_apply|body)=%?([^,\s}]+)', one.attributes)
        text = one.text
        if not exchange and one.opcode.startswith('async-'):  # some exchanges are wrapped
            wrapped = next((each for each in program.get(called, []) if each.opcode in _EXCHANGES), None)
            exchange, text = (wrapped.opcode, wrapped.text) if wrapped else (one.opcode, '')
        if exchange:
            end = 'done' if one.opcode.endswith('-done') else 'start' if one.opcode.endswith('-start') else exchange
            of = one.operands[0] if end == 'done' else one.name
            layer, backward = _scope(one.source, layers)
            yield Kernel(one.name, end, layer, backward, exchange, 0, 0, 0, times, of, text if end != 'done' else '')
        elif one.opcode == 'while':
            trips = int(_found(r'"known_trip_count":\{"n":"(\d+)"', one.attributes) or 1)
            yield from _kernels(program, called, layers, times * trips)
        elif one.opcode == 'call':
            yield from _kernels(program, called, layers, times)
        else:
            yield _kernel(program, known, one, called, layers, times)


def _kernel(
    program: Program, known: dict[str, Instruction], one: Instruction, called: str, layers: frozenset[str], times: int
) -> Kernel:
    inside = program[called] if one.opcode == 'fusion' else []
    read = [known[name].size for name in one.operands]
    written = one.size
    if inside:
        read = [_read(inside, number, size) for number, size in enumerate(read)]
        written = _written(inside, one.size)
    moved = sum(read) + written
    if one.opcode in _PARTS:
        moved = 2 * one.size
    products = list(_products(program, known, one))
    flops = sum(products)
    is_convolution = 'conv' in _found(r'custom_call_target="([^"]*)"', one.attributes) or any(
        each.opcode == 'convolution' for each in inside
    )
    kind = 'convolution' if is_convolution else 'matmul' if flops else ''
    layer, backward = _scope(one.source, layers)
    if not layer:  # the fusion's own name is lost: that of the operations in it, the last first
        scopes = [_scope(each.source, layers) for each in reversed(inside)]
        layer, backward = next((scope for scope in scopes if scope[0]), ('', backward))
    return Kernel(one.name, one.opcode, layer, backward, kind, moved, flops, _vector(program, one), times)


def _read(inside: list[Instruction], number: int, size: int) -> int:
    """Bytes that a fusion reads of an operand: where it only takes parts, those."""
    parameter = next(each for each in inside if each.opcode == 'parameter' and _number(inside, each) == number)
    names, total = [parameter.name], 0
    while names:
        name = names.pop()
        for user in inside:
            if name not in user.operands:
                continue
            if user.opcode == 'bitcast':
                names.append(user.name)
            elif user.opcode in _PARTS and user.operands[0] == name:
                total += user.size
            elif user.opcode == 'dynamic-update-slice' and user.operands[0] == name:
                pass  # written in place; what is replaced is not looked at
            else:
                return size
    return min(size, total)


def _number(inside: list[Instruction], parameter: Instruction) -> int:
    """Which of a computation's parameters this is; its text holds the number in the place of an operand."""
    return int(parameter.operands[0])


def _written(inside: list[Instruction], size: int) -> int:
    """Bytes that a fusion writes: of an array that is changed in place, the part that is."""
    root = next(each for each in inside if each.root)
    if root.opcode == 'dynamic-update-slice':
        known = {each.name: each for each in inside}
        return known[root.operands[1]].size
    return size


def _products(program: Program, known: dict[str, Instruction], one: Instruction) -> Iterator[int]:
    """Floating point operations of each matrix product and convolution in an instruction; a multiply-add is two."""
    if one.opcode == 'fusion':
        inside = program[_found(r'calls=%?([^,\s}]+)', one.attributes)]
        for each in inside:
            yield from _products(program, {other.name: other for other in inside}, each)
    elif one.opcode in ('dot', 'convolution', 'custom-call'):
        shapes = [known[name].arrays[0][1] for name in one.operands if name in known and known[name].arrays]
        result = one.arrays[0][1]
        contracting = [int(n) for n in re.findall(r'\d+', _found(r'lhs_contracting_dims=\{([\d,]*)\}', one.attributes))]
        target = _found(r'custom_call_target="([^"]*)"', one.attributes)
        if 'gemm' in target or 'matmul' in target:  # cuBLAS: the dimensions lie in its own configuration
            numbers = _found(r'"lhs_contracting_dimensions":\[([^\]]*)\]', one.attributes)
            contracting = [int(n) for n in re.findall(r'\d+', numbers)]
        if contracting:
            yield 2 * math.prod(result) * math.prod(shapes[0][n] for n in contracting)
        elif one.opcode == 'convolution' or 'cudnn$conv' in target:
            yield _convolution(shapes, result, one.attributes, target)


def _convolution(shapes: list[tuple[int, ...]], result: tuple[int, ...], attributes: str, target: str) -> int:
    """A convolution's kernel is used once for each of its outputs, also in the two products of the gradient."""
    labels = _found(r'dim_labels=\w+_(\w+)->', attributes)
    if 'BackwardFilter' in target:
        outputs, kernel = shapes[1], result
    elif 'BackwardInput' in target:
        outputs, kernel = shapes[0], shapes[1]
    else:
        outputs, kernel = result, shapes[1]
    return 2 * math.prod(outputs) * math.prod(kernel) // kernel[labels.index('o')]


def _vector(program: Program, one: Instruction) -> int:
    """Operations outside of products, one a value; a reduction has one for each value that goes in."""
    if one.opcode != 'fusion':
        return 0
    inside = program[_found(r'calls=%?([^,\s}]+)', one.attributes)]
    known = {each.name: each for each in inside}
    total = sum(_vector(program, each) for each in inside)
    for each in inside:
        if each.opcode in ('reduce', 'reduce-window'):
            total += math.prod(known[each.operands[0]].arrays[0][1])
        elif each.opcode not in _NOT_COUNTED and each.opcode != 'dot' and each.arrays:
            total += math.prod(each.arrays[0][1])
    return total


def _scope(source: str, layers: frozenset[str]) -> tuple[str, bool]:
    """The layer that a path of scopes names, and whether it belongs to the gradient."""
    return _layer(source, layers), 'transpose(' in source


@functools.cache
def _layer(source: str, layers: frozenset[str]) -> str:
    for part in source.split('/'):
        name = re.sub(r'^(?:\w+\()*([\w.]+)\)*$', r'\1', part)
        if name in layers:
            return name
    return ''
