"""Where a bridge is, and the token to log in with there.

URLs that lead to the same bridge are the same text here, however they are spelt: a place that was
stored is found again, and is no other bridge's.
"""

import ipaddress
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit
from uuid import UUID

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.ports import HIGHEST_PORT, port_of
from lykke_cli.infrastructure.configuration.profiles import Profile
from lykke_cli.infrastructure.configuration.secret import Secret, exposures, secret_of
from lykke_cli.infrastructure.configuration.tls import (
    BRIDGE_OPTIONS,
    check_certificates,
    is_loopback,
)

TOKEN = "LYKKE_TOKEN"
_SHAPE = "write it like https://host, https://host:8443/prefix or http://localhost:8000"
_SECURE = {"https": True, "wss": True, "http": False, "ws": False}
_DEFAULT_PORTS = {True: 443, False: 80}
_FILES = (BRIDGE_OPTIONS.authority, BRIDGE_OPTIONS.certificate, BRIDGE_OPTIONS.key)
_PLAINTEXT = "plaintext"
_LONGEST_TOKEN = 8_000  # characters: servers take no longer header


@dataclass(frozen=True, slots=True)
class BridgeAddress:
    """Where a bridge is; `url` is the one spelling of it, and may be shown."""

    url: str
    is_secure: bool
    host: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Certificates and a key, by the name of the option."""

    def socket_url(self, user_id: UUID, query: Sequence[tuple[str, str]]) -> str:
        """Where one user is followed."""
        asked = f"?{urlencode(query, quote_via=quote)}" if query else ""
        return f"ws{self.url.removeprefix('http')}/ws/{user_id}{asked}"

    def tls(self) -> ssl.SSLContext | None:
        """What to secure a connection with; SSL_CERT_FILE counts where the URL names no file."""
        if not self.is_secure:
            return None
        context = ssl.create_default_context(cafile=self.files.get(BRIDGE_OPTIONS.authority))
        if certificate := self.files.get(BRIDGE_OPTIONS.certificate):
            context.load_cert_chain(certificate, self.files.get(BRIDGE_OPTIONS.key), "")
        return context


def parse_bridge_url(url: str) -> BridgeAddress:
    """What the URL means; raises UsageMistake, without the URL, when it means nothing."""
    parts = _split(url)
    is_secure = _SECURE[parts.scheme]
    host, port = _host(parts), _port(parts)
    options = _options(parts.query)
    if not (is_secure or options.pop(_PLAINTEXT, "no") == "yes" or is_loopback(host)):
        raise UsageMistake(
            "The URL of the bridge has no TLS, so that others can read the token on the way: "
            f"use https://. (With ?{_PLAINTEXT}=yes it is taken as it is.)"
        )
    options.pop(_PLAINTEXT, None)
    if options and not is_secure:
        raise _malformed(f"{next(iter(options))} goes with https:// only")
    check_certificates(
        BRIDGE_OPTIONS,
        authority=options.get(BRIDGE_OPTIONS.authority),
        certificate=options.get(BRIDGE_OPTIONS.certificate),
        key=options.get(BRIDGE_OPTIONS.key),
        password=None,
    )
    shown = f"[{host}]" if ":" in host else host
    given = "" if port in (None, _DEFAULT_PORTS[is_secure]) else f":{port}"
    scheme = "https" if is_secure else "http"
    return BridgeAddress(f"{scheme}://{shown}{given}{_prefix(parts)}", is_secure, host, options)


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """A bridge and how to log in there."""

    address: BridgeAddress
    read_token: Callable[[], str | None] = field(repr=False)
    """Reads the token anew, as it may be renewed in its file; raises UsageMistake."""
    notices: tuple[str, ...] = ()
    """What the person should know about where they came from."""

    @classmethod
    def resolve(
        cls, environ: Mapping[str, str], profile: Profile | None, url: str | None = None
    ) -> "BridgeSettings":
        """The bridge at `url`, else the profile's. Raises UsageMistake.

        The profile's token is for the profile's bridge alone; else LYKKE_TOKEN is used, or what the
        file that LYKKE_TOKEN_FILE names holds.
        """
        of_profile = None if profile is None else profile.url("bridge_url", environ)
        known = None if of_profile is None else parse_bridge_url(of_profile.url)
        address = known if url is None else parse_bridge_url(url)
        if address is None:
            raise _malformed()
        has_token = known is not None and address.url == known.url

        def read() -> Secret | None:
            if has_token and profile is not None and profile.has("bridge_token"):
                text, files = profile.secret("bridge_token", environ)
                return Secret(text, "bridge_token", exposures(files))
            return secret_of(environ, TOKEN)

        def read_token() -> str | None:
            secret = read()
            return None if secret is None else _checked(secret)

        secret = read()
        if secret is not None:
            _checked(secret)
        return cls(address, read_token, () if secret is None else secret.notices)


def _checked(secret: Secret) -> str:
    token = secret.text
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageMistake(f"{secret.source}: the token has a character that no token has.")
    if len(token) > _LONGEST_TOKEN:
        raise UsageMistake(f"{secret.source}: a token has {_LONGEST_TOKEN:,} characters at most.")
    return token


def _split(url: str) -> SplitResult:
    # What the standard library says of a bad URL quotes it: nothing of that is kept.
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        raise _malformed() from None
    if parts.scheme not in _SECURE or not parts.netloc:
        raise _malformed()
    if parts.fragment or "@" in parts.netloc:
        raise _malformed(f"no secret stands in it, the token is in {TOKEN}")
    return parts


def _host(parts: SplitResult) -> str:
    name = unquote(parts.hostname or "").rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).compressed
    except ValueError:
        pass
    try:
        name = name.encode("idna").decode()
    except UnicodeError:
        raise _malformed("no host can have this name") from None
    if not name or not all(character.isalnum() or character in "-._" for character in name):
        raise _malformed("no host can have this name")
    return name


def _port(parts: SplitResult) -> int | None:
    given = parts.netloc.rpartition("]")[2].partition(":")[2]
    if not given:
        return None
    if (port := port_of(given)) is None:
        raise _malformed(f"the port is a number from 1 to {HIGHEST_PORT}")
    return port


def _prefix(parts: SplitResult) -> str:
    segments = [unquote(segment) for segment in parts.path.split("/")]
    if ".." in segments:
        raise _malformed("'..' leads nowhere")
    return "".join(f"/{quote(each, safe='')}" for each in segments if each not in ("", "."))


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if "token" in name.lower():
            raise _malformed(f"no secret stands in it, the token is in {TOKEN}")
        if name not in (*_FILES, _PLAINTEXT):
            raise _malformed(f"it has an option that is not understood, {name[:40]!r}")
        if name in options or not value:
            raise _malformed(f"its option {name} has one value")
        options[name] = value
    return options


def _malformed(why: str | None = None) -> UsageMistake:
    text = "The URL of the bridge is malformed"
    return UsageMistake(f"{text}: {_SHAPE}." if why is None else f"{text}: {why}; {_SHAPE}.")
