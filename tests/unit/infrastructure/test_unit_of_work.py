"""The unit of work's rules that no server is needed for, and its broadcasts."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import pytest

from lykke_cli import AuditLogRepository, MemoryPubSubGateway, SqlAlchemyUnitOfWork
from lykke_cli.application.errors import ServerUnavailable, UsageMistake
from lykke_cli.application.unit_of_work_protocol import UnitOfWorkProtocol
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.domain.errors import DomainError
from lykke_cli.infrastructure.database.engine import make_engine
from tests.builders import entity, wire


class Gateway(MemoryPubSubGateway):
    """Behaves for each entity as `behaviours` says: raises it, or waits for ever for "hang"."""

    def __init__(self, **behaviours: Exception | str) -> None:
        super().__init__()
        self.behaviours = behaviours
        self.asked: list[str] = []
        self.hanging = asyncio.Event()

    async def publish_to_user_channel(
        self, user_id: UUID, channel_type: str, message: Mapping[str, Any]
    ) -> int:
        self.asked.append(message["activity_type"])
        behaviour = self.behaviours.get(message["activity_type"])
        if isinstance(behaviour, Exception):
            raise behaviour
        if behaviour == "hang":
            self.hanging.set()
            await asyncio.Event().wait()
        return await super().publish_to_user_channel(user_id, channel_type, message)


async def record(
    url: str, gateway: Gateway, *entities: AuditLogEntity, timeout: float = 2.0
) -> SqlAlchemyUnitOfWork:
    uow = SqlAlchemyUnitOfWork(url, gateway, broadcast_timeout=timeout)
    try:
        async with uow:
            for one in entities:
                await uow.create(one)
    finally:
        await uow.close()
    return uow


async def stored(url: str) -> list[AuditLogEntity]:
    engine = make_engine(url)
    found = [e async for e in AuditLogRepository(engine).find()]
    await engine.dispose()
    return found


@pytest.fixture
async def uow(sqlite_url: str) -> AsyncIterator[SqlAlchemyUnitOfWork]:
    uow = SqlAlchemyUnitOfWork(sqlite_url, MemoryPubSubGateway())
    yield uow
    await uow.close()


async def test_a_failed_broadcast_is_logged_with_the_id_and_the_next_ones_still_go_out(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(A=ServerUnavailable("Cannot reach Redis."), B=RuntimeError("s3cr3t"))
    entities = [entity(activity_type=name) for name in "ABC"]
    await record(sqlite_url, gateway, *entities)
    assert gateway.asked == ["A", "B", "C"]
    assert len(gateway.published) == 1
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(messages) == 2
    assert str(entities[0].id) in messages[0] and "Cannot reach Redis." in messages[0]
    assert str(entities[1].id) in messages[1] and "RuntimeError" in messages[1]
    assert "s3cr3t" not in caplog.text
    assert len(await stored(sqlite_url)) == 3


async def test_all_broadcasts_of_a_commit_share_one_budget(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(A="hang", B="hang", C="hang")
    entities = [entity(activity_type=name) for name in "ABC"]
    started = asyncio.get_running_loop().time()
    await record(sqlite_url, gateway, *entities, timeout=0.2)
    # Each on its own would take three times as long; the bound is generous to a slow machine.
    assert asyncio.get_running_loop().time() - started < 10
    [message] = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert all(str(e.id) in message for e in entities)
    assert "not done within 0.2 s" in message


async def test_many_failures_are_one_line_with_their_number_and_the_first_ids(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(A="hang")
    entities = [entity(activity_type="A") for _ in range(2_500)]
    await record(sqlite_url, gateway, *entities, timeout=0.2)
    [message] = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert message.startswith("2500 audit log entries were committed")
    assert [str(e.id) in message for e in entities[:4]] == [True, True, True, False]
    assert "2497 more" in message


async def test_those_that_went_out_before_a_time_out_are_not_told_as_failed(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(B="hang")
    entities = [entity(activity_type="A" if n < 1_000 else "B") for n in range(1_200)]
    await record(sqlite_url, gateway, *entities, timeout=5)
    [message] = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert message.startswith("200 audit log entries") and str(entities[1_000].id) in message


class Plain:
    """A gateway of an application's own, from before many could be published at once."""

    def __init__(self) -> None:
        self.inner = MemoryPubSubGateway()
        self.subscribe_to_user_channel = self.inner.subscribe_to_user_channel
        self.close = self.inner.close

    async def publish_to_user_channel(
        self, user_id: UUID, channel_type: str, message: Mapping[str, Any]
    ) -> int:
        if message["activity_type"] == "hang":
            await asyncio.Event().wait()
        return await self.inner.publish_to_user_channel(user_id, channel_type, message)


