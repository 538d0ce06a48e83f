"""Keys of a JWKS URL: fetched once for all, kept while it is away, not asked for too often."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.errors import ServerUnavailable, UsageMistake
from lykke_cli.web import key_server
from lykke_cli.web.grant import Unauthorized
from lykke_cli.web.key_server import (
    COOL_DOWN,
    FIRST_RETRY,
    LARGEST,
    LIFETIME,
    KeyServer,
    fetch,
    read_key_set,
)
from lykke_cli.web.tokens import JsonWebTokens, VerifyingKey
from tests.tls import Authority, server_context

ALGORITHMS = ("RS256", "ES256", "EdDSA")
ED, OTHER = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
Key = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def jwk(key: Key, kid: object = None, **more: object) -> dict[str, object]:
    data: dict[str, object]
    if isinstance(key, rsa.RSAPrivateKey):
        data = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        data = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        data = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return data | {"kid": kid} | more


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server(ThreadingHTTPServer):
    """Answers with `body`, or sends `/keys` on to `elsewhere`.

    It holds each request until `go` is set; where it `drips` it writes on and on instead.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.status, self.body = 200, key_set(jwk(ED, "one"))
        self.elsewhere: str | None = None
        self.drips = False
        self.requests: list[str] = []
        self.arrived, self.go = threading.Event(), threading.Event()
        self.go.set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        with cls() as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield server
            finally:
                server.go.set()
                server.shutdown()
                thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/keys"

    def serve(self, *keys: object) -> None:
        self.status, self.body = 200, key_set(*keys)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.arrived.set()
        if not self.server.drips:
            self.server.go.wait(30)
        if self.server.elsewhere and self.path == "/keys":
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere)
        else:
            self.send_response(self.server.status)
        self.end_headers()
        try:
            while not self.server.go.wait(0.01):
                self.wfile.write(b" ")
            self.wfile.write(self.server.body)
        except ConnectionError:
            pass  # it had enough

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.running() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(server: Server, clock: Clock) -> KeyServer:
    return KeyServer(server.url, clock=clock)


async def settled() -> None:
    """Wait for a fetch that went on beside."""
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))


@pytest.fixture
def tokens(keys: KeyServer) -> JsonWebTokens:
    return JsonWebTokens(keys, audience="lykke", issuer="login")


def signed(key: Any = ED, kid: str | None = "one", algorithm: str = "EdDSA") -> str:
    claims = {"sub": "a", "aud": "lykke", "iss": "login", "exp": time.time() + 600}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid is not None else None)


async def test_a_token_is_checked_with_the_key_that_it_names(
    server: Server, tokens: JsonWebTokens
) -> None:
    server.serve(jwk(ED, "one"), jwk(RSA, "two"), jwk(EC, "three"), jwk(OTHER, "zero"))
    await tokens.grant(signed(ED, "one"))
    await tokens.grant(signed(RSA, "two", "RS256"))
    await tokens.grant(signed(EC, "three", "ES256"))
    for kid in ("zero", "two", "four", None, "", "../one", "one\0", "ONE"):
        with pytest.raises(Unauthorized):
            await tokens.grant(signed(ED, kid))
    assert server.requests == ["/keys"]


async def test_a_token_that_names_none_is_checked_with_the_only_one(
    server: Server, tokens: JsonWebTokens
) -> None:
    server.serve(jwk(ED))
    await tokens.grant(signed(ED, None))
    with pytest.raises(Unauthorized):
        await tokens.grant(signed(OTHER, None))


async def test_many_who_wait_share_one_fetch_and_the_loop_goes_on(
    server: Server, tokens: JsonWebTokens
) -> None:
    server.go.clear()
    waiting = [asyncio.create_task(tokens.grant(signed())) for _ in range(50)]
    await asyncio.to_thread(server.arrived.wait, 30)
    waiting[0].cancel()
    server.go.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert not [answer for answer in answers[1:] if isinstance(answer, BaseException)]
    assert len(server.requests) == 1


async def test_an_unknown_key_is_asked_for_once_in_a_while(
    server: Server, tokens: JsonWebTokens, clock: Clock
) -> None:
    await tokens.grant(signed())
    server.serve(jwk(ED, "one"), jwk(OTHER, "new"))
    clock.now += COOL_DOWN - 1
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await tokens.grant(signed(OTHER, "new"))
    assert len(server.requests) == 1
    clock.now += 1
    await tokens.grant(signed(OTHER, "new"))
    assert len(server.requests) == 2


