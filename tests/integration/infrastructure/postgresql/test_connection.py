"""A connection to PostgreSQL, where asyncpg is another inside."""

import asyncpg
import pytest

from lykke_cli.infrastructure.postgresql import connection
from lykke_cli.infrastructure.postgresql.connection import tls_version
from tests.private_names import hide


async def test_without_asyncpgs_own_transport_the_server_is_asked_about_tls(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hide(monkeypatch, connection)
    opened = await asyncpg.connect(postgres_url)
    try:
        assert await tls_version(opened) is None  # the tests' server speaks no TLS
    finally:
        await opened.close()
    assert asked == ["_transport"]
