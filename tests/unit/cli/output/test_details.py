"""Details begin with what one looks for, and are painted as they should be."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.cli.output.details import Details, details_of


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        (b'{"z":1,"reason":1,"error":1,"a":1}', "error=1 reason=1 a=1 z=1"),
        (b'{"name":1,"text":1,"title":1}', "title=1 text=1 name=1"),
        (b'{"title":{"a":1},"b":[[]],"a":{},"z":null}', "z=null title={…} a={} b=[1]"),
        (b'{"a":[1,}', '{"a":[1,}'),
    ],
)
def test_plain_values_come_first_and_of_others_the_size(meta: bytes, text: str) -> None:
    assert details_of(meta, 100).text == text


@given(st.permutations(['"title":1', '"b":"x"', '"a":[1]', '"c":{}', '"text":null']))
def test_the_order_is_not_that_of_the_source(fields: list[str]) -> None:
    details = details_of(f"{{{','.join(fields)}}}".encode(), 100)
    assert details.text == "title=1 text=null b=x a=[1] c={}"


def test_nested_values_are_whole_where_they_are_asked_for() -> None:
    meta = b'{"a":{"b": [1, 2]},"c":["needle"],"d":[1]}'
    assert details_of(meta, 100, whole=True).text == 'a={"b":[1,2]} c=["needle"] d=[1]'
    found = details_of(meta, 100, sought=re.compile("needle"))
    assert found.text == 'a={…} c=["needle"] d=[1]'


def test_no_more_is_looked_at_than_there_is_room_for() -> None:
    many = b"{" + b",".join(b'"k%05d":1' % n for n in range(10_000)) + b"}"
    assert 100 <= len(details_of(many, 100).text) < 200


def test_marks_hide_the_paint_under_them() -> None:
    details = details_of(b'{"abc":"x","def":"x"}', 100)
    marked = details.marking(re.compile("c=x d"))
    assert marked.painted("") == ("\x1b[2mab\x1b[0m\x1b[7mc=x d\x1b[0m\x1b[2mef=\x1b[0mx")
    assert details.marking(re.compile("b*")).painted("").count("\x1b[7m") == 1


@given(st.integers(0, 20), st.integers(0, 20))
def test_a_part_is_painted_as_in_the_whole(start: int, length: int) -> None:
    details = Details("0123456789abcdefghij", [(2, 5, "2"), (5, 7, "7"), (12, 18, "2")])
    part = details.part(start, start + length, "<", ">")
    assert part.text == f"<{details.text[start : start + length]}>"

    def painted(details: Details) -> set[tuple[str, str]]:
        return {(char, code) for a, b, code in details.spans for char in details.text[a:b]}

    assert painted(part) == {each for each in painted(details) if each[0] in part.text}
    assert re.sub(r"\x1b\[\d*m", "", part.painted("1")) == part.text
