"""SQLAlchemy engines from database URLs, and engines fit to be shown."""

import sqlite3
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from lykke_cli.infrastructure.database import hosts
from lykke_cli.infrastructure.database.urls import (
    BUSY_TIMEOUT,
    engine_arguments,
    is_sqlite,
    sqlite_path,
)


def make_engine(url: str, *, statement_cache: bool = True) -> AsyncEngine:
    """An engine for `url`; it connects on first use, and is to be disposed of after the last.

    Without `statement_cache`, or with prepared_statement_cache_size=0 in the URL, it works through
    PgBouncer in transaction mode: nothing prepared outlives its transaction. Raises UsageMistake.
    """
    if is_sqlite(url):
        return _sqlite_engine(url)
    target, arguments = engine_arguments(url)
    arguments["async_creator_fn"] = hosts.connect
    if statement_cache and arguments.get("prepared_statement_cache_size") != 0:
        return create_async_engine(target, connect_args=arguments, pool_pre_ping=True)
    arguments |= {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        # Numbered names, the default, meet those of other clients on the same server connection.
        "prepared_statement_name_func": lambda: f"lykke_{uuid4().hex}",
    }
    return create_async_engine(target, connect_args=arguments, poolclass=NullPool)


def _sqlite_engine(url: str) -> AsyncEngine:
    # Not as text: SQLAlchemy 2.1 reads what is percent-encoded in one otherwise than 2.0.
    target = URL.create(
        "sqlite+aiosqlite",
        database="file:" + quote(bytes(sqlite_path(url))),
        query={"mode": "rw", "uri": "true"},  # a wrong path is an error, never a new database
    )
    engine = create_async_engine(target, connect_args={"timeout": BUSY_TIMEOUT})
    event.listen(engine.sync_engine, "do_connect", _try_to_open)
    return engine


def _try_to_open(_: object, __: object, arguments: list[Any], ___: object) -> None:
    """Find a missing file before aiosqlite does.

    Its thread would go on after the failure, and print a traceback when the event loop has ended.
    """
    sqlite3.connect(arguments[0], uri=True).close()


def display_engine(engine: AsyncEngine) -> str:
    """Where the engine connects to, without password and options."""
    url = engine.url
    place = URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database)
    return place.render_as_string()
