"""Thousands of WebSocket clients in one process, as cheap as can be."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence

MARK = b'"activity_type"'  # once in each entry
NUMBER = re.compile(rb'"id":"([0-9a-f]{8})-0000-4000-8000-')
CURSOR = re.compile(rb'"cursor":"([^"]+)"\}$')
AT_ONCE = 200  # handshakes
AN_ADDRESS = 400  # sockets from one loopback address: a bridge bounds them


class Socket(asyncio.Protocol):
    """One client, of a user's number; `first` is what it says once it may speak."""

    def __init__(
        self, user: int, request: bytes, first: bytes, note: Callable[["Socket", bytes], None]
    ) -> None:
        self.user = user
        self.entries = 0
        self.numbers: list[int] = []
        """Of the entries, where `note` wants them."""
        self.is_watched = False
        self.caught_up_at = 0.0
        self.is_open = asyncio.get_running_loop().create_future()
        self.is_lost = False
        self._request = request
        self._first = first
        self._note = note
        self._rest = b""
        self._newest = b""
        self._transport: asyncio.Transport | None = None

    @property
    def cursor(self) -> str | None:
        """The newest that came."""
        found = CURSOR.search(self._newest)
        return found and found[1].decode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if not self.is_open.done():
            self.is_open.set_exception(exc or ConnectionResetError("closed in the handshake"))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        if not self.is_open.done():
            head, end, rest = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = data
                return
            if b" 101 " not in head[:20]:
                self.is_open.set_exception(ConnectionRefusedError(data.decode("utf-8", "replace")))
                return
            self.is_open.set_result(None)
            if self._first:
                self._send(0x81, self._first)
            data = rest
        at, size = 0, len(data)
        while size - at >= 2:
            length, start = data[at + 1], at + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                length = int.from_bytes(data[at + 2 : start])
            if start + length > size or start > size:
                break
            self._take(data[at] & 15, data[start : start + length])
            at = start + length
        self._rest = data[at:]

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == 1:
            self.entries += payload.count(MARK)
            if payload.endswith(b'"}'):
                self._newest = payload
            if payload.startswith(b'{"type":"caught_up"'):
                self.caught_up_at = time.perf_counter()
            self._note(self, payload)
        elif kind == 9:
            self._send(0x8A, payload)

    def _send(self, kind: int, payload: bytes) -> None:
        """Masked with zeros, which is no mask."""
        assert self._transport is not None
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
        self._transport.write(bytes([kind]) + length + bytes(4) + payload)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def open_sockets(
    port: int,
    clients: Sequence[tuple[int, str, bytes]],
    headers: str = "",
    note: Callable[[Socket, bytes], None] = lambda socket, payload: None,
) -> list[Socket]:
    """Clients, each by its user's number, the path, and what it says first; all shook hands."""
    loop = asyncio.get_running_loop()
    free = asyncio.Semaphore(AT_ONCE)

    async def open_one(position: int, user: int, path: str, first: bytes) -> Socket:
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Version: 13\r\n{headers}\r\n"
        ).encode()
        address = (f"127.0.0.{2 + position // AN_ADDRESS}", 0)
        async with free:
            _, socket = await loop.create_connection(
                lambda: Socket(user, request, first, note), "127.0.0.1", port, local_addr=address
            )
            await socket.is_open
        return socket

    return await asyncio.gather(*(open_one(n, *each) for n, each in enumerate(clients)))
