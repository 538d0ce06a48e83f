"""How far those have read who read together."""

from datetime import UTC, datetime

import pytest

from lykke_cli.infrastructure.postgresql.cursor import Origin, Snapshot
from lykke_cli.infrastructure.postgresql.furthest import Furthest


def snapshot(lsn: int, *, timeline: int = 1, in_recovery: bool = True) -> Snapshot:
    origin = Origin("1/1", timeline, lsn, "x", in_recovery)
    return Snapshot(7, 9, datetime(2026, 11, 28, tzinfo=UTC), origin, reached=lsn)


@pytest.mark.parametrize(
    ("later", "counts"),
    [
        (snapshot(200), True),
        (snapshot(50), False),
        (snapshot(50, in_recovery=False), True),  # it has lost what it does not have
        (snapshot(50, timeline=2), True),
    ],
)
def test_what_counts_is_the_snapshot_that_shows_most(later: Snapshot, counts: bool) -> None:
    furthest, first = Furthest(), snapshot(100)
    for taken in (first, later):
        furthest.note(taken)
    assert furthest.origin is (later if counts else first).origin
