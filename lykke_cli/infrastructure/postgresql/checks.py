"""What `lykke doctor` asks of PostgreSQL: nothing but the catalogues, and one row of the table."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Self

from lykke_cli.application.doctor import (
    Check,
    ClockReading,
    Finding,
    failed,
    ok,
    skipped,
    warning,
)
from lykke_cli.application.errors import LoginRefused, ServerUnavailable
from lykke_cli.infrastructure.configuration.tls import is_loopback
from lykke_cli.infrastructure.database import hosts
from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.urls import (
    asyncpg_dsn,
    display_url,
    server_hosts,
    verifies_server,
)
from lykke_cli.infrastructure.postgresql import engines
from lykke_cli.infrastructure.postgresql.connection import tls_version

OLDEST_SERVER = 130000  # pg_current_snapshot came with PostgreSQL 13
LONG_OPEN = 3600.0  # seconds
REACHABLE, LOGIN = "database.reachable", "database.login"
VERSION, TABLE = "database.version", "database.table"
_MIGRATIONS = "Check that the application's migrations have run."
_COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("uuid",),
    "user_id": ("uuid",),
    "activity_type": ("varchar", "text", "bpchar"),
    "occurred_at": ("timestamp", "timestamptz"),
    "entity_id": ("uuid",),
    "entity_type": ("varchar", "text", "bpchar"),
    "meta": ("jsonb", "json"),
}
_INDEXES = (("user_id", "occurred_at"), ("occurred_at",), ("id",))

_ATTRIBUTES = """
    SELECT attname::text, typname::text, attnotnull AND NOT atthasdef AND attidentity = ''
    FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = to_regclass('audit_logs') AND attnum > 0 AND NOT attisdropped
"""
_INDEXED = """
    SELECT ARRAY(
        SELECT attname::text FROM unnest(indkey::int2[]) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute ON attrelid = indrelid AND attnum = number ORDER BY place
    )
    FROM pg_index
    WHERE indrelid = to_regclass('audit_logs') AND indisvalid AND indpred IS NULL
"""
_READ_ONE = """
    SELECT xmin, id, user_id, activity_type, occurred_at, entity_id, entity_type, meta
    FROM audit_logs LIMIT 1
"""
_RIGHTS = """
    SELECT coalesce(bool_and(has_column_privilege('audit_logs', attnum, 'INSERT')), false),
        row_security_active('audit_logs')
    FROM pg_attribute
    WHERE attrelid = to_regclass('audit_logs') AND attnum > 0
        AND attname = ANY($1::text[])
"""
_VERSION = f"""
    SELECT current_setting('server_version_num')::int, current_setting('server_version'),
        {engines.NAME}
"""
_REPLICA = """
    SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'
"""
_BEHIND = "SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8"
# What another role does is hidden without pg_read_all_stats: its xact_start is null.
_OPEN = """
    SELECT 'session ' || pid || ' of ' || coalesce(usename, '?')
            || ' (' || coalesce(nullif(application_name, ''), 'no name') || ')',
        extract(epoch FROM clock_timestamp() - xact_start)::float8
    FROM pg_stat_activity
    WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    UNION ALL
    SELECT 'prepared transaction ' || gid, extract(epoch FROM clock_timestamp() - prepared)::float8
    FROM pg_prepared_xacts WHERE database = current_database()
    ORDER BY 2 DESC LIMIT 1
"""
_HIDDEN = """
    SELECT count(*) FROM pg_stat_activity, pg_current_snapshot() AS now
    WHERE backend_type IS NULL AND usename IS NOT NULL
        AND pg_snapshot_xmin(now) < pg_snapshot_xmax(now)
