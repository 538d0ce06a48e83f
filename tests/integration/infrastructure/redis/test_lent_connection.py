"""A subscribed connection, where redis-py is another inside."""

import uuid

import pytest
from redis.asyncio import ConnectionPool

from lykke_cli.infrastructure.gateways.redis_pubsub import RedisPubSubGateway
from lykke_cli.infrastructure.redis import lent_connection
from tests.private_names import hide
from tests.servers import RedisServer

SOON = 20.0  # seconds


async def test_without_redis_pys_own_stream_messages_are_read_through_redis_py(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hide(monkeypatch, lent_connection)
    user = uuid.uuid4()
    pool = ConnectionPool.from_url(own_redis.url)
    async with (
        RedisPubSubGateway(pool=pool) as gateway,
        gateway.subscribe_to_user_channel(user, "auditlog") as subscription,
    ):
        await gateway.publish_to_user_channel(user, "auditlog", {"n": 1})
        assert await subscription.get_message(SOON) == {"n": 1}
    await pool.disconnect()
    assert asked == ["_writer"]
