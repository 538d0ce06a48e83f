"""A sealed cursor opens for whom it was sealed, as it was, and nothing else opens."""

import base64
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import BEFORE_ALL, format_time
from lykke_cli.application.unsettled import IDS
from lykke_cli.infrastructure.database.regions import Region
from lykke_cli.infrastructure.database.runs import NONE, Runs
from lykke_cli.infrastructure.database.witnesses import Witnesses
from lykke_cli.infrastructure.postgresql import cursor as postgresql
from lykke_cli.infrastructure.postgresql.cursor import Origin, Snapshot
from lykke_cli.infrastructure.postgresql.relations import Group
from lykke_cli.infrastructure.sealed_cursors import LONGEST, CursorRefused, SealedCursors
from lykke_cli.infrastructure.sqlite import cursor as sqlite
from lykke_cli.infrastructure.sqlite.cursor import Unreadables

KEY, OLD_KEY = bytes(range(32)), bytes(range(32, 64))
USER = uuid.UUID("018f0000-0000-7000-8000-000000000001")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
YEAR_1 = datetime(1, 1, 1, tzinfo=UTC)
SEALED = SealedCursors([KEY])
FIRST_VERSION = (
    "AfCiHj36dsepAOj2vtVUFWLmuQOnfag6u3IBTNzcDmlWLOzGlB0yqH_9CCMLenh4nrNeTXxHAE7sN963U6rhpr3V"
    "RnZrRpE1OmQX6DiJtXaNFIvladQEgq1c6zCgpbNdccU6fpd9SkgMrclVu9qVvRHR8WCchstRZUt3eNKL7qnTpbef"
    "ubaMSb4FbSmB9iMmBs7F5iZ2Ck3pXATJm48AYp3PMBdR7blXB2JUAuEkibz4PaSn-uuybWuewY9svFQLT3sVAF21"
    "O1dDdd50fjnXjLo6FWMgxs9JCF1Mvs9nw8wmKDgR5E5TxdTgTFeOjKKygg5jNPSwURGLxeE0Z2pMvyIwNEVz28WN"
    "xTTfoH6CRQ"
)
"""What version 1 of the format made of `FIXED`: cursors out there are to hold."""


def witnesses(count: int) -> Witnesses:
    rows = [(10**6 - 2**n, str(uuid.uuid5(USER, str(n)))) for n in range(count)]
    return Witnesses.at_start(rows)


def postgresql_cursor(
    relations: frozenset[int] = frozenset({16_386}),
    runs: Runs = NONE,
    kept: int = 3,
    more: tuple[Region, ...] = (),
) -> Cursor:
    origin = Origin("7713117246799470469/16399", 1, 15_248_768, f"{NOW}{NOW}", False)
    snapshot = Snapshot(10**6, 10**6 + 9, NOW, origin, relations=relations)
    groups = [Group(relations, (Region(10**6, visible=runs), *more))]
    return postgresql.make_cursor(snapshot, groups, NOW - timedelta(hours=1), witnesses(kept))


FIXED = Checkpoint(
    postgresql_cursor(runs=Runs.of([10**6 + 3, 10**6 + 7])),
    {"018f0000-0000-7000-8000-00000000000a": format_time(NOW - timedelta(microseconds=5))},
    format_time(NOW),
)

ids = st.uuids().map(str)
times = st.datetimes(timezones=st.just(UTC)).map(format_time) | st.just(BEFORE_ALL)
runs = st.lists(st.integers(0, 5_000), max_size=40).map(
    lambda offsets: Runs.of(10**6 + offset for offset in offsets)
)
cursors = st.none() | st.builds(postgresql_cursor, st.frozensets(st.integers(1, 2**32)), runs)
cursors |= st.just(
    sqlite.make_cursor("1:2", [Region(7)], witnesses(9), Unreadables(Region(7), ("x", "y")))
)
cursors |= st.dictionaries(st.text(max_size=9), st.text(max_size=9) | st.integers(0, 9)).map(Cursor)
checkpoints = st.builds(
    Checkpoint, cursors, st.dictionaries(ids, times, max_size=20), st.none() | times
)


@given(checkpoints, st.uuids())
def test_a_checkpoint_comes_back_as_it_was(checkpoint: Checkpoint, user: uuid.UUID) -> None:
    text = SEALED.seal(user, checkpoint)
    assert len(text) <= LONGEST
    assert text == text.strip() and not set(text) - set(base64_url)
    opened = SealedCursors([KEY]).open(user, text)
    assert (opened.pending, opened.floor) == (checkpoint.pending, checkpoint.floor)
    assert list(opened.pending) == list(checkpoint.pending)
    if opened.cursor is None or checkpoint.cursor is None:
        assert opened.cursor == checkpoint.cursor
    else:
        assert plain(opened.cursor) == plain(checkpoint.cursor)


