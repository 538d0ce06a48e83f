"""The only decoder and encoder of what travels on a channel. Everything that comes in is untrusted.

An audit log entry prints as one JSON object with the keys id, user_id, activity_type,
occurred_at, entity_id, entity_type, meta in this order, ids in lower case with dashes, and
occurred_at in UTC with six decimals and `Z`, so that the text sorts like the time. `meta` keeps
the bytes it came with: no number is rounded and no key is moved. An entry without one has `{}`.
"""

import base64
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import orjson

from lykke_cli.application.errors import BadInput
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.domain.audit_log import AuditLogEntity

MAX_SHOWN_REASON = 120  # characters
EMPTY_META = msgspec.Raw(b"{}")  # of an entry without meta: absent, null, or NULL in the database
NULL = msgspec.Raw(b"null")
_CANONICAL_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")  # JSON allows them only between tokens


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An audit log entry as it is printed, from a channel or from the database."""

    id: str
    """In lower case with dashes, as the other ids."""
    user_id: str
    activity_type: str
    occurred_at: str
    """As `format_time` writes it: it sorts like the time."""
    entity_id: str | None = None
    entity_type: str | None = None
    meta: msgspec.Raw = EMPTY_META
    """One JSON value on one line, never null."""

    @property
    def moment(self) -> datetime:
        """`occurred_at`, in UTC."""
        return parse_wire_time(self.occurred_at)

    def to_json(self) -> bytes:
        """The promised line, without its newline."""
        return _encoder.encode(self)

    def to_dict(self) -> dict[str, Any]:
        """The entry's fields as JSON values, in the promised order.

        A `meta` beyond what Python's numbers and recursion can hold is its text.
        """
        return {
            "id": self.id,
            "user_id": self.user_id,
            "activity_type": self.activity_type,
            "occurred_at": self.occurred_at,
            "entity_id": self.entity_id,
            "entity_type": self.entity_type,
            "meta": _value(bytes(self.meta)),
        }


class OtherMessage(msgspec.Struct, frozen=True, gc=False):
    """A JSON object that is not an entry: an acknowledgment, a test message, anything."""

    raw: bytes

    def to_json(self) -> bytes:
        return on_one_line(self.raw)

    def to_dict(self) -> dict[str, Any]:
        value = _value(self.raw)
        return value if isinstance(value, dict) else {}


BEFORE_ALL = "0001-01-01T00:00:00.000000Z"


class UnreadableEntry(Unreadable, frozen=True):
    """A committed entry that cannot be shown as one: it occurred outside of the calendar."""

    id: str
    user_id: str

    @property
    def occurred_at(self) -> str:
        """Before every time that an entry can have."""
        return BEFORE_ALL

    def to_json(self) -> bytes:
        """The line that stands for it, without its newline."""
        return orjson.dumps({"id": self.id} | unreadable_fields(self))


Message = Entry | OtherMessage | Unreadable


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A message on its way to the output, and where it came from."""

    message: Message
    source: Literal["live", "history", "recovered"]
    """Recovered: from history, because it had not come live when it should have."""
    channel: str = ""
    raw: bytes | None = None
    """The payload as it came from the channel; None from the database."""
    replayed: bool = False
    """It was published again for subscribers that were away."""


def unreadable_entry(fields: Mapping[str, Any]) -> UnreadableEntry:
    """A row whose `occurred_at` is no time of the calendar; `fields` are an entry's."""
    return UnreadableEntry(
        _encoder.encode(fields),
        "occurred_at is not within the years 1 to 9999",
        id=fields["id"],
        user_id=fields["user_id"],
    )


def to_line(message: Message) -> bytes:
    """The line that is printed for it, without its newline; of what cannot be read, what it was."""
    if isinstance(message, Unreadable) and not isinstance(message, UnreadableEntry):
        return orjson.dumps(unreadable_fields(message))
    return message.to_json()


def entry_of(line: bytes) -> Entry | UnreadableEntry:
    """What `to_line` made the line of an entry from; never raises."""
    message = decode(line)
    if isinstance(message, Entry):
        return message
    read, id = unreadable_line(line) or (Unreadable(line, ""), None)
    return UnreadableEntry(read.raw, read.reason, id=id or "", user_id="")


def unreadable_fields(message: Unreadable) -> dict[str, str]:
    """What is shown of it: `raw` as text, why it cannot be read, and exactly what it was."""
    return {
        "unreadable": message.raw.decode("utf-8", "replace"),
        "reason": message.reason,
        "raw_base64": base64.b64encode(message.raw).decode(),
    }


def unreadable_line(line: bytes) -> tuple[Unreadable, str | None] | None:
    """What cannot be read, from the line that `to_line` made of it, and an entry's id.

    None for any other line. A line may be anybody's: the id is as it stands there.
    """
    try:
        read = _decode_unreadable(line)
        raw = base64.b64decode(read.raw_base64, validate=True)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return Unreadable(raw, read.reason[:MAX_SHOWN_REASON]), read.id


class _UnreadableLine(msgspec.Struct):
    reason: str
    raw_base64: str
    id: str | None = None


