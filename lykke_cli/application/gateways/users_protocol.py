"""The users whose activity is in the audit log, and their e-mail addresses."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.messages import format_time


@dataclass(frozen=True, slots=True)
class ActiveUser:
    """A user with entries in the range that was asked for."""

    user_id: str
    entries: int
    last: datetime
    """When the newest of these occurred."""
    email: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "user_id": self.user_id,
            "email": self.email,
            "entries": self.entries,
            "last": format_time(self.last),
        }


class UsersProtocol(Protocol):
    """Looks users up with SELECT rights alone; all within one `async with` see the same moment.

    E-mail addresses are the application's: columns `id` and `email` of its table `users`. Entering
    and every method raise ServerUnavailable (or LoginRefused, SchemaMismatch).
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def have_emails(self) -> bool:
        """Whether there is such a table, and it may be read."""
        ...

    async def active(
        self, scope: Scope, limit: int, email: str | None = None
    ) -> Sequence[ActiveUser]:
        """The `limit` users who were active last, the last one first.

        `email` is a pattern in which `*` and `?` stand for anything, in any case; it needs
        `have_emails`, as `with_email` does.
        """
        ...

    async def emails(self, user_ids: Collection[str]) -> Mapping[str, str]:
        """The addresses by id of those of these users who have one; it needs `have_emails`."""
        ...

    async def with_email(self, email: str, limit: int) -> Sequence[str]:
        """The ids of at most `limit` users who have this address, in any case."""
        ...

    async def with_start(self, start: str, limit: int) -> Sequence[str]:
        """The ids, in order, of at most `limit` users with entries whose id begins with `start`.

        `start` is in lower case with dashes where an id has them.
        """
        ...
