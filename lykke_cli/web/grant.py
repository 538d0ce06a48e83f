"""What a client may do, and the two ways of telling it that it may not."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from lykke_cli.application.messages import format_time
from lykke_cli.domain.errors import LykkeError

READ, PUBLISH, ALL_USERS = "read", "publish", "all-users"
SCOPES = frozenset({READ, PUBLISH, ALL_USERS})


class Unauthorized(LykkeError):
    """Who asks is not known: HTTP 401, WebSocket 4401."""

    def __init__(self, message: str | None = None, *, code: str = "not_allowed") -> None:
        super().__init__(message)
        self.code = code
        """For programs: `token_expired` where a new token helps, else `not_allowed`."""


class Forbidden(LykkeError):
    """Who asks is known, or is a page of another site, and may not: HTTP 403, WebSocket 4403."""

    code = "not_allowed"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What one token allows."""

    subject: str
    """Who it is: shown to others as the sender of a broadcast."""
    scopes: frozenset[str]
    """Of `read`, `publish` and `all-users`."""
    user_id: UUID | None = None
    """Whose channel, where `all-users` is not among the scopes."""
    expires_at: datetime | None = None
    """From when on nothing is allowed any more; None: never."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "subject": self.subject,
            "scopes": sorted(self.scopes),
            "all_users": ALL_USERS in self.scopes,
            "user_id": None if self.user_id is None else str(self.user_id),
            "expires_at": None if self.expires_at is None else format_time(self.expires_at),
        }

    def may_read(self, user_id: UUID | None) -> bool:
        """Whether it allows reading this user's entries, or with None every user's."""
        return READ in self.scopes and self._reaches(user_id)

    def may_publish(self, user_id: UUID) -> bool:
        """Whether it allows publishing to this user's channel."""
        return PUBLISH in self.scopes and self._reaches(user_id)

    def _reaches(self, user_id: UUID | None) -> bool:
        return ALL_USERS in self.scopes or (user_id is not None and self.user_id == user_id)

    def seconds_left(self, now: datetime | None = None) -> float | None:
        """How long it still holds; None: for ever. At 0 its socket is closed with 4401."""
        if self.expires_at is None:
            return None
        return max(0.0, (self.expires_at - (now or datetime.now(UTC))).total_seconds())

    def renewed_by(self, other: "Grant", *, reading: UUID | None) -> "Grant":
        """`other`, the grant of a newer token, to go on reading the user `reading` with.

        None stands for every user. Raises Forbidden where it is somebody else's, or does not allow
        to read that.
        """
        if (other.subject, other.user_id) != (self.subject, self.user_id):
            raise Forbidden("The new token is somebody else's: connect anew with it.")
        if not other.may_read(reading):
            raise Forbidden(f"The new token does not allow to read {_in_words(reading)}.")
        return other


def may_not_read(user_id: UUID | None) -> Forbidden:
    """What is wrong with a token that does not allow it."""
    return Forbidden(f"The token does not allow to read {_in_words(user_id)}.")


def _in_words(user_id: UUID | None) -> str:
    return f"every user: that needs the scope {ALL_USERS}" if user_id is None else "this user"


Authorize = Callable[[str | None, Mapping[str, Any]], Awaitable[Grant]]
"""From a token, or None where there is none, and the connection's ASGI scope to what it allows.

Raises Unauthorized, Forbidden, or ServerUnavailable where it cannot be told at the moment (503).
"""


async def anybody(token: str | None, scope: Mapping[str, Any]) -> Grant:
    """An Authorize that asks nobody for anything: for the loopback interface, and for tests."""
    return Grant(subject="anybody", scopes=SCOPES)
