"""A member of a consumer group, on the streams of one channel type.

`GroupMember` decides, this waits: one connection to each node reads what is new, another one does
all the rest. Whatever breaks one of them is a loss of all: they are made anew, and what is pending
for the member is read before anything new is.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractContextManager, suppress
from functools import partial
from types import TracebackType
from typing import Self, TypedDict

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.consuming import (
    LOOK_INTERVAL,
    START,
    Claim,
    GroupMember,
    Look,
    Recover,
    Renew,
    Settled,
    Step,
    StreamEntry,
)
from lykke_cli.application.ending import end
from lykke_cli.application.errors import StreamsMissing, UsageMistake
from lykke_cli.application.gateways.group_protocol import GroupConsumerProtocol
from lykke_cli.application.groups import CLAIM_AFTER, MAX_DELIVERIES
from lykke_cli.application.reconnecting import STEADY
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.redis.connection import Refused, link_errors
from lykke_cli.infrastructure.redis.group_links import TIMEOUT, GroupLink, GroupLinks
from lykke_cli.infrastructure.redis.groups import GroupCommands, GroupLost
from lykke_cli.infrastructure.redis.nodes import Nodes
from lykke_cli.infrastructure.redis.partitions import Ask, find_partitions, stored_partitions
from lykke_cli.infrastructure.redis.stream_layout import (
    dead_letter_name,
    partitions_name,
    stream_names,
)
from lykke_cli.infrastructure.redis.urls import Cluster, RedisAddress

LEAST_CLAIM_AFTER = 0.5  # seconds, within which what is held can be renewed in time
BATCH = 1_000  # entries
LEAST_PAUSE = 0.1  # seconds between looks at what is due
LAST_WORDS = 1.0  # seconds to leave the group in

logger = logging.getLogger(__name__)


class ConsumerOptions(TypedDict, total=False):
    """What a RedisGroupConsumer says of them."""

    claim_after: float
    max_deliveries: int
    batch: int
    from_now: bool
    on_notice: Callable[[str], None] | None


class RedisGroupConsumer(GroupConsumerProtocol):
    """Gives entries that no other member of `group` has; an async context manager.

    An entry is held, and renewed while it is, until it is acknowledged (`ack`) or let go
    (`let_go`). What a member holds that has died, or been stopped for `claim_after` seconds, is
    given to another one. So each entry comes at least once, and again after a crash. What was
    given out `max_deliveries` times without being acknowledged is put into the stream of dead
    letters, `{stream}:dead`.

    Whoever comes again by the same `consumer` name goes on with what it held; without one it is the
    host and the process. Two processes may not have the same one at a time. A new group begins with
    what the streams keep, or with `from_now` after it. About `batch` entries are read at a time.
    What happens to connections, streams and dead letters is told to `on_notice`, or logged.
    """

    def __init__(
        self,
        address: RedisAddress,
        channel_type: str,
        *,
        group: str,
        consumer: str | None = None,
        claim_after: float = CLAIM_AFTER,
        max_deliveries: int = MAX_DELIVERIES,
        batch: int = BATCH,
        from_now: bool = False,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        name = own_name() if consumer is None else consumer
        if not group or not name:
            raise UsageMistake("A group and a consumer have names that are not empty.")
        if not (_is_text(group) and _is_text(name)):
            raise UsageMistake("The names of a group and a consumer are UTF-8.")
        if claim_after < LEAST_CLAIM_AFTER:
            raise UsageMistake(
                f"claim_after is at least {LEAST_CLAIM_AFTER} s: what is held is renewed before."
            )
        if max_deliveries < 1 or batch < 1:
            raise UsageMistake("max_deliveries and batch are more than nothing.")
        self.consumer = name
        self._address = address
        self._type = channel_type
        self._commands = GroupCommands(group, name)
        self._claim_after = claim_after
        self._max_deliveries = max_deliveries
        self._batch = batch
        self._start = "$" if from_now else START
        self._notice = on_notice or logger.warning
        self._nodes = Nodes(address, timeout=TIMEOUT)
        self._member: GroupMember
        self._links: GroupLinks | None = None
        self._linked = asyncio.Event()
        self._news = asyncio.Event()
        self._wanted = asyncio.Event()
        self._may_read = asyncio.Event()
        self._reads_since: float | None = None
        self._backoff = Backoff()
        self._away: str | None = None
        """For what reason it has no connection that works, as was told."""
        self._back_at = 0.0
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        if self._is_closed or self._running is not None:
            raise LykkeError("A consumer is entered once.")
        with self._translated():
            server = self._address.display
            partitions = await find_partitions(self._nodes, self._type, server)
            self._member = self._make_member(partitions)
            links = await self._open()
            try:
                for stream, link in links.by_stream.items():
                    await link.ask(self._commands.create, stream, self._start)
            except BaseException:
                await links.close()
                raise
        self._links = links
        self._running = asyncio.create_task(self._run(links))
        self._running.add_done_callback(lambda _: self._wake())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncGenerator[StreamEntry]:
        while True:
            for entry in await self.get():
                yield entry

    @property
    def reads_since(self) -> float | None:
        return self._reads_since

    async def get(self, timeout: float | None = None) -> list[StreamEntry]:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while True:
                    self._check_running()
                    if entries := self._member.give():
                        return entries
                    self._news.clear()
                    self._wanted.set()
                    await self._news.wait()
        return []

    async def ack(self, *entries: StreamEntry) -> None:
        while True:
            links = await self._current()
            try:
                await links.acknowledge(self._commands, entries)
            except OSError as error:
                links.fail(error)
            except Refused:
                with self._translated():
                    raise
            else:
                self._member.acknowledged(entries)
                return

    def let_go(self, *entries: StreamEntry) -> None:
        self._member.let_go(entries)

    async def close(self) -> None:
        self._is_closed = True
        running, self._running = self._running, None
        if running is None:
            return
        await end([running])
        links, self._links = self._links, None
        if links is not None:
            try:
                async with asyncio.timeout(LAST_WORDS):
                    await links.leave(self._commands, self._member.not_given())
            except (OSError, Refused, GroupLost) as error:
                logger.debug("Leaving the group failed: %s", error)
            finally:
                await links.close()

    async def _run(self, links: GroupLinks) -> None:
        """Keep it going; raises what cannot be mended by trying again."""
        while True:
            self._links = links
            self._linked.set()
            tasks = [
                asyncio.create_task(self._keep(links)),
                asyncio.create_task(self._watch(links)),
            ]
            tasks += [asyncio.create_task(self._read(link)) for link in links.all]
            try:
                done, _ = await asyncio.wait(
                    [*tasks, links.loss], return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
            except OSError as error:
                self._tell_loss(self._reason(error))
            except Refused:
                with self._translated():
                    raise
            finally:
                self._linked.clear()
                await end(tasks)
                await asyncio.gather(*tasks, return_exceptions=True)
                self._reads_since = None
            await links.close()
            self._member.lost(self._now)
            links = await self._open_again()

    async def _keep(self, links: GroupLinks) -> None:
        """Do what is due, when it is."""
        while True:
            self._member.heed(self._now)
            if not self._member.may_read:
                self._may_read.clear()
                self._reads_since = None
            for step in self._member.steps(self._now):
                await self._carry_out(step, links.by_stream[step.stream])
            if self._away is not None:  # now the server has given something
                self._away, self._back_at = None, self._now
                self._notice(f"connected to Redis at {self._address.display} again")
            if self._member.has_entries:
                self._wake()
            if self._member.may_read:
                self._may_read.set()
                if self._reads_since is None:
                    self._reads_since = self._now
                await asyncio.sleep(max(self._member.next_at() - self._now, LEAST_PAUSE))
            elif self._member.has_entries:  # what else is pending is read when these are taken
                with suppress(TimeoutError):
                    async with asyncio.timeout(LEAST_PAUSE):
                        await self._wanted.wait()

    async def _watch(self, links: GroupLinks) -> None:
        """Raises StreamsMissing where entries come in another number of streams by now."""
        number = len(self._member.streams)
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            with suppress(OSError, Refused):  # what breaks does so elsewhere, too
                found = await self._stored_partitions(links)
                if found not in (None, number):
                    raise StreamsMissing(
                        f"{self._type} is in {found} streams now, not in {number}.",
                        remedy="Start again.",
                    )

    async def _stored_partitions(self, links: GroupLinks) -> int | None:
        if isinstance(self._address.among, Cluster):
            ask: Ask = partial(self._nodes.ask, partitions_name(self._type))
            return await stored_partitions(ask, self._type)
        return await links.all[0].ask(lambda wire: stored_partitions(wire.ask, self._type))

    async def _carry_out(self, step: Step, link: GroupLink) -> None:
        commands, member, stream = self._commands, self._member, step.stream
        try:
            match step:
                case Recover(_, after):
                    found = await link.ask(commands.recover, stream, after, link.pages)
                    settled = member.recovered(step, found, self._now)
                    await self._settle(stream, settled, link)
                case Claim(_, start, idle):
                    asked = (commands.claim, stream, start, idle, link.pages)
                    found, then = await link.ask(*asked)
                    settled = member.claimed(step, found, then, self._now)
                    await self._settle(stream, settled, link)
                case Renew(_, idle):
                    ids = member.held(stream, await link.ask(commands.own, stream, idle))
                    await link.ask(commands.renew, stream, ids, idle)
                    member.renewed(step, self._now)
                case Look():
                    given_out, pending = await link.ask(commands.look, stream)
                    member.looked(step, given_out, pending, self._now)
        except GroupLost:
            await self._make_again([stream], link)

    async def _read(self, link: GroupLink) -> None:
        """Read what is new while somebody wants it."""
        while True:
            await self._may_read.wait()
            await self._wanted.wait()
            try:
                for stream, found in await link.read(self._commands):
                    settled = self._member.read(stream, found, self._now)
                    await self._settle(stream, settled, link)
            except GroupLost:
                await self._make_again(link.streams, link)
            if self._member.has_entries:
                self._wake()

    async def _settle(self, stream: str, settled: Settled, link: GroupLink) -> None:
        if settled.acknowledge:
            await link.tell(self._commands.acknowledge(stream, settled.acknowledge))
        if settled.trimmed:
            self._notice(
                f"{_entries(settled.trimmed)} of {stream} were trimmed before anybody in the group "
                f"{self._commands.group} acknowledged them: they are lost to it"
            )
        for entry in settled.bury:
            await link.ask(self._commands.bury, entry)
            self._notice(
                f"the entry {entry.id} of {stream} was given out {self._max_deliveries} times and "
                f"never acknowledged: it is in {dead_letter_name(stream)} now"
            )

    async def _make_again(self, streams: Iterable[str], link: GroupLink) -> None:
        """A group that is gone, from where the whole of it was."""
        for stream in streams:
            if await link.ask(self._commands.exists, stream):
                continue
            floor = self._member.floor(stream)
            is_there = await link.ask(self._commands.has, stream, floor)
            start = self._member.start_again(stream, is_there=is_there)
            if await link.ask(self._commands.create, stream, start):
                begins = "all that it keeps" if start == START else f"what came after {start}"
                self._notice(
                    f"the group {self._commands.group} of {stream} was gone: made again, for "
                    f"{begins}"
                )

    def _make_member(self, partitions: int) -> GroupMember:
        return GroupMember(
            stream_names(self._type, partitions),
            claim_after=self._claim_after,
            max_deliveries=self._max_deliveries,
            batch=self._batch,
        )

    async def _open(self) -> GroupLinks:
        """Connect to each node that has some of the streams; raises OSError and Refused."""
        in_cluster = isinstance(self._address.among, Cluster)
        self._nodes.forget()
        async with asyncio.timeout(TIMEOUT):
            by_node = await self._nodes.by_node(self._member.streams)
            links = list[GroupLink]()
            try:
                for streams in by_node.values():
                    link = GroupLink.open(self._nodes, streams, self._batch, in_cluster=in_cluster)
                    links.append(await link)
            except BaseException:
                await GroupLinks(links).close()
                raise
        return GroupLinks(links)

    async def _open_again(self) -> GroupLinks:
        while True:
            await asyncio.sleep(self._backoff.next())
            try:
                return await self._open()
            except OSError:
                continue
            except Refused:
                with self._translated():
                    raise

    def _tell_loss(self, reason: str) -> None:
        """Once, also where it is connected again and again and refused all the same."""
        if self._away is None and self._now > self._back_at + STEADY:
            self._backoff.reset()
        if reason != self._away:
            self._notice(f"the connection to Redis at {self._address.display} was lost ({reason})")
        self._away = reason

    async def _current(self) -> GroupLinks:
        """The connections, once there are some."""
        while True:
            self._check_running()
            if self._linked.is_set() and self._links is not None and not self._links.loss.done():
                return self._links
            assert self._running is not None
            waiting = asyncio.create_task(self._linked.wait())
            try:
                await asyncio.wait([waiting, self._running], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            await asyncio.sleep(0)

    def _check_running(self) -> None:
        if self._running is None:
            raise LykkeError("The consumer is not open.")
        if self._running.done():
            self._running.result()

    def _wake(self) -> None:
        self._wanted.clear()
        self._news.set()

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _translated(self) -> AbstractContextManager[None]:
        return link_errors(self._address.display)

    def _reason(self, error: OSError) -> str:
        from lykke_cli.infrastructure.redis.errors import reason

        return reason(error)


def own_name() -> str:
    """What a consumer is called that was given no name: where it runs."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _is_text(name: str) -> bool:
    """False for bytes of a command line that are no UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"
