"""Moments as people read and write them."""

import io
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.messages import Arrival, Entry, format_time
from lykke_cli.application.times import age, parse_duration, parse_moment, parse_zone, zone_of
from lykke_cli.cli.output.live_table import LiveTable
from lykke_cli.cli.output.terminal import Terminal

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [UTC, BERLIN, *map(ZoneInfo, ("America/St_Johns", "Australia/Lord_Howe", "Asia/Kolkata"))]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (0.9, "now"),
        (-0.9, "now"),
        (59, "59s ago"),
        (60, "1m ago"),
        (3599, "59m ago"),
        (86_399, "23h ago"),
        (86_400, "1d ago"),
        (365 * 86_400, "1y ago"),
        (-7200, "in 2h"),
    ],
)
def test_an_age_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", "2026-11-23T12:00:00Z"),
        ("15m", "2026-11-23T11:45:00Z"),
        ("1h30m", "2026-11-23T10:30:00Z"),
        ("500ms", "2026-11-23T11:59:59.500Z"),
        ("2h ago", "2026-11-23T10:00:00Z"),
        ("2 hours ago", "2026-11-23T10:00:00Z"),
        ("1 hour 30 minutes ago", "2026-11-23T10:30:00Z"),
        ("1 week", "2026-11-16T12:00:00Z"),
        ("1y ago", "2025-11-23T12:00:00Z"),
        ("in 2h", "2026-11-23T14:00:00Z"),
        ("@1767225600", "2026-01-01T00:00:00Z"),
        ("@1767225600.25", "2026-01-01T00:00:00.250Z"),
        ("@-1", "1969-12-31T23:59:59Z"),
        # In Berlin, an hour ahead of UTC in winter and two in summer:
        ("today", "2026-11-22T23:00:00Z"),
        ("yesterday", "2026-11-21T23:00:00Z"),
        ("Yesterday 14:05", "2026-11-22T13:05:00Z"),
        ("12:05", "2026-11-23T11:05:00Z"),
        ("14:05", "2026-11-22T13:05:00Z"),  # which it is not yet today
        ("today 14:05", "2026-11-23T13:05:00Z"),
        ("9:05:06.5", "2026-11-23T08:05:06.500Z"),
        ("11:05Z", "2026-11-23T11:05:00Z"),
        ("14:05 UTC+05:30", "2026-11-23T08:35:00Z"),
        ("20260101", "2025-12-31T23:00:00Z"),
        ("2026-07-01", "2026-06-30T22:00:00Z"),
        ("2026-07-01 14:05", "2026-07-01T12:05:00Z"),
        ("2026-07-01T14:05:06.789", "2026-07-01T12:05:06.789Z"),
        ("20260701T1405", "2026-07-01T12:05:00Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01 00:00 UTC", "2026-01-01T00:00:00Z"),
        ("2026-01-01 00:00:00.5-03:30", "2026-01-01T03:30:00.500Z"),
        # The clock shows 02:30 twice on the first day, the first is meant; never on the other.
        ("2026-10-25 02:30", "2026-10-25T00:30:00Z"),
        ("2026-10-25 02:30 UTC+01:00", "2026-10-25T01:30:00Z"),
        ("2026-03-29 02:30", "2026-03-29T01:30:00Z"),
        ("  15m\t", "2026-11-23T11:45:00Z"),
    ],
)
def test_a_moment_is_what_a_person_means(text: str, moment: str) -> None:
    assert parse_moment(text, NOW, BERLIN) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", ["today", "02:05", "2026-07-01", "20260701", "2026-07-01 14:05"])
