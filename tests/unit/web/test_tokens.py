"""JSON Web Tokens: what is genuine grants what it says, whatever else is refused in one way."""

import base64
import hashlib
import hmac
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.errors import UsageMistake
from lykke_cli.web.grant import Grant, Unauthorized
from lykke_cli.web.tokens import LEEWAY, FixedKey, JsonWebTokens

SECRET = "0123456789abcdef0123456789abcdef"
ALICE = "0d6f1c30-5b1c-4bb0-9d64-1f1a6c1b7a11"
RSA, EC, ED = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ec.generate_private_key(ec.SECP256R1()),
    ed25519.Ed25519PrivateKey.generate(),
)
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def public_pem(key: PrivateKey | dsa.DSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def private_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def claims(**changes: object) -> dict[str, Any]:
    """Of a good token; None takes a claim out."""
    good = {
        "sub": ALICE,
        "aud": "lykke",
        "iss": "https://login.example.com",
        "exp": time.time() + 600,
        "scope": "read",
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(key: object = SECRET, algorithm: str = "HS256", **changes: object) -> str:
    return jwt.encode(claims(**changes), key, algorithm)  # type: ignore[arg-type]


def part(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def forged(header: object, payload: object, secret: bytes = SECRET.encode()) -> str:
    """Signed with HMAC, whatever the parts hold."""
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{part(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def tokens(key: str = SECRET, *algorithms: str) -> JsonWebTokens:
    return JsonWebTokens(
        FixedKey(key, algorithms), audience="lykke", issuer="https://login.example.com"
    )


async def granted(token: str, by: JsonWebTokens | None = None) -> Grant:
    return await (by or tokens()).grant(token)


async def refusal(token: str, by: JsonWebTokens | None = None) -> Unauthorized:
    with pytest.raises(Unauthorized) as refused:
        await granted(token, by)
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    assert token not in str(refused.value)
    return refused.value


async def test_a_token_grants_what_its_claims_say() -> None:
    exp = datetime(2999, 1, 1, tzinfo=UTC)
    grant = await granted(signed(exp=exp.timestamp(), scope="read openid publish"))
    assert grant == Grant(
        subject=ALICE,
        scopes=frozenset({"read", "publish"}),
        user_id=UUID(ALICE),
        expires_at=exp + timedelta(seconds=LEEWAY),
    )


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scope": "read"}, {"read"}),
        ({"scope": "  read   all-users "}, {"read", "all-users"}),
        ({"scope": None, "scopes": ["publish", "read"]}, {"publish", "read"}),
        ({"scope": None}, set()),
        ({"scope": ""}, set()),
        ({"scope": "reading READ all_users admin"}, set()),
    ],
)
async def test_scopes_are_those_that_are_known(changes: dict[str, Any], scopes: set[str]) -> None:
    assert (await granted(signed(**changes))).scopes == scopes


@pytest.mark.parametrize(
    ("changes", "user"),
    [
        ({}, UUID(ALICE)),
        ({"sub": ALICE.upper()}, UUID(ALICE)),
        ({"sub": "alice"}, None),
        ({"sub": ALICE.replace("-", "")}, None),
        ({"sub": f"{{{ALICE}}}"}, None),
        ({"sub": "alice", "lykke_user_id": ALICE}, UUID(ALICE)),
        ({"lykke_user_id": str(UUID(int=7))}, UUID(int=7)),
    ],
)
async def test_the_user_is_a_claim_or_the_subject(
    changes: dict[str, Any], user: UUID | None
) -> None:
    assert (await granted(signed(**changes))).user_id == user


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"exp": time.time() - 3600}, "expired"),
        ({"nbf": time.time() + 3600}, "does not hold yet"),
        ({"iat": time.time() + 3600}, "does not hold yet"),
        ({"aud": "another"}, "audience"),
        ({"aud": ["another"]}, "audience"),
        ({"aud": {"lykke": 1}}, "audience"),
        ({"iss": "https://login.example.com/"}, "issuer"),
        ({"exp": None}, "no claim exp"),
        ({"aud": None}, "no claim aud"),
        ({"iss": None}, "no claim iss"),
        ({"sub": None}, "no claim sub"),
        ({"aud": ""}, "no claim aud"),
        ({"sub": ""}, "subject"),
        ({"sub": " "}, "subject"),
        ({"sub": "\x1b[2J"}, "subject"),
        ({"sub": "a\u202eb"}, "subject"),
        ({"sub": "a" * 257}, "subject"),
        ({"exp": "2999"}, "expired"),
        ({"exp": "99999999999"}, "not a number"),
        ({"exp": True}, "expired"),
        ({"scope": 7}, "scope"),
        ({"scope": None, "scopes": ["read", 7]}, "scope"),
        ({"scope": None, "scopes": {"read": True}}, "scope"),
        ({"lykke_user_id": "alice"}, "lykke_user_id"),
        ({"lykke_user_id": 7}, "lykke_user_id"),
        ({"lykke_user_id": ""}, "lykke_user_id"),
    ],
)
async def test_a_claim_that_is_wrong_or_missing_is_named(
    changes: dict[str, Any], problem: str
) -> None:
    refused = await refusal(signed(**changes))
    assert re.search(problem, str(refused))
    assert refused.code == ("token_expired" if "expired" in str(refused) else "not_allowed")


