"""`lykke serve` beside FastAPI with encode/broadcaster, and a subscription for each socket.

Run by hand (`make bench-web`); starts its own servers, and makes an environment for the peers.
What serves has one core for itself; the clients, Redis and PostgreSQL have the other.
"""

import argparse
import asyncio
import gc
import os
import resource
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import orjson

from tests.benchmarks.measure import head, memory, running, show
from tests.benchmarks.peers import peer_words
from tests.benchmarks.sockets import NUMBER, Socket, open_sockets
from tests.benchmarks.source import Source
from tests.cli_process import command
from tests.servers import PostgresServer, RedisServer, free_port, wait_until

PEERS = Path(__file__).parent / "peers"
NEEDED = (
    "fastapi",
    "broadcaster",
    "redis[hiredis]<6",  # on a newer one broadcaster is deaf
    "uvicorn[standard]",
)
ENVIRONMENT = Path(tempfile.gettempdir()) / "lykke-benchmark-peers"
OURS = "lykke serve"
BROADCASTER = "FastAPI with broadcaster"
FOR_EACH = "a subscription for each socket"
BARE = "transport.write and no more"
TOKEN, CURSOR_KEY = secrets.token_hex(16), secrets.token_hex(32)
QUIET = 10.0  # seconds in which nothing more comes, though something is missing
CONNECTIONS = 15_000  # to Redis; a peer has one for each socket
A_SOURCE = 10_000_000  # entries at most
MISSED = 2  # entries of each user, while the bridge is away
Note = Callable[[Socket, bytes], None]


