"""The connections of a member of a consumer group, two to each node that has its streams."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Self, TypeVar

from lykke_cli.application.consuming import Found, StreamEntry
from lykke_cli.infrastructure.redis.groups import GroupCommands, checked
from lykke_cli.infrastructure.redis.nodes import Nodes
from lykke_cli.infrastructure.redis.portion import Portion
from lykke_cli.infrastructure.redis.wire import Command, Wire

BLOCK = 2_000  # milliseconds for which the server waits for something new
POLL = 0.02  # seconds between two looks where streams in several slots cannot be waited for
TIMEOUT = 10.0  # seconds to connect, and of silence in which an answer has to come

T = TypeVar("T")


class GroupLink:
    """To the node of these streams: what reads may have to wait there, and what asks may not."""

    _reading: Wire
    _asking: Wire

    def __init__(
        self, nodes: Nodes, streams: Sequence[str], batch: int, *, in_cluster: bool
    ) -> None:
        self.streams = streams
        self.pages = Portion(batch)
        """How much is asked for of what is pending."""
        self._portion = Portion(-(-batch // len(streams)))
        self._nodes = nodes
        self._in_cluster = in_cluster
        self._turn = asyncio.Lock()
        self._ids = list[int]()

    @classmethod
    async def open(
        cls, nodes: Nodes, streams: Sequence[str], batch: int, *, in_cluster: bool
    ) -> Self:
        """Connect twice, to read about `batch` entries at a time; raises OSError and Refused."""
        link = cls(nodes, streams, batch, in_cluster=in_cluster)
        link._reading = await link._connect()
        try:
            link._asking = await link._connect()
        except BaseException:
            await link._reading.close()
            raise
        return link

    async def _connect(self) -> Wire:
        wire = await self._nodes.open(self.streams[0])
        wire.patience = TIMEOUT + BLOCK / 1000
        try:
            [id] = await wire.ask([("CLIENT", "ID")])
        except BaseException:
            await wire.close()
            raise
        if isinstance(id, int):
            self._ids.append(id)
        return wire

    async def ask(self, command: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """What one of the GroupCommands answers; raises as it does."""
        async with self._turn:
            return await command(self._asking, *arguments)

    async def tell(self, *commands: Command) -> None:
        """The same for commands whose answers say nothing."""
        async with self._turn:
            for answer in await self._asking.ask(commands):
                checked(answer)

    async def read(self, commands: GroupCommands) -> list[tuple[str, Found]]:
        """What is new, by stream, after a while perhaps nothing.

        A command about streams in several slots of a cluster is refused, and one that waits holds
        up those behind it: so there it is asked again and again.
        """
        wire, count = self._reading, self._portion.count
        if self._in_cluster:
            answers = await wire.ask([commands.read([stream], count) for stream in self.streams])
        else:
            answers = await wire.ask([commands.read(self.streams, count, BLOCK)])
        found = [one for answer in answers for one in commands.found_in(answer)]
        most = max((each.number for _, each in found), default=0)
        self._portion.came(wire.size, is_full=most >= count)
        if self._in_cluster and not found:
            await asyncio.sleep(POLL)
        return found

    async def leave(self, commands: GroupCommands, not_given: Sequence[StreamEntry]) -> None:
        """Give back what nobody was given, and delete the consumer where nothing is pending for it.

        What the server still does for it would be pending after that was looked at, and lost with
        the consumer: so the connections on which it was asked for are ended first.
        """
        await self.close()
        before = [("CLIENT", "KILL", "ID", id) for id in self._ids]
        self._asking = await self._connect()
        await self.tell(*before)
        for stream in self.streams:
            back = [entry for entry in not_given if entry.stream == stream]
            await self.ask(commands.give_back, stream, back)
            await self.ask(commands.leave, stream)

    async def close(self) -> None:
        await self._reading.close()
        await self._asking.close()


class GroupLinks:
    """All of them; the first one that breaks is the `loss` of all."""

    def __init__(self, links: Sequence[GroupLink]) -> None:
        self.all = links
        self.by_stream = {stream: link for link in links for stream in link.streams}
        self.loss: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: OSError) -> None:
        if not self.loss.done():
            self.loss.set_exception(error)

    async def acknowledge(self, commands: GroupCommands, entries: Iterable[StreamEntry]) -> None:
        """Raises OSError and Refused: then some may be acknowledged."""
        ids: dict[str, list[str]] = {}
        for entry in entries:
            ids.setdefault(entry.stream, []).append(entry.id)
        by_link: dict[GroupLink, list[Command]] = {}
        for stream, some in ids.items():
            command = commands.acknowledge(stream, some)
            by_link.setdefault(self.by_stream[stream], []).append(command)
        for link, asked in by_link.items():
            await link.tell(*asked)

    async def leave(self, commands: GroupCommands, not_given: Sequence[StreamEntry]) -> None:
        """Raises as the commands do."""
        for link in self.all:
            await link.leave(commands, not_given)

    async def close(self) -> None:
        if self.loss.done() and not self.loss.cancelled():
            self.loss.exception()  # it was heard
        for link in self.all:
            await link.close()
