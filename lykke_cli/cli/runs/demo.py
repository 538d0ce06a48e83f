"""One run of `lykke demo`: simulated users, one of them tailed, an outage half-way."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from lykke_cli.application.ending import end
from lykke_cli.application.gateways.history_protocol import HistoryProtocol
from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
from lykke_cli.application.place import NoPlace
from lykke_cli.application.simulation import Person, Simulation
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
from lykke_cli.infrastructure.database.demo_data import write_demo_data
from lykke_cli.infrastructure.embedded_servers import EmbeddedServers
from lykke_cli.infrastructure.unit_of_work import SqlAlchemyUnitOfWork

DAYS = 30  # of history
PAUSE = 0.25  # mean seconds between two activities
EARLIER = 4  # entries recorded before anybody looks
OUTAGE_STARTS = 0.4  # of the time
OUTAGE_LENGTH = 0.2  # of the time
LONGEST_OUTAGE = 4.0  # seconds
BETWEEN_OUTAGES = 30.0  # seconds
HOST = "127.0.0.1"  # of the page
CATCH_UP_TIME = 10.0  # seconds for the tail to see the last entries


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """Runs for `seconds`, or with None until it is interrupted, for use from another terminal.

    The second does not tail: what it says stays in sight. With a page for browsers there is an
    outage now and then.
    """

    servers: EmbeddedServers
    printing: options.Printing
    seconds: float | None
    with_page: bool = False
    _simulation: Simulation = field(default_factory=Simulation)
    _recorded: Counter[Person] = field(default_factory=Counter)

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
    def _tailed(self) -> Person:
        return self._simulation.people[0]

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            stack.enter_context(without_log())  # broadcasts fail during the outage, as they should
            await write_demo_data(
                self.servers.database_url,
                self._simulation.people,
                self._simulation.history(DAYS, datetime.now(UTC)),
            )
            gateway = make_gateway(self._settings)
            stack.push_async_callback(gateway.close)
            uow = make_unit_of_work(self._settings, gateway)
            stack.push_async_callback(uow.close)
            if self.seconds is None:
                works = [self._work(uow)]
                if self.with_page:
                    works += [self._serve(gateway), self._outages()]
                self._invite()
                await self._until_one_ends(works)
            else:
                history = await stack.enter_async_context(make_history(self._settings))
                await self._show(gateway, history, uow, self.seconds)

    async def _show(
        self,
        gateway: PubSubGatewayProtocol,
        history: HistoryProtocol,
        uow: SqlAlchemyUnitOfWork,
        seconds: float,
    ) -> None:
        """Tail one of the users for so long, with an outage."""
        self._reporter.line(
            f"demo: {len(self._simulation.people)} users at work, a Redis and a database of its "
            f"own; tailing {self._tailed.email}"
        )
        started = datetime.now(UTC)
        for _ in range(EARLIER):
            await self._record(uow, self._tailed)
        request = TailRequest(user_ids={self._tailed.id}, since=started)
        sink = StdoutSink(self._terminal, self.printing.renderer(self._terminal))
        tail = Tail(gateway, history, request, reconcile_interval=2.0)
        follower = Follower(
            tail, sink, self._reporter, Keeper(NoPlace(), sink, self._reporter.line)
        )
        following = asyncio.create_task(follower.run())
        working = asyncio.create_task(self._work(uow))
        outage = asyncio.create_task(self._outage(seconds))
        try:
            ended, _ = await asyncio.wait(
                (following, working), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not ended:
                working.cancel()
                await outage
                await self._catch_up()
            for task in (following, working):
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            for task in (outage, working, following):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        self._conclude()

    async def _catch_up(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_TIME):
                while not self._has_caught_up:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    @property
    def _has_caught_up(self) -> bool:
        """Connected again, too: the database may have shown the last entries before that."""
        is_complete = self._reporter.entries >= self._recorded[self._tailed]
        return is_complete and self._reporter.is_live

    async def _work(self, uow: SqlAlchemyUnitOfWork) -> None:
        """Record activities of all users, until this is cancelled."""
        people = self._simulation.people
        for number in itertools.count():
            # Every other activity is the tailed user's, so that there is something to see.
            person = people[number // 2 % len(people)] if number % 2 else self._tailed
            await self._record(uow, person)
            await asyncio.sleep(self._simulation.pause(PAUSE))

    async def _record(self, uow: SqlAlchemyUnitOfWork, person: Person) -> None:
        async with uow:
            await uow.create(self._simulation.activity(person, datetime.now(UTC)))
        self._recorded[person] += 1

    async def _outage(self, seconds: float) -> None:
        await asyncio.sleep(seconds * OUTAGE_STARTS)
        self._reporter.line("outage: Redis is stopped, the users work on")
        await asyncio.to_thread(self.servers.outage)
        await asyncio.sleep(min(seconds * OUTAGE_LENGTH, LONGEST_OUTAGE))
        await asyncio.to_thread(self.servers.recover)

    async def _until_one_ends(self, works: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Do them together; when this returns or raises, none of them uses anything any more."""
        tasks = {asyncio.create_task(work) for work in works}
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            await end(tasks)

    async def _outages(self) -> None:
        while True:
            await self._outage(BETWEEN_OUTAGES / OUTAGE_STARTS)

    async def _serve(self, gateway: PubSubGatewayProtocol) -> None:
        """Serve the page on a free port, until this is cancelled."""
        from lykke_cli.web import AuthSettings, authorize_by, make_app
        from lykke_cli.web.authorization import random_token
        from lykke_cli.web.listening import bind, url
        from lykke_cli.web.server import Server

        token, sockets = random_token(), bind(HOST, 0)
        bridge = make_app(
            gateway=gateway,
            database_url=self.servers.database_url,
            authorize=authorize_by(AuthSettings(static_token=token)),
            page=True,
            reconcile_interval=2.0,
        )
        server = Server(
            bridge,
            heeds_signals=False,
            on_ready=lambda: self._reporter.line(
                f"the page is at {url(HOST, sockets)}/#token={token}"
            ),
        )
        async with bridge.lifespan():
            await server.serve(sockets)

    def _invite(self) -> None:
        """Say how to use the servers; what is to be pasted comes last, on stdout."""
        people, line = self._simulation.people, self._reporter.line
        line(f"demo: {len(people)} users at work until Ctrl-C, and {DAYS} days of their history")
        line(f"in another terminal paste this, then try: lykke tail {self._tailed.email}")
        self._terminal.write(
            f"export REDIS_URL={self.servers.redis_url}\n"
            f"export DATABASE_URL={self.servers.database_url}\n".encode()
        )
        self._terminal.flush()

    def _conclude(self) -> None:
        recorded, seen = self._recorded[self._tailed], self._reporter.entries
        self._reporter.line(
            f"demo: {self._recorded.total()} entries of {len(self._recorded)} users recorded; "
            f"{recorded} of {self._tailed.email}, {seen} seen"
        )
