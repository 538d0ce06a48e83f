"""An application that never stops: commits entries, and publishes those it can."""

import asyncio
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import asyncpg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lykke_cli import RedisPubSubGateway, ServerUnavailable, SqlAlchemyUnitOfWork
from lykke_cli.application.messages import entity_message
from lykke_cli.domain.audit_log import AuditLogEntity
from tests.builders import INSERT, entity, row, wire
from tests.cli_process import LykkeProcess
from tests.servers import PostgresServer, RedisServer, run_apart, wait_until

PAUSE = 0.005  # seconds between two entries
FAST = ("--reconcile", "1s", "--health-interval", "500ms")


class Writer:
    """Writes for its users in a thread of its own until the block ends.

    `user` is the first of them. `lose` is the share of broadcasts that never happen. What cannot
    be committed is tried again; what cannot be published is not, unless the server is just slow.
    """

    def __init__(
        self,
        postgres: PostgresServer,
        database: str,
        redis_server: RedisServer,
        *,
        lose: float = 0,
        users: int = 1,
    ) -> None:
        self.users = [uuid.uuid4() for _ in range(users)]
        self.user = self.users[0]
        self.url = postgres.url(database)
        self._redis_server = redis_server
        self._lose = lose
        self._random = random.Random(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._write()), daemon=True)
        self.written = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait_for(self, more: int) -> None:
        """Wait until so many more entries were committed."""
        goal = self.written + more
        wait_until(lambda: self.written >= goal, f"{more} more entries are written", 60)

    async def _write(self) -> None:
        connection: asyncpg.Connection | None = None
        client = redis.Redis(
            port=self._redis_server.port,
            socket_timeout=0.3,
            socket_connect_timeout=0.3,
            retry=Retry(NoBackoff(), 0),
        )
        new = self._entry()
        while not self._stop.is_set():
            try:
                if connection is None or connection.is_closed():
                    connection = await asyncpg.connect(self.url, timeout=2)
                with suppress(asyncpg.UniqueViolationError):  # only the answer was lost
                    await connection.execute(INSERT, *row(new))
            except Exception:  # whatever asyncpg makes of a server that dies
                if connection is not None:
                    connection.terminate()
                connection = None
                await asyncio.sleep(0.05)
                continue
            self.written += 1
            if self._random.random() >= self._lose:
                await self._publish(client, new)
            new = self._entry()
            await asyncio.sleep(PAUSE)
        if connection is not None:
            await connection.close()
        client.close()

    async def _publish(self, client: "redis.Redis", new: AuditLogEntity) -> None:
        while self._redis_server.is_up:
            with suppress(redis.RedisError):
                await asyncio.to_thread(client.publish, f"auditlog:{new.user_id}", wire(new))
                return
            await asyncio.sleep(PAUSE)

    def _entry(self) -> AuditLogEntity:
        """Some are back-dated, a few by days."""
        age = self._random.choice([0.0] * 8 + [3600.0, 86400.0 * 30])
        moment = datetime.now(UTC) - timedelta(seconds=age)
        user = self._random.choice(self.users)
        return entity(user, occurred_at=moment, meta={"n": self.written})

    def committed(self, user: uuid.UUID | None = None) -> Counter[str]:
        """What the database holds of a user's, or of the first one's."""

        async def read() -> Counter[str]:
            connection = await asyncpg.connect(self.url)
            try:
                rows = await connection.fetch(
                    "SELECT id::text FROM audit_logs WHERE user_id = $1", user or self.user
                )
                return Counter(record[0] for record in rows)
            finally:
                await connection.close()

        return run_apart(read)

    def assert_printed_exactly_once(self, *tails: LykkeProcess, deadline: float = 30) -> None:
        """After the writer has stopped: every tail prints what is missing, and nothing twice."""
        self.stop()
        committed = self.committed()
        assert committed
        for tail in tails:
            wait_until(
                lambda tail=tail: tail.stdout.count(b"\n") >= len(committed),  # type: ignore[misc]
                "everything committed is printed",
                deadline,
            )
            result = tail.stop()
            assert Counter(line["id"] for line in result.rows) == committed
            assert result.status == 130


class GatewayWriter(Writer):
    """Publishes as an application on a gateway does, and remembers when it published what.

    Of its first user alone.
    """

    def __init__(self, make: Callable[[], RedisPubSubGateway], *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._make = make
        self._gateway: RedisPubSubGateway | None = None
        self.published: dict[str, tuple[datetime, datetime]] = {}
        """Since when each was being published, and until when."""

    async def _publish(self, client: "redis.Redis", new: AuditLogEntity) -> None:
        if self._gateway is None:
            self._gateway = self._make()
        began = datetime.now(UTC)
        with suppress(ServerUnavailable):
            message = entity_message(new)
            await self._gateway.publish_to_user_channel(new.user_id, "auditlog", message)
            if new.user_id == self.user:
                self.published[str(new.id)] = began, datetime.now(UTC)

    async def _write(self) -> None:
        await super()._write()
        if self._gateway is not None:
            await self._gateway.close()


class RecordingWriter(GatewayWriter):
    """Records by the unit of work: what is committed is broadcast by the gateway, or not."""

    async def _write(self) -> None:
        async with self._make() as gateway:
            unit_of_work = SqlAlchemyUnitOfWork(self.url, gateway)
            while not self._stop.is_set():
                async with unit_of_work:
                    await unit_of_work.create(self._entry())
                self.written += 1
                await asyncio.sleep(PAUSE)
            await unit_of_work.close()


def everything(writer: Writer, env: dict[str, str], **options: Any) -> LykkeProcess:
    """A tail from before the writer's first entry."""
    return LykkeProcess("tail", writer.user, "--since", "40d", *FAST, env=env, **options)
