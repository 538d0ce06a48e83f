"""A few commands to a server, and their answers, on a connection that is made for them."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

import hiredis

from lykke_cli.infrastructure.redis.connection import Command, pack

READ_SIZE = 65_536  # bytes
LONGEST_ANSWERS = 1_048_576  # bytes of all of them together


async def ask(
    host: str, port: int, commands: Sequence[Command], *, tls: ssl.SSLContext | None = None
) -> list[Any]:
    """The answer to each, a refusal as hiredis.ReplyError; raises OSError.

    There is no time-out: it is the caller's.
    """
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        writer.write(b"".join(map(pack, commands)))
        parser, answers, read = hiredis.Reader(), list[Any](), 0
        while len(answers) < len(commands):
            data = await reader.read(READ_SIZE)
            read += len(data)
            if not data or read > LONGEST_ANSWERS:
                raise ConnectionError("Connection closed by server.")
            parser.feed(data)
            while (answer := parser.gets()) is not False:
                answers.append(answer)
        return answers
    except hiredis.ProtocolError as error:
        raise ConnectionError(str(error)) from error
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # in which the loop closes the socket
