"""What clients are sent, put together from what a hub gives. Pure; no entry is decoded.

A frame is a JSON object. Its cursor covers all that was sent up to it. Of several frames that were
taken at once only the last with an entry has one: who comes back with the cursor before it gets
them all again, and knows them by their ids.

Anybody who may publish decides what a channel carries. Only what the hub calls an entry becomes
`auditlog`. What else came is shown with its own type where that is none of ours, and it has
nothing that is called a cursor; anything else is put into the `data` of a `message`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import is_
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec
import orjson

from lykke_cli.application.hub_reader import PORTION_BYTES, PORTION_LINES
from lykke_cli.application.journal import Line, Portion
from lykke_cli.application.merge import Checkpoint

MOST_ENTRIES, MOST_BYTES = PORTION_LINES, PORTION_BYTES
"""Of the entries in one frame; a single one may be larger."""
MOST_SHARED = 64 << 10  # bytes; more is of one reader's history
OURS = frozenset(
    "subscribed auditlog auditlog_batch caught_up heartbeat status notice error reconnect message "
    "token resume".split()
)
_PLAIN_TYPE = re.compile(r"[\w.-]{1,64}", re.ASCII)
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class Frame(msgspec.Struct, frozen=True):
    """One message to a client."""

    type: str
    body: bytes
    """The JSON object, up to where its cursor comes, without the brace that closes it."""
    has_cursor: bool = True
    """Whether its type has one."""
    cursor: str | None = None
    """None: what was sent up to here is not yet covered by one."""
    entries: int = 0


Message = dict[str, Any]
"""Of ASGI."""
Render = Callable[[Frame], Message]


def entry_frames(lines: Sequence[Line], cursor: str | None) -> list[Frame]:
    """The frames of what a reader took at once; `cursor` covers all of it."""
    frames = [*_frames(lines)]
    for index in range(len(frames) - 1, -1, -1):
        if frames[index].entries:
            frames[index] = with_cursor(frames[index], cursor)
            break
    return frames


def plain_frames(lines: Sequence[Line], cursor: str | None) -> list[Frame]:
    """The same without cursors, and each entry in a frame of its own."""
    return [
        _other(line) if line.id is None else _entry(line, has_cursor=False)
        for line in lines
        if not line.is_notice
    ]


def own_frame(type: str, **fields: object) -> Frame:
    """A message of the server's own, without a cursor."""
    return Frame(type, orjson.dumps({"type": type} | fields)[:-1], has_cursor=False)


def notice_frame(text: str) -> Frame:
    """The database has lost something: entries that were sent before may come again."""
    return own_frame("notice", message=text)


def with_cursor(frame: Frame, cursor: str | None) -> Frame:
    """The same with one, or with null in its place."""
    return msgspec.structs.replace(frame, has_cursor=True, cursor=cursor)


def as_json(frame: Frame) -> bytes:
    """The whole object."""
    tail = b"}"
    if frame.has_cursor:
        tail = b',"cursor":null}' if frame.cursor is None else b',"cursor":"%b"}' % _ascii(frame)
    return frame.body + tail


def as_text(frame: Frame) -> Message:
    """The frame on a WebSocket."""
    return {"type": "websocket.send", "text": as_json(frame).decode()}


def as_event(frame: Frame) -> Message:
    """The frame as a Server-Sent Event; the browser's EventSource keeps the last `id`."""
    id = b"" if frame.cursor is None else b"id: %b\n" % _ascii(frame)
    kind = frame.type if _PLAIN_TYPE.fullmatch(frame.type) else "message"
    text = b"%bevent: %b\ndata: %b}\n\n" % (id, kind.encode(), frame.body)
    return {"type": "http.response.body", "body": text, "more_body": True}


class Dialect(msgspec.Struct, frozen=True, eq=False):
    """How a kind of client is spoken to."""

    frames: Callable[[Sequence[Line], str | None], list[Frame]]
    render: Render
    is_plain: bool = False
    """It knows entries and the channel's own messages, and nothing of a bridge."""


LYKKE_V1 = Dialect(entry_frames, as_text)
PLAIN = Dialect(plain_frames, as_text, is_plain=True)
EVENTS = Dialect(entry_frames, as_event)


