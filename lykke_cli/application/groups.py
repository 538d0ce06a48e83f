"""Consumer groups: who is in them, what they hold, and how far they are behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

CLAIM_AFTER = 60.0  # seconds, after which what nobody renews is given to another member
MAX_DELIVERIES = 10  # of an entry that nobody acknowledges, before it is a dead letter


@dataclass(frozen=True, slots=True)
class GroupMemberState:
    """A member of a group, over all streams."""

    consumer: str
    pending: int
    """How many entries it holds."""
    idle: float
    """Seconds since it last asked for something."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group, over all streams of a channel type."""

    group: str
    streams: int
    """How many of them have it."""
    members: Sequence[GroupMemberState]
    pending: int
    """How many entries were given out and not acknowledged."""
    lag: int
    """How many are in the streams and were not given out."""
    is_lag_least: bool
    """Whether they are more than that: they were not counted to the end."""
    dead: int
    """How many dead letters the streams have, of any group."""

    def to_dict(self) -> dict[str, Any]:
        members = [
            {"consumer": one.consumer, "pending": one.pending, "idle_seconds": round(one.idle, 3)}
            for one in self.members
        ]
        return {
            "group": self.group,
            "members": members,
            "pending": self.pending,
            "lag": self.lag,
            "lag_is_least": self.is_lag_least,
            "dead_letters": self.dead,
        }


class GroupsProtocol(Protocol):
    """Looks at groups; an async context manager that connects on first use."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def groups(self, channel_type: str) -> list[GroupState]:
        """All of them, by name; raises StreamsMissing, ServerUnavailable and LoginRefused."""
        ...
