"""What is said to a bridge and what it says: the frames of the sub-protocol lykke.v1.

Decoding never raises: what cannot be read is an Unreadable, as on a channel.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
import orjson

from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import (
    Entry,
    Message,
    OtherMessage,
    UnreadableEntry,
    canonical_id,
    decode,
    format_time,
    unreadable_line,
)

SUBPROTOCOL = "lykke.v1"
_LONGEST_CURSOR = 8 << 10  # characters, four times what a bridge makes

Cursor = Annotated[str, msgspec.Meta(min_length=1, max_length=_LONGEST_CURSOR)]


class _Frame(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class Subscribed(_Frame, frozen=True, tag="subscribed"):
    """The bridge follows the user, from where it was asked to."""

    user_id: UUID
    exact: bool = True
    """False: the place was outlived by the database, and it goes on by time."""
    cursor: Cursor | None = None


class OneEntry(_Frame, frozen=True, tag="auditlog"):
    data: msgspec.Raw
    cursor: Cursor | None = None


class SeveralEntries(_Frame, frozen=True, tag="auditlog_batch"):
    data: list[msgspec.Raw]
    cursor: Cursor | None = None


class CaughtUp(_Frame, frozen=True, tag="caught_up"):
    """Nothing is known to be missing: what comes from now on is live."""

    cursor: Cursor | None = None


class Heartbeat(_Frame, frozen=True, tag="heartbeat"):
    cursor: Cursor | None = None


class ServersAre(_Frame, frozen=True, tag="status"):
    """How the servers behind the bridge are."""

    state: str
    """live, redis_away or database_away."""


class Noticed(_Frame, frozen=True, tag="notice"):
    """Entries that came before may come again, and why."""

    message: str


class Problem(_Frame, frozen=True, tag="error"):
    """Something was refused, and why."""

    code: str
    message: str = ""


class Reconnect(_Frame, frozen=True, tag="reconnect"):
    """The bridge closes, and wants to see this side again after so many milliseconds."""

    after_ms: Annotated[float, msgspec.Meta(ge=0)] = 0


class _Wrapped(_Frame, frozen=True, tag="message"):
    """A message of the channel that has no type, or one of ours."""

    data: msgspec.Raw


Entries = OneEntry | SeveralEntries
_Own = Subscribed | Entries | CaughtUp | Heartbeat | ServersAre | Noticed | Problem | Reconnect
_Known = _Own | _Wrapped
_KNOWN_TYPES = {each.__struct_config__.tag for each in _Known.__args__}
FromChannel = OtherMessage | Unreadable
Frame = _Own | FromChannel


class _Typed(msgspec.Struct):
    type: str = ""


_decode_frame = msgspec.json.Decoder(_Known).decode
_decode_type = msgspec.json.Decoder(_Typed).decode


def decode_frame(payload: bytes) -> Frame:
    """What a frame says; never raises."""
    try:
        if not payload.isascii():
            payload.decode()  # parts that are passed on undecoded must be UTF-8 too
        frame: _Known = _decode_frame(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _from_channel(payload)
    return _unwrapped(bytes(frame.data)) if isinstance(frame, _Wrapped) else frame


def messages_of(frame: Entries, user_id: UUID) -> Iterator[Message]:
    """The entries in a frame about this user; one that is no entry of the user's is Unreadable."""
    for data in [frame.data] if isinstance(frame, OneEntry) else frame.data:
        yield _entry(bytes(data), str(user_id))


class Opening(msgspec.Struct, frozen=True):
    """What this side says of where to begin."""

    query: Sequence[tuple[str, str]]
    """Parameters of the request."""
    first: bytes | None
    """The first frame; None where the request says it all."""


def opening(*, cursor: str | None, since: datetime | None, last: int | None) -> Opening:
    """Go on from a cursor, else begin in history, else now."""
    if cursor is not None:
        return Opening((), orjson.dumps({"type": "resume", "cursor": cursor}))
    query = [] if since is None else [("since", format_time(since))]
    query += [("last", str(last))] if last else []
    return Opening(query, None if query else b'{"type":"resume"}')


def query_of(filters: Filters) -> list[tuple[str, str]]:
    """The filters as parameters of a request."""
    single = {
        "entity_type": filters.entity_type,
        "entity_id": filters.entity_id,
        "until": None if filters.until is None else format_time(filters.until),
        "query": filters.query,
        "grep": filters.grep,
        "not_grep": filters.not_grep,
    }
    return [
        *(("activity_type", name) for name in filters.activity_types),
        *(("exclude", name) for name in filters.excluded_types),
        *((name, str(value)) for name, value in single.items() if value is not None),
    ]


def _from_channel(payload: bytes) -> FromChannel:
    message = decode(payload)
    if isinstance(message, Unreadable):
        return message
    try:
        is_known = _decode_type(payload).type in _KNOWN_TYPES
    except (msgspec.MsgspecError, RecursionError):
        is_known = False
    if is_known or isinstance(message, Entry):  # an entry comes in a frame alone
        return Unreadable(payload, "not a frame of a bridge")
    return OtherMessage(payload)


def _unwrapped(data: bytes) -> FromChannel:
    """A message as it was on the channel; what looks like an entry there is none."""
    if (line := unreadable_line(data)) is not None:
        return line[0]
    message = decode(data)
    return message if isinstance(message, Unreadable) else OtherMessage(data)


def _entry(data: bytes, user_id: str) -> Message:
    message = decode(data)
    match message:
        case Entry():
            is_theirs = message.user_id == user_id
            return message if is_theirs else Unreadable(data, "an entry of another user")
        case OtherMessage() if (line := unreadable_line(data)) is not None:
            read, told = line
            try:
                id = canonical_id(told or "")
            except ValueError:
                return Unreadable(data, "not an entry")
            return UnreadableEntry(read.raw, read.reason, id=id, user_id=user_id)
        case OtherMessage():
            return Unreadable(data, "not an entry")
    return message
