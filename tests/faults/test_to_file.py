"""`--to-file`: every entry exactly once and only whole lines, however often it is killed."""

import gzip
import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from collections import Counter
from pathlib import Path

import orjson
import pytest

from lykke_cli.cli.exit_codes import ExitCode
from tests.cli_process import LykkeProcess, command, environment, run_lykke
from tests.faults.test_faults import fill
from tests.faults.writer import Writer
from tests.servers import PostgresServer, RedisServer, wait_until

KILLS = 50
ROWS = 21_000
REPLAYED = 4_000  # more than is replayed at RATE before the slowest machine interrupts it
RATE = 200  # a second


@pytest.fixture
def env(postgres_url: str, redis_server: RedisServer) -> dict[str, str]:
    return {"DATABASE_URL": postgres_url, "REDIS_URL": redis_server.url}


def ids_in(*paths: Path) -> Counter[str]:
    """The ids in the files; fails on a line that is not whole."""
    found: Counter[str] = Counter()
    for path in paths:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert data.endswith(b"\n") or not data
        found.update(orjson.loads(line)["id"] for line in data.splitlines())
    return found


def assert_each_once(count: int, *paths: Path) -> None:
    found = ids_in(*paths)
    assert len(found) == found.total() == count


@pytest.mark.long
@pytest.mark.timeout(300)
def test_killed_at_fifty_random_moments(
    postgres_server: PostgresServer,
    postgres_database: str,
    redis_server: RedisServer,
    env: dict[str, str],
    tmp_path: Path,
) -> None:
    target, rng = tmp_path / "audit.ndjson", random.Random(5)
    with Writer(postgres_server, postgres_database, redis_server) as writer:
        fill(writer.url, writer.user, ROWS)
        arguments = ("tail", writer.user, "--since", "40d", "--to-file", target, "-q")
        for _ in range(KILLS):
            size = target.stat().st_size if target.exists() else 0
            process = LykkeProcess(*arguments, env=env)
            with process:
                deadline = time.monotonic() + rng.uniform(0.05, 1)
                while time.monotonic() < deadline:
                    if target.exists() and target.stat().st_size > size:
                        break
                    time.sleep(0.001)
                time.sleep(rng.uniform(0, 0.02))  # leaving the block is kill -9
        writer.wait_for(10)
        writer.stop()
        committed = writer.committed()
        assert len(committed) > 20_000
        with LykkeProcess(*arguments, env=env):
            lines = len(committed)
            wait_until(lambda: target.read_bytes().count(b"\n") >= lines, "the file is complete")
    assert ids_in(target) == committed


