"""Prints a user's entries through SQLAlchemy; arguments: database URL, user."""

import asyncio
import sys
import uuid

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine


async def main(url: str, user: str) -> None:
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    out = sys.stdout.buffer
    query = sa.text("SELECT * FROM audit_logs WHERE user_id = :user ORDER BY occurred_at, id")
    async with engine.connect() as connection:
        result = await connection.stream(query, {"user": uuid.UUID(user)})
        async for row in result.mappings():
            out.write(orjson.dumps(dict(row), default=str) + b"\n")


asyncio.run(main(*sys.argv[1:]))
