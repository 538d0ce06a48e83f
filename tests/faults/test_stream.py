"""By streams: what cannot have come is a gap, and a tail with a database prints it all the same.

Without one it goes on where it was, however often it is killed.
"""

import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from lykke_cli import Gap
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.gateways.redis_stream import RedisStreamGateway
from lykke_cli.infrastructure.redis.cluster import slot_of
from lykke_cli.infrastructure.redis.stream_layout import (
    MESSAGE,
    PARTITIONS,
    USER,
    partition_of,
    stream_name,
    stream_names,
)
from tests.cli_process import LykkeProcess, run_lykke
from tests.faults.cluster import RedisCluster
from tests.faults.test_consume import Filling, add_to, ids_in, ids_in_so_far
from tests.faults.writer import FAST, Writer
from tests.servers import PostgresServer, RedisServer, wait_until
from tests.streams import fill, stream_entries

pytestmark = pytest.mark.long
SOON = 60.0  # seconds, on a machine that has much else to do
KILLS = 50


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with own_redis.client() as client:
        yield client


def by_streams(server: RedisServer) -> dict[str, str]:
    """Without a database."""
    return {"REDIS_URL": server.url, "LYKKE_TRANSPORT": "stream"}


def test_a_tail_prints_what_the_relay_writes_whatever_befalls_the_streams(
    postgres_server: PostgresServer, postgres_database: str, own_redis: RedisServer
) -> None:
    with Writer(postgres_server, postgres_database, own_redis, lose=1) as writer:
        env = {"DATABASE_URL": writer.url, "REDIS_URL": own_redis.url}
        options = ("--since", "40d", "--transport", "stream", *FAST)
        with (
            LykkeProcess("relay", env=env) as relay,
            LykkeProcess("tail", writer.user, *options, env=env) as tail,
        ):
            tail.wait_for("following", SOON)
            relay.wait_for("relaying into", SOON)
            writer.wait_for(30)
            with own_redis.client() as client:
                client.delete(stream_name("auditlog", partition_of(writer.user, PARTITIONS)))
            tail.wait_for("connected again", SOON)
            writer.wait_for(30)
            own_redis.kill()
            writer.wait_for(30)
            own_redis.start()
            tail.wait_for("connected again", SOON, times=2)
            writer.wait_for(30)
            writer.assert_printed_exactly_once(tail, deadline=SOON)


@pytest.mark.parametrize("how", ["trimmed", "deleted", "went back"])
async def test_what_cannot_have_come_is_a_gap(own_redis: RedisServer, how: str) -> None:
    user = uuid.uuid4()
    stream = stream_name("auditlog", partition_of(user, PARTITIONS))
    async with RedisStreamGateway(f"{own_redis.url}?transport=stream") as gateway:
        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            await gateway.publish_to_user_channel(user, "auditlog", {"n": 1})
            assert await subscription.get_message(SOON) == {"n": 1}
            with own_redis.client() as client, client.pipeline() as pipeline:
                if how != "trimmed":
                    pipeline.delete(stream)
                if how == "went back":
                    pipeline.xadd(stream, {USER: str(user), MESSAGE: b"{}"}, id="1-1")
                if how == "trimmed":
                    for number in range(3):
                        fields = {USER: str(user), MESSAGE: b'{"n":%d}' % number}
                        pipeline.xadd(stream, fields)
                    pipeline.xtrim(stream, maxlen=1, approximate=False)
                pipeline.execute()
            assert isinstance(await subscription.get_message(SOON, gaps=True), Gap)
            await gateway.publish_to_user_channel(user, "auditlog", {"n": 2})
            assert await subscription.get_message(SOON) == {"n": 2}


def begin(*arguments: object, env: dict[str, str]) -> None:
    """A run that has followed from now on into the file, and stored its place."""
    with LykkeProcess(*arguments, env=env) as tail:
        tail.wait_for("lykke: following ", SOON)
        assert tail.stop().status == ExitCode.INTERRUPTED


