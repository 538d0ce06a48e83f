"""Stretches of time, joined where they touch or become too many."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.infrastructure.database.spans import NEAR, joined, latest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
minutes = st.integers(-10_000, 10_000).map(lambda n: NOW + timedelta(minutes=n))
stretches = st.lists(st.tuples(minutes, minutes).map(lambda pair: (min(pair), max(pair))))


@given(stretches, st.integers(1, 5))
def test_what_was_within_one_is_within_one_still(
    spans: list[tuple[datetime, datetime]], most: int
) -> None:
    found = joined(spans, most)
    assert len(found) <= most
    assert all(any(a <= low and high <= b for a, b in found) for low, high in spans)
    assert all(high < low for (_, high), (low, _) in pairwise(found))


@given(stretches, st.integers(1, 5), st.integers(0, 20_000))
def test_the_latest_are_few_and_not_long(
    spans: list[tuple[datetime, datetime]], most: int, length: int
) -> None:
    found, apart = latest(joined(spans), timedelta(minutes=length), most), joined(spans)
    assert apart[len(apart) - len(found) :] == found and len(found) <= most
    assert sum((high - low for low, high in found), timedelta(0)) <= timedelta(minutes=length)


def test_what_is_near_becomes_one_and_what_is_not_stays_apart() -> None:
    low, high = NOW, NOW + timedelta(hours=1)
    assert joined([(low, low), (low + NEAR, low + NEAR)]) == ((low, low + NEAR),)
    assert joined([(high, high), (low, low)]) == ((low, low), (high, high))
    assert joined([(high, high), (low, low)], most=1) == ((low, high),)
