"""Moments and durations as people type them."""

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

from lykke_cli.application.errors import UsageMistake

_YEAR = 365 * 86400  # seconds, as `age` counts them
_WORDS = {"sec": 1, "second": 1, "min": 60, "minute": 60, "hour": 3600, "day": 86400}
_WORDS |= {"week": 604800, "year": _YEAR}
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": _YEAR}
_UNITS |= _WORDS | {f"{word}s": seconds for word, seconds in _WORDS.items()}
_PART = rf"(\d{{1,9}}(?:\.\d{{1,9}})?) ?({'|'.join(sorted(_UNITS, key=len, reverse=True))})"
_DURATION = re.compile(rf"{_PART}(?: ?{_PART})*", re.ASCII)
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_UNIX_TIME = re.compile(r"@(-?\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)
_DAY_TIME = re.compile(r"(?:(today|yesterday)(?: |$))?(\d\d?:.+)?", re.ASCII)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d(-?\d)?)([ t].+)?", re.ASCII | re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> timedelta:
    """`30s`, `15m`, `2h`, `7d`, `1h30m`, `500ms`, `2 hours`, or a plain number of seconds.

    Raises UsageMistake.
    """
    words = " ".join(text.split())
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", words, re.ASCII):
        words += "s"
    try:
        if _DURATION.fullmatch(words):
            parts = re.findall(_PART, words)
            return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    except OverflowError:
        pass
    raise UsageMistake(f"{text!r} is not a duration: write it like 30s, 15m, 2h or 7d.")


def parse_moment(text: str, now: datetime, zone: tzinfo | None = UTC) -> datetime:
    """The moment, in UTC, that a person means by `text`; `now` must be aware.

    A duration before `now` (`15m`, `2h ago`, `2 hours ago`), `now`, `today` and `yesterday` (their
    midnight, or with a time), a time (`14:05`, the last time that it was), an ISO 8601 date or
    time, or a Unix time (`@1767225600`). What names no zone is read in `zone`, with None in this
    machine's; of an hour that the clock shows twice the first is meant.
    Raises UsageMistake.
    """
    words = " ".join(text.split())
    if _NUMBER.fullmatch(words) and len(words) != len("20260131"):
        raise UsageMistake(
            f"{text!r} has no unit: write 30s, 15m or 2h, or @{words} for that Unix time."
        )
    try:
        for read in (_relative, _unix_time, _time_of_day, _iso_time):
            if (moment := read(words, now, zone)) is not None:
                return moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):  # not on the calendar, or at either end of it
        pass
    raise UsageMistake(
        f"{text!r} is not a time: write it like 15m, 2h ago, 14:05, yesterday, 2026-01-31 or "
        "2026-01-31T12:00:00Z."
    )


def _relative(text: str, now: datetime, _: tzinfo | None) -> datetime | None:
    if text.lower() == "now":
        return now
    span = text.removeprefix("in ")
    is_ahead = span != text
    if not is_ahead:
        span = text.removesuffix(" ago")
    if not _DURATION.fullmatch(span):
        return None
    return now + parse_duration(span) if is_ahead else now - parse_duration(span)


def _unix_time(text: str, _: datetime, __: tzinfo | None) -> datetime | None:
    match = _UNIX_TIME.fullmatch(text)
    if match is None:
        return None
    fraction = int((match[2] or "").ljust(6, "0")[:6])
    return _EPOCH + timedelta(seconds=int(match[1]), microseconds=fraction)


def _time_of_day(text: str, now: datetime, zone: tzinfo | None) -> datetime | None:
    match = _DAY_TIME.fullmatch(text.lower())
    if match is None or not text:
        return None
    text = match[2] or "00:00"
    clock = time.fromisoformat(_plain_zone(f"0{text}" if text[1] == ":" else text))
    zone = clock.tzinfo or zone
    day = now.astimezone(zone).date() - timedelta(days=match[1] == "yesterday")
    moment = _aware(datetime.combine(day, clock), zone)
    if match[1] is None and moment > now:  # said after midnight of the evening before
        moment = _aware(datetime.combine(day - timedelta(days=1), clock), zone)
    return moment


def _iso_time(text: str, _: datetime, zone: tzinfo | None) -> datetime | None:
    if not _ISO.fullmatch(text):
        return None
    return _aware(datetime.fromisoformat(_plain_zone(text)), zone)


def _plain_zone(text: str) -> str:
    """With the zone as Python reads it, where it is written as `zone_of` does."""
    text = re.sub(r" ?(?:utc)? ?(?=[+-]\d\d:?\d\d(?::?\d\d)?$)", "", text, flags=re.IGNORECASE)
    return re.sub(r" ?(?:utc|z)$", "+00:00", text, flags=re.IGNORECASE)


def _aware(wall: datetime, zone: tzinfo | None) -> datetime:
    if wall.tzinfo is not None:
        return wall
    return wall.astimezone() if zone is None else wall.replace(tzinfo=zone)


def parse_zone(name: str) -> tzinfo:
    """A time zone by its name, such as `Europe/Berlin` or `UTC`; raises UsageMistake."""
    from zoneinfo import ZoneInfo

    try:
        return UTC if name.upper() == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageMistake(
            f"{name!r} is not a time zone that is known here: write it like Europe/Berlin or UTC."
        ) from None


def age(moment: datetime, now: datetime) -> str:
    """How long before `now` it was, in its largest unit: `now`, `3m ago`, `5d ago`, `in 2h`."""
    seconds = int((now - moment).total_seconds())
    units = (("y", _YEAR), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    for unit, length in units:
        if abs(seconds) >= length:
            number = abs(seconds) // length
            return f"{number}{unit} ago" if seconds > 0 else f"in {number}{unit}"
    return "now"


def zone_of(moment: datetime) -> str:
    """The zone of a moment: `UTC`, `UTC+02:00`."""
    offset = moment.isoformat()[len(moment.replace(tzinfo=None).isoformat()) :]
    return "UTC" if offset == "+00:00" else f"UTC{offset}"