async def test_a_key_that_was_taken_back_is_given_up_in_time(
    server: Server, tokens: JsonWebTokens, clock: Clock
) -> None:
    await tokens.grant(signed())
    server.serve(jwk(OTHER, "new"))
    clock.now += LIFETIME + 1
    await tokens.grant(signed())  # nobody waits: the answer comes for the next one
    await settled()
    with pytest.raises(Unauthorized):
        await tokens.grant(signed())
    assert len(server.requests) == 2


async def test_while_the_server_is_away_the_keys_that_are_known_go_on(
    server: Server, tokens: JsonWebTokens, clock: Clock
) -> None:
    await tokens.grant(signed())
    server.status = 500
    for _ in range(5):
        clock.now += LIFETIME
        await tokens.grant(signed())
        await settled()
    with pytest.raises(ServerUnavailable):  # it may be there: only the server knows
        await tokens.grant(signed(OTHER, "new"))
    server.status = 200
    clock.now += COOL_DOWN
    with pytest.raises(Unauthorized):
        await tokens.grant(signed(OTHER, "new"))


async def test_without_any_key_it_cannot_be_told_and_is_tried_again_soon(
    server: Server, tokens: JsonWebTokens, clock: Clock
) -> None:
    server.status = 503
    for _ in range(3):
        with pytest.raises(ServerUnavailable):
            await tokens.grant(signed())
    assert len(server.requests) == 1
    server.status = 200
    clock.now += FIRST_RETRY
    await tokens.grant(signed())


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "no key set"),
        (b"<html>", "no key set"),
        (b"[]", "no key set"),
        (b'{"keys":{}}', "no key set"),
        (b'{"keys":[7]}', "no key set"),
        (b"\xff", "no key set"),
        (b"[" * 100_000, "no key set"),
        (b'{"keys":[]}', "none of them can be used"),
        (key_set({"kty": "oct", "k": "A" * 43, "alg": "HS256"}), "none of them can be used"),
        (b'{"keys":[' + b" " * LARGEST + b"]}", "more than 256 KiB"),
    ],
    ids=range(10),
)
async def test_what_is_no_key_set_is_told_of_and_changes_nothing(
    server: Server,
    tokens: JsonWebTokens,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    body: bytes,
    problem: str,
) -> None:
    await tokens.grant(signed())
    server.body = body
    clock.now += COOL_DOWN
    with pytest.raises(ServerUnavailable):
        await tokens.grant(signed(OTHER, "new"))
    await tokens.grant(signed())
    assert problem in caplog.text


@pytest.mark.parametrize(
    ("target", "is_followed"),
    [
        ("/moved", True),
        ("http://localhost:{port}/moved", True),
        ("https://127.0.0.1:{port}/moved", False),
        ("http://login.example.com/keys", False),
        ("file:///etc/passwd", False),
        ("ftp://127.0.0.1/keys", False),
    ],
)
async def test_a_redirection_stays_where_it_is_safe(
    server: Server,
    keys: KeyServer,
    caplog: pytest.LogCaptureFixture,
    target: str,
    is_followed: bool,
) -> None:
    server.elsewhere = target.format(port=server.server_port)
    if is_followed:
        assert await keys.find("one", "EdDSA") is not None
        return
    with pytest.raises(ServerUnavailable):
        await keys.find("one", "EdDSA")
    assert "redirected away" in caplog.text or "HTTP status 302" in caplog.text
    assert server.requests == ["/keys"]


