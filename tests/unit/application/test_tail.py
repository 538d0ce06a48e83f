"""Who gets a turn, and what is told, when everything happens at once."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any, cast

import msgspec
import pytest

from lykke_cli import MemoryPubSubGateway, ServerUnavailable
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, HistoryProtocol
from lykke_cli.application.gateways.pubsub_protocol import Kept
from lykke_cli.application.live_only import LiveOnly, position_in
from lykke_cli.application.merge import Print, Save
from lykke_cli.application.messages import Entry, decode
from lykke_cli.application.statuses import Connected, Disconnected, HistoryAway, HistoryRead, Notice
from lykke_cli.application.tail import Event, Tail, TailRequest
from tests.builders import entity, wire
from tests.unit.application.keeping_gateway import HEARD_AT, KeepingGateway, position

USER = uuid.UUID(int=7)
CHANNEL = f"auditlog:{USER}"
SOON = 20.0  # seconds in which what is expected must come
SHORT = 0.01  # seconds between reads
CHUNK = HistoryChunk(rows=(), cursor=Cursor({}), last=True)


class History:
    """Nothing was committed; `errors` are raised by the next reads, one each."""

    def __init__(self, errors: Sequence[Exception | None] = ()) -> None:
        self.errors = list(errors)
        self.reads = 0

    async def changes(self, *args: Any, **options: Any) -> AsyncGenerator[HistoryChunk]:
        self.reads += 1
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        yield CHUNK

    begin = changes


def a_tail(gateway: MemoryPubSubGateway, history: History | None) -> Tail:
    request = TailRequest(user_ids={USER})
    return Tail(gateway, cast(HistoryProtocol | None, history), request, reconcile_interval=SHORT)


async def take(tail: Tail, number: int) -> list[Event]:
    taken: list[Event] = []
    async with asyncio.timeout(SOON), aclosing(tail.events()) as events:
        async for event in events:
            if isinstance(event, Connected | Disconnected | HistoryAway | HistoryRead):
                taken.append(event)
            if len(taken) == number:
                break
    return taken


async def test_however_much_comes_live_history_is_read_all_the_same() -> None:
    history, live = History(), 0
    async with MemoryPubSubGateway() as gateway, asyncio.timeout(SOON):
        async with aclosing(a_tail(gateway, history).events()) as events:
            async for event in events:
                live += isinstance(event, Print)
                if live > 3 and history.reads > 3:
                    break
                gateway.publish(CHANNEL, wire(entity(USER)))  # the next is there already
                await asyncio.sleep(0)


async def test_a_history_that_fails_at_first_ends_it() -> None:
    async with MemoryPubSubGateway() as gateway:
        with pytest.raises(ServerUnavailable, match="away"):
            await take(a_tail(gateway, History([ServerUnavailable("away")])), 1)


async def test_a_history_that_fails_later_is_told_of_once_and_read_again() -> None:
    away = ServerUnavailable("away")
    async with MemoryPubSubGateway() as gateway:
        told = await take(a_tail(gateway, History([None, away, away])), 4)
    assert [type(event) for event in told] == [Connected, HistoryRead, HistoryAway, HistoryRead]
    assert told[-1] == HistoryRead(0, after_failure=True)


async def test_what_is_wrong_at_the_start_ends_it_before_anything_is_read() -> None:
    gateway, history = MemoryPubSubGateway(), History()
    gateway.disconnect()
    with pytest.raises(ServerUnavailable):
        await take(a_tail(gateway, history), 1)
    assert history.reads == 0


async def test_a_break_is_told_with_its_gap() -> None:
    async with MemoryPubSubGateway() as gateway:
        following = asyncio.create_task(take(a_tail(gateway, None), 3))
        while not gateway.publish(CHANNEL, b"{}"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        gateway.disconnect()
        gateway.restore()
        first, lost, again = await following
    assert first == Connected(CHANNEL, None)
    assert isinstance(lost, Disconnected)
    assert isinstance(again, Connected) and again.gap is not None


async def test_a_read_that_does_not_heed_its_first_cancellation_ends_all_the_same() -> None:
    class Stubborn(History):
        has_begun = asyncio.Event()

        async def begin(self, *args: Any, **options: Any) -> AsyncGenerator[HistoryChunk]:
            self.has_begun.set()
            with suppress(asyncio.CancelledError):  # as asyncio.wait_for may, before Python 3.12
                await asyncio.Event().wait()
            await asyncio.Event().wait()
            yield CHUNK

    async with MemoryPubSubGateway() as gateway:
        following = asyncio.create_task(take(a_tail(gateway, Stubborn()), 1))
        await Stubborn.has_begun.wait()
        following.cancel()
        await asyncio.wait({following}, timeout=SOON / 2)  # before it gives up by itself
    assert following.cancelled()


@pytest.mark.parametrize(
    ("is_back", "then"),
    [(True, [Connected, HistoryRead]), (False, [HistoryRead, Connected])],
    ids=["back", "away"],
)
async def test_a_break_before_history_has_begun_is_no_gap(
    is_back: bool, then: list[type[Event]]
) -> None:
    class Slow(History):
        """Begins with a break, and answers when the connection is back, or before."""

        async def begin(self, *args: Any, **options: Any) -> AsyncGenerator[HistoryChunk]:
            gateway.disconnect()
            if is_back:
                gateway.restore()
                while not gateway.publish(CHANNEL, b"{}"):  # noqa: ASYNC110
                    await asyncio.sleep(0)
            for _ in range(10):  # until that was heard of
                await asyncio.sleep(0)
            yield CHUNK
            gateway.restore()

    async with MemoryPubSubGateway() as gateway:
        told = await take(a_tail(gateway, cast(History, Slow())), 3)
    assert [type(event) for event in told] == [Disconnected, *then]
    assert Connected(CHANNEL, None) in told


async def test_a_read_during_which_the_connection_came_back_goes_on() -> None:
    class Slow(History):
        """Waits with every answer after the first."""

        answers = asyncio.Event()

        async def changes(self, *args: Any, **options: Any) -> AsyncGenerator[HistoryChunk]:
            await self.answers.wait()
            yield CHUNK

    async with MemoryPubSubGateway() as gateway:
        tail, slow = a_tail(gateway, Slow()), Slow.answers
        reads: list[bool] = []
        async with asyncio.timeout(SOON), aclosing(tail.events()) as events:
            async for event in events:
                match event:
                    case HistoryRead(goes_on=goes_on):
                        reads.append(goes_on)
                    case Connected(_, None):
                        gateway.disconnect()
                    case Disconnected():
                        gateway.restore()
                    case Connected():
                        slow.set()
                if len(reads) == 3:
                    break
    assert reads == [False, True, False]


async def test_what_should_have_come_live_is_recovered() -> None:
    rows = cast(list[Entry], [decode(wire(entity(USER))) for _ in range(2)])
    row_by_row = [HistoryChunk(rows=(row,), cursor=Cursor({}), last=True) for row in rows]

    class Found(History):
        async def changes(self, *args: Any, **options: Any) -> AsyncGenerator[HistoryChunk]:
            yield row_by_row.pop(0) if row_by_row else CHUNK

        begin = changes

    sources: list[str] = []
    async with MemoryPubSubGateway() as gateway, asyncio.timeout(SOON):
        async with aclosing(a_tail(gateway, Found()).events()) as events:
            async for event in events:
                if isinstance(event, Print):
                    sources += [arrival.source for arrival in event.arrivals]
                if len(sources) == 2:
                    break
    assert sources == ["history", "recovered"]


async def test_a_subscription_by_which_nothing_comes_is_made_anew_once() -> None:
    class Found(History):
        async def changes(self, *args: Any, **options: Any) -> AsyncGenerator[HistoryChunk]:
            row = cast(Entry, decode(wire(entity(USER))))
            yield HistoryChunk(rows=(row,), cursor=Cursor({}), last=True)

        begin = changes

    async with MemoryPubSubGateway() as gateway:
        told = await take(a_tail(gateway, Found()), 12)
    kinds = [type(event) for event in told]
    first = [Connected, *[HistoryRead] * 3, Disconnected]
    assert kinds[: len(first)] == first
    assert kinds.count(Connected) == 2 and kinds.count(Disconnected) == 1


async def test_what_a_read_of_everything_finds_tells_nothing_of_the_subscription() -> None:
    kinds = list[bool]()

    class Found(History):
        """What is near comes first; then a read of everything finds one more, and another."""

        async def changes(
            self, *args: Any, recent_only: bool = False, **options: Any
        ) -> AsyncGenerator[HistoryChunk]:
            kinds.append(recent_only)
            row = cast(Entry, decode(wire(entity(USER))))
            rows = (row,) if len(kinds) <= 4 else ()
            far = row.occurred_at if recent_only else None
            yield HistoryChunk(rows=rows, cursor=Cursor({}), last=True, covered_from=far)

        async def begin(self, *args: Any, **options: Any) -> AsyncGenerator[HistoryChunk]:
            yield CHUNK
            gateway.disconnect()
            gateway.restore()

    async with MemoryPubSubGateway() as gateway:
        told = await take(a_tail(gateway, Found()), 12)
    assert [type(event) for event in told].count(Disconnected) == 1
    assert False in kinds[:4]


async def test_everything_is_read_portion_by_portion_and_what_is_near_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lykke_cli.application.tail.LONGEST_PAUSE", SHORT)
    asked = list[str]()

    class Large(History):
        """There is more for as long as nothing near was read in between."""

        async def changes(
            self, *args: Any, recent_only: bool = False, portion: bool = False
        ) -> AsyncGenerator[HistoryChunk]:
            assert portion
            asked.append("near" if recent_only else "portion")
            if recent_only:  # a portion may be due meanwhile
                await asyncio.sleep(2 * SHORT)
            last = msgspec.structs.replace(CHUNK, covered_from="9999")
            if not recent_only:
                goes_on = asked[asked.index("portion") :].count("near") < 3
                last = msgspec.structs.replace(last, goes_on=goes_on)
            yield last

        async def begin(self, *args: Any, **options: Any) -> AsyncGenerator[HistoryChunk]:
            yield CHUNK
            gateway.disconnect()
            gateway.restore()

    reads = 0
    async with MemoryPubSubGateway() as gateway, asyncio.timeout(SOON):
        async with aclosing(a_tail(gateway, Large()).events()) as events:
            async for event in events:
                reads += isinstance(event, HistoryRead)
                if asked.count("near") > 10:
                    break
    portions, last = asked.count("portion"), len(asked) - asked[::-1].index("portion") - 1
    assert portions > 1 and asked[asked.index("portion") : last].count("near") >= 3
    assert asked[last:].count("portion") == 1  # then it was over
    assert reads <= 2 + asked.count("near")  # of portions the last alone is told of


async def test_what_portions_find_is_printed_without_a_pause() -> None:
    at, user = "2026-05-01T12:00:00Z", str(USER)
    found = [
        Entry(id=str(uuid.uuid4()), user_id=user, activity_type="A", occurred_at=at)
        for _ in range(5)
    ]
    left = list(found)

    class Large(History):
        async def changes(
            self, *args: Any, recent_only: bool = False, **how: Any
        ) -> AsyncGenerator[HistoryChunk]:
            some = [left.pop()] if left and not recent_only else []
            await asyncio.sleep(SHORT)
            yield msgspec.structs.replace(CHUNK, rows=some, last=False)
            yield msgspec.structs.replace(CHUNK, covered_from="9999", goes_on=not recent_only)

        async def begin(self, *args: Any, **options: Any) -> AsyncGenerator[HistoryChunk]:
            yield msgspec.structs.replace(CHUNK, goes_on=True)

    async with MemoryPubSubGateway() as gateway, asyncio.timeout(SOON):
        history, request = cast(HistoryProtocol, Large()), TailRequest(user_ids={USER})
        tail = Tail(gateway, history, request, full_share=0.0001)
        async with aclosing(tail.events()) as events:
            printed = 0
            async for event in events:
                printed += isinstance(event, Print)
                if printed == len(found):
                    break


async def test_when_everything_is_due_what_is_near_is_read_before_it() -> None:
    asked = list[bool]()

    class Noted(History):
        async def changes(
            self, *args: Any, recent_only: bool, portion: bool
        ) -> AsyncGenerator[HistoryChunk]:
            asked.append(recent_only)
            yield CHUNK

    async with MemoryPubSubGateway() as gateway, asyncio.timeout(SOON):
        history = cast(HistoryProtocol, Noted())
        request = TailRequest(user_ids={USER})
        tail = Tail(gateway, history, request, reconcile_interval=SHORT, full_interval=0)
        async with aclosing(tail.events()) as events:
            async for _ in events:
                if asked.count(False) >= 5:
                    break
    assert asked.count(True) >= 5


async def test_what_comes_on_several_channels_comes_in_order_and_each_by_its_rules() -> None:
    other = uuid.UUID(int=8)
    types = ["auditlog", "notification"]
    request = TailRequest(
        user_ids={USER, other}, channel_types=types, filters=Filters(activity_types=("A", "hello"))
    )
    tail = Tail(MemoryPubSubGateway(), None, request)
    gateway = cast(MemoryPubSubGateway, tail._link._gateway)
    once, another = wire(entity(USER, "A")), wire(entity(other, "A"))
    sent = [
        (f"auditlog:{USER}", once),
        (f"notification:{USER}", b'{"type":"hello"}'),
        (f"auditlog:{USER}", b'{"type":"hello"}'),  # no entry, and here the filter is for those
        (f"notification:{other}", once),
        (f"notification:{other}", b'{"type":"bye"}'),
        (f"auditlog:{USER}", once),
        (f"auditlog:{other}", another),
    ]
    printed: list[tuple[str, bytes | None]] = []
    async with asyncio.timeout(SOON), aclosing(tail.events()) as events:
        async for event in events:
            if isinstance(event, Connected):
                assert event.channel == "4 channels"
                for channel, payload in sent:
                    gateway.publish(channel, payload)
            elif isinstance(event, Print):
                printed += [(arrival.channel, arrival.raw) for arrival in event.arrivals]
            if len(printed) == 4:
                break
    assert printed == [sent[0], sent[1], sent[3], sent[6]]


async def events_of(tail: Tail, number: int) -> list[Event]:
    """The first so many."""
    found: list[Event] = []
    async with asyncio.timeout(SOON), aclosing(tail.events()) as events:
        async for event in events:
            found.append(event)
            if len(found) == number:
                break
    return found


async def test_without_a_history_what_was_printed_is_told_where_it_is_kept() -> None:
    async with KeepingGateway() as gateway:
        following = asyncio.create_task(events_of(a_tail(gateway, None), 4))
        while not gateway.publish(CHANNEL, wire(entity(USER))):  # noqa: ASYNC110
            await asyncio.sleep(0)
        first, begin, printed, reached = await following
    behind = len(gateway.kept)
    assert isinstance(first, Connected) and isinstance(printed, Print)
    assert isinstance(begin, Save) and isinstance(reached, Save)
    assert position_in(begin.checkpoint) == position(behind - 1)
    assert position_in(reached.checkpoint) == position(behind)


async def test_without_a_history_another_run_goes_on_and_tells_what_is_missing() -> None:
    async with KeepingGateway() as gateway:
        for _ in range(3):
            gateway.publish(CHANNEL, wire(entity(USER)))
        gateway.trimmed = 2
        [save] = LiveOnly().reached(position(1))
        assert isinstance(save, Save)
        request = TailRequest(user_ids={USER}, resume=save.checkpoint)
        events = await events_of(Tail(gateway, None, request), 6)
    first, begin, notice, gap, _, printed = events
    assert first == Connected(CHANNEL, None)
    assert isinstance(begin, Save)
    assert isinstance(notice, Notice) and notice.may_repeat
    assert isinstance(gap, Connected) and gap.gap is not None
    assert (gap.gap.started_at, gap.gap.kept) == (HEARD_AT, Kept.SOME)
    assert isinstance(printed, Print) and len(printed.arrivals) == 1


async def test_with_a_history_it_is_the_history_that_decides() -> None:
    async with KeepingGateway() as gateway:
        gateway.publish(CHANNEL, wire(entity(USER)))
        events = await events_of(a_tail(gateway, History()), 8)
    saved = [event.checkpoint for event in events if isinstance(event, Save)]
    assert saved and all(checkpoint.cursor == CHUNK.cursor for checkpoint in saved)
    assert not [event for event in events if isinstance(event, Print)]
