"""`lykke consume` beside a loop of redis-py and FastStream: entries read, printed, acknowledged.

Run by hand; starts its own server. FastStream is measured where FASTSTREAM names a Python that has
it. What is measured is the whole process, its start included; every entry is looked for.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from lykke_cli.infrastructure.redis.stream_layout import PARTITIONS, partitions_name, stream_name
from tests.benchmarks.measure import alternate, entries, head, show
from tests.benchmarks.peers import peer_words
from tests.cli_process import command, environment
from tests.servers import RedisServer

ENTRIES = int(os.environ.get("ENTRIES", "200000"))
FASTSTREAM = os.environ.get("FASTSTREAM")
PIPELINE = 5_000


def fill(server: RedisServer, number: int) -> None:
    with server.client() as client:
        client.set(partitions_name("auditlog"), PARTITIONS, nx=True)
        for start in range(0, number, PIPELINE):
            pipeline = client.pipeline(transaction=False)
            some = entries(str(uuid.uuid4()), min(PIPELINE, number - start), start)
            for n, payload in enumerate(some, start):
                user = str(uuid.UUID(int=n))
                pipeline.xadd(stream_name("auditlog", n % PARTITIONS), {"u": user, "e": payload})
            pipeline.execute()


def contenders(url: str) -> dict[str, Callable[[str], list[str]]]:
    """How each is run in a group."""
    number = str(ENTRIES)

    def peer(name: str, *how: str) -> Callable[[str], list[str]]:
        return lambda group: [*peer_words(name), url, group, number, *how]

    found = {
        "redis-py, XACK for each entry": peer("redis_py_group", "each"),
        "redis-py, XACK for many together": peer("redis_py_group", "together"),
        "gateway.consume, ack for each entry": peer("lykke_group", "each"),
        "gateway.consume, ack for many together": peer("lykke_group", "together"),
        "lykke consume": lambda group: command(
            *("consume", "--group", group, "--count", number, "-q")
        ),
    }
    if FASTSTREAM is not None:
        words = [FASTSTREAM, *peer_words("faststream_group")[1:]]
        found["FastStream"] = lambda group: [*words, url, group, number]
    return found


def throughput(server: RedisServer, words: list[str], group: str, out: Path) -> float:
    """Entries a second, from the start of the process to its end."""
    env = environment({"REDIS_URL": server.url})
    started = time.perf_counter()
    with out.open("wb") as file:
        subprocess.run(words, stdout=file, env=env, check=True)
    seconds = time.perf_counter() - started
    lines = out.read_bytes().splitlines()
    assert len(set(lines)) == ENTRIES, f"{words} wrote {len(set(lines))} of {ENTRIES}"
    with server.client() as client:
        for partition in range(PARTITIONS):
            name = stream_name("auditlog", partition)
            assert client.xpending(name, group)["pending"] == 0, words
            client.xgroup_destroy(name, group)
    return ENTRIES / seconds


def main() -> None:
    with RedisServer() as server, TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        fill(server, ENTRIES)
        head(f"A group that takes {ENTRIES:,} entries", "", "entries/s", "ratio")

        def contender(words: Callable[[str], list[str]]) -> Callable[[], float]:
            def run() -> float:
                group = uuid.uuid4().hex
                return throughput(server, words(group), group, out)

            return run

        found = contenders(server.url)
        rates = alternate({name: contender(words) for name, words in found.items()})
        peer = rates["redis-py, XACK for each entry"]
        for name, rate in rates.items():
            show(name, f"{rate:,.0f}", f"{rate / peer:.2f}")


if __name__ == "__main__":
    main()
