"""`lykke consume`: every entry is taken, and once into a file, whatever kills it on the way."""

import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.redis.stream_layout import (
    partition_of,
    partitions_name,
    stream_name,
)
from tests.cli_process import LykkeProcess, run_lykke
from tests.faults.cluster import RedisCluster
from tests.faults.proxy import Proxy
from tests.servers import RedisServer, wait_until
from tests.streams import fill, pending, stream_entries

KILLS = int(os.environ.get("KILLS", "40"))
STEPS = (b"XGROUP", b"XREADGROUP", b"XAUTOCLAIM", b"XPENDING", b"XACK")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def ids_in(path: Path) -> Counter[str]:
    """The ids in the file; fails on a line that is not whole."""
    data = path.read_bytes() if path.exists() else b""
    assert data.endswith(b"\n") or not data
    return Counter(orjson.loads(line)["id"] for line in data.splitlines())


class Filling(threading.Thread):
    """Adds entries, until the block ends."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._stopped = threading.Event()
        self.ids: list[str] = []

    def __enter__(self) -> "Filling":
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self.join(20)

    def run(self) -> None:
        with self._server.client() as client:
            while not self._stopped.wait(0.005):
                self.ids += fill(client, stream_entries(5))


def test_killed_at_each_step_a_file_has_every_entry_once(
    server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    target, written = tmp_path / "out.ndjson", []
    arguments = ("consume", "--group", "g", "--to-file", target)
    for step in STEPS:
        for passes in (False, True):
            written += fill(client, stream_entries(20))
            with Proxy(server.port) as proxy:
                env = {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}"}
                killed = threading.Event()
                proxy.call_at(step, killed.set, passes=passes)
                with LykkeProcess(*arguments, env=env):
                    assert killed.wait(20)  # leaving the block is kill -9
    with LykkeProcess(*arguments, env={"REDIS_URL": server.url}) as consume:
        wait_until(lambda: set(written) <= set(ids_in_so_far(target)), "all are taken")
        wait_until(lambda: not list(pending(client, "g")), "all are acknowledged")
        assert consume.stop().status == ExitCode.INTERRUPTED
    assert ids_in(target) == Counter(written)


@pytest.mark.long
@pytest.mark.timeout(60 + 5 * KILLS)
def test_members_that_are_killed_again_and_again(
    server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    rng, env = random.Random(7), {"REDIS_URL": server.url}
    targets = [tmp_path / "a.ndjson", tmp_path / "b.ndjson"]
    fill(client, ())

    def member(target: Path) -> LykkeProcess:
        arguments = ("consume", "--group", "g", "--claim-after", "1s", "--to-file", target)
        return LykkeProcess(*arguments, "--max-deliveries", 1_000, env=env)

    with ExitStack() as one, ExitStack() as other:
        members = [(one, targets[0]), (other, targets[1])]
        with Filling(server) as filling:
            for stack, target in members:
                stack.enter_context(member(target))
            for _ in range(KILLS):
                time.sleep(rng.uniform(0.02, 0.5))  # the moment is what is random
                stack, target = rng.choice(members)
                stack.close()  # which is kill -9
                stack.enter_context(member(target))
        wait_until(
            lambda: set(filling.ids) <= set().union(*map(ids_in_so_far, targets)), "all are taken"
        )
        wait_until(lambda: not list(pending(client, "g")), "all are acknowledged")
    assert len(filling.ids) > 100
    found = [ids_in(target) for target in targets]
    assert set(found[0] + found[1]) == set(filling.ids)
    assert all(count == 1 for counted in found for count in counted.values())


def ids_in_so_far(path: Path) -> list[str]:
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    return [orjson.loads(line)["id"] for line in whole.splitlines()]


def test_redis_that_is_killed_and_empty_afterwards_is_gone_on_with(
    server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    target = tmp_path / "out.ndjson"
    first = fill(client, stream_entries(50))
    arguments = ("consume", "--group", "g", "--to-file", target)
    with LykkeProcess(*arguments, env={"REDIS_URL": server.url}) as consume:
        wait_until(lambda: len(ids_in_so_far(target)) == 50, "the first are taken")
        server.kill()
        consume.wait_for("was lost")
        server.start()
        consume.wait_for("the group g of auditlog:{00} was gone: made again")
        later = fill(client, stream_entries(50))
        wait_until(lambda: len(ids_in_so_far(target)) == 100, "the others are taken")
    assert ids_in(target) == Counter(first + later)


def test_a_frozen_member_takes_nothing_back_when_it_goes_on(
    server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """What it held another one has taken over, and acknowledged meanwhile."""
    env, lock, begun = {"REDIS_URL": server.url}, tmp_path / "lock", tmp_path / "begun"
    lock.touch()
    waits = f"sh -c 'touch {begun}; while [ -e {lock} ]; do sleep 0.05; done; cat'"
    written = fill(client, stream_entries(1))
    arguments = ("consume", "--group", "g", "--claim-after", "1s")
    with LykkeProcess(*arguments, "--consumer", "a", "--exec", waits, env=env) as frozen:
        wait_until(begun.exists, "it works on it")
        frozen.send(signal.SIGSTOP)
        other = run_lykke(*arguments, "--consumer", "b", "--count", 1, env=env)
        assert [row["id"] for row in other.rows] == written
        frozen.send(signal.SIGCONT)
        lock.unlink()
        assert frozen.row()["id"] == written[0]
        later = fill(client, stream_entries(1))
        assert frozen.row()["id"] == later[0]
        wait_until(lambda: not list(pending(client, "g")), "all are acknowledged")


def add_to(cluster: RedisCluster, entries: list[dict[str, Any]]) -> list[str]:
    """Each to the node that has its stream, and to that one's replica."""

    def on_owner(key: str, write: Callable[[redis.Redis], object]) -> None:
        def is_written() -> bool:
            at_once = Retry(NoBackoff(), 0)  # a node that was killed is not waited for
            for node in cluster.nodes:
                client = redis.Redis(port=node.port, socket_timeout=20, retry=at_once)
                with suppress(redis.RedisError), client:
                    write(client)
                    return True
            return False

        wait_until(is_written, f"a node has {key}")

    key = partitions_name("auditlog")
    on_owner(key, lambda client: client.set(key, 16, nx=True))
    by_stream: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        name = stream_name("auditlog", partition_of(uuid.UUID(entry["user_id"]), 16))
        by_stream.setdefault(name, []).append(entry)
    for name, some in by_stream.items():

        def write(client: redis.Redis, name: str = name, some: list[dict[str, Any]] = some) -> None:
            with client.pipeline(transaction=True) as pipeline:
                for entry in some:
                    pipeline.xadd(name, {"u": entry["user_id"], "e": orjson.dumps(entry)})
                pipeline.execute()

        on_owner(name, write)
    return [entry["id"] for entry in entries]


@pytest.mark.long
def test_a_cluster_whose_primary_is_killed_is_gone_on_with(
    cluster: RedisCluster, tmp_path: Path
) -> None:
    target, env = tmp_path / "out.ndjson", {"REDIS_URL": cluster.url}
    written = add_to(cluster, stream_entries(100))
    with LykkeProcess("consume", "--group", "g", "--to-file", target, env=env) as consume:
        wait_until(lambda: len(ids_in_so_far(target)) == 100, "the first are taken")
        cluster.primaries[0].kill()
        consume.wait_for("was lost")
        wait_until(
            lambda: cluster.replicas[0].ask("CLUSTER", "INFO").startswith("cluster_state:ok"),
            "another node has taken over",
        )
        written += add_to(cluster, stream_entries(100))
        wait_until(lambda: set(written) <= set(ids_in_so_far(target)), "the others are taken")
        assert "again" in consume.stderr
    assert ids_in(target) == Counter(written)
