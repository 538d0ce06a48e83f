"""A bridge in the test's own loop, on a free port, and a client that reads its frames."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Self
from uuid import UUID

import redis
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.builders import entity, insert, wire

Frame = dict[str, Any]
PATIENCE = 20.0  # seconds for anything to come


def publish(redis_url: str, user_id: UUID, *payloads: bytes) -> None:
    """Payloads on the user's channel, in order."""
    with redis.Redis.from_url(redis_url) as client:
        for payload in payloads:
            client.publish(f"auditlog:{user_id}", payload)


async def commit(url: str, user_id: UUID, count: int, **fields: Any) -> list[str]:
    """Entries whose broadcasts are lost; returns their ids, in order."""
    entities = [entity(user_id, **fields) for _ in range(count)]
    await insert(url, entities)
    return [str(each.id) for each in entities]


async def record(url: str, redis_url: str, user_id: UUID, **fields: Any) -> str:
    """An entry that is committed and broadcast; returns its id."""
    new = entity(user_id, **fields)
    await insert(url, [new])
    publish(redis_url, user_id, wire(new))
    return str(new.id)


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield  # they are the tests' own


@asynccontextmanager
async def served(app: Any, **settings: Any) -> AsyncGenerator[str]:
    """Serve an ASGI application with its lifespan; yields `127.0.0.1:port`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, lifespan="on", log_config=None, access_log=False, **settings)
        server = _Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            while not server.started:
                if serving.done():
                    await serving
                    raise ChildProcessError("the application did not start")
                await asyncio.sleep(0.01)
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


class Client:
    """A client of `/ws` that speaks lykke.v1."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.cursor: str | None = None
        """The newest that came."""
        self.ids: list[str] = []
        """Of the entries, in order."""

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def hear(self) -> Frame:
        """The next frame."""
        async with asyncio.timeout(PATIENCE):
            frame: Frame = json.loads(await self.socket.recv())
        if frame["type"] == "auditlog":
            self.ids.append(frame["data"]["id"])
        elif frame["type"] == "auditlog_batch":
            self.ids += [entry["id"] for entry in frame["data"]]
        self.cursor = frame.get("cursor") or self.cursor
        return frame

    async def hear_until(self, *types: str) -> Frame:
        """The next frame of one of these types."""
        while (frame := await self.hear())["type"] not in types:
            pass
        return frame

    async def entries(self, count: int) -> list[str]:
        """The ids of the entries that came, once there are so many."""
        while len(self.ids) < count:
            await self.hear()
        return self.ids

    async def closed(self) -> int:
        """The code with which the connection ends; what comes before is passed over."""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionClosed):
                async for _ in self.socket:
                    pass
            await self.socket.wait_closed()
        assert self.socket.close_code is not None
        return self.socket.close_code


@asynccontextmanager
async def connected(
    place: str,
    user_id: UUID | None,
    query: str = "",
    *,
    protocols: tuple[str, ...] = ("lykke.v1",),
    **options: Any,
) -> AsyncGenerator[Client]:
    """A client, which has said nothing yet; without a user it follows every one."""
    path = "/ws" if user_id is None else f"/ws/{user_id}"
    async with connect(
        f"ws://{place}{path}{query}",
        subprotocols=[Subprotocol(protocol) for protocol in protocols] or None,
        max_size=None,
        **options,
    ) as socket:
        yield Client(socket)


@asynccontextmanager
async def following(
    place: str, user_id: UUID | None, query: str = "", **start: Any
) -> AsyncGenerator[Client]:
    """A client that has begun, with `cursor`, `since` or `last`, or now."""
    async with connected(place, user_id, query) as client:
        if not query.count("cursor=") and "since=" not in query and "last=" not in query:
            await client.say(type="resume", **start)
        await client.hear_until("subscribed")
        yield client


class Answer:
    """What came by HTTP."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, is_whole: bool) -> None:
        self.status, self.headers, self.body, self.is_whole = status, headers, body, is_whole

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Http:
    """A request of HTTP/1.1, read as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_whole = False
        self._text = b""

    async def begin(self) -> Self:
        """Read the head."""
        async with asyncio.timeout(PATIENCE):
            self.status = int((await self._reader.readline()).split()[1])
            while line := (await self._reader.readline()).strip().decode():
                name, _, value = line.partition(": ")
                self.headers[name.lower()] = value
        return self

    async def part(self) -> bytes:
        """The next part of the body; empty at its end, or where it breaks off."""
        async with asyncio.timeout(PATIENCE):
            if self.headers.get("transfer-encoding") != "chunked":
                if self.is_whole or self.status in (204, 304):
                    return b""
                self.is_whole = True
                return await self._reader.readexactly(int(self.headers["content-length"]))
            try:
                size = int(await self._reader.readline() or b"-1", 16)
                data = await self._reader.readexactly(size + 2) if size >= 0 else b""
            except (asyncio.IncompleteReadError, ConnectionError, ValueError):
                return b""
            self.is_whole = size == 0
            return data[:-2]

    async def rest(self) -> bytes:
        body = b""
        while part := await self.part():
            body += part
        return body

    async def event(self) -> dict[str, str]:
        """The next Server-Sent Event; empty at the end."""
        while b"\n\n" not in self._text:
            if not (part := await self.part()):
                return {}
            self._text += part
        text, _, self._text = self._text.partition(b"\n\n")
        return dict(line.split(": ", 1) for line in text.decode().split("\n"))


@asynccontextmanager
async def requested(
    place: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    limit: int = 1 << 16,
) -> AsyncGenerator[Http]:
    """A request that was sent, and the head of its answer; `limit` bytes are read ahead."""
    host, port = place.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=limit)
    writer.write(head_of(place, path, headers, method=method))
    try:
        yield await Http(reader, writer).begin()
    finally:
        writer.close()


def head_of(
    place: str, path: str, headers: Mapping[str, str] | None = None, *, method: str = "GET"
) -> bytes:
    """A request's bytes."""
    fields = {"Host": place} | dict(headers or {})
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def get(place: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The whole answer."""
    async with requested(place, path, headers) as http:
        body = await http.rest()
        return Answer(http.status, http.headers, body, http.is_whole)
