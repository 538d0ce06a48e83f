"""`--resume` and `backfill` without a range: going on from the stored place."""

import asyncio
import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
import uuid
from pathlib import Path

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.redis.stream_layout import PARTITIONS
from tests.builders import entity, insert, wire
from tests.cli_process import DEADLINE, LykkeProcess, command, environment, run_lykke
from tests.servers import PostgresServer, RedisServer, wait_until
from tests.streams import fill, stream_entries


def store(url: str, *entities: object) -> None:
    asyncio.run(insert(url, entities))  # type: ignore[arg-type]


def publish(server: RedisServer, user: uuid.UUID, payload: bytes) -> None:
    with server.client() as client:
        client.publish(f"auditlog:{user}", payload)


def test_resume_goes_on_where_the_last_run_ended(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    user = uuid.uuid4()
    first, live, missed = entity(user), entity(user), entity(user)
    store(postgres_url, first)
    with LykkeProcess("tail", user, "-n", 5, "--count", 2, env=database_env) as tail:
        assert tail.row()["id"] == str(first.id)
        store(postgres_url, live)
        publish(redis_server, user, wire(live))
        assert tail.finish().rows[-1]["id"] == str(live.id)
    store(postgres_url, missed)
    result = run_lykke("tail", user, "--resume", "--count", 1, env=database_env)
    assert [row["id"] for row in result.rows] == [str(missed.id)]
    again = run_lykke("tail", user, "--resume", "--no-follow", env=database_env)
    assert again.rows == []


def test_an_interrupted_run_is_gone_on_from_exactly(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    user, entities = uuid.uuid4(), []
    for _ in range(3):
        with LykkeProcess("tail", user, "--resume", env=database_env) as tail:
            tail.wait_for("following auditlog")
            new = entity(user)
            entities.append(str(new.id))
            store(postgres_url, new)
            publish(redis_server, user, wire(new))
            assert tail.row()["id"] == str(new.id)
            assert tail.stop().status == 130
    publish(redis_server, user, wire(new))  # a late repetition reaches nobody
    result = run_lykke("tail", user, "--resume", "--no-follow", env=database_env)
    assert result.rows == []


def test_the_first_resume_says_that_it_is_the_first(database_env: dict[str, str]) -> None:
    result = run_lykke("tail", uuid.uuid4(), "--resume", "--timeout", "500ms", env=database_env)
    assert "no place is stored yet" in result.stderr


def test_backfill_without_a_range_is_what_came_since(
    database_env: dict[str, str], postgres_url: str
) -> None:
    user, first, second = uuid.uuid4(), entity(), entity()
    first, second = entity(user), entity(user)
    store(postgres_url, first)
    result = run_lykke("backfill", user, env=database_env)
    assert [row["id"] for row in result.rows] == [str(first.id)]
    assert "reading the last 24 hours" in result.stderr
    store(postgres_url, second)
    result = run_lykke("backfill", user, env=database_env)
    assert [row["id"] for row in result.rows] == [str(second.id)]
    assert "24 hours" not in result.stderr
    result = run_lykke("backfill", user, env=database_env)
    assert result.rows == []
    assert "nothing new since the last run" in result.stderr


@pytest.mark.parametrize("command", [("tail", "--no-follow"), ("backfill",)])
def test_a_start_that_a_stored_place_overrules_is_told_of(
    database_env: dict[str, str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    name, *more = command
    arguments = (name, uuid.uuid4(), "--since", "1d", "--to-file", tmp_path / "f", *more)
    told = [run_lykke(*arguments, env=database_env).stderr.count("--since") for _ in range(2)]
    assert told == [0, 1]


def test_one_place_is_used_by_one_run_at_a_time(database_env: dict[str, str]) -> None:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, "--resume", env=database_env) as tail:
        tail.wait_for("following auditlog")
        result = run_lykke("tail", user, "--resume", env=database_env)
        assert result.status == 2
        assert f"Another lykke (process {tail.process.pid})" in result.stderr
        # One that need not resume runs beside it.
        assert run_lykke("tail", user, "--timeout", "300ms", env=database_env).status == 0


def test_a_damaged_place_is_set_aside(
    database_env: dict[str, str], postgres_url: str, tmp_path: Path
) -> None:
    user = uuid.uuid4()
    store(postgres_url, entity(user))
    assert run_lykke("backfill", user, env=database_env).status == 0
    [state] = (tmp_path / "state" / "lykke" / "cursors").glob("*.json")
    for damage in (b"", b"{", b"[1]", b"\xff", state.read_bytes().replace(b"cursor", b"curses")):
        state.write_bytes(damage)
        result = run_lykke("backfill", user, env=database_env)
        assert result.status == 0
        assert "damaged" in result.stderr
        assert len(result.rows) == 1
        assert state.with_suffix(".damaged").exists()


def test_the_place_is_private(database_env: dict[str, str], tmp_path: Path) -> None:
    run_lykke("backfill", uuid.uuid4(), env=database_env)
    [state] = (tmp_path / "state" / "lykke" / "cursors").glob("*.json")
    assert state.stat().st_mode & 0o777 == 0o600
    assert b"password" not in state.read_bytes()
    assert database_env["DATABASE_URL"].split(":")[2].split("@")[0].encode() not in b"".join(
        state.read_bytes().split(b'"user"')[:1]
    ).replace(b"reader@", b"")


def test_a_place_that_is_a_symbolic_link_is_not_followed(
    database_env: dict[str, str], tmp_path: Path
) -> None:
    user = uuid.uuid4()
    run_lykke("backfill", user, env=database_env)
    [state] = (tmp_path / "state" / "lykke" / "cursors").glob("*.json")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(state.read_bytes())
    state.unlink()
    os.symlink(elsewhere, state)
    result = run_lykke("backfill", user, env=database_env)
    assert result.status == 5
    assert str(state) in result.stderr


def test_replayed_entries_reach_who_was_away_and_nobody_twice(
    database_env: dict[str, str], postgres_url: str
) -> None:
    user = uuid.uuid4()
    entities = [entity(user) for _ in range(3)]
    store(postgres_url, *entities)
    with (
        LykkeProcess("tail", user, "-n", 9, env=database_env) as has_them,
        LykkeProcess("tail", user, "--live-only", "-o", "raw", env=database_env) as was_away,
    ):
        printed = [has_them.row()["id"] for _ in entities]
        was_away.wait_for("following")
        result = run_lykke("backfill", user, "--since", "1h", "--replay", env=database_env)
        assert result.status == 0
        assert "3 replayed" in result.stderr
        assert result.stdout == b""
        replayed = [was_away.row() for _ in entities]
        assert [row["id"] for row in replayed] == printed
        assert all(row["replayed"] is True for row in replayed)
        new = entity(user)
        store(postgres_url, new)
        run_lykke("publish", user, "--data", wire(new).decode(), env=database_env)
        assert has_them.row()["id"] == str(new.id)  # and none of the replayed before it


def test_a_replay_that_is_interrupted_tells_how_far_it_came(
    database_env: dict[str, str], postgres_url: str
) -> None:
    user = uuid.uuid4()
    store(postgres_url, *(entity(user) for _ in range(100)))
    options = ("--since", "1h", "--replay", "--rate", "20")
    with LykkeProcess("tail", user, "--live-only", env=database_env) as tail:
        tail.wait_for("following")
        with LykkeProcess("backfill", user, *options, env=database_env) as replay:
            for _ in range(3):
                tail.row()
            result = replay.stop()
    assert result.status == ExitCode.INTERRUPTED
    told = re.fullmatch(r"lykke: interrupted: (\d+) replayed\n", result.stderr)
    assert told is not None
    assert 2 <= int(told[1]) < 100  # the last one may have gone out uncounted


def test_replay_keeps_to_its_rate(database_env: dict[str, str], postgres_url: str) -> None:
    user = uuid.uuid4()
    store(postgres_url, *(entity(user) for _ in range(4)))
    result = run_lykke(
        "backfill", user, "--since", "1h", "--replay", "--rate", "10", env=database_env
    )
    assert float(result.stderr.split(" in ")[1].split()[0]) >= 0.3


def stored(tmp_path: Path) -> bytes:
    """All that is stored of places."""
    return b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*.json"))


@pytest.mark.parametrize("options", [(), ("--resume",)])
def test_what_was_printed_is_in_the_place_soon_though_nothing_comes_after_it(
    redis_server: RedisServer,
    database_env: dict[str, str],
    postgres_url: str,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    user = uuid.uuid4()
    entities = [entity(user) for _ in range(3)]
    with LykkeProcess("tail", user, *options, env=database_env) as tail:
        tail.wait_for("following")
        for new in entities:
            store(postgres_url, new)
            publish(redis_server, user, wire(new))
            assert tail.row()["id"] == str(new.id)
            # Long before the next reconcile, which is after 30 s.
            wait_until(lambda new=new: str(new.id).encode() in stored(tmp_path), "stored")  # type: ignore[misc]
        # Leaving the block is kill -9.
    again = run_lykke("tail", user, "--resume", "--no-follow", env=database_env)
    assert again.rows == []


def test_a_terminal_that_is_closed_ends_it_in_order(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    user = uuid.uuid4()
    new = entity(user)
    with LykkeProcess("tail", user, "--resume", env=database_env) as tail:
        tail.wait_for("following auditlog")
        store(postgres_url, new)
        publish(redis_server, user, wire(new))
        tail.row()
        result = tail.stop(signal.SIGHUP)
    assert result.status == 128 + signal.SIGHUP
    assert "1 printed" in result.stderr
    again = run_lykke("tail", user, "--resume", "--no-follow", env=database_env)
    assert again.rows == []


def test_a_hangup_that_is_ignored_stays_ignored(database_env: dict[str, str]) -> None:
    """As under nohup."""
    arguments = command("tail", uuid.uuid4(), "--resume")
    with subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *arguments],
        env=environment(database_env),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as tail:
        assert tail.stderr is not None
        assert b"no place" in tail.stderr.readline()
        assert b"following" in tail.stderr.readline()
        tail.send_signal(signal.SIGHUP)
        tail.send_signal(signal.SIGTERM)
        assert tail.wait(DEADLINE) == ExitCode.TERMINATED


def test_a_state_folder_that_fills_up_ends_no_plain_tail(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    user = uuid.uuid4()
    entities = [entity(user) for _ in range(30)]
    store(postgres_url, *entities)
    # A limit on the size of files is a disk that is full, for one process; stdout is a pipe.
    with subprocess.Popen(
        ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *command("tail", user, "-n", 30)],
        env=environment(database_env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as tail:
        assert tail.stdout is not None and tail.stderr is not None
        for _ in entities:
            tail.stdout.readline()
        told = [tail.stderr.readline().decode() for _ in range(2)]
        for _ in range(3):
            new = entity(user)
            store(postgres_url, new)
            publish(redis_server, user, wire(new))
            assert str(new.id).encode() in tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        _, rest = tail.communicate(timeout=DEADLINE)
    assert tail.returncode == ExitCode.INTERRUPTED
    assert "goes on without a place" in "".join(told)
    assert "Cannot save" not in rest.decode()


def test_a_state_folder_that_cannot_be_used_ends_no_plain_tail(
    database_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    env = database_env | {"XDG_STATE_HOME": str(tmp_path / "file")}
    with LykkeProcess("tail", uuid.uuid4(), env=env) as tail:
        tail.wait_for("goes on without a place")
        result = tail.stop()
    assert result.status == ExitCode.INTERRUPTED
    assert result.stderr.count("goes on without a place") == 1
    result = run_lykke("tail", uuid.uuid4(), "--resume", env=env)
    assert result.status == ExitCode.BAD_INPUT


def _unread(descriptor: int) -> int:
    """How many bytes wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("output", ["ndjson", "csv", "raw"])
def test_what_left_before_an_interrupt_in_the_middle_of_a_batch_is_not_repeated(
    sqlite_url: str, redis_server: RedisServer, output: str
) -> None:
    """The reader of the pipe has stopped, and takes the rest only when the tail has ended."""
    user = uuid.uuid4()
    entities = [entity(user) for _ in range(2_000)]
    asyncio.run(insert(sqlite_url, entities))
    env = {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_server.url}
    arguments = ("tail", user, "-o", output)
    with LykkeProcess(*arguments, "--since", "1h", env=env, reading=False) as tail:
        tail.wait_for("following")
        wait_until(lambda: _unread(tail.descriptor) > 10_000, "the pipe fills")
        tail.send(signal.SIGTERM)
        tail.process.wait(DEADLINE)
        tail.resume_reading()
        first = tail.finish().stdout
    *whole, _half = first.split(b"\n")
    header = output == "csv"
    missing = len(entities) - len(whole) + header
    with LykkeProcess(*arguments, "--resume", "--count", missing, env=env) as tail:
        second = tail.finish().stdout.splitlines()
    printed = whole[header:] + second[header:]
    assert 0 < missing < len(entities)
    for line, one in zip(sorted(printed), sorted(map(str, (e.id for e in entities))), strict=True):
        assert one.encode() in line


def test_the_place_is_known_though_the_first_question_for_it_failed(
    postgres_server: PostgresServer, postgres_url: str, redis_server: RedisServer
) -> None:
    """Its connection is ended, as by a fail-over, before the database has told which one it is."""
    user = uuid.uuid4()
    env = {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url}
    with LykkeProcess("tail", user, env=env) as tail:
        tail.wait_for("following")
        postgres_server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'lykke' AND datname = current_database()",
            postgres_url.rpartition("/")[2],
        )
        tail.stop()
    result = run_lykke("backfill", user, env=env)
    assert "no place was stored" not in result.stderr


def test_a_replay_in_front_of_a_reader_that_has_stopped_ends_when_it_is_told_to(
    sqlite_url: str, redis_server: RedisServer
) -> None:
    """What was published already is more than the pipe takes."""
    user = uuid.uuid4()
    large = {"text": "x" * 200_000}
    asyncio.run(insert(sqlite_url, [entity(user, meta=large) for _ in range(9)]))
    env = {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_server.url}
    arguments = ("backfill", user, "--replay", "-o", "ndjson", "--rate", "20")
    with redis_server.client() as client, client.pubsub() as subscription:
        subscription.subscribe(f"auditlog:{user}")
        with LykkeProcess(*arguments, env=env, reading=False) as replay:
            for _ in range(2):  # the confirmation and a message
                assert subscription.get_message(timeout=20)
            wait_until(  # the next message, or on a slow machine what the pipe takes of the first
                lambda: subscription.get_message() or _unread(replay.descriptor),
                "the first is unwritten",
            )
            replay.send(signal.SIGINT)
            assert replay.process.wait(DEADLINE) == 130


def by_streams(server: RedisServer) -> dict[str, str]:
    """Without a database."""
    return {"REDIS_URL": server.url, "LYKKE_TRANSPORT": "stream"}


def begin(*arguments: object, env: dict[str, str]) -> None:
    """A run that stores from where on another one has something to print."""
    with LykkeProcess(*arguments, env=env) as tail:
        tail.wait_for("lykke: following ")
        assert tail.stop().stdout == b""


def test_streams_are_gone_on_with_without_a_database(own_redis: RedisServer) -> None:
    env, users = by_streams(own_redis), [uuid.uuid4(), uuid.uuid4()]
    with own_redis.client() as client:
        for arguments in (users[:1], users, ["--all"]):
            with LykkeProcess("tail", *arguments, env=env) as tail:
                tail.wait_for("following")
                [first] = fill(client, stream_entries(1, users[0]), partitions=PARTITIONS)
                assert tail.row()["id"] == first
                tail.stop()
            missed = fill(client, stream_entries(3, users[0]), partitions=PARTITIONS)
            result = run_lykke("tail", *arguments, "--resume", "--count", 3, env=env)
            assert [row["id"] for row in result.rows] == missed
            assert "GAP" not in result.stderr
            result = run_lykke("tail", *arguments, "--resume", "--timeout", "1s", env=env)
            assert result.rows == []


def test_a_killed_tail_of_streams_goes_on_from_what_is_stored(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    env, user = by_streams(own_redis), uuid.uuid4()
    with own_redis.client() as client:
        with LykkeProcess("tail", user, "--resume", env=env) as tail:
            tail.wait_for("no place is stored yet")
            tail.wait_for("following auditlog")
            wait_until(lambda: b"heard_at" in stored(tmp_path), "the place is stored")
            # Leaving the block is kill -9.
        missed = fill(client, stream_entries(3, user), partitions=PARTITIONS)
    result = run_lykke("tail", user, "--resume", "--count", 3, env=env)
    assert [row["id"] for row in result.rows] == missed


def test_a_channel_without_a_history_is_gone_on_with_by_streams(
    own_redis: RedisServer, sqlite_url: str
) -> None:
    env, user = by_streams(own_redis) | {"DATABASE_URL": sqlite_url}, uuid.uuid4()
    arguments = ("tail", user, "--channel", "notification")
    begin(*arguments, env=env)
    run_lykke("publish", user, "--channel", "notification", "--data", '{"n":1}', env=env)
    result = run_lykke(*arguments, "--resume", "--count", 1, env=env)
    assert result.rows == [{"n": 1}]


def test_what_the_streams_have_lost_meanwhile_is_a_gap(own_redis: RedisServer) -> None:
    env, user = by_streams(own_redis), uuid.uuid4()
    arguments = ("tail", user, "--resume")
    with own_redis.client() as client:
        fill(client, stream_entries(2, user), partitions=PARTITIONS)
        begin(*arguments, env=env)
        client.flushall()
        [kept] = fill(client, stream_entries(1, user), partitions=PARTITIONS)
    result = run_lykke(*arguments, "--count", 1, env=env)
    assert [row["id"] for row in result.rows] == [kept]
    assert "no longer has all that came since it was read: entries may come again" in result.stderr
    assert result.stderr.count("GAP from") == 2  # and again at the end
    again = run_lykke(*arguments, "--timeout", "1s", env=env)
    assert again.rows == [] and "GAP" not in again.stderr
