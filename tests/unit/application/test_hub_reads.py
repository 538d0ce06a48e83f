"""Who is asked when: the hub before its readers, and nobody waits long for one that is slow."""

import asyncio
import uuid
from contextlib import AsyncExitStack, suppress

import pytest

from lykke_cli.application import hub_reads
from lykke_cli.application.errors import SubscriptionClosed, UsageMistake
from lykke_cli.application.hub_driver import HubDriver
from lykke_cli.application.hub_reader import HubReader
from lykke_cli.application.merge import Checkpoint
from tests.unit.application.model_history import Application, ModelHistory
from tests.unit.application.test_hub_driver import USER, a_hub, caught_up, take

OTHER = uuid.UUID(int=2)
USERS = [uuid.UUID(int=number) for number in range(1, 6)]


async def until_asked(history: ModelHistory, number: int) -> None:
    while len(history.asked) < number:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def checkpoints_at_different_marks(app: Application, hub: HubDriver) -> list[Checkpoint]:
    """One of each user; the places of later ones are more recent."""
    found = []
    for user in USERS:
        async with hub.reader(user) as reader:
            await caught_up(reader)
            app.record(user)
            await take(reader, 1)
            while (place := reader.checkpoint) is None or place.pending:
                await reader.next(0.01)
            found.append(place)
    return found


async def test_the_most_recent_places_are_read_first() -> None:
    app = Application()
    [history] = histories = app.histories(1)
    async with a_hub(app, histories, interval=0.01) as hub:
        places = await checkpoints_at_different_marks(app, hub)
    async with a_hub(app, histories) as hub, hub.reader(USERS[0]) as first:
        await caught_up(first)
        history.is_open.clear()
        order = list[uuid.UUID | None]()

        async def begin(reader: HubReader) -> None:
            await reader.begun()
            order.append(reader.user_id)

        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            asked = len(history.asked)
            blocker = await stack.enter_async_context(hub.reader(uuid.UUID(int=99), last=1))
            group.create_task(begin(blocker))
            await until_asked(history, asked + 1)
            for user, place in zip(USERS, places, strict=True):
                reader = await stack.enter_async_context(hub.reader(user, resume=place))
                group.create_task(begin(reader))
            while hub.statistics.waiting_reads < len(USERS):  # noqa: ASYNC110
                await asyncio.sleep(0)
            history.is_open.set()
        assert order[1:] == USERS[::-1]


async def test_who_begins_now_is_not_given_what_another_asks_for() -> None:
    app = Application()
    before = [[app.record(user) for _ in range(3)] for user in USERS]
    users: list[uuid.UUID | None] = [*USERS, None]
    async with a_hub(app) as hub, AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(hub.reader(user, last=last))
            for user in users
            for last in (None, 3)
        ]
        for reader in readers:
            await reader.begun()
        threes = [*before, [id for ids in before for id in ids]]
        for now, three, expected in zip(readers[::2], readers[1::2], threes, strict=True):
            assert await caught_up(now) == []
            assert await caught_up(three) == expected


async def test_of_those_that_are_as_recent_the_first_is_read_first() -> None:
    app = Application()
    [history] = histories = app.histories(1)
    async with a_hub(app, histories) as hub, AsyncExitStack() as stack:
        reader = await stack.enter_async_context(hub.reader(USER))
        await caught_up(reader)
        history.is_open.clear()
        order = list[uuid.UUID | None]()

        async def begin(reader: HubReader) -> None:
            await reader.begun()
            order.append(reader.user_id)

        async with asyncio.TaskGroup() as group:
            for number, user in enumerate(USERS):
                reader = await stack.enter_async_context(hub.reader(user, last=1))
                group.create_task(begin(reader))
                while hub.statistics.waiting_reads < number:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            history.is_open.set()
        assert order == USERS


async def test_a_reader_that_takes_nothing_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_reads, "MOST_UNTAKEN", 3)
    monkeypatch.setattr(hub_reads, "PATIENCE", 0.01)
    app = Application()
    before = [app.record(USER) for _ in range(50)]
    histories = app.histories(1)
    async with a_hub(app, histories) as hub, AsyncExitStack() as stack:
        stalled = await stack.enter_async_context(hub.reader(USER, last=50))
        assert (await stalled.begun()).source == "database"
        busy = await stack.enter_async_context(hub.reader(USER, last=50))
        assert await caught_up(busy) == before
        assert [app.record(USER)] == await take(busy, 1)
        assert not histories[0].under_way
        taken = await caught_up(stalled)  # it comes to its senses
        assert taken[:50] == before and len(set(taken)) == len(taken)


