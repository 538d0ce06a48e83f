"""`lykke doctor` against servers that are well, ailing and absent."""

import json
import os
import re
import secrets
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis

from lykke_cli.application.doctor import Verdict, examine
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.postgresql import checks as postgres_checks
from lykke_cli.infrastructure.postgresql.checks import PostgresChecks
from lykke_cli.infrastructure.redis import checks as redis_checks
from lykke_cli.infrastructure.redis.checks import RedisChecks
from tests.builders import INSERT, entity, insert, row
from tests.cli_process import DEADLINE, LykkeProcess, run_lykke
from tests.faults.proxy import Proxy
from tests.servers import READER_PASSWORD, PostgresServer, RedisServer

NOWHERE = "127.0.0.1:1"


class Examined:
    """What a run found, by the ids of the checks."""

    def __init__(self, *arguments: object, env: dict[str, str]) -> None:
        result = run_lykke("doctor", "-o", "json", *arguments, env=env)
        report = json.loads(result.stdout)
        self.exit_code = result.status
        self.said = result.stderr
        self.findings: dict[str, dict[str, Any]] = {f["id"]: f for f in report["checks"]}
        assert len(self.findings) == len(report["checks"])
        assert report["ok"] == (result.status == ExitCode.DONE) == (not self.ids("failed"))
        assert all(f["remedy"] for f in self.findings.values() if f["status"] == "warning")
        assert "s3cret" not in result.stdout.decode() + result.stderr

    def ids(self, status: str) -> set[str]:
        return {id for id, finding in self.findings.items() if finding["status"] == status}

    def text(self, id: str) -> str:
        return f"{self.findings[id]['detail']} {self.findings[id]['remedy']}"


def _send(client: "redis.Redis", *command: str) -> None:
    client.execute_command(*command)  # type: ignore[no-untyped-call]


@contextmanager
def redis_user(server: RedisServer, *rules: str) -> Iterator[str]:
    """The URL of a user with these rights."""
    name = f"user-{secrets.token_hex(4)}"
    with closing(server.client()) as client:
        _send(client, "ACL", "SETUSER", name, "on", ">s3cret", *rules)
        yield f"redis://{name}:s3cret@127.0.0.1:{server.port}"
        _send(client, "ACL", "DELUSER", name)


@contextmanager
def postgres_role(server: PostgresServer, database: str) -> Iterator[str]:
    """The URL of a role without rights on the table."""
    name = f"role_{secrets.token_hex(4)}"
    server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 's3cret'")
    yield server.url(database, name, "s3cret")
    server.execute(f"DROP OWNED BY {name}; DROP ROLE {name}", database)


@pytest.mark.parametrize("database", ["postgres_url", "sqlite_url"])
def test_all_is_well(database: str, env: dict[str, str], request: pytest.FixtureRequest) -> None:
    examined = Examined("--write", env=env | {"DATABASE_URL": request.getfixturevalue(database)})
    assert examined.exit_code == ExitCode.DONE
    assert set(examined.findings) == examined.ids("ok"), examined.findings
    assert re.search(r"committed; live after \d+ ms; in the history", examined.text("end-to-end"))


