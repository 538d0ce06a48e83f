"""Bridges on a shared Redis and a database of the test's own."""

import uuid
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from lykke_cli.web import Bridge, make_app
from tests.bridges import served

KEY = b"k" * 32
Make = Callable[..., Bridge]


@pytest.fixture
def user() -> uuid.UUID:
    return uuid.uuid4()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def make(redis_url: str, sqlite_url: str) -> Make:
    """Makes bridges that know each other's cursors, with what else is given."""

    def made(**settings: Any) -> Bridge:
        given = {"redis_url": redis_url, "database_url": sqlite_url, "cursor_keys": [KEY]}
        return make_app(**given | settings)

    return made


@pytest.fixture
async def place(make: Make) -> AsyncGenerator[str]:
    async with served(make()) as place:
        yield place
