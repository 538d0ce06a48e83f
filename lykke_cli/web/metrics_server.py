"""GET /metrics for a process that serves nothing else, without the libraries of the extra."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from lykke_cli.web.listening import bind, url

TIMEOUT = 10.0  # seconds for a request and its answer
LONGEST_REQUEST = 16_384  # bytes
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_END = b"\r\n\r\n"


@asynccontextmanager
async def serve_metrics(host: str, port: int, text: Callable[[], str]) -> AsyncGenerator[str]:
    """Answer with `text()` while the block lasts, which is given the address.

    Raises UsageMistake where the port cannot be had.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(TIMEOUT):
                head = await reader.readuntil(_END)
                writer.write(_answer(head, text))
                await writer.drain()
        writer.close()

    sockets = bind(host, port)
    servers = [
        await asyncio.start_server(answer, sock=each, limit=LONGEST_REQUEST) for each in sockets
    ]
    try:
        yield url(host, sockets)
    finally:
        for server in servers:
            server.close()


def _answer(head: bytes, text: Callable[[], str]) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    status, body = "200 OK", ""
    if path != b"/metrics":
        status = "404 Not Found"
    elif method not in (b"GET", b"HEAD"):
        status = "405 Method Not Allowed"
    else:
        body = text()
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body.encode())}",
        "Connection: close",
    )
    shown = "" if method == b"HEAD" else body
    return ("\r\n".join(lines) + "\r\n\r\n" + shown).encode()
