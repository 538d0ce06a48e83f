"""Going on where another subscription ended: each message once, or something is missing."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

import lykke_cli
from lykke_cli import (
    Channel,
    Gap,
    LoginRefused,
    MultiplexedSubscription,
    Position,
    RedisStreamGateway,
    ServerUnavailable,
    UsageMistake,
)
from lykke_cli.application.stream_ids import NO_ID
from lykke_cli.infrastructure.gateways import redis_stream
from lykke_cli.infrastructure.redis.portion import MOST_BYTES
from lykke_cli.infrastructure.redis.stream_layout import (
    PARTITIONS,
    partition_of,
    partitions_name,
    stream_name,
)
from tests.servers import RedisServer
from tests.streams import fill, stream_entries

SOON = 20.0  # seconds
AT_ONCE = 0.05  # seconds in which nothing is expected to come
USER = uuid.uuid4()
STREAM = stream_name("auditlog", partition_of(USER, PARTITIONS))
EVERYBODY = [Channel(None)]


@pytest.fixture
async def gateway(own_redis: RedisServer) -> AsyncIterator[RedisStreamGateway]:
    async with RedisStreamGateway(f"{own_redis.url}?transport=stream") as gateway:
        yield gateway


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with own_redis.client() as client:
        yield client


async def publish(gateway: RedisStreamGateway, *numbers: int, user: uuid.UUID = USER) -> None:
    for number in numbers:
        await gateway.publish_to_user_channel(user, "auditlog", {"n": number})


async def numbers(subscription: MultiplexedSubscription, number: int) -> list[int]:
    found = []
    for _ in range(number):
        message = await subscription.get_message(SOON)
        assert isinstance(message, dict)
        found.append(message["n"])
    return found


async def position_now(gateway: RedisStreamGateway) -> Position:
    async with gateway.subscribe_after(EVERYBODY, None) as subscription:
        pass
    assert subscription.position is not None
    return subscription.position


async def test_what_was_published_since_comes_once(gateway: RedisStreamGateway) -> None:
    position = await position_now(gateway)
    for number in (0, 2, 4):
        await publish(gateway, number)
        async with gateway.subscribe_after([Channel(USER)], position) as subscription:
            await publish(gateway, number + 1)
            assert await numbers(subscription, 2) == [number, number + 1]
            assert subscription.missing is None
        assert subscription.position is not None
        position = subscription.position


async def test_the_position_covers_what_others_got(gateway: RedisStreamGateway) -> None:
    [other] = [
        user
        for user in (uuid.UUID(int=n) for n in range(1_000))
        if partition_of(user, PARTITIONS) == partition_of(USER, PARTITIONS)
    ][:1]
    async with gateway.subscribe_after([Channel(USER)], None) as subscription:
        await publish(gateway, 1)
        assert await numbers(subscription, 1) == [1]
        before = subscription.position
        await publish(gateway, 2, user=other)
        async with asyncio.timeout(SOON):
            while subscription.position == before:
                assert await subscription.get_message(AT_ONCE) is None
    async with gateway.subscribe_after(EVERYBODY, before) as everybody:
        assert await numbers(everybody, 1) == [2]
    async with gateway.subscribe_after(EVERYBODY, subscription.position) as everybody:
        assert await everybody.get_message(AT_ONCE) is None


async def test_an_outage_is_no_gap_where_all_was_kept(
    gateway: RedisStreamGateway, client: redis.Redis
) -> None:
    gaps: list[Gap] = []
    async with gateway.subscribe_after(EVERYBODY, None, on_gap=gaps.append) as subscription:
        for number in range(3):
            client.client_kill_filter(_type="normal", skipme=True)
            await publish(gateway, number)
            assert await subscription.get_message(SOON, gaps=True) == {"n": number}
    assert not gaps


@pytest.mark.parametrize("how", ["trimmed", "deleted", "set back", "emptied", "flushed"])
async def test_what_may_be_missing_is_told_and_what_is_there_comes(
    gateway: RedisStreamGateway, client: redis.Redis, how: str
) -> None:
    await publish(gateway, 1, 2)
    position = await position_now(gateway)
    match how:
        case "trimmed":
            await publish(gateway, 3, 4)
            client.xtrim(STREAM, maxlen=1, approximate=False)
        case "emptied":
            client.xtrim(STREAM, maxlen=0, approximate=False)
        case "set back":
            client.xdel(STREAM, str(position.ids[STREAM]))
        case "deleted":
            client.delete(STREAM)
        case "flushed":
            client.flushall()
    if how != "trimmed":
        await publish(gateway, 4)
    gaps: list[Gap] = []
    async with gateway.subscribe_after(EVERYBODY, position, on_gap=gaps.append) as subscription:
        assert subscription.missing is not None and STREAM in subscription.missing
        gap = await subscription.get_message(SOON, gaps=True)
        assert gaps == [gap]
        assert gaps[0].started_at == position.heard_at
        assert await numbers(subscription, 1) == [4]
        await publish(gateway, 5)
        assert await subscription.get_message(SOON, gaps=True) == {"n": 5}
        assert subscription.position is not None
    async with gateway.subscribe_after(EVERYBODY, subscription.position) as again:
        assert again.missing is None


async def test_a_stream_that_was_empty_and_holds_only_the_last_ones_has_lost_some(
    gateway: RedisStreamGateway, client: redis.Redis
) -> None:
    position = await position_now(gateway)
    assert set(position.ids.values()) == {NO_ID}
    await publish(gateway, 1)
    async with gateway.subscribe_after(EVERYBODY, position) as subscription:
        assert subscription.missing is None
        assert await numbers(subscription, 1) == [1]
    await publish(gateway, 2)
    client.xtrim(STREAM, maxlen=1, approximate=False)
    async with gateway.subscribe_after(EVERYBODY, position) as subscription:
        assert subscription.missing is not None


async def test_large_entries_are_read_a_few_at_a_time(
    gateway: RedisStreamGateway, client: redis.Redis
) -> None:
    """However many there are: an answer with all of them would take long, and much memory."""
    position = await position_now(gateway)
    size = MOST_BYTES // 8
    for number in range(32):
        message = {"n": number, "meta": "x" * size}
        await gateway.publish_to_user_channel(USER, "auditlog", message)
    left = 32
    async with gateway.subscribe_after(EVERYBODY, position) as subscription:
        while left:
            found = await subscription.get_deliveries(SOON)
            assert 0 < sum(map(len, found.payloads)) < 2 * MOST_BYTES
            left -= len(found)
    assert left == 0


@pytest.mark.parametrize("lacking", ["get", "xread", "xrange", "xrevrange"])
async def test_a_right_that_lacks_is_told_at_once(
    client: redis.Redis, own_redis: RedisServer, lacking: str
) -> None:
    commands = ["+@all", f"-{lacking}"]
    client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=commands)
    url = own_redis.url.replace("redis://", "redis://reader:x@")
    async with RedisStreamGateway(f"{url}?transport=stream") as gateway:
        with pytest.raises(LoginRefused, match=lacking):
            await gateway.subscribe_to_channels(EVERYBODY).__aenter__()


async def test_a_key_that_is_no_stream_is_named(
    gateway: RedisStreamGateway, client: redis.Redis
) -> None:
    client.set(STREAM, "something")
    with pytest.raises(ServerUnavailable, match=f"WRONGTYPE.*{re.escape(STREAM)}"):
        await gateway.subscribe_to_channels(EVERYBODY).__aenter__()


async def test_whatever_ends_the_reading_is_heard_of(
    gateway: RedisStreamGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(redis_stream, "read", read)
    async with gateway.subscribe_to_channels(EVERYBODY) as subscription:
        with pytest.raises(ZeroDivisionError):
            await subscription.get_message(SOON)


async def test_who_reads_does_not_decide_how_many_streams_there_are(
    gateway: RedisStreamGateway, client: redis.Redis
) -> None:
    async with gateway.subscribe_to_channels(EVERYBODY):
        pass
    assert not client.exists(partitions_name("auditlog"))


@pytest.mark.parametrize("channels", [EVERYBODY, [Channel(USER)]], ids=["everybody", "one user"])
async def test_a_reader_goes_over_to_another_number_of_streams(
    gateway: RedisStreamGateway,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    channels: list[Channel],
) -> None:
    monkeypatch.setattr(redis_stream, "LOOK_INTERVAL", 0.0)
    async with gateway.subscribe_to_channels(channels) as subscription:
        client.set(partitions_name("auditlog"), 3)
        assert isinstance(await subscription.get_message(SOON, gaps=True), Gap)
        [entry] = stream_entries(1, USER)
        await asyncio.to_thread(fill, client, [entry], partitions=3)
        assert await subscription.get_message(SOON) == entry


async def test_who_publishes_asks_again_how_many_streams_there_are(
    gateway: RedisStreamGateway, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lykke_cli.infrastructure.redis.partitions.GOOD_FOR", 0.0)
    client.set(partitions_name("auditlog"), 3)
    await publish(gateway, 1)
    client.flushall()
    await publish(gateway, 2)
    assert client.get(partitions_name("auditlog")) == b"3"
    assert client.xlen(stream_name("auditlog", partition_of(USER, 3))) == 1
    client.set(partitions_name("auditlog"), 5)
    await publish(gateway, 3)
    assert client.xlen(stream_name("auditlog", partition_of(USER, 5)))


async def test_other_partitions_are_other_streams(
    gateway: RedisStreamGateway, client: redis.Redis, own_redis: RedisServer
) -> None:
    position = await position_now(gateway)
    client.flushall()
    client.set(partitions_name("auditlog"), 2 * PARTITIONS)
    async with RedisStreamGateway(f"{own_redis.url}?transport=stream") as other:
        await publish(other, 1)
        async with other.subscribe_after(EVERYBODY, position) as subscription:
            assert subscription.missing is not None
            assert await numbers(subscription, 1) == [1]


async def test_an_application_goes_on_by_streams_without_a_database(
    gateway: RedisStreamGateway, client: redis.Redis, own_redis: RedisServer
) -> None:
    url, gaps = f"{own_redis.url}?transport=stream", list[Gap]()

    def following() -> lykke_cli.Following:
        return lykke_cli.follow(
            USER, place="billing", live_only=True, redis_url=url, on_gap=gaps.append
        )

    async def commit(number: int) -> list[str]:
        return await asyncio.to_thread(
            fill, client, stream_entries(number, USER), partitions=PARTITIONS
        )

    async with asyncio.timeout(SOON):
        await commit(1)  # of an empty stream nobody can tell later that it was another one
        async with following():
            pass
        for _ in range(2):
            published = await commit(2)
            async with following() as entries:
                published += await commit(1)
                assert [(await anext(entries)).id for _ in range(3)] == published
                entries.acknowledge()
        assert not gaps
        client.flushall()
        [kept] = await commit(1)
        async with following() as entries:
            assert (await anext(entries)).id == kept
    assert len(gaps) == 1
    with pytest.raises(UsageMistake, match="transport stream"):
        lykke_cli.follow(USER, place="billing", live_only=True, redis_url=own_redis.url)
