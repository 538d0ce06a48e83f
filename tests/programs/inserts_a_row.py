"""Commits an entry without broadcasting it; arguments: database URL, user, activity type."""

import asyncio
import sys

import asyncpg


async def main(url: str, user: str, activity_type: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO audit_logs VALUES "
        "(gen_random_uuid(), $1, $2, now() AT TIME ZONE 'UTC', NULL, NULL, NULL)",
        user,
        activity_type,
    )
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
