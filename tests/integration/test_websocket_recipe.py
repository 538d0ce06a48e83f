"""What docs/library.md shows an application's WebSocket to do."""

import asyncio
import uuid
from typing import Any

import pytest

from lykke_cli import RedisPubSubGateway
from tests.recipes.websocket import follow
from tests.servers import RedisServer

USER = uuid.uuid4()


class Disconnected(Exception):
    """As the framework raises it."""


class Socket:
    """A WebSocket as FastAPI's and Starlette's are used; None from the client is its end."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.received: asyncio.Queue[Any] = asyncio.Queue()

    async def send_json(self, data: Any) -> None:
        await self.sent.put(data)

    async def receive_json(self) -> Any:
        data = await self.received.get()
        if data is None:
            raise Disconnected
        return data


async def test_a_client_gets_what_is_published_is_told_of_a_gap_and_answers(
    own_redis: RedisServer,
) -> None:
    socket = Socket()
    async with RedisPubSubGateway(own_redis.url) as gateway:
        following = asyncio.create_task(follow(socket, USER, gateway))
        while not await gateway.publish_to_user_channel(USER, "auditlog", {"n": 1}):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await socket.sent.get() == {"n": 1}
        own_redis.cut_subscribers()
        gap = await socket.sent.get()
        assert gap["type"] == "gap" and gap["since"].endswith("+00:00")
        await socket.received.put({"type": "acknowledgment"})
        assert await socket.sent.get() == {"type": "acknowledgment"}  # on the channel, to all
        await socket.received.put(None)
        with pytest.raises(Disconnected):
            await following
