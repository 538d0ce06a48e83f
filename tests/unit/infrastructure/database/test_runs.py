"""Sets kept as runs, against Python's own; and the regions of cursors that are made of them."""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.regions import Region
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.database.witnesses import Witnesses
from lykke_cli.infrastructure.postgresql.cursor import Origin, Snapshot, make_cursor, parse
from lykke_cli.infrastructure.postgresql.relations import Group, Reading, split

UNIVERSE = range(-3, 42)
numbers = st.sets(st.integers(0, 35))
ends = st.integers(-3, 40)
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def members(runs: Runs) -> set[int]:
    """The numbers, each asked for, and each found in the runs."""
    counted = [number for begin, end in runs.pairs() for number in range(begin, end)]
    assert counted == sorted(set(counted))
    assert set(counted) == {number for number in UNIVERSE if number in runs}
    assert all(one < other for one, other in zip(runs.bounds, runs.bounds[1:], strict=False))
    return set(counted)


@given(numbers, numbers)
def test_two_sets_together(one: set[int], other: set[int]) -> None:
    assert members(Runs.of(one) | Runs.of(other)) == one | other
    assert Runs.of(one).includes(Runs.of(other)) == (one >= other)


@given(numbers, ends, ends)
def test_a_part_of_a_set(one: set[int], begin: int, end: int) -> None:
    runs = Runs.of(one)
    assert members(runs.below(end)) == {number for number in one if number < end}
    assert members(runs.starting(begin)) == {number for number in one if number >= begin}
    assert members(runs.gaps(begin, end)) == set(range(begin, end)) - one


@given(numbers)
def test_what_is_stored_is_read_again(one: set[int]) -> None:
    stored = json.loads(json.dumps(Runs.of(one).dump()))
    assert members(Runs.load(stored)) == one


@given(st.lists(st.tuples(ends, ends)))
def test_what_is_stored_is_not_trusted(pairs: list[tuple[int, int]]) -> None:
    """Whoever wrote it: in any order, overlapping, the wrong way round."""
    expected = {number for first, last in pairs for number in range(first, last + 1)}
    assert members(Runs.load(pairs)) == expected


def test_a_dense_million_is_a_handful_of_runs() -> None:
    dense = Runs.of(number for number in range(1_000_000) if number % 200_000)
    assert len(dense) == 5
    assert len(json.dumps(dense.dump())) < 200
    assert 200_001 in dense and 200_000 not in dense
    # A stored run costs nothing to read, however long it says that it is.
    assert len(Runs.load([[0, 10**18]])) == 1


@given(st.lists(st.tuples(st.integers(10, 30), st.booleans()), max_size=30), numbers)
def test_a_read_covers_what_came_and_what_had_ended(
    rows: list[tuple[int, bool]], ended: set[int]
) -> None:
    """Chunk by chunk, as a plain set would."""
    moments = [NOW + timedelta(minutes=n) for n in range(len(rows))]
    had_ended = Runs.of(ended).starting(10)
    table = frozenset({1})
    known = split([Group(table, (Region(5),))], table)
    reading = Reading(known, 10, had_ended)
    expected = members(had_ended)
    for (position, is_visible), moment in zip(rows, moments, strict=True):
        if is_visible:
            expected.add(position)
        key = (moment, regions.LAST_ID)
        reading.reached(regions.START_OF_TIME, key, [position] if is_visible else [])
        [group] = reading.covered
        found = {p for p in UNIVERSE if any(r.covers(p, (NOW, "")) for r in group.covered)}
        assert found == expected | set(range(-3, 10))
    reading.reached(regions.START_OF_TIME, regions.END, ())
    [group] = reading.covered
    assert len(group.covered) == 1


def test_a_cursor_is_read_again() -> None:
    visible = Runs.of([7, 8, 9, 12])
    snapshot = Snapshot(7, 20, NOW, Origin("1/1", 1, 5, "x", False))
    group = Group(frozenset({3, 16_385}), (Region(7, visible=visible),))
    stored = parse(make_cursor(snapshot, [group], NOW, Witnesses()))
    assert stored is not None
    assert stored.groups == (group,)
