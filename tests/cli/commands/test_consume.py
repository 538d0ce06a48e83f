"""`lykke consume`: what it prints, writes and runs, and what it acknowledges when."""

import os
import select
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import redis

from lykke_cli.application.groups import MAX_DELIVERIES
from lykke_cli.cli.exit_codes import ExitCode
from tests.cli_process import LykkeProcess, call_lykke, command, environment, run_lykke
from tests.servers import RedisServer, wait_until
from tests.streams import fill, pending, stream_entries

CONSUME = ("consume", "--group", "g", "--consumer", "c")


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(own_server: RedisServer) -> Iterator[redis.Redis]:
    with own_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def env(own_server: RedisServer) -> dict[str, str]:
    return {"REDIS_URL": own_server.url}


def test_each_entry_is_printed_once_and_acknowledged(
    client: redis.Redis, env: dict[str, str]
) -> None:
    written = fill(client, stream_entries(100))
    result = run_lykke(*CONSUME, "--count", 60, env=env)
    rest = run_lykke(*CONSUME, "--count", 40, env=env)
    assert sorted(row["id"] for row in result.rows + rest.rows) == sorted(written)
    assert "60 taken in" in result.stderr
    assert not list(pending(client, "g"))
    silent = run_lykke(*CONSUME, "--idle", "100ms", env=env)
    assert (silent.status, silent.rows) == (ExitCode.DONE, [])


def test_what_filters_pass_over_is_acknowledged(client: redis.Redis, env: dict[str, str]) -> None:
    entries = stream_entries(20, uuid.uuid4())
    entries[3]["activity_type"] = "MESSAGE_SENT"
    fill(client, entries)
    with LykkeProcess(*CONSUME, "-t", "MESSAGE_*", env=env) as consume:
        consume.line()
        wait_until(lambda: not list(pending(client, "g")), "all are acknowledged")
        result = consume.stop()
    assert [row["id"] for row in result.rows] == [entries[3]["id"]]


