"""What an expectation that is not met says of what came instead."""

import pytest

from lykke_cli.application.expect import SHOWN_MISSES, Expectation
from lykke_cli.application.filters import Filters
from lykke_cli.application.messages import Arrival, decode
from tests.builders import entity, wire


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (0, "Nothing at all came for this user."),
        (1, "1 message came that is no audit log entry."),
        (2, "2 messages came that are no audit log entries."),
    ],
)
def test_what_is_no_entry_is_told_of(count: int, line: str) -> None:
    expectation = Expectation(Filters())
    assert expectation.take([Arrival(decode(b'{"type": "test"}'), "live")] * count) == []
    assert not expectation.is_met
    assert expectation.explain() == ["0 of 1 came.", line]


def test_of_many_entries_that_did_not_match_the_newest_are_explained() -> None:
    expectation = Expectation(Filters(entity_type="list"))
    entries = [decode(wire(entity())) for _ in range(SHOWN_MISSES + 2)]
    expectation.take([Arrival(entry, "live") for entry in entries])
    verdict, number, *explained, rest = expectation.explain()
    assert verdict == "0 of 1 came."
    assert number == f"{SHOWN_MISSES + 2} came that did not match:"
    assert len(explained) == SHOWN_MISSES
    assert all("its entity_type is " in line for line in explained)
    assert rest == "  and 2 before them"
