"""Which transport is in effect, and what is told where two places name different ones."""

import pytest

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.profiles import config_path
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.configuration.transport import TRANSPORT
from lykke_cli.infrastructure.redis.urls import parse_redis_url

PROFILES = (
    '[profiles.shards]\ntransport = "sharded"\nredis_url = "redis://a"\n'
    '[profiles.plain]\ntransport = "pubsub"\nredis_url = "redis://a"\n'
)


@pytest.fixture(autouse=True)
def profiles() -> None:
    path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text(PROFILES)


@pytest.mark.parametrize(
    ("flag", "named", "environment", "current", "expected", "source"),
    [
        (None, None, None, None, "pubsub", None),
        (None, None, None, "shards", "sharded", "profile shards"),
        (None, None, "pubsub", "shards", "pubsub", "environment LYKKE_TRANSPORT"),
        (None, None, "sharded", None, "sharded", "environment LYKKE_TRANSPORT"),
        (None, "shards", "pubsub", "plain", "sharded", "profile shards"),
        ("pubsub", "shards", "sharded", None, "pubsub", "--transport"),
        ("sharded", "plain", None, "plain", "sharded", "--transport"),
    ],
)
def test_flag_then_named_profile_then_environment_then_profile_then_default(
    flag: str | None,
    named: str | None,
    environment: str | None,
    current: str | None,
    expected: str,
    source: str | None,
) -> None:
    given = {TRANSPORT: environment, "LYKKE_PROFILE": current}
    environ = {name: value for name, value in given.items() if value is not None}
    settings = Settings.resolve(environ, transport=flag, profile=named)
    assert parse_redis_url(settings.redis_url).transport == expected
    assert settings.sources.get("transport") == source


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://user:s%3Fcret@h:7000/1?max_connections=3",
        "rediss+cluster://h,i?ssl_cert_reqs=none",
        "redis+sentinel://h/service/0?sentinel_password=s3cret",
        "unix:///run/redis?db=2",
    ],
)
def test_it_is_the_parameter_of_the_url(url: str) -> None:
    plain = Settings.resolve({"REDIS_URL": url})
    sharded = Settings.resolve({"REDIS_URL": url, TRANSPORT: "sharded"})
    before, after = parse_redis_url(plain.redis_url), parse_redis_url(sharded.redis_url)
    assert (before.transport, after.transport) == ("pubsub", "sharded")
    assert (before.display, before.options) == (after.display, after.options)


def test_the_url_alone_may_name_it() -> None:
    for environ in ({}, {TRANSPORT: "sharded"}):
        settings = Settings.resolve(environ, redis_url="redis://h?transport=sharded")
        assert settings.redis_url == "redis://h?transport=sharded"


@pytest.mark.parametrize(
    ("given", "source"),
    [({"transport": "sharded"}, "--transport"), ({"profile": "shards"}, "profile shards")],
)
def test_two_that_differ_are_a_mistake(given: dict[str, str], source: str) -> None:
    url = "redis://:s3cret@h?transport=pubsub"
    with pytest.raises(UsageMistake, match=f"transport=pubsub, and {source} says sharded") as told:
        Settings.resolve({}, redis_url=url, **given)
    assert "s3cret" not in str(told.value)


def test_one_that_there_is_not_is_a_mistake() -> None:
    with pytest.raises(UsageMistake, match="LYKKE_TRANSPORT: the transport is one of pubsub"):
        Settings.resolve({TRANSPORT: "\x1b[31m"})


def test_a_program_of_ones_own_heeds_the_environment_where_it_needs_redis() -> None:
    environ = {"REDIS_URL": "redis://h?transport=pubsub", TRANSPORT: "sharded"}
    given = Settings.without_profile(
        environ, redis_url="redis://i", database_url=None, needs_redis=True
    )
    assert given.redis_url == "redis://i?transport=sharded"
    with pytest.raises(UsageMistake, match="LYKKE_TRANSPORT says sharded"):
        Settings.without_profile(environ, redis_url=None, database_url=None, needs_redis=True)
    Settings.without_profile(environ, redis_url=None, database_url=None, needs_redis=False)
