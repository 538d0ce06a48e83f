"""Which servers a command talks to, on which channel, and whether it may change something there."""

import os
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments.help_texts import env, reliability_option, server_option
from lykke_cli.cli.arguments.values import parse_channel_type
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.standard_streams import say
from lykke_cli.cli.starting import has_begun
from lykke_cli.infrastructure.configuration.settings import (
    DEFAULT_REDIS_URL,
    VARIABLES,
    Settings,
    choose_profile,
)
from lykke_cli.infrastructure.configuration.transport import TRANSPORT, Transport

if TYPE_CHECKING:
    from lykke_cli.infrastructure.configuration.bridge import BridgeSettings

RedisUrl = Annotated[
    str | None,
    server_option(
        "--redis-url",
        metavar="URL",
        help="Redis: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://. "
        f"{env('REDIS_URL')} [default: {DEFAULT_REDIS_URL}]",
    ),
]
TransportOption = Annotated[
    Transport | None,
    server_option(
        "--transport",
        metavar="HOW",
        help=f"How messages travel by Redis, as ?transport= in its URL. {env(TRANSPORT)}",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    server_option(
        "--database-url",
        metavar="URL",
        help=f"The database: postgresql:// or sqlite:///. {env('DATABASE_URL')}",
    ),
]
BridgeUrl = Annotated[
    str | None,
    server_option(
        "--from",
        metavar="URL",
        help="A bridge (lykke serve) to follow through, in place of Redis and the database: "
        f"https:// or wss://. Its token: {env('LYKKE_TOKEN')}",
    ),
]
ProfileName = Annotated[
    str | None,
    server_option(
        "--profile",
        "-p",
        metavar="NAME",
        help="Servers and defaults under this name, before those of the environment; "
        f"see lykke profile. {env('LYKKE_PROFILE')}",
    ),
]
Yes = Annotated[
    bool, server_option("--yes", "-y", help="Do not ask, though the profile is protected.")
]
RECONCILE, HEALTH_INTERVAL = "30s", "10s"
Reconcile = Annotated[
    str,
    reliability_option(
        "--reconcile",
        metavar="DURATION",
        help="How often to look in the database for lost broadcasts.",
        show_default=True,
    ),
]
HealthInterval = Annotated[
    str,
    reliability_option(
        "--health-interval",
        metavar="DURATION",
        help="Silence after which Redis is asked for a sign of life; given up after as much.",
        show_default=True,
    ),
]
Channel = Annotated[
    str,
    server_option(
        "--channel",
        metavar="TYPE",
        parser=parse_channel_type,
        help="The channel's type: auditlog, notification, domain-events.",
        show_default=True,
    ),
]
Channels = Annotated[
    list[str] | None,
    server_option(
        "--channel",
        metavar="TYPE",
        parser=parse_channel_type,
        help="The channel's type, auditlog unless given; repeat it for several.",
    ),
]


def settings(
    redis_url: str | None,
    database_url: str | None,
    profile: str | None = None,
    *,
    transport: Transport | None = None,
    needs: Collection[str] = ("redis_url", "database_url"),
    quiet: bool = False,
) -> Settings:
    """The settings of this process, with what was given as flags; says what is odd about them."""
    resolved = Settings.resolve(
        os.environ,
        redis_url=redis_url,
        database_url=database_url,
        transport=transport,
        profile=profile,
        needs=needs,
    )
    say(*() if quiet else resolved.notices)
    return resolved


def bridge(
    url: str | None, profile_name: str | None, *, has_servers: bool, quiet: bool
) -> "BridgeSettings | None":
    """The bridge to follow through; None where the servers themselves are asked.

    It is `url`, else the profile's, unless that or a flag (`has_servers`) names servers. Raises
    UsageMistake.
    """
    profile = choose_profile(os.environ, profile_name)
    if url is None:
        if profile is None or has_servers or not profile.has("bridge_url"):
            return None
        is_set = profile_name is None and any(os.environ.get(name) for name in VARIABLES.values())
        if is_set or any(profile.has(key) for key in VARIABLES):
            return None
    from lykke_cli.infrastructure.configuration.bridge import BridgeSettings

    resolved = BridgeSettings.resolve(os.environ, profile, url)
    say(*() if quiet else resolved.notices)
    return resolved


def may_ask() -> bool:
    """Whether there is somebody at a terminal to answer."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str) -> str:
    """What the person at the terminal answers."""
    has_begun()
    sys.stderr.write(f"lykke: {visible(question)} ")
    sys.stderr.flush()
    try:
        return sys.stdin.readline().strip()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise


def confirm(settings: Settings, action: str, *, yes: bool) -> None:
    """Ask the person before `action`, where the profile is protected.

    Raises UsageMistake when there is no one to ask, or when the answer is no.
    """
    profile = settings.profile
    if profile is None or not profile.protected or yes:
        return
    if not may_ask():
        raise UsageMistake(f"The profile {profile.name} is protected: give --yes to {action}.")
    answer = ask(f"the profile {profile.name} is protected: {action}? [{profile.name}, or y]")
    if answer.lower() not in ("y", "yes", profile.name.lower()):
        raise UsageMistake("Not confirmed: nothing was done.")
