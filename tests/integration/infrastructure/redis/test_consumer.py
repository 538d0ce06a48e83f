"""A consumer of a group on a real server: what it is given, and what becomes of it."""

import asyncio
import re
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
import redis.asyncio

from lykke_cli.application.consuming import StreamEntry
from lykke_cli.application.errors import (
    LoginRefused,
    ServerUnavailable,
    StreamsMissing,
    UsageMistake,
)
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.gateways.redis_pubsub import RedisPubSubGateway
from lykke_cli.infrastructure.redis.consumer import RedisGroupConsumer
from lykke_cli.infrastructure.redis.stream_layout import (
    dead_letter_name,
    partitions_name,
    stream_names,
)
from lykke_cli.infrastructure.redis.urls import parse_redis_url
from tests.servers import RedisServer, wait_until
from tests.streams import PARTITIONS, fill, pending, stream_entries

DEADLINE = 20.0  # seconds
SOON = 0.5  # seconds, as `claim_after` of a member whose predecessor is dead
Make = Callable[..., RedisGroupConsumer]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        yield client


@pytest.fixture
def kind() -> str:
    """A type of channels that no other test has."""
    return f"log-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make(redis_server: RedisServer, kind: str) -> Make:
    return partial(RedisGroupConsumer, parse_redis_url(redis_server.url), kind, group="g")


def names(kind: str) -> list[str]:
    return list(stream_names(kind, PARTITIONS))


def ids(entries: list[StreamEntry]) -> list[str]:
    return [orjson.loads(entry.payload)["id"] for entry in entries]


async def take(consumer: RedisGroupConsumer, number: int) -> list[StreamEntry]:
    """So many entries, which are not acknowledged."""
    taken: list[StreamEntry] = []
    async with asyncio.timeout(DEADLINE):
        while len(taken) < number:
            taken += await consumer.get()
    return taken


async def until(condition: Callable[[], Any]) -> None:
    await asyncio.to_thread(wait_until, condition, "what was waited for")


async def test_two_members_share_the_entries(client: redis.Redis, kind: str, make: Make) -> None:
    written = fill(client, stream_entries(100), kind)
    async with make(consumer="a", batch=8) as one, make(consumer="b", batch=8) as other:
        taken = [[*await take(one, 1)], [*await take(other, 1)]]
        for member, some in zip((one, other), taken, strict=True):
            await member.ack(*some)
        while sum(map(len, taken)) < 100:
            for member, some in zip((one, other), taken, strict=True):
                more = await member.get(0.05)
                await member.ack(*more)
                some += more
    assert sorted(ids(taken[0] + taken[1])) == sorted(written)
    assert taken[0] and taken[1]
    assert not list(pending(client, "g", kind))


async def test_an_entry_is_what_was_written(client: redis.Redis, kind: str, make: Make) -> None:
    [entry] = stream_entries(1)
    fill(client, [entry], kind)
    async with make() as consumer:
        async for taken in consumer:
            assert (taken.message, taken.user_id) == (entry, entry["user_id"])
            assert taken.deliveries == 1
            break


async def test_what_was_not_acknowledged_comes_again_first_and_at_once(
    client: redis.Redis, kind: str, make: Make
) -> None:
    first = fill(client, stream_entries(10), kind)
    async with make(consumer="a") as consumer:
        taken = await take(consumer, 10)
        await consumer.ack(*taken[:4])
    later = fill(client, stream_entries(5), kind)
    async with make(consumer="a") as consumer:
        again = await take(consumer, 11)
    assert sorted(ids(again[:6])) == sorted(ids(taken[4:]))
    assert sorted(ids(again[6:])) == sorted(later)
    assert {entry.deliveries for entry in again[:6]} == {2}
    assert set(ids(taken)) == set(first)


async def test_more_that_is_pending_than_is_read_at_once_comes_in_order(
    client: redis.Redis, kind: str, make: Make
) -> None:
    written = fill(client, stream_entries(40, uuid.uuid4()), kind)
    async with make(consumer="a", batch=50) as consumer:
        await take(consumer, 40)
    async with make(consumer="a", batch=5) as consumer:
        assert ids(await take(consumer, 40)) == written
        later = fill(client, stream_entries(1), kind)
        assert ids(await take(consumer, 1)) == later


