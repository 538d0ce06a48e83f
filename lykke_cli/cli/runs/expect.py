"""One run of `lykke expect`: subscribes, runs the command, waits for what it should cause."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from pathlib import Path
from uuid import UUID

from lykke_cli.application.expect import Expectation
from lykke_cli.application.gateways.pubsub_protocol import in_words
from lykke_cli.application.merge import Print, Save
from lykke_cli.application.statuses import Connected, HistoryRead, Notice
from lykke_cli.application.tail import Tail, TailRequest
from lykke_cli.bootstrap import make_gateway, make_history
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.cli.output.countdown import Countdown
from lykke_cli.cli.output.palette import Color, painted
from lykke_cli.cli.output.renderers import NdjsonRenderer
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.standard_streams import OutputClosed, say
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.cli.runs.child import CannotRun, Child, running
from lykke_cli.cli.runs.silence import probable_mistakes, without_database
from lykke_cli.infrastructure.configuration.settings import Settings

RECONCILE_INTERVAL = 0.5  # seconds: a broadcast that was lost is not waited for long
FIRST_LOOK = 1.0  # seconds before the command in which mistakes are looked for
LAST_LOOK = 10.0  # seconds beyond the time-out in which the database is asked a last time
TICK = 1.0  # seconds between two looks of the countdown


@dataclass
class _Seen:
    """What the tail has told so far."""

    connected: bool = False
    reads: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class _Verdict:
    is_met: bool
    seconds: float
    reason: str | None
    """What is wrong with the command."""
    status: int


@dataclass(frozen=True, kw_only=True)
class Expecting:
    """`command` is run once the subscription is sure; without one there is only the waiting.

    With `settle` the expectation must stay met for so many seconds. With `pass_status` the exit
    status is that of a command that failed. `junit` is where the verdict is written too.
    """

    settings: Settings
    user_id: UUID | None
    """None is every user."""
    channel_type: str
    expectation: Expectation
    command: Sequence[str]
    timeout: float
    settle: float | None
    pass_status: bool
    junit: Path | None
    has_history: bool
    is_gap_unexpected: bool
    """Whether the person may not know that without a database gaps are lost."""
    terminal: Terminal
    quiet: bool
    _seen: _Seen = field(default_factory=_Seen)

    @property
    def _request(self) -> TailRequest:
        users = None if self.user_id is None else {self.user_id}
        return TailRequest(user_ids=users, channel_types=[self.channel_type])

    @cached_property
    def _reporter(self) -> Reporter:
        return Reporter(self.terminal, quiet=self.quiet, with_history=self.has_history, apart=True)

    @cached_property
    def _countdown(self) -> Countdown:
        return Countdown(self.terminal, quiet=self.quiet)

    async def run(self) -> int:
        """Wait for what is expected, and tell the verdict; returns the exit status."""
        try:
            return await self._run()
        except CannotRun as error:
            if not self.pass_status:
                raise
            say(str(error))
            return error.status

    async def _run(self) -> int:
        self._write_junit(None)
        async with self._watching() as watching:
            await self._until(lambda: self._seen.connected, None, watching)
            self._line(
                f"subscribed to {in_words(self._request.channels)}; "
                f"{self.expectation.wanted(f'{self.timeout:g} s')}"
            )
            await self._tell_mistakes()
            started = self._now
            with self._counting_down(started + self.timeout):
                async with running(self.command, self._countdown, self._seen.changed.set) as child:
                    await self._wait(child, started, watching)
                    verdict = self._judge(child, self._now - started)
                    child.may_leave = verdict.is_met
        self._tell(verdict)
        self._write_junit(verdict)
        return verdict.status

    async def _tell_mistakes(self) -> None:
        """Before the command runs, whose entries would hide them."""
        if self.is_gap_unexpected:
            self._line(without_database(self.settings))
        if not self.has_history or self.quiet:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK):
                mistakes = probable_mistakes(
                    self.settings, self._request.user_ids or (), self.expectation.filters
                )
                async with aclosing(mistakes):
                    async for line in mistakes:
                        self._line(line)

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _wait(self, child: Child, started: float, watching: "asyncio.Task[None]") -> None:
        """Until it is decided, the command has failed, or the time is over."""
        expectation = self.expectation

        def may_settle() -> bool:
            return child.status == 0 and self.settle is not None and expectation.is_met

        def is_decided() -> bool:
            return bool(child.status) or (child.status == 0 and expectation.is_decided)

        await self._until(lambda: is_decided() or may_settle(), started + self.timeout, watching)
        if may_settle():
            await self._until(is_decided, self._now + (self.settle or 0), watching)
        if child.status == 0 and not expectation.is_decided and self.has_history:
            # The second read to end from now on has begun after this moment.
            reads = self._seen.reads + 2
            await self._until(
                lambda: expectation.is_decided or self._seen.reads >= reads,
                self._now + LAST_LOOK,
                watching,
            )

    def _judge(self, child: Child, seconds: float) -> _Verdict:
        failed, status = ExitCode.EXPECTATION, child.status
        if status is None:
            return _Verdict(False, seconds, "the command had not ended", failed)
        if status != 0:
            reason = f"the command failed with status {status}"
            code = status if status > 0 else 128 - status  # as shells tell of a signal
            return _Verdict(False, seconds, reason, code if self.pass_status else failed)
        is_met = self.expectation.is_met
        return _Verdict(is_met, seconds, None, ExitCode.DONE if is_met else failed)

    def _tell(self, verdict: _Verdict) -> None:
        sign, color, how = ("✓", Color.GREEN, "in") if verdict.is_met else ("✗", Color.RED, "after")
        text = f"{sign} {self.expectation.progress} {how} {_shown(verdict.seconds)}"
        if verdict.reason is not None:
            text += f": {verdict.reason}"
        elif not verdict.is_met:
            for line in self.expectation.explain():
                self._line(line)
        if not (self.quiet and verdict.is_met):
            text = painted(text, color.code) if self.terminal.stderr_in_color else text
            sys.stderr.write(f"lykke: {text}\n")

    def _write_junit(self, verdict: _Verdict | None) -> None:
        """None: before it is known, so that no earlier one stays where this is interrupted."""
        if self.junit is None:
            return
        from lykke_cli.cli.reports import junit
        from lykke_cli.infrastructure.files.whole_file import write_whole

        name = in_words(self._request.channels)
        if verdict is None:
            report = junit.unfinished(name)
        else:
            cases = [("command", verdict.reason)] if self.command else []
            cases += self.expectation.parts()
            details = [] if verdict.is_met else self.expectation.explain()
            report = junit.finished(name, cases, details, seconds=verdict.seconds)
        write_whole(self.junit, report, mark=junit.MARK)

    def _line(self, text: str) -> None:
        self._countdown.clear()
        self._reporter.line(text)

    @contextmanager
    def _counting_down(self, deadline: float) -> Iterator[None]:
        """Draw how long there is still to wait, where it may be drawn."""

        async def tick() -> None:
            while True:
                left = max(0, ceil(deadline - self._now))
                self._countdown.show(f"{self.expectation.progress} · {left} s left")
                await asyncio.sleep(TICK)

        ticking = asyncio.create_task(tick()) if self._countdown.is_seen else None
        try:
            yield
        finally:
            if ticking is not None:
                ticking.cancel()
            self._countdown.clear()

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
        has_reader = True
        async with aclosing(tail.events()) as events:
            async for event in events:
                match event:
                    case Print(arrivals):
                        matching = self.expectation.take(arrivals)
                        if matching and has_reader:
                            self._countdown.clear()
                            try:
                                await self.terminal.send(renderer.render(matching))
                            except OutputClosed:
                                has_reader = False  # the verdict is wanted all the same
                    case Connected() if not self._seen.connected:
                        self._seen.connected = True
                    case HistoryRead():
                        self._seen.reads += 1
                    case Save() | Notice():
                        pass  # they are about stored places, of which there are none here
                    case _:
                        self._countdown.clear()
                        self._reporter.happened(event)
                self._seen.changed.set()

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


def _shown(seconds: float) -> str:
    """To the hundredth below ten, as far as it matters."""
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
