"""A relay of a table that is too large to be read at once."""

import asyncio
import secrets
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson
import pytest

from lykke_cli.application import relay_driver
from lykke_cli.application.ending import end
from lykke_cli.application.relay_driver import RelayDriver
from lykke_cli.infrastructure.gateways.redis_stream_log import RedisStreamLog
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from lykke_cli.infrastructure.redis.stream_layout import PARTITIONS, stream_names
from tests.bridges import until
from tests.builders import INSERT, entity, row
from tests.databases import page_by_page
from tests.servers import RedisServer

ROWS = 40
LONG_AGO = timedelta(days=30)


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
    connection, written = await asyncpg.connect(postgres_url), list[str]()

    async def write(age: timedelta = timedelta(0)) -> None:
        meta = {"text": secrets.token_hex(900)}  # few rows lie on a page
        new = entity(uuid.uuid4(), occurred_at=datetime.now(UTC) - age, meta=meta)
        await connection.execute(INSERT, *row(new))
        written.append(str(new.id))

    await connection.execute("TRUNCATE audit_logs")
    for _ in range(ROWS):
        await write()
    gone = await connection.fetch("DELETE FROM audit_logs WHERE ctid < '(1,0)' RETURNING id::text")
    await connection.execute("VACUUM audit_logs")
    kept = set(written) - {id for (id,) in gone}
    async with (
        RedisStreamLog(own_redis.url, partitions=None, keep=1_000) as log,
        PostgresHistory(postgres_reader_url) as history,
        PostgresHistory(postgres_reader_url) as verifier,
    ):
        driver = RelayDriver(log, (history, verifier), "a", interval=0.01, on_status=lambda _: None)
        running = asyncio.create_task(driver.run())
        await until(lambda: driver.figures.written == len(kept))
        await write(LONG_AGO)
        place = "SELECT ctid::text FROM audit_logs WHERE id = $1"
        assert (await connection.fetchval(place, uuid.UUID(written[-1]))).startswith("(0,")
        await write()
        await until(lambda: driver.figures.written == len(kept) + 2)
        await end({running})
    await connection.close()
    assert streamed(own_redis) == sorted(kept | set(written[-2:]))
