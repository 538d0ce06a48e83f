"""What a bridge says is understood, or shown as what cannot be read; it is never believed."""

import uuid
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.bridge_frames import (
    CaughtUp,
    Heartbeat,
    Noticed,
    OneEntry,
    Opening,
    Problem,
    Reconnect,
    ServersAre,
    SeveralEntries,
    Subscribed,
    decode_frame,
    messages_of,
    opening,
    query_of,
)
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import Entry, OtherMessage, UnreadableEntry, decode, to_line
from tests.builders import entity, wire

USER = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("fields", "frame"),
    [
        (
            {"type": "subscribed", "user_id": str(USER), "exact": False, "from": "memory"},
            Subscribed(USER, exact=False),
        ),
        ({"type": "caught_up", "cursor": "c"}, CaughtUp("c")),
        ({"type": "heartbeat", "cursor": None, "more": 1}, Heartbeat()),
        ({"type": "status", "state": "live", "since": "now"}, ServersAre("live")),
        ({"type": "error", "code": "x", "temporary": True, "message": "y"}, Problem("x", "y")),
        ({"type": "notice", "message": "y"}, Noticed("y")),
        ({"type": "reconnect", "after_ms": 5}, Reconnect(5.0)),
    ],
)
def test_a_frame_says_what_the_protocol_says(fields: dict[str, Any], frame: object) -> None:
    assert decode_frame(orjson.dumps(fields)) == frame


def test_entries_come_one_by_one_or_several_at_once() -> None:
    lines = [wire(entity(USER, meta={"n": n})) for n in range(3)]
    one = decode_frame(b'{"type":"auditlog","data":%b,"cursor":"c"}' % lines[0])
    several = decode_frame(b'{"type":"auditlog_batch","data":[%b]}' % b",".join(lines))
    assert isinstance(one, OneEntry) and isinstance(several, SeveralEntries)
    assert list(messages_of(one, USER)) == [decode(lines[0])]
    assert list(messages_of(several, USER)) == [decode(line) for line in lines]


def test_an_entry_that_cannot_be_read_prints_as_it_does_beside_the_database() -> None:
    line = {"id": str(USER), "unreadable": "{}", "reason": "no time", "raw_base64": "e30="}
    frame = decode_frame(orjson.dumps({"type": "auditlog", "data": line}))
    assert isinstance(frame, OneEntry)
    [message] = messages_of(frame, USER)
    assert isinstance(message, UnreadableEntry)
    assert orjson.loads(to_line(message)) == line


@pytest.mark.parametrize(
    "data",
    [
        {"id": "x", "unreadable": "{}", "reason": "no time", "raw_base64": "e30="},
        {"id": str(USER), "unreadable": "{}", "reason": "no time", "raw_base64": "!"},
        {"hello": 1},
        [1],
        None,
    ],
)
def test_what_is_no_entry_is_none_in_any_frame(data: Any) -> None:
    frame = decode_frame(orjson.dumps({"type": "auditlog", "data": data}))
    assert isinstance(frame, OneEntry)
    assert [type(message) for message in messages_of(frame, USER)] == [Unreadable]


def test_messages_of_the_channel_are_as_they_were_there() -> None:
    broadcast = b'{"type":"client_broadcast","data":{"a": 1.50}}'
    assert decode_frame(broadcast) == OtherMessage(broadcast)
    wrapped = decode_frame(b'{"type":"message","data":{"n": 1}}')
    assert wrapped == OtherMessage(b'{"n": 1}')
    unreadable = to_line(Unreadable(b"\xff", "not UTF-8"))
    assert decode_frame(b'{"type":"message","data":%b}' % unreadable) == Unreadable(
        b"\xff", "not UTF-8"
    )
    assert isinstance(decode_frame(b'{"type":"message","data":[1]}'), Unreadable)


def test_nothing_but_a_frame_of_entries_has_an_entry() -> None:
    line = wire(entity(USER))
    assert isinstance(decode_frame(line), Unreadable)
    assert decode_frame(b'{"type":"message","data":%b}' % line) == OtherMessage(line)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"null",
        b"[" * 100_000,
        b'{"type":"auditlog"}',
        b'{"type":"auditlog_batch","data":{}}',
        b'{"type":"subscribed"}',
        b'{"type":"reconnect","after_ms":-1}',
        b'{"type":"heartbeat","cursor":""}',
        b'{"type":"heartbeat","cursor":"%b"}' % (b"x" * 10_000),
        b'{"type":"heartbeat","cursor":5}',
    ],
)
def test_what_makes_no_sense_is_unreadable(payload: bytes) -> None:
    frame = decode_frame(payload)
    assert isinstance(frame, Unreadable)
    assert frame.raw == payload


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
kinds = st.sampled_from(["subscribed", "auditlog", "auditlog_batch", "message", "error", "other"])


@given(
    st.binary()
    | st.builds(lambda kind, data: orjson.dumps({"type": kind, "data": data}), kinds, json_values)
)
def test_whatever_comes_nothing_raises(payload: bytes) -> None:
    frame = decode_frame(payload)
    if isinstance(frame, OneEntry | SeveralEntries):
        for message in messages_of(frame, USER):
            assert not isinstance(message, OtherMessage)
            if isinstance(message, Entry):
                assert message.user_id == str(USER)


def test_the_opening_says_where_to_begin() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    in_history = [("since", "2026-01-01T00:00:00.000000Z"), ("last", "5")]
    assert opening(cursor=None, since=since, last=5) == Opening(in_history, None)
    now = opening(cursor=None, since=None, last=0)
    assert now == Opening([], b'{"type":"resume"}')
    later = opening(cursor="c", since=since, last=5)
    assert later == Opening((), b'{"type":"resume","cursor":"c"}')


def test_filters_go_along_as_they_are_called_on_the_command_line() -> None:
    filters = Filters(
        activity_types=("A", "B*"),
        excluded_types=("C",),
        entity_type="task",
        entity_id=USER,
        until=datetime(2026, 1, 1, tzinfo=UTC),
        query="meta.a",
        grep="x",
        not_grep="y",
    )
    assert query_of(filters) == [
        ("activity_type", "A"),
        ("activity_type", "B*"),
        ("exclude", "C"),
        ("entity_type", "task"),
        ("entity_id", str(USER)),
        ("until", "2026-01-01T00:00:00.000000Z"),
        ("query", "meta.a"),
        ("grep", "x"),
        ("not_grep", "y"),
    ]
    assert query_of(Filters()) == []