async def test_another_member_takes_over_from_one_that_is_gone(
    client: redis.Redis, kind: str, make: Make
) -> None:
    written = fill(client, stream_entries(10), kind)
    async with make(consumer="a") as consumer:
        await take(consumer, 10)
    async with make(consumer="b", claim_after=SOON) as consumer:
        taken = await take(consumer, 10)
        await consumer.ack(*taken)
    assert sorted(ids(taken)) == sorted(written)
    assert {entry.deliveries for entry in taken} == {2}


async def test_it_tells_since_when_something_could_come(own_redis: RedisServer, kind: str) -> None:
    with own_redis.client() as client:
        fill(client, (), kind)
    address = parse_redis_url(own_redis.url)
    async with RedisGroupConsumer(address, kind, group="g") as consumer:
        await until(lambda: consumer.reads_since is not None)
        await asyncio.to_thread(own_redis.kill)
        await until(lambda: consumer.reads_since is None)
        await asyncio.to_thread(own_redis.start)
        await until(lambda: consumer.reads_since is not None)
    assert consumer.reads_since is None


async def test_what_it_read_and_never_gave_is_another_ones_at_once(
    client: redis.Redis, kind: str, make: Make
) -> None:
    written = fill(client, stream_entries(40), kind)
    async with make(consumer="a", batch=1) as consumer:
        [first] = await consumer.get()
        await consumer.ack(first)
        await until(lambda: len(list(pending(client, "g", kind))) > 1)
    async with make(consumer="b", max_deliveries=1) as consumer:
        taken = await take(consumer, 39)
    assert sorted(ids([first, *taken])) == sorted(written)
    assert {entry.deliveries for entry in taken} == {1}


async def test_what_is_held_is_renewed(client: redis.Redis, kind: str, make: Make) -> None:
    fill(client, stream_entries(1), kind)
    async with make(claim_after=3.0) as consumer:
        await take(consumer, 1)
        oldest = 0

        def is_renewed() -> bool:
            nonlocal oldest
            [row] = pending(client, "g", kind)
            before, oldest = oldest, row["time_since_delivered"]
            return bool(oldest < before)

        await until(is_renewed)
        [row] = pending(client, "g", kind)
        assert row["times_delivered"] == 1


async def test_what_is_let_go_comes_again(client: redis.Redis, kind: str, make: Make) -> None:
    fill(client, stream_entries(1), kind)
    async with make(claim_after=SOON) as consumer:
        [entry] = await take(consumer, 1)
        consumer.let_go(entry)
        [again] = await take(consumer, 1)
        assert (again.id, again.deliveries) == (entry.id, 2)


async def test_what_nobody_acknowledges_becomes_a_dead_letter(
    client: redis.Redis, kind: str, make: Make
) -> None:
    [written] = stream_entries(1)
    fill(client, [written], kind)
    notices: list[str] = []
    async with make(claim_after=SOON, max_deliveries=2, on_notice=notices.append) as consumer:
        for _ in range(2):
            [entry] = await take(consumer, 1)
            consumer.let_go(entry)
        dead = dead_letter_name(entry.stream)
        await until(lambda: client.xlen(dead))
        assert await consumer.get(0.1) == []
    letters: Any = client.xrange(dead)
    [(_, letter)] = letters
    assert orjson.loads(letter[b"e"]) == written
    assert letter[b"u"] == written["user_id"].encode()
    assert (letter[b"id"], letter[b"group"]) == (entry.id.encode(), b"g")
    assert not list(pending(client, "g", kind))
    [notice] = notices
    assert notice == (
        f"the entry {entry.id} of {entry.stream} was given out 2 times and never acknowledged: "
        f"it is in {dead} now"
    )


async def test_what_is_no_message_is_passed_over(
    client: redis.Redis, kind: str, make: Make
) -> None:
    written = fill(client, stream_entries(1), kind)
    for name in names(kind):
        client.xadd(name, {"x": "y"})
        client.xadd(name, {"e": "not JSON", "z": "1"})
    async with make() as consumer:
        taken = await take(consumer, 1 + PARTITIONS)
        await consumer.ack(*taken)
        await until(lambda: not list(pending(client, "g", kind)))
    messages = [entry.payload for entry in taken]
    assert messages.count(b"not JSON") == PARTITIONS
    assert [orjson.loads(m)["id"] for m in messages if m != b"not JSON"] == written


