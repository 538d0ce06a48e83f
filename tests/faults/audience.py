"""Clients of the bridge that never give up: each keeps what it was sent, and where it stands."""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self
from uuid import UUID

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.serving import TOKEN

PAUSE = 0.3  # seconds at most before a client comes back


class Client:
    """One socket at a time; after a break it goes on with the cursor of the last frame it has."""

    def __init__(self, user: UUID, ports: Sequence[int]) -> None:
        self.user = user
        self.ports = list(ports)
        self.received: Counter[str] = Counter()
        self.connections = 0
        self.codes: Counter[int] = Counter()
        self.is_inexact = False
        self._cursor: str | None = None
        self._may_come = asyncio.Event()
        self._may_read = asyncio.Event()
        self._socket: ClientConnection | None = None

    async def run(self) -> None:
        self._may_come.set()
        self._may_read.set()
        while True:
            await self._may_come.wait()
            with suppress(OSError, TimeoutError, ConnectionClosed, InvalidHandshake, EOFError):
                await self._follow(random.choice(self.ports))
            await asyncio.sleep(random.uniform(0, PAUSE))

    async def stay_away(self) -> None:
        self._may_come.clear()
        if self._socket is not None:
            await self._socket.close()

    def come_back(self) -> None:
        self._may_come.set()

    def stop_reading(self) -> None:
        self._may_read.clear()

    def read_on(self) -> None:
        self._may_read.set()

    async def _follow(self, port: int) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"ws://127.0.0.1:{port}/ws/{self.user}"
        async with connect(
            url,
            subprotocols=["lykke.v1"],  # type: ignore[list-item]
            additional_headers=headers,
            compression=None,
            open_timeout=10,
            ping_interval=None,
            close_timeout=0.5,
            max_queue=4,
            proxy=None,
        ) as self._socket:
            self.connections += 1
            where = {"cursor": self._cursor} if self._cursor else {"since": "2000-01-01T00:00:00Z"}
            await self._socket.send(json.dumps({"type": "resume"} | where))
            try:
                while True:
                    await self._may_read.wait()
                    self._take(json.loads(await self._socket.recv()))
            except ConnectionClosed as error:
                if error.rcvd is not None:
                    self.codes[error.rcvd.code] += 1
                raise

    def _take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "auditlog":
                self.received[frame["data"]["id"]] += 1
            case "auditlog_batch":
                self.received.update(entry["id"] for entry in frame["data"])
            case "subscribed":
                self.is_inexact |= not frame["exact"]
            case "error":
                raise AssertionError(frame)
        self._cursor = frame.get("cursor") or self._cursor


class Audience:
    """Many clients, in a thread of their own until the block ends."""

    def __init__(self, users: Sequence[UUID], count: int, ports: Sequence[int]) -> None:
        self.clients = [Client(users[n % len(users)], ports) for n in range(count)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._run()), daemon=True
        )
        self._stop = asyncio.Event()
        self.failures: list[Exception] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()

    def each(self, what: str, clients: Sequence[Client] | None = None) -> None:
        """Have each of them do it, by the name of the method."""

        async def do() -> None:
            for client in self.clients if clients is None else clients:
                done = getattr(client, what)()
                if done is not None:
                    await done

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(30)

    @property
    def received(self) -> int:
        return sum(client.received.total() for client in self.clients)

    async def _run(self) -> None:
        tasks = [asyncio.create_task(self._run_one(client)) for client in self.clients]
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_one(self, client: Client) -> None:
        try:
            await client.run()
        except Exception as error:
            self.failures.append(error)
