"""What a hub asks of the history, answered by a few connections however many readers ask.

Readers that ask the same thing (from the same cursor, or from now on) are answered by one read for
all their users. Nobody is waited for long: one that does not take what was read for it is left
behind, and asks for the rest later.
"""

import asyncio
import logging
from bisect import insort_left
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from uuid import UUID

import msgspec

from lykke_cli.application.ending import end
from lykke_cli.application.errors import ServerUnavailable, SubscriptionClosed, UsageMistake
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryProtocol,
    HistoryRow,
    Selection,
)
from lykke_cli.application.hub import Hub
from lykke_cli.application.hub_actions import Action, Request
from lykke_cli.application.merge import Read, ReadKind, Verify
from lykke_cli.application.pace import Share
from lykke_cli.application.reader import Reader, Stage
from lykke_cli.application.reconciling import FULL_SHARE, LONGEST_PAUSE, Beginnings, answers

MOST_USERS = 1_000  # of one read
MOST_UNTAKEN = 250  # lines; a reader that has more takes them before it gets others
PATIENCE = 2.0  # seconds that a read waits for its reader, or in all for one of its readers
SLICE = 5.0  # seconds after which a read makes room for others that wait
NO_ID = "0" * 32  # which nothing is looked for under
AT_ONCE = 100  # readers that are answered before the loop has a turn

Told = Callable[[Exception | None, Exception | None], None]
"""Called with how the read before failed, or None, and how the one that just ended did."""

logger = logging.getLogger(__name__)


class _Job:
    """One thing to ask of the history, and who wants to know."""

    def __init__(self, rank: tuple[int, str], key: object) -> None:
        self.rank = rank
        self.key = key
        self.requests: list[Request] = []
        self.users: set[UUID] | None = set()
        """None: all there are."""
        self.patience = PATIENCE

    def __lt__(self, other: "_Job") -> bool:
        return self.rank < other.rank

    def add(self, request: Request) -> None:
        self.requests.append(request)
        if self.users is None or request.users is None:
            self.users = None
        else:
            self.users.update(request.users)

    def has_room_for(self, request: Request) -> bool:
        """Whether the read does not come to be about too many users."""
        if self.users is None or request.users is None or len(self.users) < MOST_USERS:
            return True
        return self.users.issuperset(request.users)


