"""One run of `lykke tail`: opens what it needs, in order, and closes it all."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property

import msgspec

from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
from lykke_cli.application.place import NoPlace, Place
from lykke_cli.application.reconciling import FULL_SHARE
from lykke_cli.application.tail import Tail, TailRequest
from lykke_cli.bootstrap import kept_by, make_gateway, make_history
from lykke_cli.cli.arguments import options
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.sink import Sink, StdoutSink
from lykke_cli.cli.output.terminal import Output, Terminal
from lykke_cli.cli.runs.emails import Emails
from lykke_cli.cli.runs.follow import Follower, TailProtocol
from lykke_cli.cli.runs.keeping import Keeper, open_file
from lykke_cli.cli.runs.silence import probable_mistakes, without_database
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.files import recent
from lykke_cli.infrastructure.files.cursor_file import CursorFile
from lykke_cli.infrastructure.files.entry_file import EntryFile
from lykke_cli.infrastructure.files.written_entries import WrittenIds

SINCE_UNUSED = "going on from the stored place; --since and -n are for the first run"


@dataclass(frozen=True, kw_only=True)
class Tailing:
    """With `resume` or a `file` it goes on from the stored place.

    It keeps one with a history, else where what is published is kept.
    """

    settings: Settings
    request: TailRequest
    has_history: bool
    resume: bool
    count: int | None
    timeout: float | None
    idle: float | None
    follows: bool
    ack: bool
    reconcile: float
    full_pace: float | None
    health_interval: float
    file: EntryFile | None
    is_gap_unexpected: bool
    """Whether the person may not know that without a database gaps are lost."""
    printing: options.Printing

    @cached_property
    def _terminal(self) -> Terminal:
        return options.terminal(self.printing.color)

    @cached_property
    def _reporter(self) -> Reporter:
        return Reporter(
            self._terminal,
            quiet=self.printing.quiet,
            with_history=self.has_history,
            zone=self.printing.zone,
            warning=without_database(self.settings) if self.is_gap_unexpected else None,
            apart=self.file is not None,
        )

    @property
    def _has_database(self) -> bool:
        """Whether the database can be asked for more than the tail reads."""
        return self.has_history and self.settings.database_url is not None

    async def run(self) -> None:
        gateway = make_gateway(self.settings, health_interval=self.health_interval)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(gateway.close)
            history, identify = None, self._identify_streams()
            if self.has_history:
                history = await stack.enter_async_context(make_history(self.settings))
                identify = history.identify
            request, sink, keeper = await self._open_output(stack, identify)
            tail = Tail(
                gateway,
                history,
                request,
                reconcile_interval=self.reconcile,
                full_share=self.full_pace or FULL_SHARE,
            )
            await self._follow(tail, sink, keeper, gateway if self.ack else None)

    def _identify_streams(self) -> Callable[[], Awaitable[str]] | None:
        """What names them; None where what is published is not kept."""
        name = kept_by(self.settings)
        if name is None:
            return None

        async def identify() -> str:
            return name

        return identify

    async def _follow(
        self,
        tail: TailProtocol,
        sink: Sink,
        keeper: Keeper,
        gateway: PubSubGatewayProtocol | None = None,
    ) -> None:
        """Carry out what `tail` says; with a `gateway` each entry is acknowledged through it."""
        follower = Follower(
            tail,
            sink,
            self._reporter,
            keeper,
            count=self.count,
            idle=self.idle,
            follows=self.follows,
            when_read=self._tell_mistakes,
        )
        if gateway is not None:
            follower.acknowledge_through(gateway)
        try:
            await follower.run(self.timeout)
        finally:
            recent.remember(activity_types=self._reporter.activity_types)

    async def _tell_mistakes(self) -> None:
        if not self._has_database or self.printing.quiet:
            return
        request, printed = self.request, self._reporter.entries
        async for line in probable_mistakes(
            self.settings, request.user_ids or (), request.filters, printed=printed
        ):
            self._reporter.line(line)

    async def _open_output(
        self,
        stack: AsyncExitStack,
        identify: Callable[[], Awaitable[str]] | None,
        *,
        afresh: bool = False,
    ) -> tuple[TailRequest, Sink, Keeper]:
        """What is followed, from which place, and where it is written.

        `identify` names what a place belongs to; None where there is none. With `afresh` a stored
        one is passed over.
        """
        if identify is None:
            return await self._from_place(NoPlace())
        place = Place()

        async def open_place() -> None:
            key = place_key(await identify(), self.request, self.file)
            place.store_in(stack.enter_context(CursorFile(key, notice=self._reporter.line)))

        if self.resume or self.file is not None:
            await open_place()
            return await self._from_place(place, afresh=afresh)
        # Nothing is gone on from: the servers need not wait for one another.
        sink, tell = self._stdout(), self._reporter.line
        is_mixed = self.request.is_mixed
        return self.request, sink, Keeper(place, sink, tell, opening=open_place, mixed=is_mixed)

    async def _from_place(
        self, place: Place, *, afresh: bool = False
    ) -> tuple[TailRequest, Sink, Keeper]:
        request, tell = self.request, self._reporter.line
        checkpoint = None if afresh else place.load()
        sink: Sink
        written: WrittenIds | None = None
        if self.file is None:
            sink = self._stdout()
        else:
            sink, checkpoint, written = await open_file(self.file, place, checkpoint, tell)
        goes_on = checkpoint is not None and checkpoint.cursor is not None
        begins_now = request.since is None and request.last is None
        if not (goes_on or self.has_history):
            sink.caught_up()  # what was ever published before now does not come
        if goes_on and not begins_now:
            tell(SINCE_UNUSED)
        if self.resume and not goes_on:
            tell("no place is stored yet: following from now on")
        elif written is not None and begins_now and not goes_on:
            fills = "; --since fills in what came after the last of them"
            tell(f"following from now on{fills if self.has_history else ''}")
        undecoded = (
            self.printing.output is Output.RAW
            and self.file is None
            and not place.is_kept
            and request.filters.selects_all
        )
        request = msgspec.structs.replace(request, resume=checkpoint, undecoded=undecoded)
        mixed = request.is_mixed
        return request, sink, Keeper(place, sink, tell, needed=True, written=written, mixed=mixed)

    def _stdout(self) -> StdoutSink:
        terminal, printing, request = self._terminal, self.printing, self.request
        show_user = request.user_ids is None or len(request.user_ids) > 1
        emails = Emails(self.settings)
        renderer = printing.renderer(
            terminal, show_user=show_user, emails=emails.known, grep=request.filters.grep
        )
        has_emails = show_user and self._has_database and printing.is_table(terminal)
        return StdoutSink(terminal, renderer, prepare=emails.meet if has_emails else None)


def place_key(database: str, request: TailRequest, file: EntryFile | None) -> dict[str, str]:
    """What tells this consumer from others: another output or other filters make another one."""
    users = ["*"] if request.user_ids is None else sorted(map(str, request.user_ids))
    return {
        "database": database,
        "channel": ",".join(sorted(request.channel_types)),
        "user": ",".join(users),
        "file": "" if file is None else str(file.path),
        "filters": request.filters.key,
    }
