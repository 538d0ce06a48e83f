"""What many readers are given while servers come and go; `hub.py` itself is tested on its own."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import pytest

from lykke_cli import ServerUnavailable
from lykke_cli.application.errors import SubscriptionClosed
from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryProtocol,
    Selection,
)
from lykke_cli.application.hub_driver import HubDriver
from lykke_cli.application.hub_reader import HubReader
from lykke_cli.application.journal import Line, Portion
from lykke_cli.application.reader import Begun
from lykke_cli.application.reconciling import MOST_BEGUN
from lykke_cli.application.statuses import Connected, Disconnected, HistoryAway, HistoryRead, Status
from tests.hostile import CORPUS
from tests.unit.application.model_history import Application, ModelHistory

USER, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
SOON = 20.0  # seconds in which what is expected must come
MOST_READS = 7  # the hub's first, and three steps of all readers, by two connections
LONG = 3600.0  # seconds: nothing is read but what is asked for


@asynccontextmanager
async def a_hub(
    app: Application,
    histories: Sequence[ModelHistory] | None = None,
    interval: float = LONG,
    **options: Any,
) -> AsyncGenerator[HubDriver]:
    given = cast(Sequence[HistoryProtocol], histories or app.histories(2))
    async with asyncio.timeout(SOON):
        async with HubDriver(app.gateway, given, reconcile_interval=interval, **options) as driver:
            yield driver


async def caught_up(reader: HubReader) -> list[str]:
    """The ids of what comes until it is caught up."""
    ids = list[str]()
    while True:
        portion = await reader.next()
        ids += ids_of(portion)
        if portion.caught_up:
            return ids


async def take(reader: HubReader, number: int) -> list[str]:
    ids = list[str]()
    while len(ids) < number:
        ids += ids_of(await reader.next())
    return ids


def ids_of(portion: Portion) -> list[str]:
    return [line.id for line in portion.lines if line.id is not None]


async def test_a_reader_has_what_was_before_it_what_comes_and_what_was_not_broadcast() -> None:
    app = Application()
    before = [app.record(USER) for _ in range(5)]
    app.record(OTHER)
    async with a_hub(app, interval=0.01) as hub, hub.reader(USER, last=5) as reader:
        assert await reader.begun() == Begun("database", exact=True, recovered=False)
        assert await caught_up(reader) == before
        assert [app.record(USER)] == await take(reader, 1)
        assert [app.record(USER, publish=False)] == await take(reader, 1)
        statistics = hub.statistics
    assert (statistics.readers, statistics.users, statistics.recovered) == (1, 1, 1)
    assert statistics.entries == 2 and statistics.lag == 0


async def test_a_reader_without_a_place_begins_now() -> None:
    app = Application()
    app.record(USER)
    async with a_hub(app) as hub, hub.reader(USER) as reader:
        assert await reader.begun() == Begun("now", exact=True, recovered=False)
        assert reader.checkpoint is not None
        assert [app.record(USER)] == await take(reader, 1)


async def test_what_is_committed_in_an_outage_comes_and_then_it_is_caught_up_again() -> None:
    app, told = Application(), list[Status]()
    async with a_hub(app, on_status=told.append) as hub, hub.reader(USER) as reader:
        await caught_up(reader)
        app.gateway.disconnect()
        missed = app.record(USER, publish=False)
        while hub.is_connected:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert hub.statistics.lag > 0
        app.gateway.restore()
        assert await caught_up(reader) == [missed]
        assert hub.statistics.reconnects == 1
    assert [type(one) for one in told] == [Connected, Disconnected, Connected]


class Wandering(ModelHistory):
    """Each portion is of another server, where those before it are nothing."""

    def changes(self, selection: Selection, cursor: Cursor, **how: Any) -> Any:
        place = {name: value for name, value in cursor.data.items() if name != "sweep"}
        return super().changes(selection, Cursor(place), **how)


@pytest.mark.parametrize("kind", [ModelHistory, Wandering])
async def test_what_takes_long_is_read_in_portions_and_what_is_near_between_them(
    kind: type[ModelHistory],
) -> None:
    app = Application(slices=True)
    first = kind(app.database)
    for _ in range(40):
        app.record(OTHER)
    histories = [first, kind(app.database, first.asked)]
    async with a_hub(app, histories, interval=0.01) as hub, hub.reader(USER) as reader:
        await caught_up(reader)
        app.gateway.disconnect()
        while hub.is_connected:  # noqa: ASYNC110
            await asyncio.sleep(0)
        # One of them lies on the first page.
        far = [app.record(USER, publish=False, age=timedelta(days=30)) for _ in range(3)]
        begun = len(first.asked)
        app.gateway.restore()
        assert sorted(await take(reader, 3)) == sorted(far)
        asked = [one.what for one in first.asked[begun:]]
        while "portion" not in asked or "recent" not in asked[asked.index("portion") :]:
            await asyncio.sleep(0)
            asked = [one.what for one in first.asked[begun:]]
    assert asked[0] == "recent"
    if kind is Wandering:  # then the rest is read as one
        assert asked[: asked.index("changes")].count("portion") == MOST_BEGUN + 1
    else:
        assert "changes" not in asked and asked.count("portion") > 10


async def test_everything_is_read_from_time_to_time() -> None:
    app = Application()
    for _ in range(10):
        app.record(OTHER)
    async with (
        a_hub(app, interval=0.01, full_interval=0.01) as hub,
        hub.reader(USER) as reader,
    ):
        await caught_up(reader)
        # One of them lies on the first page, where no other read would find it.
        far = [app.record(USER, publish=False, age=timedelta(days=30)) for _ in range(3)]
        assert sorted(await take(reader, 3)) == sorted(far)


async def test_a_subscription_by_which_nothing_comes_is_made_anew_once() -> None:
    app, told = Application(), list[Status]()
    async with a_hub(app, interval=0.01, on_status=told.append) as hub, hub.reader(USER) as reader:
        await caught_up(reader)
        while not hub.statistics.reconnects:
            assert [app.record(USER, publish=False)] == await take(reader, 1)
        for _ in range(5):  # it did not help
            assert [app.record(USER, publish=False)] == await take(reader, 1)
    assert hub.statistics.reconnects == 1
    [lost] = [one for one in told if isinstance(one, Disconnected)]
    assert lost.reason == f"Entries were committed and none came by auditlog:{USER}."


async def test_what_users_did_just_before_they_came_says_nothing_of_the_subscription() -> None:
    app = Application()
    async with a_hub(app, interval=0.01) as hub, hub.reader(OTHER) as other:
        await caught_up(other)
        for number in range(10, 15):
            user = uuid.UUID(int=number)
            before, recovered = app.record(user, publish=False), hub.statistics.recovered
            async with hub.reader(user, since=datetime(2025, 1, 1, tzinfo=UTC)) as reader:
                assert await take(reader, 1) == [before]
                while hub.statistics.recovered == recovered:  # noqa: ASYNC110
                    await asyncio.sleep(0)
    assert hub.statistics.reconnects == 0


async def test_an_outage_in_which_nothing_came_is_told_of_all_the_same() -> None:
    app = Application()
    async with a_hub(app) as hub, hub.reader(USER) as reader:
        assert await caught_up(reader) == []
        app.gateway.disconnect()
        app.gateway.restore()
        assert await caught_up(reader) == []


async def test_nobody_is_caught_up_in_an_outage() -> None:
    app = Application()
    async with a_hub(app) as hub, hub.reader(USER) as reader:
        await caught_up(reader)
        assert (await reader.next(0)).caught_up
        app.gateway.disconnect()
        while hub.is_connected:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not (await reader.next(0)).caught_up


async def test_a_database_that_is_away_is_asked_again() -> None:
    app, told = Application(), list[Status]()
    histories = app.histories(2)
    before = app.record(USER)
    for history in histories:
        history.errors = [ServerUnavailable("away")]
    async with a_hub(app, histories, on_status=told.append) as hub:
        async with hub.reader(USER, last=1) as reader:
            assert await caught_up(reader) == [before]
            assert not hub.history_is_away
    assert [type(one) for one in told] == [Connected, HistoryAway, HistoryRead]


async def test_a_database_that_is_away_is_known_before_anybody_reads() -> None:
    app = Application()
    histories = app.histories(2)
    for history in histories:
        history.errors = [ServerUnavailable("away")]
    async with a_hub(app, histories) as hub:
        while not hub.history_is_away:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for history in histories:
            history.errors = []
        while hub.history_is_away:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_read_that_fails_for_one_reader_is_tried_soon_though_others_work() -> None:
    app = Application()
    histories = app.histories(1)
    before = app.record(USER)
    async with a_hub(app, histories) as hub, hub.reader(OTHER) as other:
        await caught_up(other)
        histories[0].errors = [ServerUnavailable("away")]
        async with hub.reader(USER, last=1) as reader, hub.reader(OTHER, last=1) as third:
            assert await caught_up(reader) == [before]
            assert await caught_up(third) == []


async def test_a_reader_goes_on_from_its_checkpoint_on_another_hub() -> None:
    app = Application()
    async with a_hub(app) as first, a_hub(app) as second:
        async with first.reader(USER) as reader:
            await reader.begun()
            app.record(USER)
            await take(reader, 1)
            checkpoint = reader.checkpoint
        missed = [app.record(USER), app.record(USER, publish=False)]
        async with second.reader(USER, resume=checkpoint) as reader:
            assert await reader.begun() == Begun("database", exact=True, recovered=True)
            assert await caught_up(reader) == missed


async def test_a_reader_that_comes_back_to_its_hub_needs_no_database() -> None:
    app = Application()
    histories = app.histories(2)
    async with a_hub(app, histories) as hub:
        async with hub.reader(USER) as reader:
            await caught_up(reader)
            checkpoint = reader.checkpoint
        asked = len(histories[0].asked)
        async with hub.reader(USER, resume=checkpoint) as reader:
            assert await reader.begun() == Begun("memory", exact=True, recovered=True)
            assert [app.record(USER)] == await take(reader, 1)
        assert len(histories[0].asked) == asked


async def test_a_reader_whose_cursor_the_database_has_outlived_is_told() -> None:
    app = Application()
    [history] = histories = app.histories(1)
    async with a_hub(app, histories) as first, first.reader(USER) as reader:
        await reader.begun()
        checkpoint = reader.checkpoint
    async with a_hub(app, histories) as second, second.reader(OTHER) as other:
        await caught_up(other)
        history.is_exact = False
        async with second.reader(USER, resume=checkpoint) as reader:
            assert await reader.begun() == Begun("database", exact=False, recovered=True)


async def test_many_readers_have_every_entry_once_and_cost_few_reads() -> None:
    app, users = Application(), [uuid.UUID(int=n) for n in range(1, 21)]
    histories = app.histories(2)
    asked = histories[0].asked
    async with a_hub(app, histories) as hub, AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(hub.reader(user)) for user in users for _ in range(10)
        ]
        for reader in readers:
            await caught_up(reader)
        assert len(asked) <= MOST_READS
        ids = [app.record(user) for user in users for _ in range(3)]
        for number, reader in enumerate(readers):
            assert await take(reader, 3) == ids[number // 10 * 3 :][:3]
        checkpoints = {reader: reader.checkpoint for reader in readers}
    asked.clear()
    missed = [app.record(user, publish=False) for user in users]
    async with a_hub(app, histories) as hub, AsyncExitStack() as stack:
        for old, checkpoint in checkpoints.items():
            reader = hub.reader(old.user_id, resume=checkpoint)
            readers[readers.index(old)] = await stack.enter_async_context(reader)
        for number, reader in enumerate(readers):
            assert await caught_up(reader) == [missed[number // 10]]
    assert len(asked) <= MOST_READS


async def test_ten_readers_of_a_user_are_given_the_same_objects() -> None:
    app = Application()
    async with a_hub(app) as hub, AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(hub.reader(USER)) for _ in range(10)]
        for reader in readers:
            await caught_up(reader)
        for _ in range(2):
            app.record(USER)
            portions = [await reader.next() for reader in readers]
            assert len({id(portion.lines) for portion in portions}) == 1
            assert len({id(portion.checkpoint) for portion in portions}) == 1


async def test_leaving_the_hub_ends_its_readers() -> None:
    app = Application()
    histories = app.histories(2)
    async with AsyncExitStack() as stack:
        async with a_hub(app, histories) as hub:
            reader = await stack.enter_async_context(hub.reader(USER))
            await caught_up(reader)
            waiting = asyncio.create_task(reader.next())
            await asyncio.sleep(0)
        with pytest.raises(SubscriptionClosed):
            await waiting
        with pytest.raises(SubscriptionClosed):
            await reader.begun()
    assert len(asyncio.all_tasks()) == 1


async def test_redis_that_is_away_at_the_start_is_told() -> None:
    app = Application()
    app.gateway.disconnect()
    with pytest.raises(ServerUnavailable):
        async with a_hub(app):
            pass
    assert len(asyncio.all_tasks()) == 1


async def test_what_ends_the_hub_is_told_to_its_readers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = Application()
    async with a_hub(app) as hub, hub.reader(USER) as reader:
        await caught_up(reader)
        monkeypatch.setattr(
            "lykke_cli.application.hub.Hub.live", lambda *_: (_ for _ in ()).throw(KeyError("bug"))
        )
        app.record(USER)
        with pytest.raises(KeyError):
            await reader.next()
        with pytest.raises(KeyError):
            hub.history()
        assert not hub.is_connected
    assert "The hub has ended" in caplog.text


async def test_whatever_is_published_comes_as_a_line_of_json_and_the_next_entry_after_it() -> None:
    app = Application()
    async with a_hub(app) as hub, hub.reader(USER) as reader:
        await caught_up(reader)
        texts = [text.encode("utf-8", "surrogatepass") for text in CORPUS]
        payloads = [*texts, b"\xff", b"", b"[" * 100_000, b'{"id":', *map(orjson.dumps, CORPUS)]
        payloads += [orjson.dumps({"type": text, "user_id": text}) for text in CORPUS]
        for payload in payloads:
            app.gateway.publish(f"auditlog:{USER}", payload)
        app.gateway.publish("auditlog:nobody", b"{}")
        entry = app.record(USER)
        lines = list[Line]()
        while not lines or lines[-1].id is None:
            lines += (await reader.next()).lines
    assert lines[-1].id == entry
    assert len(lines) <= len(payloads) + 1
    for line in lines:
        assert isinstance(orjson.loads(line.data), dict) and b"\n" not in line.data


async def test_since_gives_what_occurred_from_then_on() -> None:
    app = Application()
    before = app.record(USER)
    async with a_hub(app) as hub:
        async with hub.reader(USER, since=datetime(2025, 1, 1, tzinfo=UTC)) as reader:
            assert (await reader.begun()).source == "database"
            assert await caught_up(reader) == [before]
