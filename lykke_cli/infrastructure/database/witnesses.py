"""Rows that tell whether a database still has the history that a cursor speaks of.

A commit position (a transaction id, a sequence) is given out again where the last commits were
lost: a standby was promoted that lacked them, a backup was restored, a server crashed that had not
written them. A cursor that goes by positions alone then takes new rows for old ones. So it bears
some rows that were read, each with its position. The latest of them that is still there at the
same position proves that no position up to its own was given out again: what was covered up to
there is covered, what is beyond it is read again. No row that was read is beyond the last witness,
so that where this one is there, nothing is read twice.
"""

from collections.abc import Collection, Iterable

TWICE = "entries may be printed a second time"
Witness = tuple[int, str]
"""A position, and the id of a row that has it."""


def thin(witnesses: Iterable[Witness]) -> tuple[Witness, ...]:
    """A few of the witnesses, the newest first.

    The newest and the oldest are kept. The others are sorted by their distance from the newest, and
    of those between one power of two and the next the first and the last are kept.
    """
    first: dict[int, Witness] = {}
    last: dict[int, Witness] = {}
    newest: int | None = None
    for position, id in sorted(witnesses, reverse=True):
        newest = position if newest is None else newest
        distance = (newest - position).bit_length()
        first.setdefault(distance, (position, id))
        last[distance] = (position, id)
    return tuple(sorted({*first.values(), *last.values()}, reverse=True))


def proven(witnesses: Collection[Witness], found: Collection[Witness]) -> int | None:
    """The position up to which history is the same; None where no witness is left to tell.

    Where there never was a row, nothing was read: all there is now is new.
    """
    if not witnesses:
        return -1
    return max((position for position, _ in set(witnesses) & set(found)), default=None)
