"""An entry is found by the beginning of its id on every kind of database, with SELECT alone."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from lykke_cli.application.errors import BadInput
from lykke_cli.application.gateways.history_protocol import HistoryProtocol
from lykke_cli.application.messages import Entry, UnreadableEntry
from lykke_cli.application.show import (
    MOST_AROUND,
    MOST_NAMED,
    SeveralFound,
    find_entry,
    happened_around,
)
from lykke_cli.bootstrap import make_history
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.configuration.settings import Settings
from tests.builders import entity, insert
from tests.contract.conftest import Urls

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
TASK = UUID(int=7)
IDS = [
    "00000000-0000-4000-8000-000000000000",
    "4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e11",
    "4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e12",
    "4a1d6cc6-3b1c-4f7e-9d55-0c0a7d7f1e11",
    "ffffffff-ffff-4fff-bfff-ffffffffffff",
]


def history(urls: Urls) -> HistoryProtocol:
    return make_history(Settings(database_url=urls.reader))


async def execute(url: str, sql: str) -> None:
    if url.startswith("sqlite"):

        def run() -> None:
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
                connection.execute(sql)
                connection.commit()

        await asyncio.to_thread(run)
        return
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.mark.parametrize("as_stored", ["", "with dashes on SQLite"])
async def test_a_prefix_finds_what_begins_with_it(urls: Urls, as_stored: str) -> None:
    await insert(urls.owner, [entity(id=UUID(id), meta={"of": id}) for id in IDS])
    if as_stored and urls.owner.startswith("sqlite"):
        dashed = " || '-' || ".join(f"substr(id, {a}, 4)" for a in (9, 13, 17))
        dashed = f"substr(id, 1, 8) || '-' || {dashed} || '-' || substr(id, 21)"
        await execute(urls.owner, f"UPDATE audit_logs SET id = {dashed}")  # noqa: S608
    async with history(urls) as read:
        for prefix, expected in {
            "0": IDS[:1],
            "4a1d6cc": IDS[1:4],
            "4a1d6cc5": IDS[1:3],
            "4a1d6cc53b": IDS[1:3],
            "4a1d6cc53b1c4f7e9d550c0a7d7f1e1": IDS[1:3],
            IDS[2].replace("-", ""): IDS[2:3],
            "f": IDS[4:],
            "b": [],
        }.items():
            found = await read.find(prefix, 9)
            assert [row.id for row in found] == expected, prefix
            assert all(
                isinstance(row, Entry) and row.id.encode() in bytes(row.meta) for row in found
            )
        assert [row.id for row in await read.find("4", 2)] == IDS[1:3]


async def test_one_is_found_several_are_named_and_none_is_bad_input(urls: Urls) -> None:
    await insert(urls.owner, [entity(id=UUID(int=n)) for n in range(MOST_NAMED + 5)])
    async with history(urls) as read:
        assert (await find_entry(read, UUID(int=3).hex)).id == str(UUID(int=3))
        with pytest.raises(SeveralFound, match="and more") as several:
            await find_entry(read, "000")
        assert [row.id for row in several.value.entries] == [
            str(UUID(int=n)) for n in range(MOST_NAMED)
        ]
        with pytest.raises(BadInput, match="No entry"):
            await find_entry(read, "1")


async def test_an_entry_outside_of_the_calendar_is_found(urls: Urls) -> None:
    await insert(urls.owner, [entity(id=UUID(IDS[1]))])
    await execute(urls.owner, "UPDATE audit_logs SET occurred_at = 'infinity'")
    async with history(urls) as read:
        row = await find_entry(read, "4a1d")
    assert isinstance(row, UnreadableEntry)
    assert row.id == IDS[1] and b"infinity" in row.raw


async def test_what_else_happened_is_of_the_same_entity_and_near(urls: Urls) -> None:
    def at(minutes: float, entity_id: UUID | None = TASK) -> AuditLogEntity:
        return entity(None, "A", NOON + timedelta(minutes=minutes), entity_id=entity_id)

    before, asked_for, after = [at(-30), at(-1)], at(0), [at(0.5), at(29)]
    others = [at(-31), at(30), at(1, UUID(int=8)), at(1, None)]
    await insert(urls.owner, [*after, asked_for, *others, *before])
    async with history(urls) as read:
        entry = await find_entry(read, asked_for.id.hex)
        assert isinstance(entry, Entry)
        found = await happened_around(read, entry)
    assert [row.id for row in found] == [str(other.id) for other in [*before, *after]]


async def test_of_many_the_nearest_are_told(urls: Urls) -> None:
    moments = [NOON + timedelta(seconds=n) for n in range(-20, 21)]
    await insert(
        urls.owner,
        [entity(None, "A", m, id=UUID(int=n), entity_id=TASK) for n, m in enumerate(moments)],
    )
    async with history(urls) as read:
        entry = await find_entry(read, UUID(int=20).hex)
        assert isinstance(entry, Entry)
        found = await happened_around(read, entry)
    around = [*range(20 - MOST_AROUND, 20), *range(21, 21 + MOST_AROUND)]
    assert [UUID(row.id).int for row in found] == around
