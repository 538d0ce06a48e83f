"""`lykke publish`: test messages, acknowledgments, and JSON of one's own."""

import signal
import subprocess
import uuid
from pathlib import Path

import orjson
import pytest

from tests.cli_process import LykkeProcess, command, environment, run_lykke
from tests.servers import RedisServer, wait_until

BIG = b'{"n":123456789012345678901234567890,"x":1.10}'


def test_a_test_message_tells_its_subscribers(env: dict[str, str]) -> None:
    user = uuid.uuid4()
    result = run_lykke("publish", user, env=env)
    assert (result.status, result.stdout) == (0, f"auditlog:{user}: 0 subscribers\n".encode())
    with LykkeProcess("tail", user, "--count", 1, env=env) as tail:
        tail.wait_for("following")
        assert b": 1 subscriber\n" in run_lykke("publish", user, env=env).stdout
        assert tail.row()["type"] == "test"


def test_a_stream_does_not_tell_who_reads_it(env: dict[str, str]) -> None:
    user = uuid.uuid4()
    publish = ("publish", user, "--transport", "stream")
    result = run_lykke(*publish, env=env)
    assert (result.status, result.stdout) == (
        0,
        f"auditlog:{user}: 1 message in its stream\n".encode(),
    )
    told = orjson.loads(run_lykke(*publish, "--count", 2, "-o", "json", env=env).stdout)
    assert told == {"channel": f"auditlog:{user}", "messages": 2, "subscribers": None}
    result = run_lykke(*publish, "--require-subscribers", 1, env=env)
    assert (result.status, result.stdout) == (2, b"")
    assert "Nobody knows who reads a stream" in result.stderr


def test_data_arrives_to_the_digit(env: dict[str, str]) -> None:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, "-o", "raw", env=env) as tail:
        tail.wait_for("following")
        run_lykke("publish", user, "--data", BIG.decode(), env=env)
        assert tail.line() == BIG + b"\n"


def test_load_has_numbers_and_ids_of_its_own(env: dict[str, str]) -> None:
    user = uuid.uuid4()
    data = '{"n": {n}, "a": "{uuid}", "b": "{uuid}", "c": {"n": 1}}'
    with LykkeProcess("tail", user, "-o", "raw", env=env) as tail:
        tail.wait_for("following")
        words = ("--count", 3, "--rate", 1000, "-o", "json", "--data", data)
        result = run_lykke("publish", user, *words, env=env)
        rows = [orjson.loads(tail.line()) for _ in range(3)]
    assert result.rows[0]["messages"] == 3
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert len({uuid.UUID(row[key]) for row in rows for key in "ab"}) == 6
    assert all(row["c"] == {"n": 1} for row in rows)


def test_a_test_message_may_be_repeated_but_not_a_file(env: dict[str, str]) -> None:
    user = uuid.uuid4()
    assert b": 3 messages, each to" in run_lykke("publish", user, "--count", 3, env=env).stdout
    mistaken = run_lykke("publish", user, "--count", 3, "--file", "x", env=env)
    assert (mistaken.status, "--count goes with --data" in mistaken.stderr) == (2, True)


def test_an_acknowledgment_names_its_entry(env: dict[str, str]) -> None:
    user, event = uuid.uuid4(), uuid.uuid4()
    with LykkeProcess("tail", user, env=env) as tail:
        tail.wait_for("following")
        assert run_lykke("publish", user, "--ack", event, env=env).status == 0
        row = tail.row()
    assert (row["type"], row["event_id"]) == ("acknowledgment", str(event))
    assert row["received_at"].endswith("Z")


@pytest.mark.parametrize("how", ["-", "--file=-", "file"])
def test_ndjson_from_stdin_or_a_file(env: dict[str, str], tmp_path: Path, how: str) -> None:
    user, lines = uuid.uuid4(), b'{"n":1}\n\n{"n":2}\n'
    (tmp_path / "lines").write_bytes(lines)
    where = f"--file={tmp_path / 'lines'}" if how == "file" else how
    with LykkeProcess("tail", user, "--channel", "notification", env=env) as tail:
        tail.wait_for("following")
        result = run_lykke(
            "publish", user, where, "--channel", "notification", "-o", "json", env=env, input=lines
        )
        assert [tail.row(), tail.row()] == [{"n": 1}, {"n": 2}]
    assert orjson.loads(result.stdout) == {
        "channel": f"notification:{user}",
        "messages": 2,
        "subscribers": 1,
    }


