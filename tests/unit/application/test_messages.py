"""What one payload becomes, whatever it is."""

import json
from typing import Any

import msgspec
import pytest

from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import Entry, OtherMessage, decode, encode, replay_message

ID = "11111111-1111-4111-8111-11111111111a"
ENTRY = {
    "id": ID,
    "user_id": ID,
    "activity_type": "TASK_COMPLETED",
    "occurred_at": "2026-11-23T08:30:00.123456Z",
    "entity_id": None,
    "entity_type": None,
    "meta": {"n": 1},
}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"id": ID.upper()}, {}),
        ({"user_id": ID.replace("-", "")}, {}),
        ({"occurred_at": "2026-11-23T10:30:00.123456+02:00"}, {}),
        ({"occurred_at": "2026-11-23T08:30:00.123456"}, {}),
        ({"occurred_at": "2026-11-23T08:30:00Z"}, {"occurred_at": "2026-11-23T08:30:00.000000Z"}),
        ({"extra": [1]}, {}),
    ],
)
def test_other_spellings_print_the_same(change: dict[str, Any], line: dict[str, Any]) -> None:
    message = decode(json.dumps(ENTRY | change).encode())
    assert isinstance(message, Entry)
    assert json.loads(message.to_json()) == ENTRY | line


def test_a_time_in_the_activity_type_stays_as_it_is() -> None:
    time = "2026-11-23T08:30:00Z"
    message = decode(json.dumps(ENTRY | {"activity_type": time, "occurred_at": time}).encode())
    assert isinstance(message, Entry)
    assert json.loads(message.to_json())["activity_type"] == time


@pytest.mark.parametrize("payload", [b"\xff", b"1", b"{", b"[]", b"[" * 200_000])
def test_what_is_no_object_is_unreadable(payload: bytes) -> None:
    assert isinstance(decode(payload), Unreadable)


def test_an_object_of_another_kind_is_passed_on() -> None:
    assert decode(b'{"type":"test"}') == OtherMessage(b'{"type":"test"}')


def test_an_entry_is_replayed_as_it_is_however_deep_its_meta_is() -> None:
    meta = msgspec.Raw(b"[" * 100_000 + b"]" * 100_000)
    message = decode(json.dumps(ENTRY).encode())
    assert isinstance(message, Entry)
    replayed = encode(replay_message(msgspec.structs.replace(message, meta=meta)))
    assert replayed == message.to_json().replace(b'{"n": 1}', bytes(meta) + b',"replayed":true')
