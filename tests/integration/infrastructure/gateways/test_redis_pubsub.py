"""The gateway on a real server: what it leaves behind, what it survives, what it says."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from redis.asyncio import ConnectionPool, Redis

from lykke_cli import Channel, Gap, RedisPubSubGateway
from lykke_cli.application.errors import (
    LoginRefused,
    ServerUnavailable,
    SubscriptionClosed,
    SubscriptionLost,
    UsageMistake,
)
from lykke_cli.infrastructure.gateways import redis_pubsub
from lykke_cli.infrastructure.unit_of_work import BROADCAST_TIMEOUT
from tests.faults.proxy import Proxy
from tests.servers import RedisServer, wait_until

USER, OTHER, NOBODY = uuid.UUID(int=7), uuid.UUID(int=8), uuid.UUID(int=9)
CHANNEL = f"auditlog:{USER}"
SOON = 20.0  # seconds in which what is expected must come
SHORT = 0.5  # seconds: a health interval for tests
LONGER = 2.0  # seconds in which what is not frozen answers
MAJOR = int(redis.__version__.partition(".")[0])


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop run until it is so; the test's time-out is the limit."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def clients(server: RedisServer, **wanted: str) -> list[dict[str, Any]]:
    """The server's clients without the one that asks."""
    with server.client() as client:
        own = client.client_id()
        everyone = [c for c in client.client_list() if c["id"] != str(own)]
    return [c for c in everyone if all(c[name] == value for name, value in wanted.items())]


def assert_none_left(server: RedisServer) -> None:
    wait_until(lambda: not clients(server), "the connections are gone")


def publish(server: RedisServer, payload: bytes = b"{}") -> int:
    with server.client() as client:
        return int(client.publish(CHANNEL, payload))


@asynccontextmanager
async def subscribed(
    server: RedisServer, health_interval: float = SOON, **options: Any
) -> AsyncIterator[Any]:
    async with RedisPubSubGateway(server.url, health_interval=health_interval) as gateway:
        async with gateway.subscribe_to_user_channel(USER, "auditlog", **options) as subscription:
            yield subscription


async def test_nothing_is_connected_before_it_is_needed(own_redis: RedisServer) -> None:
    gateway = RedisPubSubGateway(own_redis.url)
    gateway.subscribe_to_user_channel(USER, "auditlog")
    assert not clients(own_redis)
    await gateway.close()
    await gateway.close()


async def test_the_pool_is_reused_and_released(own_redis: RedisServer) -> None:
    async with RedisPubSubGateway(own_redis.url) as gateway:
        for _ in range(3):
            await gateway.publish_to_user_channel(USER, "auditlog", {})
        [client] = clients(own_redis)
        if MAJOR >= 5:  # before that it did not tell
            assert client["lib-name"] == "lykke"
    assert_none_left(own_redis)
    with pytest.raises(Exception, match="The gateway was closed"):
        await gateway.publish_to_user_channel(USER, "auditlog", {})
    assert not clients(own_redis)


async def test_leaving_the_context_releases_the_connection(own_redis: RedisServer) -> None:
    async with RedisPubSubGateway(own_redis.url) as gateway:
        async with gateway.subscribe_to_user_channel(USER, "auditlog"):
            assert len(clients(own_redis, name="lykke", sub="1")) == 1
        assert_none_left(own_redis)


async def test_close_releases_the_connection(own_redis: RedisServer) -> None:
    async with RedisPubSubGateway(own_redis.url) as gateway:
        async with gateway.subscribe_to_user_channel(USER, "auditlog") as subscription:
            await subscription.close()
            assert_none_left(own_redis)


async def test_closing_the_gateway_releases_every_connection(own_redis: RedisServer) -> None:
    gateway = RedisPubSubGateway(own_redis.url)
    async with (
        gateway.subscribe_to_user_channel(USER, "auditlog") as one,
        gateway.subscribe_to_user_channel(None, "auditlog"),
    ):
        waiting = asyncio.create_task(one.get_message())
        await gateway.publish_to_user_channel(uuid.uuid4(), "auditlog", {})
        assert len(clients(own_redis)) == 3
        await gateway.close()
        assert_none_left(own_redis)
        with pytest.raises(SubscriptionClosed):
            await waiting
        assert not clients(own_redis)


