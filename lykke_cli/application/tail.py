"""Following channels: drives `merge.py` from a subscription, a history and a clock.

What comes out, in contrast to what a subscription gives, has no gap and no duplicate, provided
there is a history.
"""

import asyncio
import math
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
    Set,
)
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from types import TracebackType
from typing import Self
from uuid import UUID

import msgspec

from lykke_cli.application.batches import LiveBatch, live_arrivals
from lykke_cli.application.beside import Beside, parts
from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.ending import end
from lykke_cli.application.errors import ServerUnavailable, SubscriptionLost
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import HistoryChunk, HistoryProtocol
from lykke_cli.application.gateways.pubsub_protocol import (
    Channel,
    Deliveries,
    Gap,
    Kept,
    PubSubGatewayProtocol,
    in_words,
)
from lykke_cli.application.live_only import LiveOnly, position_in
from lykke_cli.application.merge import (
    Checkpoint,
    Merge,
    Print,
    Read,
    ReadKind,
    Save,
    Verify,
)
from lykke_cli.application.pace import Share
from lykke_cli.application.reconciling import (
    FULL_INTERVAL,
    FULL_SHARE,
    LONGEST_PAUSE,
    RECONCILE_INTERVAL,
    Reconciling,
    answers,
)
from lykke_cli.application.reconnecting import Reconnecting
from lykke_cli.application.statuses import (
    Connected,
    Disconnected,
    HistoryAway,
    HistoryRead,
    Notice,
    Status,
)

QUEUE_LENGTH = 2  # chunks between the history and the output: a slow output slows the history


Event = Print | Save | Status
Told = Event | Read | Verify


class _Verified(msgspec.Struct, frozen=True):
    uncovered: set[str]


class _Failed(msgspec.Struct, frozen=True):
    error: Exception


_Answer = HistoryChunk | _Verified | _Failed
_Happened = Deliveries | Gap | ServerUnavailable | _Answer | ReadKind


class TailRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow."""

    user_ids: Set[UUID] | None
    """None follows every user."""
    channel_types: Sequence[str] = (AUDIT_LOG,)
    """Only the audit log's has a history: what comes on others is printed as it comes."""
    filters: Filters = msgspec.field(default_factory=Filters)
    since: datetime | None = None
    """Print history from here on first."""
    last: int | None = None
    """Print the newest entries first, so many of those that the filters let through."""
    resume: Checkpoint | None = None
    """Go on from here instead."""
    undecoded: bool = False
    """Hand on what comes as it is, repetitions included: neither filters nor a history apply."""

    @property
    def channels(self) -> set[Channel]:
        users = (None,) if self.user_ids is None else self.user_ids
        return {Channel(user, each) for user in users for each in self.channel_types}

    @property
    def is_mixed(self) -> bool:
        """Whether other channels than the audit log's are followed beside it."""
        return AUDIT_LOG in self.channel_types and len(self.channel_types) > 1


