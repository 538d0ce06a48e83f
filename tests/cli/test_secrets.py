"""A canary in every place a password may stand, looked for in everything the commands produce."""

import itertools
import os
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lykke_cli.infrastructure.embedded_servers import EmbeddedServers
from tests.cli_process import Result, call_lykke, run_lykke
from tests.servers import PostgresServer, RedisServer, free_port

CANARY = "c4n4ry-p4ssw0rd"
USER = uuid.UUID(int=1)
COMMANDS: dict[str, tuple[object, ...]] = {
    "tail": ("tail", USER, "--timeout", "0.1s"),
    "live": ("tail", USER, "--live-only", "--timeout", "0.1s"),
    "publish": ("publish", USER),
    "record": ("record", USER, "X"),
    "backfill": ("backfill", USER, "--since", "1h"),
    "replay": ("backfill", USER, "--since", "1h", "--replay"),
    "expect": ("expect", USER, "--timeout", "0.1s"),
    "doctor": ("doctor", "-o", "json", "--timeout", "1s"),
    "stats": ("stats", USER),
    "users": ("users",),
    "by address": ("stats", "me@example.com"),
    "profile": ("profile", "show"),
    "profiles": ("profile", "list"),
}
SILENT = ("tail", "live", "expect", "doctor", "profile", "profiles", "publish")
"""May have nothing to complain of, or no time to."""
GIVEN = ("config.toml", "secret", "pgpass", "me.pem")
"""The files that hold it to begin with."""


def everything(
    *arguments: object, env: dict[str, str], home: Path, run: Callable[..., Result] = call_lykke
) -> str:
    """All that a run writes: both streams, and every file but the configuration."""
    result = run(*arguments, env=env)
    files = [path for path in home.rglob("*") if path.is_file() and path.name not in GIVEN]
    kept = [f"{path} {path.read_text('utf-8', 'replace')}" for path in files]
    return "\n".join([result.stdout.decode("utf-8", "replace"), result.stderr, *kept])


