"""Reads the pickles of CIFAR's python version, which Python 2 wrote, without running them.

A pickle is a program that can call any function. Here a few of its instructions are followed, those that dicts, lists,
numbers, strings and NumPy arrays of uint8 need; all others, and all other functions than NumPy's three, are errors.
"""

import pickletools
from typing import Any, NamedTuple

import numpy as np


class _Global(NamedTuple):
    name: str  # module and name with a space between


class _Array:
    """An array: first empty, then with the type, shape and bytes that the BUILD after it gives."""

    values: np.ndarray | None = None


class _Type(NamedTuple):
    name: str


_ARRAY, _TYPE = _Global('numpy ndarray'), _Global('numpy dtype')
_CONSTRUCTOR = _Global('numpy.core.multiarray _reconstruct')
_MARK = object()
_MAX_INSTRUCTIONS = 10**6  # the largest file of CIFAR, CIFAR-100's training images, has some 200,000
_VALUES = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_WITH_VALUES = {'BININT', 'BININT1', 'BININT2', 'SHORT_BINSTRING', 'BINSTRING', 'BINUNICODE'}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


def read_pickle(data: bytes) -> Any:
    """The dicts, lists, tuples, ints, strs and uint8 arrays of a pickle of protocol 2.

    Strings are Python 2's, bytes therefore, and decoded as Latin-1.

    Raises:
      ValueError: it is damaged, or holds anything else.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for count, (instruction, argument, position) in enumerate(pickletools.genops(data)):
            name = instruction.name
            if name == 'STOP' and len(stack) == 1:
                return _finished(stack[0])
            if count > _MAX_INSTRUCTIONS:
                raise ValueError(f'it has more than {_MAX_INSTRUCTIONS:,} instructions')
            if not _follow(name, argument, stack, memo):
                what = f'{name} {argument}' if isinstance(argument, str) else name
                raise ValueError(f'instruction {what[:60]!r} at byte {position:,} is not one of plain data')
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(f'its instructions make no sense ({type(error).__name__}: {error})') from error
    raise ValueError('it has no end')


def _follow(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> bool:
    """Follows an instruction; False if it is not allowed."""
    match name:
        case 'PROTO':
            return bool(argument == 2)
        case 'GLOBAL':
            stack.append(_Global(argument))
            return stack[-1] in (_ARRAY, _TYPE, _CONSTRUCTOR)
        case 'BINPUT' | 'LONG_BINPUT':
            memo[argument] = stack[-1]
        case 'BINGET' | 'LONG_BINGET':
            stack.append(memo[argument])
        case 'MARK':
            stack.append(_MARK)
        case 'EMPTY_DICT':
            stack.append({})
        case 'EMPTY_LIST':
            stack.append([])
        case 'EMPTY_TUPLE':
            stack.append(())
        case 'APPEND':
            one = stack.pop()
            _list(stack).append(one)
        case 'APPENDS':
            several = _since_mark(stack)
            _list(stack).extend(several)
        case 'SETITEM':
            value, key = stack.pop(), stack.pop()
            _set_items(stack, [key], [value])
        case 'SETITEMS':
            several = _since_mark(stack)
            _set_items(stack, several[::2], several[1::2])
        case 'TUPLE':
            stack.append(tuple(_since_mark(stack)))
        case 'REDUCE':
            arguments, function = stack.pop(), stack.pop()
            stack.append(_called(function, arguments))
        case 'BUILD':
            state = stack.pop()
            _build(stack[-1], state)
        case _ if name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        case _ if name in _WITH_VALUES:
            stack.append(argument)
        case _ if name in _VALUES:
            stack.append(_VALUES[name])
        case _:
            return False
    return True


def _called(function: Any, arguments: Any) -> _Array | _Type:
    """What NumPy's functions would make of arguments as NumPy's arrays have them."""
    if function == _CONSTRUCTOR and arguments == (_ARRAY, (0,), 'b'):
        return _Array()
    if function == _TYPE and len(arguments) == 3 and arguments[1:] == (0, 1):
        return _Type(arguments[0])
    raise ValueError('it calls NumPy with arguments that its arrays do not have')


def _build(target: Any, state: Any) -> None:
    """Gives an array its values; the state of a type, its byte order, says nothing of single bytes."""
    if isinstance(target, _Array):
        version, shape, kind, fortran, content = state
        if version != 1 or kind != _Type('u1'):
            raise ValueError('it has an array of another type than uint8')
        values = np.frombuffer(content.encode('latin-1'), np.uint8)
        target.values = values.reshape(shape, order='F' if fortran else 'C')
    elif not isinstance(target, _Type):
        raise ValueError('it sets the state of an object')


def _list(stack: list[Any]) -> list[Any]:
    if type(stack[-1]) is not list:
        raise TypeError('a list was expected')
    return stack[-1]


def _set_items(stack: list[Any], keys: list[Any], values: list[Any]) -> None:
    if type(stack[-1]) is not dict or not all(isinstance(key, str) for key in keys):
        raise TypeError('a dict with strings as keys was expected')
    stack[-1].update(zip(keys, values, strict=True))


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1
    while stack[place] is not _MARK:
        place -= 1
        if place < 0:
            raise IndexError('there is no mark')
    several = stack[place + 1 :]
    del stack[place:]
    return several


def _finished(value: Any) -> Any:
    """With arrays in place of what stood for them, in a dict of such, as CIFAR's files are."""
    if isinstance(value, dict):
        return {key: one.values if isinstance(one, _Array) else one for key, one in value.items()}
    return value
