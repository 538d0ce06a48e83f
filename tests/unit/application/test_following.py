"""`follow()` in an application's own code: a gateway in memory, a database in SQLite."""

import asyncio
import gc
import sqlite3
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import lykke_cli
from lykke_cli import (
    AuditLogEntity,
    Connected,
    CursorBusy,
    Disconnected,
    Entry,
    Following,
    Gap,
    HistoryRead,
    MemoryPubSubGateway,
    ServerUnavailable,
    SubscriptionClosed,
    UsageMistake,
)
from lykke_cli.application import following
from lykke_cli.application.following import Parts
from lykke_cli.application.statuses import Status
from lykke_cli.application.tail import TailRequest
from tests.builders import entity, insert, wire
from tests.unit.application.model_database import ModelDatabase
from tests.unit.application.model_history import ModelHistory

USER, OTHER = uuid.UUID(int=7), uuid.UUID(int=8)
SOON = 20.0  # seconds in which what is expected must come
SHORT = 0.05  # seconds between reads


class Application:
    """Commits and broadcasts entries, and follows them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.gateway = MemoryPubSubGateway()

    async def commit(
        self, number: int = 1, *, user: uuid.UUID = USER, live: bool = True, **fields: Any
    ) -> list[AuditLogEntity]:
        entities = [entity(user, **fields) for _ in range(number)]
        await insert(self.url, entities)
        if live:
            for each in entities:
                self.gateway.publish(f"auditlog:{user}", wire(each))
        return entities

    def follow(self, users: Any = USER, **options: Any) -> Following:
        options = {"reconcile_interval": SHORT, **options}
        return lykke_cli.follow(users, database_url=self.url, gateway=self.gateway, **options)


@pytest.fixture
async def application(sqlite_url: str) -> AsyncGenerator[Application]:
    application = Application(sqlite_url)
    async with application.gateway:
        yield application


async def take(entries: Following, number: int) -> list[Entry]:
    async with asyncio.timeout(SOON):
        return [await anext(entries) for _ in range(number)]


def ids(entries: Sequence[Entry | AuditLogEntity]) -> list[str]:
    return [str(entry.id) for entry in entries]


def ordered(entities: Sequence[AuditLogEntity]) -> list[str]:
    """As history has them."""
    return ids(sorted(entities, key=lambda each: (each.occurred_at, str(each.id))))


async def test_history_live_and_an_outage_are_one_sequence(application: Application) -> None:
    before = await application.commit(3)
    since = datetime.now(UTC) - timedelta(hours=1)
    async with application.follow(since=since) as entries:
        assert ids(await take(entries, 3)) == ordered(before)
        live = await application.commit()
        assert ids(await take(entries, 1)) == ids(live)
        application.gateway.disconnect()
        missed = await application.commit(2, live=False)
        application.gateway.restore()
        assert ids(await take(entries, 2)) == ordered(missed)
        await nothing_more(entries)


async def nothing_more(entries: Following) -> None:
    """Several reads of the database go by."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4 * SHORT):
            await anext(entries)


async def test_what_is_committed_once_it_is_entered_comes(application: Application) -> None:
    await application.commit()
    async with application.follow() as entries:
        committed = await application.commit(live=False)
        assert ids(await take(entries, 1)) == ids(committed)


async def test_users_may_come_from_an_iterator(application: Application) -> None:
    async with application.follow(user for user in (USER, OTHER)) as entries:
        committed = await application.commit(user=OTHER)
        assert ids(await take(entries, 1)) == ids(committed)


async def test_however_short_the_interval_is_what_is_read_comes(application: Application) -> None:
    async with application.follow(reconcile_interval=1e-9) as entries:
        committed = await application.commit(live=False)
        assert ids(await take(entries, 1)) == ids(committed)


