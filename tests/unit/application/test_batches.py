"""What the channel's bytes become: the fast way and the careful way are one."""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lykke_cli.application.batches import EntryBatch, as_batch, live_arrivals
from lykke_cli.application.gateways.pubsub_protocol import Deliveries
from lykke_cli.application.messages import (
    Arrival,
    Entry,
    OtherMessage,
    decode,
    encode,
    parse_wire_time,
    replay_message,
)
from lykke_cli.cli.output.renderers import NdjsonRenderer
from tests.unit.application.test_messages import ENTRY, ID

NOON = "2026-11-23T12:00:00.000000Z"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
id_texts = st.sampled_from([ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", "", "x", ID + " "])
ids = st.one_of(st.uuids().map(str), id_texts)
times = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.datetimes().map(datetime.isoformat),
    st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    st.sampled_from(
        [
            "2026-11-23T08:30:00Z",
            "2026-11-23T08:30:00.000000Z",
            "2026-11-23T10:30:00.5+02:00",
            "2026-11-23T08:30:00.1234567Z",
            "2026-11-23 08:30:00.9999999",
            "20261123T083000Z",
            "2026-11-23",
            "0001-01-01T00:00:00+23:00",
            "yesterday",
        ]
    ),
)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
usual: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"id": st.uuids().map(str), "user_id": st.just(ID), "activity_type": texts}
    | {"occurred_at": times, "entity_id": st.none() | st.just(ID), "entity_type": st.none() | texts}
    | {"meta": values}
)
unusual: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"id": ids, "user_id": ids, "activity_type": texts | st.none(), "occurred_at": times},
    optional={"entity_id": st.none() | ids, "entity_type": st.none() | texts, "meta": values}
    | {"replayed": st.booleans() | st.none() | st.text(), "extra": values},
)
styles = st.sampled_from(
    [
        {"separators": (",", ":"), "ensure_ascii": False},
        {"separators": (",", ":")},
        {"indent": 1},
        {},
    ]
)
objects = st.builds(lambda fields, style: json.dumps(fields, **style).encode(), usual, styles)
odd_objects = st.builds(lambda fields, style: json.dumps(fields, **style).encode(), unusual, styles)
junk = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"{}", b"[]", b"null", b"", b"{}{}", b"\xff", b'{"a":1}\n{"b":2}']),
    st.sampled_from([b'{"id":"' + ID.encode() + b'",', b'"\xed\xa0\x80"', b"[" * 10_000]),
)


def deliveries(payloads: Sequence[bytes]) -> Deliveries:
    return Deliveries([b"auditlog:x"] * len(payloads), payloads)


def carefully(payload: bytes) -> Arrival:
    """Decoded beside something that is no entry, where the fast way is not taken."""
    arrivals = live_arrivals(deliveries([payload, b"junk"]))
    assert not isinstance(arrivals, EntryBatch)
    return arrivals[0]


@given(st.lists(objects, min_size=1, max_size=5))
@example([json.dumps(ENTRY).encode()] * 2)
@example([json.dumps(ENTRY | {"occurred_at": "2026-11-23T08:30:00Z"}).encode()])
def test_many_entries_at_once_print_what_they_print_one_by_one(payloads: list[bytes]) -> None:
    together = live_arrivals(deliveries(payloads))
    renderer = NdjsonRenderer()
    assert renderer.render(together) == b"".join(renderer.render([carefully(p)]) for p in payloads)


NEARLY_TIMES = [
    "2026-13-23T08:30:00.123456Z",
    "2026-11-31T08:30:00.123456Z",
    "2026-11-23T24:30:00.123456Z",
    "2026-11-23T08:30:60.123456Z",
    "2026-11-23T08:30:00.12345aZ",
    "0000-11-23T08:30:00.123456Z",
]


@pytest.mark.parametrize("time", NEARLY_TIMES)
def test_a_time_that_is_none_is_not_passed_on_as_one(time: str) -> None:
    payloads = [json.dumps(ENTRY | {"occurred_at": t}).encode() for t in (NOON, time)]
    [_, message] = [arrival.message for arrival in live_arrivals(deliveries(payloads))]
    assert isinstance(message, OtherMessage)


@given(st.lists(objects | odd_objects | junk, min_size=1, max_size=4))
def test_whatever_comes_with_entries_changes_none_of_them(payloads: list[bytes]) -> None:
    together = live_arrivals(deliveries(payloads))
    one_by_one = [carefully(payload) for payload in payloads]
    renderer = NdjsonRenderer()
    assert renderer.render(together) == b"".join(renderer.render([one]) for one in one_by_one)
    assert [a.replayed for a in together] == [a.replayed for a in one_by_one]
    assert [a.raw for a in together] == payloads
    for line in renderer.render(together).splitlines():
        json.loads(line)


