"""One reader of a hub, as whoever sends it on holds it."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import UUID

import msgspec

from lykke_cli.application.errors import SubscriptionClosed, UsageMistake
from lykke_cli.application.filters import Filters
from lykke_cli.application.hub_service import HubService
from lykke_cli.application.journal import Line, Portion
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import entry_of
from lykke_cli.application.reader import Begun, Reader

PORTION_LINES = 500
PORTION_BYTES = 256 << 10
"""What is sent at once has at most: so a client that is cut off has all of it, or nothing."""


class Outlet(Protocol):
    """Where what is new can be handed to at once, without waking whoever waits in `next`."""

    def write(self, portion: Portion) -> bool:
        """Take it, or return False: then it is for whoever waits. Never raises."""
        ...


class HubReader:
    """One reader of one user's entries, or of every user's.

    Entering the block joins, leaving it leaves. Made by `HubDriver.reader`.
    """

    def __init__(
        self,
        service: HubService,
        user_id: UUID | None,
        resume: Checkpoint | None,
        since: datetime | None,
        last: int | None,
        filters: Filters,
    ) -> None:
        self.user_id = user_id
        self._service = service
        self._resume = resume
        self._since = since
        self._last = last
        self._filters = filters
        self._has_filters = not filters.selects_all
        self._reader: Reader | None = None
        self._checkpoint = resume
        self._told = -1  # how many outages there had been when it was last told to be caught up
        self._is_woken = True
        self._is_interrupted = False
        self._waiter: asyncio.Future[None] | None = None
        self._refusal: Exception | None = None
        self._left: Portion | None = None  # was taken, and is for `next`
        self.outlet: Outlet | None = None
        """Takes what comes while somebody waits in `next`, as long as it can."""

    async def __aenter__(self) -> Self:
        if self._reader is not None:
            raise UsageMistake("This reader was entered already: make another.")
        service = self._service
        service.check()
        self._reader, actions = service.hub.join(
            self.user_id, self._resume, since=self._since, last=self._last
        )
        service.joined(self._reader, self, self._filters)
        service.carry_out(actions)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._reader is not None:
            self._service.left(self._reader)
            self.refuse(SubscriptionClosed("The reader was closed."))

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where to go on, once what `next` returned last was sent."""
        return self._checkpoint

    async def begun(self) -> Begun:
        """Wait until it is known how it began: then whatever is committed from now on comes.

        Raises LoginRefused where the server does not permit the user's channel.
        """
        while (begun := self._joined().begun) is None:
            await self._wait()
            self._is_woken = False
        self._is_woken = True
        self._checkpoint = self._joined().checkpoint
        return begun

    def next(self, timeout: float | None = None) -> Coroutine[Any, Any, Portion]:
        """Wait for something new; after `timeout` seconds the portion has no lines.

        A cancelled call loses nothing. One caller at a time. Raises LoginRefused where the server
        does not permit the user's channel.
        """
        return self._next() if timeout is None else self._next_within(timeout)

    async def _next_within(self, timeout: float) -> Portion:
        try:
            async with asyncio.timeout(timeout):
                return await self._next()
        except TimeoutError:
            return self._given(self._left_over() or self._take())

    def wake(self) -> None:
        """There may be something new."""
        self._is_woken = True
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self.outlet is not None:
            self._waiter = None  # what is taken may bring more, which comes after it and not before
            try:
                self._write_at_once(self.outlet)
            finally:
                self._waiter = waiter
        if self._is_woken:
            waiter.set_result(None)

    def _write_at_once(self, outlet: Outlet) -> None:
        """Hand the outlet what it takes; the rest is for whoever waits."""
        while self._is_woken and not self._has_something_else():
            self._is_woken = False
            portion = self._take()
            if self._is_news(portion) or (portion.lines and not outlet.write(portion)):
                self._left, self._is_woken = portion, True
            else:
                self._checkpoint = portion.checkpoint

    def _has_something_else(self) -> bool:
        """Whether whoever waits is to do something first."""
        return self._left is not None or self._is_interrupted or self._refusal is not None

    def interrupt(self) -> None:
        """Let `next` return at once, without lines where there is nothing new."""
        self._is_interrupted = True
        self.wake()

    def refuse(self, error: Exception) -> None:
        """Whoever waits is to be told of this."""
        self._refusal = self._refusal or error
        self.wake()

    def _joined(self) -> Reader:
        if self._refusal is not None:
            raise self._refusal
        if self._reader is None:
            raise SubscriptionClosed("The reader is not open: use it in `async with`.")
        return self._reader

    async def _next(self) -> Portion:
        while True:
            self._joined()
            if (portion := self._left_over()) is not None:
                return self._given(portion)
            if self._is_woken:
                self._is_woken = False
                portion = self._take()
                if portion.lines or self._is_news(portion) or self._is_interrupted:
                    self._is_interrupted = False
                    return self._given(portion)
            await self._wait()

    def _left_over(self) -> Portion | None:
        portion, self._left = self._left, None
        return portion

    async def _wait(self) -> None:
        if self._is_woken:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _take(self) -> Portion:
        service, reader = self._service, self._joined()
        had_parcels = reader.has_parcels
        portion, actions = service.hub.take(reader)
        if had_parcels:
            service.reads.taken()
        if self._has_filters and portion.lines:
            portion = msgspec.structs.replace(portion, lines=self._wanted(portion.lines))
        if actions:
            service.carry_out(actions)
        if not portion.lines:  # what is passed over does not keep the checkpoint back
            self._checkpoint = portion.checkpoint
        return portion

    def _given(self, portion: Portion) -> Portion:
        self._checkpoint = portion.checkpoint
        if not self._is_news(portion):
            return portion
        self._told = self._service.hub.outages
        return msgspec.structs.replace(portion, caught_up_anew=True)

    def _is_news(self, portion: Portion) -> bool:
        return portion.caught_up and self._told != self._service.hub.outages

    def _wanted(self, lines: Sequence[Line]) -> Sequence[Line]:
        shown = [line for line in lines if line.id is not None or line.is_notice]
        entries = [entry_of(line.data) for line in shown if not line.is_notice]
        wanted = iter(self._filters.wants(entries))
        return [line for line in shown if line.is_notice or next(wanted)]
