"""The streams as the relay writes them, on a real server."""

import asyncio
import gc
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.gateways.stream_log_protocol import Batch, Place
from lykke_cli.infrastructure.gateways.redis_stream_log import RedisStreamLog
from lykke_cli.infrastructure.redis.stream_layout import partitions_name
from tests.servers import RedisServer

Use = Callable[[RedisStreamLog], Awaitable[object]]
PLACE = Place(cursors=(), relay="relay", number=1, read_at=0.0)


async def test_how_many_streams_there_are_is_agreed_on_again_where_all_was_lost(
    own_redis: RedisServer,
) -> None:
    async with RedisStreamLog(own_redis.url, partitions=4) as log:
        await log.look([0])
        await log.write([Batch(0, [], PLACE)])
        with own_redis.client() as client:
            client.flushall()
            assert await log.write([Batch(0, [], PLACE)]) == {0: None}
            assert client.get(partitions_name("auditlog")) == b"4"
            assert await log.write([Batch(0, [], PLACE)]) == {0: PLACE}
            client.flushall()
            client.set(partitions_name("auditlog"), 16)  # somebody was faster
            with pytest.raises(UsageMistake, match="16 partitions, not 4"):
                await log.write([Batch(0, [], PLACE)])


async def test_that_is_agreed_on_again_where_only_that_was_evicted(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lykke_cli.infrastructure.redis.partitions.GOOD_FOR", 0.0)
    async with RedisStreamLog(own_redis.url, partitions=4) as log:
        await log.look([0])
        await log.write([Batch(0, [], PLACE)])
        with own_redis.client() as client:
            client.delete(partitions_name("auditlog"))
            assert await log.write([Batch(0, [], PLACE)]) == {0: PLACE}
            assert client.get(partitions_name("auditlog")) == b"4"


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda log: log.look([0, 1]), id="look"),
        pytest.param(lambda log: log.write([Batch(0, [], PLACE), Batch(1, [], PLACE)]), id="write"),
    ],
)
async def test_whoever_is_stopped_before_it_asks_leaves_nothing_unawaited(
    redis_server: RedisServer, use: Use, recwarn: pytest.WarningsRecorder
) -> None:
    async with RedisStreamLog(redis_server.url, f"log-{uuid.uuid4().hex[:8]}") as log:
        await log.look([0, 1])
        using = asyncio.ensure_future(use(log))
        await asyncio.sleep(0)  # so that it has begun, and what it began has not
        using.cancel()
        with suppress(asyncio.CancelledError):
            await using
        gc.collect()
    assert not recwarn.list
