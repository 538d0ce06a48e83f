"""Connections to where keys are: in a cluster to the node that has their slot."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hiredis
import msgspec

from lykke_cli.infrastructure.redis.cluster import Slots, find_slots, slot_of
from lykke_cli.infrastructure.redis.connection import Refused
from lykke_cli.infrastructure.redis.topology import at, locate
from lykke_cli.infrastructure.redis.urls import Cluster, RedisAddress
from lykke_cli.infrastructure.redis.wire import Command, Wire


class Nodes:
    """Finds them at `address`; all of a connection is done within `timeout` seconds."""

    def __init__(self, address: RedisAddress, *, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._slots: Slots | None = None

    def forget(self) -> None:
        """Look anew: something has moved, or is away."""
        self._slots = None

    async def locate(self, key: str) -> RedisAddress:
        """Where the server is that has `key`; raises OSError and Refused."""
        among = self._address.among
        if not isinstance(among, Cluster):
            return await locate(self._address)
        if self._slots is None:
            self._slots = await find_slots(self._address, among)
        node = self._slots.owner(slot_of(key.encode()))
        return msgspec.structs.replace(at(self._address, node), among=None)

    async def by_node(self, keys: Iterable[str]) -> dict[object, list[str]]:
        """Those of the keys that each server has; raises OSError and Refused.

        Where one server has them all it is looked for once: Sentinels take a while to answer.
        """
        groups: dict[object, list[str]] = {}
        address: RedisAddress | None = None
        async with asyncio.timeout(self._timeout):
            for key in keys:
                if address is None or isinstance(self._address.among, Cluster):
                    address = await self.locate(key)
                node = tuple(map(address.options.get, ("host", "port", "path")))
                groups.setdefault(node, []).append(key)
        return groups

    async def open(self, key: str) -> Wire:
        """Connect to it, and log in; raises OSError and Refused."""
        with self._looking_anew():
            async with asyncio.timeout(self._timeout):
                address = await self.locate(key)
                return await Wire.open(address, timeout=self._timeout)

    async def ask(self, key: str, commands: Sequence[Command]) -> list[Any]:
        """What the server that has `key` answers, on a connection for this alone; raises likewise.

        What it refuses is among the answers.
        """
        wire = await self.open(key)
        try:
            with self._looking_anew():
                async with asyncio.timeout(self._timeout):
                    answers = await wire.ask(commands)
        finally:
            await wire.close()
        if any(isinstance(answer, hiredis.ReplyError) for answer in answers):
            self.forget()
        return answers

    @contextmanager
    def _looking_anew(self) -> Iterator[None]:
        """Whatever fails may have been asked of the wrong one."""
        try:
            yield
        except (OSError, Refused):
            self.forget()
            raise
