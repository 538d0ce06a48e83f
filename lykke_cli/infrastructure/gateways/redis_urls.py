"""Redis URLs: which are accepted, what they mean, and how they may be shown."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import RedisError

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.tls import REDIS_OPTIONS, check_certificates

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
    options = _options(url)
    if options is None:
        raise _malformed("it has an option with a value that makes no sense")
    for name in set(options) - _TAKEN - {"host", "port", "path", "connection_class"}:
        if name in _IGNORED:
            del options[name]
        elif not (parts.scheme == "rediss" and name.startswith("ssl_")):
            raise _malformed(f"it has an option that is not understood, {name[:40]!r}")
    if not _are_accepted(options):
        raise _malformed("it has an option that is not understood")
    if parts.scheme == "rediss":
        check_certificates(
            REDIS_OPTIONS,
            authority=options.get("ssl_ca_certs"),
            certificate=options.get("ssl_certfile"),
            key=options.get("ssl_keyfile"),
            password=options.get("ssl_password"),
        )
    return RedisAddress(_display(parts, port, options), options)


def display_url(url: str) -> str:
    """The URL without password and options; raises UsageMistake for one that is malformed."""
    return parse_redis_url(url).display


def _options(url: str) -> dict[str, Any] | None:
    try:
        return dict(parse_url(url))
    except ValueError:
        return None


def _are_accepted(options: dict[str, Any]) -> bool:
    arguments = {name: value for name, value in options.items() if name != "connection_class"}
    try:
        options.get("connection_class", Connection)(**arguments)  # connects to nothing yet
    except (TypeError, ValueError, AttributeError, RedisError):
        return False
    return True


def _parts(url: str) -> tuple[SplitResult, int | None] | None:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        return None


def _split(url: str) -> tuple[SplitResult, int | None]:
    # What the standard library says of a bad URL quotes it: nothing of that is kept.
    found = _parts(url)
    if found is None:
        raise _malformed()
    parts, port = found
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
