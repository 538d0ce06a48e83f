"""A history on the model database, for drivers: it answers as the real ones do, and tells of it."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Self

import msgspec

from lykke_cli import MemoryPubSubGateway
from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryRow,
    Selection,
    Wanted,
)
from lykke_cli.application.merge import Read, ReadKind, Verify
from lykke_cli.application.messages import Entry
from lykke_cli.infrastructure.postgresql.cursor import vouched
from tests.unit.application.model_database import ModelDatabase


class Asked(NamedTuple):
    what: str
    users: int | None
    """How many it was about; None: all."""


class ModelHistory:
    """One connection to `database`, which notes in `asked` what it is asked.

    `errors` are raised by the next answers, one each. While `is_open` is not set nothing is
    answered.
    """

    def __init__(self, database: ModelDatabase, asked: list[Asked] | None = None) -> None:
        self._database = database
        self.asked: list[Asked] = [] if asked is None else asked
        self.errors: list[Exception | None] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.under_way = 0
        self.is_exact = True
        """Whether cursors still fit."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert not self.under_way, "a read was not closed"

    def begin(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        last: int | None = None,
        wanted: Wanted | None = None,
    ) -> AsyncGenerator[HistoryChunk]:
        from_the_first = since is not None or last is not None
        return self._read("begin", selection, None, before_all=from_the_first)

    def changes(
        self,
        selection: Selection,
        cursor: Cursor,
        *,
        recent_only: bool = False,
        portion: bool = False,
    ) -> AsyncGenerator[HistoryChunk]:
        what = "recent" if recent_only else "portion" if portion else "changes"
        return self._read(what, selection, cursor)

    def vouched(self, cursor: Cursor, by: Cursor) -> Cursor:
        return vouched(cursor, by)

    async def verify(self, selection: Selection, cursor: Cursor, ids: Sequence[str]) -> set[str]:
        await self._turn("verify", selection)
        return self._database.look_up(Verify(list(ids), cursor))

    async def find(self, prefix: str, limit: int) -> Sequence[HistoryRow]:
        if self.errors:
            raise self.errors[0] or AssertionError
        return []

    async def _read(
        self, what: str, selection: Selection, cursor: Cursor | None, *, before_all: bool = False
    ) -> AsyncGenerator[HistoryChunk]:
        self.under_way += 1
        try:
            await self._turn(what, selection)
            kind = ReadKind.RECENT if what == "recent" else ReadKind.FULL
            read = Read(kind, cursor)
            chunks = self._database.read(
                read,
                _of(selection),
                begin_before_all=before_all,
                in_portions=what in ("recent", "portion"),
            )
            for chunk in chunks:
                await asyncio.sleep(0)
                yield msgspec.structs.replace(chunk, exact=chunk.exact and self.is_exact)
        finally:
            self.under_way -= 1

    async def _turn(self, what: str, selection: Selection) -> None:
        users = selection.user_ids
        self.asked.append(Asked(what, None if users is None else len(users)))
        await self.is_open.wait()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


class Application:
    """Writes entries into a model database, and broadcasts them."""

    def __init__(self, *, chunk_size: int = 2, slices: bool = False) -> None:
        self.database = ModelDatabase(chunk_size=chunk_size, slices=slices)
        self.gateway = MemoryPubSubGateway()

    def record(
        self, user_id: uuid.UUID, *, publish: bool = True, age: timedelta = timedelta(0)
    ) -> str:
        """One entry, committed and by default broadcast; returns its id."""
        self.database.begin()
        self.database.write(
            len(self.database.open) - 1, savepoint=False, age=age, user=str(user_id)
        )
        [entry] = self.database.end(len(self.database.open) - 1)
        if publish:
            self.broadcast(entry)
        return entry.id

    def broadcast(self, entry: Entry) -> None:
        self.gateway.publish(f"auditlog:{entry.user_id}", entry.to_json())

    def histories(self, number: int) -> list[ModelHistory]:
        """So many connections, which note what they are asked in one list."""
        first = ModelHistory(self.database)
        return [first, *(ModelHistory(self.database, first.asked) for _ in range(number - 1))]


def _of(selection: Selection) -> Callable[[Entry], bool]:
    if selection.user_ids is None:
        return lambda entry: True
    users = {str(user) for user in selection.user_ids}
    return lambda entry: entry.user_id in users
