"""One run of `lykke tail`: opens what it needs, in order, and closes it all."""

from contextlib import AsyncExitStack, ExitStack

import msgspec

from lykke_cli.application.errors import CursorBusy, OutputFailed
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.place import Place
from lykke_cli.application.tail import Tail, TailRequest
from lykke_cli.bootstrap import make_gateway, make_history
from lykke_cli.cli import options
from lykke_cli.cli.follow import Follower
from lykke_cli.cli.reporter import Reporter
from lykke_cli.cli.sink import FileSink, Sink, StdoutSink
from lykke_cli.cli.terminal import Output
from lykke_cli.infrastructure import recent
from lykke_cli.infrastructure.cursor_file import CursorFile
from lykke_cli.infrastructure.entry_file import EntryFile
from lykke_cli.infrastructure.settings import Settings

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
            place = None
            if history is not None:
                place = self._open_place(stack, await history.identify())
            request, sink = self._open_output(place)
            tail = Tail(gateway, history, request, reconcile_interval=self._reconcile)
            follower = Follower(tail, sink, self._reporter, place, count=self._count)
            if self._ack:
                follower.acknowledge_through(gateway, request.channel_type)
            try:
                await follower.run(self._timeout)
            finally:
                recent.remember(activity_types=self._reporter.activity_types)

    def _open_place(self, stack: AsyncExitStack | ExitStack, database: str) -> Place | None:
        """The stored place, locked; None when another run holds it and this one need not."""
        key = place_key(database, self._request, self._file)
        try:
            store = stack.enter_context(CursorFile(key, notice=self._reporter.line))
        except (CursorBusy, OutputFailed):
            if self._resume or self._file is not None:
                raise
            return None
        return Place(store)

    def _open_output(self, place: Place | None) -> tuple[TailRequest, Sink]:
        request = self._request
        checkpoint: Checkpoint | None = None
        if place is not None and (self._resume or self._file is not None):
            checkpoint = place.load()
        if self._file is not None:
            written = self._file.open(place.output if place and checkpoint else None)
            if place is not None and checkpoint is not None:
                checkpoint = place.wrote_before(written)
            sink: Sink = FileSink(self._file, place)
        else:
            printing = self._printing
            sink = StdoutSink(
                self._terminal,
                printing.renderer(self._terminal, show_user=request.user_id is None),
            )
        if checkpoint is not None and (request.since is not None or request.last is not None):
            self._reporter.line(SINCE_UNUSED)
        if self._resume and checkpoint is None:
            self._reporter.line("no place is stored yet: following from now on")
        undecoded = (
            self._printing.output is Output.RAW
            and self._file is None
            and not self._has_history
            and request.filters.selects_all
        )
        return msgspec.structs.replace(request, resume=checkpoint, undecoded=undecoded), sink


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
