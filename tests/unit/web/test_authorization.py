"""Who may: one way to know, no secret shown, and no token in a URL."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.errors import UsageMistake
from lykke_cli.web.authorization import (
    LONGEST_TOKEN,
    AuthSettings,
    TokenMisplaced,
    authorize_by,
    random_token,
    take_token,
)
from lykke_cli.web.grant import SCOPES, Grant, Unauthorized

CANARY = "s3cret-canary-of-thirty-two-bytes"
JWT = {"LYKKE_JWT_AUDIENCE": "lykke", "LYKKE_JWT_ISSUER": "login"}
KEY = {"LYKKE_JWT_KEY": CANARY, **JWT}
JWKS = {"LYKKE_JWKS_URL": "https://login.example.com/keys", **JWT}


def scope(
    *headers: tuple[bytes, bytes], query: bytes = b"", subprotocols: Sequence[str] = ()
) -> dict[str, Any]:
    return {
        "type": "websocket",
        "headers": list(headers),
        "query_string": query,
        "subprotocols": list(subprotocols),
    }


def bearer(value: str) -> tuple[bytes, bytes]:
    return b"authorization", value.encode("latin-1")


async def grant(environ: dict[str, str], token: str | None) -> Grant:
    return await authorize_by(AuthSettings.from_environ(environ))(token, {})


# The settings


def test_without_any_variable_nothing_is_set() -> None:
    assert not AuthSettings.from_environ({"HOME": "/"}).is_set


@pytest.mark.parametrize("environ", [{"LYKKE_SERVE_TOKEN": CANARY}, KEY, JWKS], ids=str)
def test_each_way_is_set_by_its_variables_and_shows_no_secret(environ: dict[str, str]) -> None:
    settings = AuthSettings.from_environ(environ)
    assert settings.is_set
    assert CANARY not in repr(settings) + repr(authorize_by(settings))


def test_secrets_come_from_files_too_which_are_told_of_when_others_may_read_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{CANARY}\n")
    file.chmod(0o640)
    settings = AuthSettings.from_environ({"LYKKE_SERVE_TOKEN_FILE": str(file)})
    assert settings.static_token == CANARY
    assert settings.notices == (f"{file} holds a secret and others may read it: chmod 600 {file}",)


def test_anybody_may_read_the_file_of_a_public_key(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("-----BEGIN PUBLIC KEY-----\n...")
    file.chmod(0o644)
    assert AuthSettings.from_environ({"LYKKE_JWT_KEY_FILE": str(file), **JWT}).notices == ()


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"LYKKE_SERVE_TOKEN": CANARY, **KEY}, "LYKKE_SERVE_TOKEN and LYKKE_JWT_KEY are set"),
        (KEY | JWKS, "LYKKE_JWT_KEY and LYKKE_JWKS_URL are set"),
        ({"LYKKE_SERVE_TOKEN": CANARY, **JWT}, "go with LYKKE_JWT_KEY or LYKKE_JWKS_URL"),
        (JWT, "go with LYKKE_JWT_KEY or LYKKE_JWKS_URL"),
        ({"LYKKE_JWT_AUDIENCE": "lykke"}, "go with LYKKE_JWT_KEY or LYKKE_JWKS_URL"),
        ({"LYKKE_JWT_ALGORITHMS": "RS256"}, "go with LYKKE_JWT_KEY or LYKKE_JWKS_URL"),
        (KEY | {"LYKKE_JWT_AUDIENCE": ""}, "LYKKE_JWT_KEY needs LYKKE_JWT_AUDIENCE"),
        (JWKS | {"LYKKE_JWT_ISSUER": ""}, "LYKKE_JWKS_URL needs LYKKE_JWT_ISSUER"),
        (KEY | {"LYKKE_JWT_KEY": CANARY[:31]}, "less than 32 bytes"),
        (KEY | {"LYKKE_JWT_ALGORITHMS": "HS256 none"}, "'none' is not accepted"),
        (JWKS | {"LYKKE_JWT_ALGORITHMS": "HS256"}, "'HS256' is not accepted"),
        ({"LYKKE_SERVE_TOKEN": CANARY[:15]}, "less than 16 characters"),
        ({"LYKKE_SERVE_TOKEN": f"{CANARY} {CANARY}"}, "letters, digits"),
        ({"LYKKE_SERVE_TOKEN": f"{CANARY}é"}, "letters, digits"),
        ({"LYKKE_SERVE_TOKEN": CANARY * 400}, "too long"),
    ],
)
def test_what_does_not_fit_together_is_one_clear_line_without_the_secret(
    environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(UsageMistake, match=problem) as mistake:
        authorize_by(AuthSettings.from_environ(environ))
    assert CANARY[:15] not in str(mistake.value)
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.com/keys",
        "file:///etc/passwd",
        "ftp://login.example.com/keys",
        "https://",
        "https:///keys",
        "https://login.example.com:0/keys",
        "https://login.example.com:99999/keys",
        "https://[::1/keys",
        "https://someone:s3cret@login.example.com/keys",
        "http://127.0.0.1.example.com/keys",
        "login.example.com/keys",
    ],
)
def test_keys_come_over_https_alone(url: str) -> None:
    with pytest.raises(UsageMistake, match="LYKKE_JWKS_URL") as mistake:
        AuthSettings.from_environ(JWKS | {"LYKKE_JWKS_URL": url})
    assert "s3cret" not in str(mistake.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:8080/keys", "http://127.0.0.1/keys", "http://[::1]:1/keys"]
)
def test_keys_come_over_http_from_this_machine(url: str) -> None:
    assert AuthSettings.from_environ(JWKS | {"LYKKE_JWKS_URL": url}).is_set


def test_where_nothing_is_set_nobody_can_be_told_apart() -> None:
    with pytest.raises(UsageMistake, match="Set LYKKE_SERVE_TOKEN"):
        authorize_by(AuthSettings())


# What a token grants


async def test_the_static_token_grants_everything_for_ever() -> None:
    it = await grant({"LYKKE_SERVE_TOKEN": CANARY}, CANARY)
    assert it.scopes == SCOPES and it.expires_at is None


async def test_a_json_web_token_grants_what_it_says_up_to_a_size() -> None:
    claims = {"sub": "a", "aud": "lykke", "iss": "login", "exp": time.time() + 60, "scope": "read"}
    assert (await grant(KEY, jwt.encode(claims, CANARY))).scopes == {"read"}
    with pytest.raises(Unauthorized, match="more than 8 KiB"):
        await grant(KEY, jwt.encode(claims | {"groups": "g" * LONGEST_TOKEN}, CANARY))


BAD_TOKENS = [
    None,
    "",
    CANARY[:-1],
    f"{CANARY}x",
    CANARY.upper(),
    f" {CANARY}",
    f"{CANARY}\n",
    f"{CANARY}\0",
    f"{CANARY}é",
    "\ud800" * 16,
    "a" * LONGEST_TOKEN,
    "a" * (LONGEST_TOKEN + 1),
    f"{'a' * (1 << 20)}.b.c",
]


@pytest.mark.parametrize("environ", [{"LYKKE_SERVE_TOKEN": CANARY}, KEY], ids=["static", "JWT"])
@pytest.mark.parametrize("token", BAD_TOKENS, ids=range(len(BAD_TOKENS)))
async def test_any_other_token_is_refused_and_not_repeated(
    environ: dict[str, str], token: str | None
) -> None:
    with pytest.raises(Unauthorized) as refused:
        await grant(environ, token)
    assert refused.value.code == "not_allowed"
    assert not token or token not in str(refused.value)
    assert CANARY not in str(refused.value)


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*"))
async def test_text_of_any_kind_is_refused(token: str) -> None:
    for environ in ({"LYKKE_SERVE_TOKEN": CANARY}, KEY):
        with pytest.raises(Unauthorized):
            await grant(environ, token)


async def test_a_random_token_is_one_that_a_url_and_a_header_can_hold() -> None:
    tokens = {random_token() for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        assert len(token) >= 43 and token.replace("-", "").replace("_", "").isalnum()
        assert (await grant({"LYKKE_SERVE_TOKEN": token}, token)).scopes == SCOPES


# Where the token stands


@pytest.mark.parametrize(
    ("request_scope", "token"),
    [
        (scope(), None),
        (scope(bearer("Bearer abc.def")), "abc.def"),
        (scope(bearer("bearer   abc.def ")), "abc.def"),
        (scope(bearer("Bearer")), ""),
        (scope(bearer("Bearer é")), "é"),
        (scope(bearer("Basic YTpi")), None),
        (scope(subprotocols=["lykke.v1"]), None),
        (scope(subprotocols=["lykke.v1", "bearer.abc.def"]), "abc.def"),
        (scope(subprotocols=["bearer."]), ""),
        (scope(bearer("Basic YTpi"), subprotocols=["bearer.abc"]), "abc"),
        (scope(query=b"since=1h&grep=token&q=access_token"), None),
    ],
)
def test_it_is_a_bearer_token_or_a_sub_protocol(
    request_scope: dict[str, Any], token: str | None
) -> None:
    assert take_token(request_scope) == token


def test_a_request_of_http_has_no_sub_protocols() -> None:
    assert take_token({"type": "http", "headers": [bearer("Bearer abc")]}) == "abc"


@pytest.mark.parametrize(
    "query",
    [
        b"token=T0ken",
        b"since=1h&access_token=T0ken",
        b"%74oken=T0ken",
        b"Access_Token=T0ken",
        b"token=",
        b"token",
        b"token=\xff",
    ],
)
def test_one_in_the_url_is_refused_and_cut_from_what_a_server_logs(query: bytes) -> None:
    request_scope = scope(bearer("Bearer abc"), query=query)
    with pytest.raises(TokenMisplaced, match="ends up in logs") as refused:
        take_token(request_scope)
    assert "T0ken" not in str(refused.value)
    assert request_scope["query_string"] == b""


@pytest.mark.parametrize(
    "request_scope",
    [
        scope(bearer("Bearer a"), bearer("Bearer a")),
        scope(bearer("Bearer a"), subprotocols=["bearer.b"]),
        scope(subprotocols=["bearer.a", "bearer.b"]),
    ],
)
def test_several_are_refused(request_scope: dict[str, Any]) -> None:
    with pytest.raises(TokenMisplaced, match="several"):
        take_token(request_scope)


@given(st.lists(st.binary(max_size=30)), st.binary(max_size=60), st.lists(st.text(max_size=30)))
def test_headers_of_any_kind_hold_a_token_or_none(
    values: list[bytes], query: bytes, subprotocols: list[str]
) -> None:
    headers = [(b"authorization", value) for value in values]
    try:
        take_token(scope(*headers, query=query, subprotocols=subprotocols))
    except TokenMisplaced:
        pass
