"""What comes from outside is never SQL, and what reads only reads, for a bounded time."""

import asyncio
import itertools
import os
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import typer

from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.bootstrap import make_history
from lykke_cli.cli.app import make_app
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.configuration.settings import Settings
from tests.builders import entity, insert
from tests.cli_process import Result, call_lykke
from tests.servers import READER_PASSWORD, PostgresServer, run_apart

USER = uuid.UUID(int=7)
HOSTILE = [
    "'; DROP TABLE audit_logs; --",
    "' OR 1=1 --",
    '" OR ""="',
    "%27 OR 1=1",
    "\\' OR 1=1 --",
    "$$; DELETE FROM audit_logs; $$",
    "$1",
    ":user",
    "\u2019 OR 1=1 --",
    "\uff07; DROP TABLE audit_logs; --",
    "%",
    "_",
    "\\",
    "') UNION SELECT 1,2,3,4,5,6,7 --",
]
EVERY_TEXT = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"  # for every parameter: minutes
UNSTORABLE = "nul\x00'; DROP TABLE audit_logs; --"
# What lets each command run to its end at once.
BASE: dict[str, dict[str, object]] = {
    "tail": {"user": USER, "--since": "1h", "--idle": "20ms", "--output": "ndjson"},
    "backfill": {"user": USER, "--since": "1h", "--output": "ndjson"},
    "expect": {"user": USER, "--timeout": "20ms"},
    "stats": {"user": USER, "--output": "json"},
    "users": {"--output": "ndjson"},
    "record": {"user": USER, "activity_type": "X"},
    "doctor": {"--timeout": "1s", "--output": "json"},
}


def parameters(command: str) -> list[str]:
    """The names of all that take a text: arguments bare, options as they are written."""
    found = []
    for parameter in typer.main.get_command(make_app()).commands[command].params:  # type: ignore[attr-defined]
        if parameter.param_type_name == "argument":
            found += [parameter.name] if parameter.nargs == 1 else []
        elif not (parameter.is_flag or parameter.is_eager):
            found.append(max(parameter.opts, key=len))
    return found


def run(command: str, changes: dict[str, object], env: dict[str, str]) -> Result:
    given = BASE[command] | changes
    options = [f"{name}={value}" for name, value in given.items() if name.startswith("-")]
    arguments = [value for name, value in given.items() if not name.startswith("-")]
    return call_lykke(command, *options, "--", *arguments, env=env)


async def _rows(url: str) -> list[tuple[Any, ...]]:
    """The table, whole."""
    query = "SELECT id, activity_type, entity_type FROM audit_logs ORDER BY id"
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            return database.execute(query).fetchall()
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def rows(url: str) -> list[tuple[Any, ...]]:
    return run_apart(lambda: _rows(url))


