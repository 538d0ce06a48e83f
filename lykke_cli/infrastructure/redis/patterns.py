"""Channels as Redis is told them: by name, and every user's as a pattern."""

import re
from collections.abc import Iterable, Iterator

from lykke_cli.application.gateways.pubsub_protocol import Channel, channel_name

_GLOB = re.compile(r"([*?\[\]\\^])")


def every_user(channel_type: str) -> str:
    """The pattern of all users' channels of exactly this type."""
    return channel_name(_GLOB.sub(r"\\\1", channel_type), None)


def commands_for(verb: str, channels: Iterable[Channel]) -> Iterator[tuple[str, ...]]:
    """SUBSCRIBE or UNSUBSCRIBE as `verb`, for single channels and for every user's."""
    channels = list(channels)
    if names := [channel.name for channel in channels if channel.user_id is not None]:
        yield verb, *names
    if patterns := [every_user(c.channel_type) for c in channels if c.user_id is None]:
        yield f"P{verb}", *patterns
