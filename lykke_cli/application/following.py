"""A tail for an application's own code: entries one by one, and a place that knows which it took.

`tail.py` says what there is, `taken.py` what of it counts, `place.py` stores that.
"""

import logging
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import Self
from uuid import UUID

import msgspec

from lykke_cli.application.errors import SubscriptionClosed, UsageMistake
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.cursor_protocol import CursorStoreProtocol
from lykke_cli.application.gateways.history_protocol import HistoryProtocol
from lykke_cli.application.gateways.pubsub_protocol import Gap, Kept, PubSubGatewayProtocol
from lykke_cli.application.keeping import PlaceKeeper
from lykke_cli.application.merge import Print, Save
from lykke_cli.application.messages import Arrival, Entry, UnreadableEntry
from lykke_cli.application.place import NoPlace, Place
from lykke_cli.application.statuses import (
    Connected,
    Disconnected,
    HistoryAway,
    HistoryRead,
    Notice,
    Status,
)
from lykke_cli.application.tail import Event, Tail, TailRequest
from lykke_cli.application.taken import Move, Taken

MOST_UNACKNOWLEDGED = 100_000
"""How many entries may be handed out that are not acknowledged, where that is asked for."""

logger = logging.getLogger(__name__)


def checked_request(
    user_ids: UUID | Collection[UUID] | None,
    filters: Filters,
    since: datetime | None,
    last: int | None,
) -> TailRequest:
    """What to follow; raises UsageMistake where it makes no sense."""
    given = (user_ids,) if isinstance(user_ids, UUID) else user_ids
    users = None if given is None else set(given)
    if users is not None and not (users and all(isinstance(user, UUID) for user in users)):
        raise UsageMistake("Give a user's UUID, a collection of some, or None for every user.")
    for name, moment in (("since", since), ("until", filters.until)):
        if moment is not None and moment.tzinfo is None:
            raise UsageMistake(f"{name} names no time zone: give an aware datetime.")
    if last is not None and last < 1:
        raise UsageMistake("last is a number of entries, 1 or more.")
    return TailRequest(user_ids=users, filters=filters, since=since, last=last)


class Parts(msgspec.Struct, frozen=True):
    """What a Following stands on, open."""

    gateway: PubSubGatewayProtocol
    history: HistoryProtocol | None
    store: CursorStoreProtocol | None


