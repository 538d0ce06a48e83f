"""A read of the whole table that is too long for one transaction, in slices of some pages each.

Its promise is about a moment, when the snapshot S was taken with which it began: once it is over,
whatever S showed is covered. Why that holds, though each slice has a later snapshot of its own:

* A row that S shows lies on a page that the file had then. It stays on its page for as long as it
  is there. The slice that comes to the page sees it, unless it was updated or deleted since.
* An updated row is another one, of a transaction that S does not show: it is not covered by this
  read, and the next one finds it. So is a row that was moved to another partition.
* VACUUM FULL and CLUSTER move rows and keep their transactions, but a relation's file is another
  one afterwards. A relation whose file has changed, or that was away for even one slice (DETACH
  and ATTACH), is left out of what this read covers: the next one reads it from its start.
* What is new to the table, or was committed after S, was never among what S showed.
* Another server (a standby) may not show yet what S did: the read begins anew there.

A slice does not print. It looks in what stretches of time there are rows that are not covered, for
a page's rows are in no order. At the end these stretches are read in order, by the index. Until
then nothing more counts as covered. So a slice that is read twice does no harm.
https://www.postgresql.org/docs/current/sql-vacuum.html
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from lykke_cli.application.messages import format_time, parse_wire_time
from lykke_cli.infrastructure.database import runs
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.database.spans import Span, Spans, joined

READ_AGAIN = 1_000_000
"""How many rows that are covered by now may lie where the next portion begins."""


class Sweep(msgspec.Struct, frozen=True):
    """How far it has come."""

    at: datetime
    """When it began."""
    before: int
    """The snapshot S shows all below this position."""
    ended: Runs
    """Of the positions from there on, those whose transactions had ended, as far as is known."""
    files: Mapping[int, int]
    """The relations that are read, and the file of each."""
    pages: int
    """How many the largest of them had."""
    reached: int = 0
    """The first page that is not read yet."""
    found: Spans = ()
    """Where there are rows that are not covered."""
    read: int = 0
    """How many of these were read since the first stretch begins."""

    @property
    def is_over(self) -> bool:
        """True when every page was looked at."""
        return self.reached >= self.pages

    def kept(self, files: Mapping[int, int]) -> "Sweep":
        """The same without the relations that are not as they were."""
        same = {oid: node for oid, node in self.files.items() if files.get(oid) == node}
        return self if same == self.files else msgspec.structs.replace(self, files=same)

    def advanced(self, reached: int, found: Iterable[Span]) -> "Sweep":
        """The pages below `reached` were looked at."""
        spans = joined([*self.found, *found])
        return msgspec.structs.replace(self, reached=reached, found=spans)

    def read_up_to(self, moment: datetime, rows: int) -> "Sweep":
        """Of what was found, that is covered by now up to a moment, after so many rows more.

        Whoever goes on begins where the stretch does, so that what is covered of it stays one
        region; but not with so many rows, nor where it takes long to come to what is left.
        """
        left, read = [span for span in self.found if span[1] >= moment], self.read + rows
        if left and read >= READ_AGAIN:
            left[0], read = (max(left[0][0], moment), left[0][1]), 0
        return msgspec.structs.replace(self, found=tuple(left), read=read)


def dump(sweep: Sweep) -> list[Any]:
    """As plain JSON."""
    return [
        format_time(sweep.at),
        sweep.before,
        sweep.ended.dump(),
        sorted([oid, node] for oid, node in sweep.files.items()),
        sweep.pages,
        sweep.reached,
        [[format_time(low), format_time(high)] for low, high in sweep.found],
        sweep.read,
    ]


def load(data: Any) -> Sweep | None:
    """The inverse of `dump`; raises ValueError, TypeError or KeyError on anything else."""
    if data is None:
        return None
    at, before, ended, files, pages, reached, found, read = data
    return Sweep(
        parse_wire_time(at),
        runs.position(before),
        Runs.load(ended),
        {int(oid): int(node) for oid, node in files},
        runs.position(pages),
        runs.position(reached),
        tuple((parse_wire_time(low), parse_wire_time(high)) for low, high in found),
        runs.position(read),
    )
