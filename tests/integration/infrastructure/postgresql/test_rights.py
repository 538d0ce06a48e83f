"""What is told of a server that does not answer all that is asked."""

import asyncpg
import pytest

from lykke_cli.infrastructure.postgresql.rights import offer_of

FOREIGN_CHILD = """
    CREATE FOREIGN DATA WRAPPER another;
    CREATE SERVER far FOREIGN DATA WRAPPER another;
    CREATE FOREIGN TABLE child () INHERITS (audit_logs) SERVER far;
"""


@pytest.mark.parametrize("is_partly_foreign", [False, True])
async def test_what_lies_in_a_foreign_table_cannot_be_followed(
    postgres_url: str, is_partly_foreign: bool
) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        if is_partly_foreign:
            await connection.execute(FOREIGN_CHILD)
        limits = (await offer_of(connection)).limits
        assert (limits is not None and "foreign table" in limits) is is_partly_foreign
        if is_partly_foreign:
            await connection.execute("DROP FOREIGN DATA WRAPPER another CASCADE")
    finally:
        await connection.close()
