"""All connections of a bridge: looked after, told of outages, and sent away one by one."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

from lykke_cli.application.ending import end
from lykke_cli.web.connection import Connection, Restarting
from lykke_cli.web.frames import Frame
from lykke_cli.web.refusals import unavailable

MOST_BETWEEN_ROUNDS = 1.0  # seconds
ROUNDS_EACH = 10
"""How many rounds there are at least in the time of a heartbeat or a stall."""
COME_BACK_WITHIN_MS = 5_000
"""Over so long clients come back after a restart, so that they do not all come at once."""
LAST_WORDS = 10.0  # seconds for the last connections to end


class Connections:
    """Those that are open; used as an async context manager, which goes the rounds.

    After `heartbeat` seconds without anything else a client is sent one; one that takes nothing
    for `stall` seconds is sent away. `look` is called in each round.
    """

    def __init__(self, *, heartbeat: float, stall: float, look: Callable[[], None]) -> None:
        self._heartbeat = heartbeat
        self._stall = stall
        self._look = look
        self._open: set[Connection] = set()
        self._task: asyncio.Task[None] | None = None
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._open)

    async def __aenter__(self) -> "Connections":
        self._is_draining = False
        self._task = asyncio.create_task(self._go_rounds())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            await end({self._task})

    def check_open(self) -> None:
        """Raises Refusal in a drain."""
        if self._is_draining:
            raise unavailable("This server is about to end: connect again.")

    def enter(self, connection: Connection) -> None:
        """The connection counts as one until it leaves; raises Refusal in a drain."""
        self.check_open()
        self._open.add(connection)
        self._none_left.clear()

    def leave(self, connection: Connection) -> None:
        """It has ended."""
        self._open.discard(connection)
        if not self._open:
            self._none_left.set()

    def tell_all(self, frame: Frame) -> None:
        """Tell everybody who would understand it."""
        for connection in self._open:
            if connection.listener is not None:
                connection.listener.tell(frame)

    async def drain(self, seconds: float) -> None:
        """Let no more in, and send all away, spread over so long; returns when they have gone."""
        self._is_draining = True
        leaving = list(self._open)
        random.shuffle(leaving)
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number, connection in enumerate(leaving, 1):
            await asyncio.sleep(max(0.0, start + seconds * number / len(leaving) - loop.time()))
            _send_away(connection)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._none_left.wait()

    def stop_all(self) -> None:
        """Send all away at once, without waiting."""
        for connection in self._open:
            _send_away(connection)

    async def _go_rounds(self) -> None:
        pause = min(MOST_BETWEEN_ROUNDS, self._heartbeat / ROUNDS_EACH, self._stall / ROUNDS_EACH)
        while True:
            await asyncio.sleep(pause)
            self._look()
            self._go_round(asyncio.get_running_loop().time())

    def _go_round(self, now: float) -> None:
        for connection in self._open:
            connection.check(now, self._stall)
            if connection.listener is not None and connection.idle(now) >= self._heartbeat:
                connection.listener.beat()


def _send_away(connection: Connection) -> None:
    connection.stop(Restarting(random.randrange(COME_BACK_WITHIN_MS)))
