"""What `lykke doctor` says of the servers where Redis is more than one."""

import asyncio
from collections.abc import Mapping

from lykke_cli.application.doctor import Finding, ok, skipped, warning
from lykke_cli.infrastructure.redis.cluster import check_is_joined, members
from lykke_cli.infrastructure.redis.connection import Refused
from lykke_cli.infrastructure.redis.errors import reason, redis_errors
from lykke_cli.infrastructure.redis.sentinels import opinions
from lykke_cli.infrastructure.redis.urls import Node, RedisAddress, Sentinels, shown


async def check_topology(address: RedisAddress, followed: Node, timeout: float) -> Finding:
    """`followed` is the node that was found; `timeout`, in seconds, is for all the others."""
    if isinstance(address.among, Sentinels):
        return await _check_sentinels(address, address.among, followed, timeout)
    return await _check_cluster(address, followed, timeout)


async def _check_sentinels(
    address: RedisAddress, sentinels: Sentinels, followed: Node, timeout: float
) -> Finding:
    """Whether each names the followed node."""
    others = {}
    for sentinel, answer in (await opinions(address, sentinels, timeout=timeout)).items():
        if isinstance(answer, Exception):
            others[sentinel] = reason(answer)
        elif answer != followed:
            others[sentinel] = shown(answer)
    count = len(sentinels.nodes)
    text = f"{shown(followed)} is the primary: {count - len(others)} of {count} name it"
    return _finding(
        text, others, "Are all the Sentinels in REDIS_URL there, and connected with each other?"
    )


async def _check_cluster(address: RedisAddress, followed: Node, timeout: float) -> Finding:
    """Whether every node that the followed one knows is there, and joined with the others."""
    with redis_errors(address.display):
        known = await members(address, followed)
    if not known:
        return skipped("this user may not ask for the nodes", "+cluster|nodes permits it.")
    wrong = {}

    async def look(node: Node) -> None:
        try:
            async with asyncio.timeout(timeout):
                await check_is_joined(address, node)
        except (OSError, Refused) as error:
            wrong[node] = reason(error)

    await asyncio.gather(*(look(member.node) for member in known))
    primaries = sum(member.is_primary and not member.is_away for member in known)
    text = f"{len(known)} nodes, {primaries} of them primaries"
    return _finding(text, wrong, "Look at CLUSTER NODES, and at the logs of these nodes.")


def _finding(text: str, wrong: Mapping[Node, str], remedy: str) -> Finding:
    if not wrong:
        return ok(text)
    told = [f"{shown(node)}: {why}" for node, why in wrong.items()]
    return warning("; ".join([text, *told]), remedy)
