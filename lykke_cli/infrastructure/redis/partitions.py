"""How many streams there are."""

from lykke_cli.application.errors import StreamsMissing
from lykke_cli.infrastructure.redis.nodes import Nodes
from lykke_cli.infrastructure.redis.stream_layout import (
    PARTITIONS,
    agreed_partitions,
    partitions_name,
)
from lykke_cli.infrastructure.redis.wire import refused


async def find_partitions(nodes: Nodes, channel_type: str, server: str) -> int:
    """As stored on the `server`; raises StreamsMissing, BadInput, OSError and Refused."""
    key = partitions_name(channel_type)
    [stored] = await nodes.ask(key, [("GET", key)])
    refused([stored])
    if stored is None:
        raise StreamsMissing(
            f"Redis at {server} has no streams of {channel_type}.",
            remedy="Start `lykke relay`, which fills them from the database.",
        )
    return agreed_partitions(channel_type, stored)


async def agree_on_partitions(nodes: Nodes, channel_type: str, asked: int | None = None) -> int:
    """As stored; where nothing is, as many as `asked` for, or 16, from now on.

    Raises BadInput, OSError and Refused, and UsageMistake where another number was asked for.
    """
    key = partitions_name(channel_type)
    claim = ("SET", key, asked or PARTITIONS, "NX")
    made, stored = await nodes.ask(key, [claim, ("GET", key)])
    refused([stored] if stored else [made, stored])
    return agreed_partitions(channel_type, stored, asked)
