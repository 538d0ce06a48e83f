"""How many streams there are: what is stored, which may be lost, or be another number one day."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from lykke_cli.application.errors import StreamsMissing
from lykke_cli.infrastructure.redis.nodes import Nodes
from lykke_cli.infrastructure.redis.stream_layout import (
    PARTITIONS,
    agreed_partitions,
    partitions_name,
)
from lykke_cli.infrastructure.redis.wire import Command, Wire, refused

GOOD_FOR = 5.0  # seconds, after which whoever writes asks again

Ask = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Of a connection, or of several."""


async def find_partitions(nodes: Nodes, channel_type: str, server: str) -> int:
    """As stored on the `server`; raises StreamsMissing, BadInput, OSError and Refused."""
    number = await stored_partitions(
        partial(nodes.ask, partitions_name(channel_type)), channel_type
    )
    if number is None:
        raise StreamsMissing(
            f"Redis at {server} has no streams of {channel_type}.",
            remedy="Start `lykke relay`, which fills them from the database.",
        )
    return number


async def stored_partitions(ask: Ask, channel_type: str) -> int | None:
    """As stored, where `ask` asks; None where nothing is. Raises BadInput, OSError and Refused."""
    [stored] = await ask([("GET", partitions_name(channel_type))])
    refused([stored])
    return None if stored is None else agreed_partitions(channel_type, stored)


async def agree_on_partitions(
    nodes: Nodes, channel_type: str, asked: int | None = None, *, otherwise: int = PARTITIONS
) -> int:
    """As stored; where nothing is, as many as `asked` for, or `otherwise`, from now on.

    It is for whoever writes: who reads must not decide for those, and expects what they would.
    Raises BadInput, OSError and Refused, and UsageMistake where another number was asked for.
    """
    key = partitions_name(channel_type)
    claim = ("SET", key, asked or otherwise, "NX")
    made, stored = await nodes.ask(key, [claim, ("GET", key)])
    refused([stored] if stored else [made, stored])
    return agreed_partitions(channel_type, stored, asked)


class Partitions:
    """Of each channel type; every method raises BadInput, OSError and Refused."""

    def __init__(self, nodes: Nodes, *, in_cluster: bool) -> None:
        self._nodes = nodes
        self._in_cluster = in_cluster
        self._agreed: dict[str, tuple[int, float]] = {}
        """To write to, and when that was asked."""

    async def to_read(
        self, channel_types: Iterable[str], wire: Wire | None = None
    ) -> dict[str, int]:
        """Where nothing was written yet, as many as whoever comes first will write.

        It is asked by the `wire`, where one server has them all.
        """
        found: dict[str, int] = {}
        for each in channel_types:
            ask: Ask = partial(self._nodes.ask, partitions_name(each))
            if wire is not None and not self._in_cluster:
                ask = wire.ask
            found[each] = await stored_partitions(ask, each) or PARTITIONS
        return found

    async def to_write(
        self, channel_type: str, asked: int | None = None, *, is_lost: bool = False
    ) -> int:
        """From now on; what was agreed on is agreed on again where it `is_lost`, or may be.

        Raises UsageMistake, too, where it is another number than was `asked` for.
        """
        now = asyncio.get_running_loop().time()
        number, asked_at = self._agreed.get(channel_type, (PARTITIONS, -math.inf))
        if is_lost or now - asked_at >= GOOD_FOR:
            number = await agree_on_partitions(self._nodes, channel_type, asked, otherwise=number)
            self._agreed[channel_type] = number, now
        return number