def test_a_file_has_each_entry_once_whatever_comes_again(
    client: redis.Redis, env: dict[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "out.ndjson"
    entries = stream_entries(30)
    fill(client, entries + entries[:5])
    for group in ("g", "another"):
        result = run_lykke(
            *("consume", "--group", group, "--to-file", target, "--count", 35), env=env
        )
        assert result.status == ExitCode.DONE
    lines = target.read_bytes().splitlines()
    assert len(lines) == 30
    assert not list(pending(client, "g"))


def test_what_a_closed_pipe_does_not_take_is_not_acknowledged(
    client: redis.Redis, env: dict[str, str]
) -> None:
    fill(client, stream_entries(10))
    reader, writer = os.pipe()
    os.close(reader)
    with LykkeProcess(*CONSUME, env=env, terminal=80, stdout=writer) as consume:
        os.close(writer)
        assert consume.finish().status == ExitCode.DONE
    assert len(list(pending(client, "g"))) == 10
    assert len(run_lykke(*CONSUME, "--count", 10, env=env).rows) == 10


def test_what_is_not_read_yet_is_not_acknowledged(client: redis.Redis, env: dict[str, str]) -> None:
    entries = stream_entries(50, uuid.uuid4())
    for entry in entries:
        entry["meta"] = {"text": "x" * 20_000}
    fill(client, entries)
    with LykkeProcess(*CONSUME, env=env, reading=False) as consume:
        assert select.select([consume.descriptor], [], [], 20)[0]  # it has begun to write
        assert list(pending(client, "g"))
        consume.resume_reading()
        assert len([consume.row() for _ in range(50)]) == 50
        wait_until(lambda: not list(pending(client, "g")), "all are acknowledged")


def test_a_command_reads_each_entry_and_its_success_acknowledges_it(
    client: redis.Redis, env: dict[str, str]
) -> None:
    written = fill(client, stream_entries(8))
    result = run_lykke(*CONSUME, "--exec", "cat", "--count", 8, env=env)
    assert sorted(row["id"] for row in result.rows) == sorted(written)
    assert not list(pending(client, "g"))


def test_a_command_whose_output_nobody_reads_any_more_is_the_end_of_it(
    client: redis.Redis, env: dict[str, str]
) -> None:
    fill(client, stream_entries(1))
    with subprocess.Popen(
        command(*CONSUME, "--exec", "cat"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(env),
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        fill(client, stream_entries(1))
        assert process.wait(20) == ExitCode.DONE
        assert "failed" not in process.stderr.read().decode()
    [left] = pending(client, "g")
    assert left["times_delivered"] == 1


def test_what_a_command_fails_for_comes_again_and_then_is_a_dead_letter(
    client: redis.Redis, env: dict[str, str]
) -> None:
    [entry] = stream_entries(1)
    fill(client, [entry])
    arguments = ("--exec", "sh -c 'exit 7'", "--claim-after", "500ms", "--max-deliveries", "2")
    with LykkeProcess(*CONSUME, *arguments, env=env) as consume:
        consume.wait_for(f"sh failed for the entry {entry['id']} (7): it comes again", times=2)
        consume.wait_for("was given out 2 times and never acknowledged")
        assert consume.stop().status == ExitCode.INTERRUPTED
    assert not list(pending(client, "g"))
    assert len(client.keys("*:dead")) == 1


def test_a_file_gets_what_it_had_no_room_for_again_and_again(
    client: redis.Redis, env: dict[str, str], tmp_path: Path
) -> None:
    written = fill(client, stream_entries(4, uuid.uuid4()))
    [stream] = client.scan_iter("auditlog:{*}", _type="stream")
    client.xgroup_create(stream, "g", "0")
    client.xreadgroup("g", "c", {stream: ">"})
    for _ in range(2 * MAX_DELIVERIES):
        client.xreadgroup("g", "c", {stream: "0"})
    target = tmp_path / "out.ndjson"
    result = run_lykke(*CONSUME, "--to-file", target, "--count", 4, env=env)
    assert result.status == ExitCode.DONE
    assert [orjson.loads(line)["id"] for line in target.read_bytes().splitlines()] == written
    assert not client.keys("*:dead")


def test_ctrl_c_ends_the_command_and_leaves_its_entry_pending(
    client: redis.Redis, env: dict[str, str], tmp_path: Path
) -> None:
    fill(client, stream_entries(1))
    begun = tmp_path / "begun"
    words = f"sh -c 'touch {begun}; exec sleep 600'"
    with LykkeProcess(*CONSUME, "--exec", words, env=env) as consume:
        wait_until(begun.exists, "the command runs")
        assert consume.stop().status == ExitCode.INTERRUPTED
    assert len(list(pending(client, "g"))) == 1


def test_ctrl_c_ends_it_in_order(client: redis.Redis, env: dict[str, str]) -> None:
    fill(client, stream_entries(20))
    with LykkeProcess(*CONSUME, env=env) as consume:
        for _ in range(20):
            consume.row()
        result = consume.stop()
    assert result.status == ExitCode.INTERRUPTED
    assert "20 taken in" in result.stderr
    assert not list(pending(client, "g"))


def test_on_a_terminal_it_is_a_table(client: redis.Redis, env: dict[str, str]) -> None:
    fill(client, stream_entries(3))
    with LykkeProcess(*CONSUME, env=env, terminal=100) as consume:
        consume.wait_for("TASK_COMPLETED", times=3)
        consume.wait_for("member c of the group g: waiting for entries")


def test_without_streams_one_line_says_who_fills_them(
    client: redis.Redis, env: dict[str, str]
) -> None:
    result = run_lykke(*CONSUME, env=env)
    assert result.status == ExitCode.UNAVAILABLE
    assert result.stderr == (
        f"lykke: Redis at {env['REDIS_URL']} has no streams of auditlog. Start `lykke relay`, "
        "which fills them from the database.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "Missing option '--group'"),
        (("--group", ""), "names that are not empty"),
        (("--group", "\udcff"), "are UTF-8"),
        (("--group", "g", "--exec", '"'), "is no command"),
        (("--group", "g", "--exec", ""), "is empty"),
        (("--group", "g", "--exec", "no-such-command"), "Cannot run no-such-command"),
        (("--group", "g", "--exec", "cat", "-o", "csv"), "leave -o"),
        (("--group", "g", "--to-file", "x", "-o", "csv"), "leave -o"),
        (("--group", "g", "--claim-after", "0s"), "is no interval"),
        (("--group", "g", "--claim-after", "1ms"), "at least 0.5 s"),
        (("--group", "g", "--max-deliveries", "0"), "at least 1"),
        (("--group", "g", "--rotate", "1M"), "go with --to-file"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(arguments: tuple[str, ...], complaint: str) -> None:
    result = call_lykke("consume", *arguments)
    assert result.status == ExitCode.USAGE
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1
