"""The unit of work: one transaction, and the broadcasts that follow its commit."""

import asyncio
import logging
import uuid
from types import TracebackType
from typing import Any, Self

from sqlalchemy import NullPool, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from lykke_cli.application.errors import UnitOfWorkFailed, UsageMistake
from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
from lykke_cli.application.messages import encode, entity_message
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.domain.errors import InvalidEntityError
from lykke_cli.infrastructure.database.audit_log_repository import AuditLogRepository
from lykke_cli.infrastructure.database.audit_log_table import AuditLogTable, find_table
from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.urls import async_sqlalchemy_url, display_url, is_sqlite

BROADCAST_TIMEOUT = 2.0  # seconds, for all broadcasts of one commit
CONNECT_TIMEOUT = 5.0  # seconds

logger = logging.getLogger(__name__)


class SqlAlchemyUnitOfWork:
    """`async with uow: await uow.create(entity)` commits, then broadcasts through `gateway`.

    `database` is an AsyncEngine, or a URL (postgresql:// or sqlite:///) for an engine of its own,
    which `close()` disposes of. Broadcasts go to `{channel_type}:{user_id}` in the order of
    creation; together they take `broadcast_timeout` seconds at the most, and one that fails is
    logged as an error with the entity's id.

    It serves one task at a time and can be used again. A nested block joins the outer one; when it
    fails, the outer block rolls back and raises UnitOfWorkFailed, even if it caught the exception.
    Raises ServerUnavailable, LoginRefused or SchemaMismatch where the database does not do it.
    """

    def __init__(
        self,
        database: AsyncEngine | str,
        gateway: PubSubGatewayProtocol,
        *,
        channel_type: str = "auditlog",
        broadcast_timeout: float = BROADCAST_TIMEOUT,
    ) -> None:
        if isinstance(database, str):
            self._engine = _make_engine(database)
            self._server = display_url(database)
        else:
            self._engine = database
            self._server = database.url.render_as_string(hide_password=True)
        self._owns_engine = isinstance(database, str)
        self._gateway = gateway
        self._channel_type = channel_type
        self._broadcast_timeout = broadcast_timeout
        self._table: AuditLogTable | None = None
        self._connection: AsyncConnection | None = None
        self._task: asyncio.Task[Any] | None = None
        self._depth = 0
        self._failed = False
        self._created: list[AuditLogEntity] = []

    @property
    def audit_logs(self) -> AuditLogRepository:
        """Reads in this transaction, what it has created included."""
        return AuditLogRepository(self._open_connection(), self._table)

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if self._depth and self._task is not task:
            raise UsageMistake("This unit of work is open in another task: give each its own.")
        if not self._depth:
            self._task, self._failed, self._created = task, False, []
            with database_errors(self._server):
                self._connection = await self._engine.connect()
                try:
                    await self._connection.begin()
                    if self._table is None:
                        self._table = await find_table(self._connection)
                except BaseException:
                    await self._release()
                    raise
        self._depth += 1
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        self._failed = self._failed or exc is not None
        if self._depth:
            return
        created, self._created = self._created, []
        try:
            with database_errors(self._server):
                if not self._failed:
                    await self._open_connection().commit()
        finally:
            await self._release()  # rolls back what was not committed
        if not self._failed:
            await self._broadcast(created)
        elif exc is None:
            raise UnitOfWorkFailed

    async def create(self, entity: AuditLogEntity) -> None:
        """Insert `entity`; it is broadcast after the commit.

        Raises InvalidEntityError for anything but an AuditLogEntity, or one that is not JSON.
        """
        connection = self._open_connection()
        if not isinstance(entity, AuditLogEntity):
            raise InvalidEntityError("Only an AuditLogEntity can be created.")
        encode(entity_message(entity))  # what cannot be broadcast must not be committed
        table = self._table or await find_table(connection)
        with database_errors(self._server):
            await connection.execute(insert(table.table).values(table.row(entity)))
        self._created.append(entity)

    async def close(self) -> None:
        """Dispose of the engine, if it is its own."""
        if self._owns_engine:
            await self._engine.dispose()

    def _open_connection(self) -> AsyncConnection:
        if self._connection is None:
            raise UsageMistake("The unit of work is not open: use it in `async with uow:`.")
        return self._connection

    async def _release(self) -> None:
        connection, self._connection, self._task = self._connection, None, None
        if connection is not None:
            await connection.close()

    async def _broadcast(self, entities: list[AuditLogEntity]) -> None:
        """Never raises but on cancellation: the commit stands."""
        waiting = list(entities)
        try:
            async with asyncio.timeout(self._broadcast_timeout):
                while waiting:
                    await self._publish(waiting[0])
                    waiting.pop(0)
        except TimeoutError:
            pass
        finally:
            for entity in waiting:
                logger.error(
                    "Entry %s of user %s is committed, but was not broadcast within %g s",
                    entity.id,
                    entity.user_id,
                    self._broadcast_timeout,
                )

    async def _publish(self, entity: AuditLogEntity) -> None:
        message = entity_message(entity)
        try:
            await self._gateway.publish_to_user_channel(entity.user_id, self._channel_type, message)
        except Exception as error:
            logger.error(
                "Entry %s of user %s is committed, but was not broadcast: %s",
                entity.id,
                entity.user_id,
                error,
            )


def _make_engine(url: str) -> AsyncEngine:
    if is_sqlite(url):
        return create_async_engine(async_sqlalchemy_url(url))
    return create_async_engine(
        async_sqlalchemy_url(url),
        poolclass=NullPool,
        connect_args={
            "timeout": CONNECT_TIMEOUT,
            # PgBouncer in transaction mode: no statement may outlive its transaction.
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"lykke_{uuid.uuid4().hex}",
        },
    )
