"""From a row of PostgreSQL to an entry."""

from collections.abc import Sequence
from typing import Any

import msgspec

from lykke_cli.application.gateways.history_protocol import HistoryRow
from lykke_cli.application.messages import (
    EMPTY_META,
    Entry,
    format_time,
    on_one_line,
    unreadable_entry,
)
from lykke_cli.infrastructure.database.chunk_size import LARGE_META, LEFT_OUT

_LARGE_LEFT_OUT = f"""
    (SELECT CASE WHEN octet_length(t) > {LARGE_META} THEN '{LEFT_OUT}' || octet_length(t)
            ELSE t END
        FROM (SELECT meta::text AS t OFFSET 0) AS whole)  -- made into text once
"""  # noqa: S608
META, XMIN = 6, 7
"""The places of these among the columns."""


def columns(time: str) -> str:
    """What is read of a row, where `time` is the expression for when it occurred.

    A large meta is left out. Where that time may be NULL, the column's text follows.
    """
    return f"""
        id::text, user_id::text, activity_type::text, {time}, entity_id::text, entity_type::text,
        {_LARGE_LEFT_OUT}, xmin::text
    """


def read_row(record: Sequence[Any]) -> HistoryRow:
    """The row in a record of `columns`."""
    return _unreadable(record) if record[3] is None else _entry(record)


def _entry(record: Any) -> Entry:
    id, user_id, activity_type, occurred_at, entity_id, entity_type, meta, *_ = record
    return Entry(
        id=id,
        user_id=user_id,
        activity_type=activity_type,
        occurred_at=format_time(occurred_at),
        entity_id=entity_id,
        entity_type=entity_type,
        meta=_meta(meta),
    )


def _unreadable(record: Sequence[Any]) -> HistoryRow:
    id, user_id, activity_type, _, entity_id, entity_type, meta, _, occurred_at = record
    return unreadable_entry(
        {
            "id": id,
            "user_id": user_id,
            "activity_type": activity_type,
            "occurred_at": occurred_at,
            "entity_id": entity_id,
            "entity_type": entity_type,
            "meta": _meta(meta),
        }
    )


def _meta(stored: str | None) -> msgspec.Raw:
    if stored is None or stored == "null":
        return EMPTY_META
    return msgspec.Raw(on_one_line(stored.encode()))
