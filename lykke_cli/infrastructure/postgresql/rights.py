"""What is asked of the server with each snapshot, as far as the role may call the functions.

A role that may not call all of them can still read, but less can be told. `limits` says what.
"""

from collections.abc import Collection
from typing import Any, NamedTuple


class _Question(NamedTuple):
    expression: str
    functions: frozenset[str]
    """Those that it calls."""


# The log's position is asked for after the snapshot is taken: all that this shows is before it.
_LSN = _Question(
    """(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_insert_lsn() END - '0/0')::text""",
    frozenset({"pg_last_wal_replay_lsn()", "pg_current_wal_insert_lsn()"}),
)
_TIMELINE = _Question(
    "CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
    frozenset({"pg_walfile_name(pg_lsn)", "pg_current_wal_lsn()"}),
)
_STARTED = _Question("pg_postmaster_start_time()::text", frozenset({"pg_postmaster_start_time()"}))
_CRASHED = _Question(  # a crash resets statistics
    "pg_stat_get_bgwriter_stat_reset_time()::text",
    frozenset({"pg_stat_get_bgwriter_stat_reset_time()"}),
)
_QUESTIONS = (_LSN, _TIMELINE, _STARTED, _CRASHED)
CONTROL = frozenset({"pg_control_system()", "pg_control_checkpoint()", "pg_control_recovery()"})
XACT_STATUS = "pg_xact_status(xid8)"
RELATION_SIZE = "pg_relation_size(regclass,text)"
_TELL_OF_LOSS = CONTROL.union(*(question.functions for question in _QUESTIONS))
_ASKED = """
    SELECT ARRAY(
        SELECT name FROM unnest($1::text[]) AS name
        WHERE has_function_privilege(to_regprocedure(name)::oid, 'execute') IS NOT TRUE
    ), (SELECT relkind::text FROM pg_class WHERE oid = to_regclass('audit_logs'))
"""


async def denied_and_kind(connection: Any) -> tuple[frozenset[str], str]:
    """The functions that the role may not call or the server lacks, and what audit_logs is."""
    asked = [*_TELL_OF_LOSS, XACT_STATUS, RELATION_SIZE]
    denied, kind = await connection.fetchrow(_ASKED, asked)
    return frozenset(denied), kind or ""


def snapshot_query(denied: Collection[str]) -> str:
    """The statement that takes a snapshot, and asks whatever may be asked."""
    asked = [
        "NULL" if question.functions.intersection(denied) else question.expression
        for question in _QUESTIONS
    ]
    return f"""
        SELECT pg_current_snapshot()::text, clock_timestamp(), pg_is_in_recovery(),
            (SELECT oid::text FROM pg_database WHERE datname = current_database()),
            {", ".join(asked)}
    """  # noqa: S608


def limits(denied: Collection[str]) -> str | None:
    """What cannot be told with these rights, for the person; None if all can."""
    missing = sorted(_TELL_OF_LOSS.intersection(denied))
    if not missing:
        return None
    return (
        "this role may not ask the server for all that tells whether commits were lost (a "
        "fail-over, a crash, a restored backup): such a loss may go unnoticed; "
        f"GRANT EXECUTE ON FUNCTION {', '.join(missing)} TO <role>"
    )
