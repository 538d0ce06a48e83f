"""The bridge as an ASGI application: to be served by itself, or mounted in one's own."""

import logging
import os
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.gateways.pubsub_protocol import Gap, PubSubGatewayProtocol
from lykke_cli.application.hub_driver import HubDriver
from lykke_cli.application.statuses import (
    Connected,
    Disconnected,
    HistoryAway,
    HistoryRead,
    Notice,
    Status,
)
from lykke_cli.bootstrap import make_hub, make_statistics, make_users, open_gateway
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.sealed_cursors import SealedCursors, random_key
from lykke_cli.web.authorization import take_token
from lykke_cli.web.events import EventStream
from lykke_cli.web.gate import Gate, refused
from lykke_cli.web.grant import Authorize, anybody
from lykke_cli.web.history import HistoryStream
from lykke_cli.web.limits import Limits
from lykke_cli.web.lookups import Counts, Users
from lykke_cli.web.metrics import CONTENT_TYPE, Metrics
from lykke_cli.web.origins import Origins
from lykke_cli.web.page import page_routes
from lykke_cli.web.refusals import NOT_UNDERSTOOD, Refusal, refusal_of
from lykke_cli.web.service import Opened, Service
from lykke_cli.web.socket import WebSockets
from lykke_cli.web.streaming import Streams

logger = logging.getLogger(__name__)
ONE_OR_ALL = ("/{user_id}", "")
"""What follows in the path of a route about one user's entries, or every user's."""


def make_app(
    *,
    redis_url: str | None = None,
    database_url: str | None = None,
    hub: HubDriver | None = None,
    gateway: PubSubGatewayProtocol | None = None,
    authorize: Authorize | None = None,
    cursor_keys: Sequence[bytes] | None = None,
    origins: Collection[str] = (),
    hosts: Collection[str] | None = None,
    limits: Limits = Limits(),  # noqa: B008
    metrics: Metrics | None = None,
    reconcile_interval: float = 30.0,
    database_connections: int = 4,
    page: bool = False,
) -> "Bridge":
    """The bridge, to be served by uvicorn, or mounted in an application of your own.

    The servers are those of `redis_url` (REDIS_URL, LYKKE_TRANSPORT) and `database_url`
    (DATABASE_URL), or an open `hub` and a `gateway` of your own, which stay open. `authorize` tells
    from a token and the ASGI scope what a client may; without one anybody may everything. Cursors
    are sealed with the first of `cursor_keys` (32 bytes each), and all of them open one; without
    any, the cursors end with this object. `origins` are those of other sites' pages that may ask,
    `hosts` the names of this server (None: those of this machine alone). The database is looked at
    every `reconcile_interval` seconds for entries that were not broadcast, by
    `database_connections` connections at most. With `page` there is one at its `/` on which
    people watch the entries.

    Raises UsageMistake where the arguments do not fit.
    """
    keys = [random_key()] if cursor_keys is None else cursor_keys
    try:
        cursors = SealedCursors(keys)
    except ValueError as error:
        raise UsageMistake(f"cursor_keys: {error}.") from error
    settings = Settings.without_profile(
        os.environ, redis_url=redis_url, database_url=database_url, needs_redis=gateway is None
    )
    if hub is None:
        settings.required_database_url()
    service = Service(
        authorize=authorize or anybody,
        cursors=cursors,
        limits=limits,
        metrics=metrics or Metrics(),
    )

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Opened]:
        async with AsyncExitStack() as stack:
            used = await stack.enter_async_context(open_gateway(settings, gateway))
            driver = hub
            if driver is None:
                driver = await stack.enter_async_context(
                    make_hub(
                        settings,
                        connections=database_connections,
                        reconcile_interval=reconcile_interval,
                        gateway=used,
                        on_status=_log,
                    )
                )
            yield Opened(
                driver, used, partial(make_statistics, settings), partial(make_users, settings)
            )

    has_database = settings.database_url is not None
    if page and not has_database:
        raise UsageMistake("The page looks up users in the database: give database_url.")
    return Bridge(
        service, Origins(origins, hosts), opened, with_page=page, with_lookups=has_database
    )