class Bench:
    """The servers, and how much is asked of them."""

    def __init__(
        self,
        redis: RedisServer,
        database_url: str,
        database: asyncpg.Connection,
        sizes: argparse.Namespace,
    ) -> None:
        self.redis, self.database, self.sizes = redis, database, sizes
        self._sources = 0
        self._env = {
            "REDIS_URL": redis.url,
            "DATABASE_URL": database_url,
            "LYKKE_SERVE_TOKEN": TOKEN,
            "LYKKE_CURSOR_KEY": CURSOR_KEY,
        }

    @contextmanager
    def serving(self, name: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
        """The contender, on a core of its own; killed in the end."""
        peer = [self.redis.url, str(port)]
        words = {
            OURS: command("serve", "--port", port, "--drain", "0s"),
            BROADCASTER: [f"{ENVIRONMENT}/bin/python", f"{PEERS}/fastapi_broadcaster.py", *peer],
            FOR_EACH: [*peer_words("subscription_per_socket"), *peer],
            BARE: [*peer_words("bare_writes"), *peer],
        }[name]
        with running(["taskset", "-c", "0", *words], self._env, subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: _listens(port), f"{name} listens")
                yield process
            finally:
                process.kill()  # a peer may wait for its clients for ever

    def source(self, users: int) -> Source:
        self._sources += 1
        return Source(self.redis, self.database, users, self._sources * A_SOURCE)

    async def follow(
        self,
        name: str,
        port: int,
        source: Source,
        each: int,
        note: Note = lambda socket, payload: None,
        cursors: Sequence[str | None] = (),
    ) -> list[Socket]:
        """So many sockets for each user: with its cursor, or from now on."""
        users = [number for number in range(len(source.users)) for _ in range(each)]
        headers, starts = "", [b""] * len(users)
        if name == OURS:
            headers = f"Sec-WebSocket-Protocol: lykke.v1\r\nAuthorization: Bearer {TOKEN}\r\n"
            starts = [
                orjson.dumps({"type": "resume"} | ({"cursor": cursor} if cursor else {}))
                for cursor in cursors or [None] * len(users)
            ]
        clients = [
            (number, f"/ws/{source.users[number]}", start)
            for number, start in zip(users, starts, strict=True)
        ]
        sockets = await open_sockets(port, clients, headers, note)
        if name == OURS:
            await _until(lambda: all(each.caught_up_at for each in sockets), "all are live")
        else:
            await asyncio.sleep(3)  # its subscriptions are not confirmed to anybody
        return sockets


async def deliveries(bench: Bench, name: str) -> tuple[float, float, float]:
    """Entries sent for each second of its processor; p50 and p99 in ms from publication."""
    sizes, port = bench.sizes, free_port()
    source = bench.source(sizes.users)
    late: list[float] = []

    def note(client: Socket, payload: bytes) -> None:
        if client.is_watched:
            now = time.perf_counter()
            late.extend(now - source.sent[int(n, 16)] for n in NUMBER.findall(payload))

    with bench.serving(name, port) as process:
        sockets = await bench.follow(name, port, source, sizes.sockets, note)
        await source.run(sizes.rate, 2)
        await _quiet(sockets, 2 * sizes.rate * sizes.sockets)
        for client in sockets[:: sizes.sockets]:
            client.is_watched = True
        gc.collect()
        gc.freeze()
        before, came = _processor_seconds(process.pid), sum(each.entries for each in sockets)
        numbers = await source.run(sizes.rate, sizes.seconds)
        wanted = len(numbers) * sizes.sockets
        got = await _quiet(sockets, came + wanted) - came
        used = _processor_seconds(process.pid) - before
        _close(sockets)
    assert name != OURS or got == wanted, f"{name} sent {got:,} of {wanted:,}"
    late.sort()
    return got / used, 1000 * late[len(late) // 2], 1000 * late[int(len(late) * 0.99)]


async def idle(bench: Bench, name: str) -> float:
    """KiB for each socket of so many to which nothing is sent."""
    port, users = free_port(), bench.sizes.idle // bench.sizes.sockets
    with bench.serving(name, port) as process:
        warm = await bench.follow(name, port, bench.source(1), bench.sizes.sockets)
        before = memory(process.pid)
        sockets = await bench.follow(name, port, bench.source(users), bench.sizes.sockets)
        after = memory(process.pid)
        _close([*warm, *sockets])
    return (after - before) * 1024 / len(sockets)


async def outage(bench: Bench, name: str) -> str:
    """Of what was committed while Redis is killed and starts again, how much never came."""
    port = free_port()
    source = bench.source(50)

    def note(client: Socket, payload: bytes) -> None:
        client.numbers += [int(n, 16) for n in NUMBER.findall(payload)]

    with bench.serving(name, port):
        sockets = await bench.follow(name, port, source, 2, note)
        committing = asyncio.create_task(source.run(200, 12))
        await asyncio.sleep(3)
        bench.redis.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(bench.redis.start)
        numbers = await committing
        await _quiet(sockets, len(numbers) * 2)
        cut = sum(each.is_lost for each in sockets)
        _close(sockets)
    got = [Counter(each.numbers) for each in sockets]
    lost = len(numbers) * 2 - sum(len(each) for each in got)
    twice = sum(count - 1 for each in got for count in each.values())
    return f"{lost:,} of {len(numbers) * 2:,}, {twice:,} twice, {cut} cut off"


async def resumes(bench: Bench) -> tuple[float, float]:
    """Seconds from kill -9, and from when it listens again, until all have what they missed."""
    port, sizes = free_port(), bench.sizes
    source = bench.source(sizes.idle // sizes.sockets)
    with bench.serving(OURS, port) as process:
        sockets = await bench.follow(OURS, port, source, sizes.sockets)
        await source.run(sizes.rate, 2)
        await _quiet(sockets, 2 * sizes.rate * sizes.sockets)
        cursors = [each.cursor for each in sockets]
        process.kill()
        killed = time.perf_counter()
    assert all(cursors), "a socket had no cursor"
    _close(sockets)
    await source.put(MISSED * len(source.users), publish=False)
    with bench.serving(OURS, port):
        listens = time.perf_counter()
        sockets = await bench.follow(OURS, port, source, sizes.sockets, cursors=cursors)
        end = max(each.caught_up_at for each in sockets)
        wrong = [each.entries for each in sockets if each.entries != MISSED]
        _close(sockets)
    assert not wrong, f"{len(wrong)} got another number of entries than {MISSED}: {wrong[:9]}"
    return end - killed, end - listens


async def _quiet(sockets: Sequence[Socket], wanted: int) -> int:
    """How many entries came to all of them, once it is enough, or no more come."""
    newest, since = -1, time.perf_counter()
    while True:
        count = sum(each.entries for each in sockets)
        if count != newest:
            newest, since = count, time.perf_counter()
        if count >= wanted or time.perf_counter() - since > QUIET:
            return count
        await asyncio.sleep(0.05)


async def _until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _close(sockets: Sequence[Socket]) -> None:
    for each in sockets:
        each.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _processor_seconds(pid: int) -> float:
    """What the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make_environment() -> None:
    """Install what the peers need, where it is not installed yet."""
    if not (ENVIRONMENT / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        pip = [f"{ENVIRONMENT}/bin/python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *NEEDED], check=True, stderr=subprocess.DEVNULL)
        (ENVIRONMENT / "made").touch()


async def compare(bench: Bench) -> None:
    sizes = bench.sizes
    names = [name for name in (OURS, BROADCASTER, FOR_EACH) if not sizes.only or sizes.only in name]
    asked = set(sizes.what or ["deliveries", "idle", "outage", "resumes"])
    if "deliveries" in asked:
        title = f"{sizes.users} users, {sizes.sockets} sockets each, {sizes.rate:,} entries/s"
        head(title, "", "deliveries/s of the processor", "ratio", "p50 ms", "p99 ms")
        rivals = [*names, BARE]
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in rivals}
        for _ in range(sizes.runs):
            for name in rivals:
                taken[name].append(await deliveries(bench, name))
        middle = {
            name: [statistics.median(values) for values in zip(*runs, strict=True)]
            for name, runs in taken.items()
        }
        peer = middle.get(BROADCASTER, [float("nan")])[0]
        for name, (rate, p50, p99) in middle.items():
            show(name, f"{rate:,.0f}", f"{rate / peer:.2f}", f"{p50:.1f}", f"{p99:.1f}")
    if "idle" in asked:
        head(f"{sizes.idle:,} idle sockets", "", "KiB a socket")
        for name in names:
            show(name, f"{await idle(bench, name):.1f}")
    if "outage" in asked:
        head("Redis is killed, and starts again after a second", "", "lost deliveries")
        for name in names:
            show(name, await outage(bench, name))
    if "resumes" in asked:
        head(f"kill -9, and {sizes.idle:,} resumes", "", "s from the kill", "s once it listens")
        for _ in range(sizes.runs):
            show(OURS, *(f"{seconds:.1f}" for seconds in await resumes(bench)))


async def run(sizes: argparse.Namespace) -> None:
    with RedisServer("--maxclients", str(CONNECTIONS)) as redis, PostgresServer() as postgres:
        postgres.make_templates()
        name = postgres.make_database()
        database = await postgres.connect(name)
        try:
            await compare(Bench(redis, postgres.url(name), database, sizes))
        finally:
            await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help="deliveries, idle, outage, resumes; all of them")
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--sockets", type=int, default=10, help="of each user")
    parser.add_argument("--rate", type=int, default=1_000, help="entries a second")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--idle", type=int, default=5_000, help="sockets, and resumes")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", help="whose name has this")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, {1})
    make_environment()
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