async def test_several_users_all_users_and_filters(application: Application) -> None:
    async with (
        application.follow([USER, OTHER]) as two,
        application.follow(None, activity_types=["TASK_*"], not_grep="secret") as every,
    ):
        first = await application.commit(activity_type="MESSAGE_SENT")
        second = await application.commit(user=OTHER)
        third = await application.commit(user=uuid.uuid4())
        await application.commit(user=uuid.uuid4(), meta={"a": "secret"})
        assert ids(await take(two, 2)) == ids([*first, *second])
        assert ids(await take(every, 2)) == ids([*second, *third])
        await nothing_more(every)


async def test_a_place_goes_on_with_the_entry_that_was_not_followed_by_another(
    application: Application,
) -> None:
    """That one may have been dealt with or not: it comes again."""
    committed = ordered(await application.commit(100))
    async with application.follow(place="billing", last=100) as entries:
        assert ids(await take(entries, 3)) == committed[:3]
    later = await application.commit()
    async with application.follow(place="billing") as entries:
        assert ids(await take(entries, 99)) == [*committed[2:], *ids(later)]
    async with application.follow(place="another") as entries:
        await nothing_more(entries)


async def test_an_entry_that_was_acknowledged_does_not_come_again(
    application: Application,
) -> None:
    async with application.follow(place="billing") as entries:
        committed = await application.commit(3)
        [first] = await take(entries, 1)
        entries.acknowledge(first)
    async with application.follow(place="billing") as entries:
        assert sorted(ids(await take(entries, 2))) == sorted(ids(committed[1:]))
        entries.acknowledge()
    async with application.follow(place="billing") as entries:
        await nothing_more(entries)


async def test_on_demand_an_entry_counts_with_all_before_it_once_it_is_acknowledged(
    application: Application,
) -> None:
    committed = ordered(await application.commit(5))
    async with application.follow(place="billing", on_demand=True, last=5) as entries:
        taken = await take(entries, 5)
        assert ids(taken) == committed
        entries.acknowledge(taken[2])
        entries.acknowledge(taken[0])  # it is already
        await nothing_more(entries)  # and checkpoints wait for the other two
    async with application.follow(place="billing", on_demand=True) as entries:
        assert ids(await take(entries, 2)) == committed[3:]


class Store:
    """A place of the application's own."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []
        self.fails = False

    def load(self) -> list[dict[str, Any]] | None:
        return self.states or None

    def save(self, state: dict[str, Any]) -> None:
        self.states = [state]

    def add(self, change: dict[str, Any]) -> None:
        if self.fails:
            raise OSError("the disk is full")
        self.states.append(change)

    def set_aside(self) -> None:
        raise AssertionError("it is not damaged")


async def test_on_demand_a_store_is_not_written_behind_the_application_s_back(
    application: Application,
) -> None:
    store = Store()
    with pytest.raises(OSError, match="full"):
        async with application.follow(place=store, on_demand=True) as entries:
            committed = await application.commit()
            [entry] = await take(entries, 1)
            store.fails = True
            entries.acknowledge(entry)
    async with application.follow(place=store, on_demand=True) as entries:
        assert ids(await take(entries, 1)) == ids(committed)


async def test_what_could_not_be_stored_is_stored_when_it_is_acknowledged_again(
    application: Application,
) -> None:
    store = Store()
    async with application.follow(place=store, on_demand=True) as entries:
        await application.commit()
        [entry] = await take(entries, 1)
        store.fails = True
        with pytest.raises(OSError, match="full"):
            entries.acknowledge(entry)
        store.fails = False
        entries.acknowledge(entry)
        async with application.follow(place=store, on_demand=True) as others:
            await nothing_more(others)


async def test_what_counted_already_is_stored_at_once_when_it_is_acknowledged(
    application: Application,
) -> None:
    store = Store()
    async with application.follow(place=store, reconcile_interval=60) as entries:
        committed = await application.commit(3)
        first, second = await take(entries, 2)
        entries.acknowledge(first)
        stored = str(store.states)
        assert first.id in stored and second.id not in stored
    assert ids([first, second]) == ids(committed[:2])


async def test_an_error_that_is_no_outage_is_raised_and_the_database_is_read_again(
    application: Application,
) -> None:
    async with application.follow() as entries:
        await nothing_more(entries)
        execute(application, UNREADABLE)
        [bad] = await application.commit(live=False)
        execute(application, "DROP TRIGGER unreadable")
        for _ in range(2):
            with pytest.raises(lykke_cli.BadInput, match="no entry"):
                await take(entries, 1)
        execute(application, "UPDATE audit_logs SET id = ? WHERE id = 'no UUID'", bad.id.hex)
        committed = await application.commit(live=False)
        assert set(ids(await take(entries, 2))) == {*ids(committed), str(bad.id)}


UNREADABLE = """
    CREATE TRIGGER unreadable AFTER INSERT ON audit_logs
    BEGIN UPDATE audit_logs SET id = 'no UUID' WHERE id = NEW.id; END
