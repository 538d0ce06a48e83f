"""Messages as rows of CSV (RFC 4180), of which no cell is a formula to a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence

from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import Entry, Message, UnreadableEntry

CSV_COLUMNS = (
    "id",
    "user_id",
    "activity_type",
    "occurred_at",
    "entity_id",
    "entity_type",
    "meta",
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_text(rows: Iterable[Sequence[str]]) -> bytes:
    """The rows as lines."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def csv_row(message: Message) -> Sequence[str]:
    """The cells of CSV_COLUMNS; what is not an entry has its text in the last. Null is empty."""
    if not isinstance(message, Entry):
        id = message.id if isinstance(message, UnreadableEntry) else ""
        return (id, "", "", "", "", "", csv_cell(text_of(message)))
    meta = bytes(message.meta)
    return (
        message.id,
        message.user_id,
        csv_cell(message.activity_type),
        message.occurred_at,
        message.entity_id or "",
        csv_cell(message.entity_type or ""),
        "" if meta == b"null" else csv_cell(meta.decode("utf-8", "replace")),
    )


def text_of(message: Message) -> str:
    """What a message was, where it is no entry."""
    raw = message.raw if isinstance(message, Unreadable) else message.to_json()
    return raw.decode("utf-8", "replace")


def csv_cell(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
