"""The commit comes first: Redis may be dead or frozen, PostgreSQL may go away."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from lykke_cli import (
    AuditLogRepository,
    MemoryPubSubGateway,
    PubSubSubscription,
    RedisPubSubGateway,
    SqlAlchemyUnitOfWork,
)
from lykke_cli.application.errors import BadInput, CommitUncertain, ServerUnavailable
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.database.engine import make_engine
from tests.builders import entity, wire
from tests.servers import PostgresServer, RedisServer

TIMEOUT = 0.5  # seconds
SLACK = 20.0  # seconds that a busy machine may take on top, far below a hang
LONG = 60.0  # seconds, which nothing takes


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
    async with RedisPubSubGateway(own_redis.url, connect_timeout=LONG) as gateway:
        if warm:
            patient = SqlAlchemyUnitOfWork(postgres_url, gateway, broadcast_timeout=LONG)
            await record(patient)
            await patient.close()
            assert caplog.records == []
        uow = SqlAlchemyUnitOfWork(postgres_url, gateway, broadcast_timeout=TIMEOUT)
        try:
            own_redis.kill() if fault == "kill" else own_redis.freeze()
            started = loop.time()
            entities = await record(uow, 3)
            assert loop.time() - started < TIMEOUT + SLACK
        finally:
            if fault == "freeze":
                own_redis.thaw()
            await uow.close()
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    [message] = [r.getMessage() for r in errors if r.name.startswith("lykke_cli")]
    assert message.startswith("3 audit log entries were committed"), caplog.text
    assert all(str(e.id) in message for e in entities)
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
        patient = SqlAlchemyUnitOfWork(sqlite_url, gateway, broadcast_timeout=LONG)
        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            written = entity(user)
            async with patient:
                await patient.create(written)
            message = await subscription.get_message(timeout=SLACK)
        await patient.close()
        await uow.close()
    assert isinstance(message, dict) and message["id"] == str(written.id)
    assert caplog.records == []


async def test_a_pause_of_redis_loses_no_broadcast_of_hundreds_at_once(
    postgres_url: str, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    user, engine = uuid.uuid4(), make_engine(postgres_url)
    # The time-outs are generous to a busy machine.
    async with RedisPubSubGateway(own_redis.url, connect_timeout=30) as gateway:

        async def record_one() -> None:
            async with SqlAlchemyUnitOfWork(engine, gateway, broadcast_timeout=30) as uow:
                await uow.create(entity(user))

        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            own_redis.freeze()
            recording = asyncio.gather(*(record_one() for _ in range(300)))
            while (await AuditLogRepository(engine).search(user, limit=0)).total < 300:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            own_redis.thaw()  # when all of them wait to be broadcast
            await recording
            came = await _received(subscription, 300)
    await engine.dispose()
    assert len(set(came)) == 300
    assert caplog.records == []


async def test_many_entities_are_broadcast_in_the_order_of_their_creation(
    sqlite_url: str, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    user = uuid.uuid4()
    async with RedisPubSubGateway(own_redis.url) as gateway:
        uow = SqlAlchemyUnitOfWork(sqlite_url, gateway, broadcast_timeout=20)
        async with gateway.subscribe_to_user_channel(user, "auditlog") as subscription:
            async with uow:
                entities = [entity(user, meta={"n": n}) for n in range(2_500)]
                for one in entities:
                    await uow.create(one)
            came = await _received(subscription, len(entities))
        await uow.close()
    assert came == [wire(e) for e in entities]
    assert caplog.records == []


async def _received(subscription: PubSubSubscription, count: int) -> list[bytes]:
    came: list[bytes] = []
    while len(came) < count:
        deliveries = await subscription.get_deliveries(SLACK)
        assert deliveries, f"only {len(came)} came"
        came += deliveries.payloads
    return came


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


@pytest.mark.parametrize("ending", ["cut", "silent"])
async def test_a_commit_whose_answer_is_lost_may_be_done_and_is_told_so(
    postgres_server: PostgresServer, postgres_database: str, ending: str
) -> None:
    gateway, written = MemoryPubSubGateway(), entity()
    direct = postgres_server.url(postgres_database)
    async with _losing_the_answer_to_commit(postgres_server.port, cut=ending == "cut") as port:
        url = direct.replace(f":{postgres_server.port}/", f":{port}/")
        # Of the driver's own: the library's engines wait for an answer for a minute.
        engine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://"),
            connect_args={"command_timeout": 1},
        )
        uow = SqlAlchemyUnitOfWork(engine, gateway)
        with pytest.raises(CommitUncertain, match="may be stored") as caught:
            async with uow:
                await uow.create(written)
        await engine.dispose(close=False)
    assert "\n" not in str(caught.value)
    assert gateway.published == []
    engine = make_engine(direct)
    assert await AuditLogRepository(engine).get(written.id) == written
    await engine.dispose()


async def test_a_commit_that_the_database_refuses_is_not_told_as_uncertain(
    postgres_server: PostgresServer, postgres_database: str, postgres_url: str
) -> None:
    postgres_server.execute(
        "ALTER TABLE audit_logs ADD CONSTRAINT once UNIQUE (activity_type) "
        "DEFERRABLE INITIALLY DEFERRED",
        postgres_database,
    )
    uow = SqlAlchemyUnitOfWork(postgres_url, MemoryPubSubGateway())
    with pytest.raises(BadInput):
        await record(uow, 2)
    await uow.close()


@asynccontextmanager
async def _losing_the_answer_to_commit(to: int, *, cut: bool) -> AsyncIterator[int]:
    """The port of a proxy that passes on everything but what follows a COMMIT."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", to)
        committing = False

        async def answer() -> None:
            while data := await server_reader.read(65_536):
                if committing:
                    if cut:
                        writer.transport.abort()
                    return
                writer.write(data)

        answering = asyncio.create_task(answer())
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                committing = committing or b"COMMIT;" in data
                server_writer.write(data)
        await answering
        server_writer.transport.abort()
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
