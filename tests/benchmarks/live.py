"""`lykke tail` beside `redis-cli subscribe`: throughput, latency, many channels, memory.

Run by hand (`make bench`); starts its own servers. Needs redis-cli.
"""

import asyncio
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import asyncpg
import orjson

from tests.benchmarks.measure import (
    alternate,
    entries,
    head,
    memory,
    peak_memory,
    publish_commands,
    running,
    send,
    show,
    wait_for_end,
    wait_for_subscriber,
)
from tests.benchmarks.peers import peer_words
from tests.cli_process import command
from tests.servers import PostgresServer, RedisServer

MESSAGES = 300_000
ENDURANCE = 10_000_000  # messages
RATE = 1_000  # messages a second, for the latency
SECONDS = 5
CHANNELS = 50_000
UNLIMITED = ("--client-output-buffer-limit", "pubsub", "0", "0", "0")


class Live:
    """One server, one user, and the commands that follow it."""

    def __init__(self, server: RedisServer, database: str, folder: Path) -> None:
        self.server = server
        self.user = str(uuid.uuid4())
        self.channel = f"auditlog:{self.user}"
        self.out = folder / "out"
        self.env = {"REDIS_URL": server.url, "DATABASE_URL": database}

    def commands(self) -> dict[str, list[str]]:
        redis_cli = ["redis-cli", "-p", str(self.server.port)]
        redis_py = peer_words("redis_py_decoded")
        raw = command("tail", self.user, "-q")
        tail = [*raw, "--activity-type", "TASK_COMPLETED"]
        return {
            "redis-cli subscribe": [*redis_cli, "subscribe", self.channel],
            "redis-py, asyncio, decoded": [*redis_py, self.server.url, self.channel],
            "lykke tail -o ndjson --live-only": [*tail, "-o", "ndjson", "--live-only"],
            "lykke tail -o ndjson, with a database": [*tail, "-o", "ndjson"],
            "lykke tail -o raw --live-only": [*raw, "-o", "raw", "--live-only"],
        }

    def throughput(self, arguments: list[str], payloads: list[bytes], commands: bytes) -> float:
        """Messages a second from the first published to the last written."""
        with running(arguments, self.env, self.out):
            wait_for_subscriber(self.server, self.channel)
            time.sleep(0.5)  # a first snapshot may still be on its way
            started = time.perf_counter()
            publisher = threading.Thread(target=send, args=(self.server, commands))
            publisher.start()
            seconds = wait_for_end(self.out, payloads[-1]) - started
            publisher.join()
        written = self.out.read_bytes().splitlines()
        got = [line for line in written if line.startswith(b"{")]
        assert got == payloads, f"{arguments} wrote {len(got)} of {len(payloads)}"
        return len(payloads) / seconds

    def latency(self, arguments: list[str]) -> list[float]:
        """Milliseconds from before the publication to the line, sorted."""
        payloads = entries(self.user, RATE * SECONDS)
        sent, came = {}, {}
        with (
            running(arguments, self.env, subprocess.PIPE) as process,
            self.server.client() as client,
        ):
            wait_for_subscriber(self.server, self.channel)
            time.sleep(0.7)

            def read() -> None:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith(b"{"):
                        came[line[7:43]] = time.perf_counter()

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            started = time.perf_counter()
            for n, payload in enumerate(payloads):
                while (now := time.perf_counter()) < started + n / RATE:
                    time.sleep(0.0002)
                sent[payload[7:43]] = now
                client.publish(self.channel, payload)
            while len(came) < len(sent):
                time.sleep(0.01)
        return sorted((came[id] - at) * 1000 for id, at in sent.items())


def live(server: RedisServer, database: str, folder: Path) -> None:
    bench = Live(server, database, folder)
    payloads = entries(bench.user, MESSAGES)
    commands = publish_commands([bench.channel] * MESSAGES, payloads)
    alone = MESSAGES / send(server, commands)
    head(f"Live: {MESSAGES:,} messages of {len(payloads[-1])} bytes", "", "messages/s", "ratio")

    def contender(arguments: list[str]) -> Callable[[], float]:
        return lambda: bench.throughput(arguments, payloads, commands)

    rates = alternate({name: contender(args) for name, args in bench.commands().items()})
    peer = rates["redis-cli subscribe"]
    show("publisher alone", f"{alone:,.0f}", f"{alone / peer:.2f}")
    for name, rate in rates.items():
        show(name, f"{rate:,.0f}", f"{rate / peer:.2f}")


