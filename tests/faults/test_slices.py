"""Whatever happens to a large table between two statements of a reader, each row is found once."""

import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from lykke_cli.infrastructure.postgresql import changes
from tests.databases import page_by_page
from tests.tables import LONG_AGO, Reader, Table, empty_table

STEPS = 40
AGES = [timedelta(0), timedelta(0), timedelta(minutes=20), timedelta(hours=3), LONG_AGO]
BORDER = f"{datetime.now(UTC) - LONG_AGO / 2:%Y-%m-%d}"
PARTITIONED = """
    DROP TABLE audit_logs;
    CREATE TABLE audit_logs (
        id uuid NOT NULL, user_id uuid NOT NULL, activity_type varchar NOT NULL,
        occurred_at timestamp NOT NULL, entity_id uuid, entity_type varchar, meta jsonb
    ) PARTITION BY {how};
    CREATE INDEX ON audit_logs (occurred_at);
"""
BY_TIME = {"old": f"FROM (MINVALUE) TO ('{BORDER}')", "new": f"FROM ('{BORDER}') TO (MAXVALUE)"}
BY_HASH = {"even": "WITH (MODULUS 2, REMAINDER 0)", "odd": "WITH (MODULUS 2, REMAINDER 1)"}
Happening = Callable[[], Awaitable[None]]
IN_THE_WAY = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.CheckViolationError,  # there is no partition for the row
)


class World:
    """All that others do to the table; it knows what was committed."""

    def __init__(self, table: Table, kind: str, chance: random.Random) -> None:
        self._table = table
        self._kind = kind
        self._chance = chance
        self._bounds = {"range": BY_TIME, "hash": BY_HASH}.get(kind, {})
        self._parts = list(self._bounds) or (["child"] if kind == "inheritance" else [])
        self._away = list[str]()
        self._open = dict[asyncpg.Connection, list[str]]()
        self._prepared = dict[str, list[str]]()
        self.committed = set[str]()
        self.updated = Counter[str]()
        self._happenings: list[Happening] = [
            *[self.write] * 6,
            *[self._begin, self._end, self._end, self._finish_prepared] * 2,
            *[self._empty_pages, self._update, self._rewrite],
            *[self._take_away, self._bring_back, self._bring_back] * 2,
        ]

    async def make(self) -> None:
        execute = self._table.execute
        if self._bounds:
            how = "RANGE (occurred_at)" if self._kind == "range" else "HASH (id)"
            await execute(PARTITIONED.format(how=how))
        for part in self._parts:
            of = f"PARTITION OF audit_logs FOR VALUES {self._bounds[part]}" if self._bounds else ""
            await execute(f"CREATE TABLE {part} {of or '() INHERITS (audit_logs)'}")
        await execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        await execute("SET lock_timeout = '100ms'")

    async def happens(self) -> None:
        """Something, unless somebody is in its way."""
        with suppress(*IN_THE_WAY):
            await self._chance.choice(self._happenings)()

    async def write(self) -> None:
        self.committed.add(await self._write())

    async def _write(self, by: asyncpg.Connection | None = None) -> str:
        into = "audit_logs"
        if self._kind == "inheritance":  # it is the writer who chooses
            into = self._chance.choice([into, *self._parts])
        return await self._table.write(age=self._chance.choice(AGES), by=by, into=into)

    async def _begin(self) -> None:
        """A transaction, and another one within it."""
        if len(self._open) < 3:
            connection = await self._table.begin()
            self._open[connection] = ids = list[str]()
            for _ in range(2):
                await connection.execute("SAVEPOINT a")
                try:
                    ids.append(await self._write(connection))
                except IN_THE_WAY:
                    await connection.execute("ROLLBACK TO a")

    async def _end(self) -> None:
        if self._open:
            connection = self._chance.choice(list(self._open))
            ids, how = self._open.pop(connection), self._chance.choice("ccpr")
            name = secrets.token_hex(8)
            ends = {"c": "COMMIT", "p": f"PREPARE TRANSACTION '{name}'", "r": "ROLLBACK"}
            await connection.execute(ends[how])
            await connection.close()
            if how == "c":
                self.committed.update(ids)
            elif how == "p":
                self._prepared[name] = ids

    async def _finish_prepared(self) -> None:
        if self._prepared:
            name, ids = self._prepared.popitem()
            await self._table.execute(f"COMMIT PREPARED '{name}'")
            self.committed.update(ids)

    async def _empty_pages(self) -> None:
        """What comes next is written there."""
        part, page = self._part(), self._chance.randrange(8)
        pages = f"ctid >= '({page},0)' AND ctid < '({page + 2},0)'"
        await self._table.execute(f"DELETE FROM ONLY {part} WHERE {pages}")  # noqa: S608
        await self._table.execute(f"VACUUM {part}")

    async def _update(self) -> None:
        """Which may move a row to another partition."""
        moment = (datetime.now(UTC) - self._chance.choice(AGES)).replace(tzinfo=None)
        found = await self._table.fetch(
            "UPDATE audit_logs SET occurred_at = $1 WHERE id IN "
            "(SELECT id FROM audit_logs ORDER BY md5(id::text || $2) LIMIT 2) RETURNING id::text",
            moment,
            str(self._chance.random()),
        )
        self.updated.update(id for (id,) in found)

    async def _rewrite(self) -> None:
        await self._table.execute(f"VACUUM FULL {self._part()}")

    async def _take_away(self) -> None:
        if left := [part for part in self._parts if part not in self._away]:
            part = self._chance.choice(left)
            detach = f"ALTER TABLE audit_logs DETACH PARTITION {part}"
            inherit = f"ALTER TABLE {part} NO INHERIT audit_logs"
            await self._table.execute(detach if self._bounds else inherit)
            self._away.append(part)

    async def _bring_back(self) -> None:
        if self._away:
            part = self._away[-1]
            attach = f"ALTER TABLE audit_logs ATTACH PARTITION {part} FOR VALUES "
            inherit = f"ALTER TABLE {part} INHERIT audit_logs"
            await self._table.execute(attach + self._bounds[part] if self._bounds else inherit)
            self._away.pop()

    def _part(self) -> str:
        return self._chance.choice(
            [part for part in self._parts if part not in self._away] or ["audit_logs"]
        )

    async def end(self) -> None:
        """Whatever is open is committed, and whatever is away is there again."""
        await self._table.execute("SET lock_timeout = 0")
        for connection, ids in self._open.items():
            await connection.execute("COMMIT")
            await connection.close()
            self.committed.update(ids)
        while self._prepared:
            await self._finish_prepared()
        while self._away:
            await self._bring_back()


