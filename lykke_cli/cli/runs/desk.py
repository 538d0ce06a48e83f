"""What the person at the terminal may ask for by a key while a tail runs."""

import re
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime

from lykke_cli.application.batches import as_batch
from lykke_cli.application.messages import Arrival, Entry, Message, UnreadableEntry, to_line
from lykke_cli.application.tail import Event
from lykke_cli.cli.output.cells import size_in_words
from lykke_cli.cli.output.columns import MAX_MESSAGE_SIZE
from lykke_cli.cli.output.json_text import indented
from lykke_cli.cli.output.keys import LEGEND, Command, Key, Keys, Seek, Typed
from lykke_cli.cli.output.live_table import LiveTable
from lykke_cli.cli.output.renderers import Renderer
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.scene import Tick
from lykke_cli.cli.output.sink import Sink, StdoutSink
from lykke_cli.cli.reports.entry_report import in_full
from lykke_cli.cli.runs.attended import Attended

KEPT = 100  # messages that can be shown in full
KEPT_BYTES = 16 << 20


class Desk:
    """Hears keys where stdin is a terminal, and what `sink` takes is printed on one."""

    def __init__(self, reporter: Reporter, sink: Sink) -> None:
        self._reporter = reporter
        self._renderer: Renderer | None = None
        if isinstance(sink, StdoutSink) and reporter.terminal.stdout_is_tty:
            self._renderer = sink.renderer
        self._keys = Keys()
        self._attended = Attended()
        self._kept: deque[Arrival] = deque()
        self._kept_bytes = 0
        self._shown = 0  # how many of those, from the newest on

    async def attend(self, events: AsyncGenerator[Event]) -> AsyncGenerator[Event | Tick]:
        """The events of a tail, and a Tick now and then; they end when that is asked for."""
        async with aclosing(self._attended.of(events)) as happenings:
            with self._telling_what_waits(), self._keyboard() as look:
                async for one in happenings:
                    match one:
                        case Key.QUIT:
                            break
                        case Key() | Typed() | Seek():
                            await self._obey(one)
                            if not self._attended.is_asked:
                                yield Tick()  # for what all that was typed at once changes
                        case Tick():
                            look()
                            self._tell_state()
                            yield one
                        case _:
                            yield one

    async def _obey(self, command: Command) -> None:
        match command:
            case Key.PAUSE:
                self._attended.is_paused = not self._attended.is_paused
                self._tell_state()
            case Key.IN_FULL:
                await self._show_in_full()
            case Key.MARK:
                self._reporter.mark()
            case Key.HELP:
                await self._reporter.block("".join(f"  {line}\n" for line in LEGEND))
            case Typed(text):
                self._reporter.typed = text
            case Seek(text):
                self._reporter.typed = None
                self._seek_from_now_on(text)

    def printed(self, arrivals: Sequence[Arrival]) -> None:
        """These can be shown in full now."""
        self._shown = 0
        for arrival in arrivals[-KEPT:]:
            self._kept.append(arrival)
            self._kept_bytes += as_batch([arrival]).size()
        while len(self._kept) > KEPT or self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= as_batch([self._kept.popleft()]).size()

    @contextmanager
    def _keyboard(self) -> Iterator[Callable[[], None]]:
        """Hear keys, where there are any; yields what is to be called from time to time."""
        if self._renderer is None or not sys.stdin.isatty() or sys.platform == "win32":
            yield lambda: None
            return
        from lykke_cli.cli.output.keyboard import Keyboard

        def heard(data: bytes) -> None:
            self._attended.ask(self._keys.feed(data))

        with Keyboard(sys.stdin.fileno(), heard, leaving=self._reporter.clear) as keyboard:
            self._reporter.hint = "? keys"

            def look() -> None:
                keyboard.listen()
                self._reporter.is_behind = not keyboard.is_in_foreground

            yield look

    @contextmanager
    def _telling_what_waits(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._attended.is_paused and (rows := self._attended.rows):
                self._reporter.line(f"in the pause came {rows:,} more, not printed")

    def _tell_state(self) -> None:
        attended = self._attended
        more = "+" if attended.is_full else ""
        paused = f"■ paused · {attended.rows:,}{more} new"
        self._reporter.paused = paused if attended.is_paused else None

    async def _show_in_full(self) -> None:
        if self._shown == len(self._kept):
            older = "older entry is kept here" if self._shown else "entry has been printed yet"
            self._reporter.line(f"no {older}")
            return
        self._shown += 1
        await self._reporter.block(self._in_full(self._kept[-self._shown].message) + "\n")

    def _in_full(self, message: Message) -> str:
        line = to_line(message)
        if len(line) > MAX_MESSAGE_SIZE:
            return f"  {size_in_words(len(line))} are too much to be shown here\n"
        in_color = self._reporter.terminal.stdout_in_color
        if not isinstance(message, Entry | UnreadableEntry):
            return indented(line, in_color=in_color).decode() + "\n"
        zone, now = self._reporter.clock.zone, datetime.now(UTC)
        return in_full(message, zone=zone, now=now, in_color=in_color)

    def _seek_from_now_on(self, text: str) -> None:
        if isinstance(self._renderer, LiveTable):
            self._renderer.seek(re.compile(re.escape(text), re.IGNORECASE) if text else None)
            self._reporter.sought = text
        else:
            self._reporter.line("a word can be marked in the table only")
