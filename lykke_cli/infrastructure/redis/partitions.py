"""How many streams there are."""

import asyncio

from lykke_cli.application.errors import StreamsMissing
from lykke_cli.infrastructure.redis.groups import checked
from lykke_cli.infrastructure.redis.nodes import Nodes
from lykke_cli.infrastructure.redis.stream_layout import agreed_partitions, partitions_name

TIMEOUT = 10.0  # seconds for the answer


async def find_partitions(nodes: Nodes, channel_type: str, server: str) -> int:
    """As stored on the `server`; raises StreamsMissing, BadInput, OSError and Refused."""
    key = partitions_name(channel_type)
    wire = await nodes.open(key)
    try:
        async with asyncio.timeout(TIMEOUT):
            [answer] = await wire.ask([("GET", key)])
    finally:
        await wire.close()
    if checked(answer) is None:
        raise StreamsMissing(
            f"Redis at {server} has no streams of {channel_type}.",
            remedy="Start `lykke relay`, which fills them from the database.",
        )
    return agreed_partitions(channel_type, answer)
