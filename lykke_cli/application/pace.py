"""Doing something at most so often."""

import asyncio
import math

MADE_UP = 0.1  # seconds of what was held up that are made up for, in a rush


class Pace:
    """Lets through at most `rate` a second; without a rate, everything."""

    def __init__(self, rate: float | None) -> None:
        self._pause = 0.0 if rate is None else 1 / rate  # seconds
        self._next = 0.0

    @property
    def is_limited(self) -> bool:
        return self._pause > 0

    async def wait(self) -> None:
        """Wait until the next one may go."""
        if self._pause:
            clock = asyncio.get_running_loop().time
            self._next = self._next or clock()  # nothing was held up before the first
            await asyncio.sleep(max(0.0, self._next - clock()))
            self._next = max(self._next, clock() - MADE_UP) + self._pause


class Share:
    """Takes its turns so that it is at work for no more than a `share` of the time.

    Between two turns it pauses for `longest` seconds at most.
    """

    def __init__(self, share: float, longest: float) -> None:
        self._pause = 1 / share - 1  # for each second of a turn
        self._longest = longest
        self._began = 0.0
        self.due = math.inf
        """When the next turn is, by the clock of its callers; infinite where none is waited for."""

    def begins(self, now: float) -> None:
        """A turn begins."""
        self._began, self.due = now, math.inf

    def ended(self, now: float) -> None:
        """It is over, and another is wanted."""
        self.due = now + min(self._pause * (now - self._began), self._longest)

    def wanted(self, now: float) -> None:
        """A turn is wanted, if none is waited for."""
        if self.due == math.inf:
            self.due = now

    def goes_on(self, now: float, *, at_once: bool) -> None:
        """There is more to do: `at_once`, or after the pause that this turn costs."""
        (self.wanted if at_once else self.ended)(now)
