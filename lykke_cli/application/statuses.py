"""What whoever follows a channel is told of it, beside what came on it."""

from datetime import datetime

import msgspec

from lykke_cli.application.gateways.pubsub_protocol import Gap


class Connected(msgspec.Struct, frozen=True):
    """The server confirmed the subscription, and with a history its first snapshot was taken.

    Whatever is committed from then on is printed.
    """

    channel: str
    """What is followed, in words."""
    gap: Gap | None
    """The time without one before it, if this is not the first to be told of."""
    node: str | None = None
    """Which of several servers it is followed at; None where there is but one."""

    @property
    def followed(self) -> str:
        """What is followed, and where, in words."""
        return self.channel if self.node is None else f"{self.channel} at {self.node}"


class Disconnected(msgspec.Struct, frozen=True):
    """The subscription broke; it is being taken up again."""

    reason: str
    since: datetime
    """When the server was last heard of."""


class HistoryAway(msgspec.Struct, frozen=True):
    """The database cannot be read at the moment; it is tried again."""

    reason: str


class HistoryRead(msgspec.Struct, frozen=True):
    """A read of the database is complete."""

    recovered: int
    """Entries it printed that had not come live."""
    after_failure: bool
    goes_on: bool = False
    """Live messages still wait: what has happened meanwhile asked for another read before them."""


class Notice(msgspec.Struct, frozen=True):
    """Something the person should know."""

    text: str
    may_repeat: bool = False
    """It is that entries may come again."""


Status = Connected | Disconnected | HistoryAway | HistoryRead | Notice
