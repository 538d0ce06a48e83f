"""Database URLs: understood in one place, shown without secrets.

A malformed URL raises UsageMistake, whose text never repeats the URL: a password with an unquoted
`/` or `#` in it can end up in any part.
"""

import getpass
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.ports import HIGHEST_PORT, port_of
from lykke_cli.infrastructure.configuration.tls import POSTGRES_OPTIONS, check_certificates

CONNECT_TIMEOUT = 5.0  # seconds
STATEMENT_TIMEOUT = 60.0  # seconds for one statement, or one fetch of its rows
BUSY_TIMEOUT = 5.0  # seconds to wait for another process's lock on a SQLite file

_POSTGRES = ("postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg")
_SQLITE = ("sqlite", "sqlite+aiosqlite")
_CACHE_SIZES = ("statement_cache_size", "prepared_statement_cache_size")
# Options of libpq and SQLAlchemy that asyncpg would pass on as settings the server does not know.
_DROPPED = {
    *_CACHE_SIZES,
    *("channel_binding", "command_timeout", "connect_timeout", "fallback_application_name"),
    *("gssdelegation", "gssencmode", "hostaddr", "keepalives", "keepalives_count"),
    *("keepalives_idle", "keepalives_interval", "load_balance_hosts", "prepared_statement_name"),
    *("require_auth", "requirepeer", "sslcertmode", "sslcompression", "sslsni"),
    *("tcp_user_timeout", "timeout"),
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:@\s]*)(:[0-9]*)?")


class _Postgres(msgspec.Struct, frozen=True):
    """A PostgreSQL URL, every part decoded except `hosts`, which may be a list."""

    user: str
    password: str
    hosts: str
    database: str
    options: dict[str, str]


def is_sqlite(url: str) -> bool:
    """True for SQLite, False for PostgreSQL; raises UsageMistake for anything else."""
    scheme = url.partition(":")[0].lower()
    if scheme in _SQLITE:
        return True
    if scheme in _POSTGRES:
        return False
    raise UsageMistake(
        "The database URL has a scheme that is not supported: write it like "
        "postgresql://user:password@host:5432/database or sqlite:///path/to/file.db."
    )


def display_url(url: str) -> str:
    """The URL without its password and options: fit to be shown, and the same for the same place.

    Raises UsageMistake for a malformed URL.
    """
    if is_sqlite(url):
        return f"sqlite:///{sqlite_path(url)}"
    parts = _postgres(url)
    user = parts.user or parts.options.get("user", "")
    database = parts.database or parts.options.get("dbname") or parts.options.get("database", "")
    host = parts.hosts
    if host and not re.search(r":[0-9]+$", host):
        host += f":{parts.options.get('port', 5432)}"
    where = [(name, value) for name, value in parts.options.items() if name in ("host", "port")]
    query = "" if host or not where else "?" + urlencode(sorted(where), safe="/,:")
    return f"postgresql://{quote(user, safe='') + '@' if user else ''}{host}/{database}{query}"


def asyncpg_dsn(url: str) -> str:
    """The URL as asyncpg reads it; raises UsageMistake when it is malformed or not PostgreSQL's."""
    if is_sqlite(url):
        raise UsageMistake("The database URL names a SQLite file where PostgreSQL is needed.")
    parts = _postgres(url)
    options = {k: v for k, v in parts.options.items() if k not in _DROPPED}
    if "ssl" in options:  # SQLAlchemy's name for it
        options.setdefault("sslmode", options.pop("ssl"))
    if options.get("sslmode") not in ("disable", "allow", "prefer"):
        check_certificates(
            POSTGRES_OPTIONS,
            authority=options.get("sslrootcert"),
            certificate=options.get("sslcert"),
            key=options.get("sslkey"),
            password=options.get("sslpassword"),
        )
    options.setdefault("application_name", "lykke")
    if not (parts.user or options.get("user") or os.environ.get("PGUSER")):
        _require_own_name()
    login = quote(parts.user, safe="")
    if parts.password:
        login += f":{quote(parts.password, safe='')}"
    query = urlencode(options, quote_via=quote, safe="")
    return (
        f"postgresql://{login + '@' if login else ''}{parts.hosts}"
        f"/{quote(parts.database, safe='')}?{query}"
    )