class Reads:
    """Answers the requests of `hub`: its own first, then those with the most recent places.

    `carry_out` is given what the hub says to an answer. `told` is called after each read, `noticed`
    with what whoever runs the hub should know.
    """

    def __init__(
        self,
        hub: Hub,
        histories: Sequence[HistoryProtocol],
        carry_out: Callable[[Iterable[Action]], None],
        told: Told,
        noticed: Callable[[str], None],
    ) -> None:
        self._hub = hub
        self._carry_out = carry_out
        self._told = told
        self._noticed = noticed
        self._notice: str | None = None  # of the hub's last read
        self._free = list(histories)
        self._most_lent = len(histories) - 1
        self._lent = 0
        self._borrowers: deque[asyncio.Future[HistoryProtocol]] = deque()
        self._waiting: list[_Job] = []  # the next one last
        self._open: dict[object, _Job] = {}  # of those, by what is asked
        self._tasks: set[asyncio.Task[None]] = set()
        self._filters: dict[Reader, Filters] = {}
        self._something_taken = asyncio.Event()
        self._is_closed = self._will_start = False
        self.portions = Share(FULL_SHARE, LONGEST_PAUSE)
        """When the hub is to read on, where everything is read portion by portion."""
        self._beginnings = Beginnings()
        self.failure: Exception | None = None
        """What the last read failed for."""

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return sum(len(job.requests) for job in self._waiting)

    def ask(self, request: Request) -> None:
        """Answer it in its turn."""
        key = None if request.reader is None else _key(request)
        job = self._open.get(key) if key is not None else None
        if job is None or not job.has_room_for(request):
            job = _Job(_rank(request), key)
            insort_left(self._waiting, job)  # after those of the same rank
            if key is not None:
                self._open[key] = job
        job.add(request)
        if not self._will_start:  # when others have asked for the same
            self._will_start = True
            asyncio.get_running_loop().call_soon(self._start)

    def filter(self, reader: Reader, filters: Filters) -> None:
        """What this reader's first read is about."""
        self._filters[reader] = filters

    def forget(self, reader: Reader) -> None:
        """It has left."""
        self._filters.pop(reader, None)
        self._something_taken.set()

    def taken(self) -> None:
        """A reader has taken what was read for it."""
        self._something_taken.set()

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[HistoryProtocol]:
        """One of the connections for something else, when the readers can do without.

        They always keep one: raises UsageMistake where there is no other.
        """
        if not self._most_lent:
            raise UsageMistake("The hub's one connection to the database is for its readers.")
        borrower: asyncio.Future[HistoryProtocol] = asyncio.get_running_loop().create_future()
        self._borrowers.append(borrower)
        self._start()
        try:
            history = await borrower
            yield history
        finally:
            if borrower in self._borrowers:
                self._borrowers.remove(borrower)
            if borrower.done() and not borrower.cancelled() and not borrower.exception():
                self._lent -= 1
                self._free.append(borrower.result())
                self._start()

    async def probe(self) -> None:
        """Find out whether the database can be read, where nobody asks for anything."""
        if not self._free:
            return
        history = self._free.pop()
        try:
            await history.find(NO_ID, 1)
            self._ended(None)
        except Exception as error:
            self._ended(error)
        finally:
            self._free.append(history)
            self._start()

    async def close(self) -> None:
        self._is_closed = True
        for borrower in self._borrowers:
            if not borrower.done():
                borrower.set_exception(SubscriptionClosed("The hub was closed."))
        await end(self._tasks.copy())

    def _start(self) -> None:
        self._will_start = False
        while self._free and not self._is_closed:
            if self._waiting:
                job = self._waiting.pop()
                if self._open.get(job.key) is job:
                    del self._open[job.key]
                task = asyncio.create_task(self._answer(self._free.pop(), job))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif self._borrowers and self._lent < self._most_lent:
                borrower = self._borrowers.popleft()
                if not borrower.done():
                    self._lent += 1
                    borrower.set_result(self._free.pop())
            else:
                return

    async def _answer(self, history: HistoryProtocol, job: _Job) -> None:
        try:
            self._keep_awaited(job)
            if not job.requests:
                return
            if isinstance(job.requests[0].what, Read):
                await self._read(history, job)
            else:
                await self._look_up(history, job)
            self._ended(None)
        except Exception as error:
            for request in job.requests:
                self._carry_out(self._hub.failed(request))
            self._ended(error)
        finally:
            self._free.append(history)
            self._start()

    def _ended(self, failure: Exception | None) -> None:
        if not (failure is None or isinstance(failure, ServerUnavailable)):
            logger.error("A read of the history failed", exc_info=failure)
        before, self.failure = self.failure, failure
        self._told(before, failure)

    def _keep_awaited(self, job: _Job) -> None:
        job.requests = [request for request in job.requests if self._hub.awaits(request)]

    async def _look_up(self, history: HistoryProtocol, job: _Job) -> None:
        asked = [(one, one.what) for one in job.requests if isinstance(one.what, Verify)]
        ids = dict.fromkeys(id for _, what in asked for id in what.ids)
        cursor = asked[0][1].cursor
        uncovered = await history.verify(Selection(user_ids=job.users), cursor, list(ids))
        for number, (request, what) in enumerate(asked, 1):
            self._carry_out(self._hub.verified(request, uncovered.intersection(what.ids)))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _read(self, history: HistoryProtocol, job: _Job) -> None:
        loop = asyncio.get_running_loop()
        until: float | None = None
        has_rows = False
        if _is_portion(job.requests[0]):
            self.portions.begins(loop.time())
        async with aclosing(self._chunks(history, job.requests[0], job.users)) as chunks:
            async for chunk in chunks:
                if job.requests[0].reader is None:
                    if chunk.notice not in (None, self._notice):
                        self._noticed(str(chunk.notice))
                    self._notice = chunk.notice
                    has_rows |= bool(chunk.rows)
                    self._carry_out(self._hub.chunk(job.requests[0], chunk))
                    if chunk.last:
                        self._note_end(chunk, _is_portion(job.requests[0]), has_rows)
                    continue
                until = until or loop.time() + SLICE
                await self._wait_for_takers(job)
                is_over = loop.time() > until and bool(self._waiting) and not chunk.last
                await self._hand_out(job, chunk, to_all=is_over or chunk.last)
                if is_over:
                    for request in job.requests:
                        self._carry_out(self._hub.broken_off(request))
                if is_over or not job.requests:
                    break

    def _note_end(self, chunk: HistoryChunk, is_portion: bool, has_rows: bool) -> None:
        """A read of the hub's own is over: when it is to read on, and how."""
        if is_portion:
            self._beginnings.note(chunk)
        if self._hub.goes_on:
            at_once = has_rows or not is_portion
            self.portions.goes_on(asyncio.get_running_loop().time(), at_once=at_once)

    def _chunks(
        self, history: HistoryProtocol, request: Request, users: set[UUID] | None
    ) -> AsyncGenerator[HistoryChunk]:
        assert isinstance(request.what, Read)
        filters, since, last = Filters(), None, None
        if request.reader is not None and _begins_in_history(request):
            reader = request.reader
            filters, since, last = self._filters.get(reader, filters), reader.since, reader.last
        is_recent = request.what.kind is ReadKind.RECENT
        in_portions = request.reader is None and (is_recent or self._beginnings.are_few)
        return answers(
            history,
            request.what,
            users,
            filters,
            since=since,
            last=last,
            in_portions=in_portions,
        )

    async def _wait_for_takers(self, job: _Job) -> None:
        """Leave those behind that do not take what was read for them."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while slow := [one for one in job.requests if self._is_slow(one)]:
            self._something_taken.clear()
            try:
                async with asyncio.timeout_at(began + job.patience):
                    await self._something_taken.wait()
            except TimeoutError:
                for request in slow:
                    self._carry_out(self._hub.broken_off(request))
                break
        if len(job.requests) > 1:  # they do not wait for one time and again
            job.patience -= loop.time() - began
        self._keep_awaited(job)

    def _is_slow(self, request: Request) -> bool:
        reader = request.reader
        return reader is not None and self._hub.awaits(request) and reader.untaken > MOST_UNTAKEN

    async def _hand_out(self, job: _Job, chunk: HistoryChunk, *, to_all: bool) -> None:
        """Give each its rows; where there are none, how far the read has come, if `to_all`."""
        rows: dict[str | None, list[HistoryRow]] = {}
        for row in chunk.rows:
            rows.setdefault(None if job.users is None else row.user_id, []).append(row)
        parts: dict[str | None, HistoryChunk] = {}
        for number, request in enumerate(job.requests, 1):
            assert request.reader is not None
            user = request.reader.user
            if to_all or user in rows or request.reader.begun is None:
                if user not in parts:
                    its = rows.get(user, ())
                    parts[user] = msgspec.structs.replace(chunk, rows=its)
                self._carry_out(self._hub.chunk(request, parts[user]))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._keep_awaited(job)


def _key(request: Request) -> object:
    """Requests with the same are answered together; None: alone."""
    what = request.what
    if what.cursor is not None:
        return type(what), request.users is None, _text(what.cursor)
    return None if _begins_in_history(request) else ("from now on", request.users is None)


def _is_portion(request: Request) -> bool:
    """Of what the hub reads for all; what is near is none."""
    return request.reader is None and isinstance(request.what, Read) and not request.what.is_near


def _begins_in_history(request: Request) -> bool:
    reader = request.reader
    assert reader is not None
    return request.what.cursor is None and (reader.since is not None or reader.last is not None)


def _text(cursor: Cursor) -> bytes:
    return msgspec.json.encode(cursor.data)


def _rank(request: Request) -> tuple[int, str]:
    """The greatest is answered first."""
    reader = request.reader
    if reader is None:
        return (2, "")
    if request.what.cursor is None or reader.stage is not Stage.READING:
        return (1, "")
    checkpoint = reader.checkpoint
    return (0, (checkpoint and checkpoint.floor) or "")
