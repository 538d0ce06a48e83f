"""A bridge that keeps its word, in a thread of its own, on a free loopback port.

It knows the protocol and nothing of lykke: entries are committed here, and a cursor is their
number. It can be told to refuse, to cut its connections off and to say anything at all.
"""

import asyncio
import http
import ssl
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import orjson
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from lykke_cli.domain.audit_log import AuditLogEntity
from tests.builders import wire

READY = 10.0  # seconds
SUBPROTOCOL = "lykke.v1"


class ModelBridge:
    """Serves from entering the block on; `tls` secures it."""

    def __init__(self, *, token: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.token = token
        """What every client must log in with."""
        self.answer: tuple[int, Mapping[str, str], bytes] | None = None
        """What every request is answered with, in place of a connection."""
        self.says: list[bytes | str] = []
        """What is sent first of all, as it is."""
        self.refuses_cursors = False
        self.openings: list[dict[str, Any]] = []
        """What clients said of where to begin, in the request or the first frame."""
        self.queries: list[dict[str, list[str]]] = []
        self.port = 0
        self._tls = tls
        self._entries: list[tuple[str, bytes]] = []
        self._clients: set[ServerConnection] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._news: asyncio.Condition | None = None
        self._is_open = asyncio.Event()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(READY)
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._loop is not None and self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(READY)

    def commit(self, *entities: AuditLogEntity) -> None:
        """They go out to whom they concern, now or when they come back."""
        self._do(self._commit([(str(each.user_id), wire(each)) for each in entities]))

    def cut(self) -> None:
        """End every connection, without a word."""
        self._do(self._cut())

    def close(self, code: int, reason: str = "") -> None:
        """End every connection with a close frame."""
        self._do(self._close(code, reason))

    @contextmanager
    def closed_to_all(self) -> Iterator[None]:
        """Whoever comes within the block is served after it."""
        self._do(self._open(False))
        yield
        self._do(self._open(True))

    def _do(self, work: Any) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(work, self._loop).result(READY)

    async def _commit(self, entries: Sequence[tuple[str, bytes]]) -> None:
        assert self._news is not None
        async with self._news:
            self._entries += entries
            self._news.notify_all()

    async def _cut(self) -> None:
        for client in self._clients:
            client.transport.abort()

    async def _close(self, code: int, reason: str) -> None:
        for client in list(self._clients):
            await client.close(code, reason)

    async def _open(self, is_open: bool) -> None:
        self._is_open.set() if is_open else self._is_open.clear()

    async def _run(self) -> None:
        self._is_open.set()
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._news = asyncio.Condition()
        async with serve(
            self._connected,
            "127.0.0.1",
            0,
            ssl=self._tls,
            process_request=self._request,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            max_size=None,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            await self._stop.wait()
            for handler in self._handlers:
                handler.cancel()

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.answer is None:
            return None
        status, headers, body = self.answer
        response = connection.respond(http.HTTPStatus(status), "")
        response.headers.update(headers)
        del response.headers["Content-Length"]
        response.headers["Content-Length"] = str(len(body))
        response.body = body
        return response

    async def _connected(self, client: ServerConnection) -> None:
        assert client.request is not None
        handler = asyncio.current_task()
        assert handler is not None
        self._clients.add(client)
        self._handlers.add(handler)
        try:
            with suppress(ConnectionClosed, asyncio.CancelledError):
                await self._serve(client, client.request)
        finally:
            self._clients.discard(client)
            self._handlers.discard(handler)

    async def _serve(self, client: ServerConnection, request: Request) -> None:
        await self._is_open.wait()
        if self.token not in (None, request.headers.get("Authorization", "").partition(" ")[2]):
            await self._refuse(client, 4401, "not_allowed", "This token is not known.")
            return
        parts = urlsplit(request.path)
        user = str(uuid.UUID(parts.path.rpartition("/")[2]))
        query = parse_qs(parts.query)
        self.queries.append(query)
        opening: dict[str, Any] = {name: query[name] for name in ("since", "last") if name in query}
        self.openings.append(opening or orjson.loads(await client.recv()))
        opening = self.openings[-1]
        for payload in self.says:
            await client.send(payload)
        if "cursor" in opening and self.refuses_cursors:
            await self._refuse(client, 4400, "cursor_refused", "It was sealed with another key.")
            return
        await self._follow(client, user, opening)

    async def _follow(self, client: ServerConnection, user: str, opening: dict[str, Any]) -> None:
        assert self._news is not None
        at = len(self._entries)
        if "cursor" in opening:
            at = int(opening["cursor"])
        elif opening.keys() & {"since", "last"}:
            at = 0
        hello = {"type": "subscribed", "user_id": user, "exact": True, "recovered": True}
        await self._send(client, hello | {"cursor": str(at)})
        is_caught_up = False
        while True:
            async with self._news:
                while is_caught_up and at == len(self._entries):
                    await self._news.wait()
                new, at = self._entries[at:], len(self._entries)
            data = [orjson.Fragment(line) for owner, line in new if owner == user]
            if data:
                await self._send(
                    client, {"type": "auditlog_batch", "data": data, "cursor": str(at)}
                )
            if not is_caught_up:
                is_caught_up = True
                await self._send(client, {"type": "caught_up", "cursor": str(at)})

    async def _refuse(self, client: ServerConnection, code: int, name: str, message: str) -> None:
        await self._send(client, {"type": "error", "code": name, "message": message})
        await client.close(code, message)

    async def _send(self, client: ServerConnection, frame: dict[str, Any]) -> None:
        await client.send(orjson.dumps(frame).decode())
