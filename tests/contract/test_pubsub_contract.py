"""What every gateway does: in memory, on fakeredis, on a real server."""

import asyncio
import gc
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from uuid import UUID

import fakeredis
import pytest

from lykke_cli import MemoryPubSubGateway, PubSubGatewayProtocol, RedisPubSubGateway, Unreadable
from lykke_cli.application.errors import SubscriptionClosed, UsageMistake
from tests.servers import RedisServer

AT_ONCE = 0.05  # seconds in which nothing is expected to come
SOON = 5.0  # seconds in which it must


@dataclass
class Setup:
    gateway: PubSubGatewayProtocol
    publish: Callable[[str, bytes], Awaitable[object]]
    user: UUID
    other: UUID


@pytest.fixture(params=["memory", "fakeredis", "redis"])
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[Setup]:
    user, other = uuid.uuid4(), uuid.uuid4()
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            memory = await stack.enter_async_context(MemoryPubSubGateway())

            async def publish(channel: str, payload: bytes) -> int:
                return memory.publish(channel, payload)

            yield Setup(memory, publish, user, other)
        elif request.param == "fakeredis":
            client = fakeredis.FakeAsyncRedis()
            gateway = await stack.enter_async_context(RedisPubSubGateway(client=client))
            yield Setup(gateway, client.publish, user, other)
        else:
            server: RedisServer = request.getfixturevalue("redis_server")
            gateway = await stack.enter_async_context(RedisPubSubGateway(server.url))

            async def publish_for_real(channel: str, payload: bytes) -> object:
                def publish() -> object:
                    with server.client() as client:
                        return client.publish(channel, payload)

                return await asyncio.to_thread(publish)

            yield Setup(gateway, publish_for_real, user, other)


async def test_what_is_published_after_entering_arrives(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        await setup.publish(f"auditlog:{setup.user}", b'{"n": 1}')
        assert await subscription.get_message(SOON) == {"n": 1}


async def test_time_out_is_none(setup: Setup) -> None:
    async with setup.gateway.subscribe_to_user_channel(setup.user, "auditlog") as subscription:
        assert await subscription.get_message(AT_ONCE) is None
        assert await subscription.get_deliveries(AT_ONCE) == []


async def test_publishing_tells_how_many_got_it(setup: Setup) -> None:
    gateway = setup.gateway
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
        assert got == [
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


async def test_a_forgotten_subscription_is_warned_of(setup: Setup) -> None:
    subscription = setup.gateway.subscribe_to_user_channel(setup.user, "auditlog")
    await subscription.__aenter__()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del subscription
        gc.collect()
    assert any("was not closed" in str(warning.message) for warning in caught)
