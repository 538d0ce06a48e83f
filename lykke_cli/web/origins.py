"""Which pages may ask: the headers Host and Origin of a request are checked, on loopback too.

A page of any site can make its reader's browser ask `localhost`, or ask a name of its own that it
lets point at 127.0.0.1 in between (DNS rebinding). The browser tells in Host which name was asked,
in Origin which page asks; neither can be changed by the page. X-Forwarded-Host and the like are not
read: anybody can send them. Behind a proxy uvicorn's `proxy_headers` gives the right scheme.
"""

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Self

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.tls import is_loopback
from lykke_cli.web.grant import Forbidden

PREFLIGHT_AGE = 600  # seconds for which a browser need not ask again
# What a page embeds, as a script or a picture, is asked for without Origin: it is not shown then.
_ALWAYS = {
    "Vary": "Origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ALLOWED_HEADERS = "Authorization, Last-Event-ID"
_PORTS = {"http": 80, "https": 443}
_SCHEMES = {"ws": "http", "wss": "https"}
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::([0-9]{1,5}))?")


class Place(NamedTuple):
    """A host and its port; None where none is said."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of `name`, `name:port`, an address likewise; raises ValueError."""
        match = _PLACE.fullmatch(text)
        if match is None:
            raise ValueError(text)
        port = None if match[2] is None else int(match[2])
        if port is not None and not 0 < port < 1 << 16:
            raise ValueError(text)
        return cls(_plain(match[1]), port)


class Origin(NamedTuple):
    """Where a page came from."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of `https://name` or `https://name:port`; raises ValueError."""
        scheme, separator, rest = text.partition("://")
        scheme = scheme.lower()
        if not separator or scheme not in _PORTS:
            raise ValueError(text)
        place = Place.parse(rest)
        return cls(scheme, place.host, place.port or _PORTS[scheme])


class Origins:
    """Checks the headers Host and Origin; answers what a page of another origin asks first (CORS).

    `origins` are those of other sites' pages that may ask, such as `https://app.example.com`.
    `hosts` are the names that this server has, with a port where only that one is right; None
    stands for the names and addresses of this machine alone, with the port that is served. Raises
    UsageMistake for one that is malformed.
    """

    def __init__(self, origins: Collection[str] = (), hosts: Collection[str] | None = None) -> None:
        try:
            self._origins = frozenset(Origin.parse(origin) for origin in origins)
        except ValueError as error:
            raise UsageMistake(
                f"{str(error)!r} is not an origin: write it as https://app.example.com, without a "
                "path; '*' is not possible."
            ) from None
        try:
            self._hosts = None if hosts is None else frozenset(Place.parse(host) for host in hosts)
        except ValueError as error:
            raise UsageMistake(
                f"{str(error)!r} is not a host: write its name as browsers send it, "
                "audit.example.com or audit.example.com:8443."
            ) from None

    def check(self, scope: Mapping[str, Any]) -> None:
        """Raises Forbidden where the request is not for this server, or of a page that may not."""
        place = self._host(scope)
        origin = _header(scope, b"origin")
        if origin is None or self._is_own(scope, place, origin) or self._is_allowed(origin):
            return
        raise Forbidden(
            "Pages of this Origin may not ask here, unless the server was started with it "
            "(--origin, origins)."
        )

    def answer_headers(self, scope: Mapping[str, Any]) -> dict[str, str]:
        """What an HTTP answer, a refusal too, needs so that a browser shows it to the page."""
        headers = dict(_ALWAYS)
        if self._is_allowed(origin := _first(scope, b"origin")):
            headers["Access-Control-Allow-Origin"] = origin
        return headers

    def preflight_headers(self, scope: Mapping[str, Any]) -> dict[str, str] | None:
        """The headers of the answer, with status 204, to a browser that asks whether it may ask.

        None where the request is none of those. To be called after `check`.
        """
        if scope["type"] != "http" or scope["method"] != "OPTIONS":
            return None
        if not _first(scope, b"access-control-request-method"):
            return None
        return self.answer_headers(scope) | {
            "Access-Control-Allow-Methods": "GET",
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_AGE),
        }

    def _host(self, scope: Mapping[str, Any]) -> Place:
        text = _header(scope, b"host")
        if text is None:
            raise Forbidden("The request has no Host header.")
        try:
            place = Place.parse(text)
        except ValueError:
            raise Forbidden("The request's Host header is malformed.") from None
        if not self._is_served(scope, place):
            raise Forbidden(
                "The server does not answer to this Host, unless it was started with that name "
                "(--hostname, hosts)."
            )
        return place

    def _is_served(self, scope: Mapping[str, Any], place: Place) -> bool:
        port = place.port or _PORTS[_scheme(scope)]
        if self._hosts is not None:
            return not self._hosts.isdisjoint({Place(place.host, None), Place(place.host, port)})
        address, served_port = scope.get("server") or (None, None)
        is_here = is_loopback(place.host) or (
            # An address in Host was asked for as such: no name was made to point at it.
            _is_address(place.host) and place.host == _plain(address or "")
        )
        return is_here and served_port in (None, port)

    def _is_own(self, scope: Mapping[str, Any], place: Place, origin: str) -> bool:
        scheme = _scheme(scope)
        own = Origin(scheme, place.host, place.port or _PORTS[scheme])
        return _parsed(origin) == own

    def _is_allowed(self, origin: str) -> bool:
        return _parsed(origin) in self._origins


def _parsed(origin: str) -> Origin | None:
    """None for what is none, as `null`."""
    try:
        return Origin.parse(origin)
    except ValueError:
        return None


def _plain(host: str) -> str:
    """A host as it is compared: an address in its one form, a name in small letters."""
    host = host.strip("[]").removesuffix(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _scheme(scope: Mapping[str, Any]) -> str:
    scheme: str = scope.get("scheme", "http")
    return _SCHEMES.get(scheme, scheme)


def _values(scope: Mapping[str, Any], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _first(scope: Mapping[str, Any], name: bytes) -> str:
    return next(iter(_values(scope, name)), "")


def _header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The one value of a header; raises Forbidden where there are several."""
    values = _values(scope, name)
    if len(values) > 1:
        raise Forbidden(f"The request has several {name.decode().capitalize()} headers.")
    return values[0] if values else None
