"""What is expected to arrive: decides, and explains; `lykke expect` does the waiting."""

from collections import deque
from collections.abc import Sequence

from lykke_cli.application.filters import Event, Filters
from lykke_cli.application.messages import Arrival

SHOWN_MISSES = 10
"""How many entries that did not match are explained: the newest."""


class Expectation:
    """At least `count` entries that match `filters`, or with `none` not a single one.

    Where the filters hold for any message, messages instead of entries.
    """

    def __init__(self, filters: Filters, count: int = 1, *, none: bool = False) -> None:
        self._filters = filters
        self._count = count
        self._none = none
        self._misses: deque[tuple[Event, str]] = deque(maxlen=SHOWN_MISSES)
        self.matched = 0
        self.missed = 0
        self.others = 0
        """Messages that the filters do not hold for."""
        names = ("message", "messages") if filters.any_message else ("entry", "entries")
        self._one, self._several = names

    def take(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Note what came, and return the messages that match."""
        matching = []
        for arrival in arrivals:
            entry = self._filters.event_of(arrival.message)
            if entry is None:
                self.others += 1
                continue
            reason = self._filters.why_not(entry)
            if reason is None:
                matching.append(arrival)
            else:
                self.missed += 1
                self._misses.append((entry, reason))
        self.matched += len(matching)
        return matching

    @property
    def is_decided(self) -> bool:
        """True when nothing that may still arrive changes whether it is met."""
        return self.matched > 0 if self._none else self.matched >= self._count

    @property
    def is_met(self) -> bool:
        """True when the expectation is met, should nothing more arrive."""
        return self.matched == 0 if self._none else self.matched >= self._count

    def wanted(self, time: str) -> str:
        """Say in words what is waited for, and for how long."""
        if self._none:
            return f"nothing may come for {time}"
        entries = f"1 {self._one}" if self._count == 1 else f"{self._count} {self._several}"
        return f"waiting up to {time} for {entries}"

    def explain(self) -> list[str]:
        """Explain in lines for a person why the expectation is not met."""
        if self._none:
            return [f"{self.matched} came that should not have."]
        lines = [f"{self.matched} of {self._count} came."]
        if self.missed:
            lines.append(f"{self.missed} came that did not match:")
            lines += [
                f"  {entry.occurred_at} {entry.activity_type} {entry.id}: {reason}"
                for entry, reason in self._misses
            ]
            if self.missed > len(self._misses):
                lines.append(f"  and {self.missed - len(self._misses)} before them")
        if self.others:
            kinds = ("JSON object", "JSON objects")
            if not self._filters.any_message:
                kinds = ("audit log entry", "audit log entries")
            one = f"1 message came that is no {kinds[0]}."
            more = f"{self.others} messages came that are no {kinds[1]}."
            lines.append(one if self.others == 1 else more)
        if not (self.matched or self.missed or self.others):
            lines.append("Nothing at all came for this user.")
        return lines
