"""What a client of a socket says, understood or refused, and what is published for it.

Every byte is a stranger's. What is published has the sender, the time and the type that the server
gave it, and no key at its top that an entry has: nobody can make up an entry by a socket.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
import orjson

from lykke_cli.application.errors import BadInput, UsageMistake
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import (
    ENTRY_KEYS,
    acknowledgment,
    decode_object,
    format_time,
    parse_object,
)
from lykke_cli.application.times import parse_moment

MOST_BYTES = 64 << 10
MOST_LAST = 10**9
LONGEST_TIME = 100  # characters
LONGEST_EVENT_ID = 200  # characters

_ENTRY_KEYS = ", ".join(sorted(ENTRY_KEYS))
Json = orjson.Fragment
"""A JSON value, byte for byte as the client wrote it."""


class Token(msgspec.Struct, frozen=True):
    """Who the client is: before anything else, or to go on when the last one expires."""

    token: str

    def __repr__(self) -> str:
        return "Token(...)"


class Resume(msgspec.Struct, frozen=True):
    """Where the client begins: at one of these, and without any from now on."""

    cursor: str | None = None
    """As it came: it is opened elsewhere."""
    since: datetime | None = None
    last: int | None = None


class Broadcast(msgspec.Struct, frozen=True):
    """Something for all who follow the channel."""

    data: Json
    user_id: UUID | None = None
    """To whose channel it goes, where that is said."""

    def published(self, subject: str, at: datetime) -> Mapping[str, Any]:
        """What is published for it, from `subject`, that came `at` this time."""
        sent_at = format_time(at)
        return {
            "type": "client_broadcast",
            "data": self.data,
            "from": _clean(subject),
            "sent_at": sent_at,
        }


class Acknowledgment(msgspec.Struct, frozen=True):
    """The client has taken an entry."""

    event_id: str
    extra: Mapping[str, Json]
    """What else is in it; nothing of an entry's."""
    user_id: UUID | None = None
    """As of a Broadcast."""

    def published(self, subject: str, at: datetime) -> Mapping[str, Any]:
        """What is published for it, from `subject`, that came `at` this time."""
        ours = acknowledgment(self.event_id, at) | {"from": _clean(subject)}
        return ours | {key: self.extra[key] for key in self.extra.keys() - ours.keys()}


class Misunderstood(msgspec.Struct, frozen=True):
    """The client is told so, and goes on."""

    code: Literal["too_large", "not_json", "unknown_message", "bad_request"]
    """For programs."""
    message: str
    """The same in a sentence. Nothing in it is the client's."""


ClientMessage = Token | Resume | Broadcast | Acknowledgment


def parse(
    frame: str | bytes,
    *,
    most: int = MOST_BYTES,
    names_user: bool = False,
    now: datetime | None = None,
) -> ClientMessage | Misunderstood:
    """What a frame of at most so many bytes says; never raises. Times before `now` refer to it.

    With `names_user` a `user_id` says to whose channel it goes; without, it has no such meaning.
    """
    try:
        data = frame.encode() if isinstance(frame, str) else frame
    except UnicodeEncodeError:
        return Misunderstood("not_json", "The message is not UTF-8.")
    if len(data) > most:
        return Misunderstood("too_large", f"The message has more than {most} bytes.")
    fields = decode_object(data)
    if isinstance(fields, Unreadable):
        return Misunderstood("not_json", f"The message is {fields.reason.partition(':')[0]}.")
    try:
        raw = parse_object(data)
        user = None
        if names_user:
            user, _ = fields.pop("user_id", None), raw.pop("user_id", None)
        message = _understood(fields, raw, now or datetime.now(UTC))
        return message if user is None else _addressed(message, user)
    except BadInput as error:  # what orjson reads and msgspec does not
        return Misunderstood("not_json", f"The message is {error.problem.partition(':')[0]}.")


def _understood(
    fields: dict[str, Any], raw: dict[str, Json], now: datetime
) -> ClientMessage | Misunderstood:
    """`fields` are the values of `raw`."""
    match fields:
        case {"type": "token", "token": str(token)} if token:
            return Token(token)
        case {"type": "token"}:
            return _wrong("A token is a text: type and token.")
        case {"type": "resume"}:
            return _resume(fields, now)
        case {"type": "acknowledgment"}:
            return _acknowledgment(fields, raw)
        case {"broadcast": True, "data": _}:
            return Broadcast(raw["data"])
        case {"broadcast": True}:
            return _wrong("A broadcast has data, which may be null.")
    return Misunderstood(
        "unknown_message",
        "A message has a type that is token, resume or acknowledgment, or broadcast that is true.",
    )


def _addressed(
    message: ClientMessage | Misunderstood, user: object
) -> ClientMessage | Misunderstood:
    if not isinstance(message, Broadcast | Acknowledgment):
        return message
    try:
        return msgspec.structs.replace(message, user_id=UUID(str(user)))
    except ValueError:
        return _wrong("user_id is no UUID: it says to whose channel a message goes.")


def _resume(fields: dict[str, Any], now: datetime) -> Resume | Misunderstood:
    given = {key: fields[key] for key in ("cursor", "since", "last") if fields.get(key) is not None}
    match given:
        case {} if not given:
            return Resume()
        case {"cursor": str(cursor)} if len(given) == 1:
            return Resume(cursor=cursor)
        case {"since": str(text)} if len(given) == 1:
            try:
                return Resume(since=parse_moment(text[:LONGEST_TIME], now))
            except UsageMistake:
                return _wrong("since is no time: write it like 15m or 2026-01-31T12:00:00Z.")
        case {"last": int(last)} if len(given) == 1 and not isinstance(last, bool):
            if 1 <= last <= MOST_LAST:
                return Resume(last=last)
    return _wrong(
        "A resume has one of cursor, a text, since, a time, and last, a number from 1 on; or none."
    )


def _acknowledgment(fields: dict[str, Any], raw: dict[str, Json]) -> Acknowledgment | Misunderstood:
    event_id = fields.get("event_id")
    if not isinstance(event_id, str) or not 1 <= len(event_id) <= LONGEST_EVENT_ID:
        return _wrong("An acknowledgment has an event_id: the id of an entry.")
    if not ENTRY_KEYS.isdisjoint(raw):
        return _wrong(f"An acknowledgment has none of an entry's keys: {_ENTRY_KEYS}.")
    return Acknowledgment(event_id, {key: raw[key] for key in raw.keys() - {"type", "event_id"}})


def _wrong(sentence: str) -> Misunderstood:
    return Misunderstood("bad_request", sentence)


def _clean(subject: str) -> str:
    """Without what is no Unicode; a token's JSON may have it."""
    return subject.encode(errors="replace").decode()
