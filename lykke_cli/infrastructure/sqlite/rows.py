"""From a row of SQLite, which checks neither types nor texts, to an entry."""

from typing import Any, NamedTuple

import msgspec
import orjson

from lykke_cli.application.gateways.history_protocol import HistoryRow
from lykke_cli.application.messages import (
    EMPTY_META,
    Entry,
    canonical_id,
    format_time,
    on_one_line,
    parse_wire_time,
    unreadable_entry,
)
from lykke_cli.infrastructure.database.chunk_size import LARGE_META, LEFT_OUT
from lykke_cli.infrastructure.sqlite.connection import as_text

COLUMNS = f"""
    seq, id, user_id, activity_type, occurred_at, entity_id, entity_type,
    CASE WHEN length(CAST(meta AS BLOB)) > {LARGE_META}
        THEN '{LEFT_OUT}' || length(CAST(meta AS BLOB)) ELSE meta END
"""
"""What is read of a row; a large meta is left out."""
META = 7
"""The place of meta among them."""
StoredKey = tuple[str, str]
"""`occurred_at` as it is stored, and the id without dashes: rows are read in this order."""
_json = msgspec.json.Decoder(msgspec.Raw).decode


class Found(NamedTuple):
    """A row that was read."""

    seq: int
    row: HistoryRow
    place: tuple[Any, str]
    """`occurred_at` as it is stored, also a number, and the id without dashes."""

    @property
    def key(self) -> StoredKey:
        """The place as texts; SQLite sorts numbers, such as milliseconds, before every text."""
        occurred_at, id = self.place
        return ("" if isinstance(occurred_at, int | float) else _text(occurred_at), id)


def read_row(record: Any) -> Found:
    """The row in a record of `COLUMNS`.

    Raises ValueError or TypeError where an id is no UUID or there is no time.
    """
    seq, id, user_id, activity_type, occurred_at, entity_id, entity_type, meta = record
    fields = {
        "id": canonical_id(id),
        "user_id": canonical_id(user_id),
        "activity_type": _text(activity_type),
        "occurred_at": occurred_at,
        "entity_id": None if entity_id is None else canonical_id(entity_id),
        "entity_type": None if entity_type is None else _text(entity_type),
        "meta": _meta(meta),
    }
    if occurred_at is None:
        raise ValueError("occurred_at is NULL")
    place = (occurred_at, id.replace("-", ""))
    try:
        fields["occurred_at"] = format_time(parse_wire_time(_text(occurred_at)))
    except ValueError:
        told = fields | {"occurred_at": _text(occurred_at)}
        return Found(seq, unreadable_entry(told), place)
    return Found(seq, Entry(**fields), place)


def _meta(stored: Any) -> msgspec.Raw:
    """A JSON value on one line; whatever else is stored becomes a string."""
    if stored is None:
        return EMPTY_META
    text = _text(stored)
    try:
        value = on_one_line(bytes(_json(text)))
        return EMPTY_META if value == b"null" else msgspec.Raw(value)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(orjson.dumps(text))


def _text(stored: Any) -> str:
    return as_text(stored) if isinstance(stored, bytes) else str(stored)
