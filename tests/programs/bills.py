"""Runs what tests/recipes/billing.py shows, on Redis or where REDIS_URL is not set in memory.

Arguments: the user, the application's database, the event loop, and before which step of that
database to be killed (0: never).
"""

import asyncio
import os
import signal
import sqlite3
import sys
import uuid
from contextlib import closing
from typing import Any

from lykke_cli import MemoryPubSubGateway
from tests.recipes.billing import bill

user, path, loop, killed_before = sys.argv[1:]
steps = 0


class Database(sqlite3.Connection):
    """Counts its steps: each statement, and the end of a transaction."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        count()
        return super().execute(*arguments)

    def __exit__(self, *exc_info: Any) -> Any:
        count()
        return super().__exit__(*exc_info)


def count() -> None:
    global steps
    steps += 1
    if steps == int(killed_before):
        os.kill(os.getpid(), signal.SIGKILL)


async def main(database: sqlite3.Connection) -> None:
    options: dict[str, Any] = {"last": 12, "reconcile_interval": 0.2}
    if "REDIS_URL" not in os.environ:
        options["gateway"] = MemoryPubSubGateway()
    await bill(uuid.UUID(user), database, **options)


with closing(sqlite3.connect(path, isolation_level=None, factory=Database)) as database:
    if loop == "uvloop":
        import uvloop

        uvloop.run(main(database))
    else:
        asyncio.run(main(database))
