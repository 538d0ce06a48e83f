"""The engines that speak PostgreSQL's protocol, told apart by the names they give themselves.

What is committed can be followed where each row bears the transaction that wrote it (`xmin`), and
one sequence of transaction ids is behind the whole table. Aurora, AlloyDB and Neon are PostgreSQL
above a storage of their own: they have both, but need not offer every function that is asked
besides (`rights.py`). Without both an answer would be wrong, so it is refused:

* CockroachDB and YugabyteDB have no `xmin`.
  https://docs.yugabyte.com/stable/develop/postgresql-compatibility/
* Citus keeps the rows of its tables on several nodes, each of which counts its own transactions.
  It may be installed, all the same, beside a table that is PostgreSQL's alone.
"""

import re
from typing import Any, NamedTuple

from lykke_cli.application.errors import SchemaMismatch

_CITUS = "to_regclass('pg_catalog.pg_dist_partition')"
_IS_CITUS_TABLE = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = to_regclass('audit_logs')
    )
"""
NAME = f"""
    CASE WHEN to_regproc('aurora_version') IS NOT NULL THEN 'Amazon Aurora'
        WHEN current_setting('neon.timeline_id', true) IS NOT NULL THEN 'Neon'
        WHEN EXISTS (SELECT FROM pg_settings WHERE name LIKE 'alloydb.%') THEN 'AlloyDB'
        WHEN {_CITUS} IS NOT NULL THEN 'Citus'
        ELSE 'PostgreSQL' END
"""
"""The expression for the name of an engine that was not refused."""


class _Refusal(NamedTuple):
    reason: str
    remedy: str


_NO_XMIN = "whose rows do not bear the transaction that wrote them (xmin)"
_REFUSED = {
    "CockroachDB": _Refusal(
        _NO_XMIN, "Use its own change feed in place of lykke: CREATE CHANGEFEED FOR audit_logs."
    ),
    "YugabyteDB": _Refusal(
        _NO_XMIN,
        "Use its own change data capture in place of lykke: yb-admin create_change_data_stream.",
    ),
    "Citus": _Refusal(
        "which keeps the rows of audit_logs on several nodes: each counts its own transactions",
        "Use its own change data capture in place of lykke (citus.enable_change_data_capture), or "
        "keep audit_logs a table that Citus does not manage.",
    ),
}
_UNKNOWN = _Refusal("which is not PostgreSQL", "PostgreSQL 13 or newer is needed.")


async def refuse_unfit(connection: Any, display: str) -> None:
    """Raises SchemaMismatch where the order of commits cannot be known; asked in a transaction.

    `display` names the database.
    """
    version, has_citus = await connection.fetchrow(f"SELECT version(), {_CITUS} IS NOT NULL")
    name = _named(version)
    if name == "PostgreSQL":
        if not has_citus or not await connection.fetchval(_IS_CITUS_TABLE):
            return
        name = "Citus"
    reason, remedy = _REFUSED.get(name, _UNKNOWN)
    raise SchemaMismatch(
        f"The database at {display} is {name}, {reason}: what was committed since when cannot be "
        "told.",
        remedy=remedy,
    )


def _named(version: str) -> str:
    if re.match(r"PostgreSQL [0-9.]+-YB-", version):
        return "YugabyteDB"
    found = re.match(r"[A-Za-z]+", version)
    return found[0] if found else "an unknown engine"
