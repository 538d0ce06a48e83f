"""JSON Web Tokens: whether one is genuine, for us and of now, and what it grants.

The algorithms that are accepted belong to the key, never to the token: a token that says `none`, or
that was signed with a public key as if it were a shared secret, is refused.
"""

import base64
import binascii
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    load_der_public_key,
    load_pem_public_key,
)

from lykke_cli.application.errors import UsageMistake
from lykke_cli.web.grant import SCOPES, Grant, Unauthorized

LEEWAY = 30.0  # seconds by which two clocks may differ
LONGEST_SUBJECT = 256  # characters
SHORTEST_RSA = 2048  # bits
USER_CLAIM = "lykke_user_id"
_SHARED = {"HS256": 32, "HS384": 48, "HS512": 64}  # bytes of the shortest key, RFC 7518, 3.2
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_BY_PUBLIC_KEY = {*_RSA, *_CURVES.values(), "EdDSA"}
_UNLESS_SAID = {"HS256", "RS256", "ES256", "EdDSA"}
_LAST_MOMENT = datetime(9999, 12, 31, tzinfo=UTC)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NOT_GENUINE = "The token is not accepted: its form or its signature is wrong."


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key, and the algorithms that are accepted with it."""

    key: Any = field(repr=False)
    """A public key of `cryptography`, or the bytes of a shared secret."""
    algorithms: tuple[str, ...]


class Keys(Protocol):
    """Where the key for a token is."""

    async def find(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        """The key called `kid` that is for this algorithm; None where there is none.

        Raises ServerUnavailable where it cannot be told at the moment.
        """


class FixedKey:
    """The one key of the configuration, whatever a token calls it.

    Raises UsageMistake where it cannot be used, or the algorithms are not those of such a key.
    """

    def __init__(self, text: str, algorithms: Collection[str] = ()) -> None:
        check_algorithms(algorithms, _BY_PUBLIC_KEY | _SHARED.keys())
        public = _public_key(text)
        key = public or text.encode()
        fitting = tuple(a for a in fitting_algorithms(key) if a in (algorithms or _UNLESS_SAID))
        if not fitting:
            raise UsageMistake(_what_does_not_fit(public, algorithms))
        self._key = VerifyingKey(key, fitting)

    async def find(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        return self._key if algorithm in self._key.algorithms else None


class JsonWebTokens:
    """Tells grants from tokens that `issuer` made for `audience`."""

    def __init__(self, keys: Keys, *, audience: str, issuer: str) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer

    async def grant(self, token: str) -> Grant:
        """What a token allows; raises Unauthorized, ServerUnavailable."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthorized(_NOT_GENUINE) from None
        algorithm = header.get("alg")
        key = None
        if isinstance(algorithm, str):
            key = await self._keys.find(header.get("kid"), algorithm)
        if key is None:
            raise Unauthorized("The token is signed with a key or an algorithm not accepted here.")
        return _grant(self._claims(token, key))

    def _claims(self, token: str, key: VerifyingKey) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=key.algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "aud", "iss", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The token expired: get a new one.", code="token_expired") from None
        except jwt.ImmatureSignatureError:
            raise Unauthorized("The token does not hold yet: compare the clocks.") from None
        except jwt.InvalidAudienceError:
            raise Unauthorized("The token was made for another audience (aud).") from None
        except jwt.InvalidIssuerError:
            raise Unauthorized("The token was made by another issuer (iss).") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthorized(f"The token has no claim {error.claim}.") from None
        except jwt.PyJWTError:
            raise Unauthorized(_NOT_GENUINE) from None


def fitting_algorithms(key: object) -> tuple[str, ...]:
    """The algorithms that a key is good enough for."""
    if isinstance(key, bytes):
        return tuple(name for name, shortest in _SHARED.items() if len(key) >= shortest)
    if isinstance(key, RSAPublicKey):
        return _RSA if key.key_size >= SHORTEST_RSA else ()
    if isinstance(key, EllipticCurvePublicKey):
        return (_CURVES[key.curve.name],) if key.curve.name in _CURVES else ()
    return ("EdDSA",) if isinstance(key, Ed25519PublicKey) else ()