def sqlite_path(url: str) -> Path:
    """The file of sqlite:///relative or sqlite:////absolute, percent-decoded as SQLAlchemy does.

    Raises UsageMistake for a malformed URL, another scheme, and a database in memory.
    """
    if not is_sqlite(url):
        raise UsageMistake("The database URL names PostgreSQL where a SQLite file is needed.")
    rest = url.partition(":")[2].partition("?")[0]
    path = unquote(rest.removeprefix("///"))
    if (
        not rest.startswith("///")
        or path in ("", ":memory:")
        or path.startswith("file:")
        or not _is_name(path)
    ):
        raise UsageMistake(
            "The database URL must name a SQLite file: sqlite:///relative/file.db or "
            "sqlite:////absolute/file.db."
        )
    return Path(path)


def _is_name(path: str) -> bool:
    """Whether the operating system can have a file of this name."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def server_hosts(url: str) -> list[str]:
    """The hosts, or folders of sockets, of a PostgreSQL URL; none for the default socket."""
    parts = _postgres(url)
    hosts = parts.hosts or parts.options.get("host", "")
    return [_HOST.sub(r"\1", host).strip("[]") for host in hosts.split(",") if host]


def verifies_server(url: str) -> bool:
    """Whether a PostgreSQL URL asks for the server's certificate to be checked."""
    options = _postgres(url).options
    mode = options.get("sslmode", options.get("ssl", ""))
    return mode in ("verify-ca", "verify-full") or (mode == "require" and "sslrootcert" in options)


def engine_arguments(url: str) -> tuple[str, dict[str, Any]]:
    """The URL and connect_args for SQLAlchemy's `create_async_engine`, for PostgreSQL.

    The password and libpq's options (sslmode, sslrootcert, host=/socket, ...) travel in
    connect_args, where neither the engine's text nor an error of SQLAlchemy's can show them.
    Raises UsageMistake.
    """
    options = _postgres(url).options
    arguments: dict[str, Any] = {
        "dsn": asyncpg_dsn(url),
        "timeout": _number(options, "connect_timeout", CONNECT_TIMEOUT),
        "command_timeout": STATEMENT_TIMEOUT,
    }
    for name in _CACHE_SIZES:
        if name in options:
            arguments[name] = int(_number(options, name, 0))
    return "postgresql+asyncpg://", arguments


def _postgres(url: str) -> _Postgres:
    malformed = UsageMistake(
        "The database URL is malformed: write it like "
        "postgresql://user:password@host:5432/database, with special characters in the password "
        "percent-encoded (@ is %40, / is %2F, # is %23)."
    )
    try:
        parts = urlsplit(url)
        options = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
    except ValueError:
        raise malformed from None
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    if (
        not url.isprintable()  # bytes of an environment that are no text, control characters
        or parts.fragment
        or "@" in parts.path
        or not url.partition(":")[2].startswith("//")
        or any(not re.fullmatch(r"[a-z_]+", name) for name in options)
        or not all(_HOST.fullmatch(host) for host in hosts.split(","))
    ):
        raise malformed
    for host in (*hosts.split(","), *options.get("host", "").split(",")):
        name, port = _name_and_port(unquote(host))
        _check_host(name)
        _check_port(port)
    for port in options.get("port", "").split(","):
        _check_port(port)
    return _Postgres(
        user=unquote(user),
        password=unquote(password),
        hosts=hosts,
        database=unquote(parts.path.removeprefix("/")),
        options={name: value for name, value in options.items() if value},
    )


def _check_host(host: str) -> None:
    """Raises UsageMistake for a name that no server can have."""
    try:
        if not host.startswith(("/", "[")):  # the folder of a socket, an IPv6 address
            host.encode("idna")
    except UnicodeError:
        raise UsageMistake(
            "The database URL has a host name that is none: it has 1 to 63 characters between dots."
        ) from None


def _name_and_port(host: str) -> tuple[str, str]:
    found = None if host.startswith("/") else _HOST.fullmatch(host)
    return (host, "") if found is None else (found[1], (found[2] or "").removeprefix(":"))


def _check_port(port: str) -> None:
    """Raises UsageMistake for one that is none; where there is none it is the default."""
    if port and port_of(port) is None:
        raise UsageMistake(
            f"The database URL has a port that is out of range: it is a number from 1 to "
            f"{HIGHEST_PORT}."
        )


def _require_own_name() -> None:
    """Who logs in where the URL does not say; raises UsageMistake where that is nobody."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        raise UsageMistake(
            "The database URL names no user, and the user that this process runs as has no name: "
            "write it like postgresql://user:password@host:5432/database."
        ) from None


def _number(options: dict[str, str], name: str, default: float) -> float:
    try:
        return float(options.get(name, default))
    except ValueError:
        raise UsageMistake(f"The database URL's option {name} must be a number.") from None
