"""Database URLs: what is accepted, what each driver wants, and what may be shown."""

from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from lykke_cli.application.errors import UsageMistake

_POSTGRES = ("postgresql", "postgres", "postgresql+asyncpg")
_SQLITE = ("sqlite", "sqlite+aiosqlite")


def is_sqlite(url: str) -> bool:
    """True for SQLite, False for PostgreSQL; raises UsageMistake for anything else."""
    return _split(url).scheme in _SQLITE


def display_url(url: str) -> str:
    """The URL without password and query."""
    parts = _split(url)
    if parts.scheme in _SQLITE:
        return f"sqlite:///{sqlite_path(url)}"
    user = f"{parts.username}@" if parts.username else ""
    host = parts.hostname or dict(parse_qsl(parts.query)).get("host", "localhost")
    host = f"[{host}]" if ":" in host else host
    return f"postgresql://{user}{host}:{parts.port or 5432}{parts.path}"


def sqlite_path(url: str) -> Path:
    """The file of a SQLite URL: sqlite:///relative or sqlite:////absolute."""
    parts = _split(url)
    path = unquote(url.split("://", 1)[1].split("?", 1)[0])
    if parts.scheme not in _SQLITE or not path.startswith("/") or path == "/":
        raise UsageMistake("The SQLite URL names no file: write it like sqlite:////folder/file.db.")
    return Path(path[1:])


def asyncpg_dsn(url: str) -> str:
    """The URL as asyncpg takes it (libpq's parameters included)."""
    parts = _split(url)
    if parts.scheme not in _POSTGRES:
        raise UsageMistake(f"{display_url(url)} is not a PostgreSQL URL.")
    return urlunsplit(parts._replace(scheme="postgresql"))


def async_sqlalchemy_url(url: str) -> str:
    """The URL as SQLAlchemy takes it, with the asynchronous driver."""
    parts = _split(url)
    if parts.scheme in _SQLITE:
        return f"sqlite+aiosqlite:///{quote(str(sqlite_path(url)))}"
    query = [("ssl" if key == "sslmode" else key, value) for key, value in parse_qsl(parts.query)]
    scheme = "postgresql+asyncpg"
    return urlunsplit(parts._replace(scheme=scheme, query=urlencode(query)))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError when it is not a number
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in _POSTGRES + _SQLITE:
        raise UsageMistake(
            "The database URL is malformed: write it like "
            "postgresql://user:password@host:5432/name or sqlite:////folder/file.db."
        )
    return parts
