"""Which channels have subscribers at this moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class Census:
    """The subscriptions of one moment."""

    subscribers: Mapping[str, int]
    """By channel; none is 0."""
    patterns: int
    """Subscriptions to patterns, such as those of `lykke tail --all`, whatever their pattern: each
    may see these channels too, and is counted with none of them."""


class ChannelsProtocol(Protocol):
    """Counts subscribers; an async context manager that connects on first use."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def census(self, channel_types: Sequence[str], pattern: str | None = None) -> Census:
        """The channels `{channel_type}:*`, or those that fit the server's `pattern`.

        Raises ServerUnavailable (or LoginRefused).
        """
        ...
