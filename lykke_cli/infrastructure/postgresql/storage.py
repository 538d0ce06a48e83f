"""Where the table's rows lie: the files of its relations, page by page.

A row is found by its place (ctid) where there is no index that leads to it. An audit log grows at
its end: so what was committed last is on the last pages, whenever it occurred.
https://www.postgresql.org/docs/current/ddl-system-columns.html
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lykke_cli.infrastructure.postgresql.relations import TREE
from lykke_cli.infrastructure.postgresql.rights import FILE_NODE, RELATION_SIZE
from lykke_cli.infrastructure.postgresql.snapshots import Snapshots

LAST_PAGES = 1_024
"""How many pages at the ends are looked at first, of all relations together."""
MOST_PAGES = 16_384
"""How many at most, of each."""
BEFORE_END = 64
"""How many are looked at again: several writers fill pages near the end at once."""
NEWEST_RELATIONS = 4
"""The newest relations are looked at though they have not grown."""
MOST_RELATIONS = 64
"""In how many relations at once."""
_FILES = f"""
    SELECT relation::bigint, relation::regclass::text AS name,
        coalesce(pg_relation_filenode(relation), 0)::bigint AS node,
        coalesce(pg_relation_size(relation) / current_setting('block_size')::int, 0) AS pages,
        has_table_privilege(relation, 'SELECT') IS TRUE AS is_readable,
        coalesce(amname = 'heap', FALSE)
            -- before, a range of pages is found by reading them all
            AND current_setting('server_version_num')::int >= 140000 AS is_heap
    FROM ({TREE}) AS tree
        LEFT JOIN pg_class ON pg_class.oid = relation
        LEFT JOIN pg_am ON pg_am.oid = relam
    ORDER BY relation DESC
"""  # noqa: S608


class File(NamedTuple):
    """A relation's rows on disk."""

    relation: int
    name: str
    """As the server writes it in a statement."""
    node: int
    """Another one once all rows were moved: VACUUM FULL, CLUSTER, TRUNCATE."""
    pages: int
    is_readable: bool
    """The role may read it past the table whose partition it is."""
    is_heap: bool
    """Its rows can be found by their pages."""


class End(NamedTuple):
    """The last pages of a relation."""

    name: str
    first: int


Files = tuple[File, ...]


async def files_of(connection: Any, snapshots: Snapshots) -> Files:
    """The newest relation first; none where rows cannot be found by their pages."""
    if not (snapshots.may_call(RELATION_SIZE) and snapshots.may_call(FILE_NODE)):
        return ()
    files = tuple(File(*record) for record in await connection.fetch(_FILES))
    return files if all(file.is_heap for file in files) else ()


class Ends:
    """Up to where the relations were looked at."""

    def __init__(self) -> None:
        self._pages: Mapping[int, tuple[int, int]] = {}

    @property
    def are_new(self) -> bool:
        """Nothing was looked at yet."""
        return not self._pages

    def grown(self, files: Files) -> list[End]:
        """Where to look for what was written since; a place where nothing is costs little."""
        ends = list[End]()
        for number, file in enumerate(files):
            node, seen = self._pages.get(file.relation, (file.node, None))
            if not file.is_readable or not file.pages:
                continue
            if seen is None or node != file.node or seen > file.pages:
                first = file.pages - max(LAST_PAGES // len(files), BEFORE_END)
            elif seen == file.pages and number >= NEWEST_RELATIONS:
                continue
            else:
                first = max(seen - BEFORE_END, file.pages - MOST_PAGES)
            ends.append(End(file.name, max(first, 0)))
        return ends[:MOST_RELATIONS]

    def seen(self, files: Iterable[File]) -> None:
        """They were looked at to their ends."""
        self._pages = {file.relation: (file.node, file.pages) for file in files}
