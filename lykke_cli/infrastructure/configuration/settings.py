"""Where the servers are: flag, then environment, then profile, then default."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.profiles import (
    Profile,
    Profiles,
    has_password,
    others_may_read,
)

DEFAULT_REDIS_URL = "redis://localhost:6379"
VARIABLES = {"redis_url": "REDIS_URL", "database_url": "DATABASE_URL"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The URLs hold passwords, so they are never part of the object's text."""

    redis_url: str = field(default=DEFAULT_REDIS_URL, repr=False)
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
        profile: str | None = None,
        needs: Collection[str] = ("redis_url", "database_url"),
    ) -> "Settings":
        """The settings in effect; the keyword arguments are what was given as flags.

        `needs` are the URLs that will be used: a secret of another one is not looked for.
        Raises UsageMistake for a profile that is not there or cannot be read.
        """
        chosen = choose_profile(environ, profile)
        flags = {"redis_url": redis_url, "database_url": database_url}
        urls: dict[str, str] = {}
        sources: dict[str, str] = {}
        notices: list[str] = []
        for key in needs:
            variable = VARIABLES[key]
            if flag := flags[key]:
                option = f"--{key.replace('_', '-')}"
                urls[key], sources[key] = flag, option
                if has_password(flag):
                    notices.append(
                        f"the list of processes shows the password in {option} to others: "
                        f"use {variable} or a profile"
                    )
            elif value := environ.get(variable):
                urls[key], sources[key] = value, f"environment {variable}"
                if chosen is not None and chosen.has_url(key):
                    notices.append(
                        f"{variable} of the environment is used, not the {key} of the profile "
                        f"{chosen.name} (unset {variable} to use that)"
                    )
            elif chosen is not None and (server := chosen.url(key, environ)) is not None:
                urls[key], sources[key] = server.url, f"profile {chosen.name}"
                notices += [
                    f"{file} holds a password and others may read it: chmod 600 {file}"
                    for file in server.secret_files
                    if others_may_read(file)
                ]
        return cls(
            urls.get("redis_url", DEFAULT_REDIS_URL),
            urls.get("database_url"),
            chosen,
            sources,
            tuple(dict.fromkeys(notices)),
        )

    def required_database_url(self) -> str:
        """The database's URL; raises UsageMistake when there is none."""
        if self.database_url is None:
            raise UsageMistake(
                "This needs the database: set DATABASE_URL, give --database-url or a --profile "
                "that has one (postgresql://user:password@host/name or sqlite:///file)."
            )
        return self.database_url


def choose_profile(environ: Mapping[str, str], flag: str | None) -> Profile | None:
    """The profile that a flag, else LYKKE_PROFILE, else the configuration file names."""
    profiles = Profiles.read()
    if flag is not None:
        return profiles.get(flag, "--profile")
    if name := environ.get("LYKKE_PROFILE"):
        return profiles.get(name, "LYKKE_PROFILE")
    if profiles.current is not None:
        return profiles.get(profiles.current, "current")
    return None