base64_url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def plain(cursor: Cursor) -> Any:
    """Without what JSON does not tell apart, a list and a tuple."""
    return repr(cursor.data).replace("(", "[").replace(")", "]")


def test_what_an_earlier_lykke_sealed_opens() -> None:
    assert SEALED.open(USER, FIRST_VERSION) == FIXED


def test_two_texts_of_one_checkpoint_tell_nobody_that_they_are_of_one() -> None:
    one, other = (SEALED.seal(USER, FIXED) for _ in range(2))
    same = sum(a == b for a, b in zip(one[15:], other[15:], strict=True))
    assert same < len(one) / 8


def refusal(text: str, user: uuid.UUID | None = USER, sealed: SealedCursors = SEALED) -> str:
    with pytest.raises(CursorRefused) as caught:
        sealed.open(user, text)
    assert KEY.hex() not in str(caught.value)
    return caught.value.problem


def test_another_users_is_refused_by_name() -> None:
    assert "another user's" in refusal(SEALED.seal(USER, FIXED), uuid.uuid4())


def test_one_of_every_users_entries_is_for_no_single_user_nor_the_other_way_round() -> None:
    every = SEALED.seal(None, FIXED)
    assert SEALED.open(None, every) == FIXED
    assert "another user's" in refusal(every, USER)
    assert "a single user's" in refusal(SEALED.seal(USER, FIXED), None)


def test_one_sealed_with_another_key_is_refused_by_name() -> None:
    said = refusal(SEALED.seal(USER, FIXED), sealed=SealedCursors([OLD_KEY]))
    assert "another key" in said and "forged" in said


def test_a_truncated_one_is_refused_by_name_wherever_it_was_cut() -> None:
    text = SEALED.seal(USER, FIXED)
    for length in range(2, len(text)):
        assert "truncated" in refusal(text[:length])


def test_one_of_a_later_version_is_refused_by_name() -> None:
    data = base64.urlsafe_b64decode(SEALED.seal(USER, FIXED) + "==")
    later = base64.urlsafe_b64encode(b"\x02" + data[1:]).decode().rstrip("=")
    assert "later version" in refusal(later)


@pytest.mark.parametrize(
    "text",
    ["", "A", "=", "none", "a b", "é", "\ud800", "\x00", "AQ==", "x" * (LONGEST + 1), "+/+/"],
)
def test_what_is_no_cursor_at_all_is_refused(text: str) -> None:
    assert "cursor" in refusal(text)


def test_any_flipped_bit_is_refused() -> None:
    data = base64.urlsafe_b64decode((text := SEALED.seal(USER, FIXED)) + "==")
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        refusal(base64.urlsafe_b64encode(bytes(flipped)).decode().rstrip("="))
    for number, letter in enumerate(text):  # the last one has bits that count for nothing
        for other in {chr(ord(letter) ^ 1 << bit) for bit in range(7)}:
            refusal(text[:number] + other + text[number + 1 :])


@given(
    st.text(max_size=99)
    | st.binary(max_size=99).map(lambda d: base64.urlsafe_b64encode(d).decode())
)
def test_any_text_is_refused(text: str) -> None:
    refusal(text)


def test_a_key_is_replaced_without_a_reader_losing_its_place() -> None:
    old = SealedCursors([OLD_KEY]).seal(USER, FIXED)
    both = SealedCursors([KEY, OLD_KEY])
    assert both.open(USER, old) == FIXED
    new = both.seal(USER, FIXED)
    assert SEALED.open(USER, new) == FIXED
    assert "another key" in refusal(old)


@pytest.mark.parametrize("keys", [[], [b""], [KEY[:-1]], [KEY, KEY + b"x"]])
def test_a_key_has_32_bytes(keys: list[bytes]) -> None:
    with pytest.raises(ValueError) as caught:
        SealedCursors(keys)
    assert repr(KEY[:-1])[2:-1] not in str(caught.value)


def test_the_key_is_in_no_text_of_the_object() -> None:
    assert not {KEY.hex(), repr(KEY)} & {*repr(SEALED).split(), *repr(vars(SEALED)).split(",")}


def pending(count: int, within: timedelta) -> dict[str, str]:
    return {str(uuid.uuid4()): format_time(NOW - within * n / count) for n in range(count)}


@pytest.mark.parametrize("within", [timedelta(hours=1), timedelta(days=30), NOW - YEAR_1])
def test_all_the_ids_that_a_reader_may_name_fit_whole(within: timedelta) -> None:
    """However far some are back-dated; also while a few transactions are open."""
    runs = Runs.of(10**6 + n * n for n in range(6))
    recent = Region(10**6 + 99, low=NOW - timedelta(hours=1), visible=runs)
    cursor = postgresql_cursor(runs=runs, kept=40, more=(recent,))
    checkpoint = Checkpoint(cursor, pending(IDS, within), format_time(NOW))
    opened = SealedCursors([KEY]).open(USER, SEALED.seal(USER, checkpoint))
    assert opened.pending == checkpoint.pending
    assert opened.cursor is not None and "abridged" not in opened.cursor.data


