"""Redis URLs: which are accepted, what they mean, and how they may be shown."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import RedisError

from lykke_cli.application.errors import UsageMistake

DEFAULT_PORT = 6379
_SHAPE = "write it like redis://user:password@host:6379/0, rediss://... or unix:///path"
_TAKEN = {
    *("db", "username", "password", "client_name"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_read_size"),
}
_IGNORED = {  # options other programs set in the same URL, and which are ours to decide
    *("decode_responses", "encoding", "encoding_errors", "protocol", "legacy_responses"),
    *("health_check_interval", "retry_on_timeout", "max_connections", "timeout"),
}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a server is, and how to log in."""

    display: str
    """The URL without password and options."""
    options: dict[str, Any] = field(repr=False)
    """What redis-py's connection pool is made with."""


def parse_redis_url(url: str) -> RedisAddress:
    """What the URL means; raises UsageMistake, without the URL, when it means nothing."""
    parts, port = _split(url)
    try:
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise _malformed(str(error).rstrip(".")) from None
    for name in set(options) - _TAKEN - {"host", "port", "path", "connection_class"}:
        if name in _IGNORED:
            del options[name]
        elif not (parts.scheme == "rediss" and name.startswith("ssl_")):
            raise _malformed(f"it has an option that is not understood, {name[:40]!r}")
    try:
        made = {name: value for name, value in options.items() if name != "connection_class"}
        options.get("connection_class", Connection)(**made)  # connects to nothing yet
    except (TypeError, ValueError, AttributeError, RedisError):
        raise _malformed("it has an option that is not understood") from None
    return RedisAddress(_display(parts, port, options), options)


def display_url(url: str) -> str:
    """The URL without password and options; raises UsageMistake for one that is malformed."""
    return parse_redis_url(url).display


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _malformed() from None
    rest = parts.path + parts.query + parts.fragment
    if parts.fragment or ("@" in rest and "@" not in parts.netloc and parts.scheme != "unix"):
        raise _malformed("special characters in the password are written as %23 for # and so on")
    if parts.scheme == "unix":
        if not parts.path.strip("/") or parts.hostname:
            raise _malformed()
    elif parts.scheme in ("redis", "rediss"):
        database = parts.path.strip("/")
        if not parts.hostname:
            raise _malformed()
        if database and not (database.isascii() and database.isdigit()):
            raise _malformed("what follows the host is the database, a number")
    else:
        raise _malformed()
    return parts, port


def _display(parts: SplitResult, port: int | None, options: dict[str, Any]) -> str:
    user = f"{parts.username}@" if parts.username else ""
    database = options.get("db")
    if parts.scheme == "unix":
        return f"unix://{user}{parts.path}" + (f"?db={database}" if database else "")
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    shown = "" if database is None else f"/{database}"
    return f"{parts.scheme}://{user}{host}:{port or DEFAULT_PORT}{shown}"


def _malformed(why: str | None = None) -> UsageMistake:
    text = "The Redis URL is malformed"
    return UsageMistake(f"{text}: {_SHAPE}." if why is None else f"{text}: {why}; {_SHAPE}.")
