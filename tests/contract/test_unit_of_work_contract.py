"""What the unit of work does: on SQLite and on PostgreSQL in its variants."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import orjson
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from lykke_cli import AuditLogRepository, MemoryPubSubGateway, SqlAlchemyUnitOfWork
from lykke_cli.application.errors import BadInput, SchemaMismatch, UnitOfWorkFailed
from lykke_cli.application.messages import encode
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.database.engine import make_engine
from tests.builders import entity, wire
from tests.contract.conftest import Urls

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass
class World:
    url: str
    engine: AsyncEngine
    """Another way to the same database."""
    gateway: MemoryPubSubGateway
    uow: SqlAlchemyUnitOfWork

    async def committed(self) -> list[AuditLogEntity]:
        return [e async for e in AuditLogRepository(self.engine).find()]

    async def sql(self, text: str) -> Any:
        async with self.engine.begin() as connection:
            result = await connection.execute(sa.text(text))
            return result.all() if result.returns_rows else None

    @property
    def broadcast(self) -> list[bytes]:
        return [payload for _, payload in self.gateway.published]


@pytest.fixture
async def world(urls: Urls) -> AsyncIterator[World]:
    url = urls.owner
    engine, gateway = make_engine(url), MemoryPubSubGateway()
    uow = SqlAlchemyUnitOfWork(url, gateway)
    yield World(url, engine, gateway, uow)
    await uow.close()
    await engine.dispose()


async def test_a_clean_exit_commits_and_then_broadcasts_in_the_order_of_creation(
    world: World,
) -> None:
    later = entity(occurred_at=NOON, meta={"title": "Læs", "n": [1, {"x": None}]})
    earlier = entity(occurred_at=NOON - timedelta(days=3))
    async with world.uow:
        await world.uow.create(later)
        await world.uow.create(earlier)
        assert world.broadcast == []
    assert await world.committed() == [earlier, later]
    assert world.broadcast == [wire(later), wire(earlier)]
    assert world.gateway.published[0][0] == f"auditlog:{later.user_id}"


async def test_an_entry_is_committed_before_it_is_broadcast(world: World) -> None:
    seen: list[list[AuditLogEntity]] = []

    class Looking(MemoryPubSubGateway):
        async def publish_to_user_channel(
            self, user_id: UUID, channel_type: str, message: Mapping[str, Any]
        ) -> int:
            seen.append(await world.committed())
            return 0

    uow = SqlAlchemyUnitOfWork(world.url, Looking())
    written = entity()
    try:
        async with uow:
            await uow.create(written)
    finally:
        await uow.close()
    assert seen == [[written]]


async def test_an_exception_rolls_back_and_nothing_is_broadcast(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        async with world.uow:
            await world.uow.create(entity())
            raise ZeroDivisionError
    assert await world.committed() == []
    assert world.broadcast == []


async def test_cancellation_rolls_back(world: World) -> None:
    created = asyncio.Event()

    async def work() -> None:
        async with world.uow:
            await world.uow.create(entity())
            created.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await created.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await world.committed() == []
    assert world.broadcast == []


async def test_it_can_be_used_again_after_success_and_after_failure(world: World) -> None:
    for _ in range(2):
        async with world.uow:
            await world.uow.create(entity())
        with pytest.raises(KeyError):
            async with world.uow:
                await world.uow.create(entity())
                raise KeyError
    assert len(await world.committed()) == len(world.broadcast) == 2


async def test_a_nested_use_joins_the_outer_one(world: World) -> None:
    first, second, third = entity(), entity(), entity()
    async with world.uow:
        await world.uow.create(first)
        async with world.uow as inner:
            assert inner is world.uow
            await inner.create(second)
        assert world.broadcast == []
        assert await world.committed() == []
        await world.uow.create(third)
    assert world.broadcast == [wire(first), wire(second), wire(third)]


async def test_an_outer_failure_rolls_back_what_an_inner_block_created(world: World) -> None:
    with pytest.raises(KeyError):
        async with world.uow:
            async with world.uow:
                await world.uow.create(entity())
            raise KeyError
    assert await world.committed() == []
    assert world.broadcast == []


async def test_a_failed_inner_block_fails_an_outer_one_that_goes_on(world: World) -> None:
    with pytest.raises(UnitOfWorkFailed, match="inner block"):
        async with world.uow:
            await world.uow.create(entity())
            try:
                async with world.uow:
                    raise KeyError
            except KeyError:
                pass
            await world.uow.create(entity())
    assert await world.committed() == []
    assert world.broadcast == []


async def test_a_refused_entry_is_bad_input_and_leaves_nothing_to_commit(world: World) -> None:
    """PostgreSQL answers such a COMMIT with a silent rollback: it must not be broadcast."""
    twice = entity()
    with pytest.raises(UnitOfWorkFailed):
        async with world.uow:
            await world.uow.create(twice)
            with pytest.raises(BadInput, match="holds an entry with this id"):
                await world.uow.create(twice)
    assert await world.committed() == []
    assert world.broadcast == []


async def test_a_failed_read_leaves_nothing_to_commit(postgres_url: str) -> None:
    gateway = MemoryPubSubGateway()
    uow = SqlAlchemyUnitOfWork(postgres_url, gateway)
    try:
        with pytest.raises(UnitOfWorkFailed, match="read"):
            async with uow:
                await uow.create(entity())
                with pytest.raises(BadInput):
                    [e async for e in uow.audit_logs.find(activity_types=["\0"])]
        async with uow:
            assert [e async for e in uow.audit_logs.find()] == []
    finally:
        await uow.close()
    assert gateway.published == []


async def test_meta_that_is_not_json_is_refused_and_the_block_may_go_on(world: World) -> None:
    fine = entity()
    async with world.uow:
        with pytest.raises(BadInput, match="JSON"):
            await world.uow.create(entity(meta={"what": object()}))
        await world.uow.create(fine)
    assert await world.committed() == [fine]


async def test_children_of_the_blocks_task_may_create_at_once(world: World) -> None:
    entities = [entity() for _ in range(20)]
    async with world.uow, asyncio.TaskGroup() as group:
        for one in entities:
            group.create_task(world.uow.create(one))
    assert len(await world.committed()) == 20
    assert sorted(world.broadcast) == sorted(wire(e) for e in entities)


async def test_times_are_stored_as_utc_and_the_date_is_the_utc_date(world: World) -> None:
    local = datetime(2026, 5, 1, 23, 30, 0, 123456, tzinfo=timezone(timedelta(hours=-5)))
    async with world.uow:
        await world.uow.create(entity(occurred_at=local))
    [stored] = await world.committed()
    assert stored.occurred_at == local
    assert stored.occurred_at.tzinfo is UTC
    [(text,)] = await world.sql("SELECT CAST(occurred_at AS VARCHAR) FROM audit_logs")
    assert text.startswith("2026-05-02 04:30:00.123456")
    columns = await _columns(world)
    if "date" in columns:
        [(day,)] = await world.sql("SELECT date FROM audit_logs")
        assert day == ("2026-05-02" if world.url.startswith("sqlite") else date(2026, 5, 2))


@pytest.mark.parametrize(
    "meta",
    [{}, {"n": 2**53 + 1, "deep": {"list": [1.5, "æ", None, True]}}, {"": "\U0001f600"}],
)
async def test_an_entry_comes_back_as_it_was(world: World, meta: dict[str, Any]) -> None:
    written = entity(
        activity_type="TaskCompletedEvent",
        meta=meta,
        entity_id=uuid.uuid4(),
        entity_type="'; DROP TABLE audit_logs; --",
    )
    async with world.uow:
        await world.uow.create(written)
    assert await world.committed() == [written]


@pytest.mark.parametrize("fields", [{}, {"meta": None}], ids=["left out", "None"])
async def test_no_meta_is_an_empty_object_stored_broadcast_and_read(
    world: World, fields: dict[str, Any]
) -> None:
    written = AuditLogEntity(user_id=uuid.uuid4(), activity_type="TASK_COMPLETED", **fields)
    async with world.uow:
        await world.uow.create(written)
    [found] = await world.committed()
    assert written.meta == found.meta == {}
    assert [orjson.loads(payload)["meta"] for payload in world.broadcast] == [{}]
    assert await world.sql("SELECT CAST(meta AS VARCHAR) FROM audit_logs") == [("{}",)]


async def test_the_sqlite_text_of_meta_is_the_one_that_was_broadcast(sqlite_url: str) -> None:
    uow = SqlAlchemyUnitOfWork(sqlite_url, MemoryPubSubGateway())
    engine = make_engine(sqlite_url)
    meta = {"b": 1, "a": [1, "æ"]}
    async with uow:
        await uow.create(entity(meta=meta))
    async with engine.connect() as connection:
        stored = (await connection.execute(sa.text("SELECT meta FROM audit_logs"))).scalar()
    await uow.close()
    await engine.dispose()
    assert stored == encode(meta).decode()


async def test_it_sees_its_own_uncommitted_entries(world: World) -> None:
    written = entity()
    async with world.uow:
        await world.uow.create(written)
        assert [e async for e in world.uow.audit_logs.find(written.user_id)] == [written]
        assert await world.committed() == []


async def test_an_engine_of_the_callers_stays_open(world: World) -> None:
    uow = SqlAlchemyUnitOfWork(world.engine, world.gateway)
    async with uow:
        await uow.create(entity())
    await uow.close()
    assert len(await world.committed()) == 1


async def test_a_missing_column_is_named_and_found_again_once_it_is_there(world: World) -> None:
    await world.sql("ALTER TABLE audit_logs RENAME COLUMN meta TO details")
    with pytest.raises(SchemaMismatch, match=r"no column meta.*migrations"):
        async with world.uow:
            await world.uow.create(entity())
    await world.sql("ALTER TABLE audit_logs RENAME COLUMN details TO meta")
    async with world.uow:
        await world.uow.create(entity())


async def test_a_migration_under_a_running_process_costs_one_failure(world: World) -> None:
    if "date" in await _columns(world):
        pytest.skip("the column is there already")
    async with world.uow:
        await world.uow.create(entity())
    await world.sql("ALTER TABLE audit_logs ADD COLUMN date date NOT NULL DEFAULT '2000-01-01'")
    await world.sql("ALTER TABLE audit_logs ALTER COLUMN date DROP DEFAULT")
    with pytest.raises(BadInput, match="date"):
        async with world.uow:
            await world.uow.create(entity())
    async with world.uow:
        await world.uow.create(entity())
    assert len(world.broadcast) == 2


async def test_a_missing_table_is_named(world: World) -> None:
    await world.sql("DROP TABLE audit_logs")
    with pytest.raises(SchemaMismatch, match=r"no table audit_logs.*DATABASE_URL"):
        async with world.uow:
            await world.uow.create(entity())


async def test_extra_columns_are_accepted(world: World) -> None:
    await world.sql("ALTER TABLE audit_logs ADD COLUMN note varchar DEFAULT 'none'")
    async with world.uow:
        await world.uow.create(entity())
    assert len(await world.committed()) == 1


async def test_without_the_statement_cache_nothing_stays_prepared(postgres_url: str) -> None:
    uow = SqlAlchemyUnitOfWork(postgres_url, MemoryPubSubGateway(), statement_cache=False)
    try:
        async with uow:
            await uow.create(entity())
            await uow.create(entity())
            assert len([e async for e in uow.audit_logs.find()]) == 2
    finally:
        await uow.close()


async def test_an_engine_made_elsewhere_works_too(postgres_url: str) -> None:
    engine = create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    gateway = MemoryPubSubGateway()
    try:
        async with SqlAlchemyUnitOfWork(engine, gateway) as uow:
            await uow.create(entity())
    finally:
        await engine.dispose()
    assert len(gateway.published) == 1


async def test_a_failed_broadcast_is_logged_and_does_not_raise(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.gateway.disconnect()
    written = entity()
    with caplog.at_level(logging.ERROR):
        async with world.uow:
            await world.uow.create(written)
    assert await world.committed() == [written]
    assert [str(written.id) in r.getMessage() for r in caplog.records] == [True]


async def _columns(world: World) -> set[str]:
    async with world.engine.connect() as connection:
        columns = await connection.run_sync(lambda c: sa.inspect(c).get_columns("audit_logs"))
    return {column["name"] for column in columns}