@pytest.mark.parametrize(
    ("what", "cursor", "ids"),
    [
        ("pending", postgresql_cursor(), 200),
        (
            "pending of SQLite",
            sqlite.make_cursor("1:2", [Region(7)], witnesses(9), Unreadables()),
            200,
        ),
        ("runs", postgresql_cursor(runs=Runs.of(n * n % 999_983 for n in range(5_000))), 3),
        ("relations", postgresql_cursor(frozenset(n * n % 999_983 for n in range(9_000))), 3),
        (
            "all",
            postgresql_cursor(
                frozenset(n * n % 999_983 for n in range(60_000)), Runs.of(range(0, 90_000, 3)), 60
            ),
            5_000,
        ),
        (
            "rows without a time",
            sqlite.make_cursor(
                "1:2",
                [Region(7)],
                witnesses(9),
                Unreadables(Region(7, visible=Runs.of(n * n % 99_991 for n in range(9_000)))),
            ),
            0,
        ),
    ],
)
def test_one_that_is_too_large_goes_with_less_and_says_so(
    what: str, cursor: Cursor, ids: int
) -> None:
    checkpoint = Checkpoint(cursor, pending(ids, timedelta(hours=1)), format_time(NOW))
    text = SEALED.seal(USER, checkpoint)
    assert len(text) <= LONGEST
    opened = SEALED.open(USER, text)
    assert opened.cursor is not None and opened.cursor.data["abridged"] is True
    assert (opened.pending, opened.floor) == ({}, checkpoint.floor)


def test_one_of_a_history_that_is_not_ours_is_sealed_whole_or_not_at_all() -> None:
    checkpoint = Checkpoint(Cursor({"n": 1}), {}, None)
    assert SealedCursors([KEY]).open(USER, SEALED.seal(USER, checkpoint)) == checkpoint
    for cursor in ({"n": [str(uuid.uuid4()) for _ in range(200)]}, {"n": 2**64}):
        with pytest.raises(ValueError):
            SEALED.seal(USER, Checkpoint(Cursor(cursor), {}, None))


def test_the_very_cursor_that_was_sealed_comes_back_in_the_same_process() -> None:
    """Though fewer witnesses travel: so a hub finds it among its marks."""
    cursor = postgresql_cursor(kept=40)
    text = SEALED.seal(USER, Checkpoint(cursor, {}, None))
    assert SEALED.open(USER, text).cursor is cursor
    elsewhere = SealedCursors([KEY]).open(USER, text).cursor
    assert elsewhere is not None and elsewhere != cursor
    assert elsewhere.data | {"witnesses": None} == cursor.data | {"witnesses": None}


def test_few_cursors_are_kept() -> None:
    sealed = SealedCursors([KEY])
    first = postgresql_cursor(kept=40)
    text = sealed.seal(USER, Checkpoint(first, {}, None))
    for n in range(600):
        other = Cursor({"n": n})
        assert sealed.open(USER, sealed.seal(USER, Checkpoint(other, {}, None))).cursor is other
    assert sealed.open(USER, text).cursor is not first


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "postgresql"},
        {"kind": "sqlite", "regions": [1]},
        {"kind": "postgresql", "at": "x", "groups": 3},
    ],
)
def test_one_that_this_version_cannot_read_is_refused(data: dict[str, Any]) -> None:
    """Though it was sealed with our key: by a version that wrote cursors otherwise."""
    from lykke_cli.infrastructure import sealed_cursors as module
    from lykke_cli.infrastructure.database.compact_json import pack

    content = module._encode((pack(data), b"", 0, 0, b"", None))
    assert "this version" in refusal(SEALED._keys[0].seal(USER.bytes, content))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        (None, b"short", 0, 0, b"", None),
        (None, bytes(16), 8, 0, b"", None),
        (None, bytes(16), -8, 0, b"", None),
        (None, bytes(16), 8, 2**62, b"\x01", None),
        (None, b"", 0, 0, b"", 2**63),
        (None, b"", 0, 0, b"", -(2**63)),
        (b"\xff", b"", 0, 0, b"", None),
        (None, b"", 0, 0, b""),
        (None, "text", 0, 0, b"", None),
    ],
)
def test_content_of_another_form_is_refused(content: Any) -> None:
    from lykke_cli.infrastructure import sealed_cursors as module

    encoded = content if isinstance(content, bytes) else module._encode(content)
    assert "this version" in refusal(SEALED._keys[0].seal(USER.bytes, encoded))
