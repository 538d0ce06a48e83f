"""What the repository finds: on SQLite and on PostgreSQL in its variants, with SELECT alone."""

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from lykke_cli import AuditLogRepository, MemoryPubSubGateway, SqlAlchemyUnitOfWork
from lykke_cli.application.errors import BadInput, LoginRefused, ServerUnavailable, UsageMistake
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.database.engine import make_engine
from tests.builders import entity, insert
from tests.contract.conftest import Urls
from tests.servers import READER_PASSWORD

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
USER, TASK = uuid.UUID(int=2**100), uuid.UUID(int=2**101)  # fixed: they are part of tests' names


@dataclass
class Database:
    url: str
    reader: AsyncEngine

    async def find(self, *args: Any, **options: Any) -> list[AuditLogEntity]:
        return [e async for e in AuditLogRepository(self.reader).find(*args, **options)]

    async def sql(self, text: str) -> None:
        engine = make_engine(self.url)
        async with engine.begin() as connection:
            await connection.execute(sa.text(text))
        await engine.dispose()


@pytest.fixture
async def database(urls: Urls) -> AsyncIterator[Database]:
    engine = make_engine(urls.reader)
    yield Database(urls.owner, engine)
    await engine.dispose()


def minutes(count: int) -> datetime:
    return NOON + timedelta(minutes=count)


@pytest.fixture
async def entries(database: Database) -> list[AuditLogEntity]:
    made = [
        entity(USER, "TASK_COMPLETED", minutes(0), entity_id=TASK, entity_type="task"),
        entity(USER, "MESSAGE_SENT", minutes(1), entity_type="message", meta={"n": 1}),
        entity(uuid.uuid4(), "TASK_PUNTED", minutes(2), entity_id=TASK, entity_type="task"),
        entity(USER, "TaskCompletedEvent", minutes(3), meta={"æ": ["ø", None, 1.5]}),
    ]
    await insert(database.url, reversed(made))
    return made


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, [0, 1, 2, 3]),
        ({"user_id": USER}, [0, 1, 3]),
        ({"user_id": uuid.UUID(int=0)}, []),
        ({"newest_first": True}, [3, 2, 1, 0]),
        ({"newest_first": True, "limit": 2}, [3, 2]),
        ({"limit": 2}, [0, 1]),
        ({"limit": 0}, []),
        ({"since": minutes(1)}, [1, 2, 3]),
        ({"since": minutes(1).astimezone(timezone(timedelta(hours=9)))}, [1, 2, 3]),
        ({"until": minutes(1)}, [0]),
        ({"since": minutes(1), "until": minutes(3)}, [1, 2]),
        ({"activity_types": ["TASK_COMPLETED", "TaskCompletedEvent"]}, [0, 3]),
        ({"activity_types": "MESSAGE_SENT"}, [1]),
        ({"activity_types": ["task_completed"]}, []),
        ({"entity_type": "task"}, [0, 2]),
        ({"entity_id": TASK}, [0, 2]),
        ({"user_id": USER, "entity_id": TASK, "entity_type": "task"}, [0]),
    ],
    ids=str,
)
async def test_every_part_narrows(
    database: Database, entries: list[AuditLogEntity], options: dict[str, Any], found: list[int]
) -> None:
    assert await database.find(**options) == [entries[i] for i in found]


async def test_entries_of_one_moment_come_in_the_order_of_their_ids(database: Database) -> None:
    same = [entity(USER, occurred_at=NOON) for _ in range(20)]
    await insert(database.url, same)
    ids = sorted(e.id for e in same)
    assert [e.id for e in await database.find()] == ids
    assert [e.id for e in await database.find(newest_first=True)] == ids[::-1]


async def test_times_are_aware_and_utc_whatever_the_sessions_zone(database: Database) -> None:
    await insert(database.url, [entity(USER, occurred_at=NOON)])
    if not database.url.startswith("sqlite"):
        name = database.url.rpartition("/")[2].partition("?")[0]
        await database.sql(f"ALTER DATABASE \"{name}\" SET timezone = 'America/New_York'")
    [found] = await database.find(since=NOON, until=NOON + timedelta(microseconds=1))
    assert found.occurred_at == NOON
    assert found.occurred_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("[1, 2]", {"value": [1, 2]}),
        ('"text"', {"value": "text"}),
        ("7", {"value": 7}),
        ("false", {"value": False}),
        ("null", {}),
        ("{}", {}),
        ('{"n": 123456789012345678901234567890}', {"n": 123456789012345678901234567890}),
    ],
)
async def test_meta_that_is_no_object_is_wrapped(
    database: Database, stored: str, read: dict[str, Any] | None
) -> None:
    await insert(database.url, [entity(USER)])
    await database.sql(f"UPDATE audit_logs SET meta = '{stored}'".replace(":", r"\:"))  # noqa: S608
    [found] = await database.find()
    assert found.meta == read


async def test_no_meta_is_an_empty_one(database: Database) -> None:
    await insert(database.url, [entity(USER)])
    await database.sql("UPDATE audit_logs SET meta = NULL")
    [found] = await database.find()
    assert found.meta == {}


async def test_one_entry_is_got_by_its_id(
    database: Database, entries: list[AuditLogEntity]
) -> None:
    repository = AuditLogRepository(database.reader)
    assert [await repository.get(e.id) for e in entries] == entries
    assert await repository.get(uuid.uuid4()) is None