def test_what_names_no_zone_is_read_in_the_given_one(text: str, zone: tzinfo) -> None:
    shown = parse_moment(text, NOW, zone).astimezone(zone)
    assert shown.replace(tzinfo=UTC) == parse_moment(text, NOW, UTC)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        *(
            (text, "has no unit")
            for text in ("5", "0", "1.5", "14", "1767225600", "2026", "2026010112")
        ),
        *((text, "is not a time") for text in ("", "20261301", "00000000", "99999999", "soon")),
        *((text, "is not a time") for text in ("25:00", "14:5", ":05", "2026-02-30", "@", "@x")),
        *((text, "is not a time") for text in ("99999999w", "@999999999999", "in 2h ago", "2 ago")),
        *((text, "is not a time") for text in ("0001-01-01", "today yesterday", "1ms" * 40 + "x")),
    ],
)
def test_what_is_no_moment_is_a_mistake(text: str, part: str) -> None:
    with pytest.raises(UsageMistake, match=part):
        parse_moment(text, NOW, ZoneInfo("Asia/Kolkata"))


@given(st.text(max_size=30), st.sampled_from(ZONES))
def test_any_text_is_a_moment_or_a_mistake(text: str, zone: tzinfo) -> None:
    try:
        assert parse_moment(text, NOW, zone).utcoffset() == timedelta(0)
    except UsageMistake:
        pass


def rendered(moment: datetime, zone: tzinfo) -> tuple[str, str, str]:
    """The day, its zone and the time that the table shows."""
    terminal = Terminal(io.BytesIO(), io.BytesIO(), environ={}, columns=120)
    table = LiveTable(terminal, zone=zone)
    user = "9b2f0c1e-7a43-4d1f-8f2b-1c6a5d3e2f10"
    entry = Entry(
        id=user,
        user_id=user,
        activity_type="A",
        occurred_at=format_time(moment),
        entity_id=None,
        entity_type=None,
        meta=msgspec.Raw(b"{}"),
    )
    day, row = table.render([Arrival(entry, "live", "")]).decode().splitlines()
    return (*day.strip("- ").split(" ", 1), row.split(" ", 1)[0])  # type: ignore[return-value]


MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))


@given(MOMENTS, st.sampled_from(ZONES))
@example(datetime(2026, 10, 25, 0, 30, tzinfo=UTC), BERLIN)
@example(datetime(2026, 10, 25, 1, 30, tzinfo=UTC), BERLIN)
@example(datetime(2026, 3, 29, 1, 0, tzinfo=UTC), BERLIN)
@example(datetime(2026, 4, 4, 15, 15, tzinfo=UTC), ZoneInfo("Australia/Lord_Howe"))
def test_what_is_shown_means_the_same_moment_when_it_is_given_back(
    moment: datetime, zone: tzinfo
) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, fold=0)
    day, offset, time = rendered(moment, zone)
    assert parse_moment(f"{day} {time} {offset}", NOW) == moment
    given_back = parse_moment(f"{day} {time}", NOW, zone)
    is_second = moment.astimezone(zone).fold  # of an hour that the clock shows twice
    assert given_back < moment if is_second else given_back == moment


@given(MOMENTS.map(lambda moment: moment.replace(microsecond=0)))
def test_an_age_that_is_shown_can_be_given_back(moment: datetime) -> None:
    shown = age(moment, NOW)
    assert age(parse_moment(shown, NOW), NOW) == shown


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", "utc", "Asia/Kolkata"])
def test_a_zone_has_a_name(name: str) -> None:
    assert NOW.astimezone(parse_zone(name)) == NOW


@pytest.mark.parametrize(
    "name", ["", "Berlin", "../../etc/passwd", "/etc/passwd", "a\0b", "Europe"]
)
def test_what_is_no_zone_is_a_mistake(name: str) -> None:
    with pytest.raises(UsageMistake, match="time zone"):
        parse_zone(name)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("15m", 900), ("1h30m", 5400), ("2 hours", 7200), ("5", 5), ("0.5", 0.5)],
)
def test_a_duration_may_be_a_plain_number_of_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


def test_the_name_of_a_zone_is_its_offset() -> None:
    assert zone_of(NOW) == "UTC"
    assert zone_of(NOW.astimezone(BERLIN)) == "UTC+01:00"


@pytest.mark.parametrize("text", ["999999999y", "999999999y 1d"])
def test_a_duration_beyond_all_time_is_a_mistake(text: str) -> None:
    with pytest.raises(UsageMistake, match="not a duration"):
        parse_duration(text)
