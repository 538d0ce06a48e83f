"""What a cursor means where another snapshot is taken."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.infrastructure.database.witnesses import Witness, Witnesses
from lykke_cli.infrastructure.postgresql.cursor import (
    Origin,
    Snapshot,
    lags,
    make_cursor,
    parse,
    vouched,
)

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def cursor(origin: Origin, *rows: Witness) -> Cursor:
    taken = Snapshot(7, 9, NOW, origin)
    return make_cursor(taken, (), NOW, Witnesses().joined_by(rows))


def origin(*, timeline: int = 1, server: str = "x", in_recovery: bool = False) -> Origin:
    return Origin("1/1", timeline, 100, server, in_recovery)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (origin(), origin(), True),
        (origin(), origin(server="y"), False),  # it was started again, and may have lost something
        (origin(), origin(timeline=2), False),
        (origin(server=""), origin(server=""), False),  # nobody tells
        (origin(in_recovery=True), origin(server="y", in_recovery=True), True),  # two standbys
    ],
)
def test_rows_of_another_cursor_bear_witness_where_it_is_of_the_same_history(
    one: Origin, other: Origin, is_same: bool
) -> None:
    mine, theirs = (1, str(UUID(int=1))), (2, str(UUID(int=2)))
    place = cursor(one, mine)
    found = parse(vouched(place, cursor(other, theirs)))
    assert found is not None and found.witnesses.newest == (2 if is_same else 1)
    assert vouched(cursor(other, theirs), place).data == cursor(other, theirs).data


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
