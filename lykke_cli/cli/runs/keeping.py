"""Keeping a run's place true to what has left the process."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.errors import OutputFailed, ServerUnavailable
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import Arrival, Entry, UnreadableEntry
from lykke_cli.application.place import SAVE_INTERVAL, Place
from lykke_cli.cli.output.sink import FileSink, Sink, save
from lykke_cli.cli.output.standard_streams import OutputClosed
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.files.entry_file import EntryFile
from lykke_cli.infrastructure.files.written_entries import WrittenIds

CANCEL_AGAIN = 0.1  # seconds
END_WAIT = 2.0  # seconds at the end of a run for tasks that were cancelled
OPENING_WAIT = 2.0  # seconds at the end of a run for a place that is still being opened


class Keeper:
    """Stores `place` while the block lasts: soon after something was written, and at its end.

    Where the place is `needed`, one that cannot be stored ends the run with OutputFailed; else it
    is told of once. `opening` gives the place its store, once there is something to store.
    Entries in `written` stand in the output, though the place does not know it.
    """

    def __init__(
        self,
        place: Place,
        sink: Sink,
        tell: Callable[[str], None],
        *,
        needed: bool = False,
        opening: Callable[[], Awaitable[None]] | None = None,
        written: WrittenIds | None = None,
        mixed: bool = False,
    ) -> None:
        self._place = place
        self._sink = sink
        self._tell = tell
        self._needed = needed
        self._opening = opening
        self._may_open = asyncio.Event()
        self._opener: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._written = written
        self._mixed = mixed
        self._failed = False

    async def __aenter__(self) -> Self:
        if self._opening is not None:
            self._opener = asyncio.create_task(self._open(self._opening))
        self._timer = asyncio.create_task(self._keep_saving())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._opener is not None and self._may_open.is_set():
                await asyncio.wait([self._opener], timeout=OPENING_WAIT)
        finally:
            try:
                self._save(finally_=True)
            except OutputFailed:
                if not isinstance(exc, OutputFailed):  # which says it already
                    raise
            finally:
                await _end([task for task in (self._timer, self._opener) if task is not None])

    def unwritten(self, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """Return the entries that are not in the output yet."""
        if self._written is None:
            return arrivals
        written: list[Arrival] = []
        fresh: list[Arrival] = []
        for arrival in arrivals:
            (written if self._is_written(arrival) else fresh).append(arrival)
        if not written:
            return arrivals
        self._place.wrote(written)
        return fresh

    async def write(self, arrivals: Sequence[Arrival]) -> None:
        """Write the messages, and note in the place which of them have left the process.

        A write that fails or is cancelled may have written some: these are noted too.
        """
        try:
            await self._sink.write(arrivals)
        except (asyncio.CancelledError, OutputClosed, OutputFailed):
            self._wrote(arrivals[: self._sink.left])
            raise
        self._wrote(arrivals)

    def _wrote(self, arrivals: Sequence[Arrival]) -> None:
        if self._mixed:  # what looks like an entry on another channel is none that was printed
            mark = f"{AUDIT_LOG}:"
            arrivals = [a for a in arrivals if not a.channel or a.channel.startswith(mark)]
        if arrivals:
            self._place.wrote(arrivals)
            self._save_if_due()

    def reached(self, checkpoint: Checkpoint) -> None:
        """Everything that `checkpoint` covers has been written."""
        self._place.reached(checkpoint)
        self._may_open.set()
        self._save_if_due()

    def caught_up(self) -> None:
        """Everything that was committed before now has been written."""
        self._sink.caught_up()

    def _is_written(self, arrival: Arrival) -> bool:
        if self._written is None or not isinstance(arrival.message, Entry | UnreadableEntry):
            return False
        return arrival.message.id in self._written

    def _save_if_due(self) -> None:
        if self._place.is_due:
            self._save()

    def _save(self, *, finally_: bool = False) -> None:
        try:
            save(self._place, self._sink, finally_=finally_)
        except OutputFailed as error:
            if self._needed:
                raise
            self._tell_once(error)

    def _tell_once(self, error: OutputFailed) -> None:
        if not self._failed:
            self._failed = True
            self._tell(f"{str(error).rstrip('.')}; this run goes on without a place")

    async def _keep_saving(self) -> None:
        """Store the place from time to time, so that it is stored also when nothing more comes."""
        while True:
            await asyncio.sleep(SAVE_INTERVAL / 2)
            with suppress(LykkeError):  # raised with the next entry, or at the end
                self._save_if_due()

    async def _open(self, opening: Callable[[], Awaitable[None]]) -> None:
        await self._may_open.wait()  # the database has answered, and nothing waits for this
        backoff = Backoff()
        while True:
            try:
                await opening()
            except OutputFailed as error:
                self._tell_once(error)
                return
            except ServerUnavailable:  # the tail itself says what is with the database
                await asyncio.sleep(backoff.next())
            except LykkeError:
                return  # another run holds the place
            else:
                self._save_if_due()
                return


async def _end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel the tasks and wait until they have ended, for END_WAIT seconds at most.

    Before Python 3.12 asyncio.wait_for may swallow a cancellation, so it is repeated.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + END_WAIT
    while (running := [task for task in tasks if not task.done()]) and loop.time() < give_up:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN)


async def open_file(
    file: EntryFile, place: Place, checkpoint: Checkpoint | None, tell: Callable[[str], None]
) -> tuple[FileSink, Checkpoint | None, WrittenIds | None]:
    """Open the output file of a run.

    Returns its sink, the checkpoint to go on from, which has no cursor where only the file is
    known, and the ids of entries that are in the file though the place does not know them.
    """
    file.tell = tell
    found = file.open(None if checkpoint is None else place.output)
    sink = FileSink(file, place)
    written: WrittenIds | None = None
    if checkpoint is not None:
        checkpoint = place.wrote_before(found)
    if place.is_kept and not file.is_compared:
        ids = await file.read_back()
        if ids:
            written, latest = ids, ids.latest()
            # A standby that lags may return them after this run.
            checkpoint = place.wrote_before(latest) or Checkpoint(None, latest, None)
            tell(
                f"the stored place does not know all that is in {file.path}: {len(ids):,} entries "
                "found there are not written again"
            )
    save(place, sink)
    await asyncio.to_thread(file.finish_packing)
    return sink, checkpoint, written
