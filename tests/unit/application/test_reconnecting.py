"""What is told of a connection that breaks and comes back, and in which order."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager

import pytest

from lykke_cli import (
    Channel,
    Deliveries,
    Delivery,
    Gap,
    LoginRefused,
    MemoryPubSubGateway,
    ServerUnavailable,
)
from lykke_cli.application.backoff import Backoff
from lykke_cli.application.errors import SubscriptionLost, UsageMistake
from lykke_cli.application.gateways.pubsub_protocol import Kept, Position
from lykke_cli.application.reconnecting import Reconnecting
from lykke_cli.infrastructure.gateways.memory_pubsub import MemorySubscription
from tests.unit.application.keeping_gateway import HEARD_AT, KeepingGateway, position

USER = uuid.UUID(int=7)
CHANNEL = f"auditlog:{USER}"
SOON = 20.0  # seconds in which what is expected must come
SHORT = 0.001  # seconds


class Server(MemoryPubSubGateway):
    """Refuses with what it is told to, so many times each."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[ServerUnavailable] = []

    def _attach(self, subscription: object) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        super()._attach(subscription)  # type: ignore[arg-type]

    def cut(self) -> None:
        self.disconnect()
        self.restore()


@asynccontextmanager
async def following(server: Server) -> AsyncIterator[Reconnecting]:
    backoff = Backoff(base=SHORT, cap=SHORT)
    async with Reconnecting(server, [Channel(USER)], backoff=backoff) as link, server:
        yield link


async def next_of(link: Reconnecting) -> object:
    return await asyncio.wait_for(link.next(), SOON)


async def test_a_break_is_told_after_what_came_and_its_end_before_what_follows() -> None:
    server = Server()
    async with following(server) as link:
        server.publish(CHANNEL, b"1")
        first = await next_of(link)
        server.cut()
        lost, gap = await next_of(link), await next_of(link)
        server.publish(CHANNEL, b"2")
        second = await next_of(link)
    assert isinstance(first, Deliveries) and isinstance(second, Deliveries)
    assert (first.payloads, second.payloads) == ([b"1"], [b"2"])
    assert isinstance(lost, SubscriptionLost) and isinstance(gap, Gap)
    assert gap.started_at == lost.since


async def test_why_it_lasts_is_told_when_the_reason_is_of_another_kind() -> None:
    server = Server()
    async with following(server) as link:
        server.refusals = [ServerUnavailable("away")] * 2 + [LoginRefused("no")] * 2
        server.refusals += [ServerUnavailable("away")]
        server.cut()
        told = [await next_of(link) for _ in range(4)]
    assert [type(one) for one in told] == [SubscriptionLost, LoginRefused, ServerUnavailable, Gap]


async def test_a_wait_that_is_given_up_gives_up_no_attempt() -> None:
    server = Server()
    async with following(server) as link:
        server.disconnect()
        assert isinstance(await next_of(link), SubscriptionLost)
        assert not link.is_connected
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.next(), 10 * SHORT)
        server.restore()
        assert isinstance(await next_of(link), Gap)
        assert link.is_connected


async def test_channels_that_come_and_go_while_it_subscribes_again_are_no_exception(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, other, opens = Server(), uuid.UUID(int=8), MemorySubscription._open

    async def with_changes(subscription: MemorySubscription) -> None:
        await opens(subscription)
        await link.add([Channel(other)])
        await link.remove([Channel(USER)])

    async with following(server) as link:
        monkeypatch.setattr(MemorySubscription, "_open", with_changes)
        server.cut()
        assert isinstance(await next_of(link), SubscriptionLost)
        assert isinstance(await next_of(link), Gap)
        assert link.channels == {Channel(other)}
        assert server.publish(CHANNEL, b"1") == 0
        assert server.publish(Channel(other).name, b"2") == 1
        came = await next_of(link)
    assert isinstance(came, Deliveries)
    assert came.payloads == [b"2"]


async def test_a_channel_added_in_a_break_that_is_refused_is_dropped_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, other = Server(), Channel(uuid.UUID(int=8))
    secret, follow = Channel(USER, "secret"), MemorySubscription._follow

    async def permitted(subscription: MemorySubscription, channels: Set[Channel]) -> None:
        if secret in channels:
            raise LoginRefused("no", remedy="Ask.")
        await follow(subscription, channels)

    async with following(server) as link:
        monkeypatch.setattr(MemorySubscription, "_follow", permitted)
        server.disconnect()
        assert isinstance(await next_of(link), SubscriptionLost)
        await link.add([secret, other])
        server.restore()
        assert isinstance(await next_of(link), Gap)
        refused = await next_of(link)
        assert isinstance(refused, LoginRefused)
        assert str(refused) == f"Not followed: secret:{USER}. no Ask."
        assert link.channels == {Channel(USER), other}
        assert server.publish(CHANNEL, b"1") == server.publish(other.name, b"2") == 1
        came = await next_of(link)
    assert isinstance(came, Deliveries)
    assert came.payloads == [b"1", b"2"]


async def test_closing_while_it_is_broken_leaves_nothing_open() -> None:
    server = Server()
    async with following(server) as link:
        server.disconnect()
        assert isinstance(await next_of(link), SubscriptionLost)
        server.restore()
        await link.close()
        assert server.publish(CHANNEL, b"1") == 0


@pytest.mark.parametrize("turns", range(8))
async def test_a_close_that_is_cancelled_leaves_nothing_open_either(turns: int) -> None:
    server = Server()
    async with following(server) as link:
        server.disconnect()
        assert isinstance(await next_of(link), SubscriptionLost)
        server.restore()
        await asyncio.sleep(2 * SHORT)  # by then it has subscribed again
        closing = asyncio.create_task(link.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing}, timeout=SOON)
        await link.close()
        assert server.publish(CHANNEL, b"1") == 0