async def test_a_group_that_is_gone_is_made_again(
    client: redis.Redis, kind: str, make: Make
) -> None:
    first = fill(client, stream_entries(40), kind)
    notices: list[str] = []
    async with make(on_notice=notices.append) as consumer:
        taken = await take(consumer, 40)
        await consumer.ack(*taken)
        for name in names(kind):
            client.xgroup_destroy(name, "g")
        later = fill(client, stream_entries(40), kind)
        while not set(later) <= set(ids(taken)):
            more = await take(consumer, 1)
            await consumer.ack(*more)
            taken += more
        assert set(ids(taken)) == {*first, *later}
    assert any(f"the group g of {names(kind)[0]} was gone: made again" in n for n in notices)


async def test_a_stream_that_is_deleted_is_gone_on_with(
    client: redis.Redis, kind: str, make: Make
) -> None:
    fill(client, stream_entries(40), kind)
    notices: list[str] = []
    async with make(on_notice=notices.append) as consumer:
        await consumer.ack(*await take(consumer, 40))
        client.delete(*names(kind))
        later = fill(client, stream_entries(40), kind)
        taken: list[StreamEntry] = []
        while not set(later) <= set(ids(taken)):
            taken += await take(consumer, 1)
    assert any("made again, for all that it keeps" in notice for notice in notices)


async def test_what_was_trimmed_before_it_was_acknowledged_is_told(
    client: redis.Redis, kind: str, make: Make
) -> None:
    user = uuid.uuid4()
    fill(client, stream_entries(5, user), kind)
    async with make(consumer="a") as consumer:
        [entry, *_] = await take(consumer, 5)
    client.xtrim(entry.stream, maxlen=2, approximate=False)
    notices: list[str] = []
    async with make(consumer="a", on_notice=notices.append) as consumer:
        taken = await take(consumer, 2)
        await consumer.ack(*taken)
        await until(lambda: not list(pending(client, "g", kind)))
    [notice] = notices
    assert notice == (
        f"3 entries of {entry.stream} were trimmed before anybody in the group g acknowledged "
        "them: they are lost to it"
    )


async def test_a_lost_connection_is_taken_up_again(
    client: redis.Redis, kind: str, make: Make
) -> None:
    written = fill(client, stream_entries(60), kind)
    notices: list[str] = []
    async with make(consumer="a", batch=4, on_notice=notices.append) as consumer:
        taken: list[StreamEntry] = []
        while set(ids(taken)) != set(written):
            some = await take(consumer, 1)
            if len(taken) < 30:
                client.client_kill_filter(_type="normal", skipme=True)
            await consumer.ack(*some)
            taken += some
    assert len(taken) == len(written)
    assert not list(pending(client, "g", kind))
    assert any("was lost" in notice for notice in notices)


async def test_a_server_that_refuses_for_a_while_is_waited_for_and_told_of_once(
    own_redis: RedisServer, kind: str
) -> None:
    notices: list[str] = []
    address = parse_redis_url(own_redis.url)
    with own_redis.client() as client:
        fill(client, (), kind)

        def attempts() -> int:
            return int(client.info("stats")["total_connections_received"])

        consumer = RedisGroupConsumer(address, kind, group="g", on_notice=notices.append)
        async with consumer:
            client.config_set("min-replicas-to-write", 1)
            await until(lambda: notices)
            before = attempts()
            await until(lambda: attempts() >= before + 6)  # two at a time
            client.config_set("min-replicas-to-write", 0)
            written = fill(client, stream_entries(1), kind)
            assert ids(await take(consumer, 1)) == written
    [lost, again] = notices
    assert "NOREPLICAS" in lost
    assert again.endswith("again")


async def test_a_new_group_may_begin_now(client: redis.Redis, kind: str, make: Make) -> None:
    fill(client, stream_entries(10), kind)
    async with make(from_now=True) as consumer:
        assert await consumer.get(0.1) == []
        later = fill(client, stream_entries(10), kind)
        assert sorted(ids(await take(consumer, 10))) == sorted(later)


async def test_a_consumer_leaves_nothing_behind_but_what_is_pending(
    client: redis.Redis, kind: str, make: Make
) -> None:
    fill(client, stream_entries(40), kind)
    async with make(consumer="busy") as busy, make(consumer="done"):
        taken = await take(busy, 40)
        await busy.ack(*taken[1:])
    found = [one["name"] for name in names(kind) for one in client.xinfo_consumers(name, "g")]
    assert found == [b"busy"]
    assert [row["message_id"].decode() for row in pending(client, "g", kind)] == [taken[0].id]


