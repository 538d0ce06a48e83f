"""The running of checks, and what is concluded from what they saw."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from lykke_cli.application import doctor
from lykke_cli.application.doctor import (
    Check,
    ClockReading,
    Finding,
    Parts,
    Verdict,
    compare_clocks,
    end_to_end_check,
    examine,
    ok,
    warning,
)
from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.infrastructure.gateways.memory_pubsub import MemoryPubSubGateway
from lykke_cli.infrastructure.sqlite.history import SqliteHistory
from lykke_cli.infrastructure.unit_of_work import SqlAlchemyUnitOfWork


def finding(value: Finding) -> Callable[[], Awaitable[Finding]]:
    async def run() -> Finding:
        return value

    return run


async def unavailable() -> Finding:
    raise ServerUnavailable("It is away.", remedy="Fetch it.")


async def broken() -> Finding:
    raise ZeroDivisionError("s3cret")


async def endless() -> Finding:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_check_that_fails_hides_only_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "GRACE", 0.0)
    checks = [
        Check("away", unavailable),
        Check("needs-it", finding(ok("")), ["away"]),
        Check("needs-that", finding(ok("")), ["needs-it"]),
        Check("broken", broken),
        Check("endless", endless),
        Check("warns", finding(warning("odd", "mend"))),
        Check("needs-warned", finding(ok("fine")), ["warns"]),
    ]
    found = {check.id: finding async for check, finding in examine(checks, timeout=0.01)}
    assert {id: f.status.value for id, f in found.items()} == {
        "away": "failed",
        "needs-it": "skipped",
        "needs-that": "skipped",
        "broken": "failed",
        "endless": "failed",
        "warns": "warning",
        "needs-warned": "ok",
    }
    assert (found["away"].detail, found["away"].remedy) == ("It is away.", "Fetch it.")
    assert found["needs-it"].detail == "needs away"
    assert "s3cret" not in str(found["broken"])
    assert "0.01 s" in found["endless"].detail


@pytest.mark.parametrize(
    ("readings", "status", "text"),
    [
        ([], Verdict.SKIPPED, "no server"),
        ([("Redis", 0.9, 0.0), ("PostgreSQL", 0.0, 0.0)], Verdict.OK, "Redis +0.900 s"),
        ([("Redis", -1.2, 0.1)], Verdict.WARNING, "this machine is 1.2 s ahead of Redis"),
        ([("Redis", 1.2, 0.3)], Verdict.OK, "±0.300"),
        (
            [("Redis", 0.6, 0.0), ("PostgreSQL", -0.6, 0.0)],
            Verdict.WARNING,
            "Redis is 1.2 s ahead of PostgreSQL",
        ),
    ],
)
def test_clocks_are_compared_each_with_each(
    readings: list[tuple[str, float, float]], status: Verdict, text: str
) -> None:
    result = compare_clocks([ClockReading(*reading) for reading in readings])
    assert result.status is status
    assert text in result.detail


async def test_an_entry_whose_broadcast_goes_elsewhere_is_told_apart(sqlite_url: str) -> None:
    @asynccontextmanager
    async def parts() -> AsyncGenerator[Parts]:
        unit_of_work = SqlAlchemyUnitOfWork(sqlite_url, MemoryPubSubGateway())
        async with SqliteHistory(sqlite_url) as history:
            yield Parts(MemoryPubSubGateway(), unit_of_work, history)
        await unit_of_work.close()

    check = end_to_end_check(parts, "auditlog", needs=(), timeout=0.02)
    [(_, result)] = [found async for found in examine([check])]
    assert result.status is Verdict.FAILED
    assert "NOT on its channel; in the history" in result.detail
    assert "PUBLISH" in str(result.remedy)
