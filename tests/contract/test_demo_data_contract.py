"""What the demo starts with is written alike on SQLite and on PostgreSQL."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from lykke_cli import AuditLogRepository
from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.simulation import Simulation
from lykke_cli.bootstrap import make_users
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.database.demo_data import write_demo_data
from lykke_cli.infrastructure.database.engine import make_engine


@pytest.fixture(params=["sqlite", "postgres", "postgres with date"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    make: Callable[..., str] = request.getfixturevalue("make_postgres_database")
    name = make(date_column="date" in request.param, timestamptz="date" in request.param)
    return str(request.getfixturevalue("postgres_server").url(name))


async def test_users_and_their_past_are_there(url: str) -> None:
    simulation = Simulation()
    entries = simulation.history(2, datetime(2026, 5, 15, 12, tzinfo=UTC))
    await write_demo_data(url, simulation.people, entries)
    engine = make_engine(url)
    found = [entry async for entry in AuditLogRepository(engine).find()]
    await engine.dispose()
    assert found == entries
    async with make_users(Settings(database_url=url)) as users:
        active = await users.active(Scope(selection=Selection(user_ids=None)), 20)
    assert {(user.user_id, user.email) for user in active} == {
        (str(person.id), person.email) for person in simulation.people
    }
