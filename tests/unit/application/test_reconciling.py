"""When the history is read."""

import pytest

from lykke_cli.application.merge import ReadKind
from lykke_cli.application.reconciling import AWAY_INTERVAL, SHORTEST_INTERVAL, Reconciling


def test_a_deadline_stays_until_something_changes_or_it_was_due() -> None:
    reconciling = Reconciling(30.0, 3600.0)
    reconciling.begin(100.0)

    def deadline(now: float, *, is_connected: bool = True) -> float:
        return reconciling.deadline(now, is_failing=False, is_connected=is_connected)

    assert [deadline(100.0), deadline(120.0)] == [130.0, 130.0]
    assert deadline(121.0, is_connected=False) == 121.0 + AWAY_INTERVAL
    assert deadline(122.0) == 152.0
    reconciling.due(152.0)
    assert deadline(153.0) == 183.0


def test_a_read_without_a_bound_is_due_now_and_then() -> None:
    reconciling = Reconciling(30.0, 100.0)
    reconciling.begin(0.0)
    recent, full = ReadKind.RECENT, ReadKind.FULL
    kinds = [reconciling.due(now) for now in (30.0, 90.0, 120.0, 150.0, 219.0, 220.0)]
    assert kinds == [recent, recent, full, recent, recent, full]


def test_what_fails_is_tried_again_ever_later_until_it_works() -> None:
    reconciling = Reconciling(30.0, 3600.0)

    def pause() -> float:
        found = reconciling.deadline(0.0, is_failing=True, is_connected=True)
        reconciling.due(found)
        return found

    pauses = [pause() for _ in range(12)]
    assert pauses[0] <= 0.1 < 2.5 <= pauses[-1] <= 5.0
    reconciling.worked()
    assert pause() <= 0.1


@pytest.mark.parametrize("interval", [0.0, -1.0])
def test_there_is_time_between_two_reads(interval: float) -> None:
    reconciling = Reconciling(interval, 3600.0)
    now = reconciling.deadline(5.0, is_failing=False, is_connected=True)
    assert now == 5.0 + SHORTEST_INTERVAL
