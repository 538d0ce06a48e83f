"""No client takes more than its part, and none leaves anything behind."""

import asyncio
import gc
import os
import socket
import struct
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed

from lykke_cli.web import Bridge, Limits, connection
from lykke_cli.web.connection import Connection
from lykke_cli.web.feed import Feed
from lykke_cli.web.socket import Socket
from tests.bridges import (
    PATIENCE,
    commit,
    connected,
    following,
    get,
    head_of,
    publish,
    served,
    until,
)
from tests.integration.web.conftest import Make


async def test_a_socket_too_many_is_closed_with_4429(make: Make, user: uuid.UUID) -> None:
    async with served(make(limits=Limits(sockets_per_user=1))) as place:
        async with following(place, user), connected(place, user) as second:
            assert (await second.hear())["code"] == "too_many"
            assert await second.closed() == 4429
        async with following(place, user) as third:
            await third.hear_until("caught_up")


async def test_too_many_messages_close_with_4429_and_a_too_large_one_with_1009(
    place: str, user: uuid.UUID
) -> None:
    async with following(place, user) as client:
        for _ in range(200):
            with suppress(ConnectionClosed):
                await client.say(type="dance")
        assert await client.closed() == 4429
    async with following(place, user) as client:
        await client.say(broadcast=True, data="x" * (64 << 10))
        assert await client.closed() == 1009


@contextmanager
def deaf(
    place: str, path: str, headers: Mapping[str, str] | None = None
) -> Iterator[socket.socket]:
    """A connection that asks for something, and of which nothing is read."""
    host, port = place.split(":")
    with socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asking.connect((host, int(port)))
        asking.sendall(head_of(place, path, headers))
        yield asking


WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "c29tZXRoaW5nLXJhbmRvbQ==",
}


async def test_a_client_that_takes_nothing_is_closed_with_4408_and_its_connection_ends(
    make: Make, redis_url: str, sqlite_url: str, user: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FAREWELL", PATIENCE)
    app = make(limits=Limits(stall=0.3))
    ids = await commit(sqlite_url, user, 40, meta={"x": "y" * 200_000})
    async with served(app) as place, following(place, user) as beside:
        await beside.hear_until("caught_up")
        before, path = open_sockets(), f"/ws/{user}?last=40"
        with deaf(place, path, WEBSOCKET) as slow:
            await until(lambda: slow_closes(app) == 1)
            assert CLOSE in await asyncio.to_thread(_read_all, slow)
        monkeypatch.setattr(connection, "FAREWELL", 0.1)
        with deaf(place, path, WEBSOCKET):
            await until(lambda: slow_closes(app) == 2)
            await until(lambda: open_sockets() <= before + 1)  # the test's own end
        publish(redis_url, user, b'{"type":"test"}')
        assert (await beside.hear_until("test"))["type"] == "test"
    async with served(make()) as place, following(place, user, last=40) as again:
        assert await again.entries(40) == ids


async def test_frames_that_are_none_end_that_connection_alone(
    make: Make, redis_url: str, user: uuid.UUID
) -> None:
    async with served(make(), ws_max_size=64 << 10) as place, following(place, user) as beside:
        await beside.hear_until("caught_up")
        for bytes_sent in (
            b"\x81\x84\0\0\0\0\xff\xff\xff\xff",  # a text that is not UTF-8
            b"\x81\xff\0\0\0\0\0\x10\0\0" + b"\0" * 4,  # 1 MiB is announced
            b"\x01\x81\0\0\0\0{" * 3,  # a message within a message
            b"\x81\x05hello",  # not masked
            b"\xff" * 64,
        ):
            with deaf(place, f"/ws/{user}", WEBSOCKET) as hostile:
                await asyncio.to_thread(hostile.recv, 1000)
                hostile.sendall(bytes_sent)
                await asyncio.to_thread(_read_all, hostile)
        publish(redis_url, user, b'{"type":"test"}')
        assert await beside.hear() == {"type": "test"}


async def test_a_message_in_fragments_is_one(place: str, user: uuid.UUID) -> None:
    async with following(place, user) as client:
        await client.socket.send(iter(['{"broadcast":', "true,", '"data":1}']))
        assert (await client.hear_until("client_broadcast"))["data"] == 1


async def test_a_herd_that_comes_back_gets_everything_once(
    make: Make, redis_url: str, sqlite_url: str
) -> None:
    users = [uuid.uuid4() for _ in range(30)]
    first, second = make(), make()
    async with served(first) as place:
        async with AsyncExitStack() as stack:
            before = [
                await stack.enter_async_context(following(place, user))
                for user in users
                for _ in range(3)
            ]
            await asyncio.gather(*(client.hear_until("caught_up") for client in before))
    missed = {user: await commit(sqlite_url, user, 3) for user in users}
    async with served(second) as place, AsyncExitStack() as stack:

        async def come_back(user: uuid.UUID, cursor: str | None) -> list[str]:
            client = await stack.enter_async_context(following(place, user, cursor=cursor))
            await client.hear_until("caught_up")
            return client.ids

        owners = [user for user in users for _ in range(3)]
        back = await asyncio.gather(
            *(come_back(user, old.cursor) for user, old in zip(owners, before, strict=True))
        )
    assert back == [missed[user] for user in owners]


CLOSE = struct.pack("!H", 4408)


def slow_closes(app: Bridge) -> float:
    """How many clients were closed because they took nothing."""
    for line in app.state.metrics.exposition().decode().splitlines():
        if line.startswith("lykke_slow_closes_total{"):
            return float(line.split()[-1])
    raise LookupError


def open_sockets() -> int:
    """How many this process has."""
    number = 0
    for file in os.listdir("/dev/fd"):
        with suppress(OSError):
            number += os.readlink(f"/dev/fd/{file}").startswith("socket:")
    return number


async def visit(place: str, redis_url: str, *, in_order: bool) -> None:
    """Come, be sent something, and go."""
    user = uuid.uuid4()
    async with following(place, user) as client:
        await client.hear_until("caught_up")
        publish(redis_url, user, b'{"type":"test"}')
        await client.hear_until("test")
        if not in_order:
            client.socket.transport.abort()


def left_over() -> list[object]:
    """What there still is of clients."""
    gc.collect()
    return [each for each in gc.get_objects() if type(each) in (Socket, Feed, Connection)]


async def test_nothing_is_left_of_clients_that_have_gone(make: Make, redis_url: str) -> None:
    app = make()
    async with served(app) as place:
        await visit(place, redis_url, in_order=True)
        await until(lambda: not left_over())
        tasks = len(asyncio.all_tasks())
        for in_order in (True, False):
            await asyncio.gather(
                *(visit(place, redis_url, in_order=in_order) for _ in range(20)),
            )
        with deaf(place, f"/ws/{uuid.uuid4()}", WEBSOCKET), deaf(place, "/ws/"):
            pass
        await until(lambda: not left_over() and len(asyncio.all_tasks()) <= tasks)
        assert app.state.hub.statistics.readers == 0
        metrics = (await get(place, "/metrics")).body
        assert b'lykke_websockets{worker="0"} 0.0' in metrics


def _read_all(connection: socket.socket) -> bytes:
    """The last that comes, until the connection ends or a close frame with 4408 has come."""
    connection.settimeout(PATIENCE)
    last = b""
    with suppress(ConnectionError):
        while CLOSE not in last and (data := connection.recv(1 << 16)):
            last = (last + data)[-1000:]
    return last
