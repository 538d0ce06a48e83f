"""What is asked of redis-py, alike in every version from 4.6 on."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from inspect import signature
from typing import Any

import redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from lykke_cli._version import __version__
from lykke_cli.infrastructure.redis.connection import CLIENT_NAME

_KNOWN = signature(AbstractConnection.__init__).parameters


def plain_connection(
    options: Mapping[str, Any], *, name: str | None = CLIENT_NAME
) -> dict[str, Any]:
    """`options` for a connection that speaks RESP2 and tries nothing twice.

    It tells the server that the library is called `name`, where redis-py can, and unless the
    options name another.
    """
    made = {**options, "retry": Retry(NoBackoff(), 0)}
    if "protocol" in _KNOWN:
        made["protocol"] = 2  # here a subscribed connection's PING is answered among the messages
    if "driver_info" in _KNOWN:
        info = None if name is None else redis.DriverInfo(name=name, lib_version=__version__)
        made.setdefault("driver_info", info)
    elif "lib_name" in _KNOWN:
        made = {"lib_name": name, "lib_version": name and __version__} | made
    return made


@cache
def _words_to_get_one(kind: type[ConnectionPool]) -> tuple[str, ...]:
    """An old pool wants to be told the command, a new one warns of that."""
    name = signature(kind.get_connection).parameters.get("command_name")
    return ("PUBLISH",) if name is not None and name.default is name.empty else ()


@asynccontextmanager
async def taken(pool: ConnectionPool) -> AsyncGenerator[AbstractConnection]:
    """A connection of the pool, connected, while the block lasts; a block that fails closes it."""
    words = _words_to_get_one(type(pool))
    connection: AbstractConnection = await pool.get_connection(*words)  # type: ignore[no-untyped-call]
    try:
        yield connection
    except BaseException:  # what is read from it next would answer what was asked before
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


@contextmanager
def kept_cancellation() -> Iterator[None]:
    """A block that ends with a CancelledError where one was swallowed inside.

    With a socket_timeout redis-py sends within asyncio.wait_for, which on Python 3.11 forgets a
    cancellation that comes at the moment when the sending is done.
    """
    task = asyncio.current_task()
    asked = 0 if task is None else task.cancelling()
    yield
    if task is not None and task.cancelling() > asked:
        raise asyncio.CancelledError


async def is_untouched(connection: AbstractConnection) -> bool:
    """Whether nothing has come by `connection` unasked, such as the server's end of it.

    A pool makes sure of that, but not where the server may tell of maintenance (redis-py 8, RESP3).
    """
    can_read = getattr(connection, "can_read", None)
    try:
        return can_read is None or not await can_read()
    except (RedisError, OSError):
        return False
