"""Without a history: each message once, as far as memory goes."""

import pytest

from lykke_cli.application.batches import live_arrivals
from lykke_cli.application.gateways.pubsub_protocol import Deliveries
from lykke_cli.application.live_only import LiveOnly
from lykke_cli.application.merge import Print
from tests.builders import entity, wire

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
