"""Fixtures: real servers, and an environment without the developer's own settings."""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lykke_cli.infrastructure.sqlite.schema import create_sqlite_table
from tests.databases import DatabasePool
from tests.servers import READER_PASSWORD, PostgresServer, RedisServer

# How long an example takes tells of the machine and its load, not of the code.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", _UNTIMED, max_examples=40)
settings.register_profile("fuzz", _UNTIMED, max_examples=100_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")
_PRIVATE = ("REDIS_URL", "DATABASE_URL", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart() -> None:
    """Make Hypothesis's table of characters, which takes seconds, once for each checkout.

    Made within a test, it counts as that test's data coming slowly, and fails it.
    """
    st.text().validate()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _judge_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _judge_skip((yield))


def _judge_skip(report: Report) -> Report:
    """A skip is a failure where CI=true, unless its reason is on the list."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        assert isinstance(report.longrepr, tuple)
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason not in ALLOWED_SKIPS.read_text("utf-8").splitlines():
            report.outcome = "failed"
            report.longrepr = f"Skipped, for a reason not on {ALLOWED_SKIPS.name}: {reason}"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name in _PRIVATE or name.startswith(("LYKKE_", "PG", "_LYKKE")):
            if name != "LYKKE_TEST_SERVERS":
                monkeypatch.delenv(name)
    monkeypatch.setenv("LYKKE_PAGER", "")  # nobody is there to leave one
    monkeypatch.setenv("HOME", str(tmp_path))
    for kind in ("state", "config", "data", "cache"):
        monkeypatch.setenv(f"XDG_{kind.upper()}_HOME", str(tmp_path / kind))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Shared: use a user id of your own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """One that a test may kill and freeze."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def _postgres_original() -> Iterator[PostgresServer]:
    """Stopped: what the others start from, as a copy is made faster than by initdb."""
    with PostgresServer() as server:
        server.make_templates()
        server.stop()
        yield server


@pytest.fixture(scope="session")
def postgres_server(_postgres_original: PostgresServer) -> Iterator[PostgresServer]:
    """Shared: use a database of your own."""
    with PostgresServer(_postgres_original) as server:
        yield server


@pytest.fixture
def own_postgres(_postgres_original: PostgresServer) -> Iterator[PostgresServer]:
    """One that a test may kill."""
    with PostgresServer(_postgres_original) as server:
        yield server


@pytest.fixture(scope="session")
def _database_pool(postgres_server: PostgresServer) -> DatabasePool:
    return DatabasePool(postgres_server)


@pytest.fixture
def make_postgres_database(_database_pool: DatabasePool) -> Iterator[Callable[..., str]]:
    """Gives the names of databases with an empty table in one of its variants."""
    taken: list[tuple[str, tuple[bool, bool]]] = []

    def make(*, timestamptz: bool = False, date_column: bool = False) -> str:
        variant = (timestamptz, date_column)
        taken.append((_database_pool.take(variant), variant))
        return taken[-1][0]

    yield make
    for name, variant in taken:
        _database_pool.give_back(name, variant)


@pytest.fixture
def postgres_database(make_postgres_database: Callable[..., str]) -> str:
    return make_postgres_database()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_database: str) -> str:
    """The fresh database, as its owner."""
    return postgres_server.url(postgres_database)


@pytest.fixture
def postgres_reader_url(postgres_server: PostgresServer, postgres_database: str) -> str:
    """The same database, for a role that has only SELECT."""
    return postgres_server.url(postgres_database, "reader", READER_PASSWORD)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite database with the table."""
    path = tmp_path / "audit.db"
    create_sqlite_table(path)
    return f"sqlite:///{path}"
