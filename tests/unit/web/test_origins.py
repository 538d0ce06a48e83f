"""Host and Origin: a page of another site, or by a name made to point here, gets nothing."""

from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.errors import UsageMistake
from lykke_cli.web.grant import Forbidden
from lykke_cli.web.origins import Origins

APP = "https://app.example.com"


def scope(
    host: str | None = "localhost:8000",
    origin: str | None = None,
    *,
    scheme: str = "http",
    server: tuple[str, int | None] | None = ("127.0.0.1", 8000),
    method: str = "GET",
    headers: Collection[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Of a request; a WebSocket's where the scheme is one of those."""
    named = [("host", host), ("origin", origin), *headers]
    kind = {"type": "websocket"} if scheme in ("ws", "wss") else {"type": "http", "method": method}
    return {
        **kind,
        "scheme": scheme,
        "server": server,
        "headers": [
            (name.encode(), value.encode("latin-1", "replace"))
            for name, value in named
            if value is not None
        ],
    }


def passes(origins: Origins, request: dict[str, Any]) -> bool:
    try:
        origins.check(request)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(
    "host",
    [
        "localhost:8000",
        "LocalHost:8000",
        "localhost.:8000",
        "desk.localhost:8000",
        "127.0.0.1:8000",
        "127.1.2.3:8000",
        "[::1]:8000",
        "[0:0:0:0:0:0:0:1]:8000",
    ],
)
def test_unless_told_otherwise_it_is_asked_by_the_names_of_this_machine(host: str) -> None:
    assert passes(Origins(), scope(host))


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example:8000",
        "localhost.evil.example:8000",
        "127.0.0.1.evil.example:8000",
        "evil-localhost:8000",
        "localhost:8001",
        "localhost",
        "127.0.0.1",
        "localhost:0",
        "localhost:08000000",
        "localhost:8000x",
        "localhost:",
        "user@localhost:8000",
        "localhost:8000@evil.example",
        "localhost:8000/",
        "localhost:8000,evil.example",
        "localhost :8000",
        " localhost:8000",
        "localhost:8000\n",
        "::1",
        "[::1",
        "[fe80::1%25lo]:8000",
        "127.1:8000",
        "0x7f.1:8000",
        "2130706433:8000",
        "0.0.0.0:8000",
        "192.168.1.5:8000",
        "löcalhost:8000",
        "localhost\u2028:8000",
    ],
)
def test_by_any_other_name_or_port_it_is_not(host: str | None) -> None:
    assert not passes(Origins(), scope(host))


@pytest.mark.parametrize(
    ("server", "host"),
    [
        (("10.0.0.5", 8000), "10.0.0.5:8000"),
        (("::ffff:10.0.0.5", 8000), "10.0.0.5:8000"),
        (("fd00::5", 8000), "[FD00:0::5]:8000"),
        (("127.0.0.1", 80), "localhost"),
        (("/run/lykke.sock", None), "localhost"),
        (None, "localhost:1234"),
    ],
)
def test_the_address_that_was_connected_to_may_be_asked_for(
    server: tuple[str, int | None] | None, host: str
) -> None:
    assert passes(Origins(), scope(host, server=server))


def test_a_name_is_no_address_though_the_server_calls_itself_so() -> None:
    assert not passes(Origins(), scope("evil.example:8000", server=("evil.example", 8000)))


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        ("audit.example.com", True),
        ("AUDIT.example.com.", True),
        ("audit.example.com:8443", True),
        ("other.example.com:8443", True),
        ("other.example.com", False),
        ("localhost:8000", False),
        ("evil.example", False),
    ],
)
def test_hosts_are_the_names_it_has_and_no_others(host: str, is_served: bool) -> None:
    origins = Origins(hosts=["audit.example.com", "other.example.com:8443"])
    assert passes(origins, scope(host, scheme="https")) == is_served


def test_several_headers_of_a_name_are_refused() -> None:
    assert not passes(Origins(), scope(headers=[("host", "localhost:8000")]))
    own = "http://localhost:8000"
    assert passes(Origins(), scope(origin=own))
    assert not passes(Origins(), scope(origin=own, headers=[("origin", own)]))


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://evil.example:8000",
        "https://localhost:8000",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:8000",
        "http://localhost:8000.evil.example",
        "http://localhost:8000@evil.example",
        "http://localhost:8000/",
        "http://localhost:8000 http://evil.example",
        "file://",
        "chrome-extension://localhost:8000",
        "localhost:8000",
        "http://[::1",
        "*",
    ],
)
def test_a_page_of_another_origin_may_not_ask(origin: str, scheme: str) -> None:
    assert not passes(Origins(), scope(origin=origin, scheme=scheme))


