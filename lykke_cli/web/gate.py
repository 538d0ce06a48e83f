"""The first that a request meets: which page asks, and by which name of the server."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from lykke_cli.domain.errors import LykkeError
from lykke_cli.web.authorization import refuse_token_in_url
from lykke_cli.web.origins import Origins
from lykke_cli.web.refusals import Refusal, refusal_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENDING = 1.0  # seconds for a connection to end
EVENTS_AT_THE_END = 3
"""Of uvicorn's: that it connects, that it is refused, that it has ended."""
PROBES = ("/healthz", "/readyz")
"""Whoever watches the server asks for these by any address, and they tell next to nothing."""


class Gate:
    """Middleware of ASGI."""

    def __init__(self, app: "ASGIApp", origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Let the request pass, or answer it."""
        if scope["type"] == "http":
            send = self._with_headers(scope, send)
        elif scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        try:
            refuse_token_in_url(scope)
            if not is_probe(scope):
                self._origins.check(scope)
        except LykkeError as error:
            await deny(refusal_of(error), scope, receive, send)
            return
        if (headers := self._origins.preflight_headers(scope)) is not None:
            await Response(status_code=204, headers=headers)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _with_headers(self, scope: "Scope", send: "Send") -> "Send":
        headers = self._origins.answer_headers(scope)

        async def sender(message: "Message") -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                vary = answered.get("Vary")
                answered.update(headers)
                if vary is not None:
                    answered.add_vary_header(vary)
            await send(message)

        return sender


def is_probe(scope: "Scope") -> bool:
    """Whether it only asks how the server is."""
    return scope["type"] == "http" and path_of(scope) in PROBES


def path_of(scope: "Scope") -> str:
    """The path, from where the bridge is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def refused(refusal: Refusal) -> Response:
    """The answer of HTTP."""
    headers = {}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.temporary:
        headers["Retry-After"] = "1"
    return Response(
        refusal.to_json(), refusal.status, headers=headers, media_type="application/json"
    )


async def deny(refusal: Refusal, scope: "Scope", receive: "Receive", send: "Send") -> None:
    """Answer a request, or a WebSocket's before it was accepted."""
    if scope["type"] == "http":
        await refused(refusal)(scope, receive, send)
        return
    if "websocket.http.response" in scope.get("extensions", {}):
        await refused(refusal)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": refusal.close})
    with suppress(TimeoutError):
        async with asyncio.timeout(ENDING):  # uvicorn calls it an error to return before
            for _ in range(EVENTS_AT_THE_END):
                await receive()
