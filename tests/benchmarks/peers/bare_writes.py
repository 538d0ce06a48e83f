"""A user's channel to WebSockets, by transport.write and no more; arguments: Redis URL, port.

The least that a delivery costs here: nothing is checked, promised or waited for.
"""

import asyncio
import base64
import hashlib
import re
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import hiredis

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455
REQUEST = re.compile(rb"GET /ws/(\S+) .*\r\nSec-WebSocket-Key: (\S+)\r\n", re.DOTALL)
writes: dict[bytes, list[Callable[[bytes], None]]] = {}


class Redis(asyncio.Protocol):
    def __init__(self) -> None:
        self.reader = hiredis.Reader()

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            if reply[0] == b"message":
                text = b'{"type":"auditlog","data":%b}' % reply[2]
                frame = b"\x81\x7e" + len(text).to_bytes(2) + text
                for write in writes[reply[1]]:
                    write(frame)


class Client(asyncio.Protocol):
    def __init__(self, redis: asyncio.WriteTransport) -> None:
        self.redis = redis

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        request = REQUEST.match(data)
        if request is None:
            return
        channel = b"auditlog:" + request[1]
        if channel not in writes:
            writes[channel] = []
            self.redis.write(b"SUBSCRIBE %b\r\n" % channel)
        writes[channel].append(self.write)
        accept = base64.b64encode(hashlib.sha1(request[2] + MAGIC).digest())
        self.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )


async def main() -> None:
    loop, url = asyncio.get_running_loop(), urlsplit(sys.argv[1])
    redis, _ = await loop.create_connection(Redis, url.hostname or "", url.port or 6379)
    server = await loop.create_server(
        lambda: Client(redis), "127.0.0.1", int(sys.argv[2]), backlog=2048
    )
    await server.serve_forever()


asyncio.run(main())
