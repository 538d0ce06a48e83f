"""Moments and durations as people type them."""

import re
from datetime import UTC, datetime, timedelta

from lykke_cli.application.errors import UsageMistake

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = r"(\d{1,9}(?:\.\d{1,9})?)(ms|[smhdw])"
_DURATION = re.compile(rf"(?:{_PART})+", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """`30s`, `15m`, `2h`, `7d`, `1h30m`, `500ms`, or a plain number of seconds.

    Raises UsageMistake.
    """
    text = text.strip()
    try:
        if _DURATION.fullmatch(text):
            parts = re.findall(_PART, text)
            return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
            return timedelta(seconds=float(text))
    except OverflowError:
        pass
    raise UsageMistake(f"{text!r} is not a duration: write it like 30s, 15m, 2h or 7d.")


def parse_moment(text: str, now: datetime) -> datetime:
    """`now`, a duration before `now`, or an ISO 8601 time (UTC where it names no zone).

    Raises UsageMistake.
    """
    text = text.strip()
    if text == "now":
        return now
    try:
        return now - parse_duration(text)
    except (UsageMistake, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageMistake(
            f"{text!r} is not a time: write it like 15m, 2h, now or 2026-01-31T12:00:00Z."
        ) from None


def age(moment: datetime, now: datetime) -> str:
    """How long before `now` it was, in its largest unit: `now`, `3m ago`, `5d ago`, `in 2h`."""
    seconds = int((now - moment).total_seconds())
    units = (("y", 365 * 86400), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    for unit, length in units:
        if abs(seconds) >= length:
            number = abs(seconds) // length
            return f"{number}{unit} ago" if seconds > 0 else f"in {number}{unit}"
    return "now"


def offset_of(moment: datetime) -> str:
    """The zone of a moment: `UTC`, `UTC+02:00`."""
    offset = moment.isoformat()[len(moment.replace(tzinfo=None).isoformat()) :]
    return "UTC" if offset == "+00:00" else f"UTC{offset}"
