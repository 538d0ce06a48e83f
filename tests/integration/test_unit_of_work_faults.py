"""The commit comes first: Redis may be dead or frozen, PostgreSQL may go away."""

import asyncio
import logging
import uuid

import pytest

from lykke_cli import (
    AuditLogRepository,
    MemoryPubSubGateway,
    RedisPubSubGateway,
    SqlAlchemyUnitOfWork,
)
from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.database.engine import make_engine
from tests.builders import entity
from tests.servers import PostgresServer, RedisServer

TIMEOUT = 0.5  # seconds
SLACK = 5.0  # seconds that a busy machine may take on top, far below a hang


async def record(uow: SqlAlchemyUnitOfWork, count: int = 1) -> list[AuditLogEntity]:
    entities = [entity(meta={"n": n}) for n in range(count)]
    async with uow:
        for one in entities:
            await uow.create(one)
    return entities


async def count(url: str) -> int:
    engine = make_engine(url)
    found = [e async for e in AuditLogRepository(engine).find()]
    await engine.dispose()
    return len(found)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
@pytest.mark.parametrize("warm", [True, False], ids=["connected", "not yet connected"])
async def test_a_lost_redis_costs_an_error_in_the_log_and_bounded_time(
    postgres_url: str,
    own_redis: RedisServer,
    fault: str,
    warm: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    async with RedisPubSubGateway(own_redis.url) as gateway:
        uow = SqlAlchemyUnitOfWork(postgres_url, gateway, broadcast_timeout=TIMEOUT)
        try:
            if warm:
                await record(uow)
                assert caplog.records == []
            own_redis.kill() if fault == "kill" else own_redis.freeze()
            started = loop.time()
            entities = await record(uow, 3)
            assert loop.time() - started < TIMEOUT + SLACK
        finally:
            if fault == "freeze":
                own_redis.thaw()
            await uow.close()
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    messages = [r.getMessage() for r in errors if r.name.startswith("lykke_cli")]
    named = [m.partition("entry ")[2].partition(" ")[0] for m in messages]
    assert named == [str(e.id) for e in entities], caplog.text
    assert await count(postgres_url) == 3 + warm


async def test_broadcasts_resume_when_redis_thaws(
    sqlite_url: str, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    user = uuid.uuid4()
    async with RedisPubSubGateway(own_redis.url) as gateway:
        uow = SqlAlchemyUnitOfWork(sqlite_url, gateway, broadcast_timeout=TIMEOUT)
        own_redis.freeze()
        await record(uow)
        own_redis.thaw()
        caplog.clear()
        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            written = entity(user)
            async with uow:
                await uow.create(written)
            message = await subscription.get_message(timeout=SLACK)
        await uow.close()
    assert isinstance(message, dict) and message["id"] == str(written.id)
    assert caplog.records == []


async def test_a_database_that_dies_inside_the_block_is_a_clear_error_and_nothing_is_broadcast(
    own_postgres: PostgresServer,
) -> None:
    gateway = MemoryPubSubGateway()
    url = own_postgres.url(own_postgres.make_database())
    uow = SqlAlchemyUnitOfWork(url, gateway)
    with pytest.raises(ServerUnavailable, match="Cannot reach the database"):
        async with uow:
            await uow.create(entity())
            own_postgres.kill()
    with pytest.raises(ServerUnavailable, match="Cannot reach the database"):
        await record(uow)
    own_postgres.restart()
    await record(uow)  # a dead pooled connection is noticed
    await uow.close()
    assert len(gateway.published) == 1
    assert await count(url) == 1