def test_a_full_disk_is_a_clear_error_and_the_resume_is_exact(
    postgres_url: str, env: dict[str, str], tmp_path: Path
) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    fill(postgres_url, user, 5_000)
    arguments = ("backfill", user, "--since", "40d", "--to-file", target)
    # A limit on the size of files is a disk that is full, for one process.
    full = subprocess.run(
        ["sh", "-c", 'ulimit -f 600; exec "$@"', "sh", *command(*arguments)],
        env=environment(env),
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert full.returncode == 5, full.stderr
    assert b"run the same command again" in full.stderr
    assert b"Traceback" not in full.stderr
    assert 0 < len(ids_in(target)) < 5_000
    result = run_lykke(*arguments, env=env)
    assert result.status == 0
    assert_each_once(5_000, target)


def test_rotation_and_compression_lose_nothing(
    postgres_url: str, env: dict[str, str], tmp_path: Path
) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit[1].ndjson"
    fill(postgres_url, user, 10_000)
    arguments = ("backfill", user, "--since", "40d", "--to-file", target)
    assert run_lykke(*arguments, "--rotate", "400K", "--compress", env=env).status == 0
    files = sorted(tmp_path.glob("audit?1?.ndjson*"))
    assert len(files) > 3
    assert all(path.suffix == ".gz" for path in files if path != target)
    assert_each_once(10_000, *files)


def test_a_file_put_aside_just_before_the_end_is_found_again(
    postgres_url: str, env: dict[str, str], tmp_path: Path
) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    fill(postgres_url, user, 1_000)
    arguments = ("backfill", user, "--since", "40d", "--to-file", target)
    assert run_lykke(*arguments, env=env).status == 0
    target.rename(tmp_path / "audit.ndjson.20260101T000000Z-001")
    fill(postgres_url, user, 10)
    assert run_lykke(*arguments, env=env).status == 0
    assert len(ids_in(target)) == 10


def test_what_was_there_before_stays_and_a_half_line_is_ended(
    postgres_url: str, env: dict[str, str], tmp_path: Path
) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    target.write_bytes(b'{"not": "ours, and not ended')
    fill(postgres_url, user, 3)
    assert run_lykke("backfill", user, "--since", "40d", "--to-file", target, env=env).status == 0
    first, *rest = target.read_bytes().splitlines()
    assert first == b'{"not": "ours, and not ended'
    assert len(rest) == 3


def test_a_half_line_of_a_killed_run_is_cut_off(
    postgres_url: str, env: dict[str, str], tmp_path: Path
) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    arguments = ("backfill", user, "--since", "40d", "--to-file", target)
    fill(postgres_url, user, 3)
    assert run_lykke(*arguments, env=env).status == 0
    whole = target.read_bytes()
    target.write_bytes(whole + whole.splitlines()[0][:50])
    fill(postgres_url, user, 1)
    assert run_lykke(*arguments, env=env).status == 0
    assert len(ids_in(target)) == 4


def test_a_folder_that_is_not_there_is_a_clear_error(env: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "none" / "audit.ndjson"
    result = run_lykke("tail", uuid.uuid4(), "--to-file", target, env=env)
    assert result.status == 5
    assert str(target) in result.stderr
    assert "No such file" in result.stderr


def test_a_file_beside_that_cannot_be_looked_at_is_a_clear_error(
    env: dict[str, str], tmp_path: Path
) -> None:
    target, loop = tmp_path / "audit.ndjson", tmp_path / "audit.ndjson.1"
    loop.symlink_to(loop)
    result = run_lykke("tail", uuid.uuid4(), "--since", "1h", "--to-file", target, env=env)
    assert result.status == ExitCode.BAD_INPUT
    assert result.stderr == f"lykke: Cannot use {loop}: Too many levels of symbolic links\n"


def test_the_file_follows_the_umask(postgres_url: str, env: dict[str, str], tmp_path: Path) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    fill(postgres_url, user, 1)
    assert run_lykke("backfill", user, "--since", "40d", "--to-file", target, env=env).status == 0
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def lose_state(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "state")


@pytest.mark.parametrize("command", [("backfill",), ("tail", "--idle", "1s")])
def test_with_the_state_folder_lost_nothing_is_written_twice(
    command: tuple[str, ...], postgres_url: str, env: dict[str, str], tmp_path: Path
) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    name, *more = command
    arguments = (name, user, "--since", "40d", "--to-file", target, *more)
    fill(postgres_url, user, 3_000)
    assert run_lykke("backfill", *arguments[1:6], env=env).status == 0
    lose_state(tmp_path)
    fill(postgres_url, user, 5)
    result = run_lykke(*arguments, env=env)
    assert "3,000 entries found there are not written again" in result.stderr
    again = run_lykke(*arguments, env=env)  # by now there is a place that knows them
    assert "found there" not in again.stderr
    assert_each_once(3_005, target)


def test_with_the_state_folder_lost_packed_files_count_too(
    postgres_url: str, env: dict[str, str], tmp_path: Path
) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    options = ("--since", "40d", "--to-file", target, "--rotate", "100K", "--compress")
    fill(postgres_url, user, 3_000)
    assert run_lykke("backfill", user, *options, env=env).status == 0
    lose_state(tmp_path)
    assert run_lykke("backfill", user, *options, env=env).status == 0
    assert_each_once(3_000, *tmp_path.glob("audit.ndjson*"))


def test_a_run_that_compares_and_is_killed_leaves_the_next_to_compare(
    postgres_url: str, env: dict[str, str], tmp_path: Path
) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    arguments = ("tail", user, "--since", "40d", "--to-file", target)
    fill(postgres_url, user, ROWS)
    assert run_lykke("backfill", *arguments[1:], env=env).status == 0
    lose_state(tmp_path)
    fill(postgres_url, user, 500)
    for _ in range(5):
        with LykkeProcess(*arguments, env=env) as tail:
            tail.wait_for("found there are not written again")
    with LykkeProcess(*arguments, env=env):
        wait_until(lambda: target.read_bytes().count(b"\n") >= ROWS + 500, "it is complete")
    assert_each_once(ROWS + 500, target)


def test_a_place_belongs_to_the_database_however_it_is_named(
    postgres_url: str,
    postgres_reader_url: str,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    fill(postgres_url, user, 10)
    for url in (
        postgres_url,
        postgres_url.replace("127.0.0.1", "localhost"),
        postgres_url.replace("postgresql://", "postgresql+asyncpg://"),
        f"{postgres_url}?application_name=x",
        postgres_reader_url,
    ):
        env = {"DATABASE_URL": url, "REDIS_URL": redis_server.url}
        result = run_lykke("backfill", user, "--since", "40d", "--to-file", target, env=env)
        assert result.status == 0, result.stderr
        assert "stored place does not know" not in result.stderr
    assert len(target.read_bytes().splitlines()) == 10


def test_a_second_run_on_one_file_is_refused(env: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "audit.ndjson"
    with LykkeProcess("tail", uuid.uuid4(), "--to-file", target, env=env) as tail:
        tail.wait_for("following")
        link = tmp_path / "link.ndjson"
        link.symlink_to(target)
        for path in (target, link):
            result = run_lykke("tail", uuid.uuid4(), "--to-file", path, env=env)
            assert result.status == ExitCode.USAGE
            assert result.stderr.count("\n") == 1
            assert f"Another lykke is writing to {path}" in result.stderr


@pytest.mark.parametrize("way", ["create", "copytruncate"])
def test_logrotate_loses_and_repeats_nothing(
    way: str,
    postgres_server: PostgresServer,
    postgres_database: str,
    redis_server: RedisServer,
    env: dict[str, str],
    tmp_path: Path,
) -> None:
    target = tmp_path / "audit.ndjson"
    with Writer(postgres_server, postgres_database, redis_server) as writer:
        arguments = ("tail", writer.user, "--since", "40d", "--to-file", target)
        with LykkeProcess(*arguments, env=env) as tail:
            tail.wait_for("following")
            for number in range(5):
                writer.wait_for(20)
                wait_until(lambda: target.stat().st_size, "something is in it")
                aside = target.with_name(f"audit.ndjson.{number}")
                if way == "create":
                    target.rename(aside)
                    target.touch()
                else:
                    shutil.copy(target, aside)
                    writer.wait_for(2)  # written between the copy and the truncation
                    os.truncate(target, 0)
                tail.wait_for("going on in", times=number + 1)
            writer.wait_for(10)
        writer.stop()  # the tail was killed
        committed = writer.committed()
        with LykkeProcess(*arguments, env=env):

            def complete() -> bool:
                lines = [path.read_bytes().count(b"\n") for path in tmp_path.glob("audit.*")]
                return sum(lines) >= len(committed)

            wait_until(complete, "the files are complete")
    assert ids_in(*tmp_path.glob("audit.*")) == committed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_replay_into_a_file_that_is_interrupted_is_gone_on_from(
    number: int, postgres_url: str, env: dict[str, str], tmp_path: Path
) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    fill(postgres_url, user, REPLAYED)
    arguments = ("backfill", user, "--since", "40d", "--replay", "--yes", "--to-file", target)
    with LykkeProcess("tail", user, "--live-only", env=env) as tail:
        tail.wait_for("following")
        for _ in range(3):
            with LykkeProcess(*arguments, "--rate", RATE, env=env) as replay:
                for _ in range(40):
                    tail.row()
                replay.stop(number)
        assert run_lykke(*arguments, env=env).status == 0
        assert_each_once(REPLAYED, target)
        written = set(ids_in(target))
        wait_until(lambda: set(row_ids(tail)) == written, "each is replayed")
    # About what 0.1 s of publishing is, each time.
    assert len(row_ids(tail)) <= REPLAYED + 3 * 0.2 * RATE


def row_ids(tail: LykkeProcess) -> list[str]:
    """Of the lines that are whole by now."""
    *lines, _ = tail.stdout.split(b"\n")
    return [orjson.loads(line)["id"] for line in lines]


def test_a_replay_into_a_file_goes_on_when_redis_is_back(
    postgres_url: str, own_redis: RedisServer, tmp_path: Path
) -> None:
    env = {"DATABASE_URL": postgres_url, "REDIS_URL": own_redis.url}
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    fill(postgres_url, user, REPLAYED)
    arguments = ("backfill", user, "--since", "40d", "--replay", "--yes", "--to-file", target)
    with LykkeProcess(*arguments, "--rate", RATE, env=env) as replay:
        wait_until(lambda: target.exists() and target.stat().st_size, "something is written")
        own_redis.kill()
        cut_off = replay.finish()
    before = ids_in(target)
    assert cut_off.status == ExitCode.UNAVAILABLE
    assert f"cut off: {len(before)} replayed" in cut_off.stderr
    own_redis.start()
    assert run_lykke(*arguments, env=env).status == 0
    assert len(before) < REPLAYED
    assert_each_once(REPLAYED, target)


def test_rotation_and_compression_that_are_killed_lose_nothing(
    postgres_url: str, env: dict[str, str], tmp_path: Path
) -> None:
    user, target, rng = uuid.uuid4(), tmp_path / "audit.ndjson", random.Random(7)
    fill(postgres_url, user, ROWS)
    arguments = ("backfill", user, "--since", "40d", "--to-file", target)
    options = ("--rotate", "150K", "--compress")
    for _ in range(12):
        before = len(list(tmp_path.iterdir()))
        with LykkeProcess(*arguments, *options, env=env) as process:
            wait_until(
                lambda before=before, process=process: (  # type: ignore[misc]
                    len(list(tmp_path.iterdir())) > before or process.process.poll() is not None
                ),
                "it has rotated",
            )
            time.sleep(rng.uniform(0, 0.03))  # leaving the block is kill -9
    assert run_lykke(*arguments, *options, env=env).status == 0
    files = sorted(tmp_path.glob("audit.*"))
    assert [path for path in files if path.suffix != ".gz"] == [target]
    assert_each_once(ROWS, *files)
