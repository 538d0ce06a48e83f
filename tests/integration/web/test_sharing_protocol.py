"""Messages that several clients get, over real sockets."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from lykke_cli.web.sharing_protocol import FRAME, SharingProtocol
from tests.bridges import PATIENCE, served


class Sender:
    """An ASGI application: sends each of its sockets what the test says."""

    def __init__(self) -> None:
        self.sends: list[Any] = []
        self.receives: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "websocket.accept"})
        self.sends.append(send)
        self.receives.append(receive)
        await asyncio.Event().wait()


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
async def place(sender: Sender) -> AsyncGenerator[str]:
    async with served(sender, ws=SharingProtocol, timeout_graceful_shutdown=0) as place:
        yield f"ws://{place}/"


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65_535, 65_536, 1 << 20])
async def test_all_get_the_same_text_which_is_framed_once(
    place: str, sender: Sender, size: int
) -> None:
    text = "ü" * (size // 2) + "x" * (size % 2)
    message = {"type": "websocket.send", "text": text}
    async with connect(place, max_size=None) as one, connect(place, max_size=None) as other:
        frames = []
        for client, send in zip((one, other), sender.sends, strict=True):
            sending = asyncio.create_task(send(message))
            async with asyncio.timeout(PATIENCE):
                assert await client.recv() == text
            await sending
            frames.append(message[FRAME])
        assert frames[0] is frames[1]


async def test_other_messages_are_uvicorns(place: str, sender: Sender) -> None:
    async with connect(place) as client:
        await sender.sends[0]({"type": "websocket.send", "bytes": b"\0"})
        assert await client.recv() == b"\0"
        await sender.sends[0]({"type": "websocket.close", "code": 4408, "reason": "slow"})
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (4408, "slow")


async def test_who_has_gone_is_sent_nothing_more(place: str, sender: Sender) -> None:
    message = {"type": "websocket.send", "text": "again"}
    async with connect(place) as client, connect(place) as other:
        await sender.sends[0](message)
        await client.close()
        async with asyncio.timeout(PATIENCE):
            assert (await sender.receives[0]())["type"] == "websocket.disconnect"
        with pytest.raises(OSError):
            await sender.sends[0](message)
        await sender.sends[1](message)
        assert await other.recv() == "again"


async def test_a_full_buffer_is_waited_for(place: str, sender: Sender) -> None:
    message = {"type": "websocket.send", "text": "x" * (1 << 20)}
    async with connect(place, max_size=None, max_queue=1) as client:

        async def send_many() -> None:
            for _ in range(100):
                await sender.sends[0](message)

        sending = asyncio.create_task(send_many())
        done, _ = await asyncio.wait({sending}, timeout=0.3)
        assert not done
        async with asyncio.timeout(PATIENCE):
            for _ in range(100):
                assert len(await client.recv()) == 1 << 20
            await sending


async def test_who_answers_no_ping_has_gone_though_its_connection_has_not_ended_yet(
    place: str, sender: Sender
) -> None:
    async with connect(place):
        sender.receives[0].__self__.keepalive_timeout()
        for message in ({"type": "websocket.send", "text": "."}, {"type": "websocket.close"}):
            with pytest.raises(OSError):
                await sender.sends[0](message)


async def test_a_client_on_which_nothing_happens_keeps_little(place: str, sender: Sender) -> None:
    async with connect(place, additional_headers={"X-Large": "x" * 1_000}) as client:
        await sender.sends[0]({"type": "websocket.send", "text": "."})
        assert await client.recv() == "."
        protocol = sender.receives[0].__self__
        assert len(vars(protocol)) <= 30  # more would not be shared with other objects
        assert not protocol.request.headers and protocol.response is None
