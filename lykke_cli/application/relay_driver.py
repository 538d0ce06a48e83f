"""Writes the table into the streams for ever: drives `relay.py` from a history and a clock."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime

import msgspec

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.ending import end
from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.application.gateways.history_protocol import (
    HistoryChunk,
    HistoryProtocol,
    Selection,
)
from lykke_cli.application.gateways.stream_log_protocol import Batch, Place, StreamLogProtocol
from lykke_cli.application.rebroadcast import Rebroadcast
from lykke_cli.application.reconciling import FULL_INTERVAL
from lykke_cli.application.relay import Ask, OtherRelay, Relay, Vigil
from lykke_cli.application.statuses import HistoryAway, Notice

INTERVAL = 0.1  # seconds between reads of the table
SHORTEST_PAUSE = 0.01  # seconds, however often it is told that there is something
FULL_SHARE = 20
"""Reads of the whole table, which alone find what is back-dated by more than the history's
look-back, take one in so many parts of the time."""
SHORTEST_FULL_INTERVAL = 5.0  # seconds, however fast they are
MARK_INTERVAL = 3.0  # seconds, after which a place is written though nothing has happened
LOOK_INTERVAL = 1.0  # seconds between looks at the places of another relay
RELEASE_TIME = 2.0  # seconds in which the places are released at the end
EVERYTHING = datetime(1, 1, 1, tzinfo=UTC)
EVERYBODY = Selection(user_ids=None)


class Waiting(msgspec.Struct, frozen=True):
    """Another relay is active; this one takes its place when it ends."""


class Active(msgspec.Struct, frozen=True):
    """This relay writes from now on."""

    partitions: int
    without_place: int
    """Partitions that are written from the start of the table."""


class StreamsAway(msgspec.Struct, frozen=True):
    """Redis cannot be written to at the moment; it is tried again."""

    reason: str


class Back(msgspec.Struct, frozen=True):
    """What was away is there again."""


RelayStatus = Waiting | Active | StreamsAway | HistoryAway | Back | Notice


class RelayFigures(msgspec.Struct):
    """What an operator may want to know; the counts are since the start."""

    written: int = 0
    """Entries."""
    is_active: bool = False
    read_at: float = 0.0
    """When a read began since which nothing is missing, in seconds since 1970; 0: never."""

    def lag(self) -> float | None:
        """Seconds for which something may be missing in the streams; None: never was complete."""
        return max(0.0, time.time() - self.read_at) if self.read_at else None


class RelayDriver:
    """Runs one relay, called `name`; with two connections to the database.

    What a partition without a place gets are the entries that occurred from `since` on. The table
    is read every `interval` seconds, and at once where a broadcast is heard.
    """

    def __init__(
        self,
        log: StreamLogProtocol,
        histories: tuple[HistoryProtocol, HistoryProtocol],
        name: str,
        *,
        interval: float = INTERVAL,
        since: datetime | None = None,
        on_status: Callable[[RelayStatus], None],
        broadcasts: Rebroadcast | None = None,
    ) -> None:
        self._log = log
        self._history, self._verifier = histories
        self._name = name
        self._interval = interval
        self._since = since or EVERYTHING
        self._on_status = on_status
        self._broadcasts = broadcasts
        self._hinted = asyncio.Event()
        self._marked_at = self._read_all_from = 0.0  # by the loop's clock
        self._noticed: str | None = None
        self._has_begun = False
        self.figures = RelayFigures()

    async def run(self) -> None:
        """Relay until it is cancelled; raises ServerUnavailable where it could not begin."""
        if self._broadcasts is None:
            await self._run()
        else:
            async with self._broadcasts.listening(self._hinted.set):
                await self._run()

    async def _run(self) -> None:
        while True:
            places = await self._wait_for_turn()
            relay = Relay(self._name, self._log.partition_of)
            relay.found(places)
            self._on_status(Active(len(places), sum(place is None for place in places.values())))
            self.figures.is_active = True
            try:
                await self._relay(relay)
            except OtherRelay:
                self.figures.is_active = False
            except BaseException:
                await self._release(relay)
                raise

    async def _wait_for_turn(self) -> Mapping[int, Place | None]:
        vigil, has_told = Vigil(), False
        while True:
            try:
                places = await self._look()
            except ServerUnavailable as error:
                places = await self._look_again(error)
            if vigil.is_over(places, asyncio.get_running_loop().time()):
                return places
            if not has_told:
                has_told = True
                self._on_status(Waiting())
            await asyncio.sleep(LOOK_INTERVAL)

    async def _relay(self, relay: Relay) -> None:
        loop, backoff, is_away = asyncio.get_running_loop(), Backoff(), False
        while True:
            began = loop.time()
            self._hinted.clear()
            ask = relay.next_read(time.time(), full=began >= self._read_all_from)
            try:
                goes_on = await self._read(relay, ask)
            except ServerUnavailable as error:
                if not self._has_begun:
                    raise
                if not is_away:
                    is_away = True
                    self._on_status(HistoryAway(str(error)))
                await asyncio.sleep(backoff.next())
                await self._mark(relay)
                continue
            if is_away:
                is_away = False
                backoff.reset()
                self._on_status(Back())
            if not ask.recent_only:
                shortest = 0.0 if goes_on else SHORTEST_FULL_INTERVAL
                rest = max(FULL_SHARE * (loop.time() - began), shortest)
                self._read_all_from = loop.time() + min(rest, FULL_INTERVAL)
            self.figures.read_at = relay.read_at
            await self._pause(relay, began + self._interval - loop.time())

    async def _pause(self, relay: Relay, seconds: float) -> None:
        """Wait so long, or until there may be something; the places are marked meanwhile."""
        await asyncio.sleep(SHORTEST_PAUSE)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds - SHORTEST_PAUSE):
                await self._hinted.wait()
        await self._mark(relay)

    async def _read(self, relay: Relay, ask: Ask) -> bool:
        """True where there is another portion."""
        goes_on = False
        if ask.cursor is None:
            chunks = self._history.begin(EVERYBODY, since=self._since)
        else:
            chunks = self._history.changes(
                EVERYBODY, ask.cursor, recent_only=ask.recent_only, portion=ask.portion
            )
        async with aclosing(chunks), aclosing(_whole(chunks)) as parts:
            while (chunk := await self._next(relay, parts)) is not None:
                if chunk.notice not in (None, self._noticed):
                    self._on_status(Notice(str(chunk.notice)))
                self._noticed = chunk.notice
                covered = set[str]()
                for question in relay.questions(chunk):
                    uncovered = await self._verifier.verify(
                        EVERYBODY, question.cursor, question.ids
                    )
                    covered |= set(question.ids) - uncovered
                await self._write(relay, relay.chunk(chunk, covered))
                goes_on = chunk.goes_on
        return goes_on

    async def _next(
        self, relay: Relay, chunks: AsyncGenerator[HistoryChunk]
    ) -> HistoryChunk | None:
        """The next part of a read; the places are marked while it is waited for."""

        async def take() -> HistoryChunk | None:
            return await anext(chunks, None)

        task = asyncio.create_task(take())
        try:
            while not (await asyncio.wait({task}, timeout=MARK_INTERVAL))[0]:
                await self._mark(relay)
            chunk = task.result()
            self._has_begun |= chunk is not None
            return chunk
        finally:
            await end({task})

    async def _mark(self, relay: Relay) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._marked_at >= MARK_INTERVAL:
            self._marked_at = now
            await self._write(relay, relay.marks())

    async def _write(self, relay: Relay, batches: Sequence[Batch]) -> None:
        """Write them, however long Redis is away; raises OtherRelay."""
        while batches:
            try:
                places = await self._log.write(batches)
            except ServerUnavailable as error:
                places = await self._look_again(error)
            for batch in batches:
                if batch.entries and batch.place.is_same(places[batch.partition]):
                    self.figures.written += len(batch.entries)
                    if self._broadcasts is not None and relay.is_level:
                        self._broadcasts.written(batch.entries)
            batches = relay.found(places)

    async def _look(self) -> Mapping[int, Place | None]:
        return await self._log.look(range(self._log.partitions))

    async def _look_again(self, error: ServerUnavailable) -> Mapping[int, Place | None]:
        """What is there after the loss of a connection; raises `error` where it never began."""
        if not self._has_begun:
            raise error
        backoff = Backoff()
        told: type[Exception] | None = None
        while True:
            if type(error) is not told:
                told = type(error)
                self._on_status(StreamsAway(str(error)))
            await asyncio.sleep(backoff.next())
            try:
                places = await self._look()
            except ServerUnavailable as again:
                error = again
            else:
                self._on_status(Back())
                return places

    async def _release(self, relay: Relay) -> None:
        """Tell another relay that it need not wait."""
        with suppress(ServerUnavailable, OtherRelay, TimeoutError):
            async with asyncio.timeout(RELEASE_TIME):
                for batches in (relay.found(await self._look()), relay.marks(is_released=True)):
                    await self._log.write(batches)


async def _whole(chunks: AsyncGenerator[HistoryChunk]) -> AsyncGenerator[HistoryChunk]:
    """The parts of a read, the last rows together with its end: they need one place less."""
    held: HistoryChunk | None = None
    async for chunk in chunks:
        if held is not None and held.rows and chunk.last and not chunk.rows:
            held = msgspec.structs.replace(chunk, rows=held.rows)
        else:
            if held is not None:
                yield held
            held = chunk
    if held is not None:
        yield held
