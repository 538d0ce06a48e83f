"""Where Sentinels watch the server: a tail and those who publish find the new primary."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from lykke_cli import Gap, RedisPubSubGateway
from lykke_cli.cli.exit_codes import ExitCode
from tests.cli_process import DEADLINE, run_lykke
from tests.faults.listener import listening
from tests.faults.proxy import Proxy
from tests.faults.sentinels import SERVICE, Sentinel, Watched
from tests.faults.writer import GatewayWriter, RecordingWriter, Writer, everything
from tests.servers import PostgresServer, RedisServer, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def watched() -> Iterator[Watched]:
    with Watched() as watched:
        yield watched


@pytest.fixture
def env(watched: Watched, postgres_url: str) -> dict[str, str]:
    return {"DATABASE_URL": postgres_url, "REDIS_URL": watched.url}


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_tail_goes_on_at_the_new_primary(
    watched: Watched,
    postgres_server: PostgresServer,
    postgres_database: str,
    env: dict[str, str],
    how: str,
) -> None:
    with (
        Writer(postgres_server, postgres_database, watched.replica) as writer,
        everything(writer, env) as tail,
    ):
        first, second = (f"127.0.0.1:{one.port}" for one in (watched.primary, watched.replica))
        tail.wait_for(f"following auditlog:{writer.user} at {first}")
        writer.wait_for(30)
        getattr(watched.primary, how)()
        tail.wait_for("trying again")
        watched.wait_for_fail_over(watched.replica)
        tail.wait_for("connected again")
        tail.wait_for(f"{second} is followed now, no longer {first}")
        writer.wait_for(30)
        with watched.replica.client() as client:
            wait_until(
                lambda: client.pubsub_numsub(f"auditlog:{writer.user}")[0][1] == 1, "it is followed"
            )
        writer.assert_printed_exactly_once(tail)
        if how == "freeze":
            watched.primary.thaw()


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_who_publishes_finds_the_new_primary(watched: Watched, how: str) -> None:
    user, message = uuid.uuid4(), {"type": "test"}
    async with RedisPubSubGateway(watched.url, health_interval=0.5) as gateway:
        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            assert await gateway.publish_to_user_channel(user, "auditlog", message) == 1
            assert await subscription.get_message(DEADLINE) == message
            await asyncio.to_thread(getattr(watched.primary, how))
            await asyncio.to_thread(watched.wait_for_fail_over, watched.replica)
            while not isinstance(await subscription.get_message(DEADLINE, gaps=True), Gap):
                pass
            if how == "freeze":  # the old one takes itself for the primary when it wakes up
                watched.primary.thaw()
            assert await gateway.publish_to_user_channel(user, "auditlog", message) == 1
            assert await subscription.get_message(DEADLINE) == message


def test_a_planned_fail_over_during_a_tail_loses_nothing(
    watched: Watched, postgres_server: PostgresServer, postgres_database: str, env: dict[str, str]
) -> None:
    with (
        Writer(postgres_server, postgres_database, watched.primary) as writer,
        everything(writer, env) as tail,
    ):
        tail.wait_for("following")
        writer.wait_for(30)
        with watched.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE)
        watched.wait_for_fail_over(watched.replica)
        tail.wait_for("connected again")
        writer.wait_for(30)  # to what is a replica now: these broadcasts reach nobody
        writer.stop()
        watched.replica.cut_subscribers()  # after which a tail reads everything
        writer.assert_printed_exactly_once(tail)


def fail_over(watched: Watched, how: str) -> None:
    """Begin one, by hand where nothing happens to the primary."""
    if how == "by hand":
        with watched.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE)
    else:
        getattr(watched.primary, how)()


@pytest.mark.parametrize("how", ["kill", "freeze", "by hand"])
def test_the_unit_of_work_goes_on_at_the_new_primary(
    watched: Watched,
    postgres_server: PostgresServer,
    postgres_database: str,
    env: dict[str, str],
    how: str,
) -> None:
    make = partial(RedisPubSubGateway, watched.url, connect_timeout=0.5)
    with (
        RecordingWriter(make, postgres_server, postgres_database, watched.primary) as writer,
        everything(writer, env) as tail,
    ):
        tail.wait_for("following")
        writer.wait_for(30)
        fail_over(watched, how)
        watched.wait_for_fail_over(watched.replica)
        if how == "freeze":  # it takes itself for the primary when it wakes up
            watched.primary.thaw()
        tail.wait_for("connected again")
        wait_until(lambda: is_published_to(watched.replica), "it broadcasts by the new primary")
        writer.wait_for(30)
        writer.stop()
        watched.replica.cut_subscribers()  # those back-dated wait for a full read
        writer.assert_printed_exactly_once(tail)


def is_published_to(server: RedisServer) -> bool:
    with server.client() as client:
        return "cmdstat_publish" in client.info("commandstats")


@pytest.mark.parametrize("how", ["kill", "freeze", "by hand"])
async def test_without_a_database_what_is_missing_lies_in_a_gap(
    watched: Watched, postgres_server: PostgresServer, postgres_database: str, how: str
) -> None:
    make = partial(RedisPubSubGateway, watched.url, connect_timeout=0.5, health_interval=0.5)
    writer = GatewayWriter(make, postgres_server, postgres_database, watched.primary)
    with writer:
        async with listening(writer.user, make()) as listener:
            await asyncio.to_thread(writer.wait_for, 30)
            fail_over(watched, how)
            await asyncio.to_thread(watched.wait_for_fail_over, watched.replica)
            if how == "freeze":
                watched.primary.thaw()
            await listener.until_gaps(1)
            await asyncio.to_thread(writer.wait_for, 30)
            await listener.assert_what_is_missing_was_told(writer)


def test_a_subscription_is_not_taken_to_a_replica_at_the_primarys_address(
    postgres_server: PostgresServer, postgres_database: str, postgres_url: str
) -> None:
    with ExitStack() as stack:
        fronts = [stack.enter_context(Proxy(0)) for _ in range(5)]
        watched = stack.enter_context(Watched(fronts))
        env = {"DATABASE_URL": postgres_url, "REDIS_URL": watched.url}
        writer = stack.enter_context(Writer(postgres_server, postgres_database, watched.primary))
        tail = stack.enter_context(everything(writer, env))
        tail.wait_for("following")
        writer.wait_for(30)
        fronts[0].lead_to(watched.replica.port)
        watched.primary.cut_subscribers()
        tail.wait_for("trying again")
        wait_until(lambda: was_asked(watched.replica), "its role is asked")
        writer.wait_for(100)
        with watched.replica.client() as client:
            assert client.pubsub_numsub(f"auditlog:{writer.user}")[0][1] == 0
        fronts[0].lead_to(watched.primary.port)
        tail.wait_for("connected again")
        writer.assert_printed_exactly_once(tail)


def was_asked(server: RedisServer) -> bool:
    with server.client() as client:
        return "cmdstat_role" in client.info("commandstats")


def test_a_sentinel_that_lies_is_outvoted(watched: Watched, env: dict[str, str]) -> None:
    with RedisServer() as other, Sentinel(other.port) as liar:
        url = watched.url.replace("//", f"//127.0.0.1:{liar.port},")
        result = run_lykke("publish", uuid.uuid4(), env=env | {"REDIS_URL": url})
        assert result.status == ExitCode.DONE
        with other.client() as client:
            assert client.info("commandstats").get("cmdstat_publish") is None


def test_most_sentinels_may_be_away(watched: Watched, env: dict[str, str]) -> None:
    watched.sentinels[0].kill()
    watched.sentinels[1].freeze()
    [report] = run_lykke("doctor", "-o", "json", env=env).rows
    checks = {check["id"]: check for check in report["checks"]}
    assert f"127.0.0.1:{watched.primary.port} answers" in checks["redis.reachable"]["detail"]
    assert checks["redis.sentinel"]["status"] == "warning"
    assert "1 of 3 name it" in checks["redis.sentinel"]["detail"]
    assert run_lykke("channels", env=env).status == ExitCode.DONE
    watched.sentinels[1].thaw()


@pytest.mark.parametrize(
    "service, text",
    [("nothing", "watches nothing named nothing"), (SERVICE, "connection refused")],
)
def test_what_no_sentinel_knows_is_told_in_a_line(
    watched: Watched, env: dict[str, str], service: str, text: str
) -> None:
    url = watched.url.replace(SERVICE, service)
    if service == SERVICE:
        for sentinel in watched.sentinels:
            sentinel.kill()
    result = run_lykke("publish", uuid.uuid4(), env=env | {"REDIS_URL": url})
    assert (result.status, result.stdout) == (ExitCode.UNAVAILABLE, b"")
    [line] = result.stderr.splitlines()
    assert text in line
