"""What an expectation that is not met says of what came instead."""

from datetime import UTC, datetime, timedelta

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
    assert expectation.progress == "0 of 1"
    assert expectation.explain() == [line]


def test_of_many_entries_that_did_not_match_the_newest_are_explained() -> None:
    expectation = Expectation(Filters(entity_type="list"))
    entries = [decode(wire(entity())) for _ in range(SHOWN_MISSES + 2)]
    expectation.take([Arrival(entry, "live") for entry in entries])
    number, *explained, rest = expectation.explain()
    assert number == f"{SHOWN_MISSES + 2} came that did not match:"
    assert len(explained) == SHOWN_MISSES
    assert all("its entity_type is " in line for line in explained)
    assert rest == "  and 2 before them"


def came(*kinds: str, minute: int = 0) -> list[Arrival]:
    """Entries of these types, a second apart from this minute on."""
    start = datetime(2026, 1, 1, 12, minute, tzinfo=UTC)
    made = [entity(None, kind, start + timedelta(seconds=n)) for n, kind in enumerate(kinds)]
    return [Arrival(decode(wire(each)), "live") for each in made]


@pytest.mark.parametrize(("number", "met", "decided"), [(1, 0, 0), (2, 1, 0), (3, 0, 1)])
def test_exactly_is_met_by_so_many_and_decided_by_one_too_many(
    number: int, met: bool, decided: bool
) -> None:
    expectation = Expectation(Filters(), 2, most=2)
    expectation.take(came(*"abc"[:number]))
    assert (expectation.is_met, expectation.is_decided) == (bool(met), bool(decided))
    faults = [fault for _, fault in expectation.parts()]
    assert (
        faults
        == {
            1: [None, "It did not come.", None],
            2: [None, None, None],
            3: [None, None, "1 came that should not have."],
        }[number]
    )


@pytest.mark.parametrize(
    ("kinds", "steps"),
    [("ABC", 3), ("AXBXC", 3), ("BACB", 2), ("CBA", 1), ("", 0), ("AABBC", 3), ("AC", 1)],
)
def test_an_order_is_met_by_one_after_the_other_whatever_is_between(kinds: str, steps: int) -> None:
    expectation = Expectation(Filters(activity_types=("A", "B", "C")), order=["A", "B", "C"])
    matching = expectation.take(came(*kinds))
    assert len(matching) == len(kinds.replace("X", ""))
    assert expectation.progress == f"{steps} of 3"
    assert expectation.is_met == expectation.is_decided == (steps == 3)
    assert [fault is None for _, fault in expectation.parts()] == [n < steps for n in range(3)]


def test_of_an_order_the_times_decide_and_not_who_came_first() -> None:
    expectation = Expectation(Filters(), order=["TASK_*", "MESSAGE_SENT", "TASK_*"])
    expectation.take(came("MESSAGE_SENT", "TASK_COMPLETED", minute=2))
    assert expectation.progress == "1 of 3"
    expectation.take(came("TASK_PUNTED", minute=1))  # its broadcast was lost
    assert expectation.is_met


def test_a_step_that_did_not_come_is_named_with_what_came() -> None:
    expectation = Expectation(Filters(activity_types=("A", "B")), order=["A", "B"])
    expectation.take(came("B", "A"))
    assert expectation.explain() == ["B did not come after A; in order came: B, A"]
