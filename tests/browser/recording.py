"""An application that records what its users do, through the unit of work."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from lykke_cli.bootstrap import make_gateway, make_unit_of_work
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.unit_of_work import SqlAlchemyUnitOfWork
from tests.builders import entity, insert


class Recorder:
    """Records entries of one user."""

    def __init__(self, uow: SqlAlchemyUnitOfWork, url: str) -> None:
        self._uow, self._url = uow, url
        self.user = uuid4()
        self.ids: list[str] = []
        """Of all entries, in order."""

    async def insert(self, count: int, begin: datetime, **fields: Any) -> list[str]:
        """So many entries without a broadcast, a second apart from `begin` on."""
        moments = [begin + timedelta(seconds=number) for number in range(count)]
        made = [entity(self.user, occurred_at=moment, **fields) for moment in moments]
        await insert(self._url, made)
        self.ids += [str(each.id) for each in made]
        return [str(each.id) for each in made]

    async def record(self, count: int = 1, **fields: Any) -> list[str]:
        """So many entries; returns their ids. A broadcast may fail, which changes nothing else."""
        recorded = [entity(self.user, **fields) for _ in range(count)]
        for each in recorded:
            async with self._uow as uow:
                await uow.create(each)
        ids = [str(each.id) for each in recorded]
        self.ids += ids
        return ids


@asynccontextmanager
async def recording(env: Mapping[str, str]) -> AsyncGenerator[Recorder]:
    """Where `env` says the servers are."""
    settings = Settings(env["REDIS_URL"], env["DATABASE_URL"])
    gateway = make_gateway(settings)
    uow = make_unit_of_work(settings, gateway)
    try:
        yield Recorder(uow, env["DATABASE_URL"])
    finally:
        await uow.close()
        await gateway.close()
