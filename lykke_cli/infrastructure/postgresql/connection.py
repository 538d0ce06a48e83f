"""Connections to PostgreSQL, for reading only.

Everything that reads does so in read-only transactions, without named prepared statements and
without settings that outlive a transaction: SELECT rights and PgBouncer in transaction mode are
enough.
"""

from typing import Any

from lykke_cli.infrastructure.database import hosts
from lykke_cli.infrastructure.database.urls import CONNECT_TIMEOUT, STATEMENT_TIMEOUT

LOCAL_SETTINGS = (
    f"SET LOCAL statement_timeout = {int(STATEMENT_TIMEOUT * 1000)}; SET LOCAL TimeZone = 'UTC'"
)
"""What every transaction sets for itself."""


async def connect(dsn: str) -> Any:
    """A connection of asyncpg, to be terminated in the end; raises what the driver raises."""
    return await hosts.connect(
        dsn,
        timeout=CONNECT_TIMEOUT,
        command_timeout=STATEMENT_TIMEOUT,
        statement_cache_size=0,
        server_settings={"application_name": "lykke"},
    )


async def tls_version(connection: Any) -> str | None:
    """The version of TLS that an asyncpg connection uses; None where it uses none.

    asyncpg keeps the transport to itself, and it is the one to ask: what leaves this machine
    counts. Where a release has it no more the server is asked, which says how a PgBouncer between
    talks to it.
    """
    transport = getattr(connection, "_transport", None)
    if transport is not None:
        tls = transport.get_extra_info("ssl_object")
        return None if tls is None else str(tls.version())
    version: str | None = await connection.fetchval(
        "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    )
    return version
