"""What every gateway does: in memory, on fakeredis, on a real server, by streams there."""

import asyncio
import gc
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import fakeredis
import pytest

from lykke_cli import (
    Channel,
    Gap,
    LykkeError,
    MemoryPubSubGateway,
    PubSubGatewayProtocol,
    PubSubSubscription,
    RedisPubSubGateway,
    Unreadable,
)
from lykke_cli.application.errors import (
    BadInput,
    SubscriptionClosed,
    SubscriptionLost,
    UsageMistake,
)
from lykke_cli.infrastructure.gateways.redis_stream import RedisStreamGateway
from lykke_cli.infrastructure.redis.stream_layout import (
    MESSAGE,
    PARTITIONS,
    USER,
    partition_of,
    stream_name,
)
from tests.servers import RedisServer

AT_ONCE = 0.05  # seconds in which nothing is expected to come
SOON = 20.0  # seconds in which it must
HEALTH_INTERVAL = 0.2  # seconds, where nothing else tells of an outage


@dataclass
class Setup:
    gateway: PubSubGatewayProtocol
    publish: Callable[[str, bytes], Awaitable[object]]
    break_connections: Callable[[], Awaitable[object]]
    user: UUID
    other: UUID
    counts: bool = True
    """Whether publishing tells how many got it; 1 otherwise."""


@asynccontextmanager
async def in_memory() -> AsyncIterator[Setup]:
    async def publish(channel: str, payload: bytes) -> int:
        return gateway.publish(channel, payload)

    async def break_connections() -> None:
        gateway.disconnect()
        gateway.restore()

    async with MemoryPubSubGateway() as gateway:
        yield Setup(gateway, publish, break_connections, uuid.uuid4(), uuid.uuid4())


@asynccontextmanager
async def on_fakeredis() -> AsyncIterator[Setup]:
    server = fakeredis.FakeServer()

    async def break_connections() -> None:
        server.connected = False
        await asyncio.sleep(3 * HEALTH_INTERVAL)  # it is noticed only when it is asked
        server.connected = True

    client = fakeredis.FakeAsyncRedis(server=server)
    async with RedisPubSubGateway(client=client, health_interval=HEALTH_INTERVAL) as gateway:
        yield Setup(gateway, client.publish, break_connections, uuid.uuid4(), uuid.uuid4())
    await client.connection_pool.disconnect()


@asynccontextmanager
async def on_redis(server: RedisServer) -> AsyncIterator[Setup]:
    async def publish(channel: str, payload: bytes) -> object:
        with server.client() as client:
            return await asyncio.to_thread(client.publish, channel, payload)

    async def break_connections() -> None:
        with server.client() as client:
            await asyncio.to_thread(client.client_kill_filter, _type="pubsub")

    async with RedisPubSubGateway(server.url) as gateway:
        yield Setup(gateway, publish, break_connections, uuid.uuid4(), uuid.uuid4())


@asynccontextmanager
async def on_streams(server: RedisServer) -> AsyncIterator[Setup]:
    async def publish(channel: str, payload: bytes) -> object:
        channel_type, _, user = channel.rpartition(":")
        stream = stream_name(channel_type, partition_of(UUID(user), PARTITIONS))
        fields: dict[Any, Any] = {USER: user, MESSAGE: payload}
        with server.client() as client:
            return await asyncio.to_thread(client.xadd, stream, fields)

    async def break_connections() -> None:
        with server.client() as client:
            await asyncio.to_thread(client.client_kill_filter, _type="normal", skipme=True)

    async with RedisStreamGateway(f"{server.url}?transport=stream") as gateway:
        yield Setup(gateway, publish, break_connections, uuid.uuid4(), uuid.uuid4(), counts=False)


@pytest.fixture(params=["memory", "fakeredis", "redis", "stream"])
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[Setup]:
    if request.param == "memory":
        context = in_memory()
    elif request.param == "fakeredis":
        context = on_fakeredis()
    elif request.param == "stream":
        context = on_streams(request.getfixturevalue("own_redis"))
    else:
        context = on_redis(request.getfixturevalue("redis_server"))
    async with context as made:
        yield made


async def test_what_is_published_after_entering_arrives(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 1}')
        assert await subscription.get_message(SOON) == {"n": 1}


