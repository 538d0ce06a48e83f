"""`lykke backfill` beside psql, asyncpg and SQLAlchemy; memory and time by size; the plans.

Run by hand (`make bench`); starts its own PostgreSQL. Needs psql.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import starmap
from pathlib import Path

import asyncpg
import orjson

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.messages import format_time, parse_wire_time
from lykke_cli.infrastructure.database.regions import Region
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.postgresql import lines as postgres_lines
from lykke_cli.infrastructure.postgresql import selection as postgres_selection
from lykke_cli.infrastructure.postgresql import statements
from lykke_cli.infrastructure.postgresql.calendar import PARTS
from lykke_cli.infrastructure.postgresql.relations import Group
from tests.benchmarks.history import fill
from tests.benchmarks.measure import alternate, head, show
from tests.benchmarks.peers import peer_words
from tests.cli_process import command, environment
from tests.servers import PostgresServer

ROWS = 1_000_000
SIZES = (1_000, 10_000, 100_000, ROWS)
LARGE = 10_000_000  # rows, where `--large` is given: it takes minutes, and some 4 GB of disk
COLUMNS = "id, user_id, activity_type, occurred_at, entity_id, entity_type, meta"
PSQL = (
    "\\copy (SELECT row_to_json(t) FROM (SELECT {columns} FROM audit_logs WHERE user_id = '{user}' "
    "ORDER BY occurred_at, id {limit}) t) TO '{path}'"
)


def measured(arguments: list[str], url: str, out: Path) -> tuple[float, float]:
    """Seconds, and MiB at the peak."""
    started = time.perf_counter()
    with out.open("wb") as file:
        process = subprocess.Popen(
            arguments,
            stdout=file,
            stderr=subprocess.DEVNULL,
            env=environment({"DATABASE_URL": url}),
        )
        _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def are_equal(ours: bytes, theirs: bytes) -> bool:
    """Whether two lines say the same; row_to_json writes the time as the column has it."""
    row = orjson.loads(theirs)
    row["occurred_at"] = format_time(parse_wire_time(row["occurred_at"]))
    return bool(orjson.loads(ours) == row)


def backfill(user: uuid.UUID, *more: str) -> list[str]:
    return command("backfill", user, "--since", "2000-01-01", "-o", "ndjson", "-q", *more)


def peers(url: str, user: uuid.UUID, folder: Path) -> None:
    copy = PSQL.format(columns=COLUMNS, user=user, limit="", path=folder / "copy")
    out = folder / "out"
    commands = {
        "psql \\copy of row_to_json": ["psql", "-q", url, "-c", copy],
        "asyncpg cursor, dict, orjson": [*peer_words("asyncpg_cursor"), url, str(user)],
        "SQLAlchemy stream(), dict, orjson": [*peer_words("sqlalchemy_stream"), url, str(user)],
        "lykke backfill -o ndjson": backfill(user),
    }

    def contender(arguments: list[str]) -> Callable[[], float]:
        def run() -> float:
            seconds, _ = measured(arguments, url, out)
            written = folder / "copy" if arguments[0] == "psql" else out
            with written.open("rb") as file:
                assert sum(1 for _ in file) == ROWS
            return ROWS / seconds

        return run

    rates = alternate({name: contender(arguments) for name, arguments in commands.items()})
    assert all(starmap(are_equal, zip(out.open("rb"), (folder / "copy").open("rb"), strict=True)))
    head(f"Backfill: {ROWS:,} rows of one user out of {2 * ROWS:,}", "", "rows/s", "ratio")
    peer = rates["psql \\copy of row_to_json"]
    for name, rate in rates.items():
        show(name, f"{rate:,.0f}", f"{rate / peer:.2f}")

    one = PSQL.format(columns=COLUMNS, user=user, limit="LIMIT 1", path=folder / "copy")

    def first_row() -> float:
        started = time.perf_counter()
        process = subprocess.Popen(
            backfill(user), stdout=subprocess.PIPE, env=environment({"DATABASE_URL": url})
        )
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - started
        process.kill()
        process.communicate()
        return seconds * 1000

    head("First row", "", "ms", "ratio")
    limit = ["psql", "-q", url, "-c", one]
    times = alternate(
        {
            "psql, LIMIT 1": lambda: measured(limit, url, out)[0] * 1000,
            "lykke backfill": first_row,
        }
    )
    for name, taken in times.items():
        show(name, f"{taken:.0f}", f"{taken / times['psql, LIMIT 1']:.1f}")


def growth(url: str, users: dict[int, uuid.UUID], folder: Path) -> None:
    head(
        "Growth",
        *("rows", "s", "rows/s", "peak memory", "since the last run, nothing new, s"),
        "one row at a time (--query), peak",
    )
    for rows, user in users.items():
        seconds, memory = measured(backfill(user), url, folder / "out")
        slow = "-"
        if rows <= 100_000:
            slow = (
                f"{measured(backfill(user, '--query', '`true`'), url, folder / 'out')[1]:.0f} MiB"
            )
        place = command("backfill", user, "-o", "ndjson", "-q")
        measured(place, url, folder / "out")  # the first run of its kind begins with everything
        again, _ = measured(place, url, folder / "out")
        assert (folder / "out").stat().st_size == 0
        rate = f"{rows / seconds:,.0f}"
        show(f"{rows:,}", f"{seconds:.2f}", rate, f"{memory:.0f} MiB", f"{again:.2f}", slow)


async def plans(url: str, users: set[uuid.UUID]) -> None:
    """Of every statement, for users with far less than 1 % of the rows."""
    sys.stdout.write(f"\n### Plans, users: {len(users)}\n\n")
    connection = await asyncpg.connect(url, statement_cache_size=0)
    selected = postgres_selection.selected(Selection(user_ids=users))
    _, within, _ = statements.OLDEST_FIRST
    await explain(connection, "OLDEST_FIRST", within[1], *selected, *[None] * 5)
    _, within, _ = statements.NEWEST_FIRST
    await explain(connection, "NEWEST_FIRST", within[1], *selected, *[None] * 4, 10)
    regions = (Region(4), Region(5, low=datetime.now(UTC), visible=Runs.of([7])))
    table = await connection.fetchval("SELECT 'audit_logs'::regclass::oid")
    for name, part in zip(("BEFORE", "WITHIN", "AFTER"), PARTS, strict=True):
        changed, bounds = statements.changed(part, (Group(frozenset({table}), regions),))
        await explain(connection, f"changed({name})", changed, *selected, None, *bounds)
    arguments: dict[str, tuple[object, ...]] = {
        "COUNT": (*selected, None, None),
        "NTH_NEWEST": (*selected, 10),
        "VISIBLE": (*selected, None, None),
        "NEWEST": (*selected, 8),
        "FOUND": ([str(uuid.uuid4())],),
        "WRITTEN_LAST": (8, 256),
    }
    for name, values in arguments.items():
        await explain(connection, name, getattr(statements, name), *values)
    async with connection.transaction():
        await connection.fetchrow(
            postgres_lines._SETTINGS,
            *(*selected, "0001-01-01", str(uuid.UUID(int=0)), "10000-01-01"),
        )
        of_users = postgres_lines._statements(users)
        await explain(connection, "next", of_users.next, 100)
        await explain(connection, "lines", of_users.lines)
    await connection.close()


async def explain(connection: asyncpg.Connection, name: str, sql: str, *arguments: object) -> None:
    statement = await connection.prepare(f"EXPLAIN (COSTS OFF) {sql}", name="")
    lines = [row[0] for row in await statement.fetch(*arguments)]
    assert not any("Seq Scan on audit_logs" in line for line in lines), lines
    scans = [line.strip(" ->") for line in lines if "Scan" in line and "audit_logs" in line]
    sys.stdout.write(f"- `{name}`: {'; '.join(scans)}\n")


def main() -> None:
    sizes = (*SIZES, LARGE) if "--large" in sys.argv else SIZES
    users = {rows: uuid.uuid4() for rows in sizes}
    with PostgresServer() as server, tempfile.TemporaryDirectory() as folder:
        server.make_templates()
        url = server.url(server.make_database())
        for rows, user in users.items():
            asyncio.run(fill(url, user, rows))
        asyncio.run(fill(url, None, ROWS))
        peers(url, users[ROWS], Path(folder))
        growth(url, users, Path(folder))
        asyncio.run(plans(url, {users[SIZES[0]]}))
        asyncio.run(plans(url, {users[SIZES[0]], users[SIZES[1]], uuid.uuid4()}))


if __name__ == "__main__":
    main()
