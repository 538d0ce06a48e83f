"""What the benchmarks share: alternating runs, medians, tables."""

import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from lykke_cli.application.messages import format_time
from tests.cli_process import environment
from tests.servers import RedisServer

RUNS = int(os.environ.get("RUNS", "5"))


def alternate(contenders: Mapping[str, Callable[[], float]], runs: int = RUNS) -> dict[str, float]:
    """The median of each, where every round runs all of them once."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, contender in contenders.items():
            taken[name].append(contender())
    return {name: statistics.median(values) for name, values in taken.items()}


def show(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(map(str, cells)) + " |\n")
    sys.stdout.flush()


def head(title: str, *cells: str) -> None:
    sys.stdout.write(f"\n### {title}\n\n")
    show(*cells)
    show(*("---" for _ in cells))


def entries(user: str, count: int, start: int = 0) -> list[bytes]:
    """Canonical messages of about 330 bytes, those before `start` left out."""
    made = []
    first = datetime.now(UTC) - timedelta(milliseconds=count)
    for n in range(start, start + count):
        moment = format_time(first + timedelta(milliseconds=n - start))
        made.append(
            orjson.dumps(
                {
                    "id": f"{n:08x}-0000-4000-8000-{n:012x}",
                    "user_id": user,
                    "activity_type": "TASK_COMPLETED",
                    "occurred_at": moment,
                    "entity_id": f"{n:08x}-1111-4111-8111-{n:012x}",
                    "entity_type": "task",
                    "meta": {"title": f"Water the plants {n}", "minutes": n % 90, "by": "x" * 24},
                }
            )
        )
    return made


def publish_commands(channels: Sequence[str], payloads: Sequence[bytes]) -> bytes:
    """The whole conversation, to be sent as fast as the server takes it."""
    parts = []
    for channel, payload in zip(channels, payloads, strict=True):
        name = channel.encode()
        parts.append(
            b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
            % (len(name), name, len(payload), payload)
        )
    return b"".join(parts)


def send(server: RedisServer, commands: bytes) -> float:
    """Publish; returns the seconds it took the server to take it all."""
    with socket.create_connection(("127.0.0.1", server.port)) as publisher:
        ended = threading.Event()

        def drain() -> None:
            with suppress(OSError):
                while publisher.recv(1 << 20):
                    pass
            ended.set()

        threading.Thread(target=drain, daemon=True).start()
        started = time.perf_counter()
        publisher.sendall(commands)
        publisher.shutdown(socket.SHUT_WR)
        ended.wait()
        return time.perf_counter() - started


@contextmanager
def running(
    arguments: Sequence[str], env: Mapping[str, str], stdout: Path | int
) -> Iterator[subprocess.Popen[bytes]]:
    with open(stdout, "wb") if isinstance(stdout, Path) else open(os.devnull, "wb") as out:
        process = subprocess.Popen(
            arguments,
            stdout=out if isinstance(stdout, Path) else stdout,
            stderr=subprocess.DEVNULL,
            env=environment(env),
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def wait_for_subscriber(
    server: RedisServer, channel: str, *, pattern: bool = False, count: int = 1
) -> None:
    with server.client() as client:
        while count > (
            client.pubsub_numpat()
            if pattern
            else dict(client.pubsub_numsub(channel))[channel.encode()]
        ):
            time.sleep(0.002)


def wait_for_end(path: Path, last: bytes) -> float:
    """The time at which `last` stands near the end of the file."""
    with path.open("rb") as file:
        while True:
            file.seek(max(0, file.seek(0, 2) - 4096))
            if last in file.read():
                return time.perf_counter()
            time.sleep(0.002)


def peak_memory(pid: int) -> float:
    """MiB."""
    return _status(pid, "VmHWM") / 1024


def memory(pid: int) -> float:
    """MiB, now."""
    return _status(pid, "VmRSS") / 1024


def _status(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(name)))
