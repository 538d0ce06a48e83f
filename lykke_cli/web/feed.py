"""What a client that follows is sent, whichever way it is spoken to."""

import asyncio
from datetime import datetime
from uuid import UUID

import msgspec

from lykke_cli.application.filters import Filters
from lykke_cli.application.hub_reader import HubReader
from lykke_cli.application.journal import Portion
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.reader import Begun
from lykke_cli.web.connection import Connection
from lykke_cli.web.frames import Dialect, Frame, own_frame, with_cursor
from lykke_cli.web.queries import Asked
from lykke_cli.web.service import Service


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Where a client begins, and what it wants."""

    resume: Checkpoint | None = None
    since: datetime | None = None
    last: int | None = None
    filters: Filters

    @classmethod
    def of(cls, service: Service, user_id: UUID | None, asked: Asked) -> "Start":
        """Raises CursorRefused."""
        resume = None if asked.cursor is None else service.cursors.open(user_id, asked.cursor)
        return cls(resume=resume, since=asked.since, last=asked.last, filters=asked.filters)


class Feed:
    """Sends what comes to a reader, and what a client should know beside it."""

    def __init__(
        self, service: Service, connection: Connection, dialect: Dialect, user_id: UUID | None
    ) -> None:
        self._service = service
        self._connection = connection
        self._dialect = dialect
        self._user_id = user_id
        self._renderer = service.frames.renderer(user_id, dialect)
        self._reader: HubReader | None = None
        self._status: Frame | None = None

    async def run(self, start: Start) -> None:
        """Send for as long as the client is there; raises Gone, and LoginRefused."""
        self._reader = self._service.hub.reader(
            self._user_id,
            resume=start.resume,
            since=start.since,
            last=start.last,
            filters=start.filters,
        )
        async with self._reader as reader:
            if self._dialect.is_plain:
                await reader.begun()
            else:
                await self._subscribed(await self._begun(reader))
                self._status = None if self._service.is_live else self._service.status()
                self._connection.listener = self
            if self._connection.sends_at_once:
                reader.outlet = self
            while True:
                await self._send(await reader.next())

    def write(self, portion: Portion) -> bool:
        """Send what comes at once: to wake a task for each client would cost most of it.

        False where it would have to wait, or something is to be said before it.
        """
        rendered = self._renderer.of(portion)
        if self._status is not None or not self._connection.send_now(rendered.messages):
            return False
        self._service.metrics.sent(rendered.entries)
        return True

    def tell(self, status: Frame) -> None:
        """Of what the client is told nothing else: Redis or the database, away or back."""
        self._status = status
        self.beat()

    def beat(self) -> None:
        """A heartbeat is due, unless there is something else to be sent."""
        if self._reader is not None:
            self._reader.interrupt()

    async def _begun(self, reader: HubReader) -> Begun:
        """Wait for it; meanwhile heartbeats keep proxies from ending the connection."""
        while True:
            try:
                async with asyncio.timeout(self._service.limits.heartbeat):
                    return await reader.begun()
            except TimeoutError:
                await self._tell(self._service.status())
                await self._tell_with_cursor(own_frame("heartbeat"))

    async def _subscribed(self, begun: Begun) -> None:
        frame = own_frame(
            "subscribed",
            user_id=self._user_id,
            recovered=begun.recovered,
            exact=begun.exact,
            **{"from": begun.source},
        )
        await self._tell_with_cursor(frame)

    async def _send(self, portion: Portion) -> None:
        if portion.lines:
            rendered = self._renderer.of(portion)
            for message in rendered.messages:
                await self._connection.send(message)
            self._service.metrics.sent(rendered.entries)
        if self._dialect.is_plain:
            return
        if portion.caught_up_anew:
            await self._tell_with_cursor(own_frame("caught_up"))
        if self._status is not None:
            status, self._status = self._status, None
            await self._tell(status)
        elif not portion.lines and not portion.caught_up_anew:
            await self._tell_with_cursor(own_frame("heartbeat"))

    async def _tell_with_cursor(self, frame: Frame) -> None:
        assert self._reader is not None
        await self._tell(with_cursor(frame, self._renderer.cursor(self._reader.checkpoint)))

    async def _tell(self, frame: Frame) -> None:
        await self._connection.send(self._dialect.render(frame))
