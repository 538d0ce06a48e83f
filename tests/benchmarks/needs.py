"""What an installation of so many users needs, from what one core does here.

Run by hand (`make bench-scale`); starts its own servers. Prints the tables kept in docs/scale.md.
What a user does is an assumption, and an option: 10 entries a day, at the peak five times as many
a second as on average.
"""

import argparse
import asyncio
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.benchmarks.measure import (
    entries,
    head,
    publish_commands,
    running,
    send,
    show,
    wait_for_end,
    wait_for_subscriber,
)
from tests.benchmarks.scale import fill
from tests.cli_process import command
from tests.servers import PostgresServer, RedisServer

USERS = (1_000_000, 10_000_000, 100_000_000)
ROWS = 500_000
MESSAGES = 100_000
SHARE = 0.1  # of a core, that a read of everything takes
DAY = 86_400  # seconds


class Figures(msgspec.Struct):
    """What one core does here, one thing at a time."""

    row_bytes: float
    index_bytes: float
    """Of a row, in all indexes together."""
    looked_at: float
    """Rows a second, by a read of everything."""
    published: float
    """Messages a second, to one subscriber of a pattern."""
    followed: float
    """Messages a second, by `lykke tail --all`."""


def storage(server: PostgresServer) -> tuple[float, float, float]:
    name = server.make_database()
    url = server.url(name)
    asyncio.run(fill(url, ROWS, uuid.uuid4()))
    table = server.fetch_value("SELECT pg_relation_size('audit_logs')", name)
    indexes = server.fetch_value("SELECT pg_indexes_size('audit_logs')", name)

    async def read() -> float:
        async with PostgresHistory(url) as history:
            [begun] = [chunk async for chunk in history.begin(Selection(user_ids=None))]
            started = time.perf_counter()
            reading = history.changes(Selection(user_ids=None), begun.cursor)
            assert not [row async for chunk in reading for row in chunk.rows]
            return time.perf_counter() - started

    seconds = asyncio.run(read())
    server.drop_database(name)
    return table / ROWS, indexes / ROWS, ROWS / seconds


def messages(redis: RedisServer) -> tuple[float, float]:
    user = str(uuid.uuid4())
    payloads = entries(user, MESSAGES)
    commands = publish_commands([f"auditlog:{user}"] * MESSAGES, payloads)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        tail = command("tail", "--all", "--live-only", "-o", "ndjson", "-q")
        with running(tail, {"REDIS_URL": redis.url}, out):
            wait_for_subscriber(redis, "auditlog:*", pattern=True)
            started = time.perf_counter()
            published = MESSAGES / send(redis, commands)
            followed = MESSAGES / (wait_for_end(out, payloads[-1]) - started)
    return published, followed


def needs(users: int, a_day: float, peak: float, figures: Figures) -> list[str]:
    rows_a_day = users * a_day
    at_peak = peak * rows_a_day / DAY
    year = 365 * rows_a_day
    row = figures.row_bytes + figures.index_bytes
    return [
        f"{rows_a_day / DAY:,.0f}, {at_peak:,.0f}",
        f"{at_peak / figures.published:,.2f}",
        f"{at_peak / figures.followed:,.2f}",
        f"{30 * rows_a_day / 1e9:,.1f}, {year / 1e9:,.0f}",
        f"{30 * rows_a_day * row / 1e12:,.2f}, {year * row / 1e12:,.1f}",
        f"{at_peak * 3600 / 1e6:,.0f}",
        f"{30 * rows_a_day / figures.looked_at / SHARE / 3600:,.1f}",
    ]


TITLES = (
    "entries a second, on average and at the peak",
    "cores of Redis at the peak, for one who follows everybody",
    "cores of one `lykke tail --all` at the peak",
    "rows of a month and of a year, thousand millions",
    "the same on disk with the indexes, TB",
    "rows of an hour at the peak, million",
    "hours for which a read of a month's rows goes on, at a tenth of a core",
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, nargs="+", default=USERS)
    parser.add_argument("--a-day", type=float, default=10.0, help="entries of a user")
    parser.add_argument("--peak", type=float, default=5.0, help="times the average")
    options = parser.parse_args()
    with PostgresServer() as server, RedisServer() as redis:
        server.make_templates()
        figures = Figures(*storage(server), *messages(redis))
    head("Figures", "", "measured here")
    show(
        "bytes of a row, and in its indexes", f"{figures.row_bytes:.0f}, {figures.index_bytes:.0f}"
    )
    show("rows a second that a read of everything looks at", f"{figures.looked_at:,.0f}")
    show("messages a second that Redis passes on", f"{figures.published:,.0f}")
    show("messages a second that `lykke tail --all` prints", f"{figures.followed:,.0f}")
    users: Sequence[int] = options.users
    head("Needs", "users", *(f"{number:,}" for number in users))
    columns = [needs(number, options.a_day, options.peak, figures) for number in users]
    for title, *values in zip(TITLES, *columns, strict=True):
        show(title, *values)


if __name__ == "__main__":
    main()
