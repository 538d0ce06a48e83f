"""A connection to PostgreSQL, where asyncpg is another inside."""

from typing import Any

import asyncpg
import pytest

from lykke_cli.infrastructure.postgresql import connection
from lykke_cli.infrastructure.postgresql.connection import tls_version


async def test_without_asyncpgs_own_transport_the_server_is_asked_about_tls(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def without_transport(connection: object, name: str, default: Any) -> Any:
        asked.append(name)
        return default

    monkeypatch.setattr(connection, "getattr", without_transport, raising=False)
    opened = await asyncpg.connect(postgres_url)
    try:
        assert await tls_version(opened) is None  # the tests' server speaks no TLS
    finally:
        await opened.close()
    assert asked == ["_transport"]
