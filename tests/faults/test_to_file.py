"""`--to-file`: every entry exactly once and only whole lines, however often it is killed."""

import gzip
import os
import random
import subprocess
import time
import uuid
from collections import Counter
from pathlib import Path

import orjson
import pytest

from tests.cli_process import LykkeProcess, command, environment, run_lykke
from tests.faults.test_faults import fill
from tests.faults.writer import Writer
from tests.servers import PostgresServer, RedisServer, wait_until

KILLS = 50
ROWS = 21_000


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
    found = ids_in(target)
    assert len(found) == 5_000
    assert set(found.values()) == {1}


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
    found = ids_in(*files)
    assert len(found) == 10_000
    assert set(found.values()) == {1}


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


def test_the_file_follows_the_umask(postgres_url: str, env: dict[str, str], tmp_path: Path) -> None:
    user, target = uuid.uuid4(), tmp_path / "audit.ndjson"
    fill(postgres_url, user, 1)
    assert run_lykke("backfill", user, "--since", "40d", "--to-file", target, env=env).status == 0
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask
