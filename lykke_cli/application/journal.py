"""What a hub printed lately, one journal for each user; a reader is a position in it.

Positions are counted for all users together: so a mark, which is the same for all, is one number.
"""

from collections import deque
from collections.abc import Mapping, Sequence, Set

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.merge import Checkpoint

JOURNAL_LINES = 256
JOURNAL_BYTES = 256 << 10
"""For each user; a single line may be longer."""
LINE_BYTES = 200
"""What a line takes beside its data."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """A message as it is sent to every reader, encoded once."""

    position: int
    data: bytes
    """Without its newline."""
    id: str | None
    """Of an entry; what else came on the channel has none."""
    occurred_at: str
    is_notice: bool = False
    """`data` is a text for the person: the database has lost something, and entries that were sent
    before it may come again after it."""


def notice_line(position: int, text: str) -> Line:
    """A line that says so."""
    return Line(position, text.encode(), None, "", is_notice=True)


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a pass: whatever `cursor` covers stands at or before `position`."""

    number: int
    """Of the pass."""
    position: int
    cursor: Cursor
    pending: Mapping[str | None, dict[str, str]]
    """By user, and with None of all, the entries at or before `position` that `cursor` does not
    cover."""
    floor: str | None
    """The latest occurred_at of those that it covers."""
    authoritative: bool
    """As in HistoryChunk."""
    since: int
    """The pass before which all of that was committed which was looked for; 0 where this one was a
    portion, and others follow it."""
    covered_from: str | None
    """Of that, what occurred at or after this was looked for; None: all."""

    def pending_of(self, user: str | None) -> dict[str, str]:
        """Those of one user, or with None of all."""
        return self.pending.get(user, {})

    def checkpoint(self, beyond: dict[str, str], floor: str | None) -> Checkpoint:
        """Of a reader that was sent what the cursor covers, and `beyond` it these.

        Nothing that it was sent from elsewhere occurred later than `floor`.
        """
        floors = [at for at in (floor, self.floor) if at is not None]
        return Checkpoint(self.cursor, beyond, max(floors, default=None))


class Journal:
    """The last lines of one user: at most `limit`, and `limit_bytes` or a single line.

    It has none of those up to the position at which it `begins`.
    """

    def __init__(self, limit: int, limit_bytes: int, begins: int = 0) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._lines: deque[Line] = deque()
        self._bytes = 0
        self._dropped = begins  # the position of the last line that is no longer here

    def __len__(self) -> int:
        return len(self._lines)

    def append(self, line: Line) -> int:
        """Returns by how many bytes it has grown."""
        before = self._bytes
        self._lines.append(line)
        self._bytes += len(line.data) + LINE_BYTES
        while len(self._lines) > self._limit or (
            self._bytes > self._limit_bytes and len(self._lines) > 1
        ):
            self._drop()
        return self._bytes - before

    def drop_up_to(self, position: int) -> int:
        """Let go of the lines up to there; returns by how many bytes it has grown: by none."""
        before = self._bytes
        while self._lines and self._lines[0].position <= position:
            self._drop()
        return self._bytes - before

    def _drop(self) -> None:
        oldest = self._lines.popleft()
        self._bytes -= len(oldest.data) + LINE_BYTES
        self._dropped = oldest.position

    @property
    def oldest(self) -> int | None:
        """The position of the first line."""
        return self._lines[0].position if self._lines else None

    @property
    def position(self) -> int:
        """Of the last line that there was."""
        return self._lines[-1].position if self._lines else self._dropped

    def has_all_after(self, position: int) -> bool:
        """False once a line after `position` was dropped."""
        return position >= self._dropped

    def after(self, position: int) -> list[Line]:
        """The lines after `position`, as far as they are here."""
        found = []
        for line in reversed(self._lines):
            if line.position <= position:
                break
            found.append(line)
        return found[::-1]

    def of(self, ids: Set[str]) -> list[Line]:
        """The lines of these entries, as far as they are here."""
        return [line for line in self._lines if line.id in ids] if ids else []


class Portion(msgspec.Struct, frozen=True, gc=False):
    """What comes next for a reader."""

    lines: Sequence[Line]
    checkpoint: Checkpoint | None
    """Where to go on once these lines were sent. None before anything is known, and while the
    database is away and more was sent than it names: then from the last one, which repeats that."""
    caught_up: bool = False
    """Nothing is known to be missing: history was read, and live follows."""
    caught_up_anew: bool = False
    """That is so for the first time, or again after an outage."""


class SharedEnd:
    """The end of a journal at one mark: who takes up to there, takes the same objects.

    `checkpoint` is that of a reader that was sent all that the journal had, and nothing else; one
    that names more than `most_ids` is not given away.
    """

    def __init__(
        self,
        journal: Journal,
        mark: Mark,
        checkpoint: Checkpoint,
        *,
        is_whole: bool,
        most_ids: int,
    ) -> None:
        self.mark = mark
        self.position = max(journal.position, mark.position)
        self.checkpoint = checkpoint
        self.is_whole = is_whole
        """Nothing is known to be missing up to here."""
        self._given = checkpoint if len(checkpoint.pending) <= most_ids else None
        self._journal = journal
        self._portions: dict[int, Portion] = {}

    def after(self, position: int) -> Portion:
        """What the journal had after `position`."""
        portion = self._portions.get(position)
        if portion is None:
            lines = self._journal.after(position)
            portion = self._portions[position] = Portion(lines, self._given, self.is_whole)
        return portion
