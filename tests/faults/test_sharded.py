"""Sharded Pub/Sub on a cluster: slots move and primaries die while a writer goes on."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial

import pytest
import redis

from lykke_cli import Channel, RedisShardedGateway
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.redis.cluster import slot_of
from tests.cli_process import DEADLINE, LykkeProcess, run_lykke
from tests.faults.cluster import NODES, ClusterNode, RedisCluster
from tests.faults.listener import listening
from tests.faults.proxy import Proxy
from tests.faults.writer import GatewayWriter, Writer, everything
from tests.servers import PostgresServer, RedisServer, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

MESSAGE = {"type": "test"}


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RedisCluster]:
    """Of any server that is at hand; `valkey` asks for that one."""
    with ExitStack() as stack:
        with monkeypatch.context() as patched:
            if getattr(request, "param", "any") == "valkey":
                patched.setenv("LYKKE_TEST_SERVERS", "wheel")
            cluster = stack.enter_context(RedisCluster())
        yield cluster


@pytest.fixture
def url(cluster: RedisCluster) -> str:
    return f"{cluster.url}?transport=sharded"


@pytest.fixture
def writer(
    cluster: RedisCluster, url: str, postgres_server: PostgresServer, postgres_database: str
) -> Iterator[Writer]:
    make = partial(RedisShardedGateway, url, connect_timeout=0.5)
    with GatewayWriter(
        make, postgres_server, postgres_database, cluster.nodes[0], users=6
    ) as writer:
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
                        return next(node for node in cluster.nodes if node.found_at == port)
    raise AssertionError("nobody has it")


def set_slot(cluster: RedisCluster, slot: int, source: ClusterNode, target: ClusterNode) -> None:
    """As one does it by hand, for a slot without keys."""
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    for node in (target, source, *cluster.primaries):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)


def migrate_slots(
    cluster: RedisCluster, slot: int, source: ClusterNode, target: ClusterNode
) -> None:
    """As Valkey does it by itself, from its version 9 on."""
    source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)


def move(
    cluster: RedisCluster,
    user: uuid.UUID,
    how: Callable[..., None] = set_slot,
    *,
    target: ClusterNode | None = None,
) -> None:
    """Give the channel's slot to another primary."""
    source = owner(cluster, user)
    target = target or next(node for node in cluster.primaries if node is not source)
    how(cluster, slot_of(f"auditlog:{user}".encode()), source, target)
    wait_until(lambda: owner(cluster, user) is target, "the slot has moved")


def assert_all_came(cluster: RedisCluster, writer: Writer, tail: LykkeProcess) -> None:
    writer.stop()
    owner(cluster, writer.user).cut_subscribers()  # those back-dated wait for a full read
    writer.assert_printed_exactly_once(tail)


@pytest.mark.parametrize(
    ("cluster", "how"),
    [("any", set_slot), ("valkey", migrate_slots)],
    indirect=["cluster"],
    ids=["SETSLOT", "MIGRATESLOTS"],
)
def test_a_slot_moves_during_a_tail(
    cluster: RedisCluster, writer: Writer, env: dict[str, str], how: Callable[..., None]
) -> None:
    with everything(writer, env) as following:
        following.wait_for("following")
        for number in range(2):
            writer.wait_for(100)
            move(cluster, writer.user, how)
            following.wait_for("the channel has moved to another server", times=number + 1)
            following.wait_for("connected again", times=number + 1)
        writer.wait_for(100)
        assert_all_came(cluster, writer, following)


def test_a_slot_moves_to_a_node_that_is_new(
    cluster: RedisCluster, writer: Writer, env: dict[str, str]
) -> None:
    with ClusterNode() as new, everything(writer, env) as following:
        following.wait_for("following")
        writer.wait_for(100)
        cluster.join(new)
        move(cluster, writer.user, target=new)
        following.wait_for(f"127.0.0.1:{new.port} is followed now")
        writer.wait_for(100)
        assert_all_came(cluster, writer, following)


