"""A listener without a database: what comes, and the gaps that it is told of."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from lykke_cli import Gap, RedisPubSubGateway, follow
from tests.faults.writer import GatewayWriter

ON_THE_WAY = timedelta(seconds=1)  # of a message from the writer to here
DEADLINE = 30.0  # seconds


class Listener:
    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self.came: set[str] = set()
        self._began = datetime.now(UTC)
        self._changed = asyncio.Event()

    async def until_gaps(self, number: int) -> None:
        """Until it was told of so many."""
        async with asyncio.timeout(DEADLINE):
            while len(self.gaps) < number:
                self._changed.clear()
                await self._changed.wait()

    async def assert_what_is_missing_was_told(self, writer: GatewayWriter) -> None:
        """After the writer has stopped, of what was published for its first user."""
        await asyncio.to_thread(writer.stop)
        assert self.came
        async with asyncio.timeout(DEADLINE):
            while self._missing(writer):
                self._changed.clear()
                await self._changed.wait()

    def _missing(self, writer: GatewayWriter) -> list[str]:
        return [
            id
            for id, (since, until) in writer.published.items()
            if since >= self._began and not self._accounts_for(id, since, until)
        ]

    def _accounts_for(self, id: str, since: datetime, until: datetime) -> bool:
        """It was published at some time between the two."""
        return id in self.came or any(
            gap.started_at - ON_THE_WAY <= until and since <= gap.ended_at + ON_THE_WAY
            for gap in self.gaps
        )

    def _told(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self._changed.set()

    async def _listen(self, user: uuid.UUID, gateway: RedisPubSubGateway) -> None:
        async with follow(user, gateway=gateway, live_only=True, on_gap=self._told) as following:
            self._began = datetime.now(UTC)
            self._changed.set()
            async for arrival in following:
                self.came.add(str(arrival.id))
                self._changed.set()


@asynccontextmanager
async def listening(user: uuid.UUID, gateway: RedisPubSubGateway) -> AsyncGenerator[Listener]:
    """One that has begun."""
    listener = Listener()
    async with gateway:
        task = asyncio.create_task(listener._listen(user, gateway))
        try:
            async with asyncio.timeout(DEADLINE):
                await listener._changed.wait()
            yield listener
        finally:
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()