class _Reader:
    """Does what a merge asks of the history, one request at a time, and hears the answers.

    It `tell`s each answer as it comes, and waits while that waits; `heard` says what it means.
    """

    def __init__(
        self,
        history: HistoryProtocol,
        merge: Merge,
        request: TailRequest,
        tell: Callable[[_Answer], Awaitable[None]],
        full_share: float,
    ) -> None:
        self._history = history
        self._merge = merge
        self._request = request
        self._selection = request.filters.selection(request.user_ids)
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._recovered = 0  # entries, by the read under way
        self._read: Read | None = None  # the one under way, or the last
        self.was_near = False
        """`Read.is_near` of the last that is complete."""
        self._has_rows = False  # the same: more of them may be there, and they are owed
        self._noticed: str | None = None  # by the last chunk
        self._away: type[ServerUnavailable] | None = None  # as the person was told
        self.portions = Share(full_share, LONGEST_PAUSE)
        self.has_worked = False
        """The table was read: whatever fails from now on is tried again."""

    def start(self, request: Read | Verify) -> None:
        """Begin with it."""
        if isinstance(request, Read):
            self._read, self._has_rows = request, False
            if not request.is_near:
                self.portions.begins(asyncio.get_running_loop().time())
        self._task = asyncio.create_task(self._answer(request))

    async def stop(self) -> None:
        if self._task is not None:
            await end({self._task})

    def heard(self, answer: _Answer) -> Iterator[Told]:
        """What an answer means.

        Raises ServerUnavailable while it has never worked, and what is no fault of the server's.
        """
        match answer:
            case HistoryChunk():
                yield from self._heard_chunk(answer)
            case _Verified(uncovered):
                yield from self._merge.verified(uncovered)
            case _Failed(ServerUnavailable() as error) if self.has_worked:
                if type(error) is not self._away:
                    self._away = type(error)
                    yield HistoryAway(str(error))
                yield from self._merge.read_failed()
            case _Failed(error):
                if self.has_worked:  # whoever goes on after it finds that it is tried again
                    yield from self._merge.read_failed()
                raise error

    def _heard_chunk(self, chunk: HistoryChunk) -> Iterator[Told]:
        if chunk.rows or chunk.last:  # the first may come before the table was asked
            self.has_worked = True
        if chunk.notice not in (None, self._noticed):
            yield Notice(str(chunk.notice), may_repeat=not chunk.exact)
        self._noticed = chunk.notice
        was_failing = self._merge.is_failing
        actions = self._merge.chunk(chunk)
        self._has_rows |= bool(chunk.rows)
        if chunk.last and self._read is not None:
            self.was_near = self._read.is_near
            if self._merge.goes_on:
                at_once = self.was_near or self._has_rows
                self.portions.goes_on(asyncio.get_running_loop().time(), at_once=at_once)
        for action in actions:
            if isinstance(action, Print) and action.arrivals[0].source != "live":
                wanted = self._request.filters.select(action.arrivals)
                self._recovered += len(wanted)
                if wanted:
                    yield Print(wanted)
            else:
                yield action
        if chunk.last and (self.was_near or self._recovered or not chunk.goes_on):
            yield HistoryRead(self._recovered, was_failing, self._merge.is_holding)
            self._recovered = 0
            self._away = None

    async def _answer(self, request: Read | Verify) -> None:
        try:
            if isinstance(request, Verify):
                uncovered = await self._history.verify(self._selection, request.cursor, request.ids)
                await self._tell(_Verified(uncovered))
                return
            wanted = self._request
            chunks = answers(
                self._history,
                request,
                wanted.user_ids,
                wanted.filters,
                since=wanted.since,
                last=wanted.last,
                in_portions=True,
            )
            async with aclosing(chunks):
                async for chunk in chunks:
                    await self._tell(chunk)
        except Exception as error:
            await self._tell(_Failed(error))