async def test_time_out_is_none(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        assert await subscription.get_message(AT_ONCE) is None
        assert not await subscription.get_deliveries(AT_ONCE)


async def test_publishing_tells_how_many_got_it(setup: Setup) -> None:
    gateway = setup.gateway
    if not setup.counts:
        assert await gateway.publish_to_user_channel(setup.user, "auditlog", {"n": 1}) == 1
        return
    assert await gateway.publish_to_user_channel(setup.user, "auditlog", {"n": 1}) == 0
    async with gateway.subscribe_to_user_channel(setup.user, "auditlog"):
        assert await gateway.publish_to_user_channel(setup.user, "auditlog", {"n": 1}) == 1
        async with gateway.subscribe_to_user_channel(setup.user, "auditlog"):
            assert await gateway.publish_to_user_channel(setup.user, "auditlog", {"n": 1}) == 2


async def test_channels_are_apart(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        await setup.publish(f"auditlog:{setup.other}", b'{"n": 1}')
        await setup.publish(f"notification:{setup.user}", b'{"n": 2}')
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 3}')
        assert await subscription.get_message(SOON) == {"n": 3}


async def test_without_a_user_every_user_is_followed(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(None, f"t[{setup.user}]*") as subscription:
        await setup.publish(f"t[{setup.user}]x:{setup.user}", b"{}")  # no glob in a channel type
        await setup.publish(f"t[{setup.user}]*:{setup.user}", b'{"n": 1}')
        await setup.publish(f"t[{setup.user}]*:{setup.other}", b'{"n": 2}')
        got: list[tuple[str, bytes]] = []
        while len(got) < 2:
            got += [(d.channel, d.payload) for d in await subscription.get_deliveries(SOON)]
        assert sorted(got, key=lambda each: each[1]) == [
            (f"t[{setup.user}]*:{setup.user}", b'{"n": 1}'),
            (f"t[{setup.user}]*:{setup.other}", b'{"n": 2}'),
        ]
        with pytest.raises(UsageMistake):
            await subscription.send_message({})


@pytest.mark.parametrize(
    "raw", [b"", b"no json", b"[1, 2]", b'"text"', b"7", b"null", b"\xff\xfe", b'{"a": NaN}']
)
async def test_what_is_no_json_object_is_delivered_unreadable(setup: Setup, raw: bytes) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        await setup.publish(f"auditlog:{setup.user}", raw)
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 1}')
        unreadable = await subscription.get_message(SOON)
        assert isinstance(unreadable, Unreadable)
        assert unreadable.raw == raw
        assert await subscription.get_message(SOON) == {"n": 1}


async def test_sending_and_receiving_on_one_subscription_at_once(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        waiting = asyncio.create_task(subscription.get_message())
        assert await subscription.send_message({"n": 1}) == 1
        assert await asyncio.wait_for(waiting, SOON) == {"n": 1}


async def test_two_subscriptions_at_once(setup: Setup) -> None:
    subscribe = setup.gateway.subscribe_to_user_channel
    async with subscribe(setup.user, "auditlog") as one, subscribe(setup.other, "auditlog") as two:
        waiting = asyncio.gather(one.get_message(SOON), two.get_message(SOON))
        await setup.publish(f"auditlog:{setup.other}", b'{"n": 2}')
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 1}')
        assert list(await waiting) == [{"n": 1}, {"n": 2}]


async def test_a_cancelled_wait_loses_nothing(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        for number in range(20):
            waiting = asyncio.create_task(subscription.get_message())
            await asyncio.sleep(0)
            sending = asyncio.create_task(
                setup.gateway.publish_to_user_channel(setup.user, "auditlog", {"n": number})
            )
            await asyncio.sleep(0)
            waiting.cancel()
            await sending
            results = await asyncio.gather(waiting, return_exceptions=True)
            if isinstance(results[0], asyncio.CancelledError):
                assert await subscription.get_message(SOON) == {"n": number}
            else:
                assert results[0] == {"n": number}


async def test_many_messages_come_in_order(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        for number in range(300):
            await setup.gateway.publish_to_user_channel(setup.user, "auditlog", {"n": number})
        first = await subscription.get_message(SOON)
        payloads: list[bytes] = []
        while len(payloads) < 299:
            payloads += [d.payload for d in await subscription.get_deliveries(SOON)]
        assert first == {"n": 0}
        assert payloads == [b'{"n":%d}' % number for number in range(1, 300)]


async def test_many_at_once_go_to_their_channels_in_order(setup: Setup) -> None:
    subscribe = setup.gateway.subscribe_to_user_channel
    messages = [(setup.user if n % 3 else setup.other, {"n": n}) for n in range(2_500)]
    async with subscribe(None, f"t{setup.user}") as everyone:
        async with subscribe(setup.other, f"t{setup.user}"):
            outcomes = await setup.gateway.publish_many(f"t{setup.user}", messages)
        came: list[tuple[str, bytes]] = []
        while len(came) < len(messages):
            came += [(d.channel, d.payload) for d in await everyone.get_deliveries(SOON)]
    twice = 2 if setup.counts else 1
    assert outcomes == [1 if user == setup.user else twice for user, _ in messages]
    assert by_user(came) == by_user(
        [(f"t{setup.user}:{user}", b'{"n":%d}' % m["n"]) for user, m in messages]
    )
    assert await setup.gateway.publish_many("auditlog", []) == []


def by_user(came: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    """Only a user's messages are in order: those of others may be elsewhere."""
    found: dict[str, list[bytes]] = {}
    for channel, payload in came:
        found.setdefault(channel, []).append(payload)
    return found


async def test_large_messages_at_once_arrive_whole(setup: Setup) -> None:
    texts = [str(n) * 600_000 for n in range(5)]
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        sending = setup.gateway.publish_many("auditlog", [(setup.user, {"x": x}) for x in texts])
        outcomes, *came = await asyncio.gather(
            sending, *(subscription.get_message(SOON) for _ in texts)
        )
    assert outcomes == [1] * 5
    assert came == [{"x": x} for x in texts]


async def test_of_many_one_that_is_not_json_keeps_all_from_being_published(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        with pytest.raises(BadInput, match="JSON"):
            await setup.gateway.publish_many(
                "auditlog", [(setup.user, {"n": 1}), (setup.user, {"n": object()})]
            )
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 2}')
        assert await subscription.get_message(SOON) == {"n": 2}


async def test_hundreds_publish_at_once(setup: Setup) -> None:
    gateway = setup.gateway
    async with gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        sending = (
            gateway.publish_to_user_channel(setup.user, "auditlog", {"n": n}) for n in range(300)
        )
        assert await asyncio.gather(*sending) == [1] * 300
        came: set[bytes] = set()
        while len(came) < 300:
            came.update((await subscription.get_deliveries(SOON)).payloads)


async def test_closing_twice_is_harmless_and_ends_the_subscription(setup: Setup) -> None:
    subscription = setup.gateway.subscribe_to_user_channel(setup.user, "auditlog")
    async with subscription:
        await subscription.close()
        await subscription.close()
        with pytest.raises(SubscriptionClosed):
            await subscription.get_message(AT_ONCE)
        with pytest.raises(SubscriptionClosed):
            await subscription.send_message({})
    with pytest.raises(SubscriptionClosed):
        await subscription.get_deliveries(AT_ONCE)
    with pytest.raises(RuntimeError):  # as what is closed raises elsewhere
        await subscription.get_message(AT_ONCE)


@pytest.mark.parametrize("closing", ["subscription", "gateway"])
@pytest.mark.parametrize("reconnect", [True, False])
async def test_closing_ends_a_wait(setup: Setup, closing: str, reconnect: bool) -> None:
    subscribe = setup.gateway.subscribe_to_user_channel
    async with subscribe(setup.user, "auditlog", reconnect=reconnect) as subscription:
        waiting = asyncio.create_task(subscription.get_message())
        await asyncio.sleep(0)
        await (subscription if closing == "subscription" else setup.gateway).close()
        with pytest.raises(SubscriptionClosed):
            await asyncio.wait_for(waiting, SOON)


async def test_closing_keeps_what_was_not_read_from_being_read(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        await setup.publish(f"auditlog:{setup.user}", b"{}")
        await setup.publish(f"auditlog:{setup.user}", b"{}")
        assert await subscription.get_message(SOON) == {}
        await subscription.close()
        with pytest.raises(SubscriptionClosed):
            await subscription.get_message(SOON)


async def test_a_subscription_is_used_in_its_context(setup: Setup) -> None:
    subscription = setup.gateway.subscribe_to_user_channel(setup.user, "auditlog")
    for use in (subscription.get_message, subscription.get_deliveries):
        with pytest.raises(LykkeError, match="async with"):
            await use(AT_ONCE)
    with pytest.raises(LykkeError, match="async with"):
        await subscription.send_message({})
    async with subscription:
        with pytest.raises(UsageMistake):
            await subscription.__aenter__()
        await setup.publish(f"auditlog:{setup.user}", b"{}")
        assert await subscription.get_message(SOON) == {}
    with pytest.raises(SubscriptionClosed):
        await subscription.__aenter__()


async def test_two_waits_on_one_subscription_share_the_messages(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        waiting = asyncio.gather(subscription.get_message(SOON), subscription.get_message(SOON))
        await asyncio.sleep(0)
        assert await subscription.get_message(AT_ONCE) is None
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 1}')
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 2}')
        assert list(await waiting) == [{"n": 1}, {"n": 2}]


async def test_a_break_is_told_when_it_is_not_to_be_mended(setup: Setup) -> None:
    subscribe = setup.gateway.subscribe_to_user_channel
    async with subscribe(setup.user, "auditlog", reconnect=False) as subscription:
        await asyncio.gather(setup.break_connections(), expect_loss(subscription))
        with pytest.raises(SubscriptionLost):  # and stays told
            await subscription.get_deliveries(SOON)


async def expect_loss(subscription: PubSubSubscription) -> None:
    with pytest.raises(SubscriptionLost):
        await subscription.get_message(SOON)


async def test_a_break_is_mended_and_its_gap_told(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    gaps: list[Gap] = []
    told = asyncio.Event()

    def on_gap(gap: Gap) -> None:
        gaps.append(gap)
        told.set()

    subscribe = setup.gateway.subscribe_to_user_channel
    opened = datetime.now(UTC)
    async with subscribe(setup.user, "auditlog", on_gap=on_gap) as subscription:
        waiting = asyncio.create_task(subscription.get_message())
        await setup.break_connections()
        await asyncio.wait_for(told.wait(), SOON)
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 1}')
        assert await asyncio.wait_for(waiting, SOON) == {"n": 1}
        [gap] = gaps
        assert opened <= gap.started_at <= gap.ended_at <= datetime.now(UTC)
        assert f"Subscribed to auditlog:{setup.user} again" in caplog.text


async def test_a_gap_is_delivered_where_messages_may_be_missing(setup: Setup) -> None:
    opened = datetime.now(UTC)
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 1}')
        assert await subscription.get_message(SOON, gaps=True) == {"n": 1}
        waiting = asyncio.create_task(subscription.get_message(gaps=True))
        await setup.break_connections()
        gap = await asyncio.wait_for(waiting, SOON)
        assert isinstance(gap, Gap)
        assert opened <= gap.started_at <= gap.ended_at <= datetime.now(UTC)
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 2}')
        assert await subscription.get_message(SOON, gaps=True) == {"n": 2}
        assert await subscription.get_message(AT_ONCE, gaps=True) is None  # it is told once


async def test_gaps_that_nobody_took_are_told_as_one_and_before_what_follows(setup: Setup) -> None:
    gaps: list[Gap] = []
    subscribe = setup.gateway.subscribe_to_user_channel
    async with subscribe(setup.user, "auditlog", on_gap=gaps.append) as subscription:
        for number in range(2):
            waiting = asyncio.create_task(subscription.get_message())
            await setup.break_connections()
            while len(gaps) <= number:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            await setup.publish(f"auditlog:{setup.user}", b'{"n": %d}' % number)
            assert await asyncio.wait_for(waiting, SOON) == {"n": number}
        await setup.publish(f"auditlog:{setup.user}", b"{}")
        assert await subscription.get_message(SOON, gaps=True) == Gap(
            gaps[0].started_at, gaps[1].ended_at
        )
        assert await subscription.get_message(SOON, gaps=True) == {}


async def payloads_of(subscription: PubSubSubscription, number: int) -> list[bytes]:
    """The next so many."""
    payloads: list[bytes] = []
    while len(payloads) < number:
        deliveries = await subscription.get_deliveries(SOON)
        assert deliveries, payloads
        payloads += deliveries.payloads
    return payloads


async def nobody_follows(setup: Setup, user: UUID) -> None:
    """Wait until it is so, where that is known."""
    while setup.counts and await setup.gateway.publish_to_user_channel(user, "auditlog", {}):  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_several_channels_at_once(setup: Setup) -> None:
    user, other, kind = setup.user, setup.other, f"t{setup.user}"
    wanted = [Channel(user), Channel(other), Channel(user, "notification"), Channel(None, kind)]
    names = [f"auditlog:{user}", f"auditlog:{other}", f"notification:{user}", f"{kind}:{other}"]
    async with setup.gateway.subscribe_to_channels(wanted) as subscription:
        assert subscription.channels == set(wanted)
        await setup.publish(f"notification:{other}", b"0")
        for name in names:
            await setup.publish(name, name.encode())
        came: list[tuple[str, bytes]] = []
        while len(came) < len(names):
            came += [(d.channel, d.payload) for d in await subscription.get_deliveries(SOON)]
        assert sorted(came) == sorted((name, name.encode()) for name in names)
        with pytest.raises(UsageMistake, match="one channel"):
            await subscription.send_message({})


async def test_where_channels_overlap_what_is_published_comes_once(setup: Setup) -> None:
    kind = f"t{setup.user}"
    one, all_users = Channel(setup.user, kind), Channel(None, kind)
    publish = setup.gateway.publish_to_user_channel
    async with setup.gateway.subscribe_to_channels([one]) as subscription:
        for number, change in enumerate(
            (
                subscription.add([all_users]),
                subscription.remove([one]),
                subscription.add([one]),
                subscription.remove([all_users]),
            )
        ):
            await publish(setup.user, kind, {"before": number})
            await change
            await publish(setup.user, kind, {"after": number})
        expected = [b'{"%b":%d}' % (when, n) for n in range(4) for when in (b"before", b"after")]
        assert await payloads_of(subscription, len(expected)) == expected


async def test_channels_come_and_go(setup: Setup) -> None:
    publish = setup.gateway.publish_to_user_channel
    async with setup.gateway.subscribe_to_channels([]) as subscription:
        assert not subscription.channels
        for number in range(3):
            assert await publish(setup.user, "auditlog", {}) == (0 if setup.counts else 1)
            await subscription.add([Channel(setup.user)])
            await subscription.add([Channel(setup.user), Channel(setup.other)])
            assert await publish(setup.user, "auditlog", {"n": number}) == 1
            assert await publish(setup.other, "auditlog", {"n": -number}) == 1
            came = [await subscription.get_message(SOON) for _ in range(2)]
            while {} in came:  # a stream may still bring it
                came.remove({})
                came.append(await subscription.get_message(SOON))
            assert {"n": number} in came and {"n": -number} in came
            await subscription.remove([Channel(setup.other), Channel(setup.other, "never")])
            await nobody_follows(setup, setup.other)
            assert subscription.channels == {Channel(setup.user)}
            assert await subscription.send_message({"own": number}) == 1
            while (own := await subscription.get_message(SOON)) == {}:
                pass  # which came while it was still followed
            assert own == {"own": number}
            await subscription.remove([Channel(setup.user)])
            await nobody_follows(setup, setup.user)
    with pytest.raises(SubscriptionClosed):
        await subscription.add([Channel(setup.user)])
    with pytest.raises(SubscriptionClosed):
        await subscription.remove([Channel(setup.user)])


async def test_many_channels_are_added_while_messages_come(setup: Setup) -> None:
    users = [UUID(int=setup.user.int ^ number) for number in range(1_000)]
    async with setup.gateway.subscribe_to_channels([Channel(setup.other)]) as subscription:
        adding = [subscription.add(map(Channel, users[n : n + 100])) for n in range(0, 1_000, 100)]
        sending = [(setup.other, {"n": n}) for n in range(1_000)]
        await asyncio.gather(*adding, setup.gateway.publish_many("auditlog", sending))
        assert await payloads_of(subscription, 1_000) == [b'{"n":%d}' % n for n in range(1_000)]
        outcomes = await setup.gateway.publish_many("auditlog", [(user, {}) for user in users])
        assert outcomes == [1] * 1_000
        await payloads_of(subscription, 1_000)


async def test_a_channel_is_added_though_nobody_reads(setup: Setup) -> None:
    large = b"x" * 100_000
    async with setup.gateway.subscribe_to_channels([Channel(setup.user)]) as subscription:
        for _ in range(50):
            await setup.publish(f"auditlog:{setup.user}", large)
        await asyncio.wait_for(subscription.add([Channel(setup.other)]), SOON)
        await setup.publish(f"auditlog:{setup.other}", b"last")
        assert sorted(await payloads_of(subscription, 51)) == [b"last"] + [large] * 50


@pytest.mark.parametrize("turns", range(6))
async def test_of_two_who_add_the_same_one_may_give_up(setup: Setup, turns: int) -> None:
    async with setup.gateway.subscribe_to_channels([Channel(setup.user)]) as subscription:
        one = asyncio.create_task(subscription.add([Channel(setup.other)]))
        two = asyncio.create_task(subscription.add([Channel(setup.other)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait_for(two, SOON)
        await asyncio.wait({one}, timeout=SOON)
        await setup.publish(f"auditlog:{setup.other}", b'{"n": 1}')
        assert await subscription.get_message(SOON) == {"n": 1}


@pytest.mark.parametrize("turns", range(6))
async def test_adding_that_is_given_up_adds_nothing(setup: Setup, turns: int) -> None:
    async with setup.gateway.subscribe_to_channels([Channel(setup.user)]) as subscription:
        adding = asyncio.create_task(subscription.add([Channel(setup.other)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.wait({adding}, timeout=SOON)
        if adding.cancelled():
            assert subscription.channels == {Channel(setup.user)}
            await nobody_follows(setup, setup.other)


async def test_all_channels_are_taken_up_again_with_one_gap(setup: Setup) -> None:
    gaps: list[Gap] = []
    everyone = Channel(None, f"t{setup.user}")
    subscribe = setup.gateway.subscribe_to_channels
    async with subscribe([Channel(setup.user), everyone], on_gap=gaps.append) as subscription:
        await subscription.remove([Channel(setup.user)])
        await subscription.add([Channel(setup.other)])
        waiting = asyncio.create_task(subscription.get_message(gaps=True))
        await setup.break_connections()
        gap = await asyncio.wait_for(waiting, SOON)
        assert gaps == [gap]
        await nobody_follows(setup, setup.user)
        await setup.publish(f"auditlog:{setup.other}", b'{"n": 1}')
        await setup.publish(f"{everyone.channel_type}:{setup.user}", b'{"n": 2}')
        assert [await subscription.get_message(SOON) for _ in range(2)] == [{"n": 1}, {"n": 2}]
        assert gaps == [gap]


async def test_a_channel_that_is_added_while_it_is_broken_is_taken_up_too(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_channels([Channel(setup.user)]) as subscription:
        await setup.break_connections()
        await asyncio.wait_for(subscription.add([Channel(setup.other)]), SOON)
        assert isinstance(await subscription.get_message(SOON, gaps=True), Gap)
        await setup.publish(f"auditlog:{setup.other}", b'{"n": 1}')
        assert await subscription.get_message(SOON) == {"n": 1}


async def test_nothing_is_added_to_what_is_not_mended(setup: Setup) -> None:
    subscribe = setup.gateway.subscribe_to_channels
    async with subscribe([Channel(setup.user)], reconnect=False) as subscription:
        await asyncio.gather(setup.break_connections(), expect_loss(subscription))
        with pytest.raises(SubscriptionLost):
            await subscription.add([Channel(setup.other)])
        assert subscription.channels == {Channel(setup.user)}


async def test_a_forgotten_subscription_is_warned_of(setup: Setup) -> None:
    subscription = setup.gateway.subscribe_to_user_channel(setup.user, "auditlog")
    await subscription.__aenter__()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del subscription
        gc.collect()
    assert any("was not closed" in str(warning.message) for warning in caught)
