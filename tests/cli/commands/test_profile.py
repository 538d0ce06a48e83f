"""Profiles: which value wins, what is protected, and that no password is ever shown."""

import os
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.cli.output.terminal import ColorChoice, Output
from lykke_cli.infrastructure.configuration.profiles import CHOICES, config_path
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.configuration.transport import Transport
from tests.cli_process import LykkeProcess, Result, call_lykke, run_lykke
from tests.servers import RedisServer

USER = uuid.UUID(int=7)
NOWHERE = "redis://127.0.0.1:1"


@pytest.fixture
def config() -> Path:
    """The configuration file, not yet written."""
    path = config_path()
    path.parent.mkdir(parents=True)
    return path


def write(config: Path, text: str) -> None:
    config.write_text(text)
    config.chmod(0o600)


def shown(*arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    result = call_lykke("profile", "show", *arguments, "--json", env=env)
    assert result.status == 0, result.stderr
    value: dict[str, Any] = orjson.loads(result.stdout)
    return value


def assert_mistake(result: Result, *parts: str) -> None:
    assert result.status == ExitCode.USAGE, result.stderr
    assert len(result.stderr.splitlines()) == 1
    for part in parts:
        assert part in result.stderr
    assert "s3cret" not in result.stderr


def test_the_default_is_the_last_resort() -> None:
    assert "redis://localhost:6379" in str(shown()["redis_url"])


FLAG = ("--redis-url", "redis://flag")
NAMED = ("--profile", "a")
CHOSEN = {"LYKKE_PROFILE": "a"}
ENVIRONMENT = {"REDIS_URL": "redis://:s3cret@environment"}
OF_PROFILE = "REDIS_URL is taken from the profile a, not from the environment"
OF_ENVIRONMENT = (
    "REDIS_URL is taken from the environment, not from the profile a (--profile a takes that)"
)
OF_FLAG = "REDIS_URL is taken from the command line, not from the profile a"


@pytest.mark.parametrize(
    ("arguments", "env", "source", "notice"),
    [
        ((), {}, "default", None),
        ((), CHOSEN, "profile a", None),
        ((), ENVIRONMENT, "environment REDIS_URL", None),
        ((), ENVIRONMENT | CHOSEN, "environment REDIS_URL", OF_ENVIRONMENT),
        ((), {"REDIS_URL": "redis://:s3cret@a"} | CHOSEN, "environment REDIS_URL", None),
        (NAMED, ENVIRONMENT, "profile a", OF_PROFILE),
        (NAMED, ENVIRONMENT | {"LYKKE_PROFILE": "b"}, "profile a", OF_PROFILE),
        (NAMED, {"REDIS_URL": "redis://:s3cret@a"}, "profile a", None),
        (("--profile", "empty"), ENVIRONMENT, "environment REDIS_URL", None),
        (FLAG, ENVIRONMENT | CHOSEN, "--redis-url", None),
        ((*FLAG, *NAMED), ENVIRONMENT, "--redis-url", OF_FLAG),
    ],
)
def test_flag_then_named_profile_then_environment_then_profile_then_default(
    config: Path,
    arguments: tuple[str, ...],
    env: dict[str, str],
    source: str,
    notice: str | None,
) -> None:
    write(
        config,
        '[profiles.a]\nredis_url = "redis://:s3cret@a"\n'
        '[profiles.b]\nredis_url = "redis://b"\n[profiles.empty]\n',
    )
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    flag, name = given.get("--redis-url"), given.get("--profile")
    settings = Settings.resolve(env, redis_url=flag, profile=name, needs=["redis_url"])
    assert settings.sources.get("redis_url", "default") == source
    assert settings.notices == (() if notice is None else (notice,))
    if flag is None:
        result = call_lykke("profile", "show", *filter(None, [name]), "--json", env=env)
        assert orjson.loads(result.stdout)["redis_url"]["source"] == source
        assert result.stderr == ("" if notice is None else f"lykke: {notice}\n")


def test_the_named_profile_is_what_is_published_to(config: Path, redis_server: RedisServer) -> None:
    write(
        config,
        f'[profiles.a]\nredis_url = "{redis_server.url}"\n'
        f'[profiles.b]\nredis_url = "{redis_server.url}"\ndatabase_url = "sqlite:////x"\n',
    )
    publish, env = ("publish", USER, "--profile", "a"), {"REDIS_URL": NOWHERE}
    named = run_lykke(*publish, env=env)
    assert (named.status, named.stderr) == (0, f"lykke: {OF_PROFILE}\n")
    assert run_lykke(*publish, "-q", env=env).stderr == ""
    current = run_lykke("publish", USER, env=env | {"LYKKE_PROFILE": "a"})
    assert current.status == ExitCode.UNAVAILABLE
    assert f"lykke: {OF_ENVIRONMENT}\n" in current.stderr


def test_two_that_differ_are_told_in_one_line(config: Path) -> None:
    write(config, '[profiles.a]\nredis_url = "redis://a"\ndatabase_url = "${NOT_SET}"\n')
    env = {"REDIS_URL": "redis://b", "DATABASE_URL": "sqlite:////b", "LYKKE_PROFILE": "a"}
    [notice] = Settings.resolve(env).notices
    assert notice.startswith("REDIS_URL and DATABASE_URL are taken from the environment, not")


def test_show_tells_where_each_value_comes_from(config: Path) -> None:
    write(
        config,
        'current = "a"\n[profiles.a]\nredis_url = "redis://:s3cret@a/1"\nutc = true\n'
        '[profiles.b]\nredis_url = "redis://b"\n',
    )
    settings = shown(env={"DATABASE_URL": "postgresql://me:s3cret@h/d"})
    assert settings["profile"] == "a"
    assert settings["redis_url"] == {"value": "redis://a:6379/1", "source": "profile a"}
    assert settings["database_url"]["source"] == "environment DATABASE_URL"
    assert settings["utc"] == {"value": True, "source": "profile a"}
    assert settings["output"] == {"value": None, "source": "default"}
    assert shown("b")["redis_url"]["value"] == "redis://b:6379"
    for command in (["list"], ["show"], ["show", "a"]):
        result = call_lykke("profile", *command)
        assert b"a:6379/1" in result.stdout
        assert "s3cret" not in result.stdout.decode() + result.stderr


def test_the_defaults_of_output_apply_unless_a_flag_is_given(config: Path, sqlite_url: str) -> None:
    write(config, f'current = "a"\n[profiles.a]\ndatabase_url = "{sqlite_url}"\noutput = "csv"\n')
    assert run_lykke("backfill", USER, "--since", "1h").stdout.startswith(b"id,user_id")
    assert run_lykke("backfill", USER, "--since", "1h", "-o", "json").stdout.startswith(b"[")


def test_a_secret_comes_from_the_environment_or_a_file(config: Path) -> None:
    (config.parent / "password").write_text("a/b@s3cret\n")
    (config.parent / "password").chmod(0o600)
    write(
        config,
        '[profiles.a]\nredis_url = "redis://me:${REDIS_PASSWORD}@h"\n'
        'database_url = "postgresql://me@h/d"\ndatabase_password_file = "password"\n'
        '[profiles.b]\nredis_url_file = "password"\n',
    )
    settings = shown("a", env={"REDIS_PASSWORD": "x@y/z"})
    assert settings["redis_url"]["value"] == "redis://me@h:6379"
    assert settings["database_url"]["value"] == "postgresql://me@h:5432/d"
    assert_mistake(
        call_lykke("publish", USER, "--profile", "a"), f"{config}, line 2", "REDIS_PASSWORD"
    )
    assert_mistake(call_lykke("publish", USER, "--profile", "b"), "Redis URL is malformed")


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("password", None, "cannot read"),
        ("password", b" \n", "is empty"),
        ("password", b"\xffs3cret", "is not text"),
        ("password", b"s3cret" * 20_000, "has more than 64 KiB"),
        ("pass\\u0000word", None, "is not text"),
    ],
)
def test_a_file_that_holds_no_secret_is_told_of(
    config: Path, file: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (config.parent / file).write_bytes(content)
    write(config, f'[profiles.a]\nredis_url = "redis://h"\nredis_password_file = "{file}"\n')
    result = call_lykke("publish", USER, "--profile", "a")
    assert_mistake(result, f"{config}, line 3", reason)


def test_a_secret_of_a_server_that_is_not_used_is_not_needed(
    config: Path, redis_server: RedisServer
) -> None:
    write(
        config,
        f'[profiles.a]\nredis_url = "{redis_server.url}"\ndatabase_url = "${{NOT_SET}}"\n',
    )
    assert run_lykke("publish", USER, "--profile", "a").status == 0
    assert_mistake(call_lykke("record", USER, "X", "--profile", "a"), "NOT_SET", "line 3")


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_secrets_that_others_may_read_are_warned_of(
    config: Path, redis_server: RedisServer
) -> None:
    secret = config.parent / "url"
    secret.write_text(redis_server.url)
    secret.chmod(0o640)
    write(config, '[profiles.a]\nredis_url_file = "url"\n[profiles.b]\nredis_url = "redis://h"\n')
    warned = run_lykke("publish", USER, "--profile", "a")
    assert warned.stderr == (
        f"lykke: {secret} holds a password and others may read it: chmod 600 {secret}\n"
    )
    assert run_lykke("publish", USER, "--profile", "a", "-q").stderr == ""
    secret.chmod(0o600)
    config.chmod(0o644)  # there is no password in it
    assert run_lykke("publish", USER, "--profile", "a").stderr == ""
    config.write_text('[profiles.a]\nredis_url = "redis://:s3cret@127.0.0.1:1"\n')
    warned = run_lykke("publish", USER, "--profile", "a")
    assert f"chmod 600 {config}" in warned.stderr
    assert "s3cret" not in warned.stderr


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[profiles.a]\nredis_url = s3cret", ("line 2", "TOML")),
        ("[profiles.a]\n\nredis_ulr = 's3cret'", ("line 3", "redis_ulr", "'redis_url'")),
        ("[profiles.a]\n[profiles.b]\nredis_ulr = 's3cret'", ("line 3", "'redis_url'")),
        ("profile = 's3cret'", ("line 1", "'profiles'")),
        ("[profiles.a]\nutc = 's3cret'", ("line 2", "true or false")),
        ("[profiles.a]\noutput = 's3cret'", ("line 2", "ndjson")),
        ("[profiles.a]\nredis_url = 6379", ("line 2", "quotes")),
        ("[profiles.a]\nredis_password_file = 'x'", ("line 2", "needs redis_url")),
        ("[profiles.'a b']", ("line 1", "'a b'")),
        ("profiles = 3", ("line 1", "[profiles.NAME]")),
        ("[profiles.a]\nredis_url = 'x'\nredis_url_file = 'y'", ("line 2", "redis_url_file")),
        ("current = 'gone'\n[profiles.gine]", ("current", "'gone'", "'gine'")),
        ("\x00", ("line 1", "TOML")),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(
    config: Path, text: str, parts: tuple[str, ...]
) -> None:
    write(config, text)
    assert_mistake(call_lykke("publish", USER), str(config), *parts)


def test_a_profile_that_is_not_there(config: Path) -> None:
    assert_mistake(call_lykke("publish", USER, "--profile", "a"), "lykke profile add a")
    write(config, "[profiles.staging]\n")
    assert_mistake(call_lykke("publish", USER, "--profile", "stagin"), "'staging'", str(config))
    result = call_lykke("publish", USER, env={"LYKKE_PROFILE": "x"})
    assert_mistake(result, "LYKKE_PROFILE", "staging")


def test_add_use_and_remove_keep_what_a_person_wrote(config: Path) -> None:
    original = "# mine\n[profiles.a]  # the first\nredis_url = 'redis://a'\n"
    config.with_name("real.toml").write_text(original)
    config.symlink_to("real.toml")
    arguments = ["profile", "add", "b", "--redis-url", "redis://:s3cret@b", "--protected"]
    assert call_lykke(*arguments, "--use").status == 0
    assert_mistake(call_lykke(*arguments), "--replace")
    assert shown()["profile"] == "b"
    text = config.read_text()
    assert "# mine\n" in text
    assert "[profiles.a]  # the first\nredis_url = 'redis://a'\n" in text
    assert config.is_symlink()
    assert config.stat().st_mode & 0o777 == 0o600
    assert call_lykke("profile", "use", "a").status == 0
    assert shown()["profile"] == "a"
    assert call_lykke("profile", "use", "--none").status == 0
    assert shown()["profile"] is None
    assert call_lykke("profile", "remove", "b").status == 0
    assert config.read_text().replace("\n\n", "\n").strip() == original.strip()
    assert [file.name for file in config.parent.iterdir() if file.name[0] == "."] == []


def test_what_is_not_given_anew_stays(config: Path) -> None:
    tail = "[profiles.a.tail]\nsince = '15m'\n"
    write(config, f"[profiles.a]\nredis_url = 'redis://a'\nprotected = true\n\n{tail}")
    change = ("profile", "add", "a", "--redis-url", "redis://b")
    assert_mistake(call_lykke(*change), "--replace")
    assert call_lykke(*change, "--replace", "--use").status == 0
    settings = shown()
    assert settings["redis_url"]["value"] == "redis://b:6379"
    assert settings["protected"]["value"] is True
    assert settings["tail.since"]["value"] == "15m"
    assert tail in config.read_text()


def test_the_secrets_of_another_server_do_not_stay(config: Path) -> None:
    (config.parent / "password").write_text("s3cret")
    write(config, "[profiles.a]\nredis_url_file = 'url'\nredis_password_file = 'password'\n")
    change = ("profile", "add", "a", "--redis-url", "redis://b", "--replace", "--use")
    assert call_lykke(*change).status == 0
    assert shown()["redis_url"]["value"] == "redis://b:6379"
    assert "_file" not in config.read_text()


def test_a_bridge_is_shown_and_the_token_of_another_one_does_not_stay(config: Path) -> None:
    write(config, "[profiles.a]\nbridge_url = 'https://a'\nbridge_token = 's3cret'\n")
    change = ("profile", "add", "a", "--bridge-url", "https://b.example/x/", "--replace", "--use")
    assert call_lykke(*change).status == 0
    assert shown()["bridge_url"] == {"value": "https://b.example/x", "source": "profile a"}
    assert b"https://b.example/x" in call_lykke("profile", "list").stdout
    assert "s3cret" not in config.read_text()


def test_the_transport_is_shown_with_where_it_came_from(config: Path) -> None:
    assert shown()["transport"] == {"value": "pubsub", "source": "default"}
    add = ("profile", "add", "a", "--redis-url", "redis://h", "--transport", "sharded")
    assert call_lykke(*add).status == 0
    assert shown("a")["transport"] == {"value": "sharded", "source": "profile a"}
    of_url = {"REDIS_URL": "redis://h?transport=sharded"}
    assert shown(env=of_url)["transport"]["source"] == "environment REDIS_URL"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["add", "a b"], "'a b'"),
        (["add", "a", "--bridge-url", "http://h?token=s3cret"], "no secret stands in it"),
        (["add", "a", "--redis-url", "http://:s3cret@h"], "redis://"),
        (["add", "a", "--database-url", "mysql://me:s3cret@h/d"], "postgresql://"),
        (["remove", "a"], "no profile 'a'"),
        (["use", "a"], "no profile 'a'"),
        (["use"], "--none"),
    ],
)
def test_what_cannot_be_done_leaves_no_file(arguments: list[str], part: str) -> None:
    assert_mistake(call_lykke("profile", *arguments), part)
    assert not config_path().exists()


