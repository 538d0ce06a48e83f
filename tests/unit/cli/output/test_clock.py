"""Times in the words of a line."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from lykke_cli.cli.output.clock import Clock, in_zone, length

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_times_are_told_in_the_zone_and_utc_is_named() -> None:
    assert Clock(UTC).time(NOON) == "12:00:00 UTC"
    assert Clock(ZoneInfo("Europe/Copenhagen")).time(NOON) == "13:00:00"


def test_a_span_names_its_days_unless_they_are_one() -> None:
    clock = Clock(UTC)
    assert clock.span(NOON, NOON + timedelta(hours=1)) == "12:00:00 to 13:00:00 UTC"
    night = clock.span(NOON, NOON + timedelta(hours=12))
    assert night == "2026-11-24 12:00:00 to 2026-11-25 00:00:00 UTC"


@pytest.mark.parametrize(("end", "hours"), [(datetime.min, -12), (datetime.max, 12)])
def test_a_moment_that_no_clock_of_the_zone_shows_stays_as_it_is(end: datetime, hours: int) -> None:
    moment, zone = end.replace(tzinfo=UTC), timezone(timedelta(hours=hours))
    assert in_zone(moment, zone) is moment
    assert in_zone(NOON, zone).tzinfo is zone


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(3, "3 s"), (4.94, "4.9 s"), (11.9, "11 s"), (125, "2 min 5 s"), (4_800, "1 h 20 min")],
)
def test_a_length_of_time_has_two_figures(seconds: float, shown: str) -> None:
    assert length(seconds) == shown