async def test_a_slow_reader_leaves_a_read_that_others_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_reads, "MOST_UNTAKEN", 3)
    monkeypatch.setattr(hub_reads, "PATIENCE", 0.01)
    app = Application()
    histories = app.histories(1)
    async with a_hub(app, histories) as hub, hub.reader(USER) as first:
        await first.begun()
        place = first.checkpoint
    missed = [app.record(USER, publish=False) for _ in range(50)]
    async with a_hub(app, histories) as hub, AsyncExitStack() as stack:
        slow, fast = [
            await stack.enter_async_context(hub.reader(USER, resume=place)) for _ in range(2)
        ]
        assert await caught_up(fast) == missed
        asked = len(histories[0].asked)
        assert await caught_up(slow) == missed
        assert len(histories[0].asked) > asked


async def test_a_long_read_makes_room_for_others_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_reads, "SLICE", 0.0)
    app = Application()
    before = [app.record(USER) for _ in range(60)]
    async with a_hub(app, app.histories(1)) as hub, AsyncExitStack() as stack:
        long = await stack.enter_async_context(hub.reader(USER, last=60))
        await long.begun()
        reading = asyncio.create_task(caught_up(long))
        short = await stack.enter_async_context(hub.reader(OTHER))
        await caught_up(short)
        assert not reading.done()
        assert await reading == before


async def test_a_reader_that_leaves_ends_its_read() -> None:
    app = Application()
    for _ in range(50):
        app.record(USER)
    [history] = histories = app.histories(1)
    async with a_hub(app, histories) as hub, hub.reader(OTHER) as other:
        await caught_up(other)
        async with hub.reader(USER, last=50) as reader:
            await reader.begun()
        while history.under_way:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert [app.record(OTHER)] == await take(other, 1)


async def test_connections_are_lent_but_for_one() -> None:
    app = Application()
    histories = app.histories(3)
    async with a_hub(app, histories) as hub, AsyncExitStack() as stack:
        lent = [await stack.enter_async_context(hub.history()) for _ in range(2)]
        assert len(set(map(id, lent))) == 2
        third = asyncio.create_task(stack.enter_async_context(hub.history()))
        for user in USERS:
            async with hub.reader(user) as reader:
                await caught_up(reader)
        assert not third.done()
        await stack.aclose()
        await third


async def test_readers_come_before_who_borrows() -> None:
    app = Application()
    histories = app.histories(2)
    asked = histories[0].asked
    async with a_hub(app, histories) as hub, AsyncExitStack() as stack:
        reader = await stack.enter_async_context(hub.reader(USER))
        await caught_up(reader)
        for history in histories:
            history.is_open.clear()
        before = len(asked)
        readers = [await stack.enter_async_context(hub.reader(USER, last=1)) for _ in range(3)]
        while len(asked) < before + 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        borrowing = asyncio.create_task(_borrow(hub))
        await asyncio.sleep(0)
        for history in histories:
            history.is_open.set()
        assert await borrowing >= before + len(readers)


async def test_who_gives_up_borrowing_leaves_nothing_behind() -> None:
    app = Application()
    async with a_hub(app, app.histories(2)) as hub:
        async with hub.history():
            waiting = [asyncio.create_task(_borrow(hub)) for _ in range(2)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            with suppress(asyncio.CancelledError):
                await waiting[0]
        waiting[1].cancel()  # which has it already
        with suppress(asyncio.CancelledError):
            await waiting[1]
        assert await _borrow(hub) == 0


async def test_a_hub_with_one_connection_lends_none() -> None:
    app = Application()
    async with a_hub(app, app.histories(1)) as hub:
        with pytest.raises(UsageMistake):
            await _borrow(hub)


async def test_who_waits_to_borrow_is_told_when_the_hub_is_closed() -> None:
    app = Application()
    async with AsyncExitStack() as stack:
        async with a_hub(app, app.histories(2)) as hub:
            await stack.enter_async_context(hub.history())
            waiting = asyncio.create_task(_borrow(hub))
            await asyncio.sleep(0)
        with pytest.raises(SubscriptionClosed):
            await waiting


async def _borrow(hub: HubDriver) -> int:
    """How many reads there had been by then."""
    async with hub.history() as history:
        assert isinstance(history, ModelHistory)
        return len(history.asked)
