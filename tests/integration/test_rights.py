"""The rights that docs/rights.md says each command needs are enough, and not one is too many."""

import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.redis.stream_layout import PARTITIONS
from tests.builders import entity, insert
from tests.cli_process import LykkeProcess, Result, run_lykke
from tests.servers import PostgresServer, RedisServer, run_apart
from tests.streams import fill, stream_entries

PAGE = (Path(__file__).parents[2] / "docs" / "rights.md").read_text("utf-8")
USERS = {line.split()[2]: line.split() for line in PAGE.splitlines() if "ACL SETUSER lyk" in line}
GRANTS = "\n".join(re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL))
ROLES = re.findall(r"CREATE ROLE (\w+)", GRANTS)
PASSWORD = "change-me"
USER, ENTRY = uuid.uuid4(), uuid.uuid4()


class Rights:
    """Both servers with the page's users and roles, and where they log in."""

    def __init__(self, redis: RedisServer, postgres: PostgresServer, database: str) -> None:
        self._redis = redis
        self._postgres = postgres
        self._database = database

    def env(self, redis_user: str | None, role: str | None = None) -> dict[str, str]:
        """None leads to where no server is."""
        redis_port = self._redis.port if redis_user else 1
        env = {"REDIS_URL": f"redis://{redis_user or 'none'}:{PASSWORD}@127.0.0.1:{redis_port}"}
        if role is not None:
            env["DATABASE_URL"] = self._postgres.url(self._database, role, PASSWORD)
        return env

    def set_user(self, *words: str) -> None:
        with closing(self._redis.client()) as client:
            client.execute_command(*words)  # type: ignore[no-untyped-call]

    def execute(self, sql: str) -> None:
        self._postgres.execute(sql, self._database)


@pytest.fixture
def rights(
    redis_server: RedisServer, postgres_server: PostgresServer, postgres_database: str
) -> Iterator[Rights]:
    rights = Rights(redis_server, postgres_server, postgres_database)
    for words in USERS.values():
        rights.set_user(*words)
    rights.execute(GRANTS)
    run_apart(lambda: insert(postgres_server.url(postgres_database), [entity(USER, id=ENTRY)]))
    yield rights
    for name in USERS:
        rights.set_user("ACL", "DELUSER", name)
    for role in ROLES:
        rights.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_page_has_users_and_roles() -> None:
    names = ("reader", "writer", "doctor", "relay", "consumer")
    assert set(USERS) == {f"lykke-{name}" for name in names}
    assert ROLES == ["lykke_reader", "lykke_writer", "lykke_doctor"]