class Following:
    """Every committed entry, exactly once: what `follow` returns.

    Enter it, then iterate; the iteration has no end of its own. Once it is entered, the server has
    confirmed the subscription, the place is stored, and whatever is committed from then on comes.
    Waiting for an entry may be cancelled, by a time-out for instance, and taken up again.
    """

    def __init__(
        self,
        parts: Callable[[], AbstractAsyncContextManager[Parts]],
        request: TailRequest,
        *,
        on_demand: bool,
        reconcile_interval: float,
        on_gap: Callable[[Gap], None] | None,
        on_status: Callable[[Status], None] | None,
    ) -> None:
        self._opened: AsyncExitStack | None = None
        if not reconcile_interval > 0:
            raise UsageMistake("reconcile_interval is a number of seconds, more than 0.")
        self._parts = parts
        self._request = request
        self._on_demand = on_demand
        self._reconcile_interval = reconcile_interval
        self._on_gap = on_gap
        self._on_status = on_status
        self._taken = Taken()
        self._events: Iterator[Event] = iter(())
        self._arrivals: Iterator[Arrival] = iter(())
        self._is_waiting = False
        self._is_new = True

    async def __aenter__(self) -> Self:
        """Begin; raises ServerUnavailable, and CursorBusy where the place is in use."""
        if not self._is_new:
            raise UsageMistake("This was entered before: follow() makes another one.")
        self._is_new = False
        async with AsyncExitStack() as stack:
            parts = await stack.enter_async_context(self._parts())
            self._place = NoPlace() if parts.store is None else Place(parts.store)
            self._keeper = PlaceKeeper(self._place, logger.warning, needed=True)
            resume = self._place.load()
            if not self._on_demand:
                await stack.enter_async_context(self._keeper)
            self._tail = Tail(
                parts.gateway,
                parts.history,
                msgspec.structs.replace(self._request, resume=resume),
                reconcile_interval=self._reconcile_interval,
            )
            await stack.enter_async_context(self._tail)
            while not self._has_begun(await self._hear()):
                pass
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.__aexit__(exc_type, exc, traceback)

    async def close(self) -> None:
        """End it, as leaving the block does; closing twice is harmless."""
        await self.__aexit__(None, None, None)

    def __del__(self) -> None:
        if self._opened is not None:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=1)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        """The next entry. Unless the place moves on demand, the one before it counts as taken.

        Raises SubscriptionClosed after the end, and what the place's store raises.
        """
        self._check_open()
        if not self._on_demand:
            self._note(self._taken.take())
        elif len(self._taken) >= MOST_UNACKNOWLEDGED:
            raise UsageMistake(
                f"{len(self._taken):,} entries were handed out and not acknowledged: "
                "call acknowledge()."
            )
        self._keeper.save_if_due()
        while True:
            for arrival in self._arrivals:
                if isinstance(arrival.message, Entry):
                    self._taken.hand_out(arrival.message, arrival)
                    return arrival.message
                if isinstance(arrival.message, UnreadableEntry):
                    id, reason = arrival.message.id, arrival.message.reason
                    logger.warning("The entry %s is passed over: %s.", id, reason)
                    self._note(self._taken.passed(arrival))
            await self._hear()

    def acknowledge(self, entry: Entry | None = None) -> None:
        """The entry was taken, and all before it; without one, all that were handed out.

        The place is stored before this returns. Raises what its store raises.
        """
        self._check_open()
        self._note(self._taken.take(None if entry is None else entry.id))
        if self._place.is_behind:  # also by what counted before, or could not be stored
            self._keeper.save()

    async def _hear(self) -> Event:
        """What happens next; the entries before it have been handed out."""
        if self._is_waiting:
            raise UsageMistake("Another task waits for the next entry already.")
        self._is_waiting = True
        try:
            while (event := next(self._events, None)) is None:
                self._events = await self._tail.next()
        finally:
            self._is_waiting = False
        match event:
            case Print(arrivals):
                self._arrivals = iter(arrivals)
            case Save(checkpoint):
                self._note(self._taken.passed(checkpoint))
                self._keeper.save_if_due()
            case status:
                self._report(status)
        return event

    def _has_begun(self, event: Event) -> bool:
        """There is a place to store: the first answer of a history, or of streams, gives one."""
        has_place = self._tail.has_history or self._place.is_kept
        return isinstance(event, Print | Save if has_place else Connected)

    def _note(self, moves: Iterable[Move]) -> None:
        for move in moves:
            if isinstance(move, Arrival):
                self._place.wrote([move])
            else:
                self._place.reached(move)

    def _report(self, status: Status) -> None:
        match status:
            case Connected(gap=None, followed=place):
                logger.info("Following %s.", place)
            case Connected(followed=place) if self._tail.has_history:
                logger.info("Following %s again; what came meanwhile is read.", place)
            case Connected(gap=Gap(kept=Kept.ALL), followed=place):
                logger.info("Following %s again; nothing is missing.", place)
            case Connected(gap=Gap() as gap, followed=place):
                logger.warning(
                    "Following %s again; entries from %s to %s may be missing.",
                    place,
                    gap.started_at.isoformat(timespec="milliseconds"),
                    gap.ended_at.isoformat(timespec="milliseconds"),
                )
                if self._on_gap is not None:
                    self._on_gap(gap)
            case Disconnected(reason):
                logger.warning("%s Subscribing again.", reason)
            case HistoryAway(reason):
                logger.warning("%s It is tried again.", reason)
            case HistoryRead(recovered):
                logger.debug(
                    "The database was read; entries that had not come live: %d.", recovered
                )
            case Notice(text):
                logger.warning("%s", text)
        if self._on_status is not None:
            self._on_status(status)

    def _check_open(self) -> None:
        if self._opened is None:
            what = "not entered: use it in `async with`" if self._is_new else "closed"
            raise SubscriptionClosed(f"The following was {what}.")
