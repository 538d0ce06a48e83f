"""Sharded Pub/Sub on a cluster: slots move and primaries die while a writer goes on."""

import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis

from lykke_cli import Channel, RedisShardedGateway, ServerUnavailable
from lykke_cli.application.messages import entity_message
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.redis.cluster import slot_of
from tests.cli_process import LykkeProcess, run_lykke
from tests.faults.cluster import ClusterNode, RedisCluster
from tests.faults.writer import Writer, everything
from tests.servers import PostgresServer, RedisServer, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

MESSAGE = {"type": "test"}


class ShardedWriter(Writer):
    """Publishes as an application on the gateway does."""

    gateway_url = ""
    _gateway: RedisShardedGateway | None = None

    async def _publish(self, client: "redis.Redis", new: AuditLogEntity) -> None:
        if self._gateway is None:
            self._gateway = RedisShardedGateway(self.gateway_url, connect_timeout=0.5)
        with suppress(ServerUnavailable):
            message = entity_message(new)
            await self._gateway.publish_to_user_channel(new.user_id, "auditlog", message)

    async def _write(self) -> None:
        await super()._write()
        if self._gateway is not None:
            await self._gateway.close()


@pytest.fixture
def url(cluster: RedisCluster) -> str:
    return f"{cluster.url}?transport=sharded"


@pytest.fixture
def writer(
    cluster: RedisCluster, url: str, postgres_server: PostgresServer, postgres_database: str
) -> Iterator[Writer]:
    writer = ShardedWriter(postgres_server, postgres_database, cluster.nodes[0], users=6)
    writer.gateway_url = url
    with writer:
        yield writer


@pytest.fixture
def env(writer: Writer, url: str) -> dict[str, str]:
    return {"DATABASE_URL": writer.url, "REDIS_URL": url}


def owner(cluster: RedisCluster, user: uuid.UUID) -> ClusterNode:
    """Whoever has the channel's slot, as the others see it."""
    slot = slot_of(f"auditlog:{user}".encode())
    for node in cluster.nodes:
        with suppress(redis.RedisError):
            for line in node.ask("CLUSTER", "NODES").splitlines():
                _, place, flags, *rest = line.split()
                if "master" not in flags or "fail" in flags.split(","):
                    continue
                for some in rest[5:]:
                    first, _, last = some.partition("-")
                    if first.isdigit() and int(first) <= slot <= int(last or first):
                        port = int(place.partition("@")[0].rpartition(":")[2])
                        return next(node for node in cluster.nodes if node.port == port)
    raise AssertionError("nobody has it")


def move(cluster: RedisCluster, user: uuid.UUID) -> None:
    """Give the channel's slot, which has no keys, to another primary."""
    slot, source = slot_of(f"auditlog:{user}".encode()), owner(cluster, user)
    target = next(node for node in cluster.primaries if node is not source)
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    for node in (target, source, *cluster.primaries):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    wait_until(lambda: owner(cluster, user) is target, "the slot has moved")


def assert_all_came(cluster: RedisCluster, writer: Writer, tail: LykkeProcess) -> None:
    writer.stop()
    owner(cluster, writer.user).cut_subscribers()  # those back-dated wait for a full read
    writer.assert_printed_exactly_once(tail)


def test_a_slot_moves_during_a_tail(
    cluster: RedisCluster, writer: Writer, env: dict[str, str]
) -> None:
    with everything(writer, env) as following:
        following.wait_for("following")
        for number in range(2):
            writer.wait_for(100)
            move(cluster, writer.user)
            following.wait_for("the channel has moved to another server", times=number + 1)
            following.wait_for("connected again", times=number + 1)
        writer.wait_for(100)
        assert_all_came(cluster, writer, following)