class _Envelope(msgspec.Struct):
    """An entry as publishers may write it."""

    id: str
    user_id: str
    activity_type: str
    occurred_at: str
    entity_id: str | None = None
    entity_type: str | None = None
    meta: msgspec.Raw = EMPTY_META
    replayed: bool = False


ENTRY_KEYS = frozenset(_Envelope.__struct_fields__)
"""What is no entry has none of them at its top, or could be taken for one."""
_encoder = msgspec.json.Encoder()
_decode_unreadable = msgspec.json.Decoder(_UnreadableLine).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode(payload: bytes) -> Message:
    """Decode a channel's payload; never raises."""
    return decode_marked(payload)[0]


def decode_marked(payload: bytes) -> tuple[Message, bool]:
    """Decode a payload, and tell whether it is marked as replayed; never raises."""
    try:
        if not payload.isascii():
            payload.decode()  # parts that are passed on undecoded must be UTF-8 too
        try:
            envelope = _decode_envelope(payload)
            return _entry(envelope), envelope.replayed
        except (msgspec.ValidationError, ValueError):
            _decode_object(payload)
            return OtherMessage(payload), False
    except UnicodeDecodeError:
        return Unreadable(payload, "not UTF-8"), False
    except msgspec.ValidationError:
        return Unreadable(payload, "not a JSON object"), False
    except (msgspec.DecodeError, RecursionError) as error:
        return Unreadable(payload, f"not JSON: {error}"[:MAX_SHOWN_REASON]), False


def decode_object(payload: bytes) -> dict[str, Any] | Unreadable:
    """Return the JSON object in `payload` as a dictionary; never raises."""
    try:
        value = orjson.loads(payload)
    except (orjson.JSONDecodeError, RecursionError) as error:
        return Unreadable(payload, f"not JSON: {error}"[:MAX_SHOWN_REASON])
    return value if isinstance(value, dict) else Unreadable(payload, "not a JSON object")


def encode(message: Mapping[str, Any]) -> bytes:
    """`message` as the bytes to publish; raises BadInput when it is not JSON."""
    try:
        return orjson.dumps(message, default=_plain)
    except TypeError as error:
        reason = str(error).replace("Recursion limit reached", "it is nested too deeply")
        raise BadInput(f"The message cannot be written as JSON: {reason}") from error


def parse_object(payload: bytes) -> dict[str, Any]:
    """A JSON object for `encode`, its values kept byte for byte; raises BadInput."""
    try:
        payload.decode()
        fields = _decode_object(payload)
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except msgspec.ValidationError as error:
        raise BadInput('not a JSON object, such as {"type": "test"}') from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}"[:MAX_SHOWN_REASON]) from error
    return {name: orjson.Fragment(bytes(value)) for name, value in fields.items()}


def acknowledgment(event_id: str, received_at: datetime) -> dict[str, Any]:
    """Return the message that acknowledges the entry `event_id`."""
    return {
        "type": "acknowledgment",
        "event_id": event_id,
        "received_at": format_time(received_at),
    }


def replay_message(entry: Entry) -> dict[str, Any]:
    """Return the message that is published for an entry that is replayed."""
    meta = orjson.Fragment(bytes(entry.meta))  # undecoded, however deep it is
    return msgspec.structs.asdict(entry) | {"meta": meta, "replayed": True}


def entity_message(entity: AuditLogEntity) -> dict[str, Any]:
    """Return the message that is broadcast for a committed entity."""
    return {
        "id": str(entity.id),
        "user_id": str(entity.user_id),
        "activity_type": entity.activity_type,
        "occurred_at": format_time(entity.occurred_at),
        "entity_id": None if entity.entity_id is None else str(entity.entity_id),
        "entity_type": entity.entity_type,
        "meta": entity.meta,
    }


def format_time(moment: datetime) -> str:
    """Write an aware time as ISO 8601 in UTC, with six decimals and `Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_wire_time(text: str) -> datetime:
    """Read an ISO 8601 time, as UTC where it names no zone; raises ValueError.

    Decimals beyond the sixth are rounded, as PostgreSQL does.
    """
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:  # within a day of either end of the calendar
        raise ValueError(f"{text} is not on the calendar in UTC") from error


def canonical_id(text: str) -> str:
    """Write a UUID in lower case with dashes; raises ValueError where it is none."""
    return text if _CANONICAL_ID.fullmatch(text) else str(uuid.UUID(text))


def on_one_line(json: bytes) -> bytes:
    """Return the same JSON without line breaks."""
    return json.translate(_LINE_BREAKS).strip()


def _entry(envelope: _Envelope) -> Entry:
    entity_id = envelope.entity_id
    return Entry(
        id=canonical_id(envelope.id),
        user_id=canonical_id(envelope.user_id),
        activity_type=envelope.activity_type,
        occurred_at=format_time(parse_wire_time(envelope.occurred_at)),
        entity_id=None if entity_id is None else canonical_id(entity_id),
        entity_type=envelope.entity_type,
        meta=EMPTY_META
        if envelope.meta == NULL
        else msgspec.Raw(on_one_line(bytes(envelope.meta))),
    )


def _value(json: bytes) -> Any:
    try:
        return orjson.loads(json)
    except (orjson.JSONDecodeError, RecursionError):
        return json.decode("utf-8", "replace")


def _plain(value: object) -> object:
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