def latency(server: RedisServer, database: str, folder: Path) -> None:
    bench = Live(server, database, folder)
    title = f"Latency at {RATE:,} messages/s"
    head(title, "", "p50 ms", "p99 ms", "ratio p50", "ratio p99")
    wanted = ("redis-cli subscribe", "lykke tail -o ndjson, with a database")
    found: dict[str, list[list[float]]] = {name: [] for name in wanted}
    for _ in range(3):
        for name in wanted:
            found[name].append(bench.latency(bench.commands()[name]))
    middle = {
        name: [statistics.median(run[int(len(run) * q)] for run in runs) for q in (0.5, 0.99)]
        for name, runs in found.items()
    }
    peer = middle["redis-cli subscribe"]
    for name, (p50, p99) in middle.items():
        show(name, f"{p50:.3f}", f"{p99:.3f}", f"{p50 / peer[0]:.2f}", f"{p99 / peer[1]:.2f}")


def many(server: RedisServer, folder: Path) -> None:
    """`--all` at many channels beside `psubscribe`."""
    users = [str(uuid.uuid4()) for _ in range(CHANNELS)]
    payloads = [
        payload.replace(b"USER", users[n % CHANNELS].encode())
        for n, payload in enumerate(entries("USER", MESSAGES))
    ]
    channels = [f"auditlog:{users[n % CHANNELS]}" for n in range(MESSAGES)]
    commands = publish_commands(channels, payloads)
    out = folder / "all"
    peers = {
        "redis-cli psubscribe": ["redis-cli", "-p", str(server.port), "psubscribe", "auditlog:*"],
        "lykke tail --all": command("tail", "--all", "-q", "-o", "ndjson", "--live-only"),
    }
    peak: dict[str, float] = {}

    def contender(name: str) -> Callable[[], float]:
        def run() -> float:
            with running(peers[name], {"REDIS_URL": server.url}, out) as process:
                wait_for_subscriber(server, "", pattern=True)
                time.sleep(0.3)
                before = memory(process.pid)
                started = time.perf_counter()
                publisher = threading.Thread(target=send, args=(server, commands))
                publisher.start()
                seconds = wait_for_end(out, payloads[-1]) - started
                publisher.join()
                peak[name] = peak_memory(process.pid) - before
            assert [x for x in out.read_bytes().splitlines() if x.startswith(b"{")] == payloads
            return MESSAGES / seconds

        return run

    head(f"Every user: {CHANNELS:,} channels", "", "messages/s", "ratio", "bytes a channel")
    rates = alternate({name: contender(name) for name in peers}, 3)
    for name, rate in rates.items():
        each = peak[name] * 1024 * 1024 / CHANNELS
        show(name, f"{rate:,.0f}", f"{rate / rates['redis-cli psubscribe']:.2f}", f"{each:,.0f}")


def nothing_lost(server: RedisServer, database: str, folder: Path) -> None:
    """`--all` with a database: all is committed, one broadcast in ten is lost, the rest floods."""
    users = [str(uuid.uuid4()) for _ in range(CHANNELS)]
    entry_of = [orjson.loads(payload) for payload in entries("USER", MESSAGES)]
    for n, entry in enumerate(entry_of):
        entry["user_id"] = users[n % CHANNELS]
    sent = [entry for n, entry in enumerate(entry_of) if n % 10]
    commands = publish_commands(
        [f"auditlog:{entry['user_id']}" for entry in sent], [orjson.dumps(entry) for entry in sent]
    )
    out = folder / "lossy"

    async def commit() -> None:
        connection = await asyncpg.connect(database)
        records = [
            (
                *(uuid.UUID(entry[key]) for key in ("id", "user_id")),
                entry["activity_type"],
                datetime.fromisoformat(entry["occurred_at"]).replace(tzinfo=None),
                uuid.UUID(entry["entity_id"]),
                entry["entity_type"],
                orjson.dumps(entry["meta"]).decode(),
            )
            for entry in entry_of
        ]
        await connection.copy_records_to_table("audit_logs", records=records, timeout=300)
        await connection.close()

    arguments = command("tail", "--all", "-q", "-o", "ndjson", "--reconcile", "60s")
    with running(arguments, {"REDIS_URL": server.url, "DATABASE_URL": database}, out) as process:
        wait_for_subscriber(server, "", pattern=True)
        time.sleep(1)
        asyncio.run(commit())
        started = time.perf_counter()
        offered = MESSAGES / send(server, commands)
        while out.read_bytes().count(b"\n") < MESSAGES:
            time.sleep(0.2)
        seconds = time.perf_counter() - started
        time.sleep(1)  # what comes twice would come now
        done = out.read_bytes()
        peak = peak_memory(process.pid)
    ids = [orjson.loads(line)["id"] for line in done.splitlines()]
    assert sorted(ids) == [entry["id"] for entry in entry_of]
    head(
        f"Every user, with a database: {CHANNELS:,} channels, one broadcast in ten lost",
        *("each printed once", "offered a second", "s until the last", "peak MiB"),
    )
    show(f"{len(ids):,}", f"{offered:,.0f}", f"{seconds:.1f}", f"{peak:.0f}")


