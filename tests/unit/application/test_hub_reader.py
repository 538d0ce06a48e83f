"""What a reader of a hub is given: nothing twice, nothing lost, whatever it waits with."""

import asyncio
from contextlib import suppress

import pytest

from lykke_cli import LoginRefused
from lykke_cli.application.errors import SubscriptionClosed, UsageMistake
from lykke_cli.application.filters import Filters
from lykke_cli.application.journal import JOURNAL_LINES, Portion
from lykke_cli.application.statuses import Notice, Status
from lykke_cli.application.subscription import Subscription
from lykke_cli.application.unsettled import IDS
from tests.builders import entity, wire
from tests.unit.application.model_history import Application
from tests.unit.application.test_hub_driver import USER, a_hub, caught_up, ids_of, take

NOT_X = Filters(excluded_types=("X",))  # what the model database writes


async def test_a_cancelled_wait_loses_nothing() -> None:
    app, ids, recorded = Application(), list[str](), list[str]()
    async with a_hub(app) as hub, hub.reader(USER) as reader:
        await caught_up(reader)

        async def take_one() -> None:
            ids.extend(ids_of(await reader.next()))

        for turns in range(60):
            taking = asyncio.create_task(take_one())
            recorded.append(app.record(USER))
            for _ in range(turns % 6):
                await asyncio.sleep(0)
            taking.cancel()
            with suppress(asyncio.CancelledError):
                await taking
        ids += await take(reader, len(recorded) - len(ids))
    assert ids == recorded


async def test_after_its_time_a_portion_has_no_lines_and_the_newest_checkpoint() -> None:
    app = Application()
    async with a_hub(app, interval=0.01) as hub, hub.reader(USER) as reader:
        await caught_up(reader)
        before = reader.checkpoint
        app.record(USER)
        await take(reader, 1)
        while True:
            portion = await reader.next(0.02)
            assert not portion.lines and portion.caught_up
            if portion.checkpoint is not None and not portion.checkpoint.pending:
                break
        assert reader.checkpoint is portion.checkpoint
        assert portion.checkpoint != before


async def test_that_commits_were_lost_passes_the_filters_and_whoever_runs_the_hub_is_told() -> None:
    app, told = Application(), list[Status]()
    async with a_hub(app, interval=0.01, on_status=told.append) as hub:
        async with hub.reader(USER, filters=NOT_X) as reader:
            await caught_up(reader)
            app.record(USER, publish=False)
            while hub.statistics.recovered < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            app.database.lose(1)
            [line] = (await reader.next()).lines
    assert line.is_notice and b"a fail-over" in line.data
    assert [status.text.encode() for status in told if isinstance(status, Notice)] == [line.data]


async def test_each_portion_of_history_has_a_checkpoint_that_covers_it_and_no_more() -> None:
    app = Application(chunk_size=2)
    before = [app.record(USER) for _ in range(7)]
    async with a_hub(app) as hub, hub.reader(USER, last=7) as reader:
        await reader.begun()
        for _ in range(100):  # in which all of it is read
            await asyncio.sleep(0)
        ids = list[str]()
        while len(ids) < len(before):
            portion = await reader.next()
            ids += ids_of(portion)
            assert len(portion.lines) <= 2
            async with a_hub(app) as other, other.reader(USER, resume=portion.checkpoint) as rest:
                assert ids + await caught_up(rest) == before


async def test_what_filters_do_not_let_through_moves_the_checkpoint_all_the_same() -> None:
    app = Application()
    async with a_hub(app) as hub, hub.reader(USER, filters=NOT_X) as filtered:
        async with hub.reader(USER) as all_of_it:
            await caught_up(filtered)
            await caught_up(all_of_it)
            waiting = asyncio.create_task(filtered.next())
            app.record(USER)
            app.gateway.publish(f"auditlog:{USER}", b'{"type":"test"}')
            lines = (await all_of_it.next()).lines
            while len(lines) < 2:
                lines = [*lines, *(await all_of_it.next()).lines]
            assert [line.id is None for line in lines] == [False, True]
            while filtered.checkpoint != all_of_it.checkpoint:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()
            assert not (await filtered.next(0)).lines


async def test_filters_let_through_what_they_want() -> None:
    app, wanted = Application(), Filters(query="starts_with(id, '0000')")
    before = [app.record(USER) for _ in range(3)]
    async with a_hub(app) as hub, hub.reader(USER, last=3, filters=wanted) as reader:
        assert await caught_up(reader) == before
        assert [app.record(USER)] == await take(reader, 1)


async def test_a_channel_that_is_not_permitted_is_told_to_its_readers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object) -> None:
        raise LoginRefused("no permission")

    app = Application()
    async with a_hub(app) as hub:
        monkeypatch.setattr(Subscription, "add", refuse)
        async with hub.reader(USER) as reader:
            with pytest.raises(LoginRefused):
                await reader.begun()
            with pytest.raises(LoginRefused):
                await reader.next()
            async with hub.reader(USER) as another:
                with pytest.raises(LoginRefused):
                    await another.next()


async def test_it_is_of_use_inside_its_block_alone() -> None:
    app = Application()
    async with a_hub(app) as hub:
        reader = hub.reader(USER)
        with pytest.raises(SubscriptionClosed):
            await reader.next()
        async with reader:
            with pytest.raises(UsageMistake):
                await reader.__aenter__()
        with pytest.raises(SubscriptionClosed):
            await reader.next()
        assert hub.statistics.readers == 0