@given(usual.filter(lambda fields: _is_readable(fields["occurred_at"])))
def test_an_entry_prints_its_fields_in_the_promised_form(fields: dict[str, Any]) -> None:
    [line] = (
        NdjsonRenderer()
        .render(live_arrivals(deliveries([json.dumps(fields).encode()])))
        .splitlines()
    )
    printed = json.loads(line)
    assert list(printed) == list(ENTRY)
    moment = parse_wire_time(fields["occurred_at"])
    meta = {} if fields["meta"] is None else fields["meta"]
    assert printed == fields | {
        "occurred_at": f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z".zfill(27),
        "meta": meta,
    }


def _is_readable(time: str) -> bool:
    try:
        parse_wire_time(time)
    except (ValueError, OverflowError):
        return False
    return True


def test_the_usual_form_takes_the_fast_way() -> None:
    payload = json.dumps(ENTRY, separators=(",", ":")).encode()
    batch = live_arrivals(deliveries([payload] * 3))
    assert isinstance(batch, EntryBatch)
    assert NdjsonRenderer().render(batch) == (payload + b"\n") * 3


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "style", [{"separators": (",", ":")}, {"indent": 1}], ids=["tight", "wide"]
)
@pytest.mark.parametrize("change", [{"meta": None}, {"meta": ...}], ids=["null", "absent"])
def test_no_meta_is_an_empty_object(
    change: dict[str, Any], style: dict[str, Any], count: int
) -> None:
    fields = {name: value for name, value in (ENTRY | change).items() if value is not ...}
    other = json.dumps(ENTRY | {"meta": {"meta": None}}, separators=(",", ":")).encode()
    payloads = [json.dumps(fields, **style).encode()] * count + [other]
    lines = NdjsonRenderer().render(live_arrivals(deliveries(payloads))).splitlines()
    assert [json.loads(line) for line in lines[:-1]] == [ENTRY | {"meta": {}}] * count
    assert lines[-1] == other
    message = decode(payloads[0])
    assert isinstance(message, Entry)
    assert encode(replay_message(message)).endswith(b'"meta":{},"replayed":true}')


def test_no_meta_takes_the_fast_way_too() -> None:
    payload = json.dumps(ENTRY | {"meta": None}, separators=(",", ":")).encode()
    batch = live_arrivals(deliveries([payload] * 3))
    assert isinstance(batch, EntryBatch)
    assert batch.deliveries.payloads == [payload] * 3  # raw stays as it came


def test_a_batch_is_a_sequence_of_arrivals() -> None:
    payloads = [json.dumps(ENTRY | {"id": str(uuid.UUID(int=n))}).encode() for n in range(4)]
    batch = live_arrivals(deliveries(payloads))
    assert [arrival.raw for arrival in batch] == payloads
    assert [arrival.raw for arrival in batch[1:3]] == payloads[1:3]
    assert isinstance(batch, EntryBatch)
    assert [a.raw for a in batch.where([True, False, False, True])] == [payloads[0], payloads[3]]


def test_no_deliveries_are_no_arrivals() -> None:
    assert list(live_arrivals(deliveries([]))) == []


def test_a_replayed_entry_is_marked_wherever_it_stands() -> None:
    ordinary, replayed = (json.dumps(ENTRY | more).encode() for more in ({}, {"replayed": True}))
    arrivals = live_arrivals(deliveries([ordinary, replayed]))
    assert [arrival.replayed for arrival in arrivals] == [False, True]
    assert [arrival.replayed for arrival in live_arrivals(deliveries([replayed]))] == [True]
    assert NdjsonRenderer().render(arrivals) == NdjsonRenderer().render(arrivals[:1]) * 2


@given(st.lists(objects | odd_objects | junk, max_size=4))
def test_a_batch_answers_as_its_arrivals_one_by_one_do(payloads: list[bytes]) -> None:
    batch = live_arrivals(deliveries(payloads))
    plain = as_batch(list(batch))
    entries = [m for m in plain.messages() if isinstance(m, Entry)]
    assert batch.times() == plain.times() == {e.id: e.occurred_at for e in entries}
    assert list(batch.messages()) == [arrival.message for arrival in plain]
    assert batch.payloads() == plain.payloads() == payloads
    assert batch.lines() == plain.lines()
    assert batch.has_replayed() == plain.has_replayed()
    assert batch.recovered() == 0
    assert batch.size() == plain.size() == sum(map(len, payloads))
    every_other = [n % 2 == 0 for n in range(len(batch))]
    assert list(batch.where(every_other)) == list(plain)[::2]


def test_what_was_recovered_is_counted() -> None:
    entry = decode(json.dumps(ENTRY).encode())
    arrivals = [Arrival(entry, source) for source in ("history", "live", "recovered")]
    assert as_batch(arrivals).recovered() == 1
