"""`lykke tail --from` beside a real bridge and real servers, all of which are killed."""

import random
import secrets
from collections import Counter
from pathlib import Path

import orjson
import pytest

from lykke_cli.cli.exit_codes import ExitCode
from tests.cli_process import LykkeProcess, run_lykke
from tests.faults.writer import Writer
from tests.servers import PostgresServer, RedisServer, free_port, wait_until
from tests.serving import TOKEN, TOKENS, Serving

KILLS = 6
LOST = 0.3  # of the broadcasts
ENV = {"LYKKE_TOKEN": TOKEN}
SINCE = ("--since", "40d")


def serving(writer: Writer, redis_server: RedisServer, port: int, **env: str) -> Serving:
    servers = {"DATABASE_URL": writer.url, "REDIS_URL": redis_server.url}
    options = ("--port", port, "--drain", "1s", "--reconcile", "1s")
    return Serving(*options, env=TOKENS | servers | env)


@pytest.mark.long
def test_the_file_has_each_entry_once_though_bridge_and_tail_are_killed(
    postgres_server: PostgresServer,
    postgres_database: str,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    target, port, rng = tmp_path / "audit.ndjson", free_port(), random.Random(5)
    with Writer(postgres_server, postgres_database, redis_server, lose=LOST) as writer:
        url = f"http://127.0.0.1:{port}"
        arguments = ("tail", writer.user, "--from", url, *SINCE, "--to-file", target)
        with serving(writer, redis_server, port) as bridge:
            for number in range(KILLS):
                with LykkeProcess(*arguments, env=ENV) as tail:
                    tail.wait_for("following")
                    writer.wait_for(rng.randint(1, 60))
                    bridge.kill()
                    tail.wait_for("trying again")
                    bridge.start()
                    if number % 2:
                        tail.wait_for("connected again")
                        writer.wait_for(rng.randint(1, 60))
                    # leaving the block is kill -9
            writer.wait_for(10)
            writer.stop()
            committed = writer.committed()
            with LykkeProcess(*arguments, env=ENV) as tail:
                lines = len(committed)
                wait_until(lambda: target.read_bytes().count(b"\n") >= lines, "all is in the file")
                assert bridge.stop().status == 0
                tail.wait_for("is restarted")
                assert tail.stop().status == ExitCode.INTERRUPTED
    assert (
        Counter(orjson.loads(line)["id"] for line in target.read_bytes().splitlines()) == committed
    )


@pytest.mark.long
def test_what_happens_behind_the_bridge_is_told_and_nothing_is_lost(
    postgres_server: PostgresServer, postgres_database: str, redis_server: RedisServer
) -> None:
    with Writer(postgres_server, postgres_database, redis_server, lose=LOST) as writer:
        with serving(writer, redis_server, free_port()) as bridge:
            with LykkeProcess("tail", writer.user, "--from", bridge.url, *SINCE, env=ENV) as tail:
                tail.wait_for("following")
                writer.wait_for(20)
                postgres_server.stop()
                tail.wait_for("cannot read its database")
                postgres_server.start()
                tail.wait_for("database is back")
                writer.wait_for(20)
                redis_server.kill()
                tail.wait_for("has lost Redis")
                writer.wait_for(20)
                writer.stop()  # what is back-dated by days and not broadcast comes with a reconnect
                redis_server.start()
                tail.wait_for("connected again")
                writer.assert_printed_exactly_once(tail)


def test_a_bridge_that_comes_back_with_another_key_is_not_gone_on_from_in_silence(
    postgres_server: PostgresServer, postgres_database: str, redis_server: RedisServer
) -> None:
    port = free_port()
    with Writer(postgres_server, postgres_database, redis_server) as writer:
        arguments = ("tail", writer.user, "--from", f"http://127.0.0.1:{port}")
        with (
            serving(writer, redis_server, port) as bridge,
            LykkeProcess(*arguments, env=ENV) as tail,
        ):
            tail.wait_for("following")
            bridge.kill()
            key = secrets.token_hex(32)
            with serving(writer, redis_server, port, LYKKE_CURSOR_KEY=key):
                result = tail.finish()
                assert result.status == ExitCode.BAD_INPUT
                assert "does not go on from the stored place" in result.stderr.splitlines()[-1]
                result = run_lykke(*arguments, "--resume", env=ENV)
                assert result.status == ExitCode.BAD_INPUT
                assert "--since TIME, in place of --resume" in result.stderr.splitlines()[-1]


def test_filters_and_beginnings_are_understood_by_the_bridge(
    postgres_server: PostgresServer, postgres_database: str, redis_server: RedisServer
) -> None:
    with Writer(postgres_server, postgres_database, redis_server) as writer:
        writer.wait_for(20)
        writer.stop()
        filters = ["-t", "TASK_*", "-x", "X", "--query", "meta.n >= `3`", "--grep", "a b|meta"]
        filters += ["--not-grep", '"n": ?7', "--until", "1h"]
        database = {"DATABASE_URL": writer.url, "REDIS_URL": redis_server.url}
        selected = run_lykke("backfill", writer.user, *SINCE, *filters, env=database).rows
        assert 0 < len(selected) < len(writer.committed())
        with serving(writer, redis_server, free_port()) as bridge:
            read = ("tail", writer.user, "--from", bridge.url, "--no-follow", *SINCE)
            result = run_lykke(*read, *filters, env=ENV)
            assert result.status == 0
            assert result.rows == selected
            assert len(run_lykke(*read, "-n", 5, env=ENV).rows) == 5
            refused = run_lykke(*read, "--grep", "x" * 600, env=ENV)
            assert refused.status == ExitCode.BAD_INPUT
            assert "grep has more than" in refused.stderr.splitlines()[-1]
