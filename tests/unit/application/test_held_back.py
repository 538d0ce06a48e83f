"""What is held back keeps to its bounds."""

from lykke_cli.application.held_back import HeldBack
from lykke_cli.application.messages import Arrival, decode
from tests.builders import entity, wire


def arrival(payload: bytes) -> Arrival:
    return Arrival(decode(payload), "live", raw=payload)


def test_what_is_too_much_leaves_the_newest_of_what_history_does_not_have() -> None:
    notes = [arrival(b'{"type":"note","n":%d,"x":"%s"}' % (n, b"x" * 100)) for n in range(8)]
    held = HeldBack(limit=100, limit_bytes=3 * len(notes[0].raw or b""))
    held.add([arrival(wire(entity())), *notes])
    assert held.overflowed
    assert held.arrivals == notes[-2:]


def test_one_message_may_be_larger_than_all_may_be_together() -> None:
    large = arrival(b'{"type":"note","x":"%s"}' % (b"x" * 1_000))
    held = HeldBack(limit=10, limit_bytes=100)
    held.add([large])
    assert held.arrivals == [large]
