"""Patterns of channels, as Redis matches them."""

import re

from lykke_cli.application.gateways.pubsub_protocol import channel_name

_GLOB = re.compile(r"([*?\[\]\\^])")


def every_user(channel_type: str) -> str:
    """The pattern of all users' channels of exactly this type."""
    return channel_name(_GLOB.sub(r"\\\1", channel_type), None)
