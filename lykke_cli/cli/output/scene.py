"""In which words and in which order what a tail yields is told.

Pure decisions: no I/O, no clock, no tasks. An event is taken, and what comes of it is handed back:
events to carry out, the same ones but perhaps later, with lines for the person between them.

Where the lines stand among the rows, on a terminal, an outage is a scene. What is recovered waits a
little: most outages are short, and then a rule before the rows tells from when to when it was, and
how many they are. Where it lasts longer, or they are many, a rule opens the scene, they come as
they are read, and the rule that knows the end and the number follows them.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import Enum, auto

import msgspec

from lykke_cli.application.batches import as_batch
from lykke_cli.application.gateways.pubsub_protocol import Gap, Kept
from lykke_cli.application.merge import Print
from lykke_cli.application.statuses import Connected, Disconnected, HistoryAway, HistoryRead, Notice
from lykke_cli.application.tail import Event
from lykke_cli.cli.output.clock import Clock, length

HOLD_TIME = 15.0  # seconds that recovered rows wait for the end of their outage
HOLD_ROWS = 1_000
HOLD_BYTES = 16 << 20


class Tone(Enum):
    """How a line is meant."""

    PLAIN = auto()
    BAD = auto()
    GOOD = auto()
    RULE = auto()


class Line(msgspec.Struct, frozen=True):
    """Something to be told."""

    text: str
    tone: Tone = Tone.PLAIN


Step = Event | Line


class Tick(msgspec.Struct, frozen=True):
    """Time has passed, whatever else happens."""


class _Outage:
    """From a break of the connection until what was missed has been read."""

    def __init__(self, since: datetime, hold_until: float) -> None:
        self.since = since
        self.hold_until = hold_until
        self.gap: Gap | None = None  # once the connection is there again
        self.recovered = 0
        self.is_open = False  # its rule was told, and its rows come as they are read
        self.is_end_told = False  # that the connection is there again


class Scene:
    """Tells a tail's events; `is_among_rows` where the lines stand among what is printed.

    A `warning` follows the first line.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        with_history: bool,
        is_among_rows: bool,
        warning: str | None = None,
    ) -> None:
        self._clock = clock
        self._with_history = with_history
        self._is_among_rows = is_among_rows
        self._warning = warning
        self._outage: _Outage | None = None
        self._held: list[Event] = []
        self._held_bytes = 0
        self.held_rows = 0
        """How many recovered rows wait for the end of the outage."""
        self._has_read = False
        self._history_is_away = False
        self._node: str | None = None

    def take(self, event: Event | Tick, now: float) -> Iterator[Step]:
        """What comes of an event at `now`, in seconds by any clock that runs steadily."""
        match event:
            case Connected():
                yield from self._connected(event, now)
                yield from self._moved(event.node)
                yield event
            case Disconnected(reason, since):
                yield from self.release()
                self._outage = _Outage(since, now + HOLD_TIME)
                yield event
                yield Line(f"{reason.rstrip('.')}; trying again", Tone.BAD)
            case HistoryAway(reason):
                self._history_is_away = True
                yield from self.release()
                yield event
                if self._outage is not None and self._outage.gap is not None:
                    yield from self._reading(self._outage, self._outage.gap)
                yield Line(f"{reason.rstrip('.')}; live goes on, trying again", Tone.BAD)
            case HistoryRead():
                yield from self._history_read(event)
            case Notice(text):
                yield event
                yield Line(text)
            case Tick():
                pass
            case _:
                yield from self._pass_on(event)
        if self._outage is not None and now >= self._outage.hold_until:
            yield from self.release()

    def release(self) -> Iterator[Step]:
        """Let go of what waits, though the outage or the reading of it is not over."""
        outage = self._outage
        if outage is not None and self.held_rows and not outage.is_open:
            outage.is_open = True
            if outage.gap is None:
                yield _rule(f"outage since {self._clock.time(outage.since)}")
            else:
                yield _rule(f"outage {self._span(outage.gap)}")
        yield from self._let_go(len(self._held))

    def _connected(self, event: Connected, now: float) -> Iterator[Step]:
        gap = event.gap
        if gap is None:  # a break before it is none of what is followed
            yield from self.release()
            self._outage = None
            yield Line(f"following {event.followed}")
            if self._warning is not None:
                yield Line(self._warning)
        elif not self._with_history:
            again = "" if self._outage is None else "connected again; "
            self._outage = None
            if gap.kept is Kept.ALL:
                yield Line(f"{again}the streams have kept what was missed", Tone.GOOD)
            else:
                lost = loss_in_words(self._span(gap), gap.kept)
                yield Line(f"{again}{lost} ({_IN_DATABASE})", Tone.BAD)
        else:
            self._outage = outage = self._outage or _Outage(gap.started_at, now)
            outage.gap, outage.hold_until = gap, now + HOLD_TIME
            if self._history_is_away or not self._is_among_rows:
                yield from self._reading(outage, gap)

    def _moved(self, node: str | None) -> Iterator[Line]:
        before, self._node = self._node, node
        if before is not None and node not in (None, before):
            yield Line(f"{node} is followed now, no longer {before}")

    def _reading(self, outage: _Outage, gap: Gap) -> Iterator[Line]:
        if not outage.is_end_told:
            outage.is_end_told = True
            text = f"connected again; reading what was missed from {self._span(gap)}"
            yield Line(text, Tone.GOOD)

    def _history_read(self, event: HistoryRead) -> Iterator[Step]:
        outage, had_read, self._has_read = self._outage, self._has_read, True
        self._history_is_away = False
        if outage is not None and outage.gap is not None and not event.goes_on:
            yield from self._end(outage, outage.gap, had_read=had_read, event=event)
            return
        yield from self._pass_on(event)
        if event.after_failure:
            yield Line(f"database is back; {_news(event.recovered)}", Tone.GOOD)
        elif had_read and event.recovered and outage is None:
            yield Line(_news(event.recovered))

    def _end(
        self, outage: _Outage, gap: Gap, *, had_read: bool, event: HistoryRead
    ) -> Iterator[Step]:
        """All that the outage kept from coming live has been read, and perhaps waits."""
        self._outage = None
        recovered = [n for n, held in enumerate(self._held) if _recovered(held)]
        rows = self._let_go(recovered[-1] + 1 if recovered else 0)
        if self._is_among_rows and outage.recovered:
            rule = _rule(f"outage {self._span(gap)} · {outage.recovered:,} recovered")
            yield from (*rows, rule) if outage.is_open else (rule, *rows)
        told = []
        if event.after_failure:
            told.append("database is back")
        elif not outage.is_end_told:
            seconds = (gap.ended_at - gap.started_at).total_seconds()
            told.append(f"connected again after {length(seconds)}")
        if had_read:  # else it is history as any other
            told.append(_news(outage.recovered))
        if told:
            yield Line("; ".join(told), Tone.GOOD)
        yield from self._let_go(len(self._held))
        yield event

    def _pass_on(self, event: Event) -> Iterator[Step]:
        outage = self._outage
        if outage is None:
            yield event
            return
        outage.recovered += _recovered(event)
        if not (self._is_among_rows and (self._held or _begins_to_wait(event, outage))):
            yield event
            return
        self._held.append(event)
        self.held_rows += _recovered(event)
        self._held_bytes += as_batch(event.arrivals).size() if isinstance(event, Print) else 0
        if self.held_rows > HOLD_ROWS or self._held_bytes > HOLD_BYTES:
            yield from self.release()

    def _let_go(self, number: int) -> list[Event]:
        """The first of the events that wait."""
        first, self._held = self._held[:number], self._held[number:]
        self.held_rows -= sum(map(_recovered, first))
        self._held_bytes = 0 if not self._held else self._held_bytes
        return first

    def _span(self, gap: Gap) -> str:
        return self._clock.span(gap.started_at, gap.ended_at)


def loss_in_words(span: str, kept: Kept) -> str:
    """A gap that nothing fills, or not all of it."""
    if kept is Kept.NOTHING:
        return f"GAP from {span}: messages published in it are lost"
    return f"GAP from {span}: of the messages published in it some may be lost"


_IN_DATABASE = "with a database they would be read from there"


def _recovered(event: Event) -> int:
    return as_batch(event.arrivals).recovered() if isinstance(event, Print) else 0


def _begins_to_wait(event: Event, outage: _Outage) -> bool:
    """Recovered rows wait to be counted; what came live after the outage, for its end."""
    if not isinstance(event, Print):
        return False
    if _recovered(event):
        return not outage.is_open
    is_live = event.arrivals[0].source == "live"
    return is_live and outage.gap is not None and not outage.is_end_told


def _news(recovered: int) -> str:
    return f"{recovered:,} recovered from the database" if recovered else "nothing was missed"


def _rule(text: str) -> Line:
    return Line(f"── {text} ──", Tone.RULE)
