"""Looks at a table some pages at a time; `sweep.py` says what that proves."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.spans import Spans, joined
from lykke_cli.infrastructure.postgresql import statements
from lykke_cli.infrastructure.postgresql.cursor import Snapshot
from lykke_cli.infrastructure.postgresql.relations import Groups
from lykke_cli.infrastructure.postgresql.selection import selected
from lykke_cli.infrastructure.postgresql.snapshots import Snapshots
from lykke_cli.infrastructure.postgresql.storage import End, files_of
from lykke_cli.infrastructure.postgresql.sweep import Sweep

LARGE_ROWS = 1_000_000
"""Of more rows that a reader selects not all are read in one statement."""
PROMPT_ROWS = 50_000
"""Likewise of who does not want to wait for that statement."""
LARGE_COST = 1_000_000.0
"""Nor where fewer are looked for among so many; in pages read in a row, as the planner counts."""
SLICE = 0.1  # seconds that a slice is to take
FIRST_PAGES = 128
CHANGE = 2.0  # times as many pages as in the slice before, or as few


class Slices:
    """How large they are, by how long the last ones took; `prompt` as in PostgresHistory."""

    def __init__(self, *, prompt: bool = False) -> None:
        self._pages = FIRST_PAGES
        self.prompt = prompt

    async def are_needed(self, connection: Any, selection: Selection, snapshots: Snapshots) -> bool:
        """True where a reader of `selection` cannot read everything at once, and can in slices."""
        [plan] = json.loads(await connection.fetchval(statements.ESTIMATE, *selected(selection)))
        top, parts = plan["Plan"], list(_parts_of(plan["Plan"]))
        scanned = sum(part["Total Cost"] for part in parts if part["Node Type"] == "Seq Scan")
        most = min(LARGE_ROWS, PROMPT_ROWS) if self.prompt else LARGE_ROWS
        if top["Plan Rows"] <= most and scanned <= LARGE_COST:
            return False
        return bool(await files_of(connection, snapshots))

    async def begin(
        self, connection: Any, snapshot: Snapshot, snapshots: Snapshots, known: Groups
    ) -> Sweep:
        """A read of all that this snapshot shows; of that is `known` what is covered."""
        files = await files_of(connection, snapshots)
        ended = snapshot.ended
        if snapshot.origin.lsn:  # or it may be a standby that lags, and nobody knows
            covered = (region for group in known for region in group.covered)
            ended |= regions.visible_from(covered, snapshot.xmin)
        return Sweep(
            at=snapshot.at,
            before=snapshot.xmin,
            ended=ended,
            files={file.relation: file.node for file in files},
            pages=max((file.pages for file in files), default=0),
        )

    async def look(
        self,
        connection: Any,
        selection: Selection,
        sweep: Sweep,
        known: Groups,
        snapshots: Snapshots,
    ) -> Sweep:
        """Look at the next pages, for what is not `known` to be covered."""
        clock, pages = asyncio.get_running_loop().time, self._pages
        end = min(sweep.reached + pages, sweep.pages)
        query, arguments = statements.uncovered_on_pages(known)
        places = f"({sweep.reached},0)", f"({end},0)"
        self._pages = max(1, int(pages / CHANGE))  # should it take too long, the next one does not
        began = clock()
        found = await connection.fetch(query, *selected(selection), *places, *arguments)
        wanted = SLICE / max(clock() - began, SLICE / 1_000)
        self._pages = max(1, int(pages * min(max(wanted, 1 / CHANGE), CHANGE)))
        # Only now: what was read is locked, and stays the file that it is until the end.
        files = await files_of(connection, snapshots)
        advanced = sweep.advanced(end, ((low, high) for low, high in found))
        return advanced.kept({file.relation: file.node for file in files})


def _parts_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from _parts_of(part)


async def at_ends(
    connection: Any, selection: Selection, ends: Sequence[End], known: Groups
) -> Spans:
    """When that occurred which is on the last pages and not `known` to be covered."""
    found = await _fetch_at_ends(connection, selection, ends, statements.times_at_ends, known)
    return joined((low, high) for low, high in found)


async def written_at_ends(
    connection: Any, selection: Selection, ends: Sequence[End], known: Groups
) -> list[str]:
    """The transactions that wrote it, as 32-bit numbers."""
    found = await _fetch_at_ends(connection, selection, ends, statements.written_at_ends, known)
    return [xmin for (xmin,) in found]


async def _fetch_at_ends(
    connection: Any,
    selection: Selection,
    ends: Sequence[End],
    statement: Callable[[Sequence[End], Groups], tuple[str, list[object]]],
    known: Groups,
) -> Sequence[Any]:
    if not ends:
        return ()
    query, arguments = statement(ends, known)
    places = [f"({end.first},0)" for end in ends]
    found: Sequence[Any] = await connection.fetch(query, *selected(selection), places, *arguments)
    return found
