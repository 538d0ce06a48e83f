"""What is asked of the server with each snapshot, as far as it is answered.

A role that may not call all of them can still read, and so it is where the server is not quite
PostgreSQL and does not carry them all out; but less can be told. `Offer.limits` says what.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from lykke_cli.infrastructure.postgresql import engines
from lykke_cli.infrastructure.postgresql.relations import TREE


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
REPLAYED = _Question(
    "(pg_last_wal_replay_lsn() - '0/0')::text", frozenset({"pg_last_wal_replay_lsn()"})
)
"""Of a standby, to be asked for before the snapshot is taken: this shows all that is before it."""
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
CONTROL = _Question(
    "(SELECT system_identifier::text FROM pg_control_system(), pg_control_checkpoint(), "
    "pg_control_recovery())",
    frozenset({"pg_control_system()", "pg_control_checkpoint()", "pg_control_recovery()"}),
)
XACT_STATUS = "pg_xact_status(xid8)"
RELATION_SIZE = "pg_relation_size(regclass,text)"
FILE_NODE = "pg_relation_filenode(regclass)"
_TELL_OF_LOSS = frozenset[str]().union(*(question.functions for question in (*_QUESTIONS, CONTROL)))
_ASKED = f"""
    SELECT ARRAY(
        SELECT name FROM unnest($1::text[]) AS name
        WHERE has_function_privilege(to_regprocedure(name)::oid, 'execute') IS NOT TRUE
    ), (SELECT relkind::text FROM pg_class WHERE oid = to_regclass('audit_logs')), {engines.NAME},
    EXISTS (SELECT FROM ({TREE}) AS tree JOIN pg_class ON oid = relation WHERE relkind = 'f')
"""  # noqa: S608
_NOT_OFFERED = ("0A000", "55000")  # SQLSTATEs with which Aurora refuses what it has no answer to


class Offer(msgspec.Struct, frozen=True):
    """What a server answers to a role."""

    kind: str = ""
    """What audit_logs is, as in pg_class.relkind."""
    denied: frozenset[str] = frozenset()
    """The functions that the role may not call, or that the server lacks."""
    unoffered: frozenset[str] = frozenset()
    """Those that the server has and does not carry out."""
    engine: str = "PostgreSQL"
    is_partly_foreign: bool = False
    """Some of the rows lie in a foreign table."""

    def answers(self, functions: Iterable[str]) -> bool:
        """True where all of the functions may be called."""
        return not (self.denied | self.unoffered).intersection(functions)

    @property
    def snapshot_query(self) -> str:
        """The statement that takes a snapshot, and asks whatever may be asked."""
        asked = [
            question.expression if self.answers(question.functions) else "NULL"
            for question in _QUESTIONS
        ]
        return f"""
            SELECT pg_current_snapshot()::text, clock_timestamp(), pg_is_in_recovery(),
                (SELECT oid::text FROM pg_database WHERE datname = current_database()),
                ARRAY({TREE}),
                {", ".join(asked)}
        """  # noqa: S608

    @property
    def limits(self) -> str | None:
        """What cannot be told, for the person; None if all can."""
        foreign = None
        if self.is_partly_foreign:
            foreign = (
                "a part of audit_logs is a foreign table, which has no order of commits (xmin): "
                "what is written there is found in a range of time, and never followed"
            )
        return "; ".join(filter(None, (self._untold, foreign))) or None

    @property
    def _untold(self) -> str | None:
        """What cannot be told for want of an answer."""
        denied = sorted(_TELL_OF_LOSS.intersection(self.denied))
        if not denied and not self.unoffered:
            return None
        who = "this role may not ask the server for" if denied else f"{self.engine} does not answer"
        told = (
            f"{who} all that tells whether commits were lost (a fail-over, a crash, a restored "
            "backup): such a loss may go unnoticed"
        )
        if not denied:
            return told
        return f"{told}; GRANT EXECUTE ON FUNCTION {', '.join(denied)} TO <role>"


async def offer_of(connection: Any) -> Offer:
    """What the server answers to this role; asked in a transaction."""
    asked = [*_TELL_OF_LOSS, XACT_STATUS, RELATION_SIZE, FILE_NODE]
    denied, kind, engine, is_partly_foreign = await connection.fetchrow(_ASKED, asked)
    offer = Offer(kind or "", frozenset(denied), engine=engine, is_partly_foreign=is_partly_foreign)
    if engine == "PostgreSQL":
        return offer
    questions = [
        question for question in (*_QUESTIONS, CONTROL) if offer.answers(question.functions)
    ]
    refused = [q.functions for q in questions if not await _is_answered(connection, q)]
    return msgspec.structs.replace(offer, unoffered=frozenset[str]().union(*refused))


async def _is_answered(connection: Any, question: _Question) -> bool:
    try:
        async with connection.transaction():  # a savepoint
            await connection.fetchval(f"SELECT {question.expression}")
    except Exception as error:
        if getattr(error, "sqlstate", None) not in _NOT_OFFERED:
            raise
        return False
    return True