@pytest.fixture(params=["postgres", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The table with an entry for each hostile text, and one that is like none of them."""
    monkeypatch.chdir(tmp_path)  # a file may be named after a text
    url: str = request.getfixturevalue(f"{request.param}_url")
    entries = [entity(USER, text, entity_type=text) for text in HOSTILE]
    run_apart(lambda: insert(url, [entity(USER, "OTHER", entity_type="other"), *entries]))
    return url


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("command", BASE)
def test_no_argument_becomes_sql(command: str, url: str, redis_url: str) -> None:
    if url.startswith("sqlite") and command not in ("backfill", "record") and not EVERY_TEXT:
        pytest.skip("what these read with is backfill's; make fuzz runs them all")
    env = {"REDIS_URL": redis_url, "DATABASE_URL": url}
    before = rows(url)
    recorded = 0
    texts = [*HOSTILE, UNSTORABLE]
    turns = itertools.cycle(texts)
    for name in parameters(command):
        for text in texts if EVERY_TEXT else [next(turns)]:
            shown = text if name != "user" else f"{text}@example.com"
            result = run(command, {name: shown}, env)
            assert result.status != ExitCode.BUG, (name, text, result.stderr)
            # A statement that is not ours as it stands would not fit the database.
            assert "does not fit" not in result.stderr or name == "user", (name, text)
            recorded += command == "record" and result.status == ExitCode.DONE
    after = rows(url)
    assert [row for row in after if row in before] == before
    assert len(after) == len(before) + recorded


def test_what_is_recorded_is_what_was_given(url: str, redis_url: str) -> None:
    env = {"REDIS_URL": redis_url, "DATABASE_URL": url}
    before = rows(url)
    for text in HOSTILE if EVERY_TEXT else HOSTILE[:2]:
        given: dict[str, object] = {"activity_type": text, "--entity-type": text}
        assert run("record", given, env).status == ExitCode.DONE
    written = [row for row in rows(url) if row not in before]
    assert all(row[1:] == (row[1], row[1]) and row[1] in HOSTILE for row in written)
    assert len(written) >= 2


@pytest.mark.parametrize("option", ["--activity-type", "--entity-type"])
def test_a_filter_selects_what_is_literally_equal(option: str, url: str) -> None:
    env = {"DATABASE_URL": url}
    for text in HOSTILE if EVERY_TEXT else ["' OR 1=1 --", "%", "_", "\\"]:
        found = run("backfill", {option: text}, env).rows
        assert [(row["activity_type"], row["entity_type"]) for row in found] == [(text, text)]
    assert run("stats", {option: "' OR 1=1 --"}, env).rows[0]["entries"] == 1
    assert run("backfill", {option: "' OR 1=1"}, env).rows == []


def test_in_a_pattern_only_its_own_signs_are_special(url: str) -> None:
    env = {"DATABASE_URL": url}
    for pattern, matching in [
        ("%*", {"%", "%27 OR 1=1"}),
        ("?", {"%", "_", "\\"}),
        ("_*", {"_"}),
        ("\\*", {"\\", "\\' OR 1=1 --"}),
        ("'*", {text for text in HOSTILE if text.startswith("'")}),
    ]:
        found = run("backfill", {"--activity-type": pattern}, env).rows
        assert {row["activity_type"] for row in found} == matching, pattern


GUARD = """
    CREATE FUNCTION guarded() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('transaction_read_only') <> 'on' THEN
            RAISE 'it might write';
        ELSIF current_setting('statement_timeout') = '0' THEN
            RAISE 'it might take for ever';
        END IF;
        RETURN true;
    END $$;
    CREATE TABLE users (id uuid PRIMARY KEY, email text);
    GRANT SELECT ON users TO reader;
    ALTER TABLE audit_logs ENABLE ROW LEVEL SECURITY;
    CREATE POLICY only_reading ON audit_logs FOR SELECT USING (guarded());
    ALTER TABLE users ENABLE ROW LEVEL SECURITY;
    CREATE POLICY only_reading ON users FOR SELECT USING (guarded());
"""


def test_what_reads_is_read_only_and_bounded_on_the_server(
    postgres_server: PostgresServer, postgres_database: str, postgres_url: str, redis_url: str
) -> None:
    """The table itself looks at who reads it."""
    email = "me@example.com"
    postgres_server.execute(GUARD, postgres_database)
    postgres_server.execute(f"INSERT INTO users VALUES ('{USER}', '{email}')", postgres_database)  # noqa: S608
    run_apart(lambda: insert(postgres_url, [entity(USER)]))
    url = postgres_server.url(postgres_database, "reader", READER_PASSWORD)
    with pytest.raises(asyncpg.RaiseError, match="it might write"):
        rows(url)
    env = {"DATABASE_URL": url, "REDIS_URL": redis_url}
    commands: list[list[object]] = [
        ["tail", USER, "-n", 5, "--count", 1, "-o", "ndjson"],
        ["tail", "--all", "--since", "1h", "--count", 1, "-o", "ndjson"],
        ["backfill", USER, "-o", "csv"],
        ["backfill", email, "--since", "1h"],
        ["backfill", USER, "--since", "1h", "-o", "ndjson"],
        ["backfill", USER, "--limit", 1],
        ["backfill", USER, "--since", "1h", "--replay"],
        ["expect", USER, "--none", "--timeout", "20ms"],
        ["stats", USER],
        ["users"],
        ["users", "--email", "me@*"],
        ["doctor"],
    ]
    for arguments in commands:
        result = call_lykke(*arguments, env=env)
        assert result.status == ExitCode.DONE, (arguments, result.stdout, result.stderr)
        assert b"it might" not in result.stdout


@pytest.mark.parametrize("command", ["backfill", "stats", "users", "tail", "doctor"])
def test_a_sqlite_file_is_opened_for_reading_only(
    command: str, sqlite_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    connect = sqlite3.connect

    def noting(database: str, *arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(database)
        connection: sqlite3.Connection = connect(database, *arguments, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", noting)
    run(command, {}, {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_url})
    assert opened
    assert all(database.endswith("?mode=ro") for database in opened)


async def test_a_read_of_a_sqlite_file_that_takes_too_long_is_ended(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
    module = "lykke_cli.infrastructure.sqlite.history"
    monkeypatch.setattr("lykke_cli.infrastructure.sqlite.connection.STATEMENT_TIMEOUT", 0.05)
    monkeypatch.setattr(f"{module}._COUNT", endless)
    monkeypatch.setattr(f"{module}._OLDEST_FIRST", endless)
    for _ in range(2):
        async with asyncio.timeout(20), make_history(Settings(database_url=sqlite_url)) as history:
            with pytest.raises(ServerUnavailable, match="in time"):
                await history.count(Selection(user_ids={USER}))
            with pytest.raises(ServerUnavailable, match="in time"):
                async for _ in history.stream(Selection(user_ids={USER})):
                    pass
