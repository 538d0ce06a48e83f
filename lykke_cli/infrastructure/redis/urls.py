"""Redis URLs: which are accepted, what they mean, and how they may be shown.

redis-py is slow to import; it is asked only about the options of a URL that has any, and TLS.
"""

import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import msgspec

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.ports import HIGHEST_PORT, port_of
from lykke_cli.infrastructure.configuration.tls import REDIS_OPTIONS, check_certificates
from lykke_cli.infrastructure.configuration.transport import Transport

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
_SENTINELS, _CLUSTER = "+sentinel", "+cluster"
_SHAPES = {
    _SENTINELS: "write it like redis+sentinel://user:password@host:26379,host:26379/service/0, "
    "or rediss+sentinel://...",
    _CLUSTER: "write it like redis+cluster://user:password@host:6379,host:6379, "
    "or rediss+cluster://...",
}
_SHAPE = "write it like redis://user:password@host:6379/0, rediss://... or unix:///path"
_PORT = f"the port is out of range, it is a number from 1 to {HIGHEST_PORT}"
_TAKEN = {
    *("db", "username", "password", "client_name"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_read_size"),
}
_IGNORED = {  # options other programs set in the same URL, and which are ours to decide
    *("decode_responses", "encoding", "encoding_errors", "protocol", "legacy_responses"),
    *("health_check_interval", "retry_on_timeout", "timeout"),
}
_REQUIREMENTS = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
_TLS_DETAILS = {"ssl_ca_data", "ssl_ciphers", "ssl_min_version"}
_LONGEST_LABEL = 63  # characters between two dots of a host name


Node = tuple[str, int]
"""A host and a port."""


class Sentinels(msgspec.Struct, frozen=True):
    """Who knows where the server is."""

    nodes: Sequence[Node]
    service: str
    """What they call the primary and its replicas."""
    username: str | None
    password: str | None

    def __repr__(self) -> str:
        return f"Sentinels({self.service!r})"

    @property
    def options(self) -> dict[str, Any]:
        """Their own login, as those of an address."""
        return {"username": self.username, "password": self.password}


class Cluster(msgspec.Struct):
    """Servers that pass on to each other what is published."""

    nodes: list[Node]
    """Those of the URL first, then the others that they were found to know."""


class RedisAddress(msgspec.Struct, frozen=True):
    """Where a server is, or who knows it, and how to log in."""

    scheme: str
    display: str
    """The URL without password and options."""
    options: dict[str, Any]
    """What redis-py makes a connection with."""
    max_connections: int | None = None
    """How many connections there may be at once, where the URL says so."""
    among: Sentinels | Cluster | None = None
    """Who is asked where it is: then `options` need not name a host (`topology.py`)."""
    transport: Transport = Transport.PUBSUB

    def __repr__(self) -> str:
        return f"RedisAddress({self.display!r})"

    def pool_options(self) -> dict[str, Any]:
        """What redis-py makes a pool of connections with."""
        checked = {"ssl_check_hostname": self._checks_host_name()} if self._is_secure() else {}
        kind = _connection_class(self.scheme)
        if self.among is None:
            return self.options | {"connection_class": kind} | checked
        from lykke_cli.infrastructure.redis.topology import finding

        return self.options | {"connection_class": finding(kind), "meant": self} | checked

    def tls(self) -> ssl.SSLContext | None:
        """What to secure a connection with, where the URL wants that."""
        if not self._is_secure():
            return None
        return _tls_context(self.options, checks_host_name=self._checks_host_name())

    def _is_secure(self) -> bool:
        return self.scheme == "rediss"

    def _checks_host_name(self) -> bool:
        """redis-py checks it by itself only since version 6."""
        unchecked = self.options.get("ssl_cert_reqs") == "none"
        return not unchecked and bool(self.options.get("ssl_check_hostname", True))


def parse_redis_url(url: str) -> RedisAddress:
    """What the URL means; raises UsageMistake, without the URL, when it means nothing."""
    if kind := topology_of(url):
        return _parse_several(url, f"+{kind}")
    parts, port = _split(url)
    options = _asked_options(url) if parts.query else _plain_options(parts, port)
    if options is None:
        raise _malformed("it has an option with a value that makes no sense")
    transport = options.pop("transport", Transport.PUBSUB)
    if transport not in {*Transport}:
        raise _malformed(f"its transport is one of {', '.join(Transport)}")
    most = options.pop("max_connections", None)
    if most is not None and most < 1:
        raise _malformed("max_connections must be at least 1")
    for name in set(options) - _TAKEN - {"host", "port", "path"}:
        if name in _IGNORED:
            del options[name]
        elif not (parts.scheme == "rediss" and name.startswith("ssl_")):
            raise _malformed(f"it has an option that is not understood, {name[:40]!r}")
    if (port := port_of(str(options.get("port", DEFAULT_PORT)))) is None:
        raise _malformed(_PORT)
    if "port" in options:
        options["port"] = port
    if not all(_is_text(value) for value in options.values() if isinstance(value, str)):
        raise _malformed("it has a character that is in no text")
    if parts.query and not _are_accepted(parts.scheme, options):
        raise _malformed("it has an option that is not understood")
    if parts.scheme == "rediss":
        check_certificates(
            REDIS_OPTIONS,
            authority=options.get("ssl_ca_certs"),
            certificate=options.get("ssl_certfile"),
            key=options.get("ssl_keyfile"),
            password=options.get("ssl_password"),
        )
    display = _display(parts, port, options)
    address = RedisAddress(parts.scheme, display, options, most, transport=Transport(transport))
    if _TLS_DETAILS & set(options):
        try:
            address.tls()
        except (OSError, ValueError, TypeError):
            raise _malformed(
                "it has an option about TLS with a value that makes no sense"
            ) from None
    return address


def topology_of(url: str) -> str | None:
    """`sentinel` or `cluster`, where the URL means one of them."""
    kind = url.partition("://")[0].partition("+")[2]
    return kind if f"+{kind}" in _SHAPES else None


def _parse_several(url: str, mark: str) -> RedisAddress:
    """Each host is read as a server of its own, with what the URL says of the login."""
    scheme, _, rest = url.partition(f"{mark}://")
    place, _, query = rest.partition("?")
    netloc, _, path = place.partition("/")
    user, at, nodes = netloc.rpartition("@")
    service, _, database = path.partition("/") if mark == _SENTINELS else ("", "", path)
    options = dict(parse_qsl(query, keep_blank_values=True))
    if scheme not in ("redis", "rediss") or (mark == _SENTINELS and not service):
        raise _malformed(shape=_SHAPES[mark])
    logins: list[str | None] = [None, None]
    if mark == _SENTINELS:
        logins = [options.pop(f"sentinel_{name}", None) for name in ("username", "password")]
        if not all(_is_text(text) for text in (unquote(service), *filter(None, logins))):
            raise _malformed("it has a character that is in no text", _SHAPES[mark])
    query = f"?{urlencode(options)}" if options else ""
    addresses = [
        parse_redis_url(f"{scheme}://{user}{at}{node}/{database}{query}")
        for node in nodes.split(",")
    ]
    first = addresses[0]
    if mark == _CLUSTER and first.options.get("db"):
        raise _malformed("a cluster has one database, the one with the number 0", _SHAPES[mark])
    usual = SENTINEL_PORT if mark == _SENTINELS else DEFAULT_PORT
    found = [(each.options["host"], each.options.get("port", usual)) for each in addresses]
    hosts = ",".join(map(shown, found))
    name = first.options.get("username")
    return msgspec.structs.replace(
        first,
        display=f"{scheme}{mark}://{f'{name}@' if name else ''}{hosts}{path and '/'}{path}",
        options={key: each for key, each in first.options.items() if key not in ("host", "port")},
        among=Sentinels(found, unquote(service), *logins) if mark == _SENTINELS else Cluster(found),
    )


def display_url(url: str) -> str:
    """The URL without password and options; raises UsageMistake for one that is malformed."""
    return parse_redis_url(url).display


def _plain_options(parts: SplitResult, port: int | None) -> dict[str, Any]:
    """As redis-py reads a URL without options."""
    options: dict[str, Any] = {
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
    }
    if parts.scheme == "unix":
        options["path"] = unquote(parts.path)
    else:
        options |= {"host": unquote(parts.hostname or ""), "port": port}
        database = parts.path.strip("/")
        options["db"] = int(database) if database else None
    return {name: value for name, value in options.items() if value not in (None, "")}


def _asked_options(url: str) -> dict[str, Any] | None:
    from redis.asyncio.connection import parse_url

    try:
        options = dict(parse_url(url))
    except ValueError:
        return None
    options.pop("connection_class", None)
    return options


def _are_accepted(scheme: str, options: dict[str, Any]) -> bool:
    from redis.exceptions import RedisError

    try:
        _connection_class(scheme)(**options)  # connects to nothing yet
    except (TypeError, ValueError, AttributeError, RedisError):
        return False
    return True


def _tls_context(options: Mapping[str, Any], *, checks_host_name: bool) -> ssl.SSLContext:
    """As redis-py makes it, which has no public name for what it makes."""
    context = ssl.create_default_context()
    context.check_hostname = checks_host_name
    context.verify_mode = _REQUIREMENTS[options.get("ssl_cert_reqs") or "required"]
    for flag in options.get("ssl_include_verify_flags", ()):
        context.verify_flags |= flag
    for flag in options.get("ssl_exclude_verify_flags", ()):
        context.verify_flags &= ~flag
    if certificate := options.get("ssl_certfile"):
        context.load_cert_chain(
            certificate, options.get("ssl_keyfile"), options.get("ssl_password")
        )
    authorities = [options.get(f"ssl_ca_{kind}") for kind in ("certs", "path", "data")]
    if any(authorities):
        context.load_verify_locations(*authorities)
    if (lowest := options.get("ssl_min_version")) is not None:
        context.minimum_version = lowest
    if (ciphers := options.get("ssl_ciphers")) is not None:
        context.set_ciphers(ciphers)
    return context


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def is_host(name: str) -> bool:
    """Whether it can be looked up: for one that cannot, Python's socket raises a ValueError."""
    if name.isascii():  # as in most cases, in which the codec need not be loaded
        return all(0 < len(label) <= _LONGEST_LABEL for label in name.removesuffix(".").split("."))
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def _connection_class(scheme: str) -> Any:
    from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

    return {"unix": UnixDomainSocketConnection, "rediss": SSLConnection}.get(scheme, Connection)


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _split(url: str) -> tuple[SplitResult, int | None]:
    # What the standard library says of a bad URL quotes it: nothing of that is kept.
    parts = _parts(url)
    if parts is None:
        raise _malformed()
    rest = parts.path + parts.query + parts.fragment
    if parts.fragment or ("@" in rest and "@" not in parts.netloc and parts.scheme != "unix"):
        raise _malformed("special characters in the password are written as %23 for # and so on")
    given = parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
    port = port_of(given) if given else None
    if given and port is None:
        raise _malformed(_PORT if given.isdigit() else None)
    if parts.scheme == "unix":
        if not parts.path.strip("/") or parts.hostname:
            raise _malformed()
        if ":" in parts.path.rpartition("@")[0]:  # it may be a password, and a path is shown
            raise _malformed("a user stands before the path, and an @ in the path is written %40")
    elif parts.scheme in ("redis", "rediss"):
        database = parts.path.strip("/")
        if not parts.hostname:
            raise _malformed()
        if not is_host(unquote(parts.hostname)):
            raise _malformed("no host can have this name")
        if database and not (database.isascii() and database.isdigit()):
            raise _malformed("what follows the host is the database, a number")
    else:
        raise _malformed()
    return parts, port


def _display(parts: SplitResult, port: int, options: dict[str, Any]) -> str:
    user = f"{parts.username}@" if parts.username else ""
    database = options.get("db")
    if parts.scheme == "unix":
        return f"unix://{user}{parts.path}" + (f"?db={database}" if database else "")
    host = _bracketed(parts.hostname or "")
    shown = "" if database is None else f"/{database}"
    return f"{parts.scheme}://{user}{host}:{port}{shown}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def shown(node: Node) -> str:
    """A host and a port as in a URL."""
    return f"{_bracketed(node[0])}:{node[1]}"


def _malformed(why: str | None = None, shape: str = _SHAPE) -> UsageMistake:
    text = "The Redis URL is malformed"
    return UsageMistake(f"{text}: {shape}." if why is None else f"{text}: {why}; {shape}.")
