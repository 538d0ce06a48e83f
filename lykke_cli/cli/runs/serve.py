"""One run of `lykke serve`, in this process or with several workers."""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lykke_cli.application.errors import UsageMistake
from lykke_cli.bootstrap import make_gateway, make_history
from lykke_cli.cli.exit_codes import Stopped
from lykke_cli.cli.output import standard_streams
from lykke_cli.cli.output.standard_streams import say
from lykke_cli.cli.runtime import is_logged_in_detail, log_in_detail, run_async
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.web import NEEDS

if TYPE_CHECKING:
    from lykke_cli.web.authorization import AuthSettings
    from lykke_cli.web.metrics import Cells, Metrics
    from lykke_cli.web.workers import Parent

logger = logging.getLogger(__name__)
_EXTRA = (*NEEDS, "uvicorn", "websockets")
_ROUTES = ("/ws/USER_ID", "/events/USER_ID", "/history/USER_ID")


def require_extra() -> None:
    """Raises UsageMistake where a library of the extra is not installed."""
    if not all(map(find_spec, _EXTRA)):
        raise UsageMistake("lykke serve needs more libraries: pip install 'lykke-cli[serve]'.")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is served, and where."""

    settings: Settings
    host: str
    port: int
    drain: float
    """In seconds, as the intervals are."""
    hostnames: tuple[str, ...]
    origins: tuple[str, ...]
    with_metrics: bool
    with_page: bool
    database_connections: int
    reconcile: float
    health_interval: float

    def run(self, workers: int) -> None:
        """Serve until a signal ends it; raises Stopped where that was Ctrl-C."""
        from lykke_cli.infrastructure.configuration.cursor_key import cursor_keys
        from lykke_cli.infrastructure.sealed_cursors import random_key
        from lykke_cli.web.authorization import AuthSettings, random_token
        from lykke_cli.web.listening import allow_many_files, bind, is_local, url

        auth, keys = AuthSettings.from_environ(os.environ), cursor_keys(os.environ)
        sockets = bind(self.host, self.port)
        address = url(self.host, sockets)
        if not auth.is_set and not is_local(sockets):
            raise UsageMistake(
                f"--host {self.host}: others reach that, so tokens are needed: set "
                "LYKKE_SERVE_TOKEN, LYKKE_JWT_KEY or LYKKE_JWKS_URL."
            )
        say(*auth.notices)
        if keys is None:
            keys = (random_key(),)
            say("cursors end with this run: LYKKE_CURSOR_KEY lets them last, 64 hex digits")
        if not auth.is_set:
            auth = AuthSettings(static_token=random_token())
            say("no token is set, so here is one for this run:")
            say(f"{address}/#token={auth.static_token}")
        allow_many_files()
        duty = _Duty(self, sockets, auth, keys, is_logged_in_detail())
        routes = (*_ROUTES, *(["/metrics"] if self.with_metrics else []))
        ready = partial(say, f"serving {address} with {', '.join(routes)}; Ctrl-C ends it")
        try:
            is_interrupted = duty.alone(ready) if workers == 1 else duty.shared(workers, ready)
        except Stopped as stopped:  # before it was ready
            if stopped.exit_code == 128 + signal.SIGTERM:
                return
            raise
        if is_interrupted:
            raise Stopped(signal.SIGINT)


@dataclass(frozen=True)
class _Duty:
    """What each worker is given."""

    serving: Serving
    sockets: list[socket.socket]
    auth: "AuthSettings"
    keys: tuple[bytes, ...] = field(repr=False)
    in_detail: bool
    """Whether it logs in detail."""

    def alone(self, ready: Callable[[], None]) -> bool:
        """Serve in this process; returns whether Ctrl-C ended it."""
        from lykke_cli.web.metrics import Metrics

        async def main() -> bool:
            await self._see_database()
            metrics = Metrics(is_shown=self.serving.with_metrics)
            return await self.serve(metrics, ready, _say_drain)

        return run_async(main())

    def shared(self, count: int, ready: Callable[[], None]) -> bool:
        """Serve by so many workers; returns whether Ctrl-C ended it."""
        from lykke_cli.web.metrics import ROW
        from lykke_cli.web.workers import SPAWN, Workers

        run_async(self._see_database())
        workers = Workers(
            partial(_work, self, SPAWN.RawArray("d", count * ROW)),
            count,
            drain=self.serving.drain,
            on_ready=ready,
            on_stop=self._stop,
            tell=say,
        )
        workers.run()
        return workers.is_interrupted

    async def serve(
        self,
        metrics: "Metrics",
        on_ready: Callable[[], None],
        on_drain: Callable[[float], None],
        parent: "Parent | None" = None,
    ) -> bool:
        """Serve until a signal or the parent ends it; returns whether that was Ctrl-C."""
        from lykke_cli.web import make_app
        from lykke_cli.web.authorization import authorize_by
        from lykke_cli.web.server import Server

        serving = self.serving
        gateway = make_gateway(serving.settings, health_interval=serving.health_interval)
        bridge = make_app(
            gateway=gateway,
            database_url=serving.settings.database_url,
            authorize=authorize_by(self.auth),
            cursor_keys=self.keys,
            origins=serving.origins,
            hosts=serving.hostnames or None,
            metrics=metrics,
            page=serving.with_page,
            reconcile_interval=serving.reconcile,
            database_connections=serving.database_connections,
        )
        server = Server(
            bridge,
            drain=serving.drain,
            on_ready=on_ready,
            on_drain=on_drain,
            refresh=metrics.refresh,
        )
        if parent is not None:
            loop = asyncio.get_running_loop()
            parent.watch(partial(loop.call_soon_threadsafe, server.stop))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(gateway.close)
            await stack.enter_async_context(bridge.lifespan(bridge))
            _calm_collector()
            await server.serve(self.sockets)
        return server.is_interrupted

    async def _see_database(self) -> None:
        """Raises ServerUnavailable: what goes away later is waited for, a mistake is told now."""
        async with make_history(self.serving.settings) as history:
            await history.identify()

    def _stop(self, drain: float) -> None:
        for each in self.sockets:
            each.close()
        _say_drain(drain)


def _work(duty: _Duty, cells: "Cells", parent: "Parent", place: int) -> None:
    """Be one of several workers."""
    from lykke_cli.web.metrics import Metrics

    standard_streams.install()
    if duty.in_detail:
        log_in_detail()
    try:
        metrics = Metrics(cells, place, is_shown=duty.serving.with_metrics)
        run_async(duty.serve(metrics, parent.ready, lambda _: None, parent))
    except Stopped:  # before it was ready
        pass
    except LykkeError as error:
        parent.failed(error)
    except Exception as error:
        logger.debug("a worker failed", exc_info=True)
        parent.failed(RuntimeError(f"{type(error).__name__}: {error}"))
    finally:
        standard_streams.finish()


def _calm_collector() -> None:
    """Look for cycles less often: with thousands of readers that takes a third of the time.

    A client is hundreds of objects that stay: as often as Python does it otherwise, all clients are
    looked through again and again while many come.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _say_drain(seconds: float) -> None:
    say(f"sending clients away, over {seconds:g} s; Ctrl-C ends it at once")
