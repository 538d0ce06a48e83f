"""The servers as a command finds them: in its environment."""

import pytest

from tests.servers import RedisServer


@pytest.fixture
def env(redis_server: RedisServer) -> dict[str, str]:
    return {"REDIS_URL": redis_server.url}


@pytest.fixture
def database_env(env: dict[str, str], postgres_reader_url: str) -> dict[str, str]:
    """With the database for a role that has only SELECT."""
    return env | {"DATABASE_URL": postgres_reader_url}


@pytest.fixture
def owner_env(env: dict[str, str], postgres_url: str) -> dict[str, str]:
    """With the same database for its owner."""
    return env | {"DATABASE_URL": postgres_url}
