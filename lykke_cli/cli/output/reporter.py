"""What a following command tells the person on stderr: what happened, and how it stands.

Lines are for everybody. Where the terminal may be drawn on, a status line stays under them; it is
taken away before anything else is written and drawn again after it, since both may go to the same
screen.
"""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from lykke_cli.application.batches import as_batch
from lykke_cli.application.messages import Arrival, Entry
from lykke_cli.application.tail import (
    Connected,
    Disconnected,
    HistoryAway,
    HistoryRead,
    Notice,
    Status,
)
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.infrastructure.files import recent

REDRAW_INTERVAL = 1.0  # seconds
MOST_GAPS = 20  # that are told again at the end
_WIDE = 120  # columns from which the status line names the channel
_CLEAR = "\r\x1b[2K"


class Reporter:
    """Counts what is printed and reports what happens; `quiet` keeps all of it back.

    Times are told in `zone`, with None in this machine's; a `warning` once it follows.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        quiet: bool,
        with_history: bool,
        zone: tzinfo | None = None,
        warning: str | None = None,
    ) -> None:
        self._quiet = quiet
        self._terminal = terminal
        self._draws = terminal.may_draw and not quiet
        self._with_history = with_history
        self._zone = zone
        self._warning = warning
        self._drawn = False
        self._started = time.monotonic()
        self._connected_at: datetime | None = None
        self._channel = ""
        self._caught_up = False
        self.entries = 0
        self.activity_types: set[str] = set()
        self.recovered = 0
        self.gaps = 0
        self._lost: list[str] = []  # the spans of those that nothing fills
        self._lag: float | None = None

    def line(self, text: str) -> None:
        """One line for the person."""
        if not self._quiet:
            self.clear()
            sys.stderr.write(f"lykke: {visible(text)}\n")
            sys.stderr.flush()

    def silence(self) -> None:
        """Say nothing more."""
        self._quiet, self._draws = True, False

    def meet(self, arrivals: Sequence[Arrival]) -> None:
        """Remember the newest one's type: a sample is enough for what completion offers."""
        newest = arrivals[-1].message
        if isinstance(newest, Entry) and len(self.activity_types) < recent.LIMIT:
            self.activity_types.add(newest.activity_type)

    def count(self, arrivals: Sequence[Arrival]) -> None:
        """These were printed."""
        self.entries += len(arrivals)
        self.meet(arrivals)
        if self._caught_up:
            self.recovered += as_batch(arrivals).from_history()
        newest = arrivals[-1]
        if newest.source == "live" and isinstance(newest.message, Entry):
            self._lag = (datetime.now(UTC) - newest.message.moment).total_seconds()

    def happened(self, status: Status) -> None:
        """Tell the person, where it is news."""
        match status:
            case Connected(channel, gap):
                self._channel = channel
                self._connected_at = datetime.now(UTC)
                if gap is None:
                    self.line(f"following {channel}")
                    if self._warning is not None:
                        self.line(self._warning)
                else:
                    self.gaps += 1
                    span = f"{self._clock(gap.started_at)} to {self._clock(gap.ended_at)}"
                    if self._with_history:
                        self.line(f"connected again; reading what was missed from {span}")
                    else:
                        self._lost = [*self._lost, span][-MOST_GAPS:]
                        self.line(
                            f"connected again; GAP from {span}: messages published in it are lost "
                            "(with a database they would be read from there)"
                        )
            case Disconnected(reason):
                self._connected_at = None
                self.line(f"{reason.rstrip('.')}; trying again")
            case HistoryAway(reason):
                self.line(f"{reason.rstrip('.')}; live goes on, trying again")
            case HistoryRead(recovered, after_failure):
                news = f"{recovered} recovered from the database"
                if after_failure:
                    self.line(f"database is back; {news if recovered else 'nothing was missed'}")
                elif self._caught_up and recovered:
                    self.line(news)
                self._caught_up = True
            case Notice(text):
                self.line(text)

    def summary(self) -> None:
        """The last line of a run that got under way."""
        if not self._channel or (self._with_history and not self._caught_up):
            return
        if not self._with_history:
            self._tell_gaps_again()
        seconds = time.monotonic() - self._started
        recovered = f"{self.recovered} recovered from the database, " if self._with_history else ""
        self.line(
            f"{self.entries} printed in {_span(seconds)}, {recovered}"
            f"{_times(self.gaps)} disconnected"
        )

    def _tell_gaps_again(self) -> None:
        if earlier := self.gaps - len(self._lost):
            self.line(f"GAP: {earlier} earlier ones were told as they came")
        for span in self._lost:
            self.line(f"GAP from {span}: messages published in it are lost")

    def clear(self) -> None:
        """Take the status line away, before something else is written."""
        if self._drawn:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
            self._drawn = False

    def draw(self) -> None:
        """Draw the status line, where the terminal may be drawn on."""
        if not self._draws:
            return
        width = self._terminal.err.width - 1
        if not self._channel:
            state = "○ connecting"
        elif self._connected_at is None:
            state = "○ not connected, trying again"
        elif width < _WIDE:
            state = f"● since {self._clock(self._connected_at)}"
        else:
            state = f"● {self._channel} since {self._clock(self._connected_at)}"
        lag = "" if self._lag is None else f" · lag {max(self._lag, 0):.1f}s"
        printed = "1 entry" if self.entries == 1 else f"{self.entries} entries"
        recovered = f" · {self.recovered} recovered" if self._with_history else ""
        text = f"{state} · {printed}{recovered}{lag}"
        sys.stderr.write(f"{_CLEAR}{visible(text)[:width]}")
        sys.stderr.flush()
        self._drawn = True

    def _clock(self, moment: datetime) -> str:
        text = moment.astimezone(self._zone).strftime("%H:%M:%S")
        return f"{text} UTC" if self._zone is UTC else text


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _times(number: int) -> str:
    return "never" if number == 0 else "once" if number == 1 else f"{number} times"
