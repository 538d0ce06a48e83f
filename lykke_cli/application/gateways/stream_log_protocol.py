"""The streams as the relay writes them: each partition with the place up to which it is written."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, Self

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a partition's stream: every entry of its users that one of the cursors covers."""

    cursors: tuple[Cursor, ...]
    relay: str
    """Who wrote it."""
    number: int
    """Of the places that this relay wrote here."""
    read_at: float
    """When the last read of the table began that was read to its end, in seconds since 1970."""
    is_released: bool = False
    """The relay has ended: another one need not wait."""

    def is_same(self, other: "Place | None") -> bool:
        return other is not None and (self.relay, self.number) == (other.relay, other.number)


class Batch(msgspec.Struct, frozen=True):
    """What is written to one partition at once, whole or not at all."""

    partition: int
    entries: Sequence[tuple[str, bytes]]
    """The user and the message of each, in order; there may be none."""
    place: Place
    """Takes the place of the one before."""


class StreamLogProtocol(Protocol):
    """The partitions of one channel type.

    Every method raises ServerUnavailable. What was under way then may have been written.
    """

    async def __aenter__(self) -> Self:
        """Connect, and agree on how many partitions there are.

        Raises UsageMistake where another number was asked for.
        """
        ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    @property
    def partitions(self) -> int: ...

    def partition_of(self, user_id: str) -> int: ...

    async def look(self, partitions: Collection[int]) -> Mapping[int, Place | None]:
        """The places that are there now; None where there is none, or not all that goes with it."""
        ...

    async def write(self, batches: Sequence[Batch]) -> Mapping[int, Place | None]:
        """Write each, unless somebody has written since the last `look` or `write`.

        Returns the places that are there now, each that of its batch where it was written.
        """
        ...
