"""Who may: a static token, or JSON Web Tokens by a key or by a key server. From the environment."""

import hmac
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lykke_cli.application.errors import BadInput, UsageMistake
from lykke_cli.infrastructure.configuration.secret import secret_of
from lykke_cli.infrastructure.configuration.tls import is_loopback
from lykke_cli.web.grant import SCOPES, Authorize, Grant, Unauthorized

LONGEST_TOKEN = 8 << 10  # characters
SHORTEST_STATIC = 16  # characters
STATIC_SUBJECT = "operator"
SUBPROTOCOL = "bearer."
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, b64token
_IN_QUERY = {"token", "access_token"}


class TokenMisplaced(BadInput):
    """A token stands where it may not, or there are several: HTTP 400, WebSocket 4400."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """One way of knowing who asks; raises UsageMistake where the values do not fit together."""

    static_token: str | None = field(default=None, repr=False)
    jwt_key: str | None = field(default=None, repr=False)
    """A secret that is shared with who signs, or a public key in PEM form."""
    jwks_url: str | None = field(default=None, repr=False)
    audience: str | None = None
    issuer: str | None = None
    algorithms: tuple[str, ...] = ()
    """Those that are accepted, where the default for the kind of key is not right."""
    notices: tuple[str, ...] = ()
    """What the person should know about where the secrets came from."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "AuthSettings":
        """What LYKKE_SERVE_TOKEN, LYKKE_JWT_KEY (each also ..._FILE), LYKKE_JWKS_URL,
        LYKKE_JWT_AUDIENCE, LYKKE_JWT_ISSUER and LYKKE_JWT_ALGORITHMS say.
        """
        token, key = (secret_of(environ, name) for name in ("LYKKE_SERVE_TOKEN", "LYKKE_JWT_KEY"))
        secrets = [each for each in (token, key) if each and not _is_public(each.text)]
        algorithms = environ.get("LYKKE_JWT_ALGORITHMS", "")
        return cls(
            token.text if token else None,
            key.text if key else None,
            environ.get("LYKKE_JWKS_URL", "").strip() or None,
            environ.get("LYKKE_JWT_AUDIENCE") or None,
            environ.get("LYKKE_JWT_ISSUER") or None,
            tuple(algorithms.replace(",", " ").split()),
            tuple(notice for secret in secrets for notice in secret.notices),
        )

    def __post_init__(self) -> None:
        ways = {
            "LYKKE_SERVE_TOKEN": self.static_token,
            "LYKKE_JWT_KEY": self.jwt_key,
            "LYKKE_JWKS_URL": self.jwks_url,
        }
        chosen = [name for name, value in ways.items() if value]
        if len(chosen) > 1:
            raise UsageMistake(f"{' and '.join(chosen)} are set: leave one.")
        if self.static_token:
            _check_static(self.static_token)
        if self.jwt_key or self.jwks_url:
            needed = {
                "LYKKE_JWT_AUDIENCE": (self.audience, "aud"),
                "LYKKE_JWT_ISSUER": (self.issuer, "iss"),
            }
            for name, (value, claim) in needed.items():
                if not value:
                    raise UsageMistake(
                        f"{chosen[0]} needs {name}: what the tokens have as {claim}."
                    )
        elif self.audience or self.issuer or self.algorithms:
            raise UsageMistake(
                "LYKKE_JWT_AUDIENCE, LYKKE_JWT_ISSUER and LYKKE_JWT_ALGORITHMS go with "
                "LYKKE_JWT_KEY or LYKKE_JWKS_URL: set one of them."
            )
        if self.jwks_url:
            _check_url(self.jwks_url)

    @property
    def is_set(self) -> bool:
        """Whether there is any way of knowing who asks."""
        return bool(self.static_token or self.jwt_key or self.jwks_url)


