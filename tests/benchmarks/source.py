"""Entries as an application makes them: committed, then published."""

import asyncio
import time
import uuid
from datetime import UTC, datetime

import asyncpg
import orjson

from lykke_cli.application.messages import format_time
from tests.benchmarks.measure import publish_commands
from tests.servers import RedisServer

TICK = 0.005  # seconds between two commits
COLUMNS = ["id", "user_id", "activity_type", "occurred_at", "entity_id", "entity_type", "meta"]


class Source:
    """Commits entries and publishes them, one user after the other; `first` is their number."""

    def __init__(
        self, redis: RedisServer, database: asyncpg.Connection, users: int, first: int
    ) -> None:
        self.users = [str(uuid.uuid4()) for _ in range(users)]
        self.sent: dict[int, float] = {}
        self._redis, self._database = redis, database
        self._next = first
        self._publisher: _Publisher | None = None

    async def run(self, rate: int, seconds: float) -> range:
        """So many entries a second, for so long; returns their numbers."""
        first, started = self._next, time.perf_counter()
        while self._next - first < rate * seconds:
            due = min(rate * (time.perf_counter() - started), rate * seconds) + first
            if count := int(due) - self._next:
                await self.put(count)
            await asyncio.sleep(TICK)
        return range(first, self._next)

    async def put(self, count: int, *, publish: bool = True) -> None:
        """Commit so many, then publish them, where Redis takes it."""
        made = [self._make(number) for number in range(self._next, self._next + count)]
        rows, payloads = [row for row, _ in made], [payload for _, payload in made]
        commands = publish_commands([f"auditlog:{row[1]}" for row in rows], payloads)
        await self._database.copy_records_to_table("audit_logs", records=rows, columns=COLUMNS)
        now = time.perf_counter()
        self.sent |= dict.fromkeys(range(self._next, self._next + count), now)
        self._next += count
        if publish:
            await self._publish(commands)

    async def _publish(self, commands: bytes) -> None:
        try:
            if self._publisher is None or self._publisher.transport.is_closing():
                loop = asyncio.get_running_loop()
                _, self._publisher = await loop.create_connection(
                    _Publisher, "127.0.0.1", self._redis.port
                )
            self._publisher.transport.write(commands)
        except OSError:
            pass  # what was committed is not told

    def _make(self, number: int) -> tuple[tuple[object, ...], bytes]:
        moment = datetime.now(UTC)
        id, entity = (f"{number:08x}-{part}-4000-8000-{number:012x}" for part in ("0000", "1111"))
        user = self.users[number % len(self.users)]
        meta = {"title": f"Water the plants {number}", "minutes": number % 90, "by": "x" * 24}
        fields = {
            "id": id,
            "user_id": user,
            "activity_type": "TASK_COMPLETED",
            "occurred_at": format_time(moment),
            "entity_id": entity,
            "entity_type": "task",
            "meta": meta,
        }
        row = (id, user, "TASK_COMPLETED", moment.replace(tzinfo=None), entity, "task")
        return (*row, orjson.dumps(meta).decode()), orjson.dumps(fields)


class _Publisher(asyncio.Protocol):
    """Nobody asks what Redis answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
