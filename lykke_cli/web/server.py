"""A bridge served by uvicorn, and ended without loss.

At its end uvicorn alone closes every WebSocket at once, so that all clients come back in one
moment, and waits for ever for streams that never end.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Protocol

import uvicorn

from lykke_cli.web.limits import Limits

log = logging.getLogger(__name__)

DRAIN = 30.0  # seconds over which clients are sent away
SHORT_DRAIN = 2.0  # seconds, after a Ctrl-C: somebody waits
LEFT_OVER = 1  # seconds that uvicorn waits for what a drain has left
REFRESH = 1  # seconds between two calls of `refresh`


class Drained(Protocol):
    """An ASGI application that sends its clients away in order."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one connection."""

    async def drain(self, seconds: float) -> None:
        """Take no new clients; send those there are away, spread over so many seconds."""


class Server(uvicorn.Server):
    """Serves an application whose lifespan has begun, until a signal or `stop` ends it.

    SIGTERM drains for `drain` seconds, Ctrl-C for SHORT_DRAIN at most, and a Ctrl-C while it
    drains ends it at once. `on_ready` is called once clients are let in, `refresh` now and then.
    """

    def __init__(
        self,
        app: Drained,
        *,
        drain: float = DRAIN,
        on_ready: Callable[[], None] = lambda: None,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        async def notify() -> None:
            refresh()

        super().__init__(
            uvicorn.Config(
                _telling_of_bugs(app),
                lifespan="off",
                log_config=None,
                # What it logs below warnings has headers and whole addresses, so tokens and
                # cursors; its warnings are about what any client can cause.
                log_level=logging.CRITICAL,
                access_log=False,
                server_header=False,
                ws="websockets-sansio",
                ws_max_size=Limits().message_bytes,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=LEFT_OVER,
                callback_notify=notify,
                timeout_notify=REFRESH,
            )
        )
        self.is_interrupted = False
        """Whether it was Ctrl-C that ended it."""
        self._app, self._drain, self._on_ready = app, drain, on_ready
        self._at_once = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self, drain: float | None = None) -> None:
        """Begin to drain, for so many seconds or as long as it was made with."""
        if drain is not None:
            self._drain = drain
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Let clients in."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let no new clients in, drain, and cut off whatever is left."""
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        draining = asyncio.ensure_future(self._app.drain(self._drain))
        at_once = asyncio.ensure_future(self._at_once.wait())
        await asyncio.wait((draining, at_once), return_when=asyncio.FIRST_COMPLETED)
        self.force_exit = at_once.done()
        for task in (draining, at_once):
            task.cancel()
        for outcome in await asyncio.gather(draining, at_once, return_exceptions=True):
            if isinstance(outcome, Exception):
                log.error("clients could not be sent away in order: %r", outcome)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Heed a signal; other than uvicorn's, it does not come again once this has ended."""
        if sig == signal.SIGINT:
            self.is_interrupted = True
            if self.should_exit and self._loop is not None:
                self._loop.call_soon_threadsafe(self._at_once.set)
            self._drain = min(self._drain, SHORT_DRAIN)
        self.should_exit = True


def _telling_of_bugs(app: Drained) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """The application, whose errors are logged here, as uvicorn logs nothing for us."""

    async def told(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            log.exception("This is a bug in lykke: %s: %s", type(error).__name__, error)
            raise

    return told