"""
"""From now on what is committed has an id that is none, from the first moment on."""


def execute(application: Application, statement: str, *arguments: str) -> None:
    with closing(sqlite3.connect(application.url.removeprefix("sqlite:///"))) as database:
        database.execute(statement, arguments)
        database.commit()


async def test_what_is_committed_after_a_place_was_made_is_not_missed(
    application: Application,
) -> None:
    for on_demand in (False, True):
        async with application.follow(place=f"{on_demand}", on_demand=on_demand):
            pass
    committed = await application.commit(live=False)
    for on_demand in (False, True):
        async with application.follow(place=f"{on_demand}", on_demand=on_demand) as entries:
            assert ids(await take(entries, 1)) == ids(committed)


async def test_a_wait_that_is_cancelled_loses_nothing(application: Application) -> None:
    """Whatever it was doing at that moment; also while connections break and come back."""
    committed: list[AuditLogEntity] = []
    taken: list[str] = []
    async with application.follow() as entries:
        for steps in range(60):
            waiting = asyncio.ensure_future(anext(entries))
            if steps % 3 == 0:
                committed += await application.commit(live=steps % 2 == 0)
            if steps % 20 == 7:
                application.gateway.disconnect()
                application.gateway.restore()
            for _ in range(steps % 7):
                await asyncio.sleep(0)
            waiting.cancel()
            try:
                taken.append((await waiting).id)
            except asyncio.CancelledError:
                pass
        taken += ids(await take(entries, len(committed) - len(taken)))
        await nothing_more(entries)
    assert sorted(taken) == sorted(ids(committed))


async def test_without_a_database_a_gap_is_told_of(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    gaps: list[Gap] = []
    async with lykke_cli.follow(
        USER, gateway=application.gateway, live_only=True, on_gap=gaps.append
    ) as entries:
        waiting = asyncio.ensure_future(anext(entries))
        await asyncio.sleep(0)
        application.gateway.disconnect()
        application.gateway.restore()
        while not gaps:  # noqa: ASYNC110
            await asyncio.sleep(0)
        committed = await application.commit()
        assert (await waiting).id == str(committed[0].id)
    assert "may be missing" in caplog.text


async def test_what_happens_is_told_and_a_gap_that_is_filled_is_none(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Status] = []
    gaps: list[Gap] = []
    async with application.follow(on_status=told.append, on_gap=gaps.append) as entries:
        application.gateway.disconnect()
        await application.commit(live=False)
        application.gateway.restore()
        await take(entries, 1)
        await nothing_more(entries)
    assert {Connected, Disconnected, HistoryRead} <= {type(status) for status in told}
    assert not gaps
    assert "Subscribing again" in caplog.text


async def test_a_row_that_is_no_entry_is_passed_over_and_told_of(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    odd, plain = await application.commit(2)
    with closing(sqlite3.connect(application.url.removeprefix("sqlite:///"))) as database:
        change = "UPDATE audit_logs SET occurred_at = 'infinity' WHERE id = ?"
        assert database.execute(change, [odd.id.hex]).rowcount == 1
        database.commit()
    async with application.follow(last=2) as entries:
        assert ids(await take(entries, 1)) == ids([plain])
        await nothing_more(entries)
    assert f"{odd.id} is passed over" in caplog.text


async def test_one_that_is_forgotten_warns(application: Application) -> None:
    history = ModelHistory(ModelDatabase())  # which has no thread that outlives the test

    async def forget() -> None:
        await application.follow(history=history).__aenter__()

    with pytest.warns(ResourceWarning, match="Following object .* was not closed"):
        await asyncio.create_task(forget())
        gc.collect()


async def test_a_place_is_one_process_s_at_a_time(application: Application) -> None:
    async with application.follow(place="billing"):
        with pytest.raises(CursorBusy, match="another name"):
            async with application.follow(place="billing"):
                pass


async def test_after_the_end_it_says_so(application: Application) -> None:
    entries = application.follow()
    with pytest.raises(SubscriptionClosed, match="not entered"):
        await anext(entries)
    async with entries:
        waiting = asyncio.ensure_future(anext(entries))
        await asyncio.sleep(0)
        await entries.close()
        with pytest.raises(SubscriptionClosed):
            await waiting
    for use in (lambda: entries.acknowledge(), lambda: anext(entries).send(None)):
        with pytest.raises(SubscriptionClosed, match="closed"):
            use()
    with pytest.raises(UsageMistake, match="entered before"):
        await entries.__aenter__()


async def test_two_tasks_cannot_wait_at_once(application: Application) -> None:
    async with application.follow() as entries:
        waiting = asyncio.ensure_future(anext(entries))
        await asyncio.sleep(0)
        with pytest.raises(UsageMistake, match="Another task"):
            await anext(entries)
        committed = await application.commit()
        assert (await waiting).id == str(committed[0].id)


async def test_it_does_not_keep_more_unacknowledged_than_it_says(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST_UNACKNOWLEDGED", 2)
    async with application.follow(place="billing", on_demand=True) as entries:
        await application.commit(3)
        await take(entries, 2)
        with pytest.raises(UsageMistake, match=r"2 entries .* acknowledge\(\)"):
            await anext(entries)
        entries.acknowledge()
        await take(entries, 1)


@pytest.mark.parametrize(
    ("users", "options", "text"),
    [
        ("7", {}, "UUID"),
        ([], {}, "UUID"),
        (iter([]), {}, "UUID"),
        ([USER, "7"], {}, "UUID"),
        (USER, {"since": datetime(2026, 1, 1)}, "time zone"),
        (USER, {"until": datetime(2026, 1, 1)}, "time zone"),
        (USER, {"last": 0}, "1 or more"),
        (USER, {"reconcile_interval": 0}, "more than 0"),
        (USER, {"reconcile_interval": float("nan")}, "more than 0"),
        (USER, {"on_demand": True}, "place"),
        (USER, {"live_only": True, "place": "billing"}, "live_only"),
        (USER, {"live_only": True, "last": 1}, "live_only"),
        (USER, {"activity_types": "TASK_*"}, "list"),
        (USER, {"query": "["}, "JMESPath"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(
    users: Any, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageMistake, match=text):
        lykke_cli.follow(users, database_url="sqlite:///x.db", **options)


def test_that_there_is_no_database_must_be_said() -> None:
    with pytest.raises(UsageMistake, match="DATABASE_URL"):
        lykke_cli.follow(USER)


async def test_what_fails_at_the_start_is_raised_and_all_is_closed_in_reverse_order(
    application: Application,
) -> None:
    closed: list[str] = []

    @asynccontextmanager
    async def parts() -> AsyncGenerator[Parts]:
        try:
            yield Parts(application.gateway, None, None)
        finally:
            closed.append("parts")

    def following() -> Following:
        return Following(
            parts,
            TailRequest(user_ids={USER}),
            on_demand=False,
            reconcile_interval=SHORT,
            on_gap=None,
            on_status=None,
        )

    application.gateway.disconnect()
    with pytest.raises(ServerUnavailable):
        async with following():
            pass
    assert closed == ["parts"]
    application.gateway.restore()
    with pytest.raises(ZeroDivisionError):
        async with following():
            raise ZeroDivisionError
    assert closed == ["parts"] * 2