@pytest.fixture
def urls(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Servers that take the password, that refuse it, or that are not there."""
    if request.param == "nowhere":
        port = free_port()
        return f"redis://:{CANARY}@127.0.0.1:{port}", f"postgresql://me:{CANARY}@127.0.0.1:{port}/a"
    if request.param == "malformed":
        return f"redis://:{CANARY}@[::1", f"postgresql://me:{CANARY}@h:port/a?sslmode=x"
    redis: RedisServer = request.getfixturevalue("redis_server")
    postgres: PostgresServer = request.getfixturevalue("postgres_server")
    database = postgres.url("postgres", "reader", CANARY)
    return f"redis://me:{CANARY}@127.0.0.1:{redis.port}", database


@pytest.mark.parametrize(
    ("where", "urls"),
    [
        *itertools.product(["environment"], ["nowhere", "malformed", "refused"]),
        *itertools.product(["argument", "profile"], ["malformed", "refused"]),
        ("reference", "refused"),
    ],
    indirect=["urls"],
)
def test_no_password_is_written_anywhere(
    urls: tuple[str, str], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis, database = urls
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    env: dict[str, str] = {}
    flags: tuple[object, ...] = ()
    if where == "environment":
        env = {"REDIS_URL": redis, "DATABASE_URL": database}
    elif where == "argument":
        flags = ("--redis-url", redis, "--database-url", database)
    else:
        (tmp_path / "config/lykke").mkdir(parents=True)
        if where == "reference":
            env = {"CANARY": CANARY}
            redis, database = (url.replace(CANARY, "${CANARY}") for url in (redis, database))
        (tmp_path / "config/lykke/config.toml").write_text(
            f'current = "a"\n[profiles.a]\nredis_url = "{redis}"\ndatabase_url = "{database}"\n'
        )
    ways = [(), ("--debug",)] if where == "environment" else [("--debug",)]  # which tells more
    for (name, arguments), debug in itertools.product(COMMANDS.items(), ways):
        more = () if name.startswith("profile") else flags
        if name in ("publish", "live"):
            more = more[:2]
        if name in ("backfill", "stats", "users", "by address"):
            more = more[2:]
        written = everything(*debug, *arguments, *more, env=env, home=tmp_path)
        assert CANARY not in written, name


def test_a_password_among_the_arguments_is_warned_of(redis_server: RedisServer) -> None:
    url = f"redis://:x@127.0.0.1:{redis_server.port}"
    said = call_lykke("publish", USER, "--redis-url", url).stderr
    assert "the list of processes shows the password in --redis-url to others" in said
    assert "list of processes" not in call_lykke("publish", USER, env={"REDIS_URL": url}).stderr


def options_of(where: str, folder: Path, redis: str, postgres: str) -> dict[str, str]:
    """The environment that leads to both servers with the password in a rarer place."""
    secret = folder / "secret"
    secret.write_text(CANARY)
    secret.chmod(0o600)
    if where == "secret file":
        config = folder / "config/lykke/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(
            f'current = "a"\n[profiles.a]\nredis_url = "redis://me@{redis}"\n'
            f'database_url = "postgresql://me@{postgres}/a"\n'
            f'redis_password_file = "{secret}"\ndatabase_password_file = "{secret}"\n'
        )
        return {}
    if where == "url file":
        config = folder / "config/lykke/config.toml"
        config.parent.mkdir(parents=True)
        secret.write_text(f"postgresql://me:{CANARY}@{postgres}/a")
        config.write_text(f'current = "a"\n[profiles.a]\ndatabase_url_file = "{secret}"\n')
        return {"REDIS_URL": f"redis://:{CANARY}@{redis}"}
    env = {"REDIS_URL": f"redis://{redis}", "DATABASE_URL": f"postgresql://me@{postgres}/a"}
    if where == "PGPASSWORD":
        return env | {"PGPASSWORD": CANARY}
    if where == "pgpass":
        pgpass = folder / "pgpass"
        pgpass.write_text(f"*:*:*:*:{CANARY}\n")
        pgpass.chmod(0o600)
        return env | {"PGPASSFILE": str(pgpass)}
    if where == "option":
        return {name: f"{url}?password={CANARY}" for name, url in env.items()}
    certificate = folder / "me.pem"  # nothing that could be opened with the password
    certificate.write_text(CANARY)
    options = f"sslmode=verify-full&sslcert={certificate}&sslkey={certificate}"
    return {
        "REDIS_URL": f"rediss://{redis}?ssl_certfile={certificate}&ssl_keyfile={certificate}"
        f"&ssl_password={CANARY}",
        "DATABASE_URL": f"postgresql://me@{postgres}/a?{options}&sslpassword={CANARY}",
    }


@pytest.mark.parametrize(
    "where", ["secret file", "url file", "PGPASSWORD", "pgpass", "option", "key's password"]
)
def test_no_password_from_a_rarer_place_is_written_anywhere(
    where: str, redis_server: RedisServer, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    servers = f"127.0.0.1:{redis_server.port}", f"127.0.0.1:{postgres_server.port}"
    env = options_of(where, tmp_path, *servers)
    for name, arguments in COMMANDS.items():
        written = everything("--debug", *arguments, env=env, home=tmp_path)
        assert CANARY not in written, name
        assert written.count("lykke: ") or name in SILENT


def test_a_child_of_the_demonstration_is_told_no_password(
    monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    started: list[str] = []
    popen = subprocess.Popen.__init__

    def noting(self: Any, arguments: Any, *rest: Any, **options: Any) -> None:
        started.append(" ".join(map(str, arguments)))
        popen(self, arguments, *rest, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", noting)
    url = f"redis://:{CANARY}@127.0.0.1:{redis_server.port}"
    with mock.patch.dict(os.environ, {"REDIS_URL": url, "DATABASE_URL": url}), EmbeddedServers():
        pass
    assert any("valkey-server" in command for command in started)
    assert CANARY not in " ".join(started)


def test_a_login_that_works_leaves_no_password_either(
    redis_server: RedisServer,
    postgres_server: PostgresServer,
    postgres_database: str,
    tmp_path: Path,
) -> None:
    """What is stored of a place names the database, and what debugging logs the connection."""
    role = f"canary_{uuid.uuid4().hex}"
    postgres_server.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD '{CANARY}' IN ROLE pg_read_all_data",
        postgres_database,
    )
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", role, "on", f">{CANARY}", "~*", "&*", "+@all")
    env = {
        "REDIS_URL": f"redis://{role}:{CANARY}@127.0.0.1:{redis_server.port}",
        "DATABASE_URL": postgres_server.url(postgres_database, role, CANARY),
    }
    try:
        for name in ("tail", "backfill", "expect", "stats", "users", "doctor", "publish"):
            written = everything("--debug", *COMMANDS[name], env=env, home=tmp_path, run=run_lykke)
            assert CANARY not in written, name
            assert "DEBUG:" in written, name  # the log is among it
        written = everything(
            "backfill", USER, "--to-file", tmp_path / "out", env=env, home=tmp_path
        )
        assert CANARY not in written
        assert '"database":"postgresql:' in written  # the place is among it
    finally:
        postgres_server.execute(f"DROP ROLE {role}")
        with redis_server.client() as client:
            client.execute_command("ACL", "DELUSER", role)
