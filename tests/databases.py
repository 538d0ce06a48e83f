"""Databases that tests take turns with: emptying one is much faster than making one."""

import asyncpg
import pytest

from lykke_cli.infrastructure.postgresql import slices, storage
from tests.servers import PostgresServer, run_apart

Variant = tuple[bool, bool]
_SHAPE = """
    SELECT string_agg(attname || format_type(atttypid, -1) || attnotnull, ',' ORDER BY attnum)
        || (SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles
            WHERE has_table_privilege(rolname, 'audit_logs', 'SELECT') AND NOT rolsuper)
        || (SELECT string_agg(relname || relkind::text, ',' ORDER BY relname)
            FROM pg_class WHERE relnamespace = 'public'::regnamespace)
        || (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
            WHERE d.datname = current_database())
    FROM pg_attribute WHERE attrelid = to_regclass('audit_logs') AND attnum > 0
"""


def page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a table of any size is too large to be read at once."""
    monkeypatch.setattr(slices, "LARGE_ROWS", -1)
    monkeypatch.setattr(slices, "FIRST_PAGES", 1)
    monkeypatch.setattr(slices, "CHANGE", 1.0)
    for bound in ("LAST_PAGES", "MOST_PAGES", "BEFORE_END"):
        monkeypatch.setattr(storage, bound, 1)


class DatabasePool:
    """Gives out databases with an empty table; one that a test has altered is dropped."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._free: dict[Variant, list[str]] = {}
        self._shapes: dict[Variant, object] = {}

    def take(self, variant: Variant) -> str:
        free = self._free.setdefault(variant, [])
        if free:
            return free.pop()
        timestamptz, date_column = variant
        name = self._server.make_database(timestamptz=timestamptz, date_column=date_column)
        if variant not in self._shapes:
            self._shapes[variant] = run_apart(lambda: self._shape(name, empty=False))
        return name

    def give_back(self, name: str, variant: Variant) -> None:
        try:
            shape = run_apart(lambda: self._shape(name, empty=True))
        except (asyncpg.PostgresError, OSError):
            shape = None
        if shape is not None and shape == self._shapes[variant]:
            self._free[variant].append(name)
        else:
            self._server.drop_database(name)

    async def _shape(self, name: str, *, empty: bool) -> object:
        connection = await self._server.connect(name)
        try:
            if empty:  # a test that left a transaction open loses its database
                await connection.execute("SET lock_timeout = '1s'; DELETE FROM audit_logs")
            return await connection.fetchval(_SHAPE)
        finally:
            await connection.close()
