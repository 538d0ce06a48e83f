"""Active channels: what a channel's name means, and what has changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from lykke_cli.application.gateways.channels_protocol import Census


@dataclass(frozen=True, slots=True)
class Change:
    """Another number of subscribers than at the last look; `channel` None is for patterns."""

    channel: str | None
    subscribers: int
    previous: int

    def to_dict(self) -> dict[str, Any]:
        if self.channel is None:
            return {"pattern_subscriptions": self.subscribers, "previous": self.previous}
        return describe(self.channel, self.subscribers) | {"previous": self.previous}


def describe(channel: str, subscribers: int) -> dict[str, Any]:
    """A channel as JSON values: `type` and `user_id` are None where its name has none."""
    channel_type, colon, user = channel.rpartition(":")
    try:
        user_id = str(UUID(user)) if colon else None
    except ValueError:
        user_id = None
    return {
        "channel": channel,
        "type": channel_type or None,
        "user_id": user_id,
        "subscribers": subscribers,
    }


def changes(before: Census, after: Census) -> Iterator[Change]:
    """Return which channels are new, different or gone, by name; patterns come last."""
    for channel in sorted(before.subscribers.keys() | after.subscribers.keys()):
        old, new = before.subscribers.get(channel, 0), after.subscribers.get(channel, 0)
        if old != new:
            yield Change(channel, new, old)
    if before.patterns != after.patterns:
        yield Change(None, after.patterns, before.patterns)
