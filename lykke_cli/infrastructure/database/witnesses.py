"""Rows that tell whether a database still has the history that a cursor speaks of.

A commit position (a transaction id, a sequence) is given out again where the last commits were
lost: a standby was promoted that lacked them, a backup was restored, a server crashed that had not
written them. A cursor that knows positions alone would then take new rows for old ones. So it also
keeps witnesses: some of the rows that were read, each with its position. The latest of them that
is still there, at the same position, proves that no position up to its own was given out again.
What was covered up to there stays covered, and what is beyond it is read again. No row that was
read is beyond the last witness. So where the last witness is still there, nothing is read twice.
"""

from collections.abc import Collection, Iterable

import msgspec

from lykke_cli.infrastructure.database.regions import Region

TWICE = "entries may be printed a second time"
Witness = tuple[int, str]
"""A position, and the id of the row that has it."""


class Proven(msgspec.Struct, frozen=True):
    """What of a cursor still holds, by the witnesses that are still there."""

    position: int
    """Up to here history is the same."""
    covered: tuple[Region, ...]
    witnesses: tuple[Witness, ...]
    is_all: bool
    """All that was read is still there."""
    notice: str
    """The same in words, for the person."""


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


def prove(
    happened: str,
    covered: Iterable[Region],
    witnesses: Collection[Witness],
    found: Collection[Witness],
) -> Proven | None:
    """What of a cursor still holds after something `happened`; `found` are rows that are there.

    None where no witness is left to tell. A cursor without witnesses has read nothing: all there
    is now is new.
    """
    last = max((position for position, _ in {*witnesses} & {*found}), default=None)
    if witnesses and last is None:
        return None
    position = -1 if last is None else last
    left = tuple(witness for witness in witnesses if witness[0] <= position)
    is_all = len(left) == len(witnesses)
    notice = f"{happened}: going on after the last entry that it still has; {TWICE}"
    if is_all:
        notice = f"{happened}: all that was read before is still there"
    up_to = tuple(region.up_to(position) for region in covered)
    return Proven(position, up_to, left, is_all, notice)
