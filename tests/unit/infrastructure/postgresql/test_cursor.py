"""What a cursor means where another snapshot is taken."""

from datetime import UTC, datetime

import pytest

from lykke_cli.infrastructure.postgresql.cursor import (
    Origin,
    Snapshot,
    lags,
)

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def snapshot(lsn: int, *, in_recovery: bool = False, reached: int = 0) -> Snapshot:
    return Snapshot(7, 9, NOW, Origin("1/1", 1, lsn, "x", in_recovery), reached=reached)


@pytest.mark.parametrize(
    ("reached", "lsn", "is_behind"), [(99, 99, True), (99, 200, True), (100, 200, False)]
)
def test_a_standby_is_behind_unless_it_had_come_as_far_before_its_snapshot(
    reached: int, lsn: int, is_behind: bool
) -> None:
    """What it has replayed since is not in what it shows."""
    assert lags(snapshot(100).origin, snapshot(lsn, in_recovery=True, reached=reached)) == is_behind
