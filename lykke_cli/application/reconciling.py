"""When the history is to be read, and how: the same for one tail and for a hub."""

from collections.abc import AsyncGenerator, Set
from datetime import datetime
from uuid import UUID

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import HistoryChunk, HistoryProtocol
from lykke_cli.application.merge import Read, ReadKind

RECONCILE_INTERVAL = 30.0  # seconds between reads that look for lost broadcasts
SHORTEST_INTERVAL = 0.001  # seconds: less would leave no time for what is read
AWAY_INTERVAL = 2.0  # seconds between reads while there is no subscription
FULL_INTERVAL = 3600.0  # seconds between reads without the look-back bound
FULL_SHARE = 0.1  # of the time, in which what takes long is read portion by portion
LONGEST_PAUSE = 60.0  # seconds between two portions
MOST_BEGUN = 3
"""So many times portions may begin anew before all the rest is read as one: behind a pooler, where
each is of another standby, they would for ever."""


class Beginnings:
    """Counts how often portions have begun anew since their end was last reached."""

    def __init__(self) -> None:
        self._number = 0

    @property
    def are_few(self) -> bool:
        """Whether to go on portion by portion."""
        return self._number <= MOST_BEGUN

    def note(self, last: HistoryChunk) -> None:
        """A portion has ended, with this chunk."""
        self._number = self._number + last.anew if last.goes_on else 0


class Reconciling:
    """Tells when a read is due that nobody asks for; the moments are of one clock, in seconds."""

    def __init__(self, interval: float, full_interval: float) -> None:
        self._interval = max(interval, SHORTEST_INTERVAL)
        self._full_interval = full_interval
        self._backoff = Backoff()
        self._state: tuple[bool, bool] | None = None
        self._deadline = self._last_full = 0.0

    def begin(self, now: float) -> None:
        self._last_full = now

    def deadline(self, now: float, *, is_failing: bool, is_connected: bool) -> float:
        """When it is, as things are: the history cannot be read; there is a subscription."""
        before, self._state = self._state, (is_failing, is_connected)
        if self._state != before:
            self._deadline = now + self._pause(is_failing, is_connected)
        return self._deadline

    def due(self, now: float) -> ReadKind:
        """It is time: what to read. The next deadline is set anew."""
        self._state = None
        if now - self._last_full < self._full_interval:
            return ReadKind.RECENT
        self._last_full = now
        return ReadKind.FULL

    def worked(self) -> None:
        """The history was read."""
        self._backoff.reset()

    def _pause(self, is_failing: bool, is_connected: bool) -> float:
        if is_failing:
            return self._backoff.next()
        return self._interval if is_connected else AWAY_INTERVAL


def answers(
    history: HistoryProtocol,
    read: Read,
    users: Set[UUID] | None,
    filters: Filters,
    *,
    since: datetime | None,
    last: int | None,
    in_portions: bool = False,
) -> AsyncGenerator[HistoryChunk]:
    """What a merge's read asks for; without a cursor it begins as `HistoryProtocol.begin` says.

    With `in_portions` it is the next portion: whoever asks for one says when `Merge.goes_on`.
    """
    selection = filters.selection(users)
    if read.cursor is not None:
        recent_only = read.kind is ReadKind.RECENT
        return history.changes(selection, read.cursor, recent_only=recent_only, portion=in_portions)
    is_all_sql = filters.is_all_sql and filters.until is None
    wanted = None if is_all_sql else filters.wants
    return history.begin(selection, since=since, last=last, wanted=wanted)
