"""Messages and rows of any size and shape: shown, cut or unreadable; what follows still comes."""

import asyncio
import csv
import io
import json
import sqlite3
import tracemalloc
import uuid
from contextlib import closing

import asyncpg
import pytest

from lykke_cli.application.messages import Arrival, decode
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.cli.output.live_table import LiveTable
from lykke_cli.cli.output.terminal import Output
from tests.builders import entity, insert
from tests.cli_process import LykkeProcess, Result, call_lykke, run_lykke
from tests.hostile import OBEYED
from tests.servers import RedisServer
from tests.unit.cli.output.test_renderers import a_terminal

USER = uuid.UUID(int=1)
MIB = 1 << 20
SINCE = ("--since", "2026-01-01")
METAS = {
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "digits": b'{"n":' + b"9" * 10_000 + b"}",
    "no UTF-8": b'{"t":"\xff\xfe"}',
    "NaN": b'{"n":NaN}',
    "infinite": b'{"n":-Infinity}',
    "keys twice": b'{"a":1,"a":2}',
    "many keys": b"{" + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}",
    "large": b'{"t":"' + b"x" * (4 * MIB) + b'"}',
}
UNREADABLE = {"nested", "no UTF-8", "NaN", "infinite"}


def payload(meta: bytes, activity_type: str) -> bytes:
    head = {"id": str(uuid.uuid4()), "user_id": str(USER), "activity_type": activity_type}
    head["occurred_at"] = "2026-11-23T08:30:00.123456Z"
    return json.dumps(head)[:-1].encode() + b',"meta":' + meta + b"}"


def tail(server: RedisServer, env: dict[str, str], *arguments: object, count: int) -> Result:
    """The output of a tail to which each of METAS was published, then an entry END."""
    user = uuid.uuid4()
    arguments = ("tail", user, "--live-only", "--count", count, *arguments)
    with LykkeProcess(*arguments, env=env | {"COLUMNS": "100"}) as process:
        process.wait_for("following")
        with server.client() as client:
            for name, meta in METAS.items():
                client.publish(f"auditlog:{user}", payload(meta, name))
            client.publish(f"auditlog:{user}", payload(b'{"last":1}', "END"))
        result = process.finish()
    assert result.status == ExitCode.DONE, result.stderr
    assert "disconnected" in result.stderr and "never" in result.stderr
    return result


def test_ndjson_has_every_message_whole(redis_server: RedisServer, env: dict[str, str]) -> None:
    *lines, end = tail(redis_server, env, count=len(METAS) + 1).stdout.splitlines()
    assert json.loads(end)["meta"] == {"last": 1}
    for (name, meta), line in zip(METAS.items(), lines, strict=True):
        if name in UNREADABLE:
            assert line.startswith(b'{"unreadable":')
        else:
            assert line.endswith(b'"meta":' + meta + b"}"), name


