"""Where Redis is a cluster: nodes are killed, frozen and cut off while a writer goes on."""

import asyncio
import uuid
from functools import partial

import pytest

from lykke_cli import RedisPubSubGateway
from lykke_cli.cli.exit_codes import ExitCode
from tests.builders import entity, wire
from tests.cli_process import DEADLINE, LykkeProcess, run_lykke
from tests.faults.cluster import ClusterNode, RedisCluster
from tests.faults.listener import listening
from tests.faults.writer import FAST, GatewayWriter, Writer, everything
from tests.servers import PostgresServer, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def env(cluster: RedisCluster, postgres_url: str) -> dict[str, str]:
    return {"DATABASE_URL": postgres_url, "REDIS_URL": cluster.url}


def node_of(cluster: RedisCluster, writer: Writer) -> ClusterNode:
    """The node by which it is followed."""
    node = wait_until(lambda: cluster.followed(f"auditlog:{writer.user}"), "it is followed")
    assert node is not None
    return node


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_the_followed_node_goes_during_a_tail(
    cluster: RedisCluster,
    postgres_server: PostgresServer,
    postgres_database: str,
    env: dict[str, str],
    how: str,
) -> None:
    with Writer(postgres_server, postgres_database, cluster.replicas[0]) as writer:
        with everything(writer, env) as tail:
            tail.wait_for("following")
            for number in range(3):
                writer.wait_for(30)
                node = node_of(cluster, writer)
                getattr(node, how)()
                tail.wait_for("connected again", times=number + 1)
                writer.wait_for(30)
                if how == "kill":
                    node.start()
                else:
                    node.thaw()
                wait_until(lambda: all(n.is_joined() for n in cluster.nodes), "all are joined")
            writer.stop()
            node_of(cluster, writer).cut_subscribers()
            writer.assert_printed_exactly_once(tail)


def test_what_is_published_by_a_node_that_is_new_comes_live(
    cluster: RedisCluster, env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    with ClusterNode() as new, LykkeProcess("tail", user, "--live-only", env=env) as tail:
        tail.wait_for("following")
        cluster.join(new)
        with new.client() as client:
            client.publish(f"auditlog:{user}", wire(entity(user)))
        wait_until(lambda: b"\n" in tail.stdout, "it is printed")


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_without_a_database_what_is_missing_lies_in_a_gap(
    cluster: RedisCluster, postgres_server: PostgresServer, postgres_database: str, how: str
) -> None:
    make = partial(RedisPubSubGateway, cluster.url, connect_timeout=0.5, health_interval=0.5)
    with GatewayWriter(make, postgres_server, postgres_database, cluster.nodes[0]) as writer:
        async with listening(writer.user, make()) as listener:
            await asyncio.to_thread(writer.wait_for, 30)
            node = await asyncio.to_thread(node_of, cluster, writer)
            await asyncio.to_thread(getattr(node, how))
            await listener.until_gaps(1)
            await asyncio.to_thread(writer.wait_for, 30)
            if how == "freeze":
                node.thaw()
            await listener.assert_what_is_missing_was_told(writer)


async def test_what_is_published_by_one_node_arrives_by_another(cluster: RedisCluster) -> None:
    """As none of the nodes is named twice, some of twenty pairs are of different nodes."""
    user, message = uuid.uuid4(), {"type": "test"}
    for _ in range(20):
        async with (
            RedisPubSubGateway(cluster.url) as reader,
            RedisPubSubGateway(cluster.url) as writer,
            reader.subscribe_to_user_channel(user, "auditlog") as subscription,
        ):
            await writer.publish_to_user_channel(user, "auditlog", message)
            assert await subscription.get_message(DEADLINE) == message


def test_a_node_that_is_not_joined_is_not_followed(
    cluster: RedisCluster, env: dict[str, str]
) -> None:
    with ClusterNode() as alone:
        url = env | {"REDIS_URL": f"redis+cluster://127.0.0.1:{alone.port}"}
        result = run_lykke("publish", uuid.uuid4(), env=url)
        assert result.status == ExitCode.UNAVAILABLE
        assert "is not joined with most of the cluster" in result.stderr
        both = env | {"REDIS_URL": f"{cluster.url},127.0.0.1:{alone.port}"}
        for _ in range(5):
            assert run_lykke("publish", uuid.uuid4(), env=both).status == ExitCode.DONE
        with alone.client() as client:
            assert "cmdstat_publish" not in client.info("commandstats")


def test_one_host_is_enough_to_find_the_others(
    cluster: RedisCluster,
    postgres_server: PostgresServer,
    postgres_database: str,
    env: dict[str, str],
) -> None:
    first = cluster.nodes[0]
    url = {"REDIS_URL": f"redis+cluster://127.0.0.1:{first.port}"}
    with (
        Writer(postgres_server, postgres_database, cluster.nodes[1]) as writer,
        everything(writer, env | url) as tail,
    ):
        tail.wait_for("following")
        writer.wait_for(30)
        assert node_of(cluster, writer) is first
        first.kill()
        tail.wait_for("connected again")
        writer.wait_for(30)
        assert node_of(cluster, writer) is not first
        writer.stop()
        node_of(cluster, writer).cut_subscribers()
        writer.assert_printed_exactly_once(tail)


def test_channels_counts_on_every_node_and_doctor_looks_at_each(
    cluster: RedisCluster, env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    listeners = []
    for node in cluster.nodes:
        subscribed = node.client().pubsub()  # type: ignore[no-untyped-call]
        subscribed.subscribe(f"auditlog:{user}")
        subscribed.get_message(timeout=5)
        listeners.append(subscribed)
    [row] = run_lykke("channels", "-o", "ndjson", env=env).rows
    assert row["subscribers"] == 6
    for listener in listeners:
        listener.close()
    cluster.nodes[5].kill()
    [report] = run_lykke("doctor", "-o", "json", env=env).rows
    [check] = [one for one in report["checks"] if one["id"] == "redis.cluster"]
    assert check["status"] == "warning"
    assert "6 nodes, 3 of them primaries" in check["detail"]
    assert f"127.0.0.1:{cluster.nodes[5].port}: connection refused" in check["detail"]


@pytest.mark.parametrize("more", [(), ("--live-only",)], ids=["database", "live only"])
def test_a_node_that_was_detached_is_left_though_it_answers(
    cluster: RedisCluster,
    postgres_server: PostgresServer,
    postgres_database: str,
    env: dict[str, str],
    more: tuple[str, ...],
) -> None:
    nodes = ",".join(f"127.0.0.1:{node.port}" for node in cluster.primaries)
    env["REDIS_URL"] = f"redis+cluster://{nodes}"  # not what the writer publishes by
    with (
        Writer(postgres_server, postgres_database, cluster.replicas[0]) as writer,
        LykkeProcess("tail", writer.user, *FAST, *more, env=env) as tail,
    ):
        tail.wait_for("following")
        node = node_of(cluster, writer)
        writer.wait_for(30)
        node.ask("CLUSTER", "RESET", "HARD")
        tail.wait_for("is not joined with most of the cluster")
        tail.wait_for("connected again")
        assert node_of(cluster, writer) is not node
