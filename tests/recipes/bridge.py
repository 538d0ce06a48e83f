from collections.abc import Mapping
from typing import Any
from uuid import UUID

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from lykke_cli.web import Grant, Unauthorized, make_app

SESSIONS: dict[str, UUID] = {}  # your own: which user a cookie belongs to


async def authorize(token: str | None, scope: Mapping[str, Any]) -> Grant:
    """Who asks is known by the application's cookie; they see their own entries."""
    user = SESSIONS.get(HTTPConnection(dict(scope)).cookies.get("session", ""))
    if user is None:
        raise Unauthorized("Log in first.")
    return Grant(subject=str(user), scopes=frozenset({"read", "publish"}), user_id=user)


def application(redis_url: str, database_url: str) -> Starlette:
    """Yours, with the bridge under /audit; for FastAPI: FastAPI(lifespan=...), then app.mount."""
    bridge = make_app(redis_url=redis_url, database_url=database_url, authorize=authorize)
    return Starlette(routes=[Mount("/audit", bridge)], lifespan=bridge.lifespan)
