"""An application served and ended: real sockets, an application of a few lines."""

import asyncio
import logging
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from lykke_cli.web.listening import bind, url
from lykke_cli.web.server import SHORT_DRAIN, Server
from tests.bridges import PATIENCE, until

LONG = 60.0  # seconds, which no test waits for


class Application(Starlette):
    """Sends its WebSockets away when it drains; its streams never end of themselves."""

    def __init__(self) -> None:
        super().__init__(
            routes=[
                WebSocketRoute("/ws", self._talk),
                Route("/events", self._stream),
                Route("/bug", self._bug),
            ]
        )
        self.drained_for: float | None = None
        self.draining = asyncio.Event()
        self.is_slow = False
        self._sockets: set[WebSocket] = set()

    async def drain(self, seconds: float) -> None:
        self.drained_for = seconds
        self.draining.set()
        for each in self._sockets:
            await each.close(1012)
        if self.is_slow:
            await asyncio.sleep(LONG)

    async def _talk(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self._sockets.add(websocket)
        async for text in websocket.iter_text():
            await websocket.send_text(text)
        self._sockets.remove(websocket)

    async def _stream(self, request: Request) -> Response:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"data: 1\n\n"
                await asyncio.Event().wait()

        return StreamingResponse(endless(), media_type="text/event-stream")

    async def _bug(self, request: Request) -> Response:
        raise ValueError("of \x1b[2J")


class Served:
    """A server at work, and what happened to it."""

    def __init__(self, app: Application, drain: float) -> None:
        ready = self.is_ready = asyncio.Event()
        self.app = app
        self.server = Server(app, drain=drain, on_ready=ready.set)
        self.sockets = bind("127.0.0.1", 0)
        self.port = self.sockets[0].getsockname()[1]
        self.url = url("127.0.0.1", self.sockets)
        self.serving = asyncio.create_task(self.server.serve(self.sockets))

    async def open(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A plain request; its answer's head is read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.url}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.serving


@asynccontextmanager
async def serving(*, drain: float = LONG, is_slow: bool = False) -> AsyncIterator[Served]:
    app = Application()
    app.is_slow = is_slow
    served = Served(app, drain)
    try:
        await asyncio.wait_for(served.is_ready.wait(), PATIENCE)
        yield served
    finally:
        for _ in range(2):
            served.server.handle_exit(signal.SIGINT, None)
        await served.ended()


async def test_an_end_drains_first_and_then_cuts_off_what_is_left() -> None:
    async with serving() as served, connect(f"ws://127.0.0.1:{served.port}/ws") as websocket:
        await websocket.send("x")
        assert await websocket.recv() == "x"
        reader, writer = await served.open("/events")
        served.server.stop(0.5)
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
        await served.ended()
        assert served.app.drained_for == 0.5
        assert b"data: 1" in await reader.read()  # to its end, which came
        writer.close()


async def test_while_it_drains_nobody_new_is_let_in() -> None:
    async with serving(is_slow=True) as served:
        served.server.stop()
        await served.app.draining.wait()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", served.port)
        assert served.app.drained_for == LONG
        assert not served.serving.done()


async def test_sigterm_drains_long_and_a_second_one_changes_nothing() -> None:
    async with serving(is_slow=True) as served:
        served.server.handle_exit(signal.SIGTERM, None)
        served.server.handle_exit(signal.SIGTERM, None)
        await served.app.draining.wait()
        assert served.app.drained_for == LONG
        assert not served.server.is_interrupted and not served.serving.done()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
async def test_a_ctrl_c_while_it_drains_ends_it_at_once(first: int) -> None:
    async with serving(is_slow=True) as served:
        served.server.handle_exit(first, None)
        await served.app.draining.wait()
        assert served.app.drained_for == (SHORT_DRAIN if first == signal.SIGINT else LONG)
        served.server.handle_exit(signal.SIGINT, None)
        await served.ended()
        assert served.server.is_interrupted


async def test_a_drain_that_fails_is_told_of_and_ends_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(seconds: float) -> None:
        raise RuntimeError("no way out")

    async with serving() as served:
        monkeypatch.setattr(served.app, "drain", fail)
        served.server.stop()
        await served.ended()
    assert "no way out" in caplog.text


async def test_one_that_is_ended_while_it_is_full_says_nothing_more(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    delay = 0.5  # longer than uvicorn takes to see that it is to end
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", delay)
    async with serving(is_slow=True) as served:
        with closing(socket.socket()) as client, no_more_files():
            client.connect(("127.0.0.1", served.port))
            await until(lambda: "more clients come than can be taken" in caplog.text)
            served.server.stop()
            await served.app.draining.wait()
            await asyncio.sleep(delay)  # until asyncio would listen again
    assert len(caplog.records) == 1


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open nothing, and accept no client."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as lowest:
        free = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_a_bug_is_told_of_and_others_are_served_on(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        _, writer = await served.open("/bug")
        writer.close()
        async with connect(f"ws://127.0.0.1:{served.port}/ws") as websocket:
            await websocket.send("x")
            assert await websocket.recv() == "x"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "a bug in lykke: ValueError" in caplog.text


async def test_what_clients_send_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as served:
        _, writer = await served.open("/events?cursor=s3cret")
        address = f"ws://127.0.0.1:{served.port}/ws?cursor=s3cret"
        async with connect(address, additional_headers={"Authorization": "s3cret"}):
            pass
        with socket.create_connection(("127.0.0.1", served.port)) as garbage:
            garbage.sendall(b"s3cret\x1b[2J\r\n\r\n")
            await asyncio.to_thread(garbage.recv, 1)
        writer.close()
    said = [r for r in caplog.records if not r.name.startswith("websockets.client")]
    assert "s3cret" not in "".join(record.getMessage() for record in said)


async def test_the_figures_are_refreshed_while_it_serves() -> None:
    refreshed = asyncio.Event()
    server = Server(Application(), refresh=refreshed.set)
    task = asyncio.create_task(server.serve(bind("127.0.0.1", 0)))
    await asyncio.wait_for(refreshed.wait(), PATIENCE)
    server.stop(0)
    await asyncio.wait_for(task, PATIENCE)
