"""Where the servers are.

A flag wins, then the profile that --profile names, then REDIS_URL, LYKKE_TRANSPORT and
DATABASE_URL, then the profile that LYKKE_PROFILE or the configuration file names, then the default.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.profiles import (
    CONFIG,
    Profile,
    Profiles,
    ServerUrl,
    has_password,
)
from lykke_cli.infrastructure.configuration.secret import exposures
from lykke_cli.infrastructure.configuration.transport import TRANSPORT, with_transport

DEFAULT_REDIS_URL = "redis://localhost:6379"
VARIABLES = {"redis_url": "REDIS_URL", "database_url": "DATABASE_URL"}
_VARIABLES = VARIABLES | {"transport": TRANSPORT}


class _Source(Enum):
    FLAG, ENVIRONMENT, PROFILE = range(3)


@dataclass(frozen=True, slots=True)
class _Offers:
    """What there is to choose from for one server's URL, or the transport."""

    key: str
    flag: str | None = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    profile: Profile | None
    is_named: bool
    """Whether --profile names the profile."""

    def by_rank(self) -> list[_Source]:
        """Where a URL is, the one that wins first."""
        there = {
            _Source.FLAG: bool(self.flag),
            _Source.ENVIRONMENT: bool(self.environ.get(_VARIABLES[self.key])),
            _Source.PROFILE: self.profile is not None and self.profile.has(self.key),
        }
        rest = [_Source.ENVIRONMENT, _Source.PROFILE]
        ranks = [_Source.FLAG, *(reversed(rest) if self.is_named else rest)]
        return [source for source in ranks if there[source]]

    def read(self, source: _Source) -> ServerUrl:
        """Raises UsageMistake where a profile's cannot be read."""
        server = None
        if source is _Source.FLAG:
            server = ServerUrl(self.flag or "")
        elif source is _Source.ENVIRONMENT:
            server = ServerUrl(self.environ[_VARIABLES[self.key]])
        elif self.profile is not None:
            server = self.profile.url(self.key, self.environ)
        return server or ServerUrl("")

    def name(self, source: _Source) -> str:
        if source is _Source.FLAG:
            return f"--{self.key.replace('_', '-')}"
        if source is _Source.ENVIRONMENT:
            return f"environment {_VARIABLES[self.key]}"
        return f"profile {self.profile.name if self.profile else ''}"

    def differ(self, taken: ServerUrl, other: _Source) -> bool:
        try:
            return self.read(other).url != taken.url
        except UsageMistake:  # it could not even be used
            return True


@dataclass(frozen=True, slots=True)
class Settings:
    """The URLs hold passwords, so they are never part of the object's text."""

    redis_url: str = field(default=DEFAULT_REDIS_URL, repr=False)
    """It names the transport, where that is not the usual one."""
    database_url: str | None = field(default=None, repr=False)
    profile: Profile | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    """For each setting that is not the default: where it came from."""
    notices: tuple[str, ...] = ()
    """What the person should know about where they came from."""

    @classmethod
    def resolve(
        cls,
        environ: Mapping[str, str],
        *,
        redis_url: str | None = None,
        database_url: str | None = None,
        transport: str | None = None,
        profile: str | None = None,
        needs: Collection[str] = ("redis_url", "database_url"),
    ) -> "Settings":
        """The settings in effect; the keyword arguments are what was given as flags.

        `needs` are the URLs that will be used: a secret of another one is not looked for.
        Raises UsageMistake for a profile that is not there or cannot be read, and where the Redis
        URL has another transport than what is to be used.
        """
        chosen = choose_profile(environ, profile)
        flags = {"redis_url": redis_url, "database_url": database_url, "transport": transport}
        urls: dict[str, str] = {}
        sources: dict[str, str] = {}
        beaten: dict[tuple[_Source, _Source], list[str]] = {}
        notices: list[str] = []
        for key in (*needs, "transport") if "redis_url" in needs else needs:
            offers = _Offers(key, flags[key], environ, chosen, profile is not None)
            if not (ranked := offers.by_rank()):
                continue
            taken, *others = ranked
            server = offers.read(taken)
            urls[key], sources[key] = server.url, offers.name(taken)
            if taken is _Source.FLAG and has_password(server.url):
                notices.append(
                    f"the list of processes shows the password in {offers.name(taken)} to others: "
                    f"use {_VARIABLES[key]} or a profile"
                )
            notices += exposures(server.secret_files, "password")
            for other in others:
                # A flag is there to override what is set up: only two flags can be a mistake.
                is_meant = taken is _Source.FLAG and not (
                    other is _Source.PROFILE and offers.is_named
                )
                if not is_meant and offers.differ(server, other):
                    beaten.setdefault((taken, other), []).append(key)
        if chosen is not None:
            notices += [_told(pair, keys, chosen) for pair, keys in beaten.items()]
        return cls(
            with_transport(
                urls.get("redis_url", DEFAULT_REDIS_URL),
                urls.get("transport"),
                sources.get("transport", ""),
            ),
            urls.get("database_url"),
            chosen,
            sources,
            tuple(dict.fromkeys(notices)),
        )

    @classmethod
    def without_profile(
        cls,
        environ: Mapping[str, str],
        *,
        redis_url: str | None,
        database_url: str | None,
        needs_redis: bool,
    ) -> "Settings":
        """What was given, else what the environment says, for a program that is not `lykke`.

        Raises UsageMistake where both contradict each other about a Redis that it needs.
        """
        url = redis_url or environ.get("REDIS_URL") or DEFAULT_REDIS_URL
        transport = environ.get(TRANSPORT) or None if needs_redis else None
        return cls(
            with_transport(url, transport, TRANSPORT),
            database_url or environ.get("DATABASE_URL") or None,
        )

    def required_database_url(self) -> str:
        """The database's URL; raises UsageMistake when there is none."""
        if self.database_url is None:
            raise UsageMistake(
                "This needs the database: set DATABASE_URL, give --database-url or a --profile "
                "that has one (postgresql://user:password@host/name or sqlite:///file)."
            )
        return self.database_url


def _told(pair: tuple[_Source, _Source], keys: list[str], profile: Profile) -> str:
    """Which of two that differ was taken, in a line without any URL."""
    names = {
        _Source.FLAG: "the command line",
        _Source.ENVIRONMENT: "the environment",
        _Source.PROFILE: f"the profile {profile.name}",
    }
    taken, other = (names[source] for source in pair)
    verb = "is" if len(keys) == 1 else "are"
    variables = " and ".join(_VARIABLES[key] for key in keys)
    remedy = f" (--profile {profile.name} takes that)" if pair[0] is _Source.ENVIRONMENT else ""
    return f"{variables} {verb} taken from {taken}, not from {other}{remedy}"


def choose_profile(environ: Mapping[str, str], flag: str | None) -> Profile | None:
    """The profile that a flag, else LYKKE_PROFILE, else the configuration file names."""
    profiles = Profiles.read()
    if environ.get(CONFIG) and not profiles.path.exists():
        raise UsageMistake(f"--config or {CONFIG}: there is no file {profiles.path}.")
    if flag is not None:
        return profiles.get(flag, "--profile")
    if name := environ.get("LYKKE_PROFILE"):
        return profiles.get(name, "LYKKE_PROFILE")
    if profiles.current is not None:
        return profiles.get(profiles.current, "current")
    return None