def test_killed_at_fifty_random_moments_without_a_database(
    own_redis: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    target, rng, env = tmp_path / "audit.ndjson", random.Random(11), by_streams(own_redis)
    arguments = ("tail", "--all", "--to-file", target)
    fill(client, stream_entries(10))
    begin(*arguments, env=env)
    with Filling(own_redis) as filling:
        for _ in range(KILLS):
            with LykkeProcess(*arguments, env=env):
                size, until = len(ids_in_so_far(target)), time.monotonic() + rng.uniform(0.05, 1)
                while time.monotonic() < until and len(ids_in_so_far(target)) == size:
                    time.sleep(0.001)
                time.sleep(rng.uniform(0, 0.02))  # leaving the block is kill -9
    with LykkeProcess(*arguments, env=env) as tail:
        wait_until(lambda: len(ids_in_so_far(target)) >= len(filling.ids), "it is complete", SOON)
        assert "GAP" not in tail.stop().stderr
    assert len(filling.ids) > 100
    assert ids_in(target) == Counter(filling.ids)


@pytest.mark.parametrize("how", ["trimmed", "deleted", "flushed"])
def test_what_streams_lost_between_two_runs_is_a_gap_and_the_rest_is_written_once(
    own_redis: RedisServer, client: redis.Redis, tmp_path: Path, how: str
) -> None:
    target, env = tmp_path / "audit.ndjson", by_streams(own_redis)
    arguments = ("tail", "--all", "--to-file", target)
    fill(client, ())
    begin(*arguments, env=env)
    with LykkeProcess(*arguments, env=env) as tail:
        first = fill(client, stream_entries(100))
        wait_until(lambda: len(ids_in_so_far(target)) == 100, "the first are written", SOON)
        tail.stop()
    lost = fill(client, stream_entries(100))
    names = [name for name in stream_names("auditlog", PARTITIONS) if client.exists(name)]
    match how:
        case "trimmed":
            for name in names:
                client.xtrim(name, maxlen=0, approximate=False)
        case "deleted":
            client.delete(*names)
        case "flushed":
            client.flushall()
    kept = fill(client, stream_entries(100))
    with LykkeProcess(*arguments, env=env) as tail:
        tail.wait_for("GAP from", SOON)
        wait_until(lambda: len(ids_in_so_far(target)) >= 200, "the others are written", SOON)
        tail.stop()
    assert ids_in(target) == Counter(first + kept)
    assert not set(lost) & set(ids_in(target))
    assert "GAP" not in run_lykke(*arguments, "--timeout", "1s", env=env, timeout=SOON).stderr


def test_streams_that_the_relay_writes_again_are_written_once(
    postgres_server: PostgresServer, postgres_database: str, own_redis: RedisServer, tmp_path: Path
) -> None:
    target, env = tmp_path / "audit.ndjson", by_streams(own_redis)
    with Writer(postgres_server, postgres_database, own_redis, lose=1) as writer:
        arguments = ("tail", writer.user, "--to-file", target)
        with (
            LykkeProcess("relay", env=env | {"DATABASE_URL": writer.url}) as relay,
            own_redis.client() as client,
        ):
            begin(*arguments, env=env)
            relay.wait_for("relaying into", SOON)
            client.flushall()  # what the relay had written by then comes with the rest
            for _ in range(3):
                with LykkeProcess(*arguments, env=env):
                    goal = len(ids_in_so_far(target)) + 30
                    writer.wait_for(30)
                    wait_until(lambda: len(ids_in_so_far(target)) >= goal, "more comes", SOON)  # noqa: B023
                client.flushall()
            writer.stop()
            committed = writer.committed()
            with LykkeProcess(*arguments, env=env):
                wait_until(
                    lambda: len(ids_in_so_far(target)) >= len(committed), "it is complete", SOON
                )
    assert ids_in(target) == committed


def test_slots_that_move_with_their_streams_lose_and_repeat_nothing(
    cluster: RedisCluster, tmp_path: Path
) -> None:
    followed, shared = tmp_path / "tail.ndjson", tmp_path / "consume.ndjson"
    env = {"REDIS_URL": cluster.url, "LYKKE_TRANSPORT": "stream"}
    arguments = ("tail", "--all", "--to-file", followed)
    begin(*arguments, env=env)
    written = add_to(cluster, stream_entries(100))
    source, target = cluster.primaries[:2]
    with (
        LykkeProcess(*arguments, env=env) as tail,
        LykkeProcess("consume", "--group", "g", "--to-file", shared, env=env) as consume,
    ):

        def has_all(path: Path) -> bool:
            return set(written) <= set(ids_in_so_far(path))

        wait_until(lambda: has_all(followed) and has_all(shared), "the first are written", SOON)
        with redis.Redis(port=source.port) as here, redis.Redis(port=target.port) as there:
            slot, keys = next(
                (slot, keys)
                for slot in map(slot_of, map(str.encode, stream_names("auditlog", PARTITIONS)))
                if (keys := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 9))
            )
            there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
            here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
            here.execute_command(
                *("MIGRATE", "127.0.0.1", target.port, "", 0, 20_000, "KEYS", *keys)
            )
            for process in (tail, consume):  # which ask where it is not any more
                process.wait_for(f"(ASK {slot}", SOON)
            for node in (there, here):
                node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target.id)
        for process in (tail, consume):
            process.wait_for("again", SOON)
        written += add_to(cluster, stream_entries(100))
        wait_until(lambda: has_all(followed) and has_all(shared), "the others are written", SOON)
    assert ids_in(followed) == ids_in(shared) == Counter(written)


def test_streams_of_a_cluster_are_gone_on_with(cluster: RedisCluster, tmp_path: Path) -> None:
    target = tmp_path / "audit.ndjson"
    env = {"REDIS_URL": cluster.url, "LYKKE_TRANSPORT": "stream"}
    arguments = ("tail", "--all", "--to-file", target)
    begin(*arguments, env=env)
    written = add_to(cluster, stream_entries(100))
    with LykkeProcess(*arguments, env=env) as tail:
        wait_until(lambda: len(ids_in_so_far(target)) == 100, "the first are written", SOON)
        cluster.primaries[0].kill()
        tail.wait_for("trying again", SOON)
        tail.wait_for("connected again", SOON)
        written += add_to(cluster, stream_entries(100))
        wait_until(lambda: len(ids_in_so_far(target)) >= 200, "the others are written", SOON)
    assert ids_in(target) == Counter(written)
