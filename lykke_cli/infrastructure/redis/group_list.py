"""GroupsProtocol on Redis.

How far a group is behind is counted here. XINFO GROUPS has a `lag` since Redis 7, but it is empty
where the group was made within the stream, and counts what was trimmed before it was given out
(https://redis.io/docs/latest/commands/xinfo-groups/).
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from lykke_cli.application.groups import GroupMemberState, GroupState
from lykke_cli.application.stream_ids import StreamId
from lykke_cli.infrastructure.redis.connection import link_errors
from lykke_cli.infrastructure.redis.groups import GroupLost, checked, maps
from lykke_cli.infrastructure.redis.nodes import Nodes
from lykke_cli.infrastructure.redis.partitions import find_partitions
from lykke_cli.infrastructure.redis.stream_layout import dead_letter_name, stream_names
from lykke_cli.infrastructure.redis.urls import RedisAddress
from lykke_cli.infrastructure.redis.wire import Wire

TIMEOUT = 10.0  # seconds to connect, and for all answers about a stream
PAGE = 1_000  # entries
MOST_COUNTED = 10_000  # entries of one stream


@dataclass
class _Sum:
    """Of one group."""

    streams: int = 0
    pending: int = 0
    lag: int = 0
    is_least: bool = False
    members: dict[str, GroupMemberState] = field(default_factory=dict)


class RedisGroups:
    """Asks the Redis at `address`."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._nodes = Nodes(address, timeout=TIMEOUT)
        self._wires: dict[object, Wire] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._forget()

    async def groups(self, channel_type: str) -> list[GroupState]:
        with link_errors(self._address.display):
            try:
                return await self._groups(channel_type)
            except BaseException:
                await self._forget()
                raise

    async def _groups(self, channel_type: str) -> list[GroupState]:
        number = await find_partitions(self._nodes, channel_type, self._address.display)
        sums, dead = defaultdict[str, _Sum](_Sum), 0
        for node, streams in (
            await self._nodes.by_node(stream_names(channel_type, number))
        ).items():
            if node not in self._wires:
                self._wires[node] = await self._nodes.open(streams[0])
            wire = self._wires[node]
            for stream in streams:
                async with asyncio.timeout(TIMEOUT):
                    [letters] = await wire.ask([("XLEN", dead_letter_name(stream))])
                    dead += checked(letters)
                    with suppress(GroupLost):  # there is no such stream, or no more
                        await self._add(wire, stream, sums)
        return [
            GroupState(
                group=name,
                streams=one.streams,
                members=sorted(one.members.values(), key=lambda member: member.consumer),
                pending=one.pending,
                lag=one.lag,
                is_lag_least=one.is_least,
                dead=dead,
            )
            for name, one in sorted(sums.items())
        ]

    async def _add(self, wire: Wire, stream: str, sums: Mapping[str, _Sum]) -> None:
        answers = await wire.ask([("XINFO", "STREAM", stream), ("XINFO", "GROUPS", stream)])
        about, groups = map(checked, answers)
        [state] = maps([about])
        for group in maps(groups):
            name = group[b"name"]
            one = sums[_text(name)]
            one.streams += 1
            one.pending += group[b"pending"]
            lag, is_least = await _lag(wire, stream, state, group[b"last-delivered-id"].decode())
            one.lag += lag
            one.is_least |= is_least
            [members] = await wire.ask([("XINFO", "CONSUMERS", stream, name)])
            for member in maps(checked(members)):
                consumer, idle = _text(member[b"name"]), member[b"idle"] / 1000
                before = one.members.get(consumer)
                pending = member[b"pending"]
                if before is not None:
                    pending, idle = pending + before.pending, min(idle, before.idle)
                one.members[consumer] = GroupMemberState(consumer, pending, idle)

    async def _forget(self) -> None:
        wires, self._wires = self._wires, {}
        self._nodes.forget()
        for wire in wires.values():
            await wire.close()


async def _lag(
    wire: Wire, stream: str, state: Mapping[bytes, Any], given_out: str
) -> tuple[int, bool]:
    """How many entries come after that id, and whether they are more than that."""
    first: Sequence[Any] | None = state[b"first-entry"]
    place = StreamId.parse(given_out)
    if first is None or StreamId.parse(state[b"last-generated-id"]) <= place:
        return 0, False
    if StreamId.parse(first[0]) > place:
        return state[b"length"], False
    counted, after = 0, given_out
    while counted < MOST_COUNTED:
        [page] = await wire.ask([("XRANGE", stream, f"({after}", "+", "COUNT", PAGE)])
        entries = checked(page)
        counted += len(entries)
        if len(entries) < PAGE:
            return counted, False
        after = entries[-1][0].decode()
    return counted, True


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
