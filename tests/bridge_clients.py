"""Clients of a bridge: each comes back whenever it was cut off, and goes on from its cursor."""

import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from tests.faults.writer import Writer
from tests.servers import RedisServer

DEADLINE = 30.0  # seconds
BEGINNING = "2000-01-01T00:00:00Z"
PAUSE = 0.05  # seconds before it comes back


@dataclass(frozen=True)
class Address:
    """Where a bridge, or what is before it, is."""

    port: int
    name: str = "127.0.0.1"
    """What clients call it."""
    context: ssl.SSLContext | None = None
    """For TLS; the port is then the one that clients need not name."""

    @property
    def host(self) -> str:
        """As clients say it."""
        return self.name if self.context else f"{self.name}:{self.port}"


class Follower:
    """Follows a user from the first entry on, in a task of its own while its block lasts."""

    def __init__(self, address: Address, user: UUID, token: str) -> None:
        self.entries: Counter[str] = Counter()
        self.cursor: str | None = None
        self.is_following = asyncio.Event()
        self.connections = 0
        self.closes: list[tuple[float, int | None]] = []
        """When it was cut off, and with which code."""
        self.told: list[str] = []
        """The types of all frames."""
        self.is_exact = True
        """Whether nobody said that entries may have come a second time."""
        self._address, self._user, self._token = address, user, token
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def until(self, entries: int) -> None:
        """Wait until so many entries have come."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: self.entries.total() >= entries)

    async def until_connected(self, times: int = 1) -> None:
        """Wait until it has come so many times, and follows."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(
                lambda: self.connections >= times and self.is_following.is_set()
            )

    async def until_cut_off(self) -> None:
        """Wait until it was, and knows."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: self.closes)

    async def _follow(self) -> None:
        while True:
            code: int | None = None
            try:
                async with aclosing(self._frames()) as frames:
                    async for frame in frames:
                        await self._take(frame)
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else None
            except (OSError, InvalidHandshake, EOFError):
                pass  # it is not there, or ended meanwhile
            if self.is_following.is_set():
                self.is_following.clear()
                self.closes.append((time.monotonic(), code))
                async with self._changed:
                    self._changed.notify_all()
            await asyncio.sleep(PAUSE)

    async def _take(self, frame: dict[str, Any]) -> None:
        self.told.append(frame["type"])
        if frame["type"] == "auditlog":
            self.entries[frame["data"]["id"]] += 1
        elif frame["type"] == "auditlog_batch":
            self.entries.update(entry["id"] for entry in frame["data"])
        elif frame["type"] == "subscribed":
            self.is_exact &= frame["exact"]
            self.connections += 1
            self.is_following.set()
        self.cursor = frame.get("cursor") or self.cursor
        async with self._changed:
            self._changed.notify_all()

    def _frames(self) -> AsyncGenerator[dict[str, Any]]:
        raise NotImplementedError


class SocketFollower(Follower):
    """Over a WebSocket."""

    async def _frames(self) -> AsyncGenerator[dict[str, Any]]:
        scheme = "wss" if self._address.context else "ws"
        async with connect(
            f"{scheme}://{self._address.host}/ws/{self._user}",
            subprotocols=[Subprotocol("lykke.v1")],
            additional_headers={"Authorization": f"Bearer {self._token}"},
            proxy=None,
            **self._where(),
        ) as socket:
            where = {"cursor": self.cursor} if self.cursor else {"since": BEGINNING}
            await socket.send(json.dumps({"type": "resume"} | where))
            while True:
                yield json.loads(await socket.recv())

    def _where(self) -> dict[str, Any]:
        if self._address.context is None:
            return {}
        return {"host": "127.0.0.1", "port": self._address.port, "ssl": self._address.context}


class EventFollower(Follower):
    """Over Server-Sent Events."""

    async def _frames(self) -> AsyncGenerator[dict[str, Any]]:
        name = self._address.name if self._address.context else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self._address.port,
            ssl=self._address.context,
            server_hostname=name,
            limit=1 << 20,
        )
        try:
            resume = [f"Last-Event-ID: {self.cursor}"] if self.cursor else []
            lines = [  # HTTP/1.0, so that it is not sent in chunks
                f"GET /events/{self._user}?since={BEGINNING} HTTP/1.0",
                f"Host: {self._address.host}",
                f"Authorization: Bearer {self._token}",
                *resume,
            ]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0]:
                return
            while event := await reader.readuntil(b"\n\n"):
                fields = dict(line.split(": ", 1) for line in event.decode().splitlines() if line)
                if "data" in fields:
                    yield json.loads(fields["data"]) | {"cursor": fields.get("id")}
        finally:
            writer.transport.abort()  # nginx does not look out for TLS's farewell


@asynccontextmanager
async def following(
    address: Address, user: UUID, token: str, *, sockets: int, streams: int
) -> AsyncIterator[list[Follower]]:
    """So many of each kind, once all of them follow."""
    kinds: list[type[Follower]] = [SocketFollower] * sockets + [EventFollower] * streams
    followers = [kind(address, user, token) for kind in kinds]
    async with AsyncExitStack() as stack:
        for follower in followers:
            await stack.enter_async_context(follower)
        for follower in followers:
            await follower.until_connected()
        yield followers


async def assert_each_got_all_once(
    followers: Sequence[Follower], writer: Writer, redis_server: RedisServer
) -> None:
    """Entry by entry; ends the writer.

    A lost connection makes the bridge look for what was back-dated by days and never published.
    """
    await asyncio.to_thread(writer.stop)
    redis_server.cut_subscribers()
    committed = await asyncio.to_thread(writer.committed)
    assert committed
    for follower in followers:
        with suppress(TimeoutError):
            await follower.until(committed.total())
        missing, repeated = committed - follower.entries, follower.entries - committed
        assert not missing and not repeated and follower.is_exact, (
            f"{type(follower).__name__} of {follower.connections} connections: "
            f"missing {dict(missing)}, repeated {dict(repeated)}, exact {follower.is_exact}"
        )
