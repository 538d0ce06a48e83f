"""A connection by which commands are sent together, and answered in order. It retries nothing."""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import hiredis

from lykke_cli.infrastructure.redis.connection import login, refusal
from lykke_cli.infrastructure.redis.urls import DEFAULT_PORT, RedisAddress

READ_SIZE = 131_072  # bytes
Command = tuple[str | bytes | int, ...]
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]


class Wire:
    """Made by `open`; whoever uses it asks one thing after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = hiredis.Reader()
        self._is_closed = False
        self.patience: float | None = None
        """Seconds of silence after which what is asked counts as lost; None: for ever.

        However long an answer is, and the way to us slow, it may come as long as it is coming.
        """
        self.size = 0
        """Bytes of what was answered last."""

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it, as far as has been heard."""
        return not (self._is_closed or self._reader.at_eof() or self._reader.exception())

    @classmethod
    async def connect(cls, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> Self:
        """To a server, without a login; raises OSError. The time-out is the caller's."""
        return cls(*await asyncio.open_connection(host, port, ssl=tls))

    @classmethod
    async def open(cls, address: RedisAddress, *, timeout: float) -> Self:
        """Connect and log in, in so many seconds; raises OSError and Refused."""
        options, commands = address.options, list(login(address.options))
        async with asyncio.timeout(timeout):
            if address.scheme == "unix":
                wire = cls(*await asyncio.open_unix_connection(options["path"]))
            else:
                port = options.get("port", DEFAULT_PORT)
                wire = await cls.connect(options["host"], port, tls=address.tls())
            try:
                for command, answer in zip(commands, await wire.ask(commands), strict=True):
                    if command[0] != "CLIENT" and isinstance(answer, hiredis.ReplyError):
                        raise refusal(answer)
            except BaseException:
                await wire.close()
                raise
        return wire

    async def ask(self, commands: Sequence[Command], *, most: int | None = None) -> list[Any]:
        """The answer to each, a refusal as hiredis.ReplyError; raises OSError.

        An answer of more than `most` bytes in all is a loss, too. After a loss or a cancellation
        the connection is closed.
        """
        try:
            self._writer.write(b"".join(map(_pack, commands)))
            return await self._answers(len(commands), most)
        except hiredis.ProtocolError as error:
            await self.close()
            raise ConnectionError(str(error)) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let the connection go; it does not wait for the server."""
        self._is_closed = True
        self._writer.transport.abort()
        await asyncio.sleep(0)  # in which the loop closes the socket

    async def _answers(self, number: int, most: int | None) -> list[Any]:
        answers, self.size = list[Any](), 0
        while len(answers) < number:
            async with asyncio.timeout(self.patience):
                data = await self._reader.read(READ_SIZE)
            self.size += len(data)
            if not data or (most is not None and self.size > most):
                raise ConnectionError("Connection closed by server.")
            self._parser.feed(data)
            while len(answers) < number and (answer := self._parser.gets()) is not False:
                answers.append(answer)
        return answers


def refused(answers: Iterable[Any], key: str | None = None) -> None:
    """Raises Refused for the first refusal among them, which names the key."""
    for answer in answers:
        if isinstance(answer, hiredis.ReplyError):
            raise refusal(answer, key)
