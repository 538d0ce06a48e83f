"""How long an answer is waited for."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lykke_cli.infrastructure.redis.wire import Wire


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Wire, asyncio.StreamWriter]]:
    """A wire, and what its server answers by."""
    accepted = asyncio.get_running_loop().create_future()

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        wire = await Wire.connect(*server.sockets[0].getsockname()[:2])
        try:
            writer = await accepted
            yield wire, writer
            writer.close()
        finally:
            await wire.close()


async def test_an_answer_is_waited_for_as_long_as_it_is_coming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with connected() as (wire, server):
        ahead = 0.0
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: time.monotonic() + ahead)
        wire.patience = 120.0
        asking = asyncio.create_task(wire.ask([("GET", "key")]))
        answer = b"$5\r\nhello\r\n"
        for number in range(len(answer)):
            ahead += 60.0
            server.write(answer[number : number + 1])
            while wire.size <= number and not asking.done():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert await asking == [b"hello"]


async def test_a_server_that_is_silent_is_a_loss() -> None:
    async with connected() as (wire, server):
        server.write(b"$5\r\nhe")
        wire.patience = 0.01
        with pytest.raises(TimeoutError):
            await wire.ask([("GET", "key")])
        assert not wire.is_open
