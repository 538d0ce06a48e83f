"""What `lykke doctor` asks about the relay: whether one runs, and how far behind it is."""

import time
from collections.abc import Sequence

import msgspec

from lykke_cli.application.doctor import Finding, failed, ok, warning
from lykke_cli.infrastructure.redis.connection import link_errors
from lykke_cli.infrastructure.redis.nodes import Nodes
from lykke_cli.infrastructure.redis.stored_place import StoredPlace
from lykke_cli.infrastructure.redis.stream_layout import (
    agreed_partitions,
    partitions_name,
    place_name,
)
from lykke_cli.infrastructure.redis.urls import RedisAddress
from lykke_cli.infrastructure.redis.wire import refused

FRESH = 30.0  # seconds within which a relay that runs has written its place
_START = "Start one: lykke relay."


async def check_relay(address: RedisAddress, channel_type: str, *, timeout: float) -> Finding:
    """Raises ServerUnavailable, and BadInput where the number of partitions is none."""
    nodes = Nodes(address, timeout=timeout)
    with link_errors(address.display):
        [partitions] = await _get(nodes, [partitions_name(channel_type)])
        if partitions is None:
            return failed(f"there are no streams of {channel_type} yet", _START)
        number = agreed_partitions(channel_type, partitions)
        names = [place_name(channel_type, n) for n in range(number)]
        texts = [
            text
            for some in (await nodes.by_node(names)).values()
            for text in await _get(nodes, some)
        ]
    return _judged(texts, time.time())


def _judged(texts: Sequence[bytes | None], now: float) -> Finding:
    places = []
    for text in texts:
        try:
            places.append(StoredPlace.decode(text or b""))
        except msgspec.MsgspecError:
            continue
    running = [each for each in places if not each.place.is_released]
    newest = max((each.written_at for each in running), default=0.0)
    if now - newest > FRESH:
        last = max((each.written_at for each in places), default=0.0)
        since = f", the last one wrote {now - last:,.0f} s ago" if last else ""
        return failed(f"no relay runs{since}", _START)
    read_at = min(each.place.read_at for each in running)
    if not read_at:
        return warning("a relay runs, and has not caught up yet", "Wait, or see its --since.")
    lag = max(0.0, now - read_at)
    if lag > FRESH:
        return warning(f"a relay runs, {lag:,.0f} s behind", "Is the database or Redis slow?")
    return ok(f"a relay runs, {lag:.1f} s behind")


async def _get(nodes: Nodes, keys: Sequence[str]) -> list[bytes | None]:
    """What these hold, all of which are on one server."""
    answers = await nodes.ask(keys[0], [("GET", key) for key in keys])
    refused(answers)
    return [bytes(answer) if isinstance(answer, bytes) else None for answer in answers]
