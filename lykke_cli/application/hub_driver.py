"""Many readers on one connection: drives `hub.py` from a subscription, histories and a clock.

`hub_channels.py` follows the users' channels, `hub_reads.py` asks the history.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import Self
from uuid import UUID

import msgspec

from lykke_cli.application.batches import live_arrivals
from lykke_cli.application.ending import end
from lykke_cli.application.errors import (
    LoginRefused,
    ServerUnavailable,
    SubscriptionClosed,
    SubscriptionLost,
    UsageMistake,
)
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import HistoryProtocol
from lykke_cli.application.gateways.pubsub_protocol import (
    Deliveries,
    Gap,
    PubSubGatewayProtocol,
    in_words,
)
from lykke_cli.application.hub_reader import HubReader
from lykke_cli.application.hub_service import HubService
from lykke_cli.application.merge import Checkpoint, ReadKind
from lykke_cli.application.reconciling import FULL_INTERVAL, RECONCILE_INTERVAL, Reconciling
from lykke_cli.application.reconnecting import Reconnecting
from lykke_cli.application.statuses import (
    Connected,
    Disconnected,
    HistoryAway,
    HistoryRead,
    Notice,
    Status,
)

logger = logging.getLogger(__name__)


class HubStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may want to know; the counts are since the driver began."""

    readers: int
    users: int
    """Who have a reader."""
    entries: int
    """Entries that came for them, each counted once however many readers it has."""
    recovered: int
    """Of those, how many the database had and the channel had not brought."""
    reconnects: int
    lag: float
    """For how many seconds something may have been missing; 0 while nothing may be."""
    waiting_reads: int
    """Reads that wait for a connection to the database."""


class HubDriver:
    """Serves many readers with one subscription and a few connections to the database.

    `histories` are asked in parallel. `on_status` is called with what happens to the servers:
    Connected, Disconnected, HistoryAway, HistoryRead, Notice. Entering the block subscribes, and
    raises ServerUnavailable where that fails; what fails later is tried again.
    """

    def __init__(
        self,
        gateway: PubSubGatewayProtocol,
        histories: Sequence[HistoryProtocol],
        *,
        reconcile_interval: float = RECONCILE_INTERVAL,
        full_interval: float = FULL_INTERVAL,
        on_status: Callable[[Status], None] | None = None,
    ) -> None:
        if not histories:
            raise UsageMistake("A hub needs a history.")
        self._link = Reconnecting(gateway, [])
        self._service = HubService(
            self._link,
            histories,
            self._history_told,
            lambda text: self._tell(Notice(text)),
            self._link.has_read,
        )
        self._reconciling = Reconciling(reconcile_interval, full_interval)
        self._on_status = on_status
        self._opened = AsyncExitStack()
        self._has_failed = False  # something is to be tried again
        self._pace_changed = asyncio.Event()
        self._reconnects = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._link)
            stack.push_async_callback(self._service.reads.close)
            tasks = {
                asyncio.create_task(self._guard(run))
                for run in (self._follow_link, self._service.channels.run, self._tick)
            }
            stack.push_async_callback(end, tasks)
            stack.callback(self._service.fail, SubscriptionClosed("The hub was closed."))
            self._opened = stack.pop_all()
        self._service.note_lag()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opened.aclose()

    def reader(
        self,
        user_id: UUID | None,
        *,
        resume: Checkpoint | None = None,
        since: datetime | None = None,
        last: int | None = None,
        filters: Filters = Filters(),  # noqa: B008
    ) -> HubReader:
        """A reader of one user's entries, or with None of every user's, not yet open: enter it.

        It goes on from `resume`, or begins with what occurred at or after `since`, with the newest
        `last` entries that `filters` let through, or now. With filters other messages of the
        channel do not come.
        """
        return HubReader(self._service, user_id, resume, since, last, filters)

    def history(self) -> AbstractAsyncContextManager[HistoryProtocol]:
        """Borrow a connection to the database, when the readers can do without it.

        They always keep one: entering raises UsageMistake where there is no other.
        """
        self._service.check()
        return self._service.reads.lend()

    @property
    def is_connected(self) -> bool:
        return self._service.error is None and self._link.is_connected

    @property
    def history_is_away(self) -> bool:
        """The database cannot be read; that is found out before there is a reader, too."""
        return self._service.reads.failure is not None

    @property
    def statistics(self) -> HubStatistics:
        service = self._service
        return HubStatistics(
            readers=len(service.readers),
            users=service.hub.users,
            entries=service.hub.entries,
            recovered=service.hub.recovered,
            reconnects=self._reconnects,
            lag=service.lag,
            waiting_reads=service.reads.waiting,
        )

    # What happens

    async def _guard(self, run: Callable[[], Awaitable[None]]) -> None:
        """A task that ends by itself ends everything, and every reader is told why."""
        try:
            await run()
        except Exception as error:
            if self._service.error is None and not isinstance(error, SubscriptionClosed):
                logger.exception("The hub has ended")
            self._service.fail(error)

    async def _follow_link(self) -> None:
        self._tell(Connected("no channels yet", None, self._link.node))
        while True:
            match await self._link.next():
                case Deliveries() as deliveries:
                    self._service.carry_out(self._service.hub.live(live_arrivals(deliveries)))
                    await asyncio.sleep(0)  # however much comes, others have their turn
                case Gap() as gap:
                    self._reconnects += 1
                    self._tell(Connected(in_words(self._link.channels), gap, self._link.node))
                    self._service.carry_out(self._service.hub.reconnected())
                    self._pace_changed.set()
                case SubscriptionLost() as error:
                    self._tell(Disconnected(str(error), error.since))
                    self._service.carry_out(self._service.hub.disconnected())
                    self._service.note_lag()
                    self._pace_changed.set()
                case LoginRefused() as error:
                    self._service.channels.dropped(error)
                case ServerUnavailable() as error:
                    self._tell(Notice(str(error)))

    async def _tick(self) -> None:
        loop, reconciling = asyncio.get_running_loop(), self._reconciling
        reconciling.begin(loop.time())
        await self._service.reads.probe()
        while True:
            self._pace_changed.clear()
            deadline = reconciling.deadline(
                loop.time(), is_failing=self._has_failed, is_connected=self._link.is_connected
            )
            hub, portions = self._service.hub, self._service.reads.portions
            due = portions.due
            try:
                async with asyncio.timeout_at(min(deadline, due)):
                    await self._pace_changed.wait()
            except TimeoutError:
                if due < deadline:
                    portions.due = math.inf  # though another read may have to end first
                    self._service.carry_out(hub.read_on())
                    continue
                self._has_failed = False
                if reconciling.due(loop.time()) is ReadKind.FULL:
                    portions.wanted(loop.time())  # which has not what is near
                self._service.carry_out(hub.tick())
                if not hub.users:
                    await self._service.reads.probe()

    def _history_told(self, before: Exception | None, now: Exception | None) -> None:
        if self._service.reads.portions.due < math.inf:
            self._pace_changed.set()
        if now is None:
            if not self._has_failed:
                self._reconciling.worked()
            if before is not None:
                self._tell(HistoryRead(0, after_failure=True))
        else:
            if type(before) is not type(now):
                self._tell(HistoryAway(str(now)))
            if not self._has_failed:
                self._has_failed = True
                self._pace_changed.set()
        self._service.note_lag()

    def _tell(self, status: Status) -> None:
        if self._on_status is not None:
            try:
                self._on_status(status)
            except Exception:
                logger.exception("on_status failed")
