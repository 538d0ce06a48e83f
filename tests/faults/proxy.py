"""A TCP proxy that can swallow bytes, or cut connections off after so many answers."""

import asyncio
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from socket import AF_INET
from typing import Self


class Proxy:
    """Forwards a free loopback port to `target`, until told to swallow."""

    HOST = "127.0.0.1"

    def __init__(self, target: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._tls = tls
        self._target = target
        self._flowing = True
        self._lines_left: int | None = None
        self._bytes_left: int | None = None
        self._word: bytes | None = None
        self._call: Callable[[], object] = lambda: None
        self._passes = False
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._loop is not None and self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def swallow(self) -> None:
        """From now on every byte disappears."""
        self._flowing = False

    def restore(self) -> None:
        """New bytes get through again; those swallowed are gone."""
        self._flowing = True

    def cut_after(self, lines: int) -> None:
        """Once: after so many more lines from the target, which gets all that it is sent."""
        self._lines_left = lines

    def cut_at(self, count: int) -> None:
        """Once: end a connection in the middle of what it is sent, after so many more bytes."""
        self._bytes_left = count

    def call_at(self, word: bytes, call: Callable[[], object], *, passes: bool) -> None:
        """Once: `call` when this is sent to the target, which gets it if it `passes`.

        Nothing more is answered then.
        """
        self._word, self._call, self._passes = word, call, passes

    def lead_to(self, target: int) -> None:
        """Connections from now on are to this port."""
        self._target = target

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(
            self._connected, self.HOST, 0, family=AF_INET, ssl=self._tls
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            await self._pass_on(reader, writer, self._target)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        target: int,
        first: bytes = b"",
    ) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", target)
        up_writer.write(first)
        await asyncio.gather(self._pump(reader, up_writer), self._answer(up_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if self._word is not None and self._word in data:
                    self._word, self._flowing = None, False
                    if self._passes:
                        writer.write(data)
                        await writer.drain()
                    self._call()
                if self._flowing:
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if self._lines_left is not None:
                    lines = data.splitlines(keepends=True)
                    if len(lines) >= self._lines_left:
                        writer.write(b"".join(lines[: self._lines_left]))
                        self._lines_left = None
                        return
                    self._lines_left -= len(lines)
                if self._bytes_left is not None:
                    if len(data) > self._bytes_left:
                        writer.write(data[: self._bytes_left])
                        self._bytes_left = None
                        return
                    self._bytes_left -= len(data)
                if self._flowing:
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()
