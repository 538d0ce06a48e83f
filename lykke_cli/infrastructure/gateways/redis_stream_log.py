"""StreamLogProtocol on Redis: each partition a stream, and beside it the key with its place.

A batch is one transaction: the entries, and the place, which names the last of them. Both keys are
watched from the look before it on, so that a second relay, or anybody who deletes the stream,
makes it fail. The next look travels behind it: a batch costs one round trip. A transaction is
replicated whole and in order, so a fail-over that loses the last entries brings the place back
that goes with what is left. A place whose last entry is not in the stream goes with another stream,
and does not count. (https://redis.io/docs/latest/develop/using-commands/transactions/)
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Self
from uuid import UUID

import msgspec

from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.gateways.stream_log_protocol import Batch, Place, StreamLogProtocol
from lykke_cli.application.stream_ids import NO_ID, StreamId
from lykke_cli.infrastructure.redis.connection import link_errors
from lykke_cli.infrastructure.redis.nodes import Nodes
from lykke_cli.infrastructure.redis.partitions import Partitions
from lykke_cli.infrastructure.redis.stored_place import StoredPlace
from lykke_cli.infrastructure.redis.stream_layout import (
    KEEP,
    MESSAGE,
    USER,
    partition_of,
    place_name,
    stream_name,
)
from lykke_cli.infrastructure.redis.urls import Cluster, parse_redis_url
from lykke_cli.infrastructure.redis.wire import Command, Wire, refused

TIMEOUT = 10.0  # seconds to connect, and for the answers to a batch
USERS_KNOWN = 65_536  # whose partition need not be computed


class RedisStreamLog(StreamLogProtocol):
    """The streams of `channel_type`, of which each keeps about `keep` entries.

    `partitions` is how many there have to be; without it, as many as there are, or 16.
    """

    def __init__(
        self,
        url: str,
        channel_type: str = AUDIT_LOG,
        *,
        partitions: int | None = None,
        keep: int = KEEP,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        address = parse_redis_url(url)
        self._server = address.display
        self._channel_type = channel_type
        self._asked = partitions
        self._keep = keep
        self._timeout = timeout
        self._clock = clock
        self._nodes = Nodes(address, timeout=timeout)
        self._agreed = Partitions(self._nodes, in_cluster=isinstance(address.among, Cluster))
        self._partitions: list[_Partition] = []

    async def __aenter__(self) -> Self:
        with link_errors(self._server):
            number = await self._agreed.to_write(self._channel_type, self._asked)
        streams = (stream_name(self._channel_type, n) for n in range(number))
        places = (place_name(self._channel_type, n) for n in range(number))
        self._partitions = [
            _Partition(self._nodes, *names, self._keep)
            for names in zip(streams, places, strict=True)
        ]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for partition in self._partitions:
            await partition.close()

    @property
    def partitions(self) -> int:
        return len(self._partitions)

    def partition_of(self, user_id: str) -> int:
        return _partition_of(user_id, len(self._partitions))

    async def look(self, partitions: Collection[int]) -> Mapping[int, Place | None]:
        return await self._together({n: self._partitions[n].look for n in partitions})

    async def write(self, batches: Sequence[Batch]) -> Mapping[int, Place | None]:
        now = int(self._clock() * 1000)
        return await self._together(
            {b.partition: partial(self._partitions[b.partition].write, b, now) for b in batches}
        )

    async def _together(
        self, asked: Mapping[int, Callable[[], Awaitable[Place | None]]]
    ) -> dict[int, Place | None]:
        """What each answers; raises ServerUnavailable when all have answered, or failed."""
        with link_errors(self._server):
            limited = (self._in_time(each) for each in asked.values())
            places = await asyncio.gather(*limited, return_exceptions=True)
            found, failures = dict[int, Place | None](), list[BaseException]()
            for number, place in zip(asked, places, strict=True):
                if isinstance(place, BaseException):
                    await self._partitions[number].close()
                    failures.append(place)
                else:
                    found[number] = place
            if failures:
                self._nodes.forget()
                raise failures[0]
            # Where all was lost or evicted, that is too; readers would expect another number.
            is_lost = None in found.values()
            await self._agreed.to_write(self._channel_type, self.partitions, is_lost=is_lost)
        return found

    async def _in_time(self, asked: Callable[[], Awaitable[Place | None]]) -> Place | None:
        async with asyncio.timeout(self._timeout):
            return await asked()


class _Partition:
    """One stream and its place, on a connection that watches both."""

    def __init__(self, nodes: Nodes, stream: str, place: str, keep: int) -> None:
        self._nodes = nodes
        self._stream = stream
        self._keep = str(keep)
        self._place = place
        self._wire: Wire | None = None
        self._last = NO_ID  # of the stream
        self._look: list[Command] = [
            ("WATCH", stream, place),
            ("GET", place),
            ("XREVRANGE", stream, "+", "-", "COUNT", 1),
        ]

    async def close(self) -> None:
        if self._wire is not None:
            await self._wire.close()

    async def look(self) -> Place | None:
        """The place as it is now; it and the stream are watched from here on."""
        if self._wire is None or not self._wire.is_open:
            self._wire = await self._nodes.open(self._stream)
        return await self._looked(await self._ask([("UNWATCH",), *self._look]))

    async def write(self, batch: Batch, now: int) -> Place | None:
        """Write it unless anything has changed; returns the place as it is now. `now` is in ms."""
        last = self._last
        commands: list[Command] = [("MULTI",)]
        for number, (user, message) in enumerate(batch.entries, 1):
            last = last.next(now)
            bound = ("MAXLEN", "~", self._keep) if number == len(batch.entries) else ()
            commands.append(("XADD", self._stream, *bound, str(last), USER, user, MESSAGE, message))
        stored = StoredPlace(batch.place, "" if last == NO_ID else str(last), now / 1000).encode()
        commands += [("SET", self._place, stored), ("EXEC",)]
        answers = await self._ask([*commands, *self._look])
        refused(answers)
        written = answers[len(commands) - 1]
        if isinstance(written, list):
            refused(written)
        return await self._looked(answers)

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        if self._wire is None or not self._wire.is_open:  # nothing is watched any more
            raise ConnectionError("Connection closed by server.")
        return await self._wire.ask(commands)

    async def _looked(self, answers: Sequence[Any]) -> Place | None:
        """What the answers to a look say, which are the last ones."""
        refused(answers, self._stream)
        _, text, newest = answers[-3:]
        try:
            self._last = StreamId.parse(newest[0][0]) if newest else NO_ID
            stored = StoredPlace.decode(text or b"")
            last = StreamId.parse(stored.last) if stored.last else NO_ID
        except (msgspec.MsgspecError, ValueError, IndexError, TypeError):
            return None  # somebody else's
        if last > self._last:
            return None
        if last < self._last and last != NO_ID:  # others have written since
            [found] = await self._ask([("XRANGE", self._stream, stored.last, stored.last)])
            refused([found])
            if not found:
                return None
        return stored.place


@lru_cache(USERS_KNOWN)
def _partition_of(user_id: str, partitions: int) -> int:
    return partition_of(UUID(user_id), partitions)
