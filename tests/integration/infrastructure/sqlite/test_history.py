"""What only SQLite has: a file that is replaced, restored, or loses its last rows."""

import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, Selection
from lykke_cli.infrastructure.sqlite.history import SqliteHistory
from tests.builders import entity, insert

USER = uuid.uuid4()
SELECTION = Selection(user_ids={USER})


@pytest.fixture
async def history(sqlite_url: str) -> AsyncIterator[SqliteHistory]:
    async with SqliteHistory(sqlite_url) as history:
        yield history


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


async def begin(history: SqliteHistory) -> Cursor:
    return [chunk async for chunk in history.begin(SELECTION)][-1].cursor


async def changes(history: SqliteHistory, cursor: Cursor) -> list[HistoryChunk]:
    return [chunk async for chunk in history.changes(SELECTION, cursor)]


def ids(chunks: list[HistoryChunk]) -> set[str]:
    return {row.id for chunk in chunks for row in chunk.rows}


async def record(url: str, count: int) -> set[str]:
    entities = [entity(USER) for _ in range(count)]
    await insert(url, entities)
    return {str(one.id) for one in entities}


def copy(source: Path, target: Path) -> None:
    """As `sqlite3 .backup` and `.restore` do: into the file that is there."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


async def test_another_file_under_the_same_name_is_noticed(
    history: SqliteHistory, sqlite_url: str, path: Path
) -> None:
    """The reader has the old one open, and would read it for ever."""
    cursor = await begin(history)
    kept = await record(sqlite_url, 3)
    backup = path.with_suffix(".backup")
    copy(path, backup)
    printed = await record(sqlite_url, 10)
    chunks = await changes(history, cursor)
    assert ids(chunks) == kept | printed
    backup.replace(path)
    new = await record(sqlite_url, 20)
    chunks = await changes(history, chunks[-1].cursor)
    assert ids(chunks) - kept == new
    assert "the database file was replaced" in str(chunks[0].notice)
    assert (await changes(history, chunks[-1].cursor))[-1].notice is None


async def test_a_backup_copied_over_the_file_is_noticed(sqlite_url: str, path: Path) -> None:
    """Its sequence gives the same numbers to other rows."""
    backup = path.with_suffix(".backup")
    async with SqliteHistory(sqlite_url) as history:
        cursor = await begin(history)
        kept = await record(sqlite_url, 3)
        copy(path, backup)
        printed = await record(sqlite_url, 10)
        chunks = await changes(history, cursor)
        assert ids(chunks) == kept | printed
    copy(backup, path)
    new = await record(sqlite_url, 20)
    async with SqliteHistory(sqlite_url) as history:
        chunks = await changes(history, chunks[-1].cursor)
        assert ids(chunks) - kept == new
        assert "restored" in str(chunks[0].notice)
        assert not any(chunk.exact for chunk in chunks)


async def test_rows_that_were_deleted_say_nothing_against_a_place(
    history: SqliteHistory, sqlite_url: str, path: Path
) -> None:
    cursor = await begin(history)
    old = await record(sqlite_url, 5)
    chunks = await changes(history, cursor)
    assert ids(chunks) == old
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM audit_logs WHERE seq > 1")
    chunks = await changes(history, chunks[-1].cursor)
    assert (ids(chunks), chunks[-1].notice, chunks[-1].exact) == (set(), None, True)
    new = await record(sqlite_url, 2)
    chunks = await changes(history, chunks[-1].cursor)
    assert (ids(chunks), chunks[-1].notice) == (new, None)


async def test_a_time_that_is_a_number_is_unreadable_and_ends_nothing(
    history: SqliteHistory, sqlite_url: str, path: Path
) -> None:
    """Milliseconds, where the application forgot to make a time of them."""
    cursor = await begin(history)
    odd, good = sorted(await record(sqlite_url, 2))
    with closing(sqlite3.connect(path)) as file, file:
        change = "UPDATE audit_logs SET occurred_at = 1790000000000 WHERE replace(id, '-', '') = ?"
        file.execute(change, (odd.replace("-", ""),))
    chunks = await changes(history, cursor)
    assert ids(chunks) == {odd, good}
    assert ids(await changes(history, chunks[-1].cursor)) == set()
