"""Rows that tell whether a database still has the history that a cursor speaks of.

A commit position (a transaction id, a sequence) is given out again where the last commits were
lost: a standby was promoted that lacked them, a backup was restored, a server crashed that had not
written them. A cursor that knows positions alone would then take new rows for old ones. So it also
keeps witnesses: some of the rows that were read, each with its position. The latest of them that
is still there, at the same position, proves that no position up to its own was given out again.
What was covered up to there stays covered, and what is beyond it is read again. No row that was
read is beyond the last witness. So where the last witness is still there, nothing is read twice.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any
from uuid import UUID

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.infrastructure.database import runs

TWICE = "entries may be printed a second time"
ABRIDGED = "the place was too large to be kept in full"
SOME = 12
"""So many witnesses travel with a cursor, and of a large one so few."""
FEWEST = 1
Witness = tuple[int, str]
"""A position, and the id of the row that has it."""


class Witnesses(msgspec.Struct, frozen=True):
    """A few of the rows that were read, or were there at the start."""

    rows: tuple[Witness, ...] = ()
    """The newest first."""
    start: int = -1
    """The newest position when reading began. What was there by then is not new."""

    @classmethod
    def at_start(cls, rows: Iterable[Witness]) -> "Witnesses":
        """Of rows that were there when reading began."""
        rows = tuple(rows)
        start = max((position for position, _ in rows), default=-1)
        return cls(_thin(rows, start), start)

    def joined_by(self, rows: Iterable[Witness]) -> "Witnesses":
        """With rows that were read since."""
        return Witnesses(_thin([*self.rows, *rows], self.start), self.start)

    @property
    def newest(self) -> int:
        """The position up to which they tell that nothing was lost."""
        return max((position for position, _ in self.rows), default=-1)

    def up_to(self, position: int) -> "Witnesses":
        """Without those beyond `position`."""
        rows = tuple(row for row in self.rows if row[0] <= position)
        return Witnesses(rows, min(self.start, position))

    def fewer(self, most: int) -> "Witnesses":
        """So many of them, the newest first, and the newest that was there at the start.

        They prove less: where the last commits are lost, more is read again.
        """
        if len(self.rows) <= most:
            return self
        last = len(self.rows) - 1
        kept = {self.rows[n * last // max(most - 1, 1)] for n in range(most)}
        at_start = [row for row in self.rows if row[0] <= self.start][:1]
        return Witnesses(tuple(sorted(kept.union(at_start), reverse=True)), self.start)

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"rows": [list(row) for row in self.rows], "start": self.start}

    @classmethod
    def load(cls, data: Any) -> "Witnesses":
        """The inverse of `dump`; raises ValueError, TypeError or KeyError on anything else."""
        rows = ((runs.position(number), str(UUID(str(id)))) for number, id in data["rows"])
        return cls(start=runs.position(data["start"])).joined_by(rows)


def witnessed_by(cursor: Cursor, own: Witnesses, others: Witnesses) -> Cursor:
    """The cursor with those of another of the same history, where they tell more than its `own`."""
    if others.newest <= own.newest:
        return cursor
    return Cursor(cursor.data | {"witnesses": own.joined_by(others.rows).dump()})


def abridged(data: dict[str, Any], witnesses: Witnesses) -> Iterator[dict[str, Any]]:
    """A cursor's data with some of the witnesses, with the fewest, and that with a mark.

    The mark says that what goes with the cursor may lack something: it covers more than it says.
    """
    for most in SOME, FEWEST:
        data = data | {"witnesses": witnesses.fewer(most).dump()}
        yield data
    yield data | {"abridged": True}


class Proven(msgspec.Struct, frozen=True):
    """What of a cursor still holds, by the witnesses that are still there."""

    position: int
    """Up to here history is the same."""
    witnesses: Witnesses
    is_all: bool
    """All that was read is still there."""
    notice: str
    """The same in words, for the person."""


def _thin(rows: Iterable[Witness], start: int) -> tuple[Witness, ...]:
    """A few of the rows, the newest first.

    The newest and the oldest are kept, and the newest of those that were there at the start: it
    proves that none of them is new. The others are sorted by their distance from the newest, and
    of those between one power of two and the next the first and the last are kept.
    """
    first: dict[int, Witness] = {}
    last: dict[int, Witness] = {}
    at_start: Witness | None = None
    newest: int | None = None
    for position, id in sorted(rows, reverse=True):
        newest = position if newest is None else newest
        if at_start is None and position <= start:
            at_start = (position, id)
        distance = (newest - position).bit_length()
        first.setdefault(distance, (position, id))
        last[distance] = (position, id)
    kept = {*first.values(), *last.values()} | ({at_start} if at_start else set())
    return tuple(sorted(kept, reverse=True))


def prove(happened: str, witnesses: Witnesses, found: Collection[Witness]) -> Proven | None:
    """What of a cursor still holds after something `happened`; `found` are rows that are there.

    None where no witness is left to tell. A cursor without witnesses has read nothing: all there
    is now is new.
    """
    last = max((position for position, _ in {*witnesses.rows} & {*found}), default=None)
    if witnesses.rows and last is None:
        return None
    position = -1 if last is None else last
    left = witnesses.up_to(position)
    is_all = len(left.rows) == len(witnesses.rows)
    notice = f"{happened}: going on after the last entry that it still has; {TWICE}"
    if is_all:
        notice = f"{happened}: all that was read before is still there"
    return Proven(position, left, is_all, notice)
