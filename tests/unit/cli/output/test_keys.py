"""What keys ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.cli.output.keys import MOST_SOUGHT, Command, Key, Keys, Seek, Typed


def asked(*typed: bytes) -> list[Command]:
    keys = Keys()
    return [command for data in typed for command in keys.feed(data)]


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        (b" ", Key.PAUSE),
        (b"e", Key.IN_FULL),
        (b"\r", Key.MARK),
        (b"\n", Key.MARK),
        (b"?", Key.HELP),
        (b"q", Key.QUIT),
    ],
)
def test_each_key_asks_for_something(typed: bytes, key: Key) -> None:
    assert asked(typed) == [key]


@pytest.mark.parametrize("typed", [b"x", b"\x1b", b"\x1b[15~", b"\x1bOP", b"\x1bq", b"\xff", b"\0"])
def test_what_is_no_key_of_ours_is_passed_over(typed: bytes) -> None:
    assert asked(typed, b"q") == [Key.QUIT]


def test_what_is_sought_is_shown_as_it_is_typed() -> None:
    assert asked(b"/", b"q", b" ?", b"\r", b"q") == [
        *(Typed(""), Typed("q"), Typed("q "), Typed("q ?"), Seek("q ?"), Key.QUIT)
    ]


def test_what_is_typed_can_be_taken_back() -> None:
    assert asked(b"/ab\x7f\b\x08", b"q")[-3:] == [Typed(""), Typed(None), Key.QUIT]
    assert asked(b"/ab\x15\n")[-2:] == [Typed(""), Seek("")]
    assert asked(b"/ab", b"\x1b", b"q")[-2:] == [Typed(None), Key.QUIT]


def test_arrows_do_not_give_up_what_is_typed() -> None:
    assert asked(b"/a\x1b[A\x1b[1;5Cb\r")[-1] == Seek("ab")


def test_a_letter_may_come_in_parts() -> None:
    assert asked(b"/\xc3", b"\xa6\r")[-1] == Seek("æ")


def test_what_is_sought_has_an_end() -> None:
    assert asked(b"/" + b"x" * 1_000 + b"\r")[-1] == Seek("x" * MOST_SOUGHT)


@given(st.lists(st.binary()))
def test_whatever_is_typed_nothing_that_is_sought_moves_the_cursor(typed: list[bytes]) -> None:
    for command in asked(*typed):
        if isinstance(command, Seek | Typed):
            assert (command.text or "").isprintable()
