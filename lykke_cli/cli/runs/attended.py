"""The events of a tail, for somebody who may ask for something between them."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress

from lykke_cli.application.batches import as_batch
from lykke_cli.application.merge import Print, Save
from lykke_cli.application.tail import Event
from lykke_cli.cli.output.keys import Command
from lykke_cli.cli.output.scene import Tick

TICK = 1.0  # seconds
MOST_EVENTS = 20_000
MOST_ROWS = 20_000
MOST_BYTES = 64 << 20


class Attended:
    """Takes events as they come, and gives them on in order; while it `is_paused` up to a row.

    At most MOST_EVENTS with MOST_ROWS rows and MOST_BYTES of them wait, and one event more; of the
    Saves between two rows only the last does. Then the tail is asked for nothing until there is
    room, as by an output that takes nothing: what comes meanwhile waits with the server, or is read
    from the database later.
    """

    def __init__(self) -> None:
        self.is_paused = False
        self.rows = 0
        """How many wait."""
        self._bytes = 0
        self._events: deque[Event] = deque()
        self._commands: deque[Command] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def is_full(self) -> bool:
        has_most = self.rows > MOST_ROWS or len(self._events) > MOST_EVENTS
        return has_most or self._bytes > MOST_BYTES

    @property
    def is_asked(self) -> bool:
        """Whether something is asked for that was not given on yet."""
        return bool(self._commands)

    @property
    def _is_held_up(self) -> bool:
        return self.is_paused and isinstance(self._events[0], Print)

    def ask(self, commands: Iterable[Command]) -> None:
        """These come next."""
        self._commands += commands
        self._news.set()

    async def of(self, events: AsyncGenerator[Event]) -> AsyncGenerator[Event | Command | Tick]:
        """The events and what is asked for, with a Tick now and then; raises what they raise."""
        loop = asyncio.get_running_loop()
        taking = asyncio.create_task(self._take(events))
        taking.add_done_callback(lambda _: self._news.set())
        tick_at = loop.time()
        try:
            while True:
                if self._commands:
                    yield self._commands.popleft()
                elif self._events and (taking.done() or not self._is_held_up):
                    yield self._next()
                elif taking.done():
                    taking.result()
                    return
                elif loop.time() >= tick_at:
                    tick_at = loop.time() + TICK
                    yield Tick()
                else:
                    self._news.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(tick_at):
                            await self._news.wait()
        finally:
            taking.cancel()
            await asyncio.wait({taking})

    async def _take(self, events: AsyncGenerator[Event]) -> None:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Save):
                    self._drop_save()
                self._events.append(event)
                self._count(event, 1)
                self._news.set()
                while self.is_full:
                    self._room.clear()
                    await self._room.wait()

    def _drop_save(self) -> None:
        """The one that waits after the last row, if any: a later one says more."""
        for index in reversed(range(len(self._events))):
            if isinstance(self._events[index], Print):
                return
            if isinstance(self._events[index], Save):
                del self._events[index]
                return

    def _next(self) -> Event:
        event = self._events.popleft()
        self._count(event, -1)
        self._room.set()
        return event

    def _count(self, event: Event, sign: int) -> None:
        if isinstance(event, Print):
            self.rows += sign * len(event.arrivals)
            self._bytes += sign * as_batch(event.arrivals).size()