@asynccontextmanager
async def going_on(
    server: KeepingGateway, after: Position | None = None
) -> AsyncIterator[Reconnecting]:
    backoff = Backoff(base=SHORT, cap=SHORT)
    channels = [Channel(USER)]
    async with (
        Reconnecting(server, channels, backoff=backoff, goes_on=True, position=after) as link,
        server,
    ):
        yield link


async def outage(server: KeepingGateway, link: Reconnecting) -> Gap:
    """A break, in which something is published, and what is told of its end."""
    server.disconnect()
    assert isinstance(await next_of(link), SubscriptionLost)
    server.kept += [Delivery(CHANNEL, b"away")] * 2
    server.restore()
    gap = await next_of(link)
    assert isinstance(gap, Gap)
    return gap


async def test_what_was_kept_in_an_outage_comes_after_it() -> None:
    server = KeepingGateway()
    server.publish(CHANNEL, b"before")
    async with going_on(server) as link:
        assert link.position == position(1)
        server.publish(CHANNEL, b"1")
        await next_of(link)
        assert link.position == position(2)
        assert (await outage(server, link)).kept is Kept.ALL
        assert link.position == position(2)
        kept = await next_of(link)
        assert isinstance(kept, Deliveries) and kept.payloads == [b"away", b"away"]
        assert link.position == position(4)
    assert link.position == position(4)


async def test_an_outage_in_which_some_was_not_kept_says_so() -> None:
    server = KeepingGateway()
    async with going_on(server) as link:
        server.trimmed = 1
        gap = await outage(server, link)
        assert (gap.started_at, gap.kept) == (HEARD_AT, Kept.SOME)
        assert link.missing is not None
        kept = await next_of(link)
        assert isinstance(kept, Deliveries) and kept.payloads == [b"away"]


@pytest.mark.parametrize(("trimmed", "gap"), [(1, False), (2, True)])
async def test_it_begins_at_the_position_that_it_is_given(trimmed: int, gap: bool) -> None:
    server = KeepingGateway()
    for number in range(3):
        server.publish(CHANNEL, b"%d" % number)
    server.trimmed = trimmed
    async with going_on(server, position(1)) as link:
        kept = await next_of(link)
        assert isinstance(kept, Deliveries) and kept.payloads == [b"1", b"2"][gap:]
    assert (link.first_gap is not None) == gap
    if link.first_gap is not None:
        assert link.first_gap.started_at == HEARD_AT <= link.first_gap.ended_at
        assert link.first_gap.kept is Kept.SOME


async def test_messages_that_came_together_are_behind_the_position_when_all_were_taken() -> None:
    server = KeepingGateway()
    for number in range(2):
        server.publish(CHANNEL, b'{"n": %d}' % number)
    async with going_on(server, position(0)) as link:
        assert await link.get_message(SOON) == {"n": 0}
        assert link.position == position(0)
        assert await link.get_message(SOON) == {"n": 1}
        assert link.position == position(2)


async def test_a_gap_is_for_who_reads_messages_only_where_some_are_missing() -> None:
    server = KeepingGateway()
    server.publish(CHANNEL, b'{"n": 0}')
    server.trimmed = 1
    async with going_on(server, position(0)) as link:
        assert await link.get_message(SOON, gaps=True) == link.first_gap
        server.disconnect()
        server.restore()
        server.publish(CHANNEL, b'{"n": 1}')
        assert await link.get_message(SOON, gaps=True) == {"n": 1}


async def test_where_nothing_is_kept_there_is_nothing_to_go_on_with() -> None:
    async with MemoryPubSubGateway() as gateway, following(Server()) as link:
        assert link.position is None
        with pytest.raises(UsageMistake, match="transport stream"):
            gateway.subscribe_after([Channel(USER)], position(1))