@pytest.mark.parametrize("seconds", [LEEWAY - 15, -600.0])
async def test_a_grant_holds_at_least_as_long_as_its_token_is_accepted(seconds: float) -> None:
    left = (await granted(signed(exp=time.time() - seconds))).seconds_left()
    assert left is not None and left > 0


async def test_a_token_for_ever_ends_when_the_calendar_does() -> None:
    grant = await granted(signed(exp=10**400))
    assert grant.expires_at is not None and grant.expires_at.year == 9999


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1", "1e3"])
async def test_a_time_of_expiry_that_is_none_is_refused(number: str) -> None:
    payload = json.dumps(claims(exp=0.5)).replace("0.5", number)
    await refusal(forged({"alg": "HS256"}, payload.encode()))


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")], ids=["RSA", "EC", "Ed"]
)
class TestAPublicKey:
    async def test_checks_what_its_private_half_signed(
        self, key: PrivateKey, algorithm: str
    ) -> None:
        grant = await granted(signed(key, algorithm), tokens(public_pem(key)))
        assert grant.subject == ALICE

    async def test_is_found_in_its_base64_alone(self, key: PrivateKey, algorithm: str) -> None:
        body = "".join(public_pem(key).splitlines()[1:-1])
        await granted(signed(key, algorithm), tokens(body))

    async def test_may_stand_in_a_variable_on_one_line(
        self, key: PrivateKey, algorithm: str
    ) -> None:
        await granted(signed(key, algorithm), tokens(public_pem(key).replace("\n", "\\n")))

    async def test_is_never_taken_for_a_shared_secret(
        self, key: PrivateKey, algorithm: str
    ) -> None:
        pem = public_pem(key)
        for secret in (pem, pem.strip(), "".join(pem.splitlines()[1:-1])):
            for name in ("HS256", "hs256", algorithm):
                token = forged({"alg": name}, claims(), secret.encode())
                await refusal(token, tokens(pem))

    async def test_checks_nobody_elses(self, key: PrivateKey, algorithm: str) -> None:
        other: PrivateKey
        if isinstance(key, rsa.RSAPrivateKey):
            other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            other = ec.generate_private_key(ec.SECP256R1())
        else:
            other = ed25519.Ed25519PrivateKey.generate()
        await refusal(signed(other, algorithm), tokens(public_pem(key)))

    async def test_is_not_replaced_by_one_that_the_token_brings(
        self, key: PrivateKey, algorithm: str
    ) -> None:
        intruder = ed25519.Ed25519PrivateKey.generate()
        jwk = jwt.algorithms.OKPAlgorithm.to_jwk(intruder.public_key(), as_dict=True)
        headers = {"jwk": jwk, "jku": "https://evil.example/", "x5u": "file:///etc/passwd"}
        for kid in ("../../../dev/null", "' OR 1=1 --", "file:///etc/passwd", "a\0b"):
            token = jwt.encode(claims(), intruder, "EdDSA", headers=headers | {"kid": kid})
            await refusal(token, tokens(public_pem(key)))

    async def test_of_a_key_that_signs_is_refused_as_one(
        self, key: PrivateKey, algorithm: str
    ) -> None:
        with pytest.raises(UsageMistake, match="openssl pkey"):
            tokens(private_pem(key))


