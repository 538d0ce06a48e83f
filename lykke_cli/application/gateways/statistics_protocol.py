"""Counting audit log entries: the database does it, whatever their number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.wall_clock import Bucket, WallClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The entries that are counted."""

    selection: Selection
    since: datetime | None = None
    """Inclusive, aware."""
    until: datetime | None = None
    """Exclusive, aware."""


@dataclass(frozen=True, slots=True)
class Summary:
    """All of them together; `first` and `last` are None when there is none."""

    entries: int
    types: int
    """How many different activity types."""
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True)
class TypeCount:
    """The entries of one activity type."""

    activity_type: str
    """At most LONGEST_TYPE characters of it."""
    entries: int
    last: datetime


LONGEST_TYPE = 200


class StatisticsProtocol(Protocol):
    """Counts with SELECT rights alone; all within one `async with` see the same moment.

    Entering and every method raise ServerUnavailable (or LoginRefused, SchemaMismatch).
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def summary(self, scope: Scope) -> Summary: ...

    async def by_bucket(self, scope: Scope, bucket: Bucket, clock: WallClock) -> Mapping[int, int]:
        """Entries by the number of their bucket; those without any are left out."""
        ...

    async def by_type(self, scope: Scope, limit: int) -> Sequence[TypeCount]:
        """The `limit` most frequent types, most frequent first."""
        ...

    async def types(self, limit: int) -> Sequence[str]:
        """The first `limit` activity types in use, in some order, without those that are longer
        than LONGEST_TYPE; cheap however many entries there are, by the index on the type.
        """
        ...

    async def by_hour(self, scope: Scope, clock: WallClock) -> Mapping[int, int]:
        """Entries by `hour_of_week`; hours without any are left out."""
        ...
