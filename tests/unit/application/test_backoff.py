"""Waits between attempts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.backoff import BASE, CAP, Backoff


@given(st.integers(), st.floats(0.001, 10), st.floats(0.001, 100))
def test_each_wait_lies_in_the_upper_half_of_its_bound(seed: int, base: float, cap: float) -> None:
    backoff = Backoff(base=base, cap=cap, rng=random.Random(seed))
    for attempt in range(40):
        bound = min(cap, base * 2**attempt)
        assert bound / 2 <= backoff.next() <= bound


def test_an_outage_of_years_does_not_overflow() -> None:
    backoff = Backoff()
    for _ in range(5_000):
        wait = backoff.next()
    assert CAP / 2 <= wait <= CAP


def test_it_starts_afresh_after_a_success() -> None:
    backoff = Backoff()
    for _ in range(20):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= BASE


def test_two_clients_do_not_come_back_together() -> None:
    one, two = Backoff(rng=random.Random(1)), Backoff(rng=random.Random(2))
    assert [one.next() for _ in range(5)] != [two.next() for _ in range(5)]


def test_the_same_chance_gives_the_same_waits() -> None:
    one, two = Backoff(rng=random.Random(1)), Backoff(rng=random.Random(1))
    assert [one.next() for _ in range(5)] == pytest.approx([two.next() for _ in range(5)])
