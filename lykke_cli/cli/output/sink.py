"""Where the messages of a command end up: stdout through a renderer, or a file."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate
from typing import Any

from lykke_cli.application.errors import OutputFailed
from lykke_cli.application.messages import Arrival
from lykke_cli.application.place import Place
from lykke_cli.cli.output.renderers import NdjsonRenderer, Renderer
from lykke_cli.cli.output.standard_streams import OutputClosed
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.infrastructure.files.entry_file import EntryFile
from lykke_cli.infrastructure.files.written_entries import WrittenIds


class Sink:
    """Takes messages; when `write` returns they have left the process. This one prints nowhere."""

    left = 0
    """Of a write that was cancelled: how many messages had."""

    async def begin(self) -> None:
        """The servers have answered; `write` may follow, or nothing at all."""

    async def write(self, arrivals: Sequence[Arrival]) -> None:
        pass

    def state(self) -> dict[str, Any]:
        """What to store with the place; everything written is safe by then."""
        return {}

    def caught_up(self) -> None:
        """Everything that was committed before now has been written."""

    async def read_back(self) -> WrittenIds | None:
        """What was ever written there; None where that cannot be told."""
        return None

    async def close(self) -> None:
        pass


def save(place: Place, sink: Sink, *, finally_: bool = False) -> None:
    """Store the place, and the state of the output it belongs to."""
    place.output = sink.state()
    place.save(finally_=finally_)


class StdoutSink(Sink):
    """Prints through a renderer, which `prepare` makes ready for what comes.

    Nothing is printed before `begin`: where the servers cannot be reached, stdout stays empty.
    """

    def __init__(
        self,
        terminal: Terminal,
        renderer: Renderer,
        *,
        prepare: Callable[[Sequence[Arrival]], Awaitable[None]] | None = None,
    ) -> None:
        self._terminal = terminal
        self.renderer = renderer
        self._prepare = prepare
        self._begun = False

    async def begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self._emit(self.renderer.header())

    async def write(self, arrivals: Sequence[Arrival]) -> None:
        self.left = 0
        await self.begin()
        if self._prepare is not None:
            await self._prepare(arrivals)
        data = self.renderer.render(arrivals)
        try:
            await self._emit(data)
        except (asyncio.CancelledError, OutputClosed, OutputFailed):
            self.left = self._whole(arrivals, len(data), self._terminal.sent)
            raise

    @property
    def takes_lines(self) -> bool:
        """True when NDJSON can be written as it is."""
        return isinstance(self.renderer, NdjsonRenderer) and not self._terminal.stdout_is_tty

    async def write_lines(self, lines: bytes) -> None:
        await self._emit(lines)

    async def close(self) -> None:
        if self._begun:
            await self._emit(self.renderer.footer())

    def _whole(self, arrivals: Sequence[Arrival], size: int, sent: int) -> int:
        """How many of them lie within the first `sent` bytes of the `size` that they took.

        The first is what the others leave: before it there may be less than between two.
        """
        others = [len(self.renderer.render([arrival])) for arrival in arrivals[1:]]
        ends = accumulate([size - sum(others), *others])
        return sum(end <= sent for end in ends)

    async def _emit(self, data: bytes) -> None:
        if data:
            await self._terminal.send(data)


class FileSink(Sink):
    """Appends NDJSON to a file; when the file is full the place is saved and a new one begun."""

    def __init__(self, file: EntryFile, place: Place) -> None:
        self._file = file
        self._place = place
        self._renderer = NdjsonRenderer()

    async def write(self, arrivals: Sequence[Arrival]) -> None:
        if self._file.follow():
            self._save()
        if self._file.is_full:
            aside = self._file.rotate()
            self._save()
            await asyncio.to_thread(self._file.pack, aside)
        self._file.write(self._renderer.render(arrivals))

    def state(self) -> dict[str, Any]:
        return self._file.state()

    def caught_up(self) -> None:
        """From now on the place knows every entry in the file."""
        self._file.is_compared = True

    async def read_back(self) -> WrittenIds:
        return await self._file.read_back()

    async def close(self) -> None:
        self._file.close()

    def _save(self) -> None:
        """Store the place: what comes next is written to another file than it knows."""
        save(self._place, self)
