"""What the frames of a bridge come to, for each user and for all of them together.

Pure decisions, like those of `merge.py`: no I/O, no clock, no tasks. `remote_tail.py` does the
waiting. How an entry is printed exactly once:

* The bridge sends each entry once from a cursor on, and a cursor with each frame that covers all
  it has sent before. After a break it goes on from the last cursor that came.
* So what may come twice are entries that were printed and no cursor covers. Their ids are kept:
  `open` on this connection, and `unconfirmed` those of earlier ones and of an earlier run.
* A place is saved with one user's cursor beside the others', once each of them has one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from lykke_cli.application.bridge_frames import (
    CaughtUp,
    Frame,
    Heartbeat,
    Noticed,
    OneEntry,
    Opening,
    Problem,
    Reconnect,
    ServersAre,
    SeveralEntries,
    Subscribed,
    messages_of,
    opening,
)
from lykke_cli.application.bridge_refusals import (
    in_brackets,
    not_ready,
    on_one_line,
    place_refused,
    reading_refused,
    request_refused,
    token_refused,
)
from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.application.gateways.bridge_protocol import (
    BridgeClosed,
    BridgeRefused,
)
from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.gateways.pubsub_protocol import Channel, Gap, Unreadable, in_words
from lykke_cli.application.live_only import LiveOnly
from lykke_cli.application.merge import KEPT_IDS, Checkpoint, Print, Save
from lykke_cli.application.messages import (
    Arrival,
    Entry,
    Message,
    OtherMessage,
    UnreadableEntry,
)
from lykke_cli.application.statuses import Connected, Disconnected, HistoryAway, HistoryRead, Notice
from lykke_cli.application.tail import Event, TailRequest

LONGEST_PAUSE = 60.0  # seconds that a bridge may ask for before it is tried again
_KEY = "bridge"
_TOKEN_NEEDED, _NOT_ALLOWED, _NOT_UNDERSTOOD = 4401, 4403, 4400
_REASONS = {  # of close codes after which it is tried again
    1000: "ended the connection",
    1001: "is going away",
    1011: "failed",
    1012: "is restarted",
    1013: "is not ready",
    4408: "found this side too slow",
    4429: "has too many connections or messages from here",
}


class _Side(msgspec.Struct):
    """One user's connection, and what came on it."""

    cursor: str | None = None
    open: dict[str, str] = msgspec.field(default_factory=dict)
    """Ids of entries that came since the cursor, with occurred_at."""
    is_subscribed: bool = False
    has_begun: bool = False
    is_live: bool = False
    """What is published comes: through this connection, and to the bridge."""
    history_is_away: bool = False
    is_caught_up: bool = False
    was_caught_up: bool = False
    problem: Problem | None = None
    """What the bridge told of before it closed."""
    pause: float = 0.0


