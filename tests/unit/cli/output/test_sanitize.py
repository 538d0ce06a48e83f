"""No foreign text reaches a terminal or a spreadsheet as an instruction."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.cli.output.sanitize import json_for_terminal, visible

ANY_TEXT = st.text(st.characters(), max_size=60)
ENCODABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
HOSTILE = st.text('\x00\x07\x1b\x7f\x9b\r\t\n\u200b\u202e\u2066\u2028\ufeff\U000e0041a"\\é日🎉')
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | ENCODABLE | HOSTILE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ENCODABLE | HOSTILE, inner),
    max_leaves=12,
)
VISIBLE_FORMAT_CHARACTERS = set(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
)


def is_dangerous(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and character not in VISIBLE_FORMAT_CHARACTERS
    )


@given(ANY_TEXT | HOSTILE)
def test_visible_text_has_no_dangerous_character(text: str) -> None:
    assert not [character for character in visible(text) if is_dangerous(character)]


def test_every_dangerous_code_point_is_shown_as_an_escape() -> None:
    missed = [hex(c) for c in range(0x110000) if is_dangerous(chr(c)) and visible(chr(c)) == chr(c)]
    assert missed == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [bold]text[/oops]", "plain [bold]text[/oops]"),
        ("dansk æøå 日本語 🎉 ❤\ufe0f", "dansk æøå 日本語 🎉 ❤\ufe0f"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\tb\r\nc", "a\\tb\\r\\nc"),
        ("\x7f\x85\x9b", "\\x7f\\x85\\x9b"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("zero\u200bwidth\u200djoined", "zero\\u200bwidth\\u200djoined"),
        ("line\u2028paragraph\u2029", "line\\u2028paragraph\\u2029"),
        ("\ufeff", "\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_dangerous_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(JSON_VALUES, st.sampled_from([None, 1]))
def test_json_for_a_terminal_is_the_same_json(value: object, indent: int | None) -> None:
    line = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    safe = json_for_terminal(line)
    assert json.loads(safe) == value
    assert not [c for c in safe.decode() if is_dangerous(c) and c not in "\n\t"]


def test_json_with_nothing_dangerous_is_returned_itself() -> None:
    for line in (b'{"a":\t"b"}\n{}', '{"a":"日本 🎉 \ufffd"}'.encode()):
        assert json_for_terminal(line) is line


def test_characters_beyond_the_basic_plane_become_surrogate_pairs() -> None:
    assert json_for_terminal('"\U000e0041"'.encode()) == b'"\\udb40\\udc41"'


def test_json_that_is_not_valid_is_still_harmless() -> None:
    assert json_for_terminal(b'"\x1b[2J\xff') == '"\\u001b[2J\ufffd'.encode()
    assert json_for_terminal(b'{"a":\r1}') == b'{"a": 1}'
