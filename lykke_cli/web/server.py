"""A bridge served by uvicorn, and ended without loss.

At its end uvicorn alone closes every WebSocket at once, so that all clients come back in one
moment, and waits for ever for streams that never end.
"""

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import FrameType
from typing import Any, Protocol

import uvicorn

from lykke_cli.web.limits import Limits
from lykke_cli.web.sharing_protocol import SharingProtocol

log = logging.getLogger(__name__)
_Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

DRAIN = 30.0  # seconds over which clients are sent away
SHORT_DRAIN = 2.0  # seconds, after a Ctrl-C: somebody waits
LEFT_OVER = 1  # seconds that uvicorn waits for what a drain has left
REFRESH = 1  # seconds between two calls of `refresh`
QUEUE = 2048  # clients that the system lets wait to be taken
AT_ONCE = 64  # of those at most are taken before others get their turn, and other workers
FULL_AGAIN = 60.0  # seconds before it is said again that no more clients can be taken
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_CLOSED = "Invalid file descriptor"


class Drained(Protocol):
    """An ASGI application that sends its clients away in order."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one connection."""

    async def drain(self, seconds: float) -> None:
        """Take no new clients; send those there are away, spread over so many seconds."""


class Server(uvicorn.Server):
    """Serves an application whose lifespan has begun, until a signal or `stop` ends it.

    SIGTERM drains for `drain` seconds, Ctrl-C for SHORT_DRAIN at most, and a Ctrl-C while it
    drains ends it at once; without `heeds_signals` they are the caller's. `on_ready` is called
    once clients are let in, `refresh` now and then, and `on_drain`, with the seconds, where there
    are clients to be sent away.
    """

    def __init__(
        self,
        app: Drained,
        *,
        drain: float = DRAIN,
        heeds_signals: bool = True,
        on_ready: Callable[[], None] = lambda: None,
        on_drain: Callable[[float], None] = lambda _: None,
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
                ws=SharingProtocol,
                ws_max_size=Limits().message_bytes,
                ws_per_message_deflate=False,
                backlog=AT_ONCE,
                timeout_graceful_shutdown=LEFT_OVER,
                callback_notify=notify,
                timeout_notify=REFRESH,
            )
        )
        self.is_interrupted = False
        """Whether it was Ctrl-C that ended it."""
        self._app, self._drain = app, drain
        self._heeds_signals = heeds_signals
        self._on_ready, self._on_drain = on_ready, on_drain
        self._at_once = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._was_full_at = -FULL_AGAIN

    def stop(self, drain: float | None = None) -> None:
        """Begin to drain, for so many seconds or as long as it was made with."""
        if drain is not None:
            self._drain = drain
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Heed signals while the block lasts, unless somebody else does."""
        with super().capture_signals() if self._heeds_signals else nullcontext():
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Let clients in."""
        self._loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(partial(self._report, loop.get_exception_handler()))
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(QUEUE)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let no new clients in, drain, and cut off whatever is left."""
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        if self.server_state.connections:
            self._on_drain(self._drain)
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

    def _report(
        self, before: _Handler | None, loop: asyncio.AbstractEventLoop, context: dict[str, Any]
    ) -> None:
        """Say in one line, and not for each client, that no more can be taken."""
        error = context.get("exception")
        if self.should_exit and isinstance(error, ValueError) and _CLOSED in str(error):
            return  # asyncio listens again a second after it was full, on what was closed since
        if "socket" not in context or not (isinstance(error, OSError) and error.errno in _FULL):
            (before or asyncio.AbstractEventLoop.default_exception_handler)(loop, context)
        elif loop.time() >= self._was_full_at + FULL_AGAIN:
            self._was_full_at = loop.time()
            log.error("more clients come than can be taken: %s (see ulimit -n)", error.strerror)


def _telling_of_bugs(app: Drained) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """The application, whose errors are logged here, as uvicorn logs nothing for us."""

    async def told(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            log.exception("This is a bug in lykke: %s: %s", type(error).__name__, error)
            raise

    return told
