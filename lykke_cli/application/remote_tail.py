"""Following users through a bridge: drives `remote_merge.py` from a connection for each user.

What comes out is what a `Tail` yields, with the same promise.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import NoReturn
from uuid import UUID

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.bridge_frames import decode_frame, query_of
from lykke_cli.application.ending import end
from lykke_cli.application.errors import LoginRefused, ServerUnavailable
from lykke_cli.application.gateways.bridge_protocol import (
    BROKEN_OFF,
    BridgeClosed,
    BridgeConnection,
    BridgeProtocol,
)
from lykke_cli.application.reconnecting import STEADY
from lykke_cli.application.remote_merge import RemoteMerge
from lykke_cli.application.tail import Event, TailRequest

SILENCE = 60.0  # seconds without a frame after which a connection is dead; heartbeats come in 25
LONGEST_WAIT = 30.0  # seconds between two attempts: a bridge that comes back meets all its clients
QUEUE_LENGTH = 4  # frames between the bridge and the output: a slow output slows the bridge


def _backoff() -> Backoff:
    return Backoff(cap=LONGEST_WAIT)


class RemoteTail:
    """Follows users at a bridge; `events()` yields what to print and what happened, for ever.

    Raises ServerUnavailable when the bridge cannot be reached at the start; later it tries again.
    LoginRefused and BridgeRefused end it at any time. `silence` is in seconds.
    """

    has_history = True

    def __init__(
        self,
        bridge: BridgeProtocol,
        request: TailRequest,
        *,
        silence: float = SILENCE,
        backoff: Callable[[], Backoff] = _backoff,
    ) -> None:
        self._bridge = bridge
        self._users = sorted(request.user_ids or ())
        self._filters = query_of(request.filters)
        self._merge = RemoteMerge(bridge.name, request)
        self._silence = silence
        self._backoff = backoff
        self._queue: asyncio.Queue[list[Event] | Exception] = asyncio.Queue(QUEUE_LENGTH)

    async def events(self) -> AsyncGenerator[Event]:
        tasks = [asyncio.create_task(self._follow(user)) for user in self._users]
        try:
            while True:
                happened = await self._queue.get()
                if isinstance(happened, Exception):
                    raise happened
                for event in happened:
                    yield event
        finally:
            await end(tasks)

    async def _follow(self, user_id: UUID) -> None:
        try:
            await self._keep_connected(user_id)
        except Exception as error:
            await self._queue.put(error)

    async def _keep_connected(self, user_id: UUID) -> NoReturn:
        loop, backoff = asyncio.get_running_loop(), self._backoff()
        while True:
            began_at = loop.time()
            try:
                opening = self._merge.opening(user_id)
                query = [*self._filters, *opening.query]
                async with self._bridge.connect(user_id, query) as connection:
                    await self._hear(user_id, connection, opening.first)
            except BridgeClosed as error:
                may_log_in = self._merge.has_begun(user_id) and self._bridge.has_other_token()
                await self._tell(self._merge.closed(user_id, error, may_log_in=may_log_in))
            except LoginRefused:
                raise
            except ServerUnavailable as error:
                if not self._merge.has_begun(user_id):
                    raise
                await self._tell(self._merge.unreachable(error))
            if loop.time() - began_at > STEADY:
                backoff.reset()
            await asyncio.sleep(self._merge.pause(user_id) + backoff.next())

    async def _hear(
        self, user_id: UUID, connection: BridgeConnection, first: bytes | None
    ) -> NoReturn:
        """Raises BridgeClosed, or what ends it all."""
        heard_at = datetime.now(UTC)
        if first is not None:
            await connection.send(first)
        while True:
            try:
                async with asyncio.timeout(self._silence):
                    frame = await connection.receive()
            except TimeoutError:
                reason = f"nothing came for {self._silence:.0f} s"
                raise BridgeClosed(code=BROKEN_OFF, reason=reason, since=heard_at) from None
            except BridgeClosed as error:
                error.since = heard_at
                raise
            heard_at = datetime.now(UTC)
            await self._tell(self._merge.heard(user_id, decode_frame(frame), heard_at))

    async def _tell(self, events: list[Event]) -> None:
        if events:
            await self._queue.put(events)
