"""Engines that are PostgreSQL by their protocol: PostgreSQL itself, that answers as they do."""

import asyncio
import json
import uuid
from collections.abc import Callable

import pytest

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.builders import entity, insert
from tests.cli_process import run_lykke
from tests.servers import READER_PASSWORD, PostgresServer

USER = uuid.uuid4()
PLAIN = "PostgreSQL 15.8 on x86_64-pc-linux-gnu, compiled by gcc 12.2.0, 64-bit"
VERSIONS = {
    "CockroachDB": "CockroachDB CCL v25.4.14 (x86_64-pc-linux-gnu, built 2026/01/20, go1.23.7)",
    "YugabyteDB": "PostgreSQL 15.12-YB-2025.2.6.0-b0 on x86_64-pc-linux-gnu, compiled by clang "
    "version 19.1.0, 64-bit",
    "openGauss": "openGauss 5.0.0 build a07d57c3",
    "Citus": PLAIN,
}
CITUS = """
    SET allow_system_table_mods = on;
    CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass);
    GRANT SELECT ON pg_catalog.pg_dist_partition TO public;
    RESET allow_system_table_mods;
"""
AURORA = """
    CREATE FUNCTION disguise.aurora_version() RETURNS text RETURN '15.8.1';
    CREATE FUNCTION disguise.refuse() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        RAISE 'Function is currently not supported for Aurora' USING ERRCODE = '0A000';
    END $$;
    CREATE FUNCTION disguise.pg_current_wal_lsn() RETURNS pg_lsn RETURN disguise.refuse()::pg_lsn;
    CREATE FUNCTION disguise.pg_current_wal_insert_lsn() RETURNS pg_lsn
        RETURN disguise.refuse()::pg_lsn;
    CREATE FUNCTION disguise.pg_walfile_name(pg_lsn) RETURNS text RETURN disguise.refuse();
    CREATE FUNCTION disguise.pg_control_checkpoint() RETURNS TABLE (timeline_id int)
        LANGUAGE plpgsql AS $$ BEGIN
            RAISE 'wal_level must be set to ''logical''' USING ERRCODE = '55000';
        END $$;
"""
READING = [
    ("tail", USER),
    ("backfill", USER),
    ("expect", USER, "--timeout", "1s", "--", "true"),
    ("stats", USER),
    ("users",),
]


@pytest.fixture
def disguise(
    postgres_server: PostgresServer, postgres_database: str, redis_url: str
) -> Callable[..., dict[str, str]]:
    """Makes the database answer so, and returns an environment that names it."""

    def make(version: str, more: str = "") -> dict[str, str]:
        postgres_server.execute(
            f"""
            CREATE SCHEMA disguise;
            GRANT USAGE ON SCHEMA disguise TO public;
            CREATE FUNCTION disguise.version() RETURNS text RETURN '{version}';
            {more.replace(":database", postgres_database)}
            ALTER DATABASE "{postgres_database}" SET search_path = disguise, pg_catalog, public;
            """,
            postgres_database,
        )
        url = postgres_server.url(postgres_database, "reader", READER_PASSWORD)
        return {"DATABASE_URL": url, "REDIS_URL": redis_url}

    return make


@pytest.mark.parametrize("engine", VERSIONS)
def test_an_engine_without_an_order_of_commits_is_refused(
    disguise: Callable[..., dict[str, str]], engine: str
) -> None:
    """By whatever reads, in one line that says why and what to use."""
    managed = "INSERT INTO pg_catalog.pg_dist_partition VALUES ('audit_logs');"
    env = disguise(VERSIONS[engine], CITUS + managed if engine == "Citus" else "")
    for arguments in READING:
        result = run_lykke(*arguments, env=env)
        assert (result.status, result.stdout) == (ExitCode.UNAVAILABLE, b""), arguments
        [line] = [line for line in result.stderr.splitlines() if engine in line]
        assert "cannot be told" in line
        assert "in place of lykke" in line or "PostgreSQL 13" in line
    report = json.loads(run_lykke("doctor", "-o", "json", env=env).stdout)
    [version] = [check for check in report["checks"] if check["id"] == "database.version"]
    assert version["status"] == "failed" and engine in version["detail"]
    assert version["remedy"] in line


async def read_all(url: str) -> tuple[set[str], str | None]:
    """What is read from before the first entry on, and what is said besides."""
    async with PostgresHistory(url) as history:
        first = [chunk async for chunk in history.begin(Selection(user_ids={USER}))][-1]
        new = entity(USER)
        await insert(url.replace(f"reader:{READER_PASSWORD}", ADMIN), [new])
        chunks = [c async for c in history.changes(Selection(user_ids={USER}), first.cursor)]
        return {row.id for chunk in chunks for row in chunk.rows} ^ {str(new.id)}, first.notice


ADMIN = "postgres:p%25s%40ss%20word"


def test_aurora_is_read_and_it_is_told_what_it_does_not_answer(
    disguise: Callable[..., dict[str, str]],
) -> None:
    env = disguise(PLAIN, AURORA)
    wrong, notice = asyncio.run(read_all(env["DATABASE_URL"]))
    assert not wrong
    assert "Amazon Aurora does not answer" in str(notice) and "GRANT" not in str(notice)
    report = json.loads(run_lykke("doctor", "-o", "json", env=env).stdout)
    details = {check["id"]: check["detail"] for check in report["checks"]}
    assert details["database.version"].endswith(", by Amazon Aurora")


ALLOYDB = """
    CREATE VIEW disguise.pg_settings AS SELECT 'alloydb.iam_authentication' AS name;
    GRANT SELECT ON disguise.pg_settings TO public;
"""
NEON = "ALTER ROLE reader IN DATABASE :database SET neon.timeline_id = 'de20';"


@pytest.mark.parametrize(("engine", "more"), [("Neon", NEON), ("AlloyDB", ALLOYDB)])
def test_what_is_postgresql_above_another_storage_is_read(
    disguise: Callable[..., dict[str, str]], engine: str, more: str
) -> None:
    env = disguise(PLAIN, more)
    wrong, notice = asyncio.run(read_all(env["DATABASE_URL"]))
    assert (wrong, notice) == (set(), None)
    assert f", by {engine}" in run_lykke("doctor", env=env).stdout.decode()


def test_a_table_beside_those_of_citus_is_read(disguise: Callable[..., dict[str, str]]) -> None:
    env = disguise(PLAIN, CITUS)
    wrong, notice = asyncio.run(read_all(env["DATABASE_URL"]))
    assert (wrong, notice) == (set(), None)
