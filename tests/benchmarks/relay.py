"""How fast `lykke relay` brings a table into the streams, how soon, and with how much memory.

Run by hand; starts its own servers. Every entry is looked for in the streams. With ENTRIES it
measures nothing but the memory of relay and consumer, over so many entries.
"""

import asyncio
import itertools
import os
import subprocess
import threading
import time
import uuid

import asyncpg
import orjson

from lykke_cli.infrastructure.redis.stream_layout import PARTITIONS, stream_names
from tests.benchmarks.measure import head, memory, peak_memory, running, show
from tests.builders import INSERT, entity, row
from tests.cli_process import LykkeProcess, command
from tests.servers import PostgresServer, RedisServer

SIZES = [int(size) for size in os.environ.get("ROWS", "100000,1000000").split(",")]
USERS = 10_000
KEEP = 100_000_000
PAGE = 10_000  # entries of a stream that are looked at together
RATE = int(os.environ.get("RATE", "1000"))  # commits a second, for the latency
SECONDS = int(os.environ.get("SECONDS", "20"))
WRITERS = 8
LAST_HOUR = (0, 1_000_000)  # rows of the last hour that are there already: each read looks at them
READERS = {
    "lykke consume": ("consume", "--group", "bench", "--from-now", "-q"),
    "lykke tail": ("tail", "--all", "--transport", "stream", "--live-only", "-o", "ndjson", "-q"),
}
ENTRIES = int(os.environ.get("ENTRIES", "0"))  # for the memory
KEPT = 100_000  # of each stream then
PARTS = 10


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
    """How many entries were ever added."""
    with redis.client() as client:
        names = [name for name in stream_names("auditlog", PARTITIONS) if client.exists(name)]
        return sum(client.xinfo_stream(name)["entries-added"] for name in names)


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
            peak = peak_memory(relay.process.pid)
        count, ids = ids_in_streams(redis)
        assert count == rows
        assert ids == asyncio.run(ids_in_table(url))
    show(f"{rows:,}", f"{(rows - before) / seconds:,.0f}", f"{peak:.0f} MiB")


async def commit(url: str, count: int) -> tuple[dict[bytes, float], float]:
    """Commit entries one by one, at RATE; returns when each was, and how many in a second."""
    numbers, committed, started = itertools.count(), dict[bytes, float](), time.perf_counter()

    async def write() -> None:
        connection = await asyncpg.connect(url)
        while (number := next(numbers)) < count:
            await asyncio.sleep(max(0.0, started + number / RATE - time.perf_counter()))
            new = entity()
            await connection.execute(INSERT, *row(new))
            committed[str(new.id).encode()] = time.perf_counter()
        await connection.close()

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    return committed, count / (time.perf_counter() - started)


def delays(url: str, env: dict[str, str], words: tuple[str, ...]) -> tuple[list[float], float]:
    """Milliseconds from each commit to the line of a reader, sorted; and the commits a second."""
    came = dict[bytes, float]()
    with running(command(*words), env, subprocess.PIPE) as process:

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                came[line[7:43]] = time.perf_counter()

        threading.Thread(target=read, daemon=True).start()
        while not came:  # it has begun
            asyncio.run(commit(url, 1))
            time.sleep(0.2)
        committed, rate = asyncio.run(commit(url, RATE * SECONDS))
        while not committed.keys() <= came.keys():
            time.sleep(0.01)
    return sorted((came[id] - at) * 1000 for id, at in committed.items()), rate


def latency(postgres: PostgresServer) -> None:
    title = f"From the commit to the line, at {RATE:,} commits/s"
    head(title, "", "rows of the last hour", "commits/s", "p50 ms", "p99 ms")
    for (name, words), rows in itertools.product(READERS.items(), LAST_HOUR):
        url = postgres.url(postgres.make_database())
        asyncio.run(fill(url, rows))
        with RedisServer() as redis:
            env = {"REDIS_URL": redis.url, "DATABASE_URL": url}
            with LykkeProcess("relay", env=env) as relay:
                relay.wait_for("relaying into")
                while relayed(redis) < rows:
                    time.sleep(0.1)
                found, rate = delays(url, env, words)
        p50, p99 = (found[int(len(found) * q)] for q in (0.5, 0.99))
        show(name, f"{rows:,}", f"{rate:,.0f}", f"{p50:.0f}", f"{p99:.0f}")


def endurance(postgres: PostgresServer) -> None:
    """Memory while very many entries come, of which the streams keep the last."""
    url = postgres.url(postgres.make_database())
    asyncio.run(fill(url, ENTRIES))
    title = f"Memory over {ENTRIES:,} entries"
    head(title, "relayed", "relay, MiB", "consumed", "consume, MiB")
    consumed = 0
    with RedisServer() as redis:
        env = {"REDIS_URL": redis.url, "DATABASE_URL": url}
        reader = command("consume", "--group", "bench", "-q")
        with (
            LykkeProcess("relay", "--keep", KEPT, env=env) as relay,
            running(reader, env, subprocess.PIPE) as consume,
        ):

            def read() -> None:
                nonlocal consumed
                assert consume.stdout is not None
                while data := os.read(consume.stdout.fileno(), 1 << 20):
                    consumed += data.count(b"\n")

            threading.Thread(target=read, daemon=True).start()
            for part in range(1, PARTS + 1):
                while (written := relayed(redis)) < ENTRIES * part // PARTS:
                    time.sleep(0.1)
                sizes = (memory(process.pid) for process in (relay.process, consume))
                by_relay, by_consumer = (f"{size:.0f}" for size in sizes)
                show(f"{written:,}", by_relay, f"{consumed:,}", by_consumer)


def main() -> None:
    if ENTRIES:
        with PostgresServer() as postgres:
            postgres.make_templates()
            endurance(postgres)
        return
    head("From the table into the streams", "rows", "entries/s", "peak memory")
    with PostgresServer() as postgres:
        postgres.make_templates()
        for rows in SIZES:
            measure(postgres, rows)
        latency(postgres)


if __name__ == "__main__":
    main()
