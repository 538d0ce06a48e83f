"""Without a history: each message once, as far as memory goes."""

import pytest

from lykke_cli.application.batches import live_arrivals
from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.gateways.pubsub_protocol import Deliveries, Position
from lykke_cli.application.live_only import LiveOnly, position_in
from lykke_cli.application.merge import Checkpoint, Print, Save
from lykke_cli.application.messages import decode
from tests.builders import entity, wire
from tests.unit.application.keeping_gateway import position

KEPT = 4  # ids


def printed(merge: LiveOnly, *payloads: bytes) -> list[bytes]:
    actions = merge.live(live_arrivals(Deliveries([b"auditlog:x"] * len(payloads), payloads)))
    prints = [action.arrivals for action in actions if isinstance(action, Print)]
    return [arrival.raw for arrivals in prints for arrival in arrivals if arrival.raw is not None]


@pytest.mark.parametrize("beside", [[], [b"junk"]], ids=["as a batch", "one by one"])
def test_what_comes_again_is_dropped_as_far_as_memory_goes(beside: list[bytes]) -> None:
    merge = LiveOnly(keep=KEPT)
    entries = [wire(entity()) for _ in range(5)]
    assert printed(merge, entries[0], *beside) == [entries[0], *beside]
    assert printed(merge, entries[0], *beside) == beside
    assert printed(merge, entries[1], entries[0], entries[1], *beside) == [entries[1], *beside]
    for entry in entries[2:]:
        assert printed(merge, entry, *beside) == [entry, *beside]
    assert printed(merge, entries[4], *beside) == beside
    assert printed(merge, entries[0], *beside) == [entries[0], *beside]  # forgotten


def test_what_is_no_entry_is_printed_each_time() -> None:
    merge = LiveOnly()
    assert printed(merge, b'{"type":"test"}', b"junk") == [b'{"type":"test"}', b"junk"]
    assert printed(merge, b'{"type":"test"}') == [b'{"type":"test"}']


def test_there_is_nothing_to_read() -> None:
    merge = LiveOnly()
    assert merge.subscribed() == merge.disconnected() == merge.tick() == []


def saved(merge: LiveOnly, position: Position) -> Checkpoint:
    [save] = merge.reached(position)
    assert isinstance(save, Save)
    return save.checkpoint


@pytest.mark.parametrize("beside", [[], [b"junk"]], ids=["as a batch", "one by one"])
def test_what_is_pending_is_dropped_however_late_it_comes_and_stored_until_then(
    beside: list[bytes],
) -> None:
    entries = [wire(entity()) for _ in range(3 * KEPT)]
    ids = [decode(entry).id for entry in entries]  # type: ignore[union-attr]
    pending = dict.fromkeys(ids[:2], "2026-01-31T12:00:00.000000Z")
    merge = LiveOnly(KEPT, resume=Checkpoint(Cursor({"any": 1}), pending, None))
    assert saved(merge, position(1)).pending == pending
    assert printed(merge, *entries[2:], *beside) == [*entries[2:], *beside]
    assert printed(merge, entries[0], *beside) == beside
    assert [*saved(merge, position(2)).pending] == [ids[1]]
    assert printed(merge, entries[0], entries[1], *beside) == beside
    assert saved(merge, position(3)).pending == {}


def test_what_may_never_come_is_not_stored() -> None:
    merge = LiveOnly(resume=Checkpoint(Cursor({}), {"id": "2026-01-31T12:00:00.000000Z"}, None))
    merge.lost()
    assert saved(merge, position(1)).pending == {}


def test_what_came_before_a_place_was_stored_does_not_come_again() -> None:
    merge = LiveOnly(resume=Checkpoint(None, {"id": "2026-01-31T12:00:00.000000Z"}, None))
    assert saved(merge, position(1)).pending == {}


def test_a_position_is_read_as_it_was_stored() -> None:
    assert position_in(saved(LiveOnly(), position(7))) == position(7)
    assert position_in(Checkpoint(Cursor({"ids": {"auditlog:{00}": ["x"]}}), {}, None)) is None
    assert position_in(Checkpoint(None, {}, None)) is None
    assert position_in(None) is None
    assert LiveOnly().reached(None) == []
