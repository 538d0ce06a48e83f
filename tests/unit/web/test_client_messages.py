"""What a client says is understood or refused, and never published as what it is not."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lykke_cli.application.messages import (
    ENTRY_KEYS,
    OtherMessage,
    decode,
    decode_marked,
    encode,
)
from lykke_cli.web.client_messages import (
    LONGEST_EVENT_ID,
    MOST_BYTES,
    Acknowledgment,
    Broadcast,
    Misunderstood,
    Resume,
    Token,
    parse,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SENT_AT = "2026-11-23T12:00:00.000000Z"
ENTRY = {
    "id": "018f0000-0000-7000-8000-000000000001",
    "user_id": "018f0000-0000-7000-8000-000000000002",
    "activity_type": "TASK_COMPLETED",
    "occurred_at": SENT_AT,
}
SERVERS_OWN = {
    "auditlog",
    "auditlog_batch",
    "subscribed",
    "caught_up",
    "error",
    "status",
    "reconnect",
}


def understood(frame: str | bytes) -> Any:
    return parse(frame, now=NOW)


def published(frame: str | bytes, subject: str = "somebody") -> dict[str, Any]:
    """As subscribers of the channel get it."""
    message = understood(frame)
    assert isinstance(message, Broadcast | Acknowledgment)
    payload = encode(message.published(subject, NOW))
    assert decode(payload) == OtherMessage(payload)
    assert decode_marked(payload) == (OtherMessage(payload), False)
    fields = json.loads(payload)
    assert fields["type"] in ("client_broadcast", "acknowledgment")
    assert ENTRY_KEYS.isdisjoint(fields)
    assert isinstance(fields, dict)
    return fields


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ('{"type":"token","token":"t"}', Token("t")),
        ('{"type":"resume"}', Resume()),
        ('{"type":"resume","cursor":null,"since":null,"last":null}', Resume()),
        ('{"type":"resume","cursor":"C","of":"the next version"}', Resume(cursor="C")),
        ('{"type":"resume","since":"2026-01-31T12:00:00+01:00"}',
         Resume(since=datetime(2026, 1, 31, 11, tzinfo=UTC))),
        ('{"type":"resume","since":"15m"}', Resume(since=NOW - timedelta(minutes=15))),
        ('{"type":"resume","last":1}', Resume(last=1)),
        ('{"type":"x","type":"resume","last":1,"last":2}', Resume(last=2)),
    ],
)  # fmt: skip
def test_what_is_understood(frame: str, message: object, as_bytes: bool) -> None:
    assert understood(frame.encode() if as_bytes else frame) == message


def test_a_broadcast_is_published_with_who_sent_it_and_when() -> None:
    assert published('{"broadcast":true,"data":{"a":[1]},"from":"root","type":"auditlog"}') == {
        "type": "client_broadcast",
        "data": {"a": [1]},
        "from": "somebody",
        "sent_at": SENT_AT,
    }


def test_what_is_broadcast_keeps_its_bytes() -> None:
    """No number is rounded."""
    frame = '{"broadcast":true,"data":{"n": 12345678901234567890123.10, "b":2, "a":1}}'
    message = understood(frame)
    payload = encode(message.published("somebody", NOW))
    assert b'{"n": 12345678901234567890123.10, "b":2, "a":1}' in payload


def test_an_acknowledgment_is_published_with_what_else_it_says() -> None:
    assert published(
        '{"type":"acknowledgment","event_id":"1","from":"root","received_at":"ever","note":["x"]}'
    ) == {
        "type": "acknowledgment",
        "event_id": "1",
        "received_at": SENT_AT,
        "from": "somebody",
        "note": ["x"],
    }


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", "not_json"),
        ("hello", "not_json"),
        ("[]", "not_json"),
        ("null", "not_json"),
        ('"\\ud800"', "not_json"),
        ("{", "not_json"),
        ('{"broadcast":true,"data":NaN}', "not_json"),
        ('{"broadcast":true,"data":"\\ud800"}', "not_json"),
        ('{"broadcast":true,"data":"\ud800"}', "not_json"),
        (b'{"broadcast":true,"data":"\xff"}', "not_json"),
        ('{"broadcast":true,"data":' + "[" * 30_000 + "]" * 30_000 + "}", "not_json"),
        ('{"broadcast":true,"data":"\x00"}', "not_json"),
        ('{"broadcast":true,"data":1' + "0" * 400 + "}", "not_json"),
        ("é" * (MOST_BYTES // 2) + "x", "too_large"),
        (b" " * MOST_BYTES + b"1", "too_large"),
        ("{}", "unknown_message"),
        (json.dumps(ENTRY), "unknown_message"),
        ('{"type":"auditlog","data":{}}', "unknown_message"),
        ('{"type":["token"],"token":"t"}', "unknown_message"),
        ('{"broadcast":1,"data":{}}', "unknown_message"),
        ('{"broadcast":"true","data":{}}', "unknown_message"),
        ('{"broadcast":true}', "bad_request"),
        ('{"type":"token"}', "bad_request"),
        ('{"type":"token","token":""}', "bad_request"),
        ('{"type":"token","token":["s3cret"]}', "bad_request"),
        ('{"type":"resume","cursor":"C","last":1}', "bad_request"),
        ('{"type":"resume","cursor":1}', "bad_request"),
        ('{"type":"resume","since":1}', "bad_request"),
        ('{"type":"resume","since":"one day"}', "bad_request"),
        ('{"type":"resume","since":"99999999w"}', "bad_request"),
        ('{"type":"resume","last":0}', "bad_request"),
        ('{"type":"resume","last":true}', "bad_request"),
        ('{"type":"resume","last":1.5}', "bad_request"),
        ('{"type":"resume","last":1000000001}', "bad_request"),
        ('{"type":"acknowledgment"}', "bad_request"),
        ('{"type":"acknowledgment","event_id":1}', "bad_request"),
        ('{"type":"acknowledgment","event_id":""}', "bad_request"),
        (json.dumps({"type": "acknowledgment", "event_id": "x" * (LONGEST_EVENT_ID + 1)}),
         "bad_request"),
        (json.dumps({"type": "acknowledgment", "event_id": "1"} | ENTRY), "bad_request"),
        ('{"type":"acknowledgment","event_id":"1","i\\u0064":"2"}', "bad_request"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_told_in_a_sentence(frame: str | bytes, code: str) -> None:
    message = understood(frame)
    assert isinstance(message, Misunderstood)
    assert message.code == code
    assert message.message.endswith(".") and message.message.isprintable()
    assert "s3cret" not in message.message


def test_a_token_is_in_no_text_of_its_message() -> None:
    assert "s3cret" not in repr(understood('{"type":"token","token":"s3cret"}'))


def test_a_subject_that_is_no_unicode_is_published_all_the_same() -> None:
    assert published('{"broadcast":true,"data":1}', "a\ud800b")["from"] == "a?b"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
of_an_entry: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(ENTRY_KEYS, json_values)
)
of_an_entry |= st.just(ENTRY) | st.just(ENTRY | {"replayed": True})
of_a_message = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["acknowledgment", "token", "resume", *sorted(SERVERS_OWN)]),
        "event_id": st.just(ENTRY["id"]) | json_values,
        "broadcast": st.just(True) | json_values,
        "data": of_an_entry | json_values,
        "from": json_values,
        "sent_at": json_values,
        "received_at": json_values,
        "token": json_values,
        "cursor": json_values,
        "since": json_values,
        "last": json_values,
    },
)
acknowledgments = st.just({"type": "acknowledgment", "event_id": "1"})
ours = st.one_of(of_a_message, st.tuples(of_a_message, acknowledgments).map(lambda p: p[0] | p[1]))
frames = st.tuples(
    st.dictionaries(st.text(), json_values), st.one_of(st.just({}), of_an_entry), ours
)
texts = frames.map(lambda parts: json.dumps(parts[0] | parts[1] | parts[2]))
repeated = st.lists(texts, min_size=2, max_size=3).map(
    lambda parts: ",".join(part[1:-1] for part in parts if part != "{}").join("{}")
)


@given(texts | repeated, st.text(max_size=9))
@example('{"type":"acknowledgment","event_id":"1","type":"auditlog"}', "")
@example('{"broadcast":true,"data":1,"type":"error"}', "")
@example('{"type":"acknowledgment","event_id":"1","from":"root"}', "")
@example(json.dumps({"type": "acknowledgment", "event_id": "1"} | ENTRY), "")
def test_nothing_can_be_published_that_is_an_entry_or_the_servers(text: str, subject: str) -> None:
    message = understood(text)
    if isinstance(message, Broadcast | Acknowledgment):
        assert published(text, subject)["from"] == subject


@given(texts | repeated)
@example(json.dumps({"type": "acknowledgment", "event_id": "1", "user_id": ENTRY["user_id"]}))
@example(json.dumps({"type": "acknowledgment", "event_id": "1"} | ENTRY))
def test_no_entry_can_be_published_by_saying_to_whose_channel_it_goes(text: str) -> None:
    message = parse(text, names_user=True, now=NOW)
    if isinstance(message, Broadcast | Acknowledgment):
        payload = encode(message.published("somebody", NOW))
        assert ENTRY_KEYS.isdisjoint(orjson.loads(payload))


@pytest.mark.parametrize(
    "frame",
    ['{"broadcast":true,"data":1%s}', '{"type":"acknowledgment","event_id":"1"%s}'],
)
def test_who_follows_every_user_says_to_whose_channel_it_goes(frame: str) -> None:
    def said(more: str) -> object:
        message = parse(frame % more, names_user=True, now=NOW)
        return getattr(message, "user_id", message)

    user = "6f1ed002-ab5c-4bd1-9a6e-1f2b4b6d7c10"
    assert said(f',"user_id":"{user}"') == UUID(user)
    assert said("") is said(',"user_id":null') is None
    for wrong in ('"me"', "1", "[]", '""'):
        misunderstood = said(f',"user_id":{wrong}')
        assert isinstance(misunderstood, Misunderstood) and misunderstood.code == "bad_request"


@given(st.binary(max_size=99) | st.text(max_size=99) | texts | texts.map(str.encode))
def test_whatever_comes_it_does_not_raise(frame: str | bytes) -> None:
    message = understood(frame)
    if isinstance(message, Broadcast):
        assert orjson.loads(encode(message.published("somebody", NOW)))
