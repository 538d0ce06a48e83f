"""What a following command tells the person on stderr: what happened, and how it stands.

Lines are for everybody, and `scene.py` has their words. Where the terminal may be drawn on, a
status line stays under them; it is taken away before anything else is written and drawn again
after it, since both may go to the same screen.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo

from lykke_cli.application.batches import as_batch
from lykke_cli.application.gateways.pubsub_protocol import Kept
from lykke_cli.application.messages import Arrival, Entry
from lykke_cli.application.statuses import Connected, Disconnected, HistoryRead, Status
from lykke_cli.application.tail import Event
from lykke_cli.cli.output.clock import Clock, length
from lykke_cli.cli.output.palette import BOLD, PLAIN, Color, painted
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.scene import Line, Scene, Step, Tick, Tone, loss_in_words
from lykke_cli.cli.output.standard_streams import until_said
from lykke_cli.cli.output.terminal import CLEAR_LINE, Terminal
from lykke_cli.infrastructure.files import recent

MOST_GAPS = 20  # that are told again at the end
_WIDE = 120  # columns from which the status line names the channel
_CODES = {
    Tone.PLAIN: PLAIN,
    Tone.BAD: Color.RED.code,
    Tone.GOOD: Color.GREEN.code,
    Tone.RULE: BOLD,
}


class Reporter:
    """Counts what is printed and reports what happens; `quiet` keeps all of it back.

    Times are told in `zone`, with None in this machine's; a `warning` once it follows. With `apart`
    the lines do not stand among what is printed, or not in its order.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        quiet: bool,
        with_history: bool,
        zone: tzinfo | None = None,
        warning: str | None = None,
        apart: bool = False,
    ) -> None:
        self._quiet = quiet
        self.terminal = terminal
        self.draws = terminal.may_draw and not quiet
        """Whether there is a status line, for somebody who sits before it."""
        self._with_history = with_history
        self.clock = Clock(zone)
        self._scene = Scene(
            self.clock,
            with_history=with_history,
            is_among_rows=self.draws and terminal.stdout_is_tty and not apart,
            warning=warning,
        )
        self._drawn = False
        self._started = time.monotonic()
        self._connected_at: datetime | None = None
        self._lost_at: datetime | None = None
        self._channel = ""
        self._node: str | None = None
        self._caught_up = False
        self.entries = 0
        self.activity_types: set[str] = set()
        self.recovered = 0
        self._breaks = 0
        self._gaps = 0
        self._lost: list[str] = []  # those that nothing fills, in words
        self._lag: float | None = None
        self.paused: str | None = None
        """How it stands while nothing is printed for a pause."""
        self.typed: str | None = None
        """What is being typed to be sought."""
        self.sought = ""
        self.hint = ""
        self.is_behind = False
        """Whether another process has the terminal."""

    @property
    def is_live(self) -> bool:
        """Whether it is connected, and not paused."""
        return self._connected_at is not None and self.paused is None

    def line(self, text: str) -> None:
        """One line for the person."""
        self._tell(Line(text))

    def _tell(self, line: Line) -> None:
        if self._quiet:
            return
        self.clear()
        text = visible(line.text)
        if line.tone is not Tone.RULE:
            text = f"lykke: {text}"
        if self.terminal.stderr_in_color:
            text = painted(text, _CODES[line.tone])
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    async def block(self, text: str) -> None:
        """Lines that were asked for and are harmless as they are, among what is printed.

        There may be many: they wait for the terminal as rows do. Raises what its `send` does.
        """
        await self.step_aside()
        await self.terminal.send(text.encode("utf-8", "replace"))

    def mark(self) -> None:
        """A line across the screen, with the time."""
        text = f"── {self.clock.time(datetime.now(UTC))} "
        self._tell(Line(text.ljust(self.terminal.err.width - 1, "─"), Tone.RULE))

    def silence(self) -> None:
        """Say nothing more."""
        self._quiet, self.draws = True, False

    def meet(self, arrivals: Sequence[Arrival]) -> None:
        """Remember the newest one's type: a sample is enough for what completion offers."""
        newest = arrivals[-1].message
        if isinstance(newest, Entry) and len(self.activity_types) < recent.LIMIT:
            self.activity_types.add(newest.activity_type)

    def count(self, arrivals: Sequence[Arrival]) -> None:
        """These were printed."""
        self.entries += len(arrivals)
        self.meet(arrivals)
        self.recovered += as_batch(arrivals).recovered()
        newest = arrivals[-1]
        if newest.source == "live" and isinstance(newest.message, Entry):
            self._lag = (datetime.now(UTC) - newest.message.moment).total_seconds()

    def happened(self, status: Status) -> None:
        """Tell the person, where it is news and nothing is printed beside it."""
        for _ in self.heard(status):
            pass

    def heard(self, event: Event | Tick) -> Iterator[Event]:
        """Tell the person, where it is news, and yield what to carry out, each in its turn."""
        match event:
            case Connected(channel, gap, node):
                self._channel, self._node = channel, node
                self._connected_at = datetime.now(UTC)
                if gap is not None and not self._with_history and gap.kept is not Kept.ALL:
                    self._gaps += 1
                    span = self.clock.span(gap.started_at, gap.ended_at)
                    self._lost = [*self._lost, loss_in_words(span, gap.kept)][-MOST_GAPS:]
            case Disconnected(_, since):
                self._breaks += 1
                self._connected_at, self._lost_at = None, since
            case HistoryRead():
                self._caught_up = True
        yield from self._told(self._scene.take(event, time.monotonic()))

    def rest(self) -> Iterator[Event]:
        """What is still to be carried out when nothing more will be heard."""
        yield from self._told(self._scene.release())

    def _told(self, steps: Iterable[Step]) -> Iterator[Event]:
        for step in steps:
            if isinstance(step, Line):
                self._tell(step)
            else:
                yield step

    def summary(self) -> None:
        """The last line of a run that got under way."""
        if not self._channel or (self._with_history and not self._caught_up):
            return
        if not self._with_history:
            self._tell_gaps_again()
        seconds = time.monotonic() - self._started
        recovered = f"{self.recovered} recovered from the database, " if self._with_history else ""
        self.line(
            f"{self.entries} printed in {length(seconds)}, {recovered}"
            f"{_times(self._breaks)} disconnected"
        )

    def _tell_gaps_again(self) -> None:
        if earlier := self._gaps - len(self._lost):
            self.line(f"GAP: {earlier} earlier ones were told as they came")
        for lost in self._lost:
            self.line(lost)

    def clear(self) -> None:
        """Take the status line away, before something else is written."""
        if self._drawn:
            sys.stderr.write(CLEAR_LINE)
            sys.stderr.flush()
            self._drawn = False

    async def step_aside(self) -> None:
        """Before rows are printed: clear, and let what was told stand before them."""
        self.clear()
        if self.terminal.is_one_screen:
            await until_said()

    def draw(self) -> None:
        """Draw the status line, where the terminal may be drawn on."""
        if not self.draws or self.is_behind:
            return
        from lykke_cli.cli.output.cells import cut, ending  # rich: only who draws pays for it

        width = self.terminal.err.width - 1
        if self.typed is None:
            text = cut(visible(self._status(width)), width)
        else:
            text = ending(visible(f"/{self.typed}"), width)
        sys.stderr.write(f"{CLEAR_LINE}{text}")
        sys.stderr.flush()
        self._drawn = True

    def _status(self, width: int) -> str:
        from lykke_cli.cli.output.cells import cells_of

        lag = "" if self._lag is None else f" · lag {max(self._lag, 0):.1f}s"
        printed = "1 entry" if self.entries == 1 else f"{self.entries} entries"
        recovered = ""
        if self._with_history:
            recovered = f" · {self.recovered + self._scene.held_rows} recovered"
        sought = f" · /{self.sought}" if self.sought else ""
        rest = f" · {printed}{recovered}{lag}{sought}"
        text = self._state(width, self._node) + rest
        if cells_of(text) > width:
            text = self._state(width, None) + rest
        hint = f" · {self.hint}" if self.hint else ""
        return text + hint if cells_of(text + hint) <= width else text

    def _state(self, width: int, node: str | None) -> str:
        if self.paused is not None:
            return self.paused
        if not self._channel:
            return "○ connecting"
        if self._connected_at is not None:
            channel = f"{self._channel} " if width >= _WIDE else ""
            place = f"at {node} " if node is not None else ""
            return f"● {channel}{place}since {self.clock.time(self._connected_at)}"
        if self._lost_at is None:
            return "○ not connected"
        away = (datetime.now(UTC) - self._lost_at).total_seconds() // 1
        return f"○ not connected for {length(away)}, trying again"


def _times(number: int) -> str:
    return "never" if number == 0 else "once" if number == 1 else f"{number} times"