class RemoteMerge:
    """Merges what one bridge sends of several users; `name` is the bridge's, as it may be shown.

    What a method returns is to be carried out in order.
    """

    def __init__(self, name: str, request: TailRequest, *, keep: int = KEPT_IDS) -> None:
        self._name = name
        self._request = request
        self._keep = keep
        users = sorted(request.user_ids or ())
        self._channels = {user: Channel(user) for user in users}
        resume = request.resume
        cursors = _cursors_in(resume)
        self._sides = {user: _Side(cursors.get(str(user))) for user in users}
        self._unconfirmed = dict(resume.pending) if resume else {}
        self._latest = LiveOnly(keep)  # drops what a bridge repeats that is not as it should be
        self._recovered = 0
        self._gone_since: datetime | None = None
        self._has_connected = False
        self._was_away = False  # the bridge's database, since the history was read last
        self._told: set[str] = set()  # in this outage

    @property
    def remembered(self) -> int:
        """How many ids are kept that a place needs."""
        return len(self._unconfirmed) + sum(len(side.open) for side in self._sides.values())

    def has_begun(self, user_id: UUID) -> bool:
        """Whether the user was followed in this run: what fails from now on is tried again."""
        return self._sides[user_id].has_begun

    def opening(self, user_id: UUID) -> Opening:
        """How to begin on a new connection."""
        side, request = self._sides[user_id], self._request
        side.problem, side.pause = None, 0.0
        return opening(cursor=side.cursor, since=request.since, last=request.last)

    def pause(self, user_id: UUID) -> float:
        """How many seconds the bridge wants to be left alone before the next connection."""
        return self._sides[user_id].pause

    def heard(self, user_id: UUID, frame: Frame, now: datetime) -> list[Event]:
        """A frame came. Raises BridgeRefused for one after which nothing can go on."""
        side = self._sides[user_id]
        events: list[Event] = []
        match frame:
            case Subscribed():
                if frame.user_id != user_id:
                    raise BridgeRefused(f"The bridge at {self._name} answers for another user.")
                side.is_subscribed = True
            case Noticed():
                return [Notice(on_one_line(frame.message, _LONGEST_NOTICE))]
            case ServersAre():
                return self._servers_are(side, frame.state, now)
            case Problem():
                side.problem = frame  # it closes as well, which tells the rest
                if frame.code == _CURSOR_REFUSED:
                    raise place_refused(self._name, frame.message, at_start=not side.has_begun)
                return []
            case Reconnect():
                side.pause = min(frame.after_ms / 1000, LONGEST_PAUSE)
                return []
            case OtherMessage() | Unreadable():
                return self._print(user_id, side, [frame])
        if side.is_subscribed and (frame.cursor or side.cursor):
            events += self._came(side, now)
        match frame:
            case OneEntry() | SeveralEntries():
                events += self._print(user_id, side, list(messages_of(frame, user_id)))
            case CaughtUp():
                events += self._caught_up(side, now)
            case Subscribed() | Heartbeat():
                pass
        return [*events, *self._reached(side, frame.cursor)]

    def closed(self, user_id: UUID, error: BridgeClosed, *, may_log_in: bool) -> list[Event]:
        """The connection ended; with `may_log_in` there is another token to try.

        Raises LoginRefused or BridgeRefused where nothing but another token or place would help,
        and ServerUnavailable while the user was not followed yet.
        """
        side = self._sides[user_id]
        told = side.problem.message if side.problem is not None else ""
        why = told or error.reason
        if error.code == _TOKEN_NEEDED and not may_log_in:
            raise token_refused(self._name, why)
        if error.code == _NOT_ALLOWED:
            raise reading_refused(self._name, why)
        if error.code == _NOT_UNDERSTOOD:
            raise request_refused(self._name, why)
        if error.code == _TOKEN_NEEDED:
            what = "wants the new token"
        else:
            what = _REASONS.get(error.code, "broke off the connection")
        if not side.has_begun:
            raise not_ready(self._name, why, what=what)
        reason = f"The bridge at {self._name} {what}{in_brackets(why)}"
        return self._gone(side, reason, error.since)

    def unreachable(self, error: ServerUnavailable) -> list[Event]:
        """A new connection was not to be had; told once in an outage."""
        text = str(error)
        if text in self._told:
            return []
        self._told.add(text)
        return [Notice(text)]

    def checkpoint(self) -> Checkpoint | None:
        """Where all of it stands; None before each user has a cursor."""
        cursors = {str(user): side.cursor for user, side in self._sides.items()}
        if None in cursors.values():
            return None
        pending = dict(self._unconfirmed)
        for side in self._sides.values():
            pending |= side.open
        return Checkpoint(Cursor({_KEY: cursors}), pending, None)

    def _print(self, user_id: UUID, side: _Side, messages: Sequence[Message]) -> list[Event]:
        source: Literal["live", "history", "recovered"] = "live"
        if not side.is_caught_up:
            source = "recovered" if side.was_caught_up else "history"
        channel = self._channels[user_id].name if source == "live" else ""
        arrivals = []
        for message in messages:
            if isinstance(message, Entry | UnreadableEntry):
                is_known = message.id in side.open
                is_known |= self._unconfirmed.pop(message.id, None) is not None
                side.open[message.id] = message.occurred_at
                if is_known:
                    continue
            arrivals.append(Arrival(message, source, channel))
        events: list[Event] = []
        for action in self._latest.live(self._request.filters.select(arrivals)):
            if isinstance(action, Print):
                events.append(action)
                self._recovered += len(action.arrivals) if source == "recovered" else 0
        return events

    def _reached(self, side: _Side, cursor: str | None) -> list[Event]:
        """A frame came; its cursor, if it has one, covers all that came before it."""
        if cursor is None:  # what came without one, a place names by its ids
            is_further = bool(side.open)
        else:
            side.open.clear()
            is_further, side.cursor = cursor != side.cursor, cursor
        checkpoint = self.checkpoint() if is_further else None
        return [] if checkpoint is None else [Save(checkpoint)]

    def _came(self, side: _Side, now: datetime) -> list[Event]:
        """The user is followed, or again."""
        if side.is_live:
            return []
        side.is_live = side.has_begun = True
        if not all(each.is_live for each in self._sides.values()):
            return []
        gone_since, self._gone_since = self._gone_since, None
        self._told.clear()
        gap = None if gone_since is None else Gap(gone_since, now)
        self._has_connected = True
        return [Connected(f"{in_words(self._channels.values())} at {self._name}", gap)]

    def _gone(self, side: _Side, reason: str, since: datetime) -> list[Event]:
        """The connection ended."""
        self._unconfirmed |= side.open
        side.open = {}
        while len(self._unconfirmed) > self._keep:
            del self._unconfirmed[next(iter(self._unconfirmed))]
        side.is_subscribed = side.history_is_away = False
        return self._not_live(side, reason, since)

    def _not_live(self, side: _Side, reason: str, since: datetime) -> list[Event]:
        side.is_live = side.is_caught_up = False
        if self._gone_since is not None or not self._has_connected:
            return []
        self._gone_since = since
        return [Disconnected(reason, since)]

    def _caught_up(self, side: _Side, now: datetime) -> list[Event]:
        events = self._came(side, now)
        was_caught_up = side.is_caught_up
        side.is_caught_up = side.was_caught_up = True
        return events if was_caught_up else [*events, *self._read()]

    def _read(self) -> list[Event]:
        """What there was has come, unless that is not so for another user."""
        sides = self._sides.values()
        if not all(side.is_caught_up and not side.history_is_away for side in sides):
            return []
        read = HistoryRead(self._recovered, self._was_away)
        self._recovered, self._was_away = 0, False
        return [read]

    def _servers_are(self, side: _Side, state: str, now: datetime) -> list[Event]:
        match state:
            case "redis_away":
                reason = f"The bridge at {self._name} has lost Redis"
                return self._not_live(side, reason, now) if side.is_live else []
            case "database_away":
                side.history_is_away, was_away = True, self._was_away
                self._was_away = True
                if was_away:
                    return []
                return [HistoryAway(f"The bridge at {self._name} cannot read its database")]
            case "live":
                came = self._came(side, now) if side.is_subscribed and side.cursor else []
                was_away, side.history_is_away = side.history_is_away, False
                return [*came, *self._read()] if was_away else came
        return []


_CURSOR_REFUSED = "cursor_refused"
_LONGEST_NOTICE = 400  # characters


def _cursors_in(resume: Checkpoint | None) -> dict[str, str]:
    if resume is None or resume.cursor is None:
        return {}
    found = resume.cursor.data.get(_KEY)
    cursors = found if isinstance(found, dict) else {}
    return {str(user): cursor for user, cursor in cursors.items() if isinstance(cursor, str)}
