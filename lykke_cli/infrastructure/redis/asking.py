"""A few commands to a server, and their answers, on a connection that is made for them."""

import ssl
from collections.abc import Sequence
from typing import Any

from lykke_cli.infrastructure.redis.wire import Command, Wire

LONGEST_ANSWERS = 1_048_576  # bytes of all of them together


async def ask(
    host: str, port: int, commands: Sequence[Command], *, tls: ssl.SSLContext | None = None
) -> list[Any]:
    """The answer to each, a refusal as hiredis.ReplyError; raises OSError.

    There is no time-out: it is the caller's.
    """
    wire = await Wire.connect(host, port, tls=tls)
    try:
        return await wire.ask(commands, most=LONGEST_ANSWERS)
    finally:
        await wire.close()
