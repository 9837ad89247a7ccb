"""Reads protocol buffers, the format of Caffe's and ONNX's files, without a schema: fields by their numbers."""

from collections.abc import Iterator

import numpy as np

_MOST_FIELDS = 10**6  # of a message; the longest here are lists of layers
_SIZES = {1: 8, 5: 4}  # bytes of the fixed-width types


class Message:
    """A message. `Message(data)` reads its own fields; messages inside them are read when asked for.

    Raises:
      ValueError: it is cut short, or not a message.
    """

    def __init__(self, data: memoryview) -> None:
        self._fields: dict[int, list[int | memoryview]] = {}
        for count, (number, value) in enumerate(_fields(data)):
            if count >= _MOST_FIELDS:
                raise ValueError(f'a message has more than {_MOST_FIELDS:,} fields')
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def parts(self, number: int) -> list[memoryview]:
        """The bytes of all fields of this number."""
        found = [one for one in self._fields.get(number, []) if not isinstance(one, int)]
        if len(found) != len(self._fields.get(number, [])):
            raise ValueError(f'field {number} is a number, not bytes')
        return found

    def messages(self, number: int) -> 'list[Message]':
        """The messages in all fields of this number."""
        return [Message(part) for part in self.parts(number)]

    def message(self, number: int) -> 'Message':
        """The last message in a field; an empty one where there is none."""
        return Message(self.parts(number)[-1] if number in self else memoryview(b''))

    def texts(self, number: int) -> list[str]:
        """The strings in all fields of this number."""
        return [bytes(part[:1000]).decode('utf-8', 'replace') for part in self.parts(number)]

    def text(self, number: int) -> str:
        """The last string in a field; '' where there is none."""
        return (self.texts(number) or [''])[-1]

    def integers(self, number: int) -> list[int]:
        """The 64-bit integers in all fields of this number, packed or not."""
        found: list[int] = []
        for one in self._fields.get(number, []):
            if isinstance(one, int):
                found.append(one)
            else:
                place = 0
                while place < len(one):
                    if len(found) >= _MOST_FIELDS:
                        raise ValueError(f'field {number} has more than {_MOST_FIELDS:,} numbers')
                    value, place = _varint(one, place)
                    found.append(value)
        return [value - 2**64 if value >= 2**63 else value for value in found]

    def integer(self, number: int, default: int = 0) -> int:
        """The last integer in a field."""
        return (self.integers(number) or [default])[-1]

    def floats(self, number: int, kind: str = '<f4') -> np.ndarray:
        """The fixed-width numbers in all fields of this number, packed or not; of a single field without a copy."""
        parts = self.parts(number)
        if any(len(part) % np.dtype(kind).itemsize for part in parts):
            raise ValueError(
                f'field {number} has {sum(map(len, parts)):,} bytes, not a multiple of {np.dtype(kind).itemsize}'
            )
        arrays = [np.frombuffer(part, kind) for part in parts]
        return arrays[0] if len(arrays) == 1 else np.concatenate([np.zeros(0, kind), *arrays])

    def number(self, number: int, default: float) -> float:
        """The last 32-bit number in a field, with the fewest digits: 5e-05 rather than 4.9999998e-05."""
        found = self.floats(number)
        return float(str(found[-1])) if len(found) else default


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        if kind == 2:
            size, place = _varint(data, place)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise ValueError(f'at byte {place:,} of a message there is a field of the unknown type {kind}')
        if size > len(data) - place:
            raise ValueError(f'field {number} has {size:,} bytes by its length, and {len(data) - place:,} are there')
        yield number, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """An integer of up to 64 bits, seven per byte, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError('a message is cut short')
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place
    raise ValueError('a number has more than 64 bits')
