"""How far a read of the whole table has come, as it is kept in a cursor."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.database.witnesses import Witnesses
from lykke_cli.infrastructure.postgresql.cursor import (
    Origin,
    Snapshot,
    abridgements,
    make_cursor,
    near,
    parse,
    understand,
)
from lykke_cli.infrastructure.postgresql.relations import Group, Reading, split
from lykke_cli.infrastructure.postgresql.sweep import READ_AGAIN, Sweep

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SWEEP = Sweep(NOW, 70, Runs.of([72, 73]), {1: 10, 2: 20}, 7, 3, ((NOW, NOW + HOUR),))
SNAPSHOT = Snapshot(100, 100, NOW, Origin("1/1", 1, 5, "x", False), relations=frozenset({1, 2}))


def cursor_with(sweep: Sweep | None) -> Cursor:
    cursor = make_cursor(SNAPSHOT, [], NOW, Witnesses(), under_way=sweep)
    return Cursor(msgspec.json.decode(msgspec.json.encode(cursor.data)))


@pytest.mark.parametrize("sweep", [SWEEP, None])
def test_a_cursor_says_how_far_it_came(sweep: Sweep | None) -> None:
    stored = parse(cursor_with(sweep))
    assert stored is not None and stored.sweep == sweep
    assert understand(stored, SNAPSHOT, None).sweep == sweep


def test_a_cursor_that_says_less_and_one_that_is_in_doubt_begin_anew() -> None:
    for form in abridgements(cursor_with(SWEEP)):
        stored = parse(form)
        assert stored is not None and stored.sweep is None
    stored = parse(cursor_with(SWEEP))
    assert understand(stored, SNAPSHOT, set()).sweep is None


@pytest.mark.parametrize("damaged", [[], [1], "x", [None] * 8, {"at": 1}])
def test_a_damaged_one_makes_the_cursor_unreadable(damaged: object) -> None:
    assert parse(Cursor(cursor_with(None).data | {"sweep": damaged})) is None


def test_a_relation_whose_rows_were_moved_or_were_away_is_left_out() -> None:
    assert SWEEP.kept({1: 10, 2: 20, 3: 30}) is SWEEP
    assert SWEEP.kept({1: 11, 2: 20}).files == {2: 20}
    assert SWEEP.kept({1: 11}).kept({1: 10, 2: 20}).files == {}


def test_it_is_over_once_every_page_was_looked_at() -> None:
    assert not SWEEP.is_over
    assert SWEEP.advanced(7, [(NOW, NOW)]).is_over


def test_what_was_found_is_read_up_to_a_moment() -> None:
    later = (NOW + 5 * HOUR, NOW + 6 * HOUR)
    sweep = SWEEP.advanced(4, [later])
    half = NOW + HOUR / 2
    some = sweep.read_up_to(half, 1)
    assert some.found == sweep.found  # where the next one begins
    assert some.read_up_to(half, READ_AGAIN - 1).found == ((half, NOW + HOUR), later)
    assert sweep.read_up_to(later[0], 1).found == (later,)
    assert sweep.read_up_to(later[1] + HOUR, READ_AGAIN).found == ()


def test_it_covers_what_its_own_snapshot_showed_of_the_relations_that_stayed() -> None:
    known = split([Group(frozenset({1, 2}), ())], frozenset({1, 2}))
    reading = Reading(known, 100, Runs())
    reading.swept(SWEEP.before, SWEEP.ended, frozenset({2}))
    covered = {oid: group.covered for group in reading.covered for oid in group.relations}
    assert covered[1] == ()
    [region] = covered[2]
    shown = [position for position in range(60, 110) if region.covers(position, (NOW, ""))]
    assert shown == [*range(60, 70), 72, 73]


def looks(*, prompt: bool) -> list[timedelta]:
    """How far back periodic reads look: a read each ten seconds, for two hours."""
    last, recent_from, seen = NOW, NOW - HOUR, list[timedelta]()
    for n in range(1, 721):
        at = NOW + timedelta(seconds=10 * n)
        low, recent_from = near(recent_from, last, at, HOUR, prompt=prompt)
        seen.append(at - low)
        last = at
    return seen


@pytest.mark.parametrize("prompt", [False, True])
def test_a_periodic_read_looks_at_the_whole_window_now_and_then(prompt: bool) -> None:
    seen = looks(prompt=prompt)
    whole = [span for span in seen if span >= HOUR]
    assert len(whole) == 8 and max(whole) == timedelta(minutes=75)
    longest = max(span for span in seen if span < HOUR)
    assert longest == (timedelta(minutes=1) if prompt else timedelta(minutes=15, seconds=50))


@pytest.mark.parametrize(("prompt", "most"), [(False, 16), (True, 244)])
def test_a_periodic_read_begins_where_the_last_one_did_but_now_and_then(
    prompt: bool, most: int
) -> None:
    begin = [timedelta(seconds=10 * n) - span for n, span in enumerate(looks(prompt=prompt), 1)]
    assert len(set(begin)) <= most


def test_a_prompt_read_looks_at_what_occurred_since_the_one_before_it() -> None:
    at, last = NOW + timedelta(minutes=10), NOW + timedelta(minutes=3)
    low, _ = near(NOW - HOUR, last, at, HOUR, prompt=True)
    assert timedelta(seconds=30) <= last - low <= timedelta(minutes=1)


@pytest.mark.parametrize("prompt", [False, True])
def test_a_periodic_read_looks_as_far_back_as_ever_where_the_clock_was_put_back(
    prompt: bool,
) -> None:
    last, recent_from, at = NOW, NOW - HOUR, NOW - 24 * HOUR
    low, recent_from = near(recent_from, last, at, HOUR, prompt=prompt)
    assert low == recent_from == at - HOUR
    assert near(recent_from, at, at + HOUR / 60, HOUR, prompt=prompt)[0] < at
    soon = NOW - HOUR / 20
    assert near(NOW - HOUR - HOUR / 10, NOW, soon, HOUR, prompt=prompt)[0] < soon
