"""How fast `lykke relay` brings a table into the streams, and how much memory it takes by rows.

Run by hand (`make bench`); starts its own servers. Every entry is looked for in the streams.
"""

import asyncio
import os
import time
import uuid
from pathlib import Path

import asyncpg
import orjson

from lykke_cli.infrastructure.redis.stream_layout import PARTITIONS, stream_names
from tests.benchmarks.measure import head, show
from tests.cli_process import LykkeProcess
from tests.servers import PostgresServer, RedisServer

SIZES = [int(size) for size in os.environ.get("ROWS", "100000,1000000").split(",")]
USERS = 10_000
KEEP = 100_000_000
PAGE = 10_000  # entries of a stream that are looked at together


async def fill(url: str, rows: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        """
        INSERT INTO audit_logs
        SELECT gen_random_uuid(), md5((n % $2)::text)::uuid, 'TASK_COMPLETED',
            now() AT TIME ZONE 'UTC' - n * interval '1 ms', gen_random_uuid(), 'task',
            jsonb_build_object('title', 'Water the plants ' || n, 'minutes', n % 90, 'by', 'xxxxx')
        FROM generate_series(1, $1::int) n
        """,
        rows,
        USERS,
        timeout=1_200,
    )
    await connection.execute("VACUUM ANALYZE audit_logs", timeout=1_200)
    await connection.close()


async def ids_in_table(url: str) -> set[bytes]:
    connection = await asyncpg.connect(url)
    found = await connection.fetch("SELECT uuid_send(id) AS id FROM audit_logs")
    await connection.close()
    return {record["id"] for record in found}


def ids_in_streams(redis: RedisServer) -> tuple[int, set[bytes]]:
    count, ids = 0, set[bytes]()
    with redis.client() as client:
        for name in stream_names("auditlog", PARTITIONS):
            start = "-"
            while page := client.xrange(name, start, "+", count=PAGE):
                count += len(page)
                ids.update(uuid.UUID(orjson.loads(fields[b"e"])["id"]).bytes for _, fields in page)
                start = f"({page[-1][0].decode()}"
    return count, ids


def relayed(redis: RedisServer) -> int:
    with redis.client() as client:
        return sum(client.xlen(name) for name in stream_names("auditlog", PARTITIONS))


def measure(postgres: PostgresServer, rows: int) -> None:
    url = postgres.url(postgres.make_database())
    asyncio.run(fill(url, rows))
    with RedisServer() as redis:
        env = {"REDIS_URL": redis.url, "DATABASE_URL": url}
        with LykkeProcess("relay", "--keep", KEEP, env=env) as relay:
            while not relayed(redis):
                time.sleep(0.01)
            started, before = time.perf_counter(), relayed(redis)
            while relayed(redis) < rows:
                time.sleep(0.02)
            seconds = time.perf_counter() - started
            status = Path(f"/proc/{relay.process.pid}/status").read_text()
            [peak] = [line.split()[1] for line in status.splitlines() if "VmHWM" in line]
        count, ids = ids_in_streams(redis)
        assert count == rows
        assert ids == asyncio.run(ids_in_table(url))
    show(f"{rows:,}", f"{(rows - before) / seconds:,.0f}", f"{int(peak) / 1024:.0f} MiB")


def main() -> None:
    head("From the table into the streams", "rows", "entries/s", "peak memory")
    with PostgresServer() as postgres:
        postgres.make_templates()
        for rows in SIZES:
            measure(postgres, rows)


if __name__ == "__main__":
    main()