async def test_cancellation_releases_the_connection(own_redis: RedisServer) -> None:
    async def follow() -> None:
        async with subscribed(own_redis) as subscription:
            await subscription.get_message()

    following = asyncio.create_task(follow())
    await until(lambda: clients(own_redis, sub="1"))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert following.cancelled()
    assert_none_left(own_redis)


async def test_cancellation_while_subscribing_releases_the_connection(
    own_redis: RedisServer,
) -> None:
    async with RedisPubSubGateway(own_redis.url) as gateway:
        own_redis.freeze()
        entering = asyncio.create_task(
            gateway.subscribe_to_user_channel(USER, "auditlog").__aenter__()
        )
        await asyncio.sleep(SHORT)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        assert entering.cancelled()
        own_redis.thaw()
        assert_none_left(own_redis)


async def test_closing_during_an_outage_leaves_nothing(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with subscribed(own_redis) as subscription:
        waiting = asyncio.create_task(subscription.get_message())
        own_redis.kill()
        await until(lambda: f"Subscribing to {CHANNEL} again" in caplog.text)
        await subscription.close()
        with pytest.raises(SubscriptionClosed):
            await waiting
        own_redis.start()
        assert not clients(own_redis)


@pytest.mark.parametrize("patience", [None, 0.001], ids=["one wait", "polling"])
async def test_a_killed_server_makes_a_gap(
    own_redis: RedisServer, patience: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    gaps: list[Gap] = []
    async with subscribed(own_redis, on_gap=gaps.append) as subscription:

        async def next_message() -> object:
            while True:
                message = await subscription.get_message(patience)
                if message is not None:
                    return message

        waiting = asyncio.create_task(next_message())
        own_redis.kill()
        await until(lambda: f"Subscribing to {CHANNEL} again" in caplog.text)
        own_redis.start()
        await until(lambda: gaps)
        assert await subscription.send_message({"n": 1}) == 1
        assert await waiting == {"n": 1}
        [gap] = gaps
        assert gap.started_at < gap.ended_at


async def test_what_came_before_a_break_is_delivered_before_its_gap(own_redis: RedisServer) -> None:
    gaps: list[Gap] = []
    async with subscribed(own_redis, on_gap=gaps.append) as subscription:
        for number in range(3):
            assert publish(own_redis, b'{"n": %d}' % number) == 1
        with own_redis.client() as client:
            client.ping()  # it answers a publisher first: by now it has written to us too
        own_redis.kill()
        await asyncio.sleep(SHORT)  # the end is in the buffer too, behind the messages
        assert [await subscription.get_message(SOON) for _ in range(3)] == [
            {"n": 0},
            {"n": 1},
            {"n": 2},
        ]
        assert not gaps
        own_redis.start()
        assert await subscription.get_message(0) is None
        waiting = asyncio.create_task(subscription.get_message())
        await until(lambda: gaps)
        waiting.cancel()


async def test_a_frozen_server_is_noticed(own_redis: RedisServer) -> None:
    async with subscribed(own_redis, SHORT, reconnect=False) as subscription:
        own_redis.freeze()
        with pytest.raises(SubscriptionLost, match="no sign of life"):
            await asyncio.wait_for(subscription.get_message(), SOON)
        own_redis.thaw()
        with pytest.raises(SubscriptionLost):
            await subscription.get_message()


async def test_a_gap_begins_when_the_server_was_last_heard_of(own_redis: RedisServer) -> None:
    async with subscribed(own_redis, SHORT, reconnect=False) as subscription:
        publish(own_redis)
        assert await subscription.get_message(SOON) == {}
        own_redis.freeze()
        frozen_at = datetime.now(UTC)
        with pytest.raises(SubscriptionLost) as lost:
            await asyncio.wait_for(subscription.get_message(), SOON)
        assert lost.value.since <= frozen_at < datetime.now(UTC) - timedelta(seconds=SHORT)


async def test_a_frozen_server_is_noticed_by_one_who_only_polls(own_redis: RedisServer) -> None:
    async with subscribed(own_redis, SHORT, reconnect=False) as subscription:
        own_redis.freeze()
        with pytest.raises(SubscriptionLost, match="no sign of life"):
            while True:
                assert await subscription.get_message(0) is None
                await asyncio.sleep(0.01)


async def test_a_quiet_server_is_asked_and_kept(own_redis: RedisServer) -> None:
    gaps: list[Gap] = []
    async with subscribed(own_redis, SHORT, on_gap=gaps.append) as subscription:
        assert await subscription.get_message(5 * SHORT) is None
        assert clients(own_redis, sub="1", cmd="ping")
        publish(own_redis)
        assert await subscription.get_message(SOON) == {}
    assert not gaps


@pytest.mark.parametrize("patience", [None, 0], ids=["one wait", "polling"])
async def test_our_own_slowness_is_not_taken_for_silence(
    own_redis: RedisServer, patience: float | None
) -> None:
    async def next_message() -> object:
        while (message := await subscription.get_message(patience)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return message

    async with subscribed(own_redis, SHORT, reconnect=False) as subscription:
        waiting = asyncio.create_task(next_message())
        link = subscription._link
        assert link is not None
        own_redis.freeze()
        await until(lambda: link._asked)
        own_redis.thaw()  # it answers, but nobody looks
        time.sleep(3 * SHORT)  # noqa: ASYNC251
        publish(own_redis)
        assert await waiting == {}


async def test_messages_that_nobody_takes_wait_and_are_not_taken_for_silence(
    own_redis: RedisServer,
) -> None:
    sent = [b'{"n": %d, "x": "%s"}' % (n, b"x" * 100_000) for n in range(100)]
    async with subscribed(own_redis, SHORT, reconnect=False) as subscription:
        for payload in sent:
            publish(own_redis, payload)
        await asyncio.sleep(5 * SHORT)
        came: list[bytes] = []
        while len(came) < len(sent):
            came += (await subscription.get_deliveries(SOON)).payloads
    assert came == sent


async def test_what_is_no_message_is_passed_over() -> None:
    strange = (
        b"+OK\r\n:1\r\n-ERR no\r\n*-1\r\n$-1\r\n*0\r\n*1\r\n*-1\r\n$1\r\nx\r\n"
        b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n:5\r\n"
        b"*3\r\n$7\r\nmessage\r\n*0\r\n$2\r\n{}\r\n"
        b"*3\r\n*0\r\n$1\r\nx\r\n$2\r\n{}\r\n"
    )
    one = b'*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$7\r\n{"n":1}\r\n'
    other = b'*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\ny\r\n$7\r\n{"n":2}\r\n'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if b"CLIENT" in line:
                writer.write(b"+OK\r\n")
            elif b"SUBSCRIBE" in line:
                writer.write(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n")
                writer.write(strange + one + strange + other + b"!garbled\r\n")
                break
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with RedisPubSubGateway(f"redis://127.0.0.1:{port}") as gateway:
            subscribe = gateway.subscribe_to_user_channel
            async with subscribe(USER, "auditlog", reconnect=False) as subscription:
                deliveries = await subscription.get_deliveries(SOON)
                assert [(d.channel, d.payload) for d in deliveries] == [
                    ("x", b'{"n":1}'),
                    ("y", b'{"n":2}'),
                ]
                with pytest.raises(SubscriptionLost, match="Protocol error"):
                    await subscription.get_message(SOON)


async def test_channels_are_added_when_each_of_them_was_confirmed() -> None:
    confirmed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n"
    message = b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$2\r\n{}\r\n"
    pinged, last, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (line := await reader.readline()) != b"PING\r\n":
            if b"CLIENT" in line:
                writer.write(b"+OK\r\n")
            elif b"SUBSCRIBE" in line:
                writer.write(confirmed)
        pinged.set()
        await reader.readuntil(b"SUBSCRIBE\r\n")
        writer.write(b"-NOPERM no PING for you\r\n" + confirmed + message)
        await last.wait()
        writer.write(message + confirmed)
        await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"redis://127.0.0.1:{port}"
        async with RedisPubSubGateway(url, health_interval=2 * SHORT) as gateway:
            async with gateway.subscribe_to_channels([Channel(USER)]) as subscription:
                await asyncio.wait_for(pinged.wait(), SOON)
                adding = asyncio.create_task(subscription.add([Channel(OTHER), Channel(NOBODY)]))
                assert await subscription.get_message(SOON, gaps=True) == {}
                assert await subscription.get_message(SHORT / 4) is None
                assert not adding.done()
                last.set()
                await asyncio.wait_for(adding, SOON)
                assert await subscription.get_message(SOON, gaps=True) == {}
        await asyncio.wait_for(left.wait(), SOON)


async def test_a_cancelled_wait_keeps_the_connection(own_redis: RedisServer) -> None:
    def pings() -> int:
        with own_redis.client() as client:
            return int(client.info("commandstats").get("cmdstat_ping", {}).get("calls", 0))

    gaps: list[Gap] = []
    async with subscribed(own_redis, SHORT, on_gap=gaps.append) as subscription:
        before, enough = clients(own_redis, sub="1"), pings() + 3
        while pings() < enough:
            await subscription.get_message(0.001)
            waiting = asyncio.create_task(subscription.get_message())
            await asyncio.sleep(0.0005)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        [after] = clients(own_redis, sub="1")
        assert [after["id"]] == [client["id"] for client in before]
        publish(own_redis)
        assert await subscription.get_message(SOON) == {}
    assert not gaps


async def test_a_subscriber_that_the_server_cuts_off_gets_a_gap(own_redis: RedisServer) -> None:
    gaps: list[Gap] = []
    with own_redis.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 65536 65536 0")
    async with subscribed(own_redis, on_gap=gaps.append) as subscription:
        while publish(own_redis, b'{"x": "%s"}' % (b"x" * 1_000_000)):
            pass
        waiting = asyncio.create_task(subscription.get_deliveries(SOON))
        while not gaps:
            await waiting
            waiting = asyncio.create_task(subscription.get_deliveries(SOON))
            await asyncio.wait({waiting}, timeout=SHORT)
        waiting.cancel()


async def test_publishing_goes_on_after_a_restart(own_redis: RedisServer) -> None:
    async with RedisPubSubGateway(own_redis.url) as gateway:
        await asyncio.gather(
            *(gateway.publish_to_user_channel(USER, "auditlog", {}) for _ in range(5))
        )
        own_redis.restart()
        assert await gateway.publish_to_user_channel(USER, "auditlog", {}) == 0


async def test_a_frozen_server_is_unavailable(own_redis: RedisServer) -> None:
    async with RedisPubSubGateway(own_redis.url, connect_timeout=LONGER) as gateway:
        await gateway.publish_to_user_channel(USER, "auditlog", {})
        own_redis.freeze()
        with pytest.raises(ServerUnavailable, match="did not answer in time"):
            await gateway.publish_to_user_channel(USER, "auditlog", {})
        with pytest.raises(ServerUnavailable, match="did not answer in time"):
            await gateway.subscribe_to_user_channel(USER, "auditlog").__aenter__()


async def test_the_first_connect_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://me:s3cret@127.0.0.1:1/2")
    async with RedisPubSubGateway() as gateway:
        with pytest.raises(ServerUnavailable) as caught:
            await gateway.subscribe_to_user_channel(USER, "auditlog").__aenter__()
        assert str(caught.value) == (
            "Cannot reach Redis at redis://me@127.0.0.1:1/2 (connection refused). "
            "Is it running? Set REDIS_URL or give --redis-url."
        )
        with pytest.raises(ServerUnavailable, match="refused"):
            await gateway.publish_to_user_channel(USER, "auditlog", {})


def url_of_a_watcher(server: RedisServer, *more: str) -> str:
    """For a user who may subscribe to audit logs, and has `more` rights."""
    rights = ("resetchannels", "-@all", "+subscribe", "&auditlog:*", *more)
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "watcher", "on", ">s3cret", *rights)
    return f"redis://watcher:s3cret@127.0.0.1:{server.port}"


async def test_a_user_who_may_only_subscribe(own_redis: RedisServer) -> None:
    url = url_of_a_watcher(own_redis)
    gaps: list[Gap] = []
    async with RedisPubSubGateway(url, health_interval=SHORT) as gateway:
        subscribe = gateway.subscribe_to_user_channel
        async with subscribe(USER, "auditlog", on_gap=gaps.append) as subscription:
            assert await subscription.get_message(5 * SHORT) is None  # it may not even PING
            publish(own_redis)
            assert await subscription.get_message(SOON) == {}
            with pytest.raises(LoginRefused, match="'publish'"):
                await subscription.send_message({})
        with pytest.raises(LoginRefused, match="watcher@127"):
            await subscribe(USER, "notification").__aenter__()
        with pytest.raises(LoginRefused, match="psubscribe"):
            await subscribe(None, "auditlog").__aenter__()
    assert not gaps


async def test_a_channel_that_is_refused_leaves_the_others_as_they_are(
    own_redis: RedisServer,
) -> None:
    url = url_of_a_watcher(own_redis, "+unsubscribe", "+ping")
    async with RedisPubSubGateway(url) as gateway:
        async with gateway.subscribe_to_channels([Channel(USER)]) as subscription:
            with pytest.raises(LoginRefused, match="watcher@127"):
                await subscription.add([Channel(OTHER), Channel(USER, "notification")])
            assert subscription.channels == {Channel(USER)}
            await subscription.add([Channel(OTHER)])
            publish(own_redis)
            assert await subscription.get_message(SOON, gaps=True) == {}
            assert len(clients(own_redis, sub="2")) == 1


async def test_a_channel_that_is_refused_after_a_break_leaves_the_others_as_they_are(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = url_of_a_watcher(own_redis, "+unsubscribe", "+ping")
    async with RedisPubSubGateway(url) as gateway:
        async with gateway.subscribe_to_channels([Channel(USER)]) as subscription:
            own_redis.cut_subscribers()
            await until(lambda: not clients(own_redis, sub="1"))
            await subscription.add([Channel(OTHER), Channel(USER, "notification")])
            assert isinstance(await subscription.get_message(SOON, gaps=True), Gap)
            assert subscription.channels == {Channel(USER), Channel(OTHER)}
            publish(own_redis)
            assert await subscription.get_message(SOON, gaps=True) == {}
    assert f"Not followed: notification:{USER}. Redis at redis://watcher@" in caplog.text


async def test_all_channels_share_one_connection(own_redis: RedisServer) -> None:
    async with RedisPubSubGateway(own_redis.url, health_interval=SHORT) as gateway:
        async with gateway.subscribe_to_channels([]) as subscription:
            assert await subscription.get_message(5 * SHORT, gaps=True) is None
            [before] = clients(own_redis, name="lykke", sub="0", cmd="ping")
            await subscription.add([Channel(USER), Channel(OTHER), Channel(None, "notification")])
            [after] = clients(own_redis, sub="2", psub="1")
            assert after["id"] == before["id"]
            assert await subscription.get_message(5 * SHORT, gaps=True) is None


@pytest.mark.parametrize("reconnect", [True, False])
async def test_adding_does_not_wait_for_a_frozen_server(
    own_redis: RedisServer, reconnect: bool
) -> None:
    async with RedisPubSubGateway(own_redis.url, health_interval=SHORT) as gateway:
        async with gateway.subscribe_to_channels(
            [Channel(USER)], reconnect=reconnect
        ) as subscription:
            own_redis.freeze()
            adding = asyncio.create_task(subscription.add([Channel(OTHER)]))
            await asyncio.wait({adding}, timeout=SOON)
            own_redis.thaw()
            if reconnect:
                await adding
                assert isinstance(await subscription.get_message(SOON, gaps=True), Gap)
                await until(lambda: clients(own_redis, sub="2"))
            else:
                with pytest.raises(SubscriptionLost, match="no sign of life"):
                    await adding


async def test_a_given_client_who_may_not_subscribe(own_redis: RedisServer) -> None:
    with own_redis.client() as admin:
        admin.execute_command("ACL", "SETUSER", "writer", "on", ">s3cret", "-@all", "+publish")
    client = Redis.from_url(f"redis://writer:s3cret@127.0.0.1:{own_redis.port}")
    async with RedisPubSubGateway(client=client) as gateway:
        with pytest.raises(LoginRefused, match="'subscribe'"):
            await gateway.subscribe_to_user_channel(USER, "auditlog").__aenter__()
    await client.connection_pool.disconnect()


async def test_a_pool_of_the_applications_is_used_and_stays_open(own_redis: RedisServer) -> None:
    pool = ConnectionPool.from_url(own_redis.url, max_connections=2)
    async with RedisPubSubGateway(pool=pool) as gateway:
        async with gateway.subscribe_to_user_channel(USER, "auditlog") as subscription:
            sending = (subscription.send_message({"n": n}) for n in range(50))
            assert await asyncio.gather(*sending) == [1] * 50
            assert await gateway.publish_many("auditlog", [(USER, {}), (USER, {})]) == [1, 1]
            assert len(clients(own_redis, sub="0")) <= 2
    assert clients(own_redis)
    assert await Redis(connection_pool=pool).ping()
    await pool.disconnect()


async def test_only_one_of_url_client_and_pool_says_where_the_server_is(redis_url: str) -> None:
    with pytest.raises(UsageMistake):
        RedisPubSubGateway(redis_url, pool=ConnectionPool.from_url(redis_url))


async def test_more_than_there_are_connections_wait_for_one(own_redis: RedisServer) -> None:
    async with RedisPubSubGateway(f"{own_redis.url}?max_connections=3") as gateway:
        own_redis.freeze()
        sending = asyncio.gather(
            *(gateway.publish_to_user_channel(USER, "auditlog", {}) for _ in range(300))
        )
        await asyncio.sleep(SHORT)
        own_redis.thaw()
        assert await sending == [0] * 300
        assert len(clients(own_redis)) == 3


async def test_the_wait_for_a_connection_is_bounded_too(own_redis: RedisServer) -> None:
    url = f"{own_redis.url}?max_connections=2&socket_connect_timeout={SHORT}"
    async with RedisPubSubGateway(url) as gateway:
        own_redis.freeze()
        started = asyncio.get_running_loop().time()
        outcomes = await asyncio.gather(
            *(gateway.publish_to_user_channel(USER, "auditlog", {}) for _ in range(200)),
            return_exceptions=True,
        )
        # By two connections, two at a time, they would take twice as long as that.
        assert asyncio.get_running_loop().time() - started < 50 * SHORT
        own_redis.thaw()
    assert {type(outcome) for outcome in outcomes} == {ServerUnavailable}


async def test_a_frozen_server_costs_many_messages_one_time_out(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_pubsub, "QUIET", SOON)  # no PING before, however slow this is
    messages = [(USER, {"n": n}) for n in range(20_000)]
    async with RedisPubSubGateway(own_redis.url, connect_timeout=LONGER) as gateway:
        assert await gateway.publish_many("auditlog", messages[:2]) == [0, 0]
        own_redis.freeze()
        outcomes = await gateway.publish_many("auditlog", messages)
        own_redis.thaw()
    assert len(outcomes) == 20_000
    assert all("did not answer in time" in str(outcome) for outcome in outcomes)
    assert "may have been published" in str(outcomes[0])
    assert "may have been published" not in str(outcomes[-1])


async def test_ten_thousand_messages_take_far_less_than_a_broadcasts_bound(
    own_redis: RedisServer,
) -> None:
    messages = [(USER, {"n": n}) for n in range(10_000)]
    async with RedisPubSubGateway(own_redis.url, connect_timeout=SOON) as gateway:
        before = time.process_time()  # what others on this machine take does not count
        assert await gateway.publish_many("auditlog", messages) == [0] * 10_000
        assert time.process_time() - before < BROADCAST_TIMEOUT / 2


@pytest.mark.parametrize("answered", [0, 1, 400])
async def test_a_connection_that_breaks_midway_publishes_nothing_twice(
    own_redis: RedisServer, answered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_pubsub, "QUIET", SOON)  # no PING, whose answer would count
    messages = [(USER, {"n": n}) for n in range(2_500)]
    with Proxy(own_redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with subscribed(own_redis) as reader, RedisPubSubGateway(url) as gateway:
            assert await gateway.publish_to_user_channel(USER, "auditlog", {"n": -1}) == 1
            proxy.cut_after(answered)
            outcomes = await gateway.publish_many("auditlog", messages)
            assert await gateway.publish_to_user_channel(USER, "auditlog", {"n": 2_500}) == 1
            came: list[int] = []
            while 2_500 not in came:
                message = await reader.get_message(SOON)
                assert isinstance(message, dict)
                came.append(message["n"])
    assert came == sorted(set(came))  # none twice
    assert outcomes[:answered] == [1] * answered
    unknown, others = outcomes[answered:1_000], outcomes[1_000:]
    assert {type(outcome) for outcome in unknown} == {ServerUnavailable}
    assert "may have been published" in str(unknown[0])
    assert others == [1] * 1_500  # by a new connection


async def test_a_message_whose_answer_is_lost_is_not_published_again(
    own_redis: RedisServer,
) -> None:
    with Proxy(own_redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with subscribed(own_redis) as reader, RedisPubSubGateway(url) as gateway:
            assert await gateway.publish_to_user_channel(USER, "auditlog", {"n": 0}) == 1
            proxy.cut_after(0)
            with pytest.raises(ServerUnavailable, match="may have been published"):
                await gateway.publish_to_user_channel(USER, "auditlog", {"n": 1})
            assert await gateway.publish_to_user_channel(USER, "auditlog", {"n": 2}) == 1
            came = [await reader.get_message(SOON) for _ in range(3)]
    assert came == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("lent", [False, True], ids=["by url", "by a client"])
@pytest.mark.parametrize("quiet", [redis_pubsub.QUIET, 0.0], ids=["just used", "quiet"])
async def test_a_connection_that_was_closed_meanwhile_is_made_anew(
    own_redis: RedisServer, quiet: float, lent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_pubsub, "QUIET", quiet)
    async with Redis.from_url(own_redis.url) as client:
        gateway = RedisPubSubGateway(client=client) if lent else RedisPubSubGateway(own_redis.url)
        for _ in range(10):
            sending = (gateway.publish_to_user_channel(USER, "auditlog", {}) for _ in range(5))
            assert await asyncio.gather(*sending) == [0] * 5
            own_redis.restart()  # while the loop stands still
            assert await gateway.publish_many("auditlog", [(USER, {})] * 3) == [0] * 3
            assert await gateway.publish_to_user_channel(USER, "auditlog", {}) == 0
        await gateway.close()
        await client.connection_pool.disconnect()  # redis-py 4 leaves it open


@pytest.mark.skipif(MAJOR < 5, reason="redis-py 4 loses a connection whose making is cancelled")
@pytest.mark.parametrize("turns", range(16))
async def test_a_cancellation_is_heard_at_every_step_of_a_given_client(
    own_redis: RedisServer, turns: int
) -> None:
    async with Redis.from_url(own_redis.url) as client:
        gateway = RedisPubSubGateway(client=client)

        async def use(work: Callable[[], Awaitable[object]]) -> None:
            await work()
            await asyncio.Event().wait()  # where a cancellation that was forgotten is missed

        async def follow() -> None:
            async with gateway.subscribe_to_user_channel(USER, "auditlog"):
                await asyncio.Event().wait()

        async def publish() -> None:
            await gateway.publish_to_user_channel(USER, "auditlog", {})

        for work in (follow, publish):
            await client.connection_pool.disconnect()
            task = asyncio.create_task(use(work))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=SOON)
            assert task.cancelled()
        await gateway.close()
    assert_none_left(own_redis)


async def test_of_many_the_refused_ones_are_told(own_redis: RedisServer) -> None:
    other = uuid.uuid4()
    with own_redis.client() as admin:
        words = ("on", ">s3cret", "resetchannels", f"&{CHANNEL}", "-@all", "+publish")
        admin.execute_command("ACL", "SETUSER", "writer", *words)
    url = f"redis://writer:s3cret@127.0.0.1:{own_redis.port}"
    async with RedisPubSubGateway(url) as gateway:
        outcomes = await gateway.publish_many("auditlog", [(USER, {}), (other, {}), (USER, {})])
    assert (outcomes[0], outcomes[2]) == (0, 0)
    assert isinstance(outcomes[1], LoginRefused)


async def test_another_event_loop_is_told_to_use_a_gateway_of_its_own(redis_url: str) -> None:
    async with RedisPubSubGateway(redis_url) as gateway:
        async with gateway.subscribe_to_user_channel(USER, "auditlog") as subscription:

            async def elsewhere() -> None:
                for use in (
                    gateway.publish_to_user_channel(USER, "auditlog", {}),
                    gateway.publish_many("auditlog", [(USER, {})]),
                    gateway.subscribe_to_user_channel(USER, "auditlog").__aenter__(),
                    subscription.get_message(0),
                    subscription.send_message({}),
                    gateway.close(),
                ):
                    with pytest.raises(UsageMistake, match="another event loop"):
                        await use

            await asyncio.to_thread(asyncio.run, elsewhere())
            assert await subscription.send_message({"n": 1}) == 1  # here it works as before
            assert await subscription.get_message(SOON) == {"n": 1}


@pytest.mark.parametrize("login", ["", ":wr0ng@", "nobody:wr0ng@"])
@pytest.mark.parametrize("scheme", ["redis", "unix"])
async def test_a_refused_login(login: str, scheme: str) -> None:
    with RedisServer(password="s3cret") as server:
        where = f"127.0.0.1:{server.port}" if scheme == "redis" else str(server.socket_path)
        async with RedisPubSubGateway(f"{scheme}://{login}{where}") as gateway:
            with pytest.raises(LoginRefused) as caught:
                await gateway.subscribe_to_user_channel(USER, "auditlog").__aenter__()
            assert where in str(caught.value)
            assert "wr0ng" not in str(caught.value)
            with pytest.raises(LoginRefused):
                await gateway.publish_to_user_channel(USER, "auditlog", {})
        assert_none_left(server)


async def test_a_password_where_none_is_wanted(redis_server: RedisServer) -> None:
    url = f"redis://:s3cret@127.0.0.1:{redis_server.port}"
    async with RedisPubSubGateway(url) as gateway:
        with pytest.raises(LoginRefused) as caught:
            await gateway.publish_to_user_channel(USER, "auditlog", {})
    assert "s3cret" not in str(caught.value)


async def test_a_password_with_special_characters() -> None:
    with RedisServer(password="p%s@ss/w#rd?") as server:
        async with subscribed(server) as subscription:
            assert await subscription.send_message({}) == 1


async def test_a_unix_socket(own_redis: RedisServer) -> None:
    url = f"unix://{own_redis.socket_path}?db=2"
    async with RedisPubSubGateway(url) as gateway:
        async with gateway.subscribe_to_user_channel(USER, "auditlog") as subscription:
            assert await subscription.send_message({"n": 1}) == 1
            assert await subscription.get_message(SOON) == {"n": 1}
            assert {client["db"] for client in clients(own_redis)} == {"2"}
    async with RedisPubSubGateway(f"unix://{own_redis.folder}/gone") as gateway:
        with pytest.raises(ServerUnavailable, match="no such file"):
            await gateway.publish_to_user_channel(USER, "auditlog", {})


async def test_the_database_number(own_redis: RedisServer) -> None:
    async with RedisPubSubGateway(f"{own_redis.url}/3") as gateway:
        async with gateway.subscribe_to_user_channel(USER, "auditlog") as subscription:
            assert await subscription.send_message({}) == 1
            assert [client["db"] for client in clients(own_redis)] == ["3", "3"]
    async with RedisPubSubGateway(f"{own_redis.url}/99") as gateway:
        with pytest.raises(ServerUnavailable, match="Check the database number"):
            await gateway.publish_to_user_channel(USER, "auditlog", {})
        with pytest.raises(ServerUnavailable, match="Check the database number"):
            await gateway.subscribe_to_user_channel(USER, "auditlog").__aenter__()


async def test_options_of_other_programs_in_the_url_change_nothing(own_redis: RedisServer) -> None:
    url = f"{own_redis.url}?decode_responses=True&protocol=3&health_check_interval=1"
    async with RedisPubSubGateway(url) as gateway:
        async with gateway.subscribe_to_user_channel(USER, "auditlog") as subscription:
            publish(own_redis, b"\xff")
            [delivery] = await subscription.get_deliveries(SOON)
            assert (delivery.channel, delivery.payload) == (CHANNEL, b"\xff")


async def test_a_reconnection_that_is_refused_is_told_and_tried_again(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    gaps: list[Gap] = []
    async with subscribed(own_redis, on_gap=gaps.append) as subscription:
        waiting = asyncio.create_task(subscription.get_message())
        with own_redis.client() as admin:
            admin.config_set("requirepass", "s3cret")
            admin.client_kill_filter(_type="pubsub")
            await until(lambda: "refused the login" in caplog.text)
            admin.config_set("requirepass", "")
        await until(lambda: gaps)
        waiting.cancel()
    assert "s3cret" not in caplog.text
