"""What an application runs in its own process is tested on the event loops that they use."""

import asyncio
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NamedTuple

import pytest

from tests.servers import READER_PASSWORD, PostgresServer

EMBEDDED = ("test_pubsub_contract.py", "test_unit_of_work_contract.py")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    """uvloop is what `uvicorn[standard]` runs on."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in EMBEDDED:
        factories["uvloop"] = import_module("uvloop").new_event_loop
    return factories


class Urls(NamedTuple):
    owner: str
    reader: str
    """Of a role that may only read; on SQLite the owner's."""


@pytest.fixture(params=["sqlite", "timestamp", "timestamptz and date"])
def urls(request: pytest.FixtureRequest) -> Urls:
    """Of a database of each kind, with an empty audit log."""
    return urls_of(request, request.param)


def urls_of(request: pytest.FixtureRequest, kind: str) -> Urls:
    """Of a database of that kind."""
    if kind == "sqlite":
        url: str = request.getfixturevalue("sqlite_url")
        return Urls(url, url)
    server: PostgresServer = request.getfixturevalue("postgres_server")
    make: Callable[..., str] = request.getfixturevalue("make_postgres_database")
    newer = kind == "timestamptz and date"
    name = make(timestamptz=newer, date_column=newer)
    return Urls(server.url(name), server.url(name, "reader", READER_PASSWORD))