async def test_a_gateway_that_publishes_one_by_one_works_too(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway: Any = Plain()
    entities = [entity(activity_type=kind) for kind in ("A", "B", "hang", "C")]
    await record(sqlite_url, gateway, *entities, timeout=1)
    assert gateway.inner.published == [(f"auditlog:{e.user_id}", wire(e)) for e in entities[:2]]
    [message] = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert message.startswith("2 audit log entries") and str(entities[2].id) in message


@pytest.mark.parametrize("outcomes", [[], [1], None, "abc"])
async def test_a_gateway_that_answers_nonsense_does_not_undo_the_commit(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, outcomes: Any
) -> None:
    class Strange(Gateway):
        async def publish_many(self, *_: Any) -> Any:
            return outcomes

    await record(sqlite_url, Strange(), entity(), entity())
    assert len(await stored(sqlite_url)) == 2
    assert [r.levelno for r in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("nothing", [None, "redis://localhost", object()])
def test_without_a_gateway_it_is_refused_before_anything_is_committed(nothing: Any) -> None:
    with pytest.raises(UsageMistake, match="needs a gateway"):
        SqlAlchemyUnitOfWork("sqlite:///audit.db", nothing)


async def test_cancellation_during_the_broadcast_propagates_and_the_commit_stays(
    sqlite_url: str,
) -> None:
    gateway = Gateway(A="hang")
    written = entity(activity_type="A")
    task = asyncio.create_task(record(sqlite_url, gateway, written, timeout=60))
    await gateway.hanging.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stored(sqlite_url) == [written]


async def test_the_channel_type_is_configurable(sqlite_url: str) -> None:
    gateway, user = MemoryPubSubGateway(), uuid.uuid4()
    uow = SqlAlchemyUnitOfWork(sqlite_url, gateway, channel_type="domain-events")
    async with uow:
        await uow.create(entity(user))
    await uow.close()
    assert gateway.published[0][0] == f"domain-events:{user}"


async def test_it_fulfils_its_protocol(uow: SqlAlchemyUnitOfWork) -> None:
    protocol: UnitOfWorkProtocol = uow
    async with protocol as entered:
        assert entered is uow


async def test_outside_a_block_nothing_is_created_or_read(uow: SqlAlchemyUnitOfWork) -> None:
    with pytest.raises(UsageMistake, match="async with"):
        await uow.create(entity())
    with pytest.raises(UsageMistake, match="async with"):
        _ = uow.audit_logs
    async with uow:
        pass
    with pytest.raises(UsageMistake, match="async with"):
        await uow.create(entity())


@pytest.mark.parametrize("thing", [None, {"id": 1}, "text", AuditLogEntity])
async def test_only_an_entity_can_be_created(uow: SqlAlchemyUnitOfWork, thing: Any) -> None:
    async with uow:
        with pytest.raises(DomainError, match="AuditLogEntity"):
            await uow.create(thing)


async def test_another_task_cannot_enter_while_it_is_open(uow: SqlAlchemyUnitOfWork) -> None:
    async def enter() -> None:
        async with uow:
            pass

    async with uow:
        with pytest.raises(UsageMistake, match="another task"):
            await asyncio.create_task(enter())
    await asyncio.create_task(enter())


async def test_another_task_may_enter_while_the_broadcast_lasts(sqlite_url: str) -> None:
    gateway = Gateway(A="hang")
    uow = SqlAlchemyUnitOfWork(sqlite_url, gateway, broadcast_timeout=60)

    async def slow() -> None:
        async with uow:
            await uow.create(entity(activity_type="A"))

    task = asyncio.create_task(slow())
    await gateway.hanging.wait()
    async with uow:
        await uow.create(entity(activity_type="B"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await uow.close()
    assert len(gateway.published) == 1


async def test_a_database_that_is_not_there_leaves_it_closed(sqlite_url: str) -> None:
    uow = SqlAlchemyUnitOfWork(sqlite_url + ".gone", MemoryPubSubGateway())
    for _ in range(2):
        with pytest.raises(ServerUnavailable, match="Cannot open"):
            async with uow:
                pass
    await uow.close()
    await uow.close()


async def test_it_can_be_used_again_after_close(uow: SqlAlchemyUnitOfWork) -> None:
    for _ in range(2):
        async with uow:
            await uow.create(entity())
        await uow.close()


def test_a_malformed_url_is_refused_at_once() -> None:
    with pytest.raises(UsageMistake, match="postgresql://"):
        SqlAlchemyUnitOfWork("mysql://db/app", MemoryPubSubGateway())
