"""What a large table costs a reader: after a reconnect, on a resume, every interval, and in full.

Run by hand (`make bench-scale`); starts its own servers, and takes 7 GB of disk for 20,000,000
rows, which are gone afterwards. Prints the tables kept in docs/scale.md.
"""

import argparse
import asyncio
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import orjson

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, Selection
from lykke_cli.application.messages import format_time
from lykke_cli.application.pace import Share
from lykke_cli.application.reconciling import FULL_SHARE, LONGEST_PAUSE
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.benchmarks.measure import head, show
from tests.cli_process import command, environment
from tests.servers import PostgresServer, RedisServer

SIZES = (200_000, 2_000_000, 20_000_000)
ROUNDS = 5
HOURS = 20  # over which the rows lie, so that the look-back hour has a twentieth of them
EVERYBODY = Selection(user_ids=None)
PATIENCE = 300.0  # seconds
_INDEXES = """
    SELECT indexdef FROM pg_indexes
    WHERE tablename = 'audit_logs' AND indexname <> 'audit_logs_pkey'
"""
_ROWS = """
    INSERT INTO audit_logs
    SELECT gen_random_uuid(),
        CASE WHEN n % 1000 = 0 THEN $1
            ELSE lpad(to_hex(n::bigint * 7919 % 100000), 32, '0')::uuid END,
        'TASK_COMPLETED',
        now() AT TIME ZONE 'UTC' - ($2 - n) * $3::interval / $2,
        gen_random_uuid(), 'task',
        jsonb_build_object('title', 'Water the plants ' || n, 'minutes', n % 90)
    FROM generate_series(1, $2::int) n
"""
_INSERT = "INSERT INTO audit_logs VALUES ($1, $2, 'TASK_COMPLETED', $3, NULL, NULL, '{}')"


async def fill(url: str, rows: int, user: uuid.UUID) -> None:
    """Rows of a hundred thousand users; of `user` one in a thousand."""
    connection = await asyncpg.connect(url, timeout=60)
    try:
        indexes = [index for (index,) in await connection.fetch(_INDEXES)]
        await connection.execute("SET maintenance_work_mem = '1GB'; SET synchronous_commit = off")
        await connection.execute(
            "ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_pkey;"
            + "".join(f"DROP INDEX {index.split()[2]};" for index in indexes)
        )
        await connection.execute(
            _ROWS,
            user,
            rows,
            timedelta(hours=HOURS),
            timeout=1800,
        )
        await connection.execute("ALTER TABLE audit_logs ADD PRIMARY KEY (id)", timeout=1800)
        for index in indexes:
            await connection.execute(index, timeout=1800)
        await connection.execute("VACUUM ANALYZE audit_logs", timeout=1800)
    finally:
        await connection.close()


