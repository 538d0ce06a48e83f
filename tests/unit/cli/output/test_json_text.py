"""JSON for people stays the same JSON."""

import json
import re

import pytest

from lykke_cli.cli.output.json_text import array_of, indented

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def test_keys_texts_and_nulls_are_told_apart() -> None:
    shown = indented(b'{"k\\"null":"v: \\\\","n":null,"t":true}', in_color=True).decode()
    assert shown.splitlines() == [
        "{",
        '  \x1b[34;1m"k\\"null"\x1b[0m: \x1b[32m"v: \\\\"\x1b[0m,',
        '  \x1b[34;1m"n"\x1b[0m: \x1b[2mnull\x1b[0m,',
        '  \x1b[34;1m"t"\x1b[0m: true',
        "}",
    ]


@pytest.mark.parametrize(
    "value",
    [
        b'{"n":12345678901234567890.10,"e":1E400}',
        '{"a":"日本\\u202e\u202e\x7f","b":["\\"}",{}]}'.encode(),
        b'"text"',
        b"not JSON, [\x1b[2J",
        b"\xff\x1b",
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("in_color", [False, True])
def test_nothing_but_space_is_changed_and_nothing_is_obeyed(value: bytes, in_color: bool) -> None:
    text = ESCAPE.sub("", indented(value, in_color=in_color).decode())
    assert text.replace("\n", "").isprintable()
    try:
        was = json.loads(value, parse_float=str)
    except (ValueError, RecursionError):
        return
    assert json.loads(text, parse_float=str) == was


def test_elements_are_set_in() -> None:
    shown = array_of([b'{"a":{}}', b'{"b":[1]}'], in_color=False).decode()
    assert shown == '  {\n    "a": {}\n  },\n  {\n    "b": [\n      1\n    ]\n  }'
