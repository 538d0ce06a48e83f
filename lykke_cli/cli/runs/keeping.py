"""Keeping a run's place true to what has left the process."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.errors import OutputFailed
from lykke_cli.application.keeping import PlaceKeeper
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import Arrival, Entry, UnreadableEntry
from lykke_cli.application.place import Place
from lykke_cli.cli.output.sink import FileSink, Sink, save
from lykke_cli.cli.output.standard_streams import OutputClosed
from lykke_cli.infrastructure.files.entry_file import EntryFile
from lykke_cli.infrastructure.files.written_entries import WrittenIds


class Keeper(PlaceKeeper):
    """Writes to `sink`, and stores with the place what that wants to be stored.

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
        super().__init__(place, tell, needed=needed, opening=opening)
        self._sink = sink
        self._written = written
        self._mixed = mixed

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
            self.save_if_due()

    def caught_up(self) -> None:
        """Everything that was committed before now has been written."""
        self._sink.caught_up()

    async def compare(self) -> None:
        """Whatever was written may come again: it is not written twice, where that can be told."""
        self._written = await self._sink.read_back() or self._written

    def _is_written(self, arrival: Arrival) -> bool:
        if self._written is None or not isinstance(arrival.message, Entry | UnreadableEntry):
            return False
        return arrival.message.id in self._written

    def _store(self, *, finally_: bool) -> None:
        save(self._place, self._sink, finally_=finally_)


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
