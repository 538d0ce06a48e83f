"""A canary in every place a password may stand, looked for in everything the commands produce."""

import itertools
import uuid
from pathlib import Path

import pytest

from tests.cli_process import call_lykke
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
    "profile": ("profile", "show"),
    "profiles": ("profile", "list"),
}


def everything(*arguments: object, env: dict[str, str], home: Path) -> str:
    """All that a run writes: both streams, and every file but the configuration."""
    result = call_lykke(*arguments, env=env)
    files = [path for path in home.rglob("*") if path.is_file() and path.name != "config.toml"]
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


@pytest.mark.parametrize("urls", ["nowhere", "malformed", "refused"], indirect=True)
@pytest.mark.parametrize("where", ["environment", "argument", "profile", "reference"])
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
    for (name, arguments), debug in itertools.product(COMMANDS.items(), [(), ("--debug",)]):
        more = () if name.startswith("profile") else flags
        if name in ("publish", "live"):
            more = more[:2]
        if name == "backfill":
            more = more[2:]
        written = everything(*debug, *arguments, *more, env=env, home=tmp_path)
        assert CANARY not in written, name


def test_a_password_among_the_arguments_is_warned_of(redis_server: RedisServer) -> None:
    url = f"redis://:x@127.0.0.1:{redis_server.port}"
    said = call_lykke("publish", USER, "--redis-url", url).stderr
    assert "the list of processes shows the password in --redis-url to others" in said
    assert "list of processes" not in call_lykke("publish", USER, env={"REDIS_URL": url}).stderr