def interrupted(monkeypatch: pytest.MonkeyPatch, world: World, chance: random.Random) -> None:
    """Between any two statements of the reader something may happen from now on."""
    is_happening = False
    for name in ("fetch", "fetchrow", "fetchval", "prepare"):
        asked = getattr(asyncpg.Connection, name)

        async def ask(self: Any, *args: Any, _asked: Any = asked, **options: Any) -> Any:
            nonlocal is_happening
            if not is_happening and chance.random() < 0.1:
                is_happening = True
                try:
                    await world.happens()
                finally:
                    is_happening = False
            return await _asked(self, *args, **options)

        monkeypatch.setattr(asyncpg.Connection, name, ask)


@pytest.fixture
async def table(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Table]:
    page_by_page(monkeypatch)
    async with empty_table(postgres_url) as table:
        yield table


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [5, 16])
@pytest.mark.parametrize("kind", ["plain", "range", "hash", "inheritance"])
async def test_each_row_is_found_once(
    table: Table,
    postgres_reader_url: str,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    seed: int,
) -> None:
    chance = random.Random(f"{kind} {seed}")
    monkeypatch.setattr(changes, "LONGEST", chance.choice([0.0, 5.0]))
    world, reader = World(table, kind, chance), Reader(postgres_reader_url)
    await world.make()
    for _ in range(12):
        await world.write()
    await reader.begin()
    before, world.committed = world.committed, set()
    with monkeypatch.context() as patch:
        interrupted(patch, world, chance)
        for _ in range(STEPS):
            await chance.choice([world.happens, world.happens, reader.near, reader.portion])()
    await world.end()
    await reader.everything()  # one that was under way
    await reader.everything()
    there = {id for (id,) in await table.fetch("SELECT id::text FROM audit_logs")}
    assert there - before - world.committed == set()
    assert there - before - reader.found.keys() == set()
    assert {id: n for id, n in reader.found.items() if n > 1 + world.updated[id]} == {}
    assert before & reader.found.keys() <= world.updated.keys()