@pytest.mark.parametrize("algorithm", ["none", "NONE", "nOnE", "", None, 7, ["HS256"], {}])
@pytest.mark.parametrize("key", [SECRET, public_pem(RSA)], ids=["secret", "public"])
async def test_the_token_does_not_choose_its_algorithm(algorithm: object, key: str) -> None:
    header = {"typ": "JWT"} if algorithm is None else {"alg": algorithm}
    unsigned = f"{part(header)}.{part(claims())}."
    for token in (unsigned, unsigned + part(b"x"), forged(header, claims())):
        await refusal(token, tokens(key))


async def test_only_the_algorithms_that_are_named_are_accepted() -> None:
    by = tokens(public_pem(RSA), "PS256", "RS512")
    await granted(signed(RSA, "PS256"), by)
    await granted(signed(RSA, "RS512"), by)
    assert "algorithm" in str(await refusal(signed(RSA, "RS256"), by))
    long = SECRET * 2
    await granted(signed(long, "HS512"), tokens(long, "HS512"))
    await refusal(signed(long, "HS256"), tokens(long, "HS512"))


@pytest.mark.parametrize(
    ("key", "algorithms", "problem"),
    [
        ("k" * 31, (), "less than 32 bytes"),
        ("k" * 32, ("HS512",), "too short"),
        ("k" * 32, ("none",), "'none' is not accepted"),
        ("k" * 32, ("RS256",), "not a key for"),
        (public_pem(RSA), ("HS256",), "not a key for"),
        (public_pem(EC), ("RS256",), "not a key for"),
        (public_pem(dsa.generate_private_key(1024)), (), "another kind"),
        (public_pem(ec.generate_private_key(ec.SECP384R1())), (), "another kind"),
        (public_pem(rsa.generate_private_key(65537, 1024)), (), "another kind"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", (), "openssl x509"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000", (), "openssl pkey"),
        ('{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}', (), "openssl pkey"),
    ],
)
def test_a_key_that_does_not_fit_is_a_mistake_that_does_not_show_it(
    key: str, algorithms: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(UsageMistake, match=problem) as mistake:
        tokens(key, *algorithms)
    assert key not in str(mistake.value)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        signed()[:-1],
        signed() + ".x",
        signed().replace(".", ".."),
        signed().rpartition(".")[0],
        forged({"alg": "HS256"}, b"not JSON"),
        forged({"alg": "HS256"}, [claims()]),
        forged({"alg": "HS256"}, b"[" * 4000),
        forged(b"[" * 4000, claims()),
        forged(["HS256"], claims()),
        forged({"alg": "HS256", "kid": 7}, claims()),
        forged({"alg": "HS256", "crit": ["exp"], "exp": 1}, claims()),
        forged({"alg": "HS256", "crit": ["b64"], "b64": False}, claims()),
        forged({"alg": "HS256"}, b"\xff\xfe"),
        forged({"alg": "HS256"}, claims(), b"another secret of thirty-two byte"),
    ],
)
async def test_what_is_no_genuine_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthorized):
        await granted(token)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = ["sub", "aud", "iss", "exp", "nbf", "iat", "jti", "scope", "scopes", "lykke_user_id"]


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
async def test_genuine_claims_of_any_form_grant_or_are_refused(changes: dict[str, object]) -> None:
    try:
        grant = await granted(forged({"alg": "HS256"}, claims() | changes))
    except Unauthorized:
        return
    assert grant.expires_at is not None and grant.subject.isprintable()


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "zip"]),
        json_values | st.sampled_from(["HS256", "none", "RS256"]),
    ),
    st.binary(max_size=40),
)
async def test_headers_of_any_form_grant_nothing_without_the_key(
    header: dict[str, object], signature: bytes
) -> None:
    for key in (SECRET, public_pem(RSA)):
        await refusal(f"{part(header)}.{part(claims())}.{part(signature)}", tokens(key))
