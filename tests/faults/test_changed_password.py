"""A password that is changed while `tail` runs: told of as such, once, and gone on from."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.builders import entity, insert, wire
from tests.cli_process import LykkeProcess
from tests.servers import PostgresServer, RedisServer, wait_until

ATTEMPTS = 3
REFUSED = "refused the login"


@pytest.fixture
def role(postgres_server: PostgresServer, postgres_database: str) -> Iterator[str]:
    """A role of its own, with only SELECT."""
    name = f"role_{uuid.uuid4().hex}"
    postgres_server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'before'")
    postgres_server.execute(f"GRANT SELECT ON audit_logs TO {name}", postgres_database)
    yield name
    postgres_server.execute(f"DROP OWNED BY {name}; DROP ROLE {name}", postgres_database)


def test_the_databases_password(
    postgres_server: PostgresServer,
    postgres_database: str,
    postgres_url: str,
    role: str,
    redis_url: str,
) -> None:
    def set_password(password: str) -> None:
        postgres_server.execute(f"ALTER ROLE {role} PASSWORD '{password}'")

    def refusals() -> int:
        return postgres_server.log.count(f'password authentication failed for user "{role}"')

    user = uuid.uuid4()
    url = postgres_server.url(postgres_database, role, "before")
    arguments = ("tail", user, "-o", "ndjson", "--count", 1, "--reconcile", "0.1s")
    with LykkeProcess(*arguments, env={"DATABASE_URL": url, "REDIS_URL": redis_url}) as tail:
        tail.wait_for("following")
        set_password("after")
        postgres_server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"  # noqa: S608
        )
        wait_until(lambda: refusals() >= ATTEMPTS, "it tries again")
        missed = entity(user)  # nobody broadcasts it
        asyncio.run(insert(postgres_url, [missed]))
        set_password("before")
        result = tail.finish()
    assert [row["id"] for row in result.rows] == [str(missed.id)]
    assert result.stderr.count(REFUSED) == 1
    [line] = [line for line in result.stderr.splitlines() if REFUSED in line]
    assert line.startswith(f"lykke: The database at postgresql://{role}@")
    assert "before" not in result.stderr
    assert result.status == 0


def test_the_password_of_redis() -> None:
    user = uuid.uuid4()
    with RedisServer(password="before") as server, server.client() as admin:

        def refusals() -> int:
            told: dict[str, Any] = admin.info("errorstats")
            return int(told.get("errorstat_WRONGPASS", {}).get("count", 0))

        arguments = ("tail", user, "--live-only", "-o", "ndjson", "--count", 1)
        with LykkeProcess(*arguments, env={"REDIS_URL": server.url}) as tail:
            tail.wait_for("following")
            admin.config_set("requirepass", "after")
            admin.client_kill_filter(_type="pubsub")
            wait_until(lambda: refusals() >= ATTEMPTS, "it tries again")
            admin.config_set("requirepass", "before")
            wait_until(lambda: admin.pubsub_numsub(f"auditlog:{user}")[0][1], "it is back")
            published = entity(user)
            admin.publish(f"auditlog:{user}", wire(published))
            result = tail.finish()
    assert [row["id"] for row in result.rows] == [str(published.id)]
    assert result.stderr.count(REFUSED) == 1
    [line] = [line for line in result.stderr.splitlines() if REFUSED in line]
    assert line.startswith("lykke: Redis at redis://127.0.0.1:")
    assert "before" not in result.stderr
    assert result.status == 0