async def test_without_a_database_what_is_missing_lies_in_a_gap(
    cluster: RedisCluster, writer: GatewayWriter, url: str
) -> None:
    gateway = RedisShardedGateway(url, connect_timeout=0.5, health_interval=0.5)
    async with listening(writer.user, gateway) as listener:
        await asyncio.to_thread(writer.wait_for, 100)
        await asyncio.to_thread(move, cluster, writer.user)
        await listener.until_gaps(1)
        await asyncio.to_thread(writer.wait_for, 100)
        await asyncio.to_thread(owner(cluster, writer.user).kill)
        await listener.until_gaps(2)
        await asyncio.to_thread(writer.wait_for, 100)
        await listener.assert_what_is_missing_was_told(writer)


@pytest.mark.parametrize("of_its_own", [False, True], ids=["a wrong node", "its replica"])
def test_the_address_of_a_node_leads_to_another_one(
    postgres_server: PostgresServer, postgres_database: str, of_its_own: bool
) -> None:
    """A wrong one is not taken; its own replica is told what its primary is."""
    with ExitStack() as stack:
        fronts = [stack.enter_context(Proxy(0)) for _ in range(NODES)]
        cluster = stack.enter_context(RedisCluster(fronts))
        url = f"{cluster.url}?transport=sharded"
        make = partial(RedisShardedGateway, url, connect_timeout=0.5)
        given = postgres_server, postgres_database, cluster.nodes[0]
        writer = stack.enter_context(GatewayWriter(make, *given, users=6))
        env = {"DATABASE_URL": writer.url, "REDIS_URL": url}
        following = stack.enter_context(everything(writer, env))
        following.wait_for("following")
        writer.wait_for(100)
        node = owner(cluster, writer.user)
        number = cluster.primaries.index(node)
        other = cluster.replicas[number] if of_its_own else cluster.primaries[number - 1]
        fronts[number].lead_to(other.port)
        node.cut_subscribers()
        following.wait_for("trying again")
        if not of_its_own:
            wait_until(lambda: was_asked(other), "the other one refuses")
            assert "connected again" not in following.stderr
            fronts[number].lead_to(node.port)
        following.wait_for("connected again")
        if of_its_own:
            with other.client() as client:
                assert client.pubsub_shardnumsub(f"auditlog:{writer.user}")[0][1] == 1
            fronts[number].lead_to(node.port)
        writer.wait_for(100)
        writer.stop()
        for one in (node, other):
            one.cut_subscribers()
        writer.assert_printed_exactly_once(following)


def was_asked(node: ClusterNode) -> bool:
    """Whether somebody wanted to subscribe there."""
    with node.client() as client:
        return "cmdstat_ssubscribe" in client.info("commandstats")


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
            came = [await subscription.get_message(DEADLINE) for _ in users]
            assert {str(m["n"]) for m in came if isinstance(m, dict)} == set(map(str, users))
            await subscription.remove(map(Channel, users[:5]))
            counts = await gateway.publish_many("auditlog", messages)
            assert counts == [0] * 5 + [1] * 25


async def test_what_moved_is_published_where_it_is_now(cluster: RedisCluster, url: str) -> None:
    user = uuid.uuid4()
    async with RedisShardedGateway(url) as gateway:
        assert await gateway.publish_to_user_channel(user, "auditlog", MESSAGE) == 0
        move(cluster, user)
        assert await gateway.publish_to_user_channel(user, "auditlog", MESSAGE) == 0
        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            assert await gateway.publish_to_user_channel(user, "auditlog", MESSAGE) == 1
            assert await subscription.get_message(DEADLINE) == MESSAGE


async def test_one_server_will_do(redis_server: RedisServer) -> None:
    user = uuid.uuid4()
    async with RedisShardedGateway(f"{redis_server.url}?transport=sharded") as gateway:
        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            assert await gateway.publish_to_user_channel(user, "auditlog", MESSAGE) == 1
            assert await subscription.get_message(DEADLINE) == MESSAGE


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
