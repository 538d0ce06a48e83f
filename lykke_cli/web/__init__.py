"""The bridge: what a terminal is promised, over WebSockets, Server-Sent Events and HTTP."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lykke_cli.web.app import Bridge, make_app
    from lykke_cli.web.authorization import AuthSettings, authorize_by
    from lykke_cli.web.grant import Authorize, Forbidden, Grant, Unauthorized
    from lykke_cli.web.limits import Limits

_HOMES = {
    "AuthSettings": "authorization",
    "Authorize": "grant",
    "Bridge": "app",
    "Forbidden": "grant",
    "Grant": "grant",
    "Limits": "limits",
    "Unauthorized": "grant",
    "authorize_by": "authorization",
    "make_app": "app",
}
NEEDS = ("cryptography", "jwt", "prometheus_client", "pydantic_core", "starlette")
"""What of the extra `serve` every bridge is built on, however it is served."""

__all__ = [
    "AuthSettings",
    "Authorize",
    "Bridge",
    "Forbidden",
    "Grant",
    "Limits",
    "Unauthorized",
    "authorize_by",
    "make_app",
]


def __getattr__(name: str) -> object:
    """Import a public name on its first use; raises UsageMistake where the extra is missing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    missing = [package for package in NEEDS if find_spec(package) is None]
    if missing:
        from lykke_cli.application.errors import UsageMistake

        raise UsageMistake(
            f"The bridge needs {' and '.join(missing)}: pip install 'lykke-cli[serve]'"
        )
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
