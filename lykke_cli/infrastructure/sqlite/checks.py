"""What `lykke doctor` asks of a SQLite file: it is opened for reading only."""

import asyncio
import os
import sqlite3
from contextlib import AsyncExitStack
from typing import Any, Self

from lykke_cli.application.doctor import Check, Finding, failed, ok, warning
from lykke_cli.infrastructure.database.urls import display_url, sqlite_path
from lykke_cli.infrastructure.sqlite.connection import COLUMN_NAMES
from lykke_cli.infrastructure.sqlite.reader import SqliteReader

_REACHABLE, _TABLE = "database.reachable", "database.table"
_REQUIRED = ("id", "user_id", "activity_type", "occurred_at", "entity_id", "entity_type", "meta")
_INDEXES = (("user_id", "occurred_at"), ("occurred_at",), ("id",))
_IS_THERE = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'audit_logs'"
_SEQUENCE = "SELECT sql LIKE '%AUTOINCREMENT%' FROM sqlite_schema WHERE name = 'audit_logs'"
_INDEXED = """
    SELECT (SELECT group_concat(name) FROM pragma_index_info(list.name))
    FROM pragma_index_list('audit_logs') AS list WHERE NOT partial
"""


class SqliteChecks:
    """The checks on the file that `url` names; `timeout` is in seconds, for another's lock."""

    _reader: SqliteReader
    """Made by the first check; without it the others are not run."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._opened.aclose()

    def checks(self) -> list[Check]:
        """In the order in which they are to be made."""
        return [
            Check(_REACHABLE, self._reachable),
            Check("database.version", self._version, [_REACHABLE]),
            Check(_TABLE, self._table, [_REACHABLE]),
            Check("database.columns", self._columns, [_TABLE]),
            Check("database.indexes", self._indexes, [_TABLE]),
            Check("database.right.select", self._may_select, [_TABLE]),
            Check("database.right.insert", self._may_insert, [_TABLE]),
            Check("database.journal", self._journal, [_REACHABLE]),
        ]

    async def _reachable(self) -> Finding:
        reader = SqliteReader(self._url, busy_timeout=self._timeout)
        self._reader = await self._opened.enter_async_context(reader)
        await self._rows("SELECT count(*) FROM sqlite_schema")
        return ok(f"{display_url(self._url)} can be opened")

    async def _version(self) -> Finding:
        return ok(f"SQLite {sqlite3.sqlite_version}")

    async def _table(self) -> Finding:
        if await self._rows(_IS_THERE):
            return ok("audit_logs")
        return failed(
            "there is no table audit_logs",
            "Check that DATABASE_URL names the application's database and that its migrations "
            "have run.",
        )

    async def _columns(self) -> Finding:
        names = [name for (name,) in await self._rows(COLUMN_NAMES)]
        missing = [name for name in (*_REQUIRED, "seq") if name not in names]
        if missing:
            return failed(
                f"{', '.join(missing)} missing",
                "Check that the application's migrations have run; seq INTEGER PRIMARY KEY "
                "AUTOINCREMENT keeps the order of commits.",
            )
        if await self._rows(_SEQUENCE) != [(1,)]:
            return warning(
                "seq is not AUTOINCREMENT: a number that is used again hides an entry",
                "Declare it seq INTEGER PRIMARY KEY AUTOINCREMENT.",
            )
        return ok("all seven, and seq" + (" and date" if "date" in names else ""))

    async def _indexes(self) -> Finding:
        there = [tuple(columns.split(",")) for (columns,) in await self._rows(_INDEXED) if columns]
        missing = [
            wanted for wanted in _INDEXES if not any(i[: len(wanted)] == wanted for i in there)
        ]
        if missing:
            names = [f"({', '.join(columns)})" for columns in missing]
            return warning(
                f"no index on {' and '.join(names)}: history may be slow",
                "CREATE INDEX ... ON audit_logs " + ", ".join(names),
            )
        return ok("(user_id, occurred_at), (occurred_at), (id)")

    async def _may_select(self) -> Finding:
        await self._rows(
            "SELECT seq, id, user_id, activity_type, occurred_at, meta FROM audit_logs LIMIT 1"
        )
        return ok("SELECT")

    async def _may_insert(self) -> Finding:
        file = sqlite_path(self._url)
        for path in (file, file.resolve().parent):  # the journal is written beside it
            if not await asyncio.to_thread(os.access, path, os.W_OK):
                return warning(
                    f"{path} cannot be written: lykke record will not work; reading does",
                    "Give this user the right to write, if it should record.",
                )
        return ok("the file and its folder can be written")

    async def _journal(self) -> Finding:
        [(mode,)] = await self._rows("PRAGMA journal_mode")
        if mode == "wal":
            return ok("WAL: readers and the writer do not wait for each other")
        return warning(
            f"journal mode {mode}: the writer waits for readers, and they for it",
            "PRAGMA journal_mode = WAL, once.",
        )

    async def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return await self._reader.fetch(query)
