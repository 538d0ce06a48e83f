"""What `lykke doctor` looks at, one check after the other; how a server is asked is not known here.

A check that fails hides no other: only those that need what it found missing are skipped.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID, uuid4

from lykke_cli.application.errors import ReferenceMissing
from lykke_cli.application.gateways.history_protocol import HistoryProtocol, Selection
from lykke_cli.application.gateways.pubsub_protocol import (
    PubSubGatewayProtocol,
    PubSubSubscription,
)
from lykke_cli.application.unit_of_work_protocol import UnitOfWorkProtocol
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.domain.errors import LykkeError

CLOCK_TOLERANCE = 1.0  # seconds
DEFAULT_TIMEOUT = 5.0  # seconds for one check
GRACE = 1.0  # seconds more, so that a driver can say in its own words what did not answer
CLOCKS = "clocks"
END_TO_END = "end-to-end"
ACTIVITY_TYPE = "LYKKE_DOCTOR"
"""Of the entry that --write records."""
NAME_A_USER = "Name one whose log may hold such an entry: lykke doctor USER_ID --write."


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in a line, and where it is not ok, what to do."""

    status: Verdict
    detail: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at."""

    id: str
    """Stable: scripts select by it."""
    run: Callable[[], Awaitable[Finding]]
    """May raise a LykkeError, which is a failure with its text and remedy."""
    needs: Sequence[str] = ()
    """The ids of checks without whose success this one cannot be made."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What a server's clock said."""

    server: str
    offset: float
    """Seconds that it is ahead of this machine's clock."""
    uncertainty: float
    """Seconds by which the offset may be wrong: half of the question's round trip."""


class Clock(Protocol):
    """A server whose time can be asked."""

    async def read_clock(self) -> ClockReading | None:
        """Ask for the time; None where it is not connected or does not permit the question."""
        ...


def ok(detail: str) -> Finding:
    return Finding(Verdict.OK, detail)


def warning(detail: str, remedy: str) -> Finding:
    return Finding(Verdict.WARNING, detail, remedy)


def failed(detail: str, remedy: str) -> Finding:
    return Finding(Verdict.FAILED, detail, remedy)


def skipped(detail: str, remedy: str | None = None) -> Finding:
    return Finding(Verdict.SKIPPED, detail, remedy)


async def examine(
    checks: Sequence[Check], *, timeout: float = DEFAULT_TIMEOUT
) -> AsyncGenerator[tuple[Check, Finding]]:
    """Run the checks in order; one that takes longer than `timeout` seconds fails."""
    done: dict[str, Verdict] = {}
    for check in checks:
        finding = _missing(check, done) or await _run(check, timeout)
        done[check.id] = finding.status
        yield check, finding


def _missing(check: Check, done: Mapping[str, Verdict]) -> Finding | None:
    missing = [id for id in check.needs if done[id] in (Verdict.FAILED, Verdict.SKIPPED)]
    return skipped(f"needs {' and '.join(missing)}") if missing else None


async def _run(check: Check, timeout: float) -> Finding:
    try:
        async with asyncio.timeout(timeout + GRACE):
            return await check.run()
    except TimeoutError:
        return failed(
            f"no answer within {timeout:g} s", "Is the server overloaded? Try a longer --timeout."
        )
    except LykkeError as error:
        return Finding(Verdict.FAILED, error.problem, error.remedy)
    except Exception as error:  # a bug in one check must not hide what the others find
        return failed(
            f"the check itself broke ({type(error).__name__})",
            "This is a bug in lykke: please report it.",
        )


def clock_check(clocks: Sequence[Clock]) -> Check:
    """Compares the clocks of this machine and the servers, each with each."""

    async def run() -> Finding:
        readings = []
        for clock in clocks:
            with suppress(LykkeError):  # a server that has gone is told of by its own checks
                readings.append(await clock.read_clock())
        return compare_clocks([reading for reading in readings if reading is not None])

    return Check(CLOCKS, run)


def compare_clocks(readings: Sequence[ClockReading]) -> Finding:
    """A warning where two clocks surely differ by more than the tolerance."""
    if not readings:
        return skipped("no server could be asked for its time")
    apart = []
    for one, other in itertools.combinations([ClockReading("this machine", 0, 0), *readings], 2):
        difference = one.offset - other.offset
        if abs(difference) - one.uncertainty - other.uncertainty > CLOCK_TOLERANCE:
            slow, fast = (one, other) if difference < 0 else (other, one)
            apart.append(f"{fast.server} is {abs(difference):.1f} s ahead of {slow.server}")
    if apart:
        return warning(
            "; ".join(apart),
            "Set the clocks by NTP: --since, lag and the look-back of one hour rely on them.",
        )
    shown = ", ".join(f"{r.server} {r.offset:+.3f} s (±{r.uncertainty:.3f})" for r in readings)
    return ok(f"against this machine: {shown}")


@dataclass(frozen=True, slots=True)
class Parts:
    """What an entry goes through from its recording to its reading."""

    gateway: PubSubGatewayProtocol
    unit_of_work: UnitOfWorkProtocol
    history: HistoryProtocol


def end_to_end_check(
    opened: Callable[[], AbstractAsyncContextManager[Parts]],
    channel_type: str,
    *,
    needs: Sequence[str],
    timeout: float,
    user_id: UUID | None = None,
) -> Check:
    """Records an entry, and waits for it on the channel and in the history.

    Its user is `user_id`, else one that nobody has; where the database knows its users, and so
    refuses that one, the check is skipped. The broadcast is given half of `timeout` seconds, so
    that the history is looked at too.
    """

    async def run() -> Finding:
        async with opened() as parts:
            try:
                return await _record_and_look(parts, channel_type, timeout / 2, user_id or uuid4())
            except ReferenceMissing as error:
                if user_id is not None:
                    raise
                return skipped(f"needs a user that exists: {error.problem}", NAME_A_USER)

    return Check(END_TO_END, run, needs)


async def _record_and_look(
    parts: Parts, channel_type: str, timeout: float, user_id: UUID
) -> Finding:
    entity = AuditLogEntity(user_id=user_id, activity_type=ACTIVITY_TYPE, entity_id=uuid4())
    clock = asyncio.get_running_loop().time
    async with parts.gateway.subscribe_to_user_channel(
        entity.user_id, channel_type, reconnect=False
    ) as subscription:
        async with parts.unit_of_work as unit_of_work:
            await unit_of_work.create(entity)
        committed = clock()
        live = await _arrives(subscription, str(entity.id), timeout)
        took = (clock() - committed) * 1000
    selection = Selection(user_ids={entity.user_id}, entity_id=entity.entity_id)
    stored = await parts.history.count(selection) == 1
    found = [
        f"entry {entity.id} committed",
        f"live after {took:.0f} ms" if live else "NOT on its channel",
        "in the history" if stored else "NOT in the history",
    ]
    if live and stored:
        return ok("; ".join(found))
    return failed(
        "; ".join(found),
        "Does DATABASE_URL name the database that is written to, not a replica?"
        if live
        else "May this user PUBLISH to the channel?",
    )


async def _arrives(subscription: PubSubSubscription, id: str, timeout: float) -> bool:
    deadline = asyncio.get_running_loop().time() + timeout
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        message = await subscription.get_message(left)
        if isinstance(message, dict) and message.get("id") == id:
            return True
    return False


def not_asked_for(id: str, detail: str, remedy: str | None) -> Check:
    """Return a check that is not made, and says how to have it made."""

    async def run() -> Finding:
        return skipped(detail, remedy)

    return Check(id, run)