def test_a_replica_is_promoted_by_hand(
    cluster: RedisCluster, writer: Writer, env: dict[str, str]
) -> None:
    with everything(writer, env) as following:
        following.wait_for("following")
        writer.wait_for(100)
        number = cluster.primaries.index(owner(cluster, writer.user))
        replica = cluster.replicas[number]
        replica.ask("CLUSTER", "FAILOVER")
        wait_until(lambda: owner(cluster, writer.user) is replica, "it is promoted")
        writer.wait_for(200)
        assert_all_came(cluster, writer, following)


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_primary_goes(
    cluster: RedisCluster, writer: Writer, env: dict[str, str], how: str
) -> None:
    with everything(writer, env) as following:
        following.wait_for("following")
        writer.wait_for(100)
        node = owner(cluster, writer.user)
        getattr(node, how)()
        replica = cluster.replicas[cluster.primaries.index(node)]
        following.wait_for(
            f"127.0.0.1:{replica.port} is followed now, no longer 127.0.0.1:{node.port}"
        )
        wait_until(lambda: owner(cluster, writer.user) is replica, "a fail-over", 30)
        writer.wait_for(200)
        if how == "freeze":
            node.thaw()
        assert_all_came(cluster, writer, following)


async def test_users_on_every_shard_are_one_subscription(cluster: RedisCluster, url: str) -> None:
    users = [uuid.uuid4() for _ in range(30)]
    async with RedisShardedGateway(url) as gateway:
        first, later = users[:20], users[20:]
        async with gateway.subscribe_to_channels(map(Channel, first)) as subscription:
            await subscription.add(map(Channel, later))
            messages = [(user, MESSAGE | {"n": str(user)}) for user in users]
            assert await gateway.publish_many("auditlog", messages) == [1] * len(users)
            came = [await subscription.get_message(5) for _ in users]
            assert {str(m["n"]) for m in came if isinstance(m, dict)} == set(map(str, users))
            await subscription.remove(map(Channel, users[:5]))
            counts = await gateway.publish_many("auditlog", messages)
            assert counts == [0] * 5 + [1] * 25


async def test_what_moved_is_published_where_it_is_now(cluster: RedisCluster, url: str) -> None:
    user = uuid.uuid4()
    async with RedisShardedGateway(url) as gateway:
        assert await gateway.publish_to_user_channel(user, "auditlog", MESSAGE) == 0
        move(cluster, user)
        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            assert await gateway.publish_to_user_channel(user, "auditlog", MESSAGE) == 1
            assert await subscription.get_message(5) == MESSAGE


async def test_one_server_will_do(redis_server: RedisServer) -> None:
    user = uuid.uuid4()
    async with RedisShardedGateway(f"{redis_server.url}?transport=sharded") as gateway:
        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            assert await gateway.publish_to_user_channel(user, "auditlog", MESSAGE) == 1
            assert await subscription.get_message(5) == MESSAGE


def test_every_user_at_once_is_refused(redis_server: RedisServer) -> None:
    env = {"REDIS_URL": f"{redis_server.url}?transport=sharded"}
    result = run_lykke("tail", "--all", "--live-only", env=env)
    assert result.status == ExitCode.USAGE
    [line] = result.stderr.splitlines()
    assert "Sharded Pub/Sub has no subscription to every user" in line


def test_channels_and_doctor_know_shards(cluster: RedisCluster, url: str) -> None:
    user, env = uuid.uuid4(), {"REDIS_URL": url}
    with LykkeProcess("tail", user, "--live-only", env=env) as following:
        following.wait_for("following")
        [row] = run_lykke("channels", "-o", "ndjson", env=env).rows
        assert (row["channel"], row["subscribers"]) == (f"auditlog:{user}", 1)
        [report] = run_lykke("doctor", "-o", "json", env=env).rows
        checks = {check["id"]: check for check in report["checks"]}
        assert checks["redis.right.subscribe"]["detail"] == "SSUBSCRIBE auditlog:*"
        assert checks["redis.right.publish"]["detail"] == "SPUBLISH auditlog:*"
        assert checks["redis.right.psubscribe"]["status"] == "skipped"