@pytest.mark.parametrize(
    ("options", "found", "total"),
    [
        ({}, [0, 1, 2, 3], 4),
        ({"limit": 2}, [0, 1], 4),
        ({"limit": 2, "offset": 1}, [1, 2], 4),
        ({"limit": 2, "offset": 3}, [3], 4),
        ({"limit": 2, "offset": 4}, [], 4),
        ({"limit": 0}, [], 4),
        ({"newest_first": True, "limit": 3}, [3, 2, 1], 4),
        ({"user_id": USER, "offset": 1, "limit": 1}, [1], 3),
        ({"activity_types": "MESSAGE_SENT"}, [1], 1),
        ({"user_id": uuid.UUID(int=0)}, [], 0),
    ],
    ids=str,
)
async def test_a_page_tells_how_many_there_are(
    database: Database,
    entries: list[AuditLogEntity],
    options: dict[str, Any],
    found: list[int],
    total: int,
) -> None:
    page = await AuditLogRepository(database.reader).search(**options)
    assert page.entries == [entries[i] for i in found]
    assert page.total == total
    assert (page.limit, page.offset) == (options.get("limit", 50), options.get("offset", 0))


async def test_the_pages_together_are_what_is_found(database: Database) -> None:
    same = [entity(USER, occurred_at=NOON) for _ in range(25)]
    await insert(database.url, same)
    repository = AuditLogRepository(database.reader)
    pages = [await repository.search(USER, limit=10, offset=n) for n in (0, 10, 20)]
    assert [e for page in pages for e in page.entries] == await database.find(USER)


async def test_a_page_sees_what_the_unit_of_work_has_written(database: Database) -> None:
    uow, written = SqlAlchemyUnitOfWork(database.url, MemoryPubSubGateway()), entity(USER)
    try:
        async with uow:
            await uow.create(written)
            page = await uow.audit_logs.search(USER)
            assert (page.entries, page.total) == ([written], 1)
            assert await uow.audit_logs.get(written.id) == written
            assert await AuditLogRepository(database.reader).get(written.id) is None
    finally:
        await uow.close()


@pytest.mark.parametrize("options", [{"limit": -1}, {"offset": -1}], ids=str)
async def test_a_negative_page_is_a_usage_mistake(
    database: Database, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageMistake, match="negative"):
        await AuditLogRepository(database.reader).search(**options)


async def test_a_row_that_is_no_entry_is_bad_input_that_names_it(database: Database) -> None:
    bad = entity(USER)
    await insert(database.url, [bad])
    await database.sql("UPDATE audit_logs SET activity_type = ''")
    with pytest.raises(BadInput, match="audit_logs is not an entry: activity_type"):
        await database.find()


async def test_a_long_history_is_streamed_and_may_be_left_early(database: Database) -> None:
    await insert(database.url, [entity(USER, occurred_at=minutes(i)) for i in range(1_200)])
    assert len(await database.find()) == 1_200
    async with aclosing(AuditLogRepository(database.reader).find()) as found:
        async for first in found:
            assert first.occurred_at == NOON
            break
    assert len(await database.find(limit=1_100)) == 1_100


async def test_an_open_connection_serves_as_well(
    database: Database, entries: list[AuditLogEntity]
) -> None:
    async with database.reader.connect() as connection:
        repository = AuditLogRepository(connection)
        assert [e async for e in repository.find()] == entries
        assert [e async for e in repository.find(newest_first=True)] == entries[::-1]


async def test_creating_goes_on_while_reading(database: Database) -> None:
    await insert(database.url, [entity(USER, occurred_at=minutes(i)) for i in range(3)])
    uow = SqlAlchemyUnitOfWork(database.url, MemoryPubSubGateway())
    try:
        async with uow:
            async for found in uow.audit_logs.find(USER):
                await uow.create(entity(entity_id=found.id))
    finally:
        await uow.close()
    assert len(await database.find()) == 6


@pytest.mark.parametrize("options", [{"since": datetime(2026, 1, 1)}, {"limit": -1}], ids=str)
async def test_a_naive_time_or_a_negative_limit_is_a_usage_mistake(
    database: Database, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageMistake):
        await database.find(**options)


async def test_a_role_with_select_alone_reads_and_is_refused_the_rest(
    postgres_reader_url: str,
) -> None:
    uow = SqlAlchemyUnitOfWork(postgres_reader_url, MemoryPubSubGateway())
    try:
        async with uow:
            assert [e async for e in uow.audit_logs.find()] == []
        with pytest.raises(LoginRefused, match="GRANT INSERT"):
            async with uow:
                await uow.create(entity())
    finally:
        await uow.close()


async def test_a_wrong_password_is_refused_without_showing_it(postgres_reader_url: str) -> None:
    wrong = postgres_reader_url.replace(f":{READER_PASSWORD}@", ":wr0ng@")
    engine = make_engine(wrong)
    with pytest.raises(LoginRefused, match="refused the login") as caught:
        [e async for e in AuditLogRepository(engine).find()]
    await engine.dispose()
    assert "wr0ng" not in str(caught.value)


async def test_a_missing_file_is_no_new_and_empty_database(sqlite_url: str) -> None:
    engine = make_engine(sqlite_url + ".gone")
    with pytest.raises(ServerUnavailable, match="Check that the file exists"):
        [e async for e in AuditLogRepository(engine).find()]
    await engine.dispose()


async def test_sqlite_ids_with_dashes_are_found(sqlite_url: str) -> None:
    engine = make_engine(sqlite_url)
    written = entity(USER, entity_id=TASK)
    await insert(sqlite_url, [written])
    async with engine.begin() as connection:
        await connection.execute(
            sa.text("UPDATE audit_logs SET user_id = :user, id = :id"),
            {"user": str(USER), "id": str(written.id)},
        )
    found = [e async for e in AuditLogRepository(engine).find(USER, entity_id=TASK)]
    await engine.dispose()
    assert found == [written]