class Outlet:
    """Takes what comes while it is open."""

    def __init__(self) -> None:
        self.opened = True
        self.portions: list[Portion] = []

    def write(self, portion: Portion) -> bool:
        if self.opened:
            self.portions.append(portion)
        return self.opened


async def test_what_comes_while_somebody_waits_is_written_at_once_and_wakes_nobody() -> None:
    app, outlet = Application(), Outlet()
    async with a_hub(app) as hub, hub.reader(USER) as reader:
        await caught_up(reader)
        reader.outlet = outlet
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        recorded = []
        for number in range(1, 4):
            recorded.append(app.record(USER))
            while len(outlet.portions) < number:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert not waiting.done()
        assert [id for portion in outlet.portions for id in ids_of(portion)] == recorded
        assert reader.checkpoint is outlet.portions[-1].checkpoint
        outlet.opened = False
        recorded.append(app.record(USER))
        assert ids_of(await waiting) == recorded[3:]
        reader.interrupt()
        assert not (await reader.next()).lines


async def test_news_is_for_whoever_waits_though_there_is_an_outlet() -> None:
    app, outlet = Application(), Outlet()
    before = [app.record(USER)]
    async with a_hub(app) as hub, hub.reader(USER, last=1) as reader:
        reader.outlet = outlet
        came: list[str] = []
        while not (portion := await reader.next()).caught_up_anew:
            came += ids_of(portion)
        came += [id for portion in outlet.portions for id in ids_of(portion)]
        assert came == before


async def test_cancelled_waits_beside_an_outlet_lose_nothing_and_repeat_nothing() -> None:
    app, outlet, recorded = Application(), Outlet(), list[str]()
    async with a_hub(app) as hub, hub.reader(USER) as reader:
        await caught_up(reader)
        reader.outlet = outlet

        async def take_one() -> None:
            outlet.portions.append(await reader.next())

        for turns in range(60):
            outlet.opened = bool(turns % 3)
            taking = asyncio.create_task(take_one())
            recorded.append(app.record(USER))
            for _ in range(turns % 6):
                await asyncio.sleep(0)
            taking.cancel()
            with suppress(asyncio.CancelledError):
                await taking
        outlet.opened = False
        came = [id for portion in outlet.portions for id in ids_of(portion)]
        came += await take(reader, len(recorded) - len(came))
    assert came == recorded


async def test_who_is_caught_up_after_its_time_was_given_all_that_its_checkpoint_covers() -> None:
    new = entity(USER)
    for turns in range(10):
        app, outlet, came = Application(), Outlet(), list[str]()
        [history] = histories = app.histories(1)
        async with a_hub(app, histories) as hub, hub.reader(USER) as reader:
            await caught_up(reader)
            reader.outlet = outlet
            history.is_open.clear()
            app.gateway.disconnect()
            while hub.is_connected:  # noqa: ASYNC110
                await asyncio.sleep(0)
            app.gateway.restore()
            while not hub.statistics.reconnects:  # noqa: ASYNC110
                await asyncio.sleep(0)
            app.gateway.publish(
                f"auditlog:{USER}", wire(new)
            )  # it is kept back while the database is read
            for _ in range(20):
                await asyncio.sleep(0)
            history.is_open.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            while not (portion := await reader.next(0)).caught_up_anew:
                came += ids_of(portion)
            came += [id for written in (*outlet.portions, portion) for id in ids_of(written)]
            assert portion.checkpoint is not None
            assert came == [str(new.id)]
            assert portion.checkpoint.pending.keys() <= set(came)  # a read may have settled it


async def test_what_is_written_at_once_is_in_order_though_taking_brings_more() -> None:
    """Who comes to a position is sent what it lacks up to there, and then what came since."""
    app, outlet = Application(), Outlet()
    histories = app.histories(2)
    early, late = entity(USER), entity(USER)  # which the database does not have yet
    async with a_hub(app, histories) as hub, hub.reader(USER) as reader:
        await caught_up(reader)
        for _ in range(JOURNAL_LINES):  # it takes none of them, and falls off the journal
            app.gateway.publish(f"auditlog:{USER}", b'{"type":"test"}')
            await asyncio.sleep(0)
        for history in histories:
            history.is_open.clear()
        recorded = [app.record(USER) for _ in range(IDS // 2)]  # so many bring a pass
        while not any(history.under_way for history in histories):  # noqa: ASYNC110
            await asyncio.sleep(0)
        app.gateway.publish(
            f"auditlog:{USER}", wire(early)
        )  # which does not cover this, and is followed by another
        while hub.statistics.entries <= len(recorded):  # noqa: ASYNC110
            await asyncio.sleep(0)
        asked = histories[0].asked
        passes = len(asked)
        for history in histories:
            history.is_open.set()
            history.is_open.clear()
        while len(asked) == passes:  # noqa: ASYNC110
            await asyncio.sleep(0)
        [idle] = [history for history in histories if not history.under_way]
        idle.is_open.set()  # the next pass does not come to its end
        app.gateway.publish(f"auditlog:{USER}", wire(late))
        reader.outlet = outlet
        waiting = asyncio.create_task(reader.next())
        expected, came = [*recorded, str(early.id), str(late.id)], list[str]()
        while len(came) < len(expected):
            await asyncio.sleep(0)
            came = [id for portion in outlet.portions for id in ids_of(portion)]
        assert came == expected
        assert reader.checkpoint is outlet.portions[-1].checkpoint
        waiting.cancel()