class Following:
    """A `lykke tail` at work, and when it wrote which entry."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._lines: queue.Queue[tuple[str, float]] = queue.Queue()
        self._seen: dict[str, float] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put((orjson.loads(line)["id"], time.perf_counter()))

    def time_of(self, id: uuid.UUID) -> float:
        """When the entry was written; it must have been written once."""
        until = time.monotonic() + PATIENCE
        while str(id) not in self._seen:
            written, moment = self._lines.get(timeout=until - time.monotonic())
            assert written not in self._seen, "written twice"
            self._seen[written] = moment
        return self._seen[str(id)]


class Scene:
    """One table of so many rows, a Redis, and what follows them."""

    def __init__(self, redis: RedisServer, url: str, folder: Path, user: uuid.UUID) -> None:
        self.redis, self.url, self.user = redis, url, user
        self._env = {
            "REDIS_URL": redis.url,
            "DATABASE_URL": url,
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
        }

    def commit(
        self,
        *,
        age: timedelta = timedelta(0),
        user: uuid.UUID | None = None,
        only_said: bool = False,
    ) -> tuple[uuid.UUID, bytes]:
        """An entry, and the message that would be broadcast, or is though there is no entry."""
        id, user, moment = uuid.uuid4(), user or uuid.uuid4(), datetime.now(UTC) - age

        async def insert() -> None:
            connection = await asyncpg.connect(self.url)
            await connection.execute(_INSERT, id, user, moment.replace(tzinfo=None))
            await connection.close()

        if not only_said:
            asyncio.run(insert())
        entry: dict[str, object] = {
            "id": str(id),
            "user_id": str(user),
            "activity_type": "TASK_COMPLETED",
            "occurred_at": format_time(moment),
            "entity_id": None,
            "entity_type": None,
            "meta": {},
        }
        return id, orjson.dumps(entry)

    @contextmanager
    def tail(self, *arguments: object) -> Iterator[Following]:
        process = subprocess.Popen(
            command("tail", *arguments, "-o", "ndjson", "-q"),
            stdout=subprocess.PIPE,
            env=environment(self._env),
        )
        try:
            yield Following(process)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()

    def wait_for_subscription(self, channel: str | None) -> float:
        with self.redis.client() as client:
            while not (
                client.pubsub_numpat()
                if channel is None
                else dict(client.pubsub_numsub(channel))[channel.encode()]
            ):
                time.sleep(0.002)
        return time.perf_counter()

    def publish(self, user: str, message: bytes) -> None:
        with self.redis.client() as client:
            client.publish(f"auditlog:{user}", message)


def after_a_reconnect(scene: Scene) -> dict[str, list[float]]:
    """Seconds to the lines: from the cut to what was missed, from the new subscription to live."""
    taken: dict[str, list[float]] = {"missed": [], "missed, back-dated 30 days": [], "live": []}
    with scene.tail("--all") as following:
        scene.wait_for_subscription(None)
        for _ in range(ROUNDS):
            id, message = scene.commit()
            scene.publish("x", message)
            following.time_of(id)
            missed, _ = scene.commit()
            back_dated, _ = scene.commit(age=timedelta(days=30))
            live, message = scene.commit(only_said=True)  # so that no read finds it
            cut = time.perf_counter()
            scene.redis.cut_subscribers()
            back = scene.wait_for_subscription(None)
            scene.publish(str(orjson.loads(message)["user_id"]), message)
            taken["missed"].append(following.time_of(missed) - cut)
            taken["missed, back-dated 30 days"].append(following.time_of(back_dated) - cut)
            taken["live"].append(following.time_of(live) - back)
    return taken


def resumed(scene: Scene, *whom: object, channel: str | None) -> dict[str, list[float]]:
    """Seconds from the subscription of a `--resume` to the lines."""
    taken: dict[str, list[float]] = {"missed": [], "missed, back-dated 30 days": []}
    with scene.tail(*whom, "--resume") as following:
        scene.wait_for_subscription(channel)
        id, message = scene.commit(user=scene.user)
        scene.publish(str(scene.user), message)
        following.time_of(id)
    for _ in range(ROUNDS):
        missed, _ = scene.commit(user=scene.user)
        back_dated, _ = scene.commit(user=scene.user, age=timedelta(days=30))
        with scene.tail(*whom, "--resume") as following:
            began = scene.wait_for_subscription(channel)
            taken["missed"].append(following.time_of(missed) - began)
            taken["missed, back-dated 30 days"].append(following.time_of(back_dated) - began)
    return taken


async def last_of(history: PostgresHistory, cursor: Cursor, **how: bool) -> HistoryChunk:
    *_, last = [chunk async for chunk in history.changes(EVERYBODY, cursor, **how)]
    return last


async def reads(url: str) -> tuple[float, float, int, float, float]:
    """Seconds of a periodic read and of one that looks at the whole window; of a read of everything
    the portions, the seconds, and the share of a core that its backend took."""
    async with PostgresHistory(url) as history:
        [begun] = [chunk async for chunk in history.begin(EVERYBODY)]
        cursor, recent = begun.cursor, list[float]()
        for _ in range(ROUNDS):
            started = time.perf_counter()
            cursor = (await last_of(history, cursor, recent_only=True, portion=True)).cursor
            recent.append(time.perf_counter() - started)
        watcher = await asyncpg.connect(url)
        [(pid,)] = await watcher.fetch(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'lykke'"
        )
        await watcher.close()
        share = Share(FULL_SHARE, LONGEST_PAUSE)
        began, busy, clock = time.perf_counter(), _busy(pid), asyncio.get_running_loop().time
        portions, goes_on = 0, True
        while goes_on:
            share.begins(clock())
            last = await last_of(history, cursor, portion=True)
            cursor, goes_on = last.cursor, last.goes_on
            portions += 1
            share.ended(clock())
            await asyncio.sleep(share.due - clock())
        seconds = time.perf_counter() - began
        used = (_busy(pid) - busy) / seconds
        started = time.perf_counter()
        long_ago = Cursor(cursor.data | {"recent_from": format_time(_an_hour_ago())})
        await last_of(history, long_ago, recent_only=True, portion=True)
        window = time.perf_counter() - started
    return statistics.median(recent), window, portions, seconds, used


def _an_hour_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1, minutes=16)


def _busy(pid: int) -> float:
    """Seconds of processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def milliseconds(taken: Sequence[float]) -> str:
    return f"{statistics.median(taken) * 1000:,.0f} ({max(taken) * 1000:,.0f})"


def measure(server: PostgresServer, redis: RedisServer, rows: int) -> dict[str, str]:
    name, user = server.make_database(), uuid.uuid4()
    url = server.url(name)
    try:
        asyncio.run(fill(url, rows, user))
        with tempfile.TemporaryDirectory() as folder:
            scene = Scene(redis, url, Path(folder), user)
            found = {
                f"`tail --all`, after a reconnect: {what}": milliseconds(taken)
                for what, taken in after_a_reconnect(scene).items()
            }
            for title, whom, channel in (
                ("`tail --all --resume`", ("--all",), None),
                ("`tail USER --resume`", (user,), f"auditlog:{user}"),
            ):
                taken = resumed(scene, *whom, channel=channel)
                found |= {f"{title}: {what}": milliseconds(taken[what]) for what in taken}
        recent, window, portions, seconds, used = asyncio.run(reads(url))
        found["a periodic read, nothing new"] = f"{recent * 1000:,.1f}"
        found["one in thirty, of the hour before too"] = f"{window * 1000:,.1f}"
        found["a read of everything: portions"] = f"{portions:,}"
        found["... s"] = f"{seconds:,.1f}"
        found["... of a core"] = f"{100 * used:.1f} %"
        pages = server.fetch_value("SELECT pg_relation_size('audit_logs') >> 20", name)
        whole = server.fetch_value("SELECT pg_total_relation_size('audit_logs') >> 20", name)
        found["table, and with its indexes, MiB"] = f"{pages:,}, {whole:,}"
    finally:
        server.drop_database(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    sizes: Sequence[int] = parser.parse_args().rows
    with PostgresServer() as server, RedisServer() as redis:
        server.make_templates()
        found = []
        for rows in sizes:
            found.append(measure(server, redis, rows))
            sys.stderr.write(f"{rows:,} rows: {found[-1]}\n")
    head("Scale: ms, median (most)", "rows", *(f"{rows:,}" for rows in sizes))
    for what in found[0]:
        show(what, *(column[what] for column in found))


if __name__ == "__main__":
    main()