def public_algorithms(algorithms: Collection[str]) -> Collection[str]:
    """What is accepted with public keys; raises UsageMistake for an algorithm that is none."""
    check_algorithms(algorithms, _BY_PUBLIC_KEY)
    return algorithms or _UNLESS_SAID & _BY_PUBLIC_KEY


def check_algorithms(algorithms: Collection[str], known: Collection[str]) -> None:
    """Raises UsageMistake for one that is not known."""
    for algorithm in algorithms:
        if algorithm not in known:
            raise UsageMistake(
                f"LYKKE_JWT_ALGORITHMS: {algorithm!r} is not accepted; "
                f"possible are {', '.join(sorted(known))}."
            )


def _public_key(text: str) -> object:
    """The public key that a text is, in PEM form or as its base64 alone; None where it is none."""
    try:
        if text.startswith("-----BEGIN"):
            # A variable can rarely hold lines: it has two characters for each line's end.
            return load_pem_public_key(text.replace("\\n", "\n").encode())
        return load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        # What is no public key is a shared secret, unless it looks like a key after all: whoever
        # knows the public half could sign with it then.
        if text.startswith(("-----", "ssh-", "ecdsa-", "{")):
            raise UsageMistake(
                "LYKKE_JWT_KEY is neither a public key in PEM form nor a shared secret: take the "
                "public key with openssl pkey -in KEY -pubout, or of a certificate with openssl "
                "x509 -in FILE -pubkey -noout."
            ) from None
        return None


def _what_does_not_fit(public: object, algorithms: Collection[str]) -> str:
    if algorithms:
        return "LYKKE_JWT_KEY is not a key for LYKKE_JWT_ALGORITHMS, or is too short for them."
    if public is None:
        return (
            f"LYKKE_JWT_KEY has less than {_SHARED['HS256']} bytes, too few for a shared secret: "
            "make one, for example with: openssl rand -hex 32"
        )
    return (
        f"LYKKE_JWT_KEY is a public key of another kind: RSA with {SHORTEST_RSA} bits or more, "
        "P-256 and Ed25519 are accepted (others with LYKKE_JWT_ALGORITHMS)."
    )


def _grant(claims: dict[str, Any]) -> Grant:
    """Of claims that were verified; raises Unauthorized where one has a form that it may not."""
    subject = claims["sub"]
    if not (isinstance(subject, str) and subject.isprintable() and subject.strip()):
        raise Unauthorized("The token's subject (sub) is not a text of printable characters.")
    if len(subject) > LONGEST_SUBJECT:
        raise Unauthorized(f"The token's subject (sub) has more than {LONGEST_SUBJECT} characters.")
    return Grant(
        subject=subject,
        scopes=_scopes(claims),
        user_id=_user(claims, subject),
        expires_at=_end(claims["exp"]),
    )


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    scope = claims.get("scope", claims.get("scopes", ()))
    names = scope.split() if isinstance(scope, str) else scope
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise Unauthorized("The token's scope is neither a text nor a list of texts.")
    return SCOPES.intersection(names)


def _user(claims: dict[str, Any], subject: str) -> UUID | None:
    named = claims.get(USER_CLAIM)
    user = subject if named is None else named
    if isinstance(user, str) and _UUID.fullmatch(user):
        return UUID(user)
    if named is not None:
        raise Unauthorized(f"The token's {USER_CLAIM} is not a UUID.")
    return None


def _end(exp: object) -> datetime:
    """When the grant ends: a token that is accepted for the leeway holds until then."""
    if not isinstance(exp, int | float):
        raise Unauthorized("The token's time of expiry (exp) is not a number.")
    return datetime.fromtimestamp(min(exp, _LAST_MOMENT.timestamp()) + LEEWAY, UTC)
