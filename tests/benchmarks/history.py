"""What history costs: a periodic reconcile beside a full read, and backfill's memory by rows.

Run by hand (`make bench`); starts its own PostgreSQL. Prints the table kept in README.md here.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator

import asyncpg

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, Selection
from lykke_cli.infrastructure.database.regions import START_OF_TIME
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.cli_process import command, environment
from tests.servers import PostgresServer

RUNS = 5
ROWS = 1_000_000
SIZES = (10_000, 100_000, 1_000_000)


async def fill(url: str, user: uuid.UUID | None, rows: int) -> None:
    """Rows of one user, or with None of many, over the last 100 days."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        """
        INSERT INTO audit_logs
        SELECT gen_random_uuid(), coalesce($1, gen_random_uuid()), 'TASK_COMPLETED',
            now() AT TIME ZONE 'UTC' - n * interval '100 days' / $2::int, gen_random_uuid(), 'task',
            jsonb_build_object('title', 'Water the plants ' || n, 'minutes', n % 90)
        FROM generate_series(1, $2::int) n
        """,
        user,
        rows,
        timeout=600,
    )
    await connection.execute("VACUUM ANALYZE audit_logs", timeout=600)
    await connection.close()


async def timed(chunks: AsyncIterator[HistoryChunk]) -> tuple[float, int, Cursor]:
    started, rows = time.perf_counter(), 0
    async for chunk in chunks:
        rows += len(chunk.rows)
        cursor = chunk.cursor
    return time.perf_counter() - started, rows, cursor


async def reconcile(url: str, user: uuid.UUID) -> None:
    selection = Selection(user_ids={user})
    everything, recent, full = [], [], []
    async with PostgresHistory(url) as history:
        for _ in range(RUNS):
            seconds, rows, cursor = await timed(history.begin(selection, since=START_OF_TIME))
            assert rows == ROWS
            everything.append(seconds)
            recent.append((await timed(history.changes(selection, cursor, recent_only=True)))[0])
            full.append((await timed(history.changes(selection, cursor)))[0])
    whole = statistics.median(everything)
    show(f"| read all {ROWS:,} rows of the user | {whole * 1000:,.1f} ms | 100 % |")
    for name, times in (("periodic reconcile", recent), ("full reconcile", full)):
        share = 100 * statistics.median(times) / whole
        show(f"| {name}, nothing new | {statistics.median(times) * 1000:,.1f} ms | {share:.2f} % |")


def memory(url: str, user: uuid.UUID, rows: int) -> None:
    started = time.perf_counter()
    process = subprocess.Popen(
        command("backfill", user, "--since", "2000-01-01", "-q"),
        stdout=subprocess.PIPE,
        env=environment({"DATABASE_URL": url}),
    )
    stdout = process.stdout
    assert stdout is not None
    lines = 0
    while block := stdout.read(1 << 20):
        lines += block.count(b"\n")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    assert (lines, status) == (rows, 0)
    show(f"| backfill {rows:,} rows | {seconds:.1f} s | {usage.ru_maxrss / 1024:.0f} MiB |")


def show(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    users = {rows: uuid.uuid4() for rows in SIZES}
    with PostgresServer() as server:
        server.make_templates()
        url = server.url(server.make_database())
        for rows, user in users.items():
            asyncio.run(fill(url, user, rows))
        asyncio.run(fill(url, None, ROWS))
        show("| what | median time | share |\n|---|---|---|")
        asyncio.run(reconcile(url, users[ROWS]))
        show("\n| what | time | peak memory |\n|---|---|---|")
        for rows, user in users.items():
            memory(url, user, rows)


if __name__ == "__main__":
    main()
