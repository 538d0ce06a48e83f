"""Which servers a command talks to, on which channel, and whether it may change something there."""

import os
import sys
from collections.abc import Collection
from typing import Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments.help_texts import env, server_option
from lykke_cli.cli.arguments.values import parse_channel_type
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.starting import has_begun
from lykke_cli.infrastructure.configuration.settings import DEFAULT_REDIS_URL, Settings

RedisUrl = Annotated[
    str | None,
    server_option(
        "--redis-url",
        metavar="URL",
        help=f"Redis: redis://, rediss://, unix:// or redis+sentinel://. {env('REDIS_URL')} "
        f"[default: {DEFAULT_REDIS_URL}]",
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
    needs: Collection[str] = ("redis_url", "database_url"),
    quiet: bool = False,
) -> Settings:
    """The settings of this process, with what was given as flags; says what is odd about them."""
    resolved = Settings.resolve(
        os.environ, redis_url=redis_url, database_url=database_url, profile=profile, needs=needs
    )
    for notice in () if quiet else resolved.notices:
        sys.stderr.write(f"lykke: {visible(notice)}\n")
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
