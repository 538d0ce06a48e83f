"""Which relations hold the table's rows, and what of each a cursor covers.

A table that is not partitioned is one relation, another has one for each partition. ATTACH brings
rows that were committed long ago: neither their transactions nor their times tell that they are
new to the table, only their relation does. DETACH takes rows away, which may come back together
with others. So what is covered is kept for each relation, or rather for the few groups of them of
which the same is covered: it is one group but for what has come or gone.
https://www.postgresql.org/docs/current/ddl-partitioning.html
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.regions import Region
from lykke_cli.infrastructure.database.runs import Runs

MOST_ABSENT = 16
"""Of how many groups of relations that are gone it is kept what was covered, should they return."""
TREE = """
    WITH RECURSIVE tree (relation) AS (
        SELECT to_regclass('audit_logs')::oid
        UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = relation
            -- PostgreSQL 13 has no such column
            WHERE to_jsonb(pg_inherits) -> 'inhdetachpending' IS DISTINCT FROM 'true'
    )
    SELECT relation FROM tree JOIN pg_class ON oid = relation WHERE relkind <> 'p'
"""
"""The relations that hold rows, as the snapshot shows them.

What is being detached (CONCURRENTLY) counts as away: a statement does not read it any more.
"""


class Group(msgspec.Struct, frozen=True):
    """Relations of whose rows the same is covered."""

    relations: frozenset[int]
    """Their oids."""
    covered: tuple[Region, ...]


Groups = tuple[Group, ...]


class Split(msgspec.Struct, frozen=True):
    """What a cursor knows, in the sight of the relations that there are."""

    present: Groups
    """With those that the cursor does not know: nothing of them is covered."""
    absent: Groups


def split(groups: Iterable[Group], present: frozenset[int]) -> Split:
    """`present` are the relations that there are."""
    there, gone = list[Group](), list[Group]()
    left = present
    for group in groups:
        there.append(Group(group.relations & present, group.covered))
        gone.append(Group(group.relations - present, group.covered))
        left -= group.relations
    there.append(Group(left, ()))
    return Split(joined(there), joined(gone)[-MOST_ABSENT:])


def joined(groups: Iterable[Group]) -> Groups:
    """The same without empty groups, and those with equal regions as one."""
    relations: dict[tuple[Region, ...], frozenset[int]] = {}
    for group in groups:
        if group.relations:
            relations[group.covered] = relations.get(group.covered, frozenset()) | group.relations
    return tuple(Group(oids, covered) for covered, oids in relations.items())


def within(groups: Groups, low: datetime, high: datetime) -> Groups:
    """The same with the regions that say something of what occurred then."""
    return tuple(
        Group(
            group.relations,
            tuple(r for r in group.covered if r.low <= high and low <= r.high[0]),
        )
        for group in groups
    )


class Reading:
    """What a read of all relations covers as it goes on, in (occurred_at, id) order.

    `known` is what was covered before it. Its snapshot sees all below the position `before`; of
    the positions from there on, the transactions of those in `ended` had ended when it was taken.
    What an earlier region with bounds as wide knows to be visible is visible still, in every
    relation.
    """

    def __init__(self, known: Split, before: int, ended: Runs) -> None:
        self.present, self._absent = known.present, known.absent
        self._before = before
        self._low: datetime | None = None
        self._visible = ended

    @property
    def covered(self) -> Groups:
        """What is covered by now."""
        return joined([*self._absent, *self.present])

    def reached(self, low: datetime, key: regions.SortKey, positions: Iterable[int]) -> None:
        """What occurred from `low` on was read up to `key`, and before it what occurred earlier.

        `positions` are those of the rows since the last call.
        """
        if low != self._low:
            self._low = low
            self._visible |= self._known_from(low).starting(self._before)
        new = [p for p in positions if p >= self._before and p not in self._visible]
        if new:
            self._visible |= Runs.of(new)
        region = Region(self._before, low, key, self._visible)
        self.present = tuple(
            Group(group.relations, regions.add(group.covered, region)) for group in self.present
        )

    def swept(self, before: int, ended: Runs, relations: frozenset[int]) -> None:
        """Of these relations everything is covered that an earlier snapshot showed.

        It saw all below the position `before`, and of the others those in `ended`.
        """
        visible = ended | self._known_from(regions.START_OF_TIME).starting(before)
        whole = Region(before, visible=visible)
        parts = list[Group]()
        for group in self.present:
            parts.append(Group(group.relations & relations, regions.add(group.covered, whole)))
            parts.append(Group(group.relations - relations, group.covered))
        self.present = joined(parts)

    def _known_from(self, low: datetime) -> Runs:
        """The positions that are visible by what was covered from `low` on, to the end of time."""
        visible = Runs()
        for group in self.present:
            for region in group.covered:
                if region.spans(low, regions.END):
                    visible |= region.visible
        return visible


def dump(groups: Iterable[Group]) -> list[list[Any]]:
    """The groups as plain JSON."""
    return [[sorted(group.relations), regions.dump(group.covered)] for group in groups]


def load(data: Iterable[Any]) -> Groups:
    """The inverse of `dump`; raises ValueError, TypeError or KeyError on anything else."""
    return tuple(
        Group(frozenset(map(int, relations)), regions.load(covered)) for relations, covered in data
    )