"""


class PostgresChecks:
    """The checks on the PostgreSQL at `url`; an async context manager that closes its connection.

    `timeout` is in seconds, for connecting and for each statement.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._display = ""
        self._connection: Any = None
        self._refused: LoginRefused | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def checks(self) -> list[Check]:
        """In the order in which they are to be made."""
        return [
            Check(REACHABLE, self._reachable),
            Check(LOGIN, self._login, [REACHABLE]),
            Check("database.tls", self._tls, [LOGIN]),
            Check(VERSION, self._version, [LOGIN]),
            Check("database.primary", self._primary, [VERSION]),
            Check(TABLE, self._table, [VERSION]),
            Check("database.columns", self._columns, [TABLE]),
            Check("database.indexes", self._indexes, [TABLE]),
            Check("database.right.select", self._may_select, [TABLE]),
            Check("database.right.insert", self._may_insert, [TABLE]),
            Check("database.open-transactions", self._open_transactions, [VERSION]),
        ]

    async def read_clock(self) -> ClockReading | None:
        if self._connection is None:
            return None
        query = "SELECT extract(epoch FROM clock_timestamp())::float8"
        started, before = datetime.now(UTC).timestamp(), time.perf_counter()
        there = await self._value(query)
        took = time.perf_counter() - before
        return ClockReading("PostgreSQL", there - started - took / 2, took / 2)

    async def _reachable(self) -> Finding:
        self._display = display_url(self._url)
        before = time.perf_counter()
        try:
            with database_errors(self._display):
                self._connection = await hosts.connect(
                    asyncpg_dsn(self._url),
                    timeout=self._timeout,
                    command_timeout=self._timeout,
                    statement_cache_size=0,
                )
        except LoginRefused as error:
            self._refused = error
        took = (time.perf_counter() - before) * 1000
        return ok(f"{self._display} answers; connected in {took:.1f} ms")

    async def _login(self) -> Finding:
        if self._refused is not None:
            raise self._refused
        return ok(f"as role {await self._value('SELECT current_user::text')}")

    async def _tls(self) -> Finding:
        tls = await tls_version(self._connection)
        if tls is not None:
            checked = "checked"
            if not verifies_server(self._url):
                checked = "not checked (sslmode=verify-full does)"
            return ok(f"in use, {tls}; the server's certificate is {checked}")
        remote = [host for host in server_hosts(self._url) if not is_loopback(host)]
        if not remote:
            return ok("not in use, on this machine")
        return warning(
            f"not in use: what is read from {', '.join(remote)} travels in clear text",
            "Turn TLS on at the server, and add ?sslmode=verify-full to the URL.",
        )

    async def _version(self) -> Finding:
        async with self._transaction():
            await engines.refuse_unfit(self._connection, self._display)
        [(number, text, engine)] = await self._rows(_VERSION)
        if number < OLDEST_SERVER:
            return failed(
                f"PostgreSQL {text}: too old to know the order of commits",
                "PostgreSQL 13 or newer is needed.",
            )
        return ok(f"PostgreSQL {text}" + ("" if engine == "PostgreSQL" else f", by {engine}"))

    async def _primary(self) -> Finding:
        [(replica, read_only)] = await self._rows(_REPLICA)
        if replica:
            behind: float | None = None
            with suppress(ServerUnavailable):  # Aurora does not tell
                behind = await self._value(_BEHIND)
            late = "" if behind is None else f", last replayed {behind:.0f} s ago"
            return warning(
                f"a replica{late}: entries appear here after they were broadcast, and lykke record "
                "will not work",
                "Set DATABASE_URL to the primary server to record, or to see entries at once.",
            )
        if read_only:
            return warning(
                "a primary server, but transactions are read-only: lykke record will not work",
                "Fit for reading. To record: ALTER ROLE <role> SET default_transaction_read_only "
                "= off",
            )
        return ok("the primary server")

    async def _table(self) -> Finding:
        [row] = await self._rows(
            "SELECT to_regclass('audit_logs')::text, (SELECT relkind::text FROM pg_class "
            "WHERE oid = to_regclass('audit_logs')), current_schemas(false)::text"
        )
        name, kind, path = row
        if name is None:
            return failed(
                f"there is no table audit_logs in the schemas {path} that this role searches",
                "Check that DATABASE_URL names the application's database, that the migrations "
                "have run, and the role: GRANT USAGE ON SCHEMA, ALTER ROLE ... SET search_path.",
            )
        if kind not in ("r", "p"):
            return failed(
                f"{name} is not a table but a view or foreign table, which has no commit order",
                "Let the search_path of this role lead to the table itself.",
            )
        return ok(f"{name}" + (", partitioned" if kind == "p" else ""))

    async def _columns(self) -> Finding:
        found = {name: (kind, must) for name, kind, must in await self._rows(_ATTRIBUTES)}
        wrong = [
            f"{name} is missing"
            if name not in found
            else f"{name} is {found[name][0]}, not {' or '.join(kinds)}"
            for name, kinds in _COLUMNS.items()
            if name not in found or found[name][0] not in kinds
        ]
        if wrong:
            return failed("; ".join(wrong), _MIGRATIONS)
        date = found.get("date", ("date", False))
        unknown = [n for n, (_, must) in found.items() if must and n not in (*_COLUMNS, "date")]
        if date[0] != "date":
            unknown.append("date")
        if unknown:
            return warning(
                f"lykke record cannot fill {', '.join(unknown)}",
                "Give what is NOT NULL a default; reading works.",
            )
        dated = ", and date" if "date" in found else ""
        return ok(f"all seven{dated}; occurred_at is {found['occurred_at'][0]}")

    async def _indexes(self) -> Finding:
        there = [tuple(columns) for (columns,) in await self._rows(_INDEXED)]
        missing = [
            wanted for wanted in _INDEXES if not any(i[: len(wanted)] == wanted for i in there)
        ]
        if missing:
            names = [f"({', '.join(columns)})" for columns in missing]
            return warning(
                f"no index on {' and '.join(names)}: history may be slow",
                "; ".join(f"CREATE INDEX CONCURRENTLY ON audit_logs {name}" for name in names),
            )
        return ok("(user_id, occurred_at), (occurred_at), (id)")

    async def _may_select(self) -> Finding:
        try:
            await self._rows(_READ_ONE)
        except LoginRefused as error:
            return failed(
                f"this role may not read audit_logs: {error.problem}",
                "GRANT SELECT ON audit_logs TO <role>",
            )
        [(_, restricted)] = await self._rows(_RIGHTS, list(_COLUMNS))
        if restricted:
            return warning(
                "row security is on: this role may not see every entry",
                "CREATE POLICY ... FOR SELECT TO <role> USING (true), if it should.",
            )
        return ok("SELECT")

    async def _may_insert(self) -> Finding:
        columns = [name for name, *_ in await self._rows(_ATTRIBUTES)]
        filled = [name for name in columns if name in (*_COLUMNS, "date")]
        [(may, _)] = await self._rows(_RIGHTS, filled)
        if may:
            return ok("INSERT")
        return warning(
            "this role may not INSERT: lykke record will not work; reading does",
            "GRANT INSERT ON audit_logs TO <role>, if it should record.",
        )

    async def _open_transactions(self) -> Finding:
        rows = await self._rows(_OPEN)
        hidden = await self._value(_HIDDEN)
        who, age = rows[0] if rows else ("", 0.0)
        if age > LONG_OPEN:
            return warning(
                f"{who} has been open for {age / 3600:.1f} hours: every read looks again at all "
                "that was written since",
                "End it: SELECT pg_terminate_backend(pid), or ROLLBACK PREPARED.",
            )
        if hidden:
            return skipped(
                f"{hidden} sessions of other roles hide when they began",
                "GRANT pg_read_all_stats TO <role> shows them.",
            )
        return ok(f"the oldest began {age:.0f} s ago" if rows else "none")

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[None]:
        with database_errors(self._display):
            # As everything that reads; nothing outlives the transaction, as with PgBouncer's.
            await self._connection.execute(
                "BEGIN READ ONLY; SET LOCAL statement_timeout = "
                f"{max(1, int(self._timeout * 1000))}"
            )
            try:
                yield
            finally:
                await self._connection.execute("ROLLBACK")

    async def _rows(self, query: str, *arguments: object) -> Sequence[Any]:
        async with self._transaction():
            rows: Sequence[Any] = await self._connection.fetch(query, *arguments)
            return rows

    async def _value(self, query: str) -> Any:
        [(value,)] = await self._rows(query)
        return value