def tails(server: RedisServer, folder: Path) -> None:
    """Several readers of one channel, beside as many redis-cli."""
    head("Tails of one channel", "tails", "lykke, lines/s", "redis-cli", "ratio", "MiB each")
    for count, messages in ((1, 200_000), (10, 30_000), (100, 3_000)):
        bench = Live(server, "", folder)
        payloads = entries(bench.user, messages)
        commands = publish_commands([bench.channel] * messages, payloads)
        outs = [folder / f"tail{n}" for n in range(count)]
        used: list[float] = []

        def contender(
            name: str,
            bench: Live = bench,
            payloads: list[bytes] = payloads,
            commands: bytes = commands,
            outs: list[Path] = outs,
            used: list[float] = used,
        ) -> Callable[[], float]:
            def run() -> float:
                with ExitStack() as stack:
                    arguments = bench.commands()[name]
                    started = [
                        stack.enter_context(running(arguments, bench.env, out)) for out in outs
                    ]
                    wait_for_subscriber(server, bench.channel, count=len(outs))
                    time.sleep(0.5)
                    begun = time.perf_counter()
                    send(server, commands)
                    seconds = max(wait_for_end(out, payloads[-1]) for out in outs) - begun
                    used.append(statistics.mean(memory(process.pid) for process in started))
                for out in outs:
                    written = out.read_bytes().splitlines()
                    assert [line for line in written if line.startswith(b"{")] == payloads
                return len(payloads) * len(outs) / seconds

            return run

        names = ("redis-cli subscribe", "lykke tail -o ndjson --live-only")
        rates = alternate({name: contender(name) for name in names}, 3 if count < 100 else 1)
        peer, ours = (rates[name] for name in names)
        show(count, f"{ours:,.0f}", f"{peer:,.0f}", f"{ours / peer:.2f}", f"{max(used):.0f}")


def endurance(server: RedisServer, database: str) -> None:
    """Memory while very many messages come."""
    bench = Live(server, database, Path())
    arguments = bench.commands()["lykke tail -o ndjson, with a database"]
    head(f"Memory over {ENDURANCE:,} messages, with a database", "messages", "MiB")
    with running(arguments, bench.env, subprocess.PIPE) as process:
        wait_for_subscriber(server, bench.channel)
        assert process.stdout is not None
        part = 100_000
        for n in range(0, ENDURANCE + part, part):
            if n in (0, part) or n % (ENDURANCE // 5) == 0:
                show(f"{n:,}", f"{memory(process.pid):.0f}")
            if n == ENDURANCE:
                break
            payloads = entries(bench.user, part, n)
            publisher = threading.Thread(
                target=send,
                args=(server, publish_commands([bench.channel] * part, payloads)),
            )
            publisher.start()
            for payload in payloads:
                assert process.stdout.readline() == payload + b"\n"
            publisher.join()


def main() -> None:
    with (
        RedisServer(*UNLIMITED) as redis,
        PostgresServer() as postgres,
        tempfile.TemporaryDirectory() as folder,
    ):
        postgres.make_templates()
        database = postgres.url(postgres.make_database())
        live(redis, database, Path(folder))
        latency(redis, database, Path(folder))
        many(redis, Path(folder))
        nothing_lost(redis, database, Path(folder))
        tails(redis, Path(folder))
        endurance(redis, database)


if __name__ == "__main__":
    main()
