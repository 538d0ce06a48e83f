"""A connection to a bridge (`lykke serve`), through which users are followed.

Who does so needs no rights at Redis and the database. What comes from a bridge is as untrusted as
what comes on a channel.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from lykke_cli.application.errors import BadInput, SubscriptionLost

BROKEN_OFF = 1006
"""The code of a connection that ended without a close frame."""


class BridgeClosed(SubscriptionLost):
    """The connection to the bridge ended."""

    def __init__(self, *, code: int, reason: str = "", since: datetime | None = None) -> None:
        super().__init__(since=since)
        self.code = code
        """As the bridge gave it in its close frame, else 1006."""
        self.reason = reason
        """In the bridge's words, if it gave any; nobody has looked at them."""


class BridgeRefused(BadInput):
    """The bridge refuses what it is asked for, or sends what no bridge sends."""


class PlaceRefused(BridgeRefused):
    """The bridge does not go on from the stored place."""

    at_start = True
    """Whether nothing was followed yet."""


class BridgeConnection(Protocol):
    """Frames to and from the bridge, about one user."""

    async def send(self, frame: bytes) -> None:
        """Raises BridgeClosed."""
        ...

    async def receive(self) -> bytes:
        """The next frame. A cancelled call loses none.

        Raises BridgeClosed, and BridgeRefused for what is no frame, or a larger one than any is.
        """
        ...


class BridgeProtocol(Protocol):
    """One bridge, and how to log in there."""

    @property
    def name(self) -> str:
        """Its URL as it may be shown; equal for URLs that only differ in their spelling."""
        ...

    def connect(
        self, user_id: UUID, query: Sequence[tuple[str, str]]
    ) -> AbstractAsyncContextManager[BridgeConnection]:
        """A connection about one user; `query` goes with the request.

        Entering raises LoginRefused, BridgeRefused, and ServerUnavailable for what may pass.
        """
        ...

    def has_other_token(self) -> bool:
        """Whether the next login is with another token than the last one was."""
        ...