async def test_keys_that_came_over_tls_are_not_fetched_without_it_after_all(
    server: Server, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path, "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    context = server_context(authority.sign("localhost"))
    with Server.running() as safe:
        safe.socket = context.wrap_socket(safe.socket, server_side=True)
        url = f"https://localhost:{safe.server_port}/keys"
        assert await KeyServer(url, clock=clock).find("one", "EdDSA") is not None
        safe.elsewhere = server.url
        with pytest.raises(ServerUnavailable):
            await KeyServer(url, clock=clock).find("one", "EdDSA")
    assert not server.requests


async def test_no_proxy_may_answer_for_this_machine(
    server: Server, keys: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server.running() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        assert await keys.find("one", "EdDSA") is not None
        assert not proxy.requests


async def test_a_server_that_is_not_there_is_told_of_without_its_url(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with Server() as gone:
        url = f"{gone.url}?api-key=s3cret"
    with pytest.raises(ServerUnavailable) as refused:
        await KeyServer(url, clock=clock).find("one", "EdDSA")
    assert "LYKKE_JWKS_URL" in caplog.text
    assert "s3cret" not in caplog.text + str(refused.value)


async def test_a_server_that_does_not_answer_in_time_is_away(
    server: Server, keys: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_server, "TIMEOUT", 0.05)
    server.go.clear()
    with pytest.raises(ServerUnavailable):
        await keys.find("one", "EdDSA")
    await settled()
    assert not server.go.is_set()


async def test_while_its_answer_is_late_an_unknown_key_is_not_called_wrong(
    server: Server, tokens: JsonWebTokens, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tokens.grant(signed())
    monkeypatch.setattr(key_server, "TIMEOUT", 0.0)
    clock.now += COOL_DOWN
    with pytest.raises(ServerUnavailable):
        await tokens.grant(signed(OTHER, "new"))


async def test_a_server_that_never_ends_its_answer_is_away(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_server, "TIMEOUT", 0.3)
    server.drips = True
    server.go.clear()
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(fetch, server.url)


async def test_a_slow_server_is_not_asked_a_second_time_meanwhile(
    server: Server, keys: KeyServer, clock: Clock
) -> None:
    server.go.clear()
    waiting = [asyncio.create_task(keys.find("one", "EdDSA"))]
    await asyncio.to_thread(server.arrived.wait, 30)
    clock.now += COOL_DOWN
    waiting.append(asyncio.create_task(keys.find("one", "EdDSA")))
    await asyncio.sleep(0)
    server.go.set()
    assert all(await asyncio.gather(*waiting))
    assert len(server.requests) == 1


async def test_an_algorithm_that_is_not_accepted_asks_nobody(
    server: Server, keys: KeyServer
) -> None:
    for algorithm in ("HS256", "none", "RS512"):
        assert await keys.find("one", algorithm) is None
    assert not server.requests


def test_only_algorithms_of_public_keys_are_possible() -> None:
    with pytest.raises(UsageMistake, match="'HS256' is not accepted"):
        KeyServer("https://login.example.com/keys", ["HS256"])


def read(*keys: object) -> list[tuple[str | None, VerifyingKey]]:
    return list(read_key_set(key_set(*keys), ALGORITHMS))


@pytest.mark.parametrize(
    "key",
    [
        {},
        {"kty": "oct", "k": "A" * 43},
        {"kty": "oct", "k": "A" * 43, "alg": "RS256"},
        {"kty": "RSA", "n": 7, "e": []},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
        jwk(ED, "one", use="enc"),
        jwk(ED, 7),
        jwk(ED, "one", alg="HS256"),
        jwk(RSA, "one", alg="RSA-OAEP"),
        jwk(RSA, "one", alg="RS512"),
        jwk(RSA, "one", alg="ES256"),
        jwk(rsa.generate_private_key(65537, 1024), "one"),
        jwk(ec.generate_private_key(ec.SECP384R1()), "one"),
        jwt.algorithms.OKPAlgorithm.to_jwk(ED, as_dict=True) | {"kid": "private"},
        jwt.algorithms.RSAAlgorithm.to_jwk(RSA, as_dict=True) | {"kid": "private"},
    ],
    ids=range(16),
)
def test_keys_that_are_not_public_not_for_signatures_or_too_weak_are_left_out(
    key: dict[str, object],
) -> None:
    assert [kid for kid, _ in read(key, jwk(EC, "good"))] == ["good"]


def test_a_key_is_for_the_algorithm_that_it_names() -> None:
    ((_, key),) = read_key_set(key_set(jwk(RSA, "one", alg="PS256")), ("RS256", "PS256"))
    assert key.algorithms == ("PS256",)


values = st.none() | st.integers() | st.text(max_size=8) | st.just("A" * 43) | st.lists(st.text())
names = st.sampled_from(["kty", "crv", "alg", "kid", "use", "n", "e", "x", "y", "k", "d"])
kinds = st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "RS256", "EdDSA", "sig"])


@given(st.lists(st.dictionaries(names, values | kinds)))
def test_keys_of_any_form_are_read_or_left_out(keys: list[dict[str, object]]) -> None:
    assert all(set(key.algorithms) <= set(ALGORITHMS) for _, key in read(*keys))


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_key_set_or_a_value_error(content: bytes) -> None:
    try:
        list(read_key_set(content, ALGORITHMS))
    except ValueError:
        pass
