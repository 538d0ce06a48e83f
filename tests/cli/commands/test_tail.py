"""`lykke tail`, as a real process beside real servers."""

import asyncio
import csv
import io
import os
import signal
import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest

from lykke_cli.application.errors import UsageMistake
from tests.builders import add_users, entity, insert, wire
from tests.cli_process import LykkeProcess, Result, call_lykke, command, environment, run_lykke
from tests.servers import RedisServer

KEYS = ["id", "user_id", "activity_type", "occurred_at", "entity_id", "entity_type", "meta"]


def store(url: str, *entities: object) -> None:
    asyncio.run(insert(url, entities))  # type: ignore[arg-type]


def publish(server: RedisServer, user: object, *payloads: bytes, channel: str = "auditlog") -> int:
    with server.client() as client:
        return sum(int(client.publish(f"{channel}:{user}", payload)) for payload in payloads)


def test_what_is_published_is_printed_and_count_ends_it(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    entities = [entity(user, meta={"n": n}) for n in range(3)]
    with LykkeProcess("tail", user, "-o", "ndjson", "--count", 3, env=env) as tail:
        tail.wait_for("following")
        publish(redis_server, user, *map(wire, entities))
        result = tail.finish()
    assert result.status == 0
    assert [row["id"] for row in result.rows] == [str(e.id) for e in entities]
    assert [list(row) for row in result.rows] == [KEYS] * 3


def test_each_line_is_flushed_at_once(redis_server: RedisServer, env: dict[str, str]) -> None:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, env=env) as tail:
        tail.wait_for("following")
        for number in range(3):
            publish(redis_server, user, b'{"n":%d}' % number)
            assert tail.row() == {"n": number}


