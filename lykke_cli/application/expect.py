"""What is expected to arrive: decides, and explains; `lykke expect` does the waiting."""

from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence

from lykke_cli.application.filters import Event, Filters, type_matcher
from lykke_cli.application.messages import Arrival

SHOWN_MISSES = 10
"""How many entries that did not match are explained: the newest."""
MOST_IN_ORDER = 10_000
"""How many entries an order is looked for in: the newest."""


class Expectation:
    """At least `least` entries that match `filters`, and at most `most` where it is given.

    With `order` they are entries of these types, each a name or a pattern, of which one occurred
    after the other, whatever came between; `filters` let only these types through. The entries'
    own times decide: one whose broadcast was lost comes late. Where the filters hold for any
    message, messages are meant instead of entries, in the order in which they came.
    """

    def __init__(
        self,
        filters: Filters,
        least: int = 1,
        *,
        most: int | None = None,
        order: Sequence[str] = (),
    ) -> None:
        self.filters = filters
        self._least = len(order) or least
        self._most = most
        self._order = order
        self._is_step = [type_matcher([step]) for step in order]
        self._in_order: list[tuple[str, str]] = []  # when, and of what type
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
            entry = self.filters.event_of(arrival.message)
            if entry is None:
                self.others += 1
                continue
            reason = self.filters.why_not(entry)
            if reason is None:
                matching.append(arrival)
                self._keep(entry)
            else:
                self.missed += 1
                self._misses.append((entry, reason))
        self.matched = self._steps() if self._order else self.matched + len(matching)
        return matching

    def _keep(self, event: Event) -> None:
        if self._order:
            time = "" if self.filters.any_message else event.occurred_at
            insort(self._in_order, (time, event.activity_type), key=lambda kept: kept[0])
            del self._in_order[:-MOST_IN_ORDER]

    def _steps(self) -> int:
        """How many steps of the order were taken."""
        taken = 0
        for _, activity_type in self._in_order:
            if taken < len(self._is_step) and self._is_step[taken](activity_type):
                taken += 1
        return taken

    @property
    def is_decided(self) -> bool:
        """True when nothing that may still arrive changes whether it is met."""
        return self.matched >= self._least if self._most is None else self.matched > self._most

    @property
    def is_met(self) -> bool:
        """True when the expectation is met, should nothing more arrive."""
        return self._least <= self.matched and (self._most is None or self.matched <= self._most)

    @property
    def progress(self) -> str:
        """How much came, of how much."""
        if self._most == 0:
            return f"{self.matched or 'none'} came"
        return f"{self.matched} of {self._least}"

    def wanted(self, time: str) -> str:
        """Say in words what is waited for, and for how long."""
        if self._most == 0:
            return f"nothing may come for {time}"
        if self._order:
            return f"waiting up to {time} for {', then '.join(self._order)}"
        entries = f"1 {self._one}" if self._least == 1 else f"{self._least} {self._several}"
        exactly = "" if self._most is None else "exactly "
        return f"waiting up to {time} for {exactly}{entries}"

    def parts(self) -> Iterator[tuple[str, str | None]]:
        """Name each entry that is expected, with what is wrong about it or None."""
        for number in range(1, self._least + 1):
            name = f"{self._one} {number} of {self._least}"
            if self._order:
                name = f"step {number} of {self._least}: {self._order[number - 1]}"
            yield name, None if number <= self.matched else "It did not come."
        if self._most is not None:
            more = self.matched - self._most
            yield (
                f"no {'other ' * bool(self._most)}{self._one}",
                (f"{more} came that should not have." if more > 0 else None),
            )

    def explain(self) -> list[str]:
        """Explain in lines for a person what came instead."""
        if self._most is not None and self.matched > self._most:
            return []  # what came is printed
        lines = []
        if self._order and self.matched < self._least:
            missing = self._order[self.matched]
            after = f" after {self._order[self.matched - 1]}" if self.matched else ""
            came = ", ".join(kind for _, kind in self._in_order[-SHOWN_MISSES:]) or "none of them"
            lines.append(f"{missing} did not come{after}; in order came: {came}")
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
            if not self.filters.any_message:
                kinds = ("audit log entry", "audit log entries")
            one = f"1 message came that is no {kinds[0]}."
            more = f"{self.others} messages came that are no {kinds[1]}."
            lines.append(one if self.others == 1 else more)
        if not (self.matched or self.missed or self.others or self._in_order):
            lines.append("Nothing at all came for this user.")
        return lines
