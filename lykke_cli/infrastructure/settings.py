"""Where the servers are: flag, then environment, then default."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lykke_cli.application.errors import UsageMistake

DEFAULT_REDIS_URL = "redis://localhost:6379"


@dataclass(frozen=True, slots=True)
class Settings:
    """The URLs hold passwords, so they are never part of the object's text."""

    redis_url: str = field(default=DEFAULT_REDIS_URL, repr=False)
    database_url: str | None = field(default=None, repr=False)

    @classmethod
    def resolve(
        cls,
        environ: Mapping[str, str],
        *,
        redis_url: str | None = None,
        database_url: str | None = None,
    ) -> "Settings":
        return cls(
            redis_url or environ.get("REDIS_URL") or DEFAULT_REDIS_URL,
            database_url or environ.get("DATABASE_URL") or None,
        )

    def required_database_url(self) -> str:
        """The database's URL; raises UsageMistake when there is none."""
        if self.database_url is None:
            raise UsageMistake(
                "This needs the database: set DATABASE_URL or give --database-url "
                "(postgresql://user:password@host/name or sqlite:///file)."
            )
        return self.database_url
