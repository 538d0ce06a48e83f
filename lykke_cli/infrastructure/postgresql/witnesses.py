"""The rows that bear witness for a cursor, as PostgreSQL has them; see `database/witnesses.py`."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.infrastructure.database.witnesses import Witness, Witnesses
from lykke_cli.infrastructure.postgresql import statements
from lykke_cli.infrastructure.postgresql.cursor import (
    Snapshot,
    Stored,
    Understood,
    is_doubtful,
    understand,
)
from lykke_cli.infrastructure.postgresql.rights import RELATION_SIZE
from lykke_cli.infrastructure.postgresql.selection import selected

WITNESSES = 8
"""How many rows bear witness for a cursor that has read none yet."""
LAST_PAGES = 8
"""On how many pages at the end of a relation more of them are looked for."""
MOST_RELATIONS = 256
"""In how many relations, the newest first."""


async def newest(
    connection: Any, selection: Selection, snapshot: Snapshot, may_call: Callable[[str], bool]
) -> Witnesses:
    """Rows to bear witness for a cursor that has read none; `may_call` as of `Snapshots`.

    No row that is there already may be beyond them: after a restart it would count as new. Any row
    of the same users bears witness: a filter that lets few through would have them all looked at.
    """
    of_users = selected(Selection(user_ids=selection.user_ids))
    records = await connection.fetch(statements.NEWEST, *of_users, WITNESSES)
    if may_call(RELATION_SIZE):
        bounds = LAST_PAGES, MOST_RELATIONS
        if last := await connection.fetchval(statements.WRITTEN_LAST, *bounds):
            records += await connection.fetch(last)
    return Witnesses.at_start(_positioned(records, snapshot))


async def understood(
    connection: Any,
    selection: Selection,
    stored: Stored | None,
    snapshot: Snapshot,
    may_call: Callable[[str], bool],
) -> Understood:
    """What a cursor covers now, by those of its witnesses that are there."""
    found: set[Witness] | None = None
    if stored is not None and is_doubtful(stored, snapshot):
        ids = [id for _, id in stored.witnesses.rows]
        found = set(_positioned(await connection.fetch(statements.FOUND, ids), snapshot))
    known = understand(stored, snapshot, found)
    if known.rereads and not known.witnesses.rows:
        witnesses = await newest(connection, selection, snapshot, may_call)
        known = msgspec.structs.replace(known, witnesses=witnesses)
    return known


def _positioned(records: Iterable[Any], snapshot: Snapshot) -> list[Witness]:
    positions = ((snapshot.position(xmin), id) for xmin, id in records)
    return [(position, id) for position, id in positions if position is not None]
