"""Connecting to PostgreSQL where a URL names several hosts.

asyncpg gives all of them one time-out together, so that a host which is silent leaves none to the
others. Here each has its own, and the next is tried beside one that is slow.
"""

import asyncio
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from lykke_cli.application.ending import end

PATIENCE = 1.0
"""Seconds until the next host is tried while the one before it has not answered."""
_GOING_ON = ("08", "57P")
"""SQLSTATEs after which the next host is tried: it is going down, or coming up."""


async def connect(dsn: str, *, timeout: float, **options: Any) -> Any:
    """A connection of asyncpg to the first host that answers and is of the kind asked for.

    `timeout` is in seconds, for each host. Raises what the driver raises: for the host that failed
    last, or for one that refused the login.
    """
    import asyncpg  # slow: a tail is subscribed before it comes to this

    left = list(_one_by_one(dsn))
    attempts: list[asyncio.Task[Any]] = []
    try:
        while True:
            if left:
                attempt = asyncpg.connect(left.pop(0), timeout=timeout, **options)
                attempts.append(asyncio.create_task(attempt))
            patience = PATIENCE if left else None
            await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in attempts if task.done()]:
                attempts.remove(task)
                error = task.exception()
                if error is None:
                    return task.result()
                if not (left or attempts) or not _may_go_on(error):
                    raise error
    finally:
        await end(attempts)
        for task in attempts:  # the slower ones
            if not task.cancelled() and task.exception() is None:
                task.result().terminate()


def _may_go_on(error: BaseException) -> bool:
    """True where another host may do better: what a login is refused for is the same on all."""
    import asyncpg

    if isinstance(error, OSError | asyncpg.TargetServerAttributeNotMatched):
        return True
    return str(getattr(error, "sqlstate", "")).startswith(_GOING_ON)


def _one_by_one(dsn: str) -> Iterator[str]:
    """A DSN for each host, in the order in which they are to be tried."""
    parts = urlsplit(dsn)
    options = dict(parse_qsl(parts.query))
    login, at, hosts = parts.netloc.rpartition("@")
    ports = options.get("port", "").split(",")
    names = (hosts or options.get("host", "")).split(",")
    if len(names) == 1:
        yield dsn
        return
    kinds = [options.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS")]
    if kinds == ["prefer-standby"]:
        kinds = ["standby", "any"]
    for kind in kinds:
        for number, name in enumerate(names):
            own = options | ({} if kind is None else {"target_session_attrs": kind})
            if len(ports) == len(names):
                own["port"] = ports[number]
            if not hosts:
                own["host"] = name
            query = urlencode(own, quote_via=quote, safe="")
            yield parts._replace(netloc=f"{login}{at}{name if hosts else ''}", query=query).geturl()