async def test_without_streams_it_says_who_makes_them(make: Make) -> None:
    with pytest.raises(StreamsMissing, match="Start `lykke relay`"):
        async with make():
            pass


async def test_a_right_that_lacks_is_told(
    redis_server: RedisServer, client: redis.Redis, kind: str
) -> None:
    fill(client, stream_entries(1), kind)
    client.acl_setuser(
        kind, enabled=True, nopass=True, keys=["*"], commands=["+@all", "-xreadgroup"]
    )
    address = parse_redis_url(redis_server.url.replace("redis://", f"redis://{kind}:x@"))
    with pytest.raises(LoginRefused, match="xreadgroup"):
        async with RedisGroupConsumer(address, kind, group="g") as consumer:
            await consumer.get(DEADLINE)


async def test_the_rights_that_the_documentation_names_are_enough(
    redis_server: RedisServer, client: redis.Redis, kind: str
) -> None:
    page = (Path(__file__).parents[4] / "docs" / "delivery.md").read_text("utf-8")
    [rights] = re.findall(r"a consumer needs `([^`]+)`", page)
    client.acl_setuser(kind, enabled=True, nopass=True, keys=[f"{kind}:*"], commands=rights.split())
    written = fill(client, stream_entries(20), kind)
    address = parse_redis_url(redis_server.url.replace("redis://", f"redis://{kind}:x@"))
    make = partial(RedisGroupConsumer, address, kind, group="g", claim_after=SOON)
    async with make(max_deliveries=1) as consumer:
        taken = await take(consumer, 20)
        await consumer.ack(*taken[1:])
        for name in names(kind):
            client.xgroup_destroy(name, "g")
        while len(set(ids(taken))) < 21:
            written += fill(client, stream_entries(1), kind)
            taken += await take(consumer, 1)
        consumer.let_go(*taken)
        await until(lambda: client.keys(f"{kind}:*:dead"))
    assert set(ids(taken)) <= set(written)


async def test_another_number_of_streams_ends_it(
    client: redis.Redis, kind: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lykke_cli.infrastructure.redis.consumer.LOOK_INTERVAL", 0.05)
    fill(client, (), kind)
    async with make() as consumer:
        client.delete(partitions_name(kind))
        assert not await consumer.get(0.2)
        client.set(partitions_name(kind), PARTITIONS + 1)
        with pytest.raises(StreamsMissing, match=f"{PARTITIONS + 1} streams now"):
            await consumer.get(DEADLINE)


async def test_a_key_that_is_no_stream_is_named(client: redis.Redis, kind: str, make: Make) -> None:
    fill(client, (), kind)
    client.set(names(kind)[1], "something")
    with pytest.raises(ServerUnavailable, match=f"WRONGTYPE.*{re.escape(names(kind)[1])}"):
        async with make():
            pass


@pytest.mark.parametrize(
    "options",
    [
        {"group": ""},
        {"consumer": ""},
        {"group": "\udcff"},
        {"consumer": "\udcff"},
        {"claim_after": 0},
        {"claim_after": 0.4},  # it would claim what it holds itself, until that is given up
        {"max_deliveries": 0},
        {"batch": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(make: Make, options: dict[str, Any]) -> None:
    with pytest.raises(UsageMistake):
        make(**options)


async def test_it_is_entered_once_and_of_no_use_when_closed(
    client: redis.Redis, kind: str, make: Make
) -> None:
    fill(client, stream_entries(1), kind)
    async with make() as consumer:
        with pytest.raises(LykkeError, match="once"):
            await consumer.__aenter__()
    await consumer.close()
    with pytest.raises(LykkeError, match="not open"):
        await consumer.get()


async def test_a_gateway_consumes(
    redis_server: RedisServer, client: redis.Redis, kind: str
) -> None:
    written = fill(client, stream_entries(3), kind)
    async with RedisPubSubGateway(redis_server.url) as gateway:
        async with gateway.consume(group="g", channel_type=kind) as consumer:
            assert sorted(ids(await take(consumer, 3))) == sorted(written)
    async with RedisPubSubGateway(client=redis.asyncio.Redis()) as gateway:
        with pytest.raises(UsageMistake, match="give a url"):
            gateway.consume(group="g")
