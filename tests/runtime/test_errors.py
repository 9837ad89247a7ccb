"""Guards what is printed of names that are no plain text."""

import os

import pytest

from alexnet_jax.runtime.errors import UserError, printable


@pytest.mark.parametrize(
    'text, expected',
    [
        ('plain [b] é🐟\nline', 'plain [b] é🐟\nline'),
        (os.fsdecode(b'caf\xe9\xff'), r'caf\xe9\xff'),
        ('\x1b[31mred\r\x9b', r'\x1b[31mred\r\x9b'),
        ('\ud800', r'\ud800'),
    ],
)
def test_bytes_and_control_characters_are_escaped(text, expected):
    assert printable(text) == str(UserError(text)) == expected
    printable(text).encode()
