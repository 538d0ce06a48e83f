"""One transaction with SQLAlchemy, and the broadcast after its commit."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.errors import (
    CommitUncertain,
    ServerUnavailable,
    UnitOfWorkFailed,
    UsageMistake,
)
from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
from lykke_cli.application.messages import entity_message
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.domain.errors import InvalidEntityError, LykkeError
from lykke_cli.infrastructure.database.audit_log_repository import AuditLogRepository
from lykke_cli.infrastructure.database.audit_log_table import audit_log_table, forget
from lykke_cli.infrastructure.database.engine import display_engine, make_engine
from lykke_cli.infrastructure.database.errors import database_errors, is_unanswered
from lykke_cli.infrastructure.database.urls import display_url

BROADCAST_TIMEOUT = 2.0  # seconds for all broadcasts of one commit together
BROADCAST_TOGETHER = 1_000  # entities, after which those that went out are known
SHOWN_IDS = 3  # of many entities whose broadcast failed

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Work:
    """What belongs to one open transaction."""

    connection: AsyncConnection
    created: list[AuditLogEntity] = field(default_factory=list)
    failure: str | None = None
    """Why it can only be rolled back."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One statement at a time, though children of the block's task may create at once."""


class SqlAlchemyUnitOfWork:
    """`async with uow: await uow.create(entity)` commits on a clean exit, and then broadcasts.

    `database` is an engine of the caller's, or a URL (postgresql:// or sqlite:///file), for which
    an engine is made on first use and disposed of by `close`. Entities are broadcast through
    `gateway` on `channel_type:user_id`, in the order of creation, after the commit and within
    `broadcast_timeout` seconds altogether; what fails is logged as an error, and neither undoes
    the commit nor raises. Many go out by the gateway's `publish_many`; one without it gets them one
    by one. An exception, cancellation included, rolls back.

    Entering it again inside joins the outer block; an inner block that raises leaves the outer one
    nothing but to roll back, and to raise UnitOfWorkFailed if it goes on as if nothing had
    happened. The unit of work can be used again after its exit, and belongs to one task at a time.

    `statement_cache=False` makes an engine that works through PgBouncer in transaction mode.
    Raises UsageMistake for a malformed URL, and for a `gateway` that cannot publish.
    """

    def __init__(
        self,
        database: AsyncEngine | str,
        gateway: PubSubGatewayProtocol,
        *,
        channel_type: str = AUDIT_LOG,
        broadcast_timeout: float = BROADCAST_TIMEOUT,
        statement_cache: bool = True,
    ) -> None:
        if not callable(getattr(gateway, "publish_to_user_channel", None)):
            raise UsageMistake(
                "A unit of work needs a gateway to broadcast by, such as RedisPubSubGateway(), not "
                f"{type(gateway).__name__}."
            )
        self._gateway = gateway
        self._channel_type = channel_type
        self._broadcast_timeout = broadcast_timeout
        self._statement_cache = statement_cache
        self._url = database if isinstance(database, str) else None
        self._engine = None if isinstance(database, str) else database
        self._display = (
            display_url(database) if isinstance(database, str) else display_engine(database)
        )
        self._depth = 0
        self._task: asyncio.Task[Any] | None = None
        self._work: _Work | None = None

    async def __aenter__(self) -> Self:
        """Begin, or join the open block; raises ServerUnavailable, and UsageMistake from another
        task than the one whose block is open."""
        task = asyncio.current_task()
        if self._depth and task is not self._task:
            raise UsageMistake(
                "This unit of work is open in another task: use one for each task; an engine can "
                "be shared."
            )
        self._depth += 1
        if self._depth == 1:
            self._task = task
            try:
                with database_errors(self._display):
                    self._work = _Work(await self._connected().connect())
            except BaseException:
                self._depth = 0
                raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit and broadcast, or roll back; an inner block leaves both to the outer one.

        Raises UnitOfWorkFailed when something inside failed and the exit is clean all the same, and
        CommitUncertain when the answer to the COMMIT was lost: then nothing is broadcast.
        """
        work = self._open_work()
        self._depth -= 1
        if self._depth:
            if exc_type is not None:
                work.failure = "an inner block of it failed"
            return
        self._work = None
        try:
            if exc_type is None:
                await self._commit(work)
        except BaseException:
            await self._release(work)
            raise
        try:
            await self._release(work)
            if exc_type is None:
                await self._broadcast(work.created)
        except asyncio.CancelledError:
            if exc_type is None and work.created:
                _log_failed([entity.id for entity in work.created], "cancelled in the middle of it")
            raise

    async def create(self, entity: AuditLogEntity) -> None:
        """Insert `entity`; it is broadcast after the commit, in the order of creation.

        Raises InvalidEntityError for anything else, BadInput when the database refuses it or its
        meta is not JSON, UsageMistake outside a block, ServerUnavailable, LoginRefused and
        SchemaMismatch. After an error of the database the block can only be rolled back.
        """
        if not isinstance(entity, AuditLogEntity):
            raise InvalidEntityError(f"An AuditLogEntity is needed, not {type(entity).__name__}.")
        work = self._open_work()
        async with work.lock:
            with self._failing(work):
                table = await audit_log_table(work.connection, self._display)
            row = table.row(entity)
            with self._failing(work):
                await work.connection.execute(table.insert(), row)
            work.created.append(entity)

    @property
    def audit_logs(self) -> AuditLogRepository:
        """The entries as the open transaction sees them; raises UsageMistake outside a block."""
        work = self._open_work()

        def failed() -> None:
            work.failure = "a read in it failed"

        return AuditLogRepository(work.connection, display=self._display, on_error=failed)

    async def close(self) -> None:
        """Dispose of the engine, if it was made here; closing twice is harmless."""
        if self._url is not None and self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.dispose()

    def _connected(self) -> AsyncEngine:
        if self._engine is None:
            self._engine = make_engine(self._url or "", statement_cache=self._statement_cache)
        return self._engine

    def _open_work(self) -> _Work:
        if self._work is None:
            raise UsageMistake("The unit of work is not open: write `async with uow:` around it.")
        return self._work

    @contextmanager
    def _failing(self, work: _Work) -> Iterator[None]:
        """A statement that fails, or is cancelled half-way, leaves nothing to be committed.

        PostgreSQL answers the COMMIT of such a transaction with a rollback and no error.
        """
        try:
            with database_errors(self._display):
                yield
        except BaseException:
            work.failure = "a statement in it failed"
            forget(work.connection)
            raise

    async def _commit(self, work: _Work) -> None:
        if work.failure is not None:
            raise UnitOfWorkFailed(
                f"Nothing was committed to the database at {self._display}: the unit of work was "
                f"left as if complete, but {work.failure}."
            )
        try:
            with database_errors(self._display):
                await work.connection.commit()
        except ServerUnavailable as error:
            if not is_unanswered(error):
                raise
            raise CommitUncertain(
                f"{error.problem} The COMMIT was not answered: what it was to store may be stored, "
                "and was not broadcast.",
                remedy="Look for it before you record it again.",
            ) from error

    async def _release(self, work: _Work) -> None:
        """Give the connection back, which rolls back what is not committed."""
        try:
            with database_errors(self._display):
                # Its own __aexit__ runs to completion even when this task is cancelled meanwhile.
                await work.connection.__aexit__(None, None, None)
        except LykkeError as error:
            logger.warning("The connection was not given back in order: %s", error)

    async def _broadcast(self, entities: list[AuditLogEntity]) -> None:
        deadline = asyncio.get_running_loop().time() + self._broadcast_timeout
        together = BROADCAST_TOGETHER if hasattr(self._gateway, "publish_many") else 1
        failed: dict[str, list[UUID]] = {}
        for start in range(0, len(entities), together):
            some = entities[start : start + together]
            for entity, outcome in zip(some, await self._publish(some, deadline), strict=True):
                if isinstance(outcome, Exception):
                    failed.setdefault(self._reason(outcome), []).append(entity.id)
        for reason, ids in failed.items():
            _log_failed(ids, reason)

    async def _publish(
        self, entities: list[AuditLogEntity], deadline: float
    ) -> Sequence[int | Exception]:
        """How many subscribers each reached, or why it was not broadcast."""
        try:
            if asyncio.get_running_loop().time() >= deadline:
                raise TimeoutError
            async with asyncio.timeout_at(deadline):
                messages = [(entity.user_id, entity_message(entity)) for entity in entities]
                if len(messages) > 1:
                    outcomes = await self._gateway.publish_many(self._channel_type, messages)
                    if len(outcomes) != len(messages):
                        raise ValueError
                    return outcomes
                [(user_id, message)] = messages
                return [
                    await self._gateway.publish_to_user_channel(
                        user_id, self._channel_type, message
                    )
                ]
        except Exception as error:
            return [error] * len(entities)

    def _reason(self, error: Exception) -> str:
        """Only our own errors are known to hold no secrets."""
        if isinstance(error, LykkeError):
            return str(error)
        if isinstance(error, TimeoutError):
            return f"not done within {self._broadcast_timeout:g} s"
        return type(error).__name__


def _log_failed(ids: list[UUID], reason: str) -> None:
    if len(ids) == 1:
        logger.error(
            "The audit log entry %s was committed, but its broadcast failed: %s", ids[0], reason
        )
        return
    shown = ", ".join(map(str, ids[:SHOWN_IDS]))
    more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    logger.error(
        "%d audit log entries were committed, but their broadcast failed (%s%s): %s",
        *(len(ids), shown, more, reason),
    )