def authorize_by(settings: AuthSettings) -> Authorize:
    """What tells a grant from a token; raises UsageMistake where a key is none, or none is set."""
    if settings.static_token:
        return _by_static_token(settings.static_token)
    if not settings.is_set:
        raise UsageMistake("Set LYKKE_SERVE_TOKEN, LYKKE_JWT_KEY or LYKKE_JWKS_URL.")
    from lykke_cli.web.key_server import KeyServer
    from lykke_cli.web.tokens import FixedKey, JsonWebTokens

    keys = (
        FixedKey(settings.jwt_key, settings.algorithms)
        if settings.jwt_key
        else KeyServer(settings.jwks_url or "", settings.algorithms)
    )
    tokens = JsonWebTokens(keys, audience=settings.audience or "", issuer=settings.issuer or "")

    async def authorize(token: str | None, scope: Mapping[str, Any]) -> Grant:
        return await tokens.grant(_checked(token))

    return authorize


def random_token() -> str:
    """A static token for one run: 32 random bytes, URL-safe."""
    return token_urlsafe(32)


def refuse_token_in_url(scope: MutableMapping[str, Any]) -> None:
    """Raises TokenMisplaced where there is one.

    It is cut from the scope's query string, from which a server writes its access log.
    """
    query = scope.get("query_string", b"").decode("latin-1")
    if any(name.lower() in _IN_QUERY for name, _ in parse_qsl(query, keep_blank_values=True)):
        scope["query_string"] = b""
        raise TokenMisplaced(
            "A token in the URL ends up in logs: send it as a header, Authorization: Bearer TOKEN, "
            "as a sub-protocol, or in the first message."
        )


def take_token(scope: MutableMapping[str, Any]) -> str | None:
    """The token of an HTTP request or a WebSocket's handshake: as it came, nothing is checked.

    It stands in `Authorization: Bearer T`, or is a WebSocket's sub-protocol `bearer.T`. Raises
    TokenMisplaced where there are several, or one in the URL.
    """
    refuse_token_in_url(scope)
    headers = [
        value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"
    ]
    pairs = (header.strip().partition(" ") for header in headers)
    tokens = [token.strip() for scheme, _, token in pairs if scheme.lower() == "bearer"]
    tokens += [
        protocol.removeprefix(SUBPROTOCOL)
        for protocol in scope.get("subprotocols", ())
        if protocol.startswith(SUBPROTOCOL)
    ]
    if len(tokens) > 1:
        raise TokenMisplaced("There are several tokens: send one.")
    return tokens[0] if tokens else None


def _by_static_token(expected: str) -> Authorize:
    grant = Grant(subject=STATIC_SUBJECT, scopes=SCOPES)

    async def authorize(token: str | None, scope: Mapping[str, Any]) -> Grant:
        if not hmac.compare_digest(_checked(token), expected):
            raise Unauthorized("The token is not the one that is expected here.")
        return grant

    return authorize


def _checked(token: str | None) -> str:
    """A token that may be one; raises Unauthorized. From here on it is short, and ASCII."""
    if token is None:
        raise Unauthorized("A token is needed: Authorization: Bearer TOKEN.")
    if len(token) > LONGEST_TOKEN:
        raise Unauthorized(f"The token has more than {LONGEST_TOKEN >> 10} KiB.")
    if not _TOKEN.fullmatch(token):
        raise Unauthorized("The token has characters that no token has.")
    return token


def _is_public(text: str) -> bool:
    return text.startswith("-----BEGIN PUBLIC KEY-----")


def _check_static(token: str) -> None:
    if len(token) < SHORTEST_STATIC:
        raise UsageMistake(
            f"LYKKE_SERVE_TOKEN has less than {SHORTEST_STATIC} characters: make a longer one, "
            "for example with: openssl rand -hex 32"
        )
    if len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
        raise UsageMistake(
            "LYKKE_SERVE_TOKEN has more than letters, digits and -._~+/ (a token in an HTTP header "
            "has no others), or is too long: make one, for example with: openssl rand -hex 32"
        )


def _check_url(url: str) -> None:
    """Keys that come from this URL decide who is let in: nobody on the way may change them."""
    problem = "is not the https URL of a key set"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if not host or port == 0 or parts.scheme not in ("https", "http"):
        raise UsageMistake(f"LYKKE_JWKS_URL {problem}.")
    if parts.username is not None:
        raise UsageMistake("LYKKE_JWKS_URL has a login in it: keys for checking are public.")
    if parts.scheme == "http" and not is_loopback(host):
        raise UsageMistake(f"LYKKE_JWKS_URL {problem}: http only goes to this machine.")
