"""A connection that is subscribed, retries nothing, and notices when the server has fallen silent.

redis-py's PubSub, left to itself, takes a lost subscription up again without a word, never notices
a server that has frozen, and takes many times as long for a message as parsing it does. So this
speaks the protocol itself (https://redis.io/docs/latest/develop/reference/protocol-spec/), with
hiredis to parse it. A broken connection is an error, and a silent server is asked (PING) and given
up when it does not answer.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast

import hiredis

from lykke_cli._version import __version__
from lykke_cli.application.gateways.pubsub_protocol import Deliveries
from lykke_cli.infrastructure.redis.urls import DEFAULT_PORT, RedisAddress

CLIENT_NAME = "lykke"
READ_SIZE = 131_072  # bytes: what is made of more does not fit into the processor's cache
FEED_SIZE = 16_384  # bytes; hiredis moves what is left of them forward each time it gives some
MOST_WAITING = 2  # batches of deliveries, after which the server has to wait
Command = tuple[str, ...]
pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]
WhyNot = Callable[[], Awaitable[str | None]]
_PING = pack(("PING",))
_NOT_ENOUGH_DATA = object()
_MESSAGES = (b"message", b"pmessage", b"smessage")


class Refused(Exception):
    """The server answered a command with this error."""


class RefusedForNow(Refused, ConnectionError):
    """It means that another server is to be asked, or this one later: a loss like any other."""


_FOR_NOW = (
    *("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING"),
    *("NOREPLICAS", "BUSY ", "OOM", "MISCONF"),
)


def refusal(answer: object, key: str | None = None) -> Refused:
    """What to raise for an answer that begins so, to a command about this key."""
    text = str(answer) if key is None else f"{answer}, about {key}"
    return RefusedForNow(text) if text.startswith(_FOR_NOW) else Refused(text)


@contextmanager
def link_errors(server: str) -> Iterator[None]:
    """Translate what our own connections raise, as redis_errors does; redis-py is slow to import,
    and that is done only then."""
    try:
        yield
    except (OSError, Refused) as error:
        from lykke_cli.infrastructure.redis.errors import translate

        raise translate(error, server) from error


@dataclass(slots=True)
class _Unanswered:
    """A command that was sent."""

    name: str
    answers: int
    """How many are still to come: one for each channel."""
    waiting: asyncio.Future[None] | None
    """For the last of them, or the error that comes instead."""


class SubscribedConnection(asyncio.BufferedProtocol):
    """Made by `open`; a loss is an OSError."""

    def __init__(self, health_interval: float, why_not: WhyNot | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._health_interval = health_interval
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._reader: Any = hiredis.Reader(notEnoughData=_NOT_ENOUGH_DATA)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered: deque[_Unanswered] = deque()  # in the order in which they were sent
        self._paused = False
        self._named: set[bytes] = set()  # channels that are followed by their names
        self._batches: deque[Deliveries] = deque()
        self._loss: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._heard = self._loop.time()
        self._asked: float | None = None
        self._why_not = why_not
        self.node: str | None = None
        """Which of several servers it is to; None where there is but one."""
        self._asking: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        address: RedisAddress,
        commands: Sequence[Command],
        *,
        timeout: float,
        health: float,
        why_not: WhyNot | None = None,
    ) -> Self:
        """Connect, log in, and have the `commands` answered; raises OSError and Refused.

        Where the server is silent, `why_not` tells why another one should be followed instead.
        """
        options = address.options
        link = cls(health, why_not)
        async with link._opening(timeout):
            if address.scheme == "unix":
                await link._loop.create_unix_connection(lambda: link, options["path"])
            else:
                await link._loop.create_connection(
                    lambda: link,
                    options["host"],
                    options.get("port", DEFAULT_PORT),
                    ssl=address.tls(),
                )
            await link.ask(*login(options), *commands)
        return link

    @asynccontextmanager
    async def _opening(self, timeout: float) -> AsyncGenerator[None]:
        """What is done in it is done in time; or nothing is left open."""
        try:
            async with asyncio.timeout(timeout):
                yield
            self._check_health()
        except BaseException:
            await self.close()
            raise

    async def ask(self, *commands: Command) -> None:
        """Send the commands, and wait for their answers; raises OSError and Refused.

        Messages that come meanwhile are kept, however many there are before an answer.
        """
        if self._loss is not None:
            raise self._loss
        waiting = [self._loop.create_future() for _ in commands]
        self._expect(commands, waiting)
        try:
            await self._send(commands)
            self._go_on_reading()
            await asyncio.gather(*waiting)
        finally:
            for future in waiting:
                future.cancel()

    async def tell(self, *commands: Command) -> None:
        """Send the commands, whatever comes of it."""
        if self._loss is None:
            self._expect(commands, [None] * len(commands))
            await self._send(commands)

    def _expect(
        self, commands: Sequence[Command], waiting: Sequence[asyncio.Future[None] | None]
    ) -> None:
        for command, future in zip(commands, waiting, strict=True):
            answers = len(command) - 1 if command[0].endswith("SUBSCRIBE") else 1
            self._unanswered.append(_Unanswered(command[0], answers, future))

    async def _send(self, commands: Sequence[Command]) -> None:
        assert self._transport is not None
        self._transport.write(b"".join(map(pack, commands)))

    @property
    def last_heard(self) -> datetime:
        """When the server last said something, by this machine's clock."""
        return datetime.now(UTC) - timedelta(seconds=self._loop.time() - self._heard)

    def take(self) -> Deliveries:
        """What came next, if anything did; raises what broke the connection after all of it."""
        if self._batches:
            batch = self._batches.popleft()
            self._go_on_reading()
            return batch
        if self._loss is not None:
            raise self._loss
        return Deliveries()

    async def something(self) -> None:
        """Wait until there is something to take; one may wait at a time."""
        waiter = self._loop.create_future()
        self.wake(waiter)
        await waiter

    def wake(self, waiter: asyncio.Future[None]) -> None:
        """Set `waiter` once there is something to take, which may be at once."""
        self._waiter = waiter
        if self._batches or self._loss is not None:
            self._wake()

    async def close(self) -> None:
        """Let the connection go; it does not wait for the server."""
        self._lose(ConnectionError("the connection was closed"))
        if self._transport is not None:
            self._transport.abort()
        await asyncio.sleep(0)  # in which the loop closes the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transports are subclasses: uvloop's are not.
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        replies: list[Any] = []
        garbled: hiredis.ProtocolError | None = None
        try:
            for start in range(0, nbytes, FEED_SIZE):
                self._reader.feed(self._buffer, start, min(FEED_SIZE, nbytes - start))
                replies += iter(self._reader.gets, _NOT_ENOUGH_DATA)
        except hiredis.ProtocolError as error:
            garbled = error
        self._received(replies)
        if garbled is not None:
            self._lose(ConnectionError(str(garbled)))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:  # in order: nothing was lost before
            self._heard = self._loop.time()
        self._lose(exc or ConnectionError("Connection closed by server."))

    def _received(self, replies: list[Any]) -> None:
        """The server said something, if only a part of a message."""
        self._heard, self._asked = self._loop.time(), None
        batch, answers = _sorted(replies, self._named)
        for answer in answers:
            self._answered(answer)
        if batch:
            self._batches.append(batch)
            self._wake()
        is_enough = len(self._batches) >= MOST_WAITING and not self._unanswered
        if is_enough and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _answered(self, answer: Any) -> None:
        """To the first of the commands: the server keeps to their order."""
        asked = self._unanswered[0].name if self._unanswered else None
        if isinstance(answer, list) and answer[:1] == [b"sunsubscribe"] and asked != "SUNSUBSCRIBE":
            self._lose(ConnectionError("the channel has moved to another server"))
        if not self._unanswered:
            return
        command = self._unanswered[0]
        error = Refused(str(answer)) if isinstance(answer, hiredis.ReplyError) else None
        command.answers -= 1
        if command.answers and error is None:
            return
        self._unanswered.popleft()
        if command.waiting is None or command.waiting.done():
            return
        if error is None or command.name == "CLIENT":
            command.waiting.set_result(None)
        else:
            command.waiting.set_exception(error)

    def _go_on_reading(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._heard = self._loop.time()
            self._transport.resume_reading()

    def _lose(self, error: Exception) -> None:
        if self._loss is None:
            self._loss = error
        for command in self._unanswered:
            if command.waiting is not None and not command.waiting.done():
                command.waiting.set_exception(self._loss)
        self._unanswered.clear()
        for waiting in (self._timer, self._asking):
            if waiting is not None:
                waiting.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_health(self) -> None:
        """Ask a server that is silent for too long; give it up when it stays so.

        While our own side was busy, what the server said has piled up in the socket. But the loop
        looks there before it looks at its timers.
        """
        if self._transport is None:
            return
        now = self._loop.time()
        if self._paused:
            self._heard, self._asked = now, None
        since = self._heard if self._asked is None else self._asked
        if now >= since + self._health_interval:
            if self._asked is not None:
                silence = f"no sign of life for {now - self._heard:.3g} seconds"
                self._lose(TimeoutError(silence))
                return
            self._transport.write(_PING)
            self._unanswered.append(_Unanswered("PING", 1, None))
            self._asked = since = now
            if self._why_not is not None and (self._asking is None or self._asking.done()):
                self._asking = asyncio.create_task(self._look_elsewhere(self._why_not))
        self._timer = self._loop.call_at(since + self._health_interval, self._check_health)

    async def _look_elsewhere(self, why_not: WhyNot) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._health_interval):
                if (reason := await why_not()) is not None:
                    self._asking = None  # it is not to be cancelled by what follows
                    self._lose(ConnectionError(reason))


