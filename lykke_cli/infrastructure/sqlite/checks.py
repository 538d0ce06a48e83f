"""What `lykke doctor` asks of a SQLite file: it is opened for reading only."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from lykke_cli.application.doctor import Check, Finding, failed, ok, warning
from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.urls import display_url, sqlite_path

_REACHABLE, _TABLE = "database.reachable", "database.table"
_REQUIRED = ("id", "user_id", "activity_type", "occurred_at", "entity_id", "entity_type", "meta")
_INDEXES = (("user_id", "occurred_at"), ("occurred_at",), ("id",))
_SEQUENCE = "SELECT sql LIKE '%AUTOINCREMENT%' FROM sqlite_schema WHERE name = 'audit_logs'"
_INDEXED = """
    SELECT (SELECT group_concat(name) FROM pragma_index_info(list.name))
    FROM pragma_index_list('audit_logs') AS list WHERE NOT partial
"""


class SqliteChecks:
    """The checks on the file that `url` names; `timeout` is in seconds, for another's lock."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._path = Path()
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def checks(self) -> list[Check]:
        """In the order in which they are to be made."""
        return [
            Check(_REACHABLE, _apart(self._reachable)),
            Check("database.version", _apart(self._version), [_REACHABLE]),
            Check(_TABLE, _apart(self._table), [_REACHABLE]),
            Check("database.columns", _apart(self._columns), [_TABLE]),
            Check("database.indexes", _apart(self._indexes), [_TABLE]),
            Check("database.right.select", _apart(self._may_select), [_TABLE]),
            Check("database.right.insert", _apart(self._may_insert), [_TABLE]),
            Check("database.journal", _apart(self._journal), [_REACHABLE]),
        ]

    def _reachable(self) -> Finding:
        self._path = sqlite_path(self._url)
        display = display_url(self._url)
        if not self._path.is_file():
            raise ServerUnavailable(
                f"There is no database file {self._path}.",
                remedy="Set DATABASE_URL or give --database-url.",
            )
        with database_errors(display):
            self._connection = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode=ro",
                uri=True,
                timeout=self._timeout,
                check_same_thread=False,  # one check after the other, each in a thread
            )
        self._rows("SELECT count(*) FROM sqlite_schema")
        return ok(f"{display} can be opened")

    def _version(self) -> Finding:
        return ok(f"SQLite {sqlite3.sqlite_version}")

    def _table(self) -> Finding:
        if self._rows("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'audit_logs'"):
            return ok("audit_logs")
        return failed(
            "there is no table audit_logs",
            "Check that DATABASE_URL names the application's database and that its migrations "
            "have run.",
        )

    def _columns(self) -> Finding:
        names = [name for (name,) in self._rows("SELECT name FROM pragma_table_info('audit_logs')")]
        missing = [name for name in (*_REQUIRED, "seq") if name not in names]
        if missing:
            return failed(
                f"{', '.join(missing)} missing",
                "Check that the application's migrations have run; seq INTEGER PRIMARY KEY "
                "AUTOINCREMENT keeps the order of commits.",
            )
        if self._rows(_SEQUENCE) != [(1,)]:
            return warning(
                "seq is not AUTOINCREMENT: a number that is used again hides an entry",
                "Declare it seq INTEGER PRIMARY KEY AUTOINCREMENT.",
            )
        return ok("all seven, and seq" + (" and date" if "date" in names else ""))

    def _indexes(self) -> Finding:
        there = [tuple(columns.split(",")) for (columns,) in self._rows(_INDEXED) if columns]
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

    def _may_select(self) -> Finding:
        self._rows(
            "SELECT seq, id, user_id, activity_type, occurred_at, meta FROM audit_logs LIMIT 1"
        )
        return ok("SELECT")

    def _may_insert(self) -> Finding:
        for path in (self._path, self._path.resolve().parent):  # the journal is written beside it
            if not os.access(path, os.W_OK):
                return warning(
                    f"{path} cannot be written: lykke record will not work; reading does",
                    "Give this user the right to write, if it should record.",
                )
        return ok("the file and its folder can be written")

    def _journal(self) -> Finding:
        [(mode,)] = self._rows("PRAGMA journal_mode")
        if mode == "wal":
            return ok("WAL: readers and the writer do not wait for each other")
        return warning(
            f"journal mode {mode}: the writer waits for readers, and they for it",
            "PRAGMA journal_mode = WAL, once.",
        )

    def _rows(self, query: str) -> list[Any]:
        assert self._connection is not None
        with database_errors(display_url(self._url)):
            return self._connection.execute(query).fetchall()


def _apart(check: Callable[[], Finding]) -> Callable[[], Any]:
    """In a thread: a file may be slow, too."""

    async def run() -> Finding:
        return await asyncio.to_thread(check)

    return run
