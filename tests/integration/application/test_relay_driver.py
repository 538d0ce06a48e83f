"""A relay of a table that is too large to be read at once."""

import asyncio

import orjson
import pytest

from lykke_cli.application import relay_driver
from lykke_cli.application.ending import end
from lykke_cli.application.relay_driver import RelayDriver
from lykke_cli.infrastructure.gateways.redis_stream_log import RedisStreamLog
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from lykke_cli.infrastructure.redis.stream_layout import PARTITIONS, stream_names
from tests.bridges import until
from tests.databases import page_by_page
from tests.servers import RedisServer
from tests.tables import empty_table


def streamed(redis: RedisServer) -> list[str]:
    with redis.client() as client:
        names = stream_names("auditlog", PARTITIONS)
        found = [fields for name in names for _, fields in client.xrange(name)]
        return sorted(orjson.loads(fields[b"e"])["id"] for fields in found)


async def test_what_lies_where_nobody_looks_first_is_relayed_once(
    postgres_url: str,
    postgres_reader_url: str,
    own_redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page_by_page(monkeypatch)
    monkeypatch.setattr(relay_driver, "FULL_SHARE", 1)
    monkeypatch.setattr(relay_driver, "SHORTEST_FULL_INTERVAL", 0.0)
    async with (
        empty_table(postgres_url) as table,
        RedisStreamLog(own_redis.url, partitions=None, keep=1_000) as log,
        PostgresHistory(postgres_reader_url) as history,
        PostgresHistory(postgres_reader_url) as verifier,
    ):
        filled = await table.fill()
        gone = await table.leave_room_at_the_beginning()
        kept = set(filled) - set(gone)
        driver = RelayDriver(log, (history, verifier), "a", interval=0.01, on_status=lambda _: None)
        running = asyncio.create_task(driver.run())
        await until(lambda: driver.figures.written == len(kept))
        written = [await table.write_into_the_room(), await table.write()]
        await until(lambda: driver.figures.written == len(kept) + 2)
        await end({running})
    assert streamed(own_redis) == sorted(kept.union(written))
