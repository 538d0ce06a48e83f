"""One run of `lykke demo`: simulated users, one of them tailed, an outage half-way."""

import asyncio
import itertools
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from uuid import UUID

from lykke_cli.application.place import NoPlace
from lykke_cli.application.simulation import Simulation
from lykke_cli.application.tail import Tail, TailRequest
from lykke_cli.bootstrap import make_gateway, make_history, make_unit_of_work
from lykke_cli.cli.arguments import options
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.sink import StdoutSink
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.cli.runs.follow import Follower
from lykke_cli.cli.runs.keeping import Keeper
from lykke_cli.cli.runtime import without_log
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.embedded_servers import EmbeddedServers
from lykke_cli.infrastructure.unit_of_work import SqlAlchemyUnitOfWork

USERS = 3
PAUSE = 0.25  # mean seconds between two activities
EARLIER = 4  # entries recorded before anybody looks
OUTAGE_STARTS = 0.4  # of the time
OUTAGE_LENGTH = 0.2  # of the time
LONGEST_OUTAGE = 4.0  # seconds
CATCH_UP_TIME = 10.0  # seconds for the tail to see the last entries


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """Runs for `seconds`; with None it runs until it is interrupted, and has no outage."""

    servers: EmbeddedServers
    printing: options.Printing
    seconds: float | None
    _simulation: Simulation = field(default_factory=lambda: Simulation(USERS))
    _recorded: Counter[UUID] = field(default_factory=Counter)

    @cached_property
    def _terminal(self) -> Terminal:
        return options.terminal(self.printing.color)

    @cached_property
    def _reporter(self) -> Reporter:
        return Reporter(self._terminal, quiet=False, with_history=True, zone=self.printing.zone)

    @property
    def _settings(self) -> Settings:
        return Settings(self.servers.redis_url, self.servers.database_url)

    @property
    def _tailed(self) -> UUID:
        return self._simulation.users[0]

    async def run(self) -> None:
        self._introduce()
        async with AsyncExitStack() as stack:
            stack.enter_context(without_log())  # broadcasts fail during the outage, as they should
            gateway = make_gateway(self._settings)
            stack.push_async_callback(gateway.close)
            uow = make_unit_of_work(self._settings, gateway)
            stack.push_async_callback(uow.close)
            history = await stack.enter_async_context(make_history(self._settings))
            started = datetime.now(UTC)
            for _ in range(EARLIER):
                await self._record(uow, self._tailed)
            request = TailRequest(user_id=self._tailed, since=started)
            sink = StdoutSink(self._terminal, self.printing.renderer(self._terminal))
            tail = Tail(gateway, history, request, reconcile_interval=2.0)
            follower = Follower(
                tail, sink, self._reporter, Keeper(NoPlace(), sink, self._reporter.line)
            )
            following = asyncio.create_task(follower.run())
            working = asyncio.create_task(self._work(uow))
            try:
                await self._until_the_end(following, working)
            finally:
                for task in (working, following):
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
        self._conclude()

    async def _until_the_end(
        self, following: asyncio.Task[None], working: asyncio.Task[None]
    ) -> None:
        tasks = [following, working]
        if self.seconds is None:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        else:
            tasks.append(asyncio.create_task(self._outage(self.seconds)))
            await asyncio.wait(tasks[:2], timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            await tasks[2]
            await self._catch_up()
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _catch_up(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_TIME):
                while self._reporter.entries < self._recorded[self._tailed]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    async def _work(self, uow: SqlAlchemyUnitOfWork) -> None:
        """Record activities of all users, until this is cancelled."""
        for number in itertools.count():
            # Every other activity is the tailed user's, so that there is something to see.
            await self._record(
                uow, self._simulation.users[number // 2 % USERS if number % 2 else 0]
            )
            await asyncio.sleep(self._simulation.pause(PAUSE))

    async def _record(self, uow: SqlAlchemyUnitOfWork, user: UUID) -> None:
        async with uow:
            await uow.create(self._simulation.activity(user))
        self._recorded[user] += 1

    async def _outage(self, seconds: float) -> None:
        await asyncio.sleep(seconds * OUTAGE_STARTS)
        self._reporter.line("outage: Redis is stopped, the users work on")
        await asyncio.to_thread(self.servers.outage)
        await asyncio.sleep(min(seconds * OUTAGE_LENGTH, LONGEST_OUTAGE))
        await asyncio.to_thread(self.servers.recover)

    def _introduce(self) -> None:
        line = self._reporter.line
        line(f"demo: {USERS} users at work, a Redis and a database of its own; tailing one of them")
        if self.seconds is None:
            line("in another terminal, until Ctrl-C here:")
            self._terminal.stderr.flush()
            exports = (
                f"export REDIS_URL={self.servers.redis_url}\n"
                f"export DATABASE_URL={self.servers.database_url}\n"
            )
            self._terminal.stderr.write(exports.encode())
            self._terminal.stderr.flush()
            line(f"then for example: lykke tail {self._tailed} -n 5")

    def _conclude(self) -> None:
        recorded, seen = self._recorded[self._tailed], self._reporter.entries
        self._reporter.line(
            f"demo: {self._recorded.total()} entries recorded for {USERS} users; of the tailed "
            f"user {recorded} recorded, {seen} seen, {self._reporter.recovered} of them recovered "
            "from the database"
        )
