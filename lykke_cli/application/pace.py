"""Doing something at most so often."""

import asyncio

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
