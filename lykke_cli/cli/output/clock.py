"""Times of the day and lengths of time, as a line on the screen tells them."""

from datetime import UTC, datetime, tzinfo

import msgspec


class Clock(msgspec.Struct, frozen=True):
    """Tells times in `zone`, with None in this machine's."""

    zone: tzinfo | None = None

    def time(self, moment: datetime) -> str:
        return moment.astimezone(self.zone).strftime("%H:%M:%S") + self._zone

    def span(self, start: datetime, end: datetime) -> str:
        """From when to when; with the days, unless it is one."""
        start, end = start.astimezone(self.zone), end.astimezone(self.zone)
        form = "%H:%M:%S" if start.date() == end.date() else "%Y-%m-%d %H:%M:%S"
        return f"{start.strftime(form)} to {end.strftime(form)}{self._zone}"

    @property
    def _zone(self) -> str:
        return " UTC" if self.zone is UTC else ""


def in_zone(moment: datetime, zone: tzinfo | None) -> datetime:
    """The moment in `zone`, with None in this machine's; as it is where no clock shows it."""
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError, OSError):  # at either end of the calendar
        return moment


def length(seconds: float) -> str:
    """A length of time: 3 s, 3.4 s, 11 s, 2 min 5 s, 1 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds % 1 and seconds < 10 else f"{int(seconds)} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