@pytest.mark.parametrize(
    "command",
    [
        ["publish", USER],
        ["record", USER, "X"],
        ["backfill", USER, "--since", "1h", "--replay"],
        ["tail", USER, "--ack", "--timeout", "10ms"],
    ],
)
def test_a_protected_profile_is_not_written_to_without_consent(
    config: Path, redis_server: RedisServer, sqlite_url: str, command: list[object]
) -> None:
    write(
        config,
        f'[profiles.Prod]\nprotected = true\nredis_url = "{redis_server.url}"\n'
        f'database_url = "{sqlite_url}"\n',
    )
    command = [*command, "--profile", "Prod"]
    assert_mistake(run_lykke(*command), "Prod is protected", "--yes")
    assert run_lykke(*command, "--yes").status == 0
    with LykkeProcess(*command, terminal=200) as process:
        process.wait_for("Prod, or y")
        process.type("no\n")
        assert process.finish().status == ExitCode.USAGE
        assert b"nothing was done" in process.stdout
    with LykkeProcess(*command, terminal=200) as process:
        process.wait_for("Prod, or y")
        process.type("Prod\n")
        assert process.finish().status == 0


def test_an_interrupt_instead_of_consent_does_nothing(
    config: Path, redis_server: RedisServer
) -> None:
    write(config, f'[profiles.a]\nprotected = true\nredis_url = "{redis_server.url}"\n')
    with LykkeProcess("publish", USER, "--profile", "a", terminal=80) as process:
        process.wait_for("a, or y")
        assert process.stop().status == ExitCode.INTERRUPTED
        assert b"subscriber" not in process.stdout


def test_reading_a_protected_profile_needs_no_consent(config: Path, sqlite_url: str) -> None:
    write(config, f'[profiles.a]\nprotected = true\ndatabase_url = "{sqlite_url}"\n')
    assert run_lykke("backfill", USER, "--since", "1h", "--profile", "a").status == 0


def test_the_choices_are_those_of_the_options() -> None:
    assert CHOICES == {
        "output": tuple(Output),
        "color": tuple(ColorChoice),
        "transport": tuple(Transport),
    }