class Rendered(msgspec.Struct, frozen=True):
    """What a reader took, ready to be sent."""

    messages: Sequence[Message]
    entries: int


class Renderer:
    """Renders what readers of one user take, in one dialect; who take the same share it."""

    __slots__ = ("__weakref__", "_dialect", "_newest", "_rendered", "_seal")

    def __init__(self, dialect: Dialect, seal: Callable[[Checkpoint], str]) -> None:
        self._dialect = dialect
        self._seal = seal
        self._newest = Portion((), None)
        self._rendered = Rendered((), 0)

    def cursor(self, checkpoint: Checkpoint | None) -> str | None:
        """The text with which a client goes on from there."""
        return None if checkpoint is None else self._seal(checkpoint)

    def of(self, portion: Portion) -> Rendered:
        """What is sent for it."""
        if portion is self._newest or _are_alike(portion, self._newest):
            return self._rendered
        cursor = None if self._dialect.is_plain else self.cursor(portion.checkpoint)
        frames = self._dialect.frames(portion.lines, cursor)
        rendered = Rendered(
            [self._dialect.render(frame) for frame in frames],
            sum(frame.entries for frame in frames),
        )
        if sum(len(line.data) for line in portion.lines) <= MOST_SHARED:
            self._newest, self._rendered = portion, rendered
        return rendered


class Frames:
    """The renderers of those who are followed, for as long as somebody does."""

    def __init__(self, seal: Callable[[UUID | None, Checkpoint], str]) -> None:
        self._seal = seal
        self._renderers: WeakValueDictionary[tuple[UUID | None, Dialect], Renderer] = (
            WeakValueDictionary()
        )

    def renderer(self, user_id: UUID | None, dialect: Dialect) -> Renderer:
        """The one for this user, or for every user's entries."""
        key = user_id, dialect
        renderer = self._renderers.get(key)
        if renderer is None:
            renderer = Renderer(dialect, partial(self._seal, user_id))
            self._renderers[key] = renderer
        return renderer


def _are_alike(portion: Portion, other: Portion) -> bool:
    """Whether it is the very same lines, and an equal checkpoint after them."""
    lines, others = portion.lines, other.lines
    are_same = len(lines) == len(others) and all(map(is_, lines, others))
    return are_same and portion.checkpoint == other.checkpoint


def _frames(lines: Sequence[Line]) -> Iterator[Frame]:
    for is_entry, run in groupby(lines, lambda line: line.id is not None):
        if is_entry:
            yield from _batches(run)
        else:
            yield from map(_other, run)


def _batches(entries: Iterable[Line]) -> Iterator[Frame]:
    batch: list[Line] = []
    size = 0
    for line in entries:
        if batch and (len(batch) == MOST_ENTRIES or size + len(line.data) > MOST_BYTES):
            yield _batch(batch)
            batch, size = [], 0
        batch.append(line)
        size += len(line.data)
    yield _batch(batch)


def _batch(batch: Sequence[Line]) -> Frame:
    if len(batch) == 1:
        return _entry(batch[0])
    data = b",".join([line.data for line in batch])
    body = b'{"type":"auditlog_batch","data":[%b]' % data
    return Frame("auditlog_batch", body, entries=len(batch))


def _entry(line: Line, *, has_cursor: bool = True) -> Frame:
    return Frame("auditlog", b'{"type":"auditlog","data":%b' % line.data, has_cursor, entries=1)


def _other(line: Line) -> Frame:
    """A notice, or what came on the channel and is no entry.

    Its fields are written anew: of a key that is there twice every reader then sees the same.
    """
    if line.is_notice:
        return notice_frame(line.data.decode())
    try:
        fields = _decode_fields(line.data)
        kind = _decode_text(fields["type"])
    except (msgspec.MsgspecError, KeyError, RecursionError):
        kind = "message"
    if kind in OURS or "cursor" in fields:
        return Frame("message", b'{"type":"message","data":%b' % line.data, has_cursor=False)
    return Frame(kind, msgspec.json.encode(fields)[:-1], has_cursor=False)


def _ascii(frame: Frame) -> bytes:
    return (frame.cursor or "").encode("ascii")