def test_the_table_cuts_what_is_large_and_tells_its_size(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    shown = tail(redis_server, env, "-o", "table", count=len(METAS) + 1).stdout.decode()
    _, *lines, end = (line for line in shown.splitlines() if not line.startswith("---"))
    assert end.endswith("last=1")
    rows = dict(zip(METAS, lines, strict=True))
    assert max(map(len, rows.values())) <= 100
    assert {name for name, row in rows.items() if " unreadable " in row} == UNREADABLE
    assert rows["many keys"].endswith("… 10.4 MiB")
    assert rows["large"].endswith("… 4.0 MiB")
    assert rows["digits"].endswith("999…")


def test_csv_has_every_message(redis_server: RedisServer, env: dict[str, str]) -> None:
    csv.field_size_limit(64 * MIB)
    data = tail(redis_server, env, "-o", "csv", count=len(METAS) + 1).stdout
    _, *rows = csv.reader(io.StringIO(data.decode()))
    assert [len(row) for row in rows] == [7] * (len(METAS) + 1)
    assert rows[-1][-1] == '{"last":1}'


def test_filters_go_over_every_message(redis_server: RedisServer, env: dict[str, str]) -> None:
    template = "{meta.last} {meta}"
    arguments = ("--grep", '"[a-z]{4}": *1', "--query", "meta.last", "--template", template)
    assert tail(redis_server, env, *arguments, count=1).stdout == b'1 {"last":1}\n'


def test_the_limit_of_the_table_is_chosen(redis_server: RedisServer, env: dict[str, str]) -> None:
    count = len(METAS) + 1
    arguments = ("-o", "table", "--max-message-size", "9K")
    shown = tail(redis_server, env, *arguments, count=count).stdout.decode().splitlines()
    assert any(line.endswith("… 9 KiB") for line in shown) and shown[-1].endswith("last=1")
    wrong = call_lykke("tail", USER, "--max-message-size", "much")
    assert (wrong.status, "is not a size" in wrong.stderr) == (ExitCode.USAGE, True)


@pytest.mark.parametrize(
    "message",
    [
        payload(b'{"t":"' + b"x" * (8 * MIB) + b'"}', "A"),
        payload(METAS["many keys"], "A"),
        payload(b"{}", "A" * (8 * MIB)),
        b'{"type":"' + b"x" * (8 * MIB) + b'"}',
        b"\xff" * (8 * MIB),
    ],
    ids=["a string", "keys", "a type", "no entry", "unreadable"],
)
def test_the_table_does_not_look_into_what_is_large(message: bytes) -> None:
    table = LiveTable(a_terminal(tty=True))
    arrival = Arrival(decode(message), "live", "auditlog:x", message)
    tracemalloc.start()
    try:
        line = table.render([arrival]).decode()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "MiB" in line
    assert peak < MIB / 4


async def _store(url: str, *metas: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.executemany(
        "INSERT INTO audit_logs VALUES (gen_random_uuid(), $1, 'A', "
        "timestamp '2026-11-23' + $2 * interval '1 second', NULL, NULL, $3)",
        [(USER, float(n), meta) for n, meta in enumerate(metas)],
    )
    await connection.close()


ROWS = (
    "[" * 5_000 + "]" * 5_000,
    '{"n":' + "9" * 10_000 + "}",
    "{" + ",".join(f'"{n}":1' for n in range(100_000)) + "}",
    '{"t":"' + "x" * (2 * MIB) + '"}',
    '{"last":1}',
)


@pytest.mark.parametrize(
    ("output", "arguments"),
    [("ndjson", SINCE), ("ndjson", ("--limit", "9")), ("table", SINCE), ("csv", SINCE)],
)
def test_rows_of_postgresql(postgres_url: str, output: str, arguments: tuple[str, ...]) -> None:
    asyncio.run(_store(postgres_url, *ROWS))
    env = {"DATABASE_URL": postgres_url, "COLUMNS": "100"}
    result = run_lykke("backfill", USER, "-o", output, *arguments, env=env)
    assert result.status == ExitCode.DONE, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == len(ROWS) + {"ndjson": 0, "csv": 1, "table": 2}[output]
    assert b"last" in lines[-1]
    assert lines[-2].endswith("… 2.0 MiB".encode()) == (output == "table")


def sqlite_rows(url: str, *metas: bytes | None, **changes: object) -> None:
    """Whatever the bytes are: SQLite takes any for text."""
    asyncio.run(insert(url, [entity(USER, meta={}) for _ in metas]))
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        for seq, meta in enumerate(metas, 1):
            connection.execute(
                "UPDATE audit_logs SET meta = CAST(? AS TEXT) WHERE seq = ?", (meta, seq)
            )
        for column, value in changes.items():
            connection.execute(f"UPDATE audit_logs SET {column} = ? WHERE seq = 1", (value,))  # noqa: S608
        connection.commit()


BROKEN = [
    b"",
    b"NaN",
    b'{"a":',
    b"{} {}",
    b'1,"user_id":"x"',
    b"\xff",
    b'{"t":"\xff"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("output", ["ndjson", "table", "csv"])
def test_rows_of_sqlite_that_are_no_json_are_text(sqlite_url: str, output: str) -> None:
    sqlite_rows(sqlite_url, *BROKEN, METAS["digits"], METAS["large"], b'{"last":1}')
    env = {"DATABASE_URL": sqlite_url, "COLUMNS": "100"}
    result = run_lykke("backfill", USER, *SINCE, "-o", output, env=env)
    assert result.status == ExitCode.DONE, result.stderr
    assert OBEYED.isdisjoint(result.stdout.decode()[:10_000].replace("\n", ""))
    if output == "ndjson":
        rows = [json.loads(line, parse_int=len) for line in result.stdout.splitlines()]
        assert {row["user_id"] for row in rows} == {str(USER)}
        shown = [broken.decode("utf-8", "backslashreplace") for broken in BROKEN]
        assert [row["meta"] for row in rows][: len(BROKEN)] == shown
        assert rows[-1]["meta"] == {"last": 1}
    else:
        assert b"last" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("changes", [{"id": "no id"}, {"entity_id": b"\xff"}])
def test_a_row_of_sqlite_that_is_no_entry_is_told_of(
    sqlite_url: str, changes: dict[str, object]
) -> None:
    sqlite_rows(sqlite_url, b"{}", **changes)
    for arguments in ((), SINCE):
        env = {"DATABASE_URL": sqlite_url}
        result = run_lykke("backfill", USER, *arguments, env=env)
        assert result.status == ExitCode.BAD_INPUT, result.stderr
        assert "a row in audit_logs that is no entry" in result.stderr


@pytest.mark.parametrize("output", Output)
def test_a_row_beyond_the_calendar_is_unreadable_once_and_the_stream_goes_on(
    postgres_url: str, output: Output
) -> None:
    """Such as milliseconds taken for seconds: it ends neither a tail nor a resume."""
    env = {"DATABASE_URL": postgres_url}
    run_lykke("backfill", USER, env=env)
    odd, good = entity(USER), entity(USER, activity_type="ORDINARY")
    asyncio.run(insert(postgres_url, [odd, good]))

    async def change() -> None:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(
            "UPDATE audit_logs SET occurred_at = '58000-01-01' WHERE id = $1", odd.id
        )
        await connection.close()

    asyncio.run(change())
    for arguments in ((), ("--since", "1h")):
        result = run_lykke("backfill", USER, "-o", output, *arguments, env=env | {"COLUMNS": "300"})
        assert result.status == ExitCode.DONE, result.stderr
        assert result.stdout.count(str(odd.id).encode()) >= 1
        assert result.stdout.count(b"ORDINARY") == 1
    assert run_lykke("backfill", USER, env=env).stdout == b""
    template = ("--template", "{id} {occurred_at}", "--since", "1h")
    assert (
        f"{odd.id} 58000-01-01" in run_lykke("backfill", USER, *template, env=env).stdout.decode()
    )