COMMANDS: dict[str, tuple[list[object], str | None, str | None]] = {
    "tail": (["tail", USER, "--since", "1h", "--count", 1], "lykke-reader", "lykke_reader"),
    "tail --all": (
        ["tail", "--all", "--since", "1h", "--count", 1],
        "lykke-reader",
        "lykke_reader",
    ),
    "backfill": (["backfill", USER, "--since", "1h"], None, "lykke_reader"),
    "replay": (["backfill", USER, "--since", "1h", "--replay"], "lykke-writer", "lykke_reader"),
    "expect": (
        ["expect", USER, "--none", "--timeout", "0.2s"],
        "lykke-reader",
        "lykke_reader",
    ),
    "stats": (["stats", USER], None, "lykke_reader"),
    "users": (["users"], None, "lykke_reader"),
    "show": (["show", ENTRY], None, "lykke_reader"),
    "publish": (["publish", USER], "lykke-writer", None),
    "record": (["record", USER, "X"], "lykke-writer", "lykke_writer"),
    "doctor": (["doctor", "--write"], "lykke-doctor", "lykke_doctor"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_runs_with_just_its_rights(command: str, rights: Rights) -> None:
    arguments, redis_user, role = COMMANDS[command]
    result = run_lykke(*arguments, env=rights.env(redis_user, role))
    assert result.status == ExitCode.DONE, result.stderr
    assert not re.search("NOPERM|permission", result.stderr)  # a failed broadcast is but logged
    if command == "doctor":
        assert result.stdout.splitlines()[-1] == b"26 ok, 0 warnings, 0 failed, 0 skipped"


def test_an_acknowledgment_needs_the_right_to_publish(rights: Rights) -> None:
    rights.set_user("ACL", "SETUSER", "lykke-reader", "+publish")
    arguments = ["tail", USER, "--ack", "--count", 1, "--timeout", "10s"]
    with LykkeProcess(*arguments, env=rights.env("lykke-reader", "lykke_reader")) as process:
        process.wait_for("following")
        env = rights.env("lykke-writer", "lykke_writer")
        assert run_lykke("record", USER, "X", env=env).status == ExitCode.DONE
        result = process.finish()
    assert result.status == ExitCode.DONE
    assert "permit" not in result.stderr


def test_channels_need_the_right_to_ask_for_them(rights: Rights) -> None:
    def run() -> Result:
        return run_lykke("channels", env=rights.env("lykke-reader"))

    assert run().status == ExitCode.UNAVAILABLE
    rights.set_user("ACL", "SETUSER", "lykke-reader", "+pubsub")
    assert run().status == ExitCode.DONE


def test_streams_are_filled_and_consumed_with_just_their_rights(
    rights: Rights, own_redis: RedisServer, postgres_server: PostgresServer, postgres_database: str
) -> None:
    streams = Rights(own_redis, postgres_server, postgres_database)
    for words in USERS.values():
        streams.set_user(*words)
    consumer = streams.env("lykke-consumer")
    with LykkeProcess("relay", env=streams.env("lykke-relay", "lykke_reader")) as relay:
        relay.wait_for("relaying into")
        with LykkeProcess("consume", "--group", "g", "--count", 1, env=consumer) as consume:
            assert consume.row()["id"] == str(ENTRY)
            assert consume.finish().status == ExitCode.DONE
        result = relay.stop()
    assert "permit" not in result.stderr
    assert [group["group"] for group in run_lykke("groups", env=consumer).rows] == ["g"]


def test_streams_are_followed_with_just_their_rights_and_gone_on_with(
    own_redis: RedisServer,
) -> None:
    [rights] = re.findall(r"`tail --transport stream` `~auditlog:\* ([^`]*)`", PAGE)
    env = {
        "REDIS_URL": f"redis://lykke-tail:{PASSWORD}@127.0.0.1:{own_redis.port}",
        "LYKKE_TRANSPORT": "stream",
    }
    with closing(own_redis.client()) as client:
        words = ("on", f">{PASSWORD}", "~auditlog:*", "-@all", *rights.split())
        client.execute_command("ACL", "SETUSER", "lykke-tail", *words)  # type: ignore[no-untyped-call]
        first = run_lykke("tail", USER, "--resume", "--timeout", "1s", env=env)
        assert first.status == ExitCode.DONE, first.stderr
        missed = fill(client, stream_entries(2, USER), partitions=PARTITIONS)
    result = run_lykke("tail", USER, "--resume", "--count", 2, env=env)
    assert result.status == ExitCode.DONE, result.stderr
    assert [row["id"] for row in result.rows] == missed


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("tail", "-subscribe"),
        ("tail --all", "-psubscribe"),
        ("publish", "-publish"),
        ("replay", "-publish"),
        ("expect", "-subscribe"),
        ("stats", "REVOKE SELECT ON audit_logs FROM lykke_reader"),
        ("show", "REVOKE SELECT ON audit_logs FROM lykke_reader"),
        ("users", "REVOKE SELECT ON audit_logs FROM lykke_reader"),
        ("backfill", "REVOKE SELECT ON audit_logs FROM lykke_reader"),
        ("record", "REVOKE INSERT ON audit_logs FROM lykke_writer"),
    ],
)
def test_no_right_is_too_many(command: str, missing: str, rights: Rights) -> None:
    arguments, redis_user, role = COMMANDS[command]
    if missing.startswith("-"):
        rights.set_user("ACL", "SETUSER", str(redis_user), missing)
    else:
        rights.execute(missing)
    result = run_lykke(*arguments, env=rights.env(redis_user, role))
    assert result.status == ExitCode.UNAVAILABLE
    assert "does not permit" in result.stderr


def test_without_a_right_more_doctor_can_say_less(rights: Rights) -> None:
    for right in (word for word in USERS["lykke-doctor"] if word.startswith("+")):
        if right == "+ping":  # not needed: its refusal is an answer, too
            continue
        rights.set_user("ACL", "SETUSER", "lykke-doctor", f"-{right[1:]}")
        shown = run_lykke("doctor", env=rights.env("lykke-doctor")).stdout.decode()
        assert re.search(r"^(!|-|✗) +redis|clocks", shown, re.MULTILINE), right
        rights.set_user(*USERS["lykke-doctor"])