def test_a_database_that_knows_its_users_is_told_of(
    postgres_url: str, postgres_server: PostgresServer, env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    database = urlsplit(postgres_url).path.strip("/")
    postgres_server.execute(
        f"CREATE TABLE users AS SELECT uuid '{user}' AS id; ALTER TABLE users ADD PRIMARY KEY (id);"
        "ALTER TABLE audit_logs ADD FOREIGN KEY (user_id) REFERENCES users",
        database,
    )
    env = env | {"DATABASE_URL": postgres_url}
    nobody = Examined("--write", env=env)
    assert (nobody.exit_code, nobody.ids("skipped")) == (ExitCode.DONE, {"end-to-end"})
    assert "foreign key" in nobody.text("end-to-end")
    assert "lykke doctor USER_ID --write" in nobody.text("end-to-end")
    for _ in range(2):  # the entry of the first time stays
        assert "end-to-end" in Examined(str(user), "--write", env=env).ids("ok")
    unknown = Examined(str(uuid.uuid4()), "--write", env=env)
    assert unknown.ids("failed") == {"end-to-end"}
    assert "is in the database" in unknown.text("end-to-end")


def test_without_a_database_and_write_that_is_not_examined(env: dict[str, str]) -> None:
    examined = Examined(env=env)
    assert examined.exit_code == ExitCode.DONE
    assert examined.ids("skipped") == {"database.reachable", "end-to-end"}


@pytest.mark.parametrize("scheme", ["redis://u:s3cret@h:port", f"redis://u:s3cret@{NOWHERE}"])
def test_absent_servers_hide_neither_each_other_nor_this_machine(scheme: str) -> None:
    database = f"postgresql://ann:s3cret@{NOWHERE}/app"
    examined = Examined("--write", env={"REDIS_URL": scheme, "DATABASE_URL": database})
    assert examined.exit_code == ExitCode.EXPECTATION
    assert examined.said == f"lykke: 2 of {len(examined.findings)} checks failed.\n"
    assert examined.ids("failed") == {"redis.reachable", "database.reachable"}
    assert examined.ids("ok") == {"state-folder"}
    assert "redis.reachable" in examined.text("redis.login")
    assert "refused" in examined.text("database.reachable")


def test_a_server_that_is_down_is_told_of_last_and_what_needs_it_folded(sqlite_url: str) -> None:
    env = {"REDIS_URL": f"redis://{NOWHERE}", "DATABASE_URL": sqlite_url}
    result = run_lykke("doctor", env=env)
    assert result.status == ExitCode.EXPECTATION
    *_, folded, clocks, written, failure, remedy, count = result.stdout.decode().splitlines()
    assert re.match(r"- 11 checks +for want of what failed: redis\.tls, redis\.login, ", folded)
    assert (clocks[:8], written[:12]) == ("- clocks", "- end-to-end")
    assert failure.startswith("✗ redis.reachable ")
    assert "→ Is it running?" in remedy
    assert count.endswith("1 failed, 13 skipped")
    assert "redis.login" not in result.stdout.decode().replace(folded, "")


def test_metrics_for_monitoring(sqlite_url: str) -> None:
    env = {"REDIS_URL": f"redis://u:s3cret@{NOWHERE}", "DATABASE_URL": sqlite_url}
    result = run_lykke("doctor", "-o", "prometheus", env=env)
    assert result.status == ExitCode.EXPECTATION
    lines = result.stdout.decode().splitlines()
    samples = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    values = {name: float(value) for name, _, value in samples}
    assert len(values) == len(samples)
    assert values['lykke_doctor_check{check="redis.reachable",state="failed"}'] == 1
    assert values['lykke_doctor_check{check="redis.reachable",state="ok"}'] == 0
    assert values['lykke_doctor_checks{state="failed"}'] == 1
    assert values["lykke_doctor_time_seconds"] > 1.7e9
    metrics = {name.partition("{")[0] for name in values}
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == metrics


def test_refused_logins_are_told_from_unreachable_servers(
    redis_server: RedisServer, postgres_server: PostgresServer
) -> None:
    with redis_user(redis_server, "+@all") as url:
        env = {
            "REDIS_URL": url.replace("s3cret", "wrong"),
            "DATABASE_URL": postgres_server.url("postgres", "reader", "s3cret"),
        }
        examined = Examined(env=env)
    assert examined.ids("failed") == {"redis.login", "database.login"}
    assert {"redis.reachable", "database.reachable"} <= examined.ids("ok")
    assert "password" in examined.text("database.login")


def test_a_frozen_redis_does_not_hold_up_the_rest(own_redis: RedisServer, sqlite_url: str) -> None:
    own_redis.freeze()
    env = {"REDIS_URL": own_redis.url, "DATABASE_URL": sqlite_url}
    examined = Examined("--timeout", "2s", env=env)
    assert examined.ids("failed") == {"redis.reachable"}
    assert "did not answer in time" in examined.text("redis.reachable")
    assert "database.right.select" in examined.ids("ok")


def test_a_redis_user_that_may_only_subscribe(redis_server: RedisServer) -> None:
    with redis_user(redis_server, "-@all", "+subscribe", "&auditlog:*") as url:
        examined = Examined(env={"REDIS_URL": url})
        assert Examined("--channel", "other", env={"REDIS_URL": url}).ids("failed") == {
            "redis.right.subscribe"
        }
    assert examined.exit_code == ExitCode.DONE
    assert "redis.right.subscribe" in examined.ids("ok")
    assert examined.ids("warning") == {"redis.right.psubscribe", "redis.right.pubsub"}
    assert {"redis.right.publish", "redis.loop-back", "redis.output-buffer"} <= examined.ids(
        "skipped"
    )
    assert "ACL SETUSER <user> +psubscribe &auditlog:*" in examined.text("redis.right.psubscribe")


@pytest.mark.parametrize("asking", [["+multi"], ["+acl|whoami", "+acl|dryrun"]])
def test_the_right_to_publish_is_known_without_publishing(
    redis_server: RedisServer, asking: list[str]
) -> None:
    for channels, status in (("&auditlog:*", "ok"), ("&other:*", "warning")):
        rules = ["-@all", "+subscribe", "+psubscribe", "+publish", *asking, channels]
        with redis_user(redis_server, *rules) as url, closing(redis_server.client()) as client:
            with client.pubsub() as everything:  # type: ignore[no-untyped-call]
                everything.psubscribe("auditlog:*")
                assert everything.get_message(timeout=5) is not None
                examined = Examined(env={"REDIS_URL": url})
                assert everything.get_message(timeout=0) is None
        assert examined.findings["redis.right.publish"]["status"] == status


def test_a_small_output_buffer_and_a_strange_user_name(own_redis: RedisServer) -> None:
    with closing(own_redis.client()) as client:
        client.config_set("client-output-buffer-limit", "pubsub 1mb 512kb 5")
        _send(client, "ACL", "SETUSER", "a\x1b[31m", "on", ">s3cret", "+@all", "&*")
    url = f"redis://a%1b%5b31m:s3cret@127.0.0.1:{own_redis.port}"
    assert "1 MiB behind" in Examined(env={"REDIS_URL": url}).text("redis.output-buffer")
    with LykkeProcess("doctor", "--color", "never", env={"REDIS_URL": url}, terminal=80) as process:
        shown = process.finish().stdout.decode()
    assert "as user a\\x1b[31m" in shown
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_role_without_rights(
    env: dict[str, str], postgres_server: PostgresServer, postgres_database: str
) -> None:
    with postgres_role(postgres_server, postgres_database) as url:
        examined = Examined(env=env | {"DATABASE_URL": url})
    assert examined.ids("failed") == {"database.right.select"}
    assert "GRANT SELECT ON audit_logs" in examined.text("database.right.select")
    assert "lykke record" in examined.text("database.right.insert")


def test_a_reader_that_has_enough(env: dict[str, str]) -> None:
    with LykkeProcess("doctor", env=env, reading=False) as process:
        process._stdout.close()
        result = process.process.wait(DEADLINE)
    assert (result, process.stderr) == (ExitCode.DONE, "")


def test_a_reader(database_env: dict[str, str]) -> None:
    examined = Examined(env=database_env)
    assert examined.exit_code == ExitCode.DONE
    assert examined.ids("warning") == {"database.right.insert"}


def test_a_missing_table(env: dict[str, str], postgres_server: PostgresServer) -> None:
    examined = Examined(env=env | {"DATABASE_URL": postgres_server.url("template1")})
    assert examined.ids("failed") == {"database.table"}
    assert {"database.columns", "database.right.select"} <= examined.ids("skipped")
    assert "database.open-transactions" not in examined.ids("skipped")


def test_missing_indexes_and_columns(
    env: dict[str, str], postgres_server: PostgresServer, postgres_database: str
) -> None:
    postgres_server.execute(
        "DROP INDEX audit_logs_user_id_occurred_at_idx;"
        "ALTER TABLE audit_logs DROP COLUMN meta, ALTER occurred_at TYPE date,"
        " ADD tenant int NOT NULL",
        postgres_database,
    )
    url = postgres_server.url(postgres_database)
    examined = Examined(env=env | {"DATABASE_URL": url})
    assert "ON audit_logs (user_id, occurred_at)" in examined.text("database.indexes")
    assert "occurred_at is date" in examined.text("database.columns")
    assert "meta is missing" in examined.text("database.columns")
    assert examined.ids("failed") == {"database.columns", "database.right.select"}


def test_what_hinders_recording(
    env: dict[str, str], postgres_server: PostgresServer, postgres_database: str
) -> None:
    postgres_server.execute(
        "ALTER TABLE audit_logs ADD tenant int NOT NULL, ENABLE ROW LEVEL SECURITY",
        postgres_database,
    )
    url = postgres_server.url(postgres_database, "reader", READER_PASSWORD)
    url += "?default_transaction_read_only=on"
    examined = Examined(env=env | {"DATABASE_URL": url})
    assert examined.exit_code == ExitCode.DONE
    assert "tenant" in examined.text("database.columns")
    assert "read-only" in examined.text("database.primary")
    assert "row security" in examined.text("database.right.select")


async def test_transactions_that_stay_open(
    postgres_server: PostgresServer,
    postgres_url: str,
    postgres_reader_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def looked(url: str) -> tuple[Verdict, str]:
        async with PostgresChecks(url, timeout=5) as checks:
            found = {c.id: f async for c, f in examine(checks.checks())}
        finding = found["database.open-transactions"]
        return finding.status, finding.detail

    monkeypatch.setattr(postgres_checks, "LONG_OPEN", 0.0)
    connection = await asyncpg.connect(postgres_url, server_settings={"application_name": "slow"})
    async with connection.transaction():
        await connection.execute(INSERT, *row(entity()))
        status, detail = await looked(postgres_url)
        assert status is Verdict.WARNING
        assert "(slow) has been open" in detail
        await insert(postgres_url, [entity()])  # so that the first is in doubt
        assert (await looked(postgres_reader_url))[0] is Verdict.SKIPPED
    await connection.close()


async def test_messages_that_do_not_come_back(
    redis_server: RedisServer, own_redis: RedisServer
) -> None:
    with Proxy(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with RedisChecks(url, "auditlog", timeout=4) as checks:
            found = {}
            async for check, finding in examine(checks.checks()):
                found[check.id] = finding
                proxy.lead_to(own_redis.port)
    assert found["redis.loop-back"].status is Verdict.FAILED
    assert "another server behind the name" in str(found["redis.loop-back"].remedy)


async def test_a_password_in_clear_text_to_another_host(
    redis_server: RedisServer, postgres_reader_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (redis_checks, postgres_checks):
        monkeypatch.setattr(module, "is_loopback", lambda host: False)
    with redis_user(redis_server, "+@all") as url:
        async with (
            RedisChecks(url, "auditlog", timeout=5) as redis,
            PostgresChecks(postgres_reader_url, timeout=5) as postgres,
        ):
            checks = redis.checks()[:2] + postgres.checks()[:3]
            found = {check.id: finding async for check, finding in examine(checks)}
    assert found["redis.tls"].status is found["database.tls"].status is Verdict.WARNING
    assert "rediss://" in str(found["redis.tls"].remedy)
    assert "sslmode=verify-full" in str(found["database.tls"].remedy)


def test_a_sqlite_file_that_is_missing_or_plain(env: dict[str, str], tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "plain.db"
    url = {"DATABASE_URL": f"sqlite:///{path}"}
    assert "no database file" in Examined(env=env | url).text("database.reachable")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE audit_logs (id, user_id, occurred_at)")
        examined = Examined(env=env | url)
        assert "seq" in examined.text("database.columns")
        assert "(user_id, occurred_at)" in examined.text("database.indexes")
        assert "journal mode delete" in examined.text("database.journal")
        connection.execute("DROP TABLE audit_logs")
        assert Examined(env=env | url).ids("failed") == {"database.table"}
    path.write_bytes(b"no database" * 100)
    assert "not a database" in Examined(env=env | url).text("database.reachable")


def test_a_wrong_clock_is_noticed(env: dict[str, str], postgres_url: str) -> None:
    with LykkeProcess(
        "doctor", env=env | {"DATABASE_URL": postgres_url}, clock_offset=-7000
    ) as process:
        shown = process.finish().stdout.decode()
    told = r"! clocks +Redis is ([\d.]+) s ahead of this machine; PostgreSQL is ([\d.]+) s ahead"
    found = re.search(told, shown)
    assert found is not None, shown
    assert all(6_990 < float(seconds) < 7_010 for seconds in found.groups())


def test_the_state_folder(env: dict[str, str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    cursors = state / "lykke" / "cursors"
    assert "will be made" in Examined(env=env).text("state-folder")
    assert not state.exists()
    cursors.mkdir(0o755, parents=True)
    assert f"chmod 700 {cursors}" in Examined(env=env).text("state-folder")
    os.rmdir(cursors)
    cursors.write_text("")
    assert Examined(env=env).ids("failed") == {"state-folder"}


def test_the_channel_named_is_the_one_examined(env: dict[str, str]) -> None:
    examined = Examined("--channel", f"x{uuid.uuid4().hex}", env=env)
    assert "SUBSCRIBE x" in examined.text("redis.right.subscribe")