def test_too_few_subscribers_is_exit_code_4(env: dict[str, str]) -> None:
    result = run_lykke("publish", uuid.uuid4(), "--require-subscribers", 1, env=env)
    assert result.status == 4
    assert "1 subscriber was required, 0 got it" in result.stderr


@pytest.mark.parametrize("data", ["{", "[1]", '{"a":NaN}', "nonsense"])
def test_bad_json_is_one_line_and_exit_code_5(env: dict[str, str], data: str) -> None:
    result = run_lykke("publish", uuid.uuid4(), "--data", data, env=env)
    assert result.status == 5
    assert len(result.stderr.splitlines()) == 1
    assert "--data, line 1: not" in result.stderr
    assert "Nothing was published." in result.stderr


def test_a_bad_line_says_what_was_published(env: dict[str, str]) -> None:
    result = run_lykke("publish", uuid.uuid4(), "-", env=env, input=b'{"n":1}\n{"n":\n{"n":3}\n')
    assert result.status == 5
    assert "stdin, line 2: not JSON" in result.stderr
    assert "Only the 1 message before it went out." in result.stderr


def test_an_unreadable_file_is_exit_code_5(env: dict[str, str], tmp_path: Path) -> None:
    result = run_lykke("publish", uuid.uuid4(), "--file", tmp_path / "none", env=env)
    assert result.status == 5
    assert "Cannot read" in result.stderr and "No such file" in result.stderr


def test_one_source_at_a_time(env: dict[str, str]) -> None:
    result = run_lykke("publish", uuid.uuid4(), "-", "--data", "{}", env=env)
    assert result.status == 2


def test_wrong_password_for_redis(redis_server: RedisServer) -> None:
    url = f"redis://:s3cret@127.0.0.1:{redis_server.port}"
    result = run_lykke("publish", uuid.uuid4(), "--redis-url", url)
    assert result.status == 3
    assert "s3cret" not in result.stderr
    assert f"redis://127.0.0.1:{redis_server.port}" in result.stderr


def catches(pid: int, number: int) -> bool:
    mask = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (b'{"n":1}\n{"n":2}\n{"n":', "the 2 messages before it went out"),
        (b"", "Nothing was published"),
    ],
)
def test_ctrl_c_tells_what_went_out(
    redis_server: RedisServer, env: dict[str, str], lines: bytes, said: str
) -> None:
    user = uuid.uuid4()
    with (
        redis_server.client() as client,
        client.pubsub(ignore_subscribe_messages=False) as pubsub,
        subprocess.Popen(
            command("publish", user, "-"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
        ) as process,
    ):
        pubsub.subscribe(f"auditlog:{user}")
        assert pubsub.get_message(timeout=10)
        assert process.stdin is not None
        process.stdin.write(lines)
        process.stdin.flush()
        if lines:
            for _ in range(2):
                assert pubsub.get_message(timeout=10)
        else:
            wait_until(lambda: catches(process.pid, signal.SIGTERM), "its handlers")
        process.send_signal(signal.SIGINT)
        process.wait(20)
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, b"")
    text = stderr.decode()
    assert "stdin was not read to its end" in text
    assert said in text or "1 went out for sure, and perhaps the one after" in text


@pytest.mark.parametrize("transport", ["pubsub", "stream"])
def test_a_server_that_goes_away_is_no_secret_of_what_went_out(
    own_redis: RedisServer, transport: str
) -> None:
    user, channel = uuid.uuid4(), "t"
    with (
        own_redis.client() as client,
        client.monitor() as monitor,
        subprocess.Popen(
            command("publish", user, "-", "--channel", channel, "--transport", transport),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment({"REDIS_URL": own_redis.url}),
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(b'{"n":1}\n{"n":2}\n')
        process.stdin.flush()
        word = {"pubsub": "PUBLISH", "stream": "XADD"}[transport]
        for _ in range(2):  # the second goes out when the first was answered
            while not monitor.next_command()["command"].startswith(word):
                pass
        own_redis.kill()
        _, stderr = process.communicate(b'{"n":3}\n', 20)
    assert process.returncode == 3
    assert "went out for sure" in stderr.decode()