def login(options: Mapping[str, Any]) -> Iterator[Command]:
    """The commands that a connection begins with; the server may refuse those named CLIENT."""
    username, password = options.get("username"), options.get("password")
    if username:
        yield "AUTH", username, password or ""
    elif password:
        yield "AUTH", password
    if options.get("db"):
        yield "SELECT", str(options["db"])
    yield "CLIENT", "SETNAME", options.get("client_name") or CLIENT_NAME
    yield "CLIENT", "SETINFO", "LIB-NAME", CLIENT_NAME
    yield "CLIENT", "SETINFO", "LIB-VER", __version__


def _sorted(replies: list[Any], named: set[bytes]) -> tuple[Deliveries, list[Any]]:
    """The messages among them, and the rest.

    What comes on a channel that is `named` comes by its name: where a pattern matches it, too, the
    server sends it once more. It confirms a name, and that it is left, in order with what it sends.
    """
    columns = _columns(replies)
    if columns is not None and not (named and replies[0][0] == b"pmessage"):
        return Deliveries(*columns), []
    channels: list[bytes] = []
    payloads: list[bytes] = []
    answers: list[Any] = []
    for reply in replies:
        if (columns := _columns([reply])) is None:
            answers.append(reply)
            match reply:
                case [b"subscribe", name, _]:
                    named.add(name)
                case [b"unsubscribe", name, _]:
                    named.discard(name)
        elif reply[0] != b"pmessage" or columns[0][0] not in named:
            channels += columns[0]
            payloads += columns[1]
    return Deliveries(channels, payloads), answers


def _columns(replies: list[Any]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]] | None:
    """Their channels and payloads, which come last; None unless all are messages of one kind."""
    try:
        kinds, *_, channels, payloads = zip(*replies, strict=True)
    except (TypeError, ValueError):  # not of one length
        return None
    kind = kinds[0]
    alike = (
        kind in _MESSAGES
        and kinds.count(kind) == len(kinds)
        and set(map(type, channels + payloads)) == {bytes}
    )
    return (channels, payloads) if alike else None
