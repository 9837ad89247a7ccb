"""Reads pickles of plain data, which Python 2 or PyTorch wrote, without running them.

A pickle is a program that can call any function. Here only the instructions that dicts, lists, numbers, strings and
NumPy arrays need are followed, and only functions that the caller gives are called, in place of those named. All other
instructions and names are errors; or, where the caller asks for it, a name and whatever is made of it become `Inert`,
which does nothing.
"""

import pickletools
import reprlib  # of what may hold itself many times over
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import numpy as np


class Inert(NamedTuple):
    """What stands for a function, a class, or an object of one."""

    name: str  # module and name with a space between


class PlainArray:
    """An array: `values` is None until its instruction BUILD has been followed."""

    values: np.ndarray | None = None


class _Type(NamedTuple):
    name: str


_ARRAY, _TYPE, _SCALAR = Inert('numpy ndarray'), Inert('numpy dtype'), Inert('numpy.core.multiarray scalar')
_CONSTRUCTOR = Inert('numpy.core.multiarray _reconstruct')
_MARK = object()
_MAX_INSTRUCTIONS = 10**6  # the largest file of CIFAR, CIFAR-100's training images, has some 200,000
_VALUES = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_WITH_VALUES = {'BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT', 'SHORT_BINSTRING', 'BINSTRING', 'BINUNICODE'}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


def read_pickle(
    data: bytes | IO[bytes],
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    persistent: Callable[[Any], Any] | None = None,
    inert: bool = False,
    types: tuple[str, ...] = ('u1',),
    most: int = _MAX_INSTRUCTIONS,
) -> Any:
    """The dicts, lists, tuples, numbers, strs and arrays of a pickle of protocol 2.

    Strings are Python 2's, bytes therefore, and decoded as Latin-1. Arrays in a dict that is the whole are
    `numpy.ndarray`s; deeper inside they are `PlainArray`s.

    Args:
      data: of the pickle; of a file it is read up to the pickle's end.
      functions: what is called in place of a function or class, by 'MODULE NAME'.
      persistent: gives the object for a persistent id.
      inert: whether other names become `Inert` objects rather than errors.
      types: of the numbers in arrays, as NumPy abbreviates them.
      most: number of instructions.

    Raises:
      ValueError: it is damaged, or holds anything else.
    """
    reader = _Reader(functions or {}, persistent, inert, types)
    try:
        for count, (instruction, argument, position) in enumerate(pickletools.genops(data)):
            name = instruction.name
            if name == 'STOP' and len(reader.stack) == 1:
                return _finished(reader.stack[0])
            if count > most:
                raise ValueError(f'it has more than {most:,} instructions')
            if not reader.follow(name, argument):
                what = f'{name} {argument}' if isinstance(argument, str) else name
                raise ValueError(f'instruction {what[:60]!r} at byte {position or 0:,} is not one of plain data')
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(f'its instructions make no sense ({type(error).__name__}: {error})') from error
    raise ValueError('it has no end')


def begins_as_pickle(start: bytes) -> bool:
    """Whether a file with these first bytes is a pickle of protocol 2."""
    return start[:2] == b'\x80\x02'


class _Reader:
    """A stack machine that follows instructions of plain data."""

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any] | None,
        inert: bool,
        types: tuple[str, ...],
    ) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._functions, self._persistent, self._inert, self._types = functions, persistent, inert, types

    def follow(self, name: str, argument: Any) -> bool:
        """Follows an instruction; False if it is not allowed."""
        stack = self.stack
        match name:
            case 'PROTO':
                return bool(argument == 2)
            case 'GLOBAL':
                stack.append(Inert(argument))
                known = stack[-1] in (_ARRAY, _TYPE, _CONSTRUCTOR) or argument in self._functions
                return known or self._inert
            case 'BINPUT' | 'LONG_BINPUT':
                self._memo[argument] = stack[-1]
            case 'BINGET' | 'LONG_BINGET':
                stack.append(self._memo[argument])
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
                self._set_items([key], [value])
            case 'SETITEMS':
                several = _since_mark(stack)
                self._set_items(several[::2], several[1::2])
            case 'TUPLE':
                stack.append(tuple(_since_mark(stack)))
            case 'REDUCE' | 'NEWOBJ':
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._called(function, arguments))
            case 'OBJ':
                function, *arguments = _since_mark(stack)
                stack.append(self._called(function, tuple(arguments)))
            case 'BUILD':
                state = stack.pop()
                self._build(stack[-1], state)
            case 'BINPERSID' if self._persistent is not None:
                stack.append(self._persistent(stack.pop()))
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

    def _called(self, function: Any, arguments: Any) -> Any:
        """What NumPy's functions would make of arguments as NumPy's arrays have them; or a caller's own."""
        if not isinstance(function, Inert) or not isinstance(arguments, tuple):
            raise ValueError('it calls something that is not a function')
        if function == _CONSTRUCTOR and arguments == (_ARRAY, (0,), 'b'):
            return PlainArray()
        if function == _TYPE and len(arguments) == 3 and arguments[1:] == (0, 1):
            return _Type(arguments[0])
        if function == _SCALAR and self._inert and isinstance(arguments[0], _Type):
            return _values(arguments[0], self._types, arguments[1]).item()
        if function.name in self._functions:
            return self._functions[function.name](*arguments)
        if self._inert and function not in (_CONSTRUCTOR, _TYPE):
            return function
        raise ValueError('it calls NumPy with arguments that its arrays do not have')

    def _build(self, target: Any, state: Any) -> None:
        """Gives an array its values; the state of a type is its byte order, and that of others is not wanted."""
        if isinstance(target, PlainArray):
            version, shape, kind, fortran, content = state
            if version != 1 or not isinstance(kind, _Type):
                raise ValueError('it has an array of an unknown version')
            target.values = _values(kind, self._types, content).reshape(shape, order='F' if fortran else 'C')
        elif isinstance(target, _Type):
            if state[1] not in ('<', '|'):
                raise ValueError(f'its numbers have the byte order {reprlib.repr(state[1])}')
        elif not (isinstance(target, Inert) and self._inert) and not (isinstance(target, dict) and self._functions):
            raise ValueError('it sets the state of an object')

    def _set_items(self, keys: list[Any], values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Inert) and self._inert:
            return
        if type(target) is not dict or not all(isinstance(key, str | int) for key in keys):
            raise TypeError('a dict with strings or whole numbers as keys was expected')
        target.update(zip(keys, values, strict=True))


def _values(kind: _Type, types: tuple[str, ...], content: str) -> np.ndarray:
    """The numbers of a string of bytes."""
    if kind.name not in types:
        raise ValueError(f'it has an array of type {reprlib.repr(kind.name)}; known are {_known(types)}')
    return np.frombuffer(content.encode('latin-1'), f'<{kind.name}')


def _known(types: tuple[str, ...]) -> str:
    return ' and '.join(np.dtype(one).name for one in types)


def _list(stack: list[Any]) -> list[Any]:
    if type(stack[-1]) is not list:
        raise TypeError('a list was expected')
    return stack[-1]


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
    """With arrays in place of what stands for them, in a dict of such, as CIFAR's files are."""
    if isinstance(value, dict):
        return {key: one.values if isinstance(one, PlainArray) else one for key, one in value.items()}
    return value
