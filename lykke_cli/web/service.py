"""What the routes of a bridge stand on, and who is let in to them."""

import asyncio
import logging
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
from lykke_cli.application.gateways.statistics_protocol import StatisticsProtocol
from lykke_cli.application.gateways.users_protocol import UsersProtocol
from lykke_cli.application.hub_driver import HubDriver
from lykke_cli.application.messages import format_time
from lykke_cli.infrastructure.sealed_cursors import SealedCursors
from lykke_cli.web.authorization import take_token
from lykke_cli.web.connection import Connection
from lykke_cli.web.connections import Connections
from lykke_cli.web.frames import Frame, Frames, own_frame
from lykke_cli.web.grant import Authorize, Grant, may_not_read
from lykke_cli.web.limits import EVERYBODY, Limits, Seats
from lykke_cli.web.metrics import Metrics
from lykke_cli.web.queries import user_of
from lykke_cli.web.refusals import TOO_SLOW, Refusal, unavailable

logger = logging.getLogger("lykke_cli.web")
READY_WITHIN = 5.0  # seconds
LOOKUPS = 2  # at a time: each takes a connection to the database, and reads much
NO_ID = "0" * 32
Kind = Literal["websocket", "events", "history", "lookup"]
NOT_STARTED = (
    "The bridge was not started: where it is mounted, the outer application has to run its "
    "lifespan, as in FastAPI(lifespan=bridge.lifespan)."
)


class Opened(msgspec.Struct, frozen=True, eq=False):
    """What the lifespan opens."""

    hub: HubDriver
    gateway: PubSubGatewayProtocol
    statistics: Callable[[], StatisticsProtocol]
    users: Callable[[], UsersProtocol]


class _Arrived:
    """A connection is open. A class, as there are thousands: a generator takes more memory."""

    __slots__ = ("_connection", "_connections", "_seat")

    def __init__(
        self,
        seat: AbstractContextManager[None],
        connections: Connections,
        connection: Connection,
    ) -> None:
        self._seat, self._connections, self._connection = seat, connections, connection

    def __enter__(self) -> None:
        self._connections.enter(self._connection)
        self._seat.__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        self._seat.__exit__(*exc_info)
        self._connections.leave(self._connection)


class _Seated:
    """A connection follows somebody."""

    __slots__ = ("_kind", "_metrics", "_seat")

    def __init__(self, seat: AbstractContextManager[None], metrics: Metrics, kind: Kind) -> None:
        self._seat, self._metrics, self._kind = seat, metrics, kind

    def __enter__(self) -> None:
        self._seat.__enter__()
        if self._kind in ("websocket", "events"):
            self._metrics.socket_opened(self._kind)

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        if isinstance(error, Refusal) and error.close == TOO_SLOW:
            self._metrics.closed_slow()
        if self._kind in ("websocket", "events"):
            self._metrics.socket_closed(self._kind)
        self._seat.__exit__(None, None, None)


class Service:
    """Shared by all routes of one bridge."""

    def __init__(
        self, *, authorize: Authorize, cursors: SealedCursors, limits: Limits, metrics: Metrics
    ) -> None:
        self.authorize = authorize
        self.cursors = cursors
        self.limits = limits
        self.metrics = metrics
        self._seats = Seats(limits)
        self.connections = Connections(
            heartbeat=limits.heartbeat, stall=limits.stall, look=self._look
        )
        self.frames = Frames(cursors.seal)
        self.lookups = asyncio.Semaphore(LOOKUPS)
        self.opened: Opened | None = None
        self._state = "live"
        self._has_been_ready = False
        self._has_complained = False
        self._state_since = datetime.now(UTC)

    @property
    def hub(self) -> HubDriver:
        """Raises Refusal where there is none."""
        return self._open().hub

    @property
    def gateway(self) -> PubSubGatewayProtocol:
        return self._open().gateway

    @property
    def statistics(self) -> StatisticsProtocol:
        """To be entered, while one of the `lookups` is held."""
        return self._open().statistics()

    @property
    def users(self) -> UsersProtocol:
        """Likewise."""
        return self._open().users()

    def check_open(self) -> None:
        """Raises Refusal where nobody can be served."""
        self._open()
        self.connections.check_open()

    async def check_ready(self) -> None:
        """Raises Refusal, or ServerUnavailable, where new clients had better go elsewhere.

        Redis and the database have to be there once. What goes away later does so for all servers
        alike, and their clients wait for it here.
        """
        self.check_open()
        if not self._has_been_ready:
            if not self.hub.is_connected:
                raise unavailable("Redis has not been there yet.")
            try:
                async with asyncio.timeout(READY_WITHIN), self.hub.history() as history:
                    await history.find(NO_ID, 1)
            except TimeoutError:
                raise unavailable("The database has not answered yet.") from None
            self._has_been_ready = True

    def arrived(self, connection: Connection) -> AbstractContextManager[None]:
        """The connection is counted for its address while the block lasts.

        Raises TooMany, and Refusal in a drain.
        """
        address = (connection.scope.get("client") or ("", 0))[0]
        return _Arrived(self._seats.taken(None, address), self.connections, connection)

    def seated(self, user_id: UUID | None, kind: Kind) -> AbstractContextManager[None]:
        """So it is for the user, once it is known that it may read; raises TooMany."""
        return _Seated(self._seats.taken(user_id or EVERYBODY, ""), self.metrics, kind)

    async def admit(self, scope: MutableMapping[str, Any]) -> tuple[UUID | None, Grant]:
        """Who is asked about, and what the client may; raises Unauthorized, Forbidden, Refusal."""
        self.check_open()
        token = take_token(scope)
        user_id = user_of(scope["path_params"].get("user_id"))
        return user_id, await self.grant(token, scope, user_id)

    async def grant(
        self, token: str | None, scope: Mapping[str, Any], user_id: UUID | None
    ) -> Grant:
        """What the token allows; raises Unauthorized, and Forbidden where that is not reading."""
        grant = await self.authorize(token, scope)
        if not grant.may_read(user_id):
            raise may_not_read(user_id)
        return grant

    @property
    def is_live(self) -> bool:
        """Whether Redis and the database are there, as far as is known."""
        return self._state == "live"

    def status(self) -> Frame:
        """The message that says it."""
        since = format_time(self._state_since)
        return own_frame("status", state=self._state, since=since)

    def _look(self) -> None:
        """Tell all who follow where something went away, or came back."""
        if self.opened is None:
            return
        hub = self.opened.hub
        state = "redis_away" if not hub.is_connected else "live"
        if hub.history_is_away and state == "live":
            state = "database_away"
        if state == self._state:
            return
        self._state, self._state_since = state, datetime.now(UTC)
        self.connections.tell_all(self.status())

    def _open(self) -> Opened:
        if self.opened is None:
            if not self._has_complained:
                self._has_complained = True
                logger.error("%s", NOT_STARTED)
            raise unavailable("The bridge was not started; its log says what to do.")
        return self.opened
