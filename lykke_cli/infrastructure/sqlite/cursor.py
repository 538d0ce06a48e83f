"""A place in SQLite's commit order: made from a read, and understood again later."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.messages import UnreadableEntry
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.regions import Region
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.database.witnesses import (
    ABRIDGED,
    TWICE,
    Witness,
    Witnesses,
    abridged,
    prove,
    witnessed_by,
)
from lykke_cli.infrastructure.sqlite.rows import Found, StoredKey


class Unreadables(msgspec.Struct, frozen=True):
    """Which of the rows without a time are covered: a region's bounds are times."""

    region: Region = Region(0)
    """By their sequence alone."""
    since: StoredKey | None = None
    """Those from here on are not covered, unless they are in `region.visible`."""

    def covers(self, found: Found) -> bool:
        is_old = found.seq < self.region.before and (self.since is None or found.key < self.since)
        return is_old or found.seq in self.region.visible

    def came(self, seqs: Iterable[int]) -> "Unreadables":
        """The same, with these rows covered too."""
        visible = self.region.visible | Runs.of(seqs)
        return Unreadables(Region(self.region.before, visible=visible), self.since)


class Stored(msgspec.Struct, frozen=True):
    """What a cursor says."""

    file: str
    """Tells the file apart from others of its name."""
    covered: tuple[Region, ...]
    witnesses: Witnesses
    unreadable: Unreadables
    is_abridged: bool = False
    """As `abridgements` make it: more is covered than it says."""


class Understood(msgspec.Struct, frozen=True):
    """What a cursor covers in the file as it is now."""

    covered: tuple[Region, ...] = ()
    witnesses: Witnesses = Witnesses()
    unreadable: Unreadables = Unreadables()
    notice: str | None = None
    exact: bool = True
    """As in HistoryChunk."""

    def covers(self, found: Found) -> bool:
        row = found.row
        if isinstance(row, UnreadableEntry):
            return self.unreadable.covers(found)
        key = (row.moment, row.id)
        return any(region.covers(found.seq, key) for region in self.covered)


def make_cursor(
    file: str,
    covered: Iterable[Region],
    witnesses: Witnesses,
    unreadable: Unreadables,
) -> Cursor:
    return Cursor(
        {
            "kind": "sqlite",
            "file": file,
            "regions": regions.dump(covered),
            "unreadable": regions.dump([unreadable.region])[0],
            "unreadable_since": unreadable.since,
            "witnesses": witnesses.dump(),
        }
    )


def parse(cursor: Cursor) -> Stored | None:
    """What the cursor says; None where it was not made here."""
    data = cursor.data
    try:
        if data["kind"] != "sqlite":
            return None
        [region] = regions.load([data["unreadable"]])
        return Stored(
            data["file"],
            regions.load(data["regions"]),
            Witnesses.load(data["witnesses"]),
            Unreadables(region, _stored_key(data.get("unreadable_since"))),
            data.get("abridged") is True,
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def abridgements(cursor: Cursor) -> Iterator[Cursor]:
    """The same place in fewer words, and in fewer still.

    The first are as good, while the file keeps what it has. The third goes without the ids that
    are pending, the last without the rows that have no time. What they lack comes a second time,
    and `HistoryChunk.exact` says so.
    """
    if (stored := parse(cursor)) is None:
        return
    for data in abridged(cursor.data, stored.witnesses):
        yield Cursor(data)
    none = {"unreadable": regions.dump([Region(0)])[0], "unreadable_since": None}
    yield Cursor(data | none)


def vouched(cursor: Cursor, by: Cursor) -> Cursor:
    """As in HistoryProtocol."""
    one, other = parse(cursor), parse(by)
    if one is None or other is None or one.file != other.file:
        return cursor
    return witnessed_by(cursor, one.witnesses, other.witnesses)


def understand(
    stored: Stored | None, file: str, end: int, found: Collection[Witness]
) -> Understood:
    """What the cursor covers in `file`, whose sequence ends before `end`.

    `found` are the rows that have the positions of its witnesses now.
    """
    if stored is None:
        return _nothing("the stored place does not fit this database")
    known = _understand(stored, file, end, found)
    if not stored.is_abridged or not known.exact:
        return known
    return msgspec.structs.replace(known, notice=f"{ABRIDGED}; {TWICE}", exact=False)


def _understand(stored: Stored, file: str, end: int, found: Collection[Witness]) -> Understood:
    is_moved = stored.file != file
    is_ahead = any(region.before > end for region in stored.covered)
    if not is_moved and not is_ahead and set(found) <= set(stored.witnesses.rows):
        return Understood(stored.covered, stored.witnesses, stored.unreadable)
    happened = "the database file was replaced" if is_moved else "the database was restored"
    proven = prove(happened, stored.witnesses, found)
    if proven is None:
        return _nothing(happened)
    unreadable = stored.unreadable
    return Understood(
        tuple(region.up_to(proven.position) for region in stored.covered),
        proven.witnesses,
        Unreadables(unreadable.region.up_to(proven.position), unreadable.since),
        proven.notice,
        proven.is_all,
    )


def _nothing(happened: str) -> Understood:
    return Understood(notice=f"{happened}: reading all of it again; {TWICE}", exact=False)


def _stored_key(data: Any) -> StoredKey | None:
    """Raises ValueError or TypeError where it is none."""
    if data is None:
        return None
    text, id = data
    return str(text), str(id)