class Bridge(Starlette):
    """An ASGI application that serves users' audit logs; `make_app` makes it."""

    def __init__(
        self,
        service: Service,
        origins: Origins,
        opened: Callable[[], AbstractAsyncContextManager[Opened]],
        *,
        with_page: bool,
        with_lookups: bool,
    ) -> None:
        self._service = service
        self._opened = opened
        events, history = Streams(service, EventStream), Streams(service, HistoryStream)
        self._sockets = Gate(WebSockets(service), origins)
        super().__init__(
            routes=[
                *(Route("/events" + user, events, methods=["GET"]) for user in ONE_OR_ALL),
                *(Route("/history" + user, history, methods=["GET"]) for user in ONE_OR_ALL),
                Route("/whoami", self._who_asks),
                Route("/lykke.js", _script),
                *(_lookups(service) if with_lookups else []),
                *(page_routes() if with_page else []),
                Route("/healthz", _alive),
                Route("/readyz", self._ready),
                *([Route("/metrics", self._metrics)] if service.metrics.is_shown else []),
            ],
            middleware=[Middleware(Gate, origins=origins)],
            exception_handlers={LykkeError: _refuse, HTTPException: _not_here},
            lifespan=self.lifespan,
        )

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncGenerator[None]:
        """Open what it stands on; raises ServerUnavailable.

        Starlette runs it where the bridge is served by itself. Where it is mounted, the outer
        application has to: `FastAPI(lifespan=bridge.lifespan)`.
        """
        async with self._opened() as opened, self._service.connections:
            self._service.opened = opened
            self.state.hub, self.state.metrics = opened.hub, self._service.metrics
            self._service.metrics.watch(lambda: opened.hub.statistics)
            try:
                yield
            finally:
                self._service.opened = None
                self._service.connections.stop_all()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "websocket":  # there are many, each for long: they go a short way
            await self._sockets(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def drain(self, seconds: float) -> None:
        """Be ready no longer, let nobody in, and send every client away, spread over `seconds`.

        Each is told to come back, to whoever serves then, and goes on from its cursor there.
        Returns when all have gone.
        """
        await self._service.connections.drain(seconds)

    async def _ready(self, request: Request) -> Response:
        await self._service.check_ready()
        return JSONResponse({"status": "ready"})

    async def _who_asks(self, request: Request) -> Response:
        """What the token allows, so that a page offers nothing else."""
        grant = await self._service.authorize(take_token(request.scope), request.scope)
        return JSONResponse(grant.to_dict(), headers={"Cache-Control": "no-store"})

    async def _metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.exposition(), media_type=CONTENT_TYPE)


def _lookups(service: Service) -> Iterator[Route]:
    counts, users = Streams(service, Counts), Streams(service, Users)
    yield Route("/users", users, methods=["GET"])
    for user in ONE_OR_ALL:
        yield Route("/counts" + user, counts, methods=["GET"])


def _log(status: Status) -> None:
    """What an operator has to know: what is away, and that it is back."""
    match status:
        case Disconnected(reason):
            logger.warning("%s Subscribing again.", reason)
        case Connected(gap=Gap(), followed=place):
            logger.warning("Subscribed again to %s; what came meanwhile is read.", place)
        case HistoryAway(reason):
            logger.warning("%s It is tried again.", reason)
        case HistoryRead(after_failure=True):
            logger.warning("The database is back.")
        case Notice(text):
            logger.warning("%s", text)


async def _alive(request: Request) -> Response:
    return JSONResponse({"status": "alive"})


async def _script(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("lykke.js"), media_type="text/javascript")


async def _refuse(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, LykkeError)
    return refused(refusal_of(error))


async def _not_here(connection: HTTPConnection, error: Exception) -> Response:
    """Of Starlette's router: a path that is not there, a method that is not."""
    assert isinstance(error, HTTPException)
    refusal = Refusal("not_found", error.detail + ".", error.status_code, NOT_UNDERSTOOD)
    answer = refused(refusal)
    answer.headers.update(error.headers or {})
    return answer