@pytest.mark.parametrize(
    ("host", "origin", "scheme"),
    [
        ("localhost:8000", "http://localhost:8000", "http"),
        ("localhost:8000", "http://LOCALHOST:8000", "ws"),
        ("audit.example.com", "https://audit.example.com", "https"),
        ("audit.example.com", "https://audit.example.com:443", "wss"),
        ("audit.example.com:443", "https://audit.example.com", "wss"),
    ],
)
def test_a_page_of_this_server_may_ask(host: str, origin: str, scheme: str) -> None:
    origins = Origins(hosts=["audit.example.com", "localhost"])
    assert passes(origins, scope(host, origin, scheme=scheme))


def test_a_port_that_cannot_be_is_not_taken_for_none() -> None:
    request = scope("localhost", "http://localhost:0", server=("127.0.0.1", 80))
    assert not passes(Origins(), request)


def test_whoever_is_no_browser_sends_no_origin() -> None:
    assert passes(Origins(), scope(origin=None))


def test_headers_that_anybody_can_send_are_not_believed() -> None:
    forwarded = [
        ("x-forwarded-host", "localhost:8000"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "host=localhost:8000;proto=https"),
    ]
    assert not passes(Origins(), scope("evil.example", headers=forwarded))
    https = scope(origin="https://localhost:8000", headers=forwarded)
    assert not passes(Origins(), https)
    assert passes(Origins(), https | {"scheme": "https"})  # what uvicorn's proxy_headers does


class TestAnotherOriginThatMayAsk:
    origins = Origins([APP, "http://localhost:3000"])

    @pytest.mark.parametrize(
        "origin", [APP, "https://app.example.com:443", "http://localhost:3000"]
    )
    @pytest.mark.parametrize("scheme", ["http", "ws"])
    def test_passes(self, origin: str, scheme: str) -> None:
        assert passes(self.origins, scope(origin=origin, scheme=scheme))

    @pytest.mark.parametrize(
        "origin",
        ["http://app.example.com", "https://app.example.com:8443", "https://x.app.example.com"],
    )
    def test_is_named_exactly(self, origin: str) -> None:
        assert not passes(self.origins, scope(origin=origin))

    def test_does_not_make_another_host_right(self) -> None:
        assert not passes(self.origins, scope("evil.example:8000", APP))

    def test_is_answered_with_its_name_so_that_the_browser_shows_it(self) -> None:
        headers = self.origins.answer_headers(scope(origin=APP))
        assert headers["Access-Control-Allow-Origin"] == APP
        assert headers["Vary"] == "Origin"

    @pytest.mark.parametrize(
        "origin", [None, "null", "https://evil.example", "http://localhost:8000"]
    )
    def test_no_other_is_named_in_an_answer(self, origin: str | None) -> None:
        headers = self.origins.answer_headers(scope(origin=origin))
        assert headers["Vary"] == "Origin" and "Access-Control-Allow-Origin" not in headers

    def test_may_ask_with_a_token(self) -> None:
        asked = scope(
            origin=APP, method="OPTIONS", headers=[("access-control-request-method", "GET")]
        )
        headers = self.origins.preflight_headers(asked)
        assert headers is not None
        assert headers == self.origins.answer_headers(asked) | {
            "Access-Control-Allow-Methods": "GET",
            "Access-Control-Allow-Headers": "Authorization, Last-Event-ID",
            "Access-Control-Max-Age": "600",
        }

    @pytest.mark.parametrize(
        "request_scope",
        [
            scope(origin=APP, headers=[("access-control-request-method", "GET")]),
            scope(origin=APP, method="OPTIONS"),
            scope(origin=APP, scheme="ws"),
        ],
    )
    def test_only_a_request_that_asks_beforehand_is_answered_so(
        self, request_scope: dict[str, Any]
    ) -> None:
        assert self.origins.preflight_headers(request_scope) is None


def test_what_a_page_embeds_without_saying_who_it_is_is_not_shown_to_it() -> None:
    headers = Origins([APP]).answer_headers(scope())
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "origin", ["*", "null", "", "app.example.com", f"{APP}/", f"{APP}/x", "https://*.example.com"]
)
def test_an_origin_that_is_none_is_a_mistake(origin: str) -> None:
    with pytest.raises(UsageMistake, match="is not an origin"):
        Origins([origin])


@pytest.mark.parametrize("host", ["*", "", "https://audit.example.com", "a b", "bücher.de", "::1"])
def test_a_host_that_is_none_is_a_mistake(host: str) -> None:
    with pytest.raises(UsageMistake, match="is not a host"):
        Origins(hosts=[host])


hosts = st.text(max_size=30) | st.from_regex(r"\A[\[\]a-z0-9.:@-]*(:[0-9]{0,6})?\Z")


@given(hosts, st.none() | hosts | hosts.map(lambda host: f"http://{host}"))
def test_only_loopback_names_pass_and_pages_of_no_other_name(host: str, origin: str | None) -> None:
    if passes(Origins(), scope(host, origin)):
        assert host.lower().startswith(("localhost", "127.", "[")) or ".localhost" in host.lower()
        assert origin is None or origin.partition("://")[0].lower() == "http"
