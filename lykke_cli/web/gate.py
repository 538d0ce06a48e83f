"""The first that a request meets: which page asks, and by which name of the server."""

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from lykke_cli.domain.errors import LykkeError
from lykke_cli.web.authorization import refuse_token_in_url
from lykke_cli.web.origins import Origins
from lykke_cli.web.refusals import Refusal, refusal_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PROBES = ("/healthz", "/readyz")
"""Whoever watches the server asks for these by any address, and they tell next to nothing."""


class Gate:
    """Middleware of ASGI."""

    def __init__(self, app: "ASGIApp", origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Let the request pass, or answer it."""
        if scope["type"] not in ("http", "websocket") or is_probe(scope):
            await self._app(scope, receive, send)
            return
        try:
            self._origins.check(scope)
            refuse_token_in_url(scope)
        except LykkeError as error:
            await deny(refusal_of(error), scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        preflight = self._origins.preflight_headers(scope)
        if preflight is not None:
            await Response(status_code=204, headers=preflight)(scope, receive, send)
            return
        headers = self._origins.answer_headers(scope)

        async def sender(message: "Message") -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        await self._app(scope, receive, sender)


def is_probe(scope: "Scope") -> bool:
    """Whether it only asks how the server is."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["type"] == "http" and path in PROBES


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
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await refused(refusal)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": refusal.close})
