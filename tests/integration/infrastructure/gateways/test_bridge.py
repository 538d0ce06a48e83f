"""The client's side of a bridge on real sockets: what it sends, what it survives, what it says."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lykke_cli.application.errors import LoginRefused, ServerUnavailable, UsageMistake
from lykke_cli.application.gateways.bridge_protocol import BridgeClosed, BridgeRefused
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.bridge import BridgeSettings
from lykke_cli.infrastructure.gateways import bridge as module
from lykke_cli.infrastructure.gateways.bridge import LARGEST_FRAME, WebSocketBridge
from tests.builders import entity
from tests.faults.proxy import Proxy
from tests.model_bridge import ModelBridge
from tests.servers import free_port
from tests.tls import Authority, server_context

USER = uuid.UUID(int=7)
GREETING = b'{"type":"resume"}'


@pytest.fixture
def model() -> Iterator[ModelBridge]:
    with ModelBridge() as bridge:
        yield bridge


def at(url: str, **environ: str) -> WebSocketBridge:
    return WebSocketBridge(BridgeSettings.resolve(environ, None, url))


async def receive(bridge: WebSocketBridge, number: int = 1) -> list[bytes]:
    async with bridge.connect(USER, [("grep", "a b")]) as connection:
        await connection.send(GREETING)
        return [await connection.receive() for _ in range(number)]


async def refused(bridge: WebSocketBridge, kind: type[LykkeError], number: int = 1) -> str:
    with pytest.raises(kind) as caught:
        await receive(bridge, number)
    text = str(caught.value)
    assert "\n" not in text
    return text


async def test_frames_go_both_ways_and_the_query_goes_along(model: ModelBridge) -> None:
    [subscribed, caught_up] = map(json.loads, await receive(at(model.url), 2))
    assert (subscribed["user_id"], caught_up["type"]) == (str(USER), "caught_up")
    assert model.openings == [{"type": "resume"}]
    assert model.queries == [{"grep": ["a b"]}]


async def test_it_logs_in_with_the_token_as_it_is_now(model: ModelBridge, tmp_path: Path) -> None:
    model.token = "sesame"
    file = tmp_path / "token"
    file.write_text("sesame")
    file.chmod(0o600)
    bridge = at(model.url, LYKKE_TOKEN_FILE=str(file))
    await receive(bridge)
    assert not bridge.has_other_token()
    file.write_text("another")
    assert bridge.has_other_token()
    async with bridge.connect(USER, []) as connection:
        await connection.receive()  # the error that says why
        with pytest.raises(BridgeClosed) as caught:
            await connection.receive()
    assert caught.value.code == 4401


async def test_the_end_of_a_connection_says_how_it_ended(model: ModelBridge) -> None:
    for end, code in ((lambda: model.close(1012, "later"), 1012), (model.cut, 1006)):
        async with at(model.url).connect(USER, []) as connection:
            await connection.send(GREETING)
            await connection.receive()
            await asyncio.to_thread(end)
            with pytest.raises(BridgeClosed) as caught:
                while True:
                    await connection.receive()
        assert caught.value.code == code


async def test_a_cancelled_receive_loses_no_frame(model: ModelBridge) -> None:
    async with at(model.url).connect(USER, []) as connection:
        await connection.send(GREETING)
        await connection.receive()
        await connection.receive()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await connection.receive()
        new = entity(USER)
        await asyncio.to_thread(model.commit, new)
        assert str(new.id).encode() in await connection.receive()


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, BridgeRefused, "does not understand the request (no such filter)"),
        (401, LoginRefused, "refused the login (no such filter). Put a token"),
        (403, LoginRefused, "does not permit that (no such filter)"),
        (429, ServerUnavailable, "is not ready (no such filter)"),
        (503, ServerUnavailable, "is not ready (no such filter)"),
        (404, ServerUnavailable, "There is no bridge at"),
        (200, ServerUnavailable, "There is no bridge at"),
    ],
)
async def test_a_refusal_is_told_in_the_bridge_s_words(
    model: ModelBridge, status: int, kind: type[LykkeError], said: str
) -> None:
    body = {"type": "error", "code": "x", "temporary": False, "message": "no such filter."}
    model.answer = (status, {}, json.dumps(body).encode())
    assert said in await refused(at(model.url, LYKKE_TOKEN="sesame"), kind)
    model.answer = (status, {}, b"<html>\x1b[31m\xff" * 1_000)
    await refused(at(model.url), kind)


async def test_no_redirect_is_followed_as_the_token_would_go_along(model: ModelBridge) -> None:
    with ModelBridge() as other:
        model.answer = (302, {"Location": f"{other.url}/ws/{USER}"}, b"")
        text = await refused(at(model.url, LYKKE_TOKEN="sesame"), ServerUnavailable)
        assert "leads on to" in text and other.url in text
        assert other.queries == []


async def test_who_hangs_up_without_a_word_may_be_a_bridge_that_is_restarted() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        text = await refused(at(f"http://127.0.0.1:{port}"), ServerUnavailable)
    assert "Cannot reach" in text and "no bridge" not in text


async def test_who_speaks_no_websocket_is_no_bridge() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"+PONG\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "speaks no WebSocket" in await refused(
            at(f"http://127.0.0.1:{port}"), ServerUnavailable
        )


async def test_a_server_that_does_not_answer_is_not_waited_for_long(
    model: ModelBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_WAIT", 0.1)
    with Proxy(model.port) as proxy:
        proxy.swallow()
        bridge = at(f"http://127.0.0.1:{proxy.port}")
        assert "did not answer in time" in await refused(bridge, ServerUnavailable)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_where_nobody_listens_the_reason_is_the_system_s(host: str) -> None:
    text = await refused(at(f"http://{host}:{free_port()}"), ServerUnavailable)
    assert "(connection refused)" in text and "lykke serve" in text


async def test_a_message_that_is_no_entry_s_size_ends_it(
    model: ModelBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_FRAME", 1 << 20)
    model.says = ["x" * ((1 << 20) + 1)]
    assert "more than 1 MiB" in await refused(at(model.url), BridgeRefused)
    assert LARGEST_FRAME > 10 << 20


async def test_a_large_message_comes_whole(model: ModelBridge) -> None:
    model.says = ["x" * (10 << 20)]
    [frame] = await receive(at(model.url))
    assert len(frame) == 10 << 20


async def test_a_frame_that_makes_no_sense_ends_it() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from websockets.server import ServerProtocol
        from websockets.typing import Subprotocol

        protocol = ServerProtocol(subprotocols=[Subprotocol("lykke.v1")])
        while not (events := protocol.events_received()):
            protocol.receive_data(await reader.read(65_536))
        protocol.send_response(protocol.accept(events[0]))  # type: ignore[arg-type]
        writer.write(b"".join(protocol.data_to_send()) + b"\xff" * 64)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert "no WebSocket message" in await refused(at(url), BridgeRefused)


async def test_tls_is_checked_against_the_authority_that_the_url_names(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    with ModelBridge(tls=server_context(ours.sign("localhost"))) as model:
        await receive(at(f"{model.url}?ssl_ca_certs={ours.file}"))
        for query in ("", f"?ssl_ca_certs={others.file}"):
            text = await refused(at(f"{model.url}{query}"), ServerUnavailable)
            assert "certificate is not accepted" in text and "ssl_ca_certs=FILE" in text
        other_name = at(f"https://127.0.0.1:{model.port}?ssl_ca_certs={ours.file}")
        assert "host name" in await refused(other_name, ServerUnavailable)


async def test_tls_is_checked_against_the_authority_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Authority(tmp_path, "ours")
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.file))
    with ModelBridge(tls=server_context(ours.sign("localhost"))) as model:
        await receive(at(model.url))


async def test_a_client_certificate_is_shown_where_one_is_wanted(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    mine = ours.sign("client.example")
    with ModelBridge(tls=server_context(ours.sign("localhost"), clients=ours)) as model:
        url = f"{model.url}?ssl_ca_certs={ours.file}"
        await receive(at(f"{url}&ssl_certfile={mine.certificate}&ssl_keyfile={mine.key}"))
        await refused(at(url), LykkeError)


async def test_tls_at_a_port_without_it_is_told(model: ModelBridge) -> None:
    text = await refused(at(f"https://localhost:{model.port}"), ServerUnavailable)
    assert "speak TLS" in text


async def test_the_environment_s_proxy_is_used_but_not_for_this_machine(
    model: ModelBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://localhost:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://localhost:{free_port()}")
    await receive(at(model.url))
    text = await refused(at("https://lykke.example"), ServerUnavailable)
    assert "connection refused" in text
    monkeypatch.setenv("https_proxy", "nonsense://")
    assert "proxy" in await refused(at("https://lykke.example"), UsageMistake)
    monkeypatch.setenv("https_proxy", f"http://localhost:{model.port}")  # which is none
    assert "proxy" in await refused(at("https://lykke.example"), ServerUnavailable)


async def test_no_log_in_whatever_detail_has_the_token(
    model: ModelBridge, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        await receive(at(model.url, LYKKE_TOKEN="sesame"))
    ours = [record for record in caplog.records if record.name != "websockets.server"]
    assert "sesame" not in "".join(record.getMessage() for record in ours)