class Tail:
    """Follows channels at their servers. Without a `history` gaps are only announced.

    Where the server keeps what is published a Save says then up to where it was printed.
    Where everything that is in the history takes long to read, that takes `full_share` of the time;
    what it finds is printed without a pause.

    Raises ServerUnavailable when a server cannot be reached at the start; later it tries again.
    """

    def __init__(
        self,
        gateway: PubSubGatewayProtocol,
        history: HistoryProtocol | None,
        request: TailRequest,
        *,
        reconcile_interval: float = RECONCILE_INTERVAL,
        full_interval: float = FULL_INTERVAL,
        full_share: float = FULL_SHARE,
    ) -> None:
        self._request = request
        self._reconciling = Reconciling(reconcile_interval, full_interval)
        self._channels = request.channels
        resume = request.resume
        self._link = Reconnecting(
            gateway,
            self._channels,
            goes_on=history is None,
            position=None if history is not None else position_in(resume),
        )
        self._opened = AsyncExitStack()
        self._begun: Iterator[Event] | None = None  # what is to be told first
        self._waiting: asyncio.Timeout | None = None  # for the link
        self._link_came_last = False
        self._answers: asyncio.Queue[_Answer] = asyncio.Queue(QUEUE_LENGTH)
        self._has_begun = history is None  # where there is one, with its first snapshot
        self._has_connected = False  # as was told
        self._merge: Merge | LiveOnly
        self._beside = Beside(request.filters) if request.is_mixed else None
        self._reader: _Reader | None = None
        if history is None:
            self._merge = LiveOnly(resume=resume)
        else:
            self._merge = merge = Merge(resume)
            self._reader = _Reader(history, merge, request, self._tell, full_share)

    @property
    def has_history(self) -> bool:
        return self._reader is not None

    async def events(self) -> AsyncGenerator[Event]:
        async with self:
            while True:
                for event in await self.next():
                    yield event

    async def __aenter__(self) -> Self:
        """Subscribe; raises ServerUnavailable."""
        await self._opened.enter_async_context(self._link)
        if self._reader is not None:
            self._opened.push_async_callback(self._reader.stop)
        self._reconciling.begin(asyncio.get_running_loop().time())
        self._begun = self._begin()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opened.aclose()

    async def next(self) -> Iterator[Event]:
        """What happens next, as `events()` yields it, to be taken to its end before the next call.

        A cancelled call leaves everything as it was.
        """
        begun, self._begun = self._begun, None
        if begun is not None:
            return begun
        loop = asyncio.get_running_loop()
        deadline = self._reconciling.deadline(
            loop.time(), is_failing=self._merge.is_failing, is_connected=self._link.is_connected
        )
        portions = None if self._reader is None else self._reader.portions
        due = math.inf if portions is None else portions.due
        happened = await self._next(min(deadline, due))
        if happened is None and due < deadline and portions is not None:
            portions.due = math.inf  # though another read may have to end first
            happened = ReadKind.FULL
        if happened is None:
            happened = self._reconciling.due(loop.time())
            if happened is ReadKind.FULL and portions is not None:
                portions.wanted(loop.time())  # which has not what is near
                happened = ReadKind.RECENT
        return self._handle(happened)

    async def _next(self, deadline: float) -> _Happened | None:
        """What happens next; None at `deadline`.

        The link is waited for right here, because a task between would delay every message; an
        answer of the reader's ends that wait. Where both have something they take turns.
        """
        if asyncio.get_running_loop().time() >= deadline:
            return None  # however much has come
        if self._answers.empty() or not self._link_came_last:
            try:
                wait_until = deadline if self._answers.empty() else 0
                async with asyncio.timeout_at(wait_until) as self._waiting:
                    happened = await self._link.next()
                self._link_came_last = True
                return happened
            except TimeoutError:
                pass
            finally:
                self._waiting = None
        self._link_came_last = False
        return None if self._answers.empty() else self._answers.get_nowait()

    async def _tell(self, answer: _Answer) -> None:
        """Queue an answer and wake `events()` if it waits on the subscription."""
        await self._answers.put(answer)
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(0)

    def _handle(self, happened: _Happened) -> Iterator[Event]:
        match happened:
            case Deliveries() if self._request.undecoded:
                yield Print(LiveBatch(happened))
                yield from self._reached()
            case Deliveries():
                for is_log, part in parts(happened) if self._beside else ((True, happened),):
                    if is_log:
                        wanted = self._request.filters.select(live_arrivals(part))
                        yield from self._carry_out(self._merge.live(wanted))
                    elif self._beside is not None:
                        yield from self._carry_out(self._beside.live(part))
                yield from self._reached()
            case Gap():
                yield from self._subscribed(happened)
            case SubscriptionLost():
                yield Disconnected(str(happened), happened.since)
                yield from self._carry_out(self._merge.disconnected())
            case ServerUnavailable():
                yield Notice(str(happened))
            case ReadKind():
                yield from self._carry_out(self._merge.tick(happened))
                yield from self._reached()
            case HistoryChunk() | _Verified() | _Failed() if self._reader is not None:
                if isinstance(happened, HistoryChunk) and not self._has_begun:
                    self._has_begun = True
                    if self._link.is_connected:
                        yield self._connected(None)
                for event in self._carry_out(self._reader.heard(happened)):
                    yield event
                    if isinstance(event, HistoryRead):
                        self._reconciling.worked()
                        if self._reader.was_near:
                            self._link.has_read(event.recovered)

    def _begin(self) -> Iterator[Event]:
        yield from self._subscribed(None)
        if self._link.first_gap is not None:
            yield from self._subscribed(self._link.first_gap)

    def _subscribed(self, gap: Gap | None) -> Iterator[Event]:
        if gap is not None and gap.kept is Kept.SOME and isinstance(self._merge, LiveOnly):
            self._merge.lost()
            yield Notice(f"{self._link.missing}: entries may come again", may_repeat=True)
        if self._has_begun:
            yield self._connected(gap)
        yield from self._carry_out(self._merge.subscribed())
        yield from self._reached()

    def _reached(self) -> Iterator[Event]:
        """Up to where it was printed, where there is no history that tells."""
        if isinstance(self._merge, LiveOnly):
            yield from self._carry_out(self._merge.reached(self._link.position))

    def _connected(self, gap: Gap | None) -> Connected:
        is_first, self._has_connected = not self._has_connected, True
        return Connected(in_words(self._channels), None if is_first else gap, self._link.node)

    def _carry_out(self, told: Iterable[Told]) -> Iterator[Event]:
        for one in told:
            if not isinstance(one, Read | Verify):
                yield one
            elif self._reader is not None:
                self._reader.start(one)
