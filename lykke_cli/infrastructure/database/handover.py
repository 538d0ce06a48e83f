"""Rows are handed over to their reader, who may be slow; no transaction waits for it for long.

A transaction that waits for whoever reads its rows (a pager, a slow pipe) holds a snapshot and a
lock: an ALTER TABLE waits behind it, and every INSERT behind that. So the reading is a task of
its own, which hands over what it read. When it was kept waiting for too long it leaves its
transaction and waits outside of one. Then it goes on in another, after the last row it read.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.ending import end
from lykke_cli.application.errors import (
    BrokenOff,
    LoginRefused,
    SchemaMismatch,
    ServerUnavailable,
)

STALL = 5.0  # seconds in all that one transaction may wait for its reader
ATTEMPTS = 3  # in a row that the server breaks off before anything more was read
BROKEN_ATTEMPTS = 20  # in a row where it had let the transaction begin
LENGTH = 2  # items that wait for the reader

T = TypeVar("T")


class Stalled(Exception):
    """The reader is slow: the transaction is left in the middle of what it was doing."""


class Handover(Generic[T]):
    """The end that `handed_over` gives to the task which reads from the database."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._patience = STALL
        self.given = 0

    async def give(self, item: T) -> bool:
        """Hand `item` over and wait for room; False when the transaction is to be left now."""
        self._items.append(item)
        self.given += 1
        self._changed.set()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._patience):
                await self._wait_for_room()
        except TimeoutError:
            return False
        finally:
            self._patience -= loop.time() - began
        return True

    async def room(self) -> None:
        """Outside of a transaction: wait until the reader has taken enough."""
        await self._wait_for_room()
        self._patience = STALL

    async def _wait_for_room(self) -> None:
        while len(self._items) >= LENGTH:
            self._changed.clear()
            await self._changed.wait()

    async def _take(self, task: "asyncio.Task[None]") -> T | None:
        """The next item; None when there will be none any more."""
        while not self._items:
            if task.done():
                return None
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        self._changed.set()
        return item


async def in_transactions(handover: Handover[T], read: Callable[[], Awaitable[bool]]) -> None:
    """Call `read`, which reads in a transaction of its own, until it says that it is done.

    It is called again when its reader kept it waiting. It is called again, too, when the server
    broke off in the middle of it: the server may be back, and `read` knows how far it came. A
    standby may do that time and again, to what reads what its primary has removed.
    """
    backoff, failures = Backoff(), 0
    while True:
        given = handover.given
        try:
            if await read():
                return
        except Stalled:
            pass
        except (LoginRefused, SchemaMismatch):
            raise
        except ServerUnavailable as error:
            if handover.given > given:
                failures = 0
                backoff.reset()
            failures += 1
            had_begun = isinstance(error, BrokenOff)
            if failures >= (BROKEN_ATTEMPTS if had_begun else ATTEMPTS):
                raise
            if not (had_begun or handover.given):
                raise
            await asyncio.sleep(backoff.next())
        await handover.room()


async def persistently(read: Callable[[], Awaitable[T]]) -> T:
    """What `read` returns, which is called again where the server broke it off."""
    backoff = Backoff()
    for _ in range(BROKEN_ATTEMPTS - 1):
        try:
            return await read()
        except BrokenOff:
            await asyncio.sleep(backoff.next())
    return await read()


async def handed_over(read: Callable[[Handover[T]], Awaitable[None]]) -> AsyncGenerator[T]:
    """What `read` hands over; its error is raised after all that it read."""
    handover: Handover[T] = Handover()

    async def run() -> None:
        await read(handover)

    task = asyncio.create_task(run())
    task.add_done_callback(lambda _: handover._changed.set())
    try:
        while (item := await handover._take(task)) is not None:
            yield item
        await task
    finally:
        await end({task})
        if not task.cancelled():
            task.exception()  # or else asyncio would log that it was never retrieved
