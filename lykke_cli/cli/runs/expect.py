"""One run of `lykke expect`: subscribes, runs the command, waits for what it should cause."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from uuid import UUID

from lykke_cli.application.errors import ExpectationNotMet, UsageMistake
from lykke_cli.application.expect import Expectation
from lykke_cli.application.merge import Print, Save
from lykke_cli.application.tail import Connected, HistoryRead, Notice, Tail, TailRequest
from lykke_cli.bootstrap import make_gateway, make_history
from lykke_cli.cli.output.renderers import NdjsonRenderer
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.infrastructure.configuration.settings import Settings

RECONCILE_INTERVAL = 0.5  # seconds: a broadcast that was lost is not waited for long
LAST_LOOK = 10.0  # seconds beyond the time-out in which the database is asked a last time
ENDING = 5.0  # seconds for the command to end when it is asked to
LOOK_INTERVAL = 0.05  # seconds between looks at whether it has


@dataclass
class _Seen:
    """What the tail has told so far."""

    connected: bool = False
    reads: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, kw_only=True)
class Expecting:
    """`command` is run once the subscription is sure; without one there is only the waiting."""

    settings: Settings
    user_id: UUID
    channel_type: str
    expectation: Expectation
    command: Sequence[str]
    timeout: float
    has_history: bool
    terminal: Terminal
    quiet: bool
    _seen: _Seen = field(default_factory=_Seen)

    @property
    def _request(self) -> TailRequest:
        return TailRequest(user_id=self.user_id, channel_type=self.channel_type)

    @cached_property
    def _reporter(self) -> Reporter:
        return Reporter(self.terminal, quiet=self.quiet, with_history=self.has_history)

    async def run(self) -> None:
        """Wait for what is expected; raises ExpectationNotMet, after saying why."""
        loop = asyncio.get_running_loop()
        async with self._watching() as watching:
            await self._until(lambda: self._seen.connected, None, watching)
            request = self._request
            self._reporter.line(
                f"subscribed to {request.channel_type}:{request.user_id}; "
                f"{self.expectation.wanted(f'{self.timeout:g} s')}"
            )
            deadline = loop.time() + self.timeout
            async with self._running() as ended:
                await self._until(
                    lambda: bool(ended()) or (ended() == 0 and self.expectation.is_decided),
                    deadline,
                    watching,
                )
                if ended() == 0 and not self.expectation.is_decided and self.has_history:
                    # The second read to end from now on has begun after this moment.
                    reads = self._seen.reads + 2
                    await self._until(
                        lambda: self.expectation.is_decided or self._seen.reads >= reads,
                        loop.time() + LAST_LOOK,
                        watching,
                    )
                self._judge(ended())

    def _judge(self, status: int | None) -> None:
        if status is None:
            raise ExpectationNotMet(f"The command had not ended after {self.timeout:g} s.")
        if status != 0:
            raise ExpectationNotMet(f"The command failed with status {status}.")
        if not self.expectation.is_met:
            verdict, *details = self.expectation.explain()
            for line in details:
                self._reporter.line(line)
            raise ExpectationNotMet(f"After {self.timeout:g} s: {verdict}")

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator["asyncio.Task[None]"]:
        async with AsyncExitStack() as stack:
            gateway = make_gateway(self.settings)
            stack.push_async_callback(gateway.close)
            history = None
            if self.has_history:
                history = await stack.enter_async_context(make_history(self.settings))
            tail = Tail(gateway, history, self._request, reconcile_interval=RECONCILE_INTERVAL)
            watching = asyncio.create_task(self._watch(tail))
            watching.add_done_callback(lambda _: self._seen.changed.set())
            try:
                yield watching
            finally:
                watching.cancel()
                await asyncio.wait({watching})

    async def _watch(self, tail: Tail) -> None:
        renderer = NdjsonRenderer(to_terminal=self.terminal.stdout_is_tty)
        async with aclosing(tail.events()) as events:
            async for event in events:
                match event:
                    case Print(arrivals):
                        matching = self.expectation.take(arrivals)
                        if matching:
                            await self.terminal.send(renderer.render(matching))
                    case Connected(_, None):
                        self._seen.connected = True
                    case HistoryRead():
                        self._seen.reads += 1
                    case Save() | Notice():
                        pass  # they are about stored places, of which there are none here
                    case _:
                        self._reporter.happened(event)
                self._seen.changed.set()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[Callable[[], int | None]]:
        """The command; yields what tells its status once it has ended.

        It leads a session of its own. Unless all went well everything in it is ended, as nobody
        would look after it; what a command that succeeded left in the background goes on.
        """
        if not self.command:
            yield lambda: 0
            return
        process = await self._start()
        waiting = asyncio.create_task(process.wait())
        waiting.add_done_callback(lambda _: self._seen.changed.set())
        try:
            yield lambda: process.returncode
        except BaseException:
            await _end_group(process.pid)
            await asyncio.wait({waiting}, timeout=ENDING)
            raise

    async def _start(self) -> Process:
        """Start the command; if this is cancelled meanwhile, the command is ended."""
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(*self.command, stdout=sys.stderr, start_new_session=True)
        )
        try:
            return await asyncio.shield(starting)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageMistake(f"Cannot run {self.command[0]}: {reason}.") from error
        except asyncio.CancelledError:
            await asyncio.wait({starting})
            if starting.exception() is None:
                await _end_group(starting.result().pid)
            raise

    async def _until(
        self, happened: Callable[[], bool], deadline: float | None, watching: "asyncio.Task[None]"
    ) -> None:
        """Wait until it `happened`, or the loop's time is `deadline`."""
        try:
            async with asyncio.timeout_at(deadline):
                while not happened():
                    if watching.done():
                        watching.result()  # raises
                    self._seen.changed.clear()
                    await self._seen.changed.wait()
        except TimeoutError:
            pass


async def _end_group(leader: int) -> None:
    """Ask every process of the group to end, and kill what is left of it after ENDING seconds."""
    clock = asyncio.get_running_loop().time
    with suppress(ProcessLookupError, PermissionError):  # nobody is left, or nobody of ours
        os.killpg(leader, signal.SIGTERM)
        deadline = clock() + ENDING
        while clock() < deadline:
            os.killpg(leader, 0)
            await asyncio.sleep(LOOK_INTERVAL)  # who is not our child ends without a sign
        os.killpg(leader, signal.SIGKILL)