def test_history_comes_first_and_an_entry_is_equal_from_both(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    user = uuid.uuid4()
    both = entity(user, meta={"b": 1, "a": {"x": 1.5}}, entity_id=uuid.uuid4(), entity_type="task")
    store(postgres_url, both)
    live = wire(both, occurred_at=both.occurred_at.isoformat(), extra="key")
    with LykkeProcess("tail", user, "--live-only", env=database_env) as tail:
        tail.wait_for("following")
        publish(redis_server, user, live)
        from_live = tail.row()
    with LykkeProcess("tail", user, "-n", 1, env=database_env) as tail:
        from_history = tail.row()
        new = entity(user)
        store(postgres_url, new)
        publish(redis_server, user, live, wire(new))  # the first one is a repetition
        assert tail.row()["id"] == str(new.id)
        assert tail.stop().status == 130
    assert from_live == from_history
    assert list(from_live) == KEYS
    assert from_live["occurred_at"].endswith("Z")


def test_since_prints_what_occurred_from_then_on(
    database_env: dict[str, str], postgres_url: str
) -> None:
    user, now = uuid.uuid4(), datetime.now(UTC)
    old, new, newer = (
        entity(user, occurred_at=now - timedelta(minutes=minutes)) for minutes in (60, 10, 5)
    )
    store(postgres_url, newer, old, new)
    result = run_lykke("tail", user, "--since", "15m", "--count", 2, env=database_env)
    assert [row["id"] for row in result.rows] == [str(new.id), str(newer.id)]


@pytest.mark.parametrize("newest", ["-n", "--last", "--limit"])
def test_the_newest_are_counted_after_the_filters(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str, newest: str
) -> None:
    user, now = uuid.uuid4(), datetime.now(UTC)
    entries = [
        entity(user, occurred_at=now - timedelta(minutes=9 - n), meta={"n": n, "odd": n % 2 == 1})
        for n in range(8)
    ]
    store(postgres_url, *entries)
    options = ("--grep", '"odd": ?true', "--until", "2.5m")
    with LykkeProcess("tail", user, newest, 2, *options, env=database_env) as tail:
        assert [tail.row()["meta"]["n"] for _ in range(2)] == [3, 5]
        late = entity(user, occurred_at=now - timedelta(minutes=9), meta={"n": 9, "odd": True})
        store(postgres_url, late)  # older than what was printed, and committed after it
        publish(redis_server, user, *map(wire, [entries[3], entries[5], late]))
        assert tail.row()["meta"]["n"] == 9


def test_it_ends_with_history_or_after_silence(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    user = uuid.uuid4()
    entries = [entity(user, meta={"n": n}) for n in range(3)]
    store(postgres_url, *entries)
    words = ("tail", "-f", user, "-s", "1h", "-o", "jsonl")
    ended = run_lykke(*words, "--no-follow", env=database_env)
    assert ended.status == 0, ended.stderr
    assert [row["meta"]["n"] for row in ended.rows] == [0, 1, 2]
    silent = run_lykke(*words, "--idle", "100ms", env=database_env)
    assert (silent.status, silent.rows) == (0, ended.rows)
    resumed = run_lykke("tail", user, "--resume", "--no-follow", env=database_env)
    assert (resumed.status, resumed.rows) == (0, [])


def test_rows_inserted_with_psql_are_found_without_a_broadcast(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, env=database_env) as tail:
        tail.wait_for("following")
        row = entity(user)
        store(postgres_url, row)
        redis_server.cut_subscribers()  # a short outage makes it look
        assert tail.row()["id"] == str(row.id)


def test_filters_narrow_history_and_live(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    user, thing = uuid.uuid4(), uuid.uuid4()
    wanted: dict[str, Any] = {
        "activity_type": "A",
        "entity_id": thing,
        "entity_type": "task",
        "meta": {"n": 5},
    }
    others: list[dict[str, Any]] = [
        {"activity_type": "B"},
        {"entity_id": None},
        {"entity_type": "x"},
        {"meta": {"n": 1}},
        {"activity_type": "C"},
        {"meta": {"n": 5, "test": True}},
    ]
    history = [entity(user, **wanted), *(entity(user, **wanted | other) for other in others)]
    live = [entity(user, **wanted), *(entity(user, **wanted | other) for other in others)]
    store(postgres_url, *history)
    options = ["--activity-type", "A", "--activity-type", "C", "--entity-type", "task"]
    options += ["--entity-id", str(thing), "--query", "meta.n > `3`", "--since", "1h"]
    options += ["--exclude", "[C-Z]*", "--exclude", "D*", "--not-grep", 'te.t":']
    with LykkeProcess("tail", user, *options, env=database_env) as tail:
        assert tail.row()["id"] == str(history[0].id)
        publish(redis_server, user, b'{"type":"other"}', b"junk", *map(wire, live[::-1]))
        assert tail.row()["id"] == str(live[0].id)


def test_other_messages_and_junk_do_not_end_it(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, "--count", 3, env=env) as tail:
        tail.wait_for("following")
        publish(redis_server, user, b'{"type":"acknowledgment"}', b"\xff\x00 junk", b"[1]")
        rows = tail.finish().rows
    assert rows[0] == {"type": "acknowledgment"}
    assert [list(row) for row in rows[1:]] == [["unreadable", "reason", "raw_base64"]] * 2


def test_all_follows_every_user(redis_server: RedisServer, env: dict[str, str]) -> None:
    users, channel = [uuid.uuid4(), uuid.uuid4()], f"t{uuid.uuid4().hex}"
    with LykkeProcess("tail", "--all", "--channel", channel, env=env) as tail:
        tail.wait_for("following")
        for user in users:
            publish(redis_server, user, wire(entity(user)), channel=channel)
        assert [tail.row()["user_id"], tail.row()["user_id"]] == [str(u) for u in users]


def test_ack_answers_each_entry_and_does_not_print_its_own(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    user, sent = uuid.uuid4(), entity()
    with redis_server.client() as client:
        listener = client.pubsub(ignore_subscribe_messages=True)
        listener.subscribe(f"auditlog:{user}")
        sent = entity(user)
        with LykkeProcess("tail", user, "--ack", "--count", 2, env=env) as tail:
            tail.wait_for("following")
            publish(redis_server, user, wire(sent))
            tail.line()
            publish(redis_server, user, b'{"n":1}')
            assert tail.row() == {"n": 1}
            tail.finish()
        messages: list[dict[str, Any]] = []
        while len(messages) < 3:
            message = listener.get_message(timeout=5)
            assert message is not None or len(messages) == 0, messages
            if message is not None:
                messages.append(orjson.loads(message["data"]))
        listener.close()
    [ack] = [m for m in messages if m.get("type") == "acknowledgment"]
    assert ack["event_id"] == str(sent.id)


def test_timeout_without_count_is_done_and_with_it_is_not_met(env: dict[str, str]) -> None:
    user = uuid.uuid4()
    assert run_lykke("tail", user, "--timeout", "300ms", env=env).status == 0
    result = run_lykke("tail", user, "--timeout", "300ms", "--count", 1, env=env)
    assert (result.status, result.stdout) == (4, b"")
    assert "0 came, 1 more" in result.stderr


def _tail_three(server: RedisServer, env: dict[str, str], *options: str) -> Result:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, "--count", 3, *options, env=env) as tail:
        tail.wait_for("following")
        publish(server, user, wire(entity(user, meta={"x": "=1"})), b'{"a":1}', b"\x1b[31mjunk")
        return tail.finish()


def test_json_is_one_array(redis_server: RedisServer, env: dict[str, str]) -> None:
    result = _tail_three(redis_server, env, "-o", "json")
    assert len(orjson.loads(result.stdout)) == 3


def test_json_is_whole_when_interrupted(redis_server: RedisServer, env: dict[str, str]) -> None:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, "-o", "json", env=env) as tail:
        tail.wait_for("following")
        publish(redis_server, user, b'{"a":1}')
        tail.line()
        result = tail.stop()
    assert result.status == 130
    assert orjson.loads(result.stdout) == [{"a": 1}]


def test_csv_has_a_header_and_a_row_for_each(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    result = _tail_three(redis_server, env, "-o", "csv")
    rows = list(csv.reader(io.StringIO(result.stdout.decode())))
    assert rows[0] == KEYS
    assert len(rows) == 4


def test_raw_is_what_came(redis_server: RedisServer, env: dict[str, str]) -> None:
    assert _tail_three(redis_server, env, "-o", "raw").stdout.endswith(b'{"a":1}\n\x1b[31mjunk\n')


def test_a_table_on_a_terminal_shows_no_escape_of_strangers(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, "--count", 2, env=env, terminal=80) as tail:
        tail.wait_for("following")
        publish(redis_server, user, wire(entity(user)), wire(entity(user, "\x1b]0;t\x07[/x]")))
        result = tail.finish()
    screen = result.stdout.decode()
    assert "TIME" in screen and "TASK_COMPLETED" in screen
    assert r"\x1b]0;t" in screen
    assert "\x1b]0" not in screen


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_order(env: dict[str, str], number: int, status: int) -> None:
    with LykkeProcess("tail", uuid.uuid4(), env=env) as tail:
        tail.wait_for("following")
        result = tail.stop(number)
    assert result.status == status
    assert "0 printed" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_closed_pipe_ends_it_silently(redis_server: RedisServer, env: dict[str, str]) -> None:
    user = uuid.uuid4()
    read, write = os.pipe()
    process = subprocess.Popen(
        command("tail", user, "-q"), stdout=write, stderr=subprocess.PIPE, env=environment(env)
    )
    os.close(write)
    try:
        while not publish(redis_server, user, b'{"n":1}'):
            pass
        assert os.read(read, 100)
        os.close(read)
        publish(redis_server, user, b'{"n":2}')
        _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (0, b"")


def test_quiet_says_nothing(redis_server: RedisServer, env: dict[str, str]) -> None:
    assert run_lykke("tail", uuid.uuid4(), "-q", "--timeout", "200ms", env=env) == Result(
        b"", "", 0
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["not-a-uuid"], "'not-a-uuid' is no user"),
        ([], "Give either a USER_ID, or --all"),
        ([uuid.UUID(int=1), "--all"], "Give either a USER_ID, or --all"),
        ([uuid.UUID(int=1), "--since", "soon"], "'soon' is not a time"),
        ([uuid.UUID(int=1), "--since", "1h"], "History needs the database"),
        ([uuid.UUID(int=1), "--resume"], "--transport stream"),
        ([uuid.UUID(int=1), "--resume", "--live-only"], "--transport stream"),
        ([uuid.UUID(int=1), "-n", "1", "--transport", "stream"], "History needs the database"),
        ([uuid.UUID(int=1), "--timeout", "soon"], "'soon' is not a duration"),
        ([uuid.UUID(int=1), "--query", "a["], "a JMESPath expression: Incomplete expression\n"),
        ([uuid.UUID(int=1), "--count", "0"], "--count"),
        ([uuid.UUID(int=1), "-o", "xml"], "xml"),
        ([uuid.UUID(int=1), "--redis-url", "http://x"], "The Redis URL is malformed"),
        ([uuid.UUID(int=1), "--database-url", "mysql://x"], "database URL"),
        ([uuid.UUID(int=1), "--rotate", "1M"], "--rotate and --compress go with --to-file"),
        ([uuid.UUID(int=1), "--nonsense"], "--nonsense"),
        ([uuid.UUID(int=1), "--no-follow"], "History needs the database"),
        ([uuid.UUID(int=1), "--no-follow", "--live-only"], "--live-only uses no database"),
        ([uuid.UUID(int=1), "--no-follow", "--database-url", "sqlite:///x"], "say which by"),
        ([uuid.UUID(int=1), "--idle", "0"], "'0' is no interval"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = call_lykke("tail", *arguments)
    assert result.status == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == b""


EVENTS = (
    b'{"id":"1","event_type":"TaskMoved","event_data":{"title":"Buy milk","to":["done"]}}',
    b'{"id":"2","event_type":"TaskMade","event_data":{"title":"Buy bread"}}',
    b'{"id":"3","type":"note","text":"milk"}',
)


@pytest.mark.parametrize("channel", ["notification", "domain-events"])
@pytest.mark.parametrize(
    ("arguments", "stdout"),
    [
        (["--activity-type", "TaskM*"], EVENTS[0] + b"\n" + EVENTS[1] + b"\n"),
        (["--activity-type", "note"], EVENTS[2] + b"\n"),
        (["--grep", "milk"], EVENTS[0] + b"\n" + EVENTS[2] + b"\n"),
        (["--query", "event_data.title == 'Buy bread'"], EVENTS[1] + b"\n"),
        (
            ["--template", "{id} {activity_type} {event_data.title:<8}|{event_data.to[0]}"],
            b"1 TaskMoved Buy milk|done\n2 TaskMade Buy bread|\n3 note         |\n",
        ),
        (
            ["-o", "csv", "--columns", "id,activity_type,event_data.title,text"],
            (
                b"id,activity_type,event_data.title,text\n"
                b"1,TaskMoved,Buy milk,\n2,TaskMade,Buy bread,\n3,note,,milk\n"
            ),
        ),
        (
            ["-o", "table", "--columns", "activity,event_data.title"],
            (
                b"ACTIVITY             EVENT_DATA.TITLE\nTaskMoved            Buy milk\n"
                b"TaskMade             Buy bread\nnote\n"
            ),
        ),
    ],
)
def test_on_other_channels_whatever_object_comes_is_looked_into(
    redis_server: RedisServer,
    env: dict[str, str],
    channel: str,
    arguments: list[str],
    stdout: bytes,
) -> None:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, "--channel", channel, *arguments, env=env) as tail:
        tail.wait_for("following")
        publish(redis_server, user, *EVENTS, b'{"event_type":"Last","id":"last"}', channel=channel)
        lines = [tail.line() for _ in stdout.splitlines()]
        result = tail.stop()
    assert b"".join(lines) == stdout
    assert result.status == 130


def test_a_template_for_entries_names_only_what_they_have() -> None:
    result = call_lykke("tail", uuid.uuid4(), "--template", "{event_data.title}")
    assert result.status == 2
    assert "is not a field" in result.stderr


@pytest.mark.parametrize(("form", "has_emails"), [("table", True), ("ndjson", False)])
def test_addresses_stand_for_users_where_there_are_several(
    redis_url: str, sqlite_url: str, form: str, has_emails: bool
) -> None:
    anna, bea = uuid.uuid4(), uuid.uuid4()
    add_users(sqlite_url, (anna, "anna@example.com"))
    store(sqlite_url, entity(anna), entity(bea))
    env = {"REDIS_URL": redis_url, "DATABASE_URL": sqlite_url, "COLUMNS": "200"}
    shown = run_lykke("tail", "--all", "-n", 2, "--count", 2, "-o", form, env=env).stdout.decode()
    assert ("anna@example.com" in shown) is has_emails
    assert str(bea)[:8] in shown


@pytest.mark.parametrize(
    ("profile", "given", "share"),
    [("", (), 0.1), ("", ("--full-pace", "0.5"), 0.5), ("full-pace = 0.2", (), 0.2)],
)
def test_a_large_table_is_read_at_the_pace_that_is_said(
    tmp_path: Path, profile: str, given: tuple[str, ...], share: float
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[profiles.a]\nredis_url = 'redis://a'\n[profiles.a.tail]\n{profile}")
    tail, is_seen = ("tail", uuid.uuid4(), "--live-only", "-p", "a"), UsageMistake("seen")
    with mock.patch("lykke_cli.cli.runs.tail.Tail", side_effect=is_seen) as made:
        result = call_lykke("--config", config, *tail, *given)
    assert "seen" in result.stderr
    assert made.call_args.kwargs["full_share"] == share
