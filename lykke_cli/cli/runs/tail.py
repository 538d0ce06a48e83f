"""One run of `lykke tail`: opens what it needs, in order, and closes it all."""

from contextlib import AsyncExitStack

import msgspec

from lykke_cli.application.gateways.history_protocol import HistoryProtocol
from lykke_cli.application.place import Place
from lykke_cli.application.tail import Tail, TailRequest
from lykke_cli.bootstrap import make_gateway, make_history
from lykke_cli.cli.arguments import options
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.sink import Sink, StdoutSink
from lykke_cli.cli.output.terminal import Output
from lykke_cli.cli.runs.follow import Follower
from lykke_cli.cli.runs.keeping import Keeper, open_file
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.files import recent
from lykke_cli.infrastructure.files.cursor_file import CursorFile
from lykke_cli.infrastructure.files.entry_file import EntryFile
from lykke_cli.infrastructure.files.written_entries import WrittenIds

SINCE_UNUSED = "going on from the stored place; --since and -n are for the first run"


class Tailing:
    """`resume` and `file` go on from the stored place; any run with a history keeps one."""

    def __init__(
        self,
        settings: Settings,
        request: TailRequest,
        *,
        has_history: bool,
        resume: bool,
        count: int | None,
        timeout: float | None,
        ack: bool,
        reconcile: float,
        health_interval: float,
        file: EntryFile | None,
        printing: options.Printing,
    ) -> None:
        self._settings = settings
        self._request = request
        self._has_history = has_history
        self._resume = resume
        self._count = count
        self._timeout = timeout
        self._ack = ack
        self._reconcile = reconcile
        self._health_interval = health_interval
        self._file = file
        self._printing = printing
        self._terminal = options.terminal(printing.color)
        self._reporter = Reporter(self._terminal, quiet=printing.quiet, with_history=has_history)

    async def run(self) -> None:
        gateway = make_gateway(self._settings, health_interval=self._health_interval)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(gateway.close)
            history = None
            if self._has_history:
                history = await stack.enter_async_context(make_history(self._settings))
            request, sink, keeper = await self._open_output(stack, history)
            tail = Tail(gateway, history, request, reconcile_interval=self._reconcile)
            follower = Follower(tail, sink, self._reporter, keeper, count=self._count)
            if self._ack:
                follower.acknowledge_through(gateway, request.channel_type)
            try:
                await follower.run(self._timeout)
            finally:
                recent.remember(activity_types=self._reporter.activity_types)

    async def _open_output(
        self, stack: AsyncExitStack, history: HistoryProtocol | None
    ) -> tuple[TailRequest, Sink, Keeper]:
        if history is None:
            return await self._from_place(None)
        place = Place()

        async def open_place() -> None:
            key = place_key(await history.identify(), self._request, self._file)
            place.store_in(stack.enter_context(CursorFile(key, notice=self._reporter.line)))

        if self._resume or self._file is not None:
            await open_place()
            return await self._from_place(place)
        # Nothing is gone on from: the servers need not wait for one another.
        sink, tell = self._stdout(), self._reporter.line
        return self._request, sink, Keeper(place, sink, tell, opening=open_place)

    async def _from_place(self, place: Place | None) -> tuple[TailRequest, Sink, Keeper]:
        request, tell = self._request, self._reporter.line
        checkpoint = None if place is None else place.load()
        sink: Sink
        written: WrittenIds | None = None
        if self._file is None:
            sink = self._stdout()
        else:
            sink, checkpoint, written = await open_file(self._file, place, checkpoint, tell)
        if checkpoint is not None and (request.since is not None or request.last is not None):
            tell(SINCE_UNUSED)
        begins_now = checkpoint is None and request.since is None and request.last is None
        if self._resume and checkpoint is None:
            tell("no place is stored yet: following from now on")
        elif written is not None and begins_now:
            tell("following from now on; --since fills in what came after the last of them")
        undecoded = (
            self._printing.output is Output.RAW
            and self._file is None
            and not self._has_history
            and request.filters.selects_all
        )
        request = msgspec.structs.replace(request, resume=checkpoint, undecoded=undecoded)
        return request, sink, Keeper(place, sink, tell, needed=True, written=written)

    def _stdout(self) -> StdoutSink:
        show_user = self._request.user_id is None
        return StdoutSink(
            self._terminal, self._printing.renderer(self._terminal, show_user=show_user)
        )


def place_key(database: str, request: TailRequest, file: EntryFile | None) -> dict[str, str]:
    """Which consumer this is: another output or other filters make another one."""
    filters = request.filters
    return {
        "database": database,
        "channel": request.channel_type,
        "user": "*" if request.user_id is None else str(request.user_id),
        "file": "" if file is None else str(file.path),
        "filters": "" if filters.selects_all else repr(filters),
    }
