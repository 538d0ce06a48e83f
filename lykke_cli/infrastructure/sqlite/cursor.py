"""A place in SQLite's commit order: made from a read, and understood again later."""

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.messages import UnreadableEntry
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.regions import Region
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.database.witnesses import TWICE, Witness, Witnesses, prove
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
        )
    except (KeyError, TypeError, ValueError):
        return None


def understand(
    stored: Stored | None, file: str, end: int, found: Collection[Witness]
) -> Understood:
    """What the cursor covers in `file`, whose sequence ends before `end`.

    `found` are the rows that have the positions of its witnesses now.
    """
    if stored is None:
        return _nothing("the stored place does not fit this database")
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
