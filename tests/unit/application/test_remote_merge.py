"""What a bridge sends is printed exactly once, wherever the connection is cut or the process dies.

The model of a bridge keeps its word and no more: from a cursor on it sends each entry once, in
any order, and each cursor covers what was sent before it.
"""

import random
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson
import pytest

from lykke_cli.application.bridge_frames import decode_frame
from lykke_cli.application.errors import LoginRefused, ServerUnavailable
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.bridge_protocol import (
    BridgeClosed,
    BridgeRefused,
    PlaceRefused,
)
from lykke_cli.application.gateways.pubsub_protocol import Gap, Unreadable
from lykke_cli.application.merge import Print, Save
from lykke_cli.application.messages import Entry, UnreadableEntry
from lykke_cli.application.place import Place
from lykke_cli.application.remote_merge import LONGEST_PAUSE, RemoteMerge
from lykke_cli.application.statuses import Connected, Disconnected, HistoryAway, HistoryRead, Notice
from lykke_cli.application.tail import Event, TailRequest
from tests.builders import entity, wire

SCHEDULES = 600
STEPS = 60
NAME = "https://lykke.example"
USER, OTHER = uuid.UUID(int=7), uuid.UUID(int=8)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
LOST = BridgeClosed(code=1006, since=NOW)


class Store:
    """A place in memory, as JSON."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def load(self) -> Sequence[dict[str, Any]] | None:
        return [orjson.loads(line) for line in self._lines] or None

    def save(self, state: dict[str, Any]) -> None:
        self._lines = [orjson.dumps(state)]

    def add(self, change: dict[str, Any]) -> None:
        self._lines.append(orjson.dumps(change))

    def set_aside(self) -> None:
        raise AssertionError("it is not damaged")


def said(merge: RemoteMerge, user: uuid.UUID = USER) -> dict[str, Any]:
    """Where a new connection begins."""
    opening = merge.opening(user)
    first: dict[str, Any] = orjson.loads(opening.first or b"{}")
    return first | dict(opening.query)


class Bridge:
    """What is committed for each user, and what has been sent on the connections there are."""

    def __init__(self, users: Sequence[uuid.UUID], rng: random.Random) -> None:
        self.committed: dict[uuid.UUID, dict[str, bytes]] = {user: {} for user in users}
        self._covered: dict[str, frozenset[str]] = {}  # by cursor
        self._sent: dict[uuid.UUID, set[str]] = {}  # by user who is connected
        self._rng = rng

    def commit(self, user: uuid.UUID) -> None:
        new = entity(user)
        self.committed[user][str(new.id)] = wire(new)

    def greet(self, user: uuid.UUID, opening: dict[str, Any]) -> dict[str, Any]:
        cursor = opening.get("cursor")
        self._sent[user] = set() if cursor is None else set(self._covered[cursor])
        known = None if cursor is None else self._cursor(user)
        return {"type": "subscribed", "user_id": str(user), "exact": True, "cursor": known}

    def frame(self, user: uuid.UUID) -> dict[str, Any]:
        """The next one: some of the entries that were not sent, or that there are none."""
        sent = self._sent[user]
        left = [id for id in self.committed[user] if id not in sent]
        if not left:
            return {"type": "caught_up", "cursor": self._cursor(user)}
        some = self._rng.sample(left, min(len(left), self._rng.randint(1, 4)))
        sent.update(some)
        data = [orjson.Fragment(self.committed[user][id]) for id in some]
        kind, value = "auditlog_batch", data if len(data) > 1 else data[0]
        kind = kind if len(data) > 1 else "auditlog"
        cursor = self._cursor(user) if self._rng.random() < 0.8 else None
        return {"type": kind, "data": value, "cursor": cursor}

    def _cursor(self, user: uuid.UUID) -> str:
        cursor = f"c{len(self._covered)}"
        self._covered[cursor] = frozenset(self._sent[user])
        return cursor


class World:
    """Processes, one after another, that follow a bridge into one file."""

    def __init__(self, seed: int, users: Sequence[uuid.UUID]) -> None:
        self.rng = random.Random(seed)
        self.bridge = Bridge(users, self.rng)
        self.file: list[str] = []
        self._users = users
        self._store = Store()
        self._start()

    def _start(self) -> None:
        """A process begins: the file is cut to the length that the place knows."""
        self._place = Place(self._store)
        resume = self._place.load()
        del self.file[self._place.output.get("length", 0) :]
        request = TailRequest(user_ids=set(self._users), since=SINCE, resume=resume)
        self._merge = RemoteMerge(NAME, request)
        self._connected: set[uuid.UUID] = set()
        self._events: list[Event] = []

    def step(self) -> None:
        user = self.rng.choice(self._users)
        match self.rng.choices(range(5), (4, 8, 1, 1, 4))[0]:
            case 0:
                self.bridge.commit(user)
            case 1 if user in self._connected:
                self._hear(user, self.bridge.frame(user))
            case 1:
                self._connect(user)
            case 2 if user in self._connected:
                self.bridge.frame(user)  # on its way when the connection breaks
                self._connected.discard(user)
                if self._merge.has_begun(user):
                    self._events += self._merge.closed(user, LOST, may_log_in=False)
                else:
                    self.die()
            case 3:
                self.die()
            case 4:
                self._carry_out(self.rng.randint(1, 3))

    def die(self) -> None:
        """At any moment, such as in the middle of writing."""
        if self._events and isinstance(self._events[0], Print):
            arrivals = self._events[0].arrivals
            self._write(arrivals[: self.rng.randint(0, len(arrivals))])
            if self.rng.random() < 0.5:
                self._save()
        self._start()

    def finish(self) -> None:
        """Everything comes to rest."""
        for user in self._users:
            if user not in self._connected:
                self._connect(user)
            while (frame := self.bridge.frame(user))["type"] != "caught_up":
                self._hear(user, frame)
            self._hear(user, frame)
        self._carry_out(len(self._events))

    def _connect(self, user: uuid.UUID) -> None:
        self._connected.add(user)
        self._hear(user, self.bridge.greet(user, said(self._merge, user)))

    def _hear(self, user: uuid.UUID, frame: dict[str, Any]) -> None:
        self._events += self._merge.heard(user, decode_frame(orjson.dumps(frame)), NOW)

    def _carry_out(self, number: int) -> None:
        done, self._events = self._events[:number], self._events[number:]
        for event in done:
            match event:
                case Print(arrivals):
                    self._write(arrivals)
                case Save(checkpoint):
                    self._place.reached(checkpoint)
            if self.rng.random() < 0.3:
                self._save()

    def _write(self, arrivals: Sequence[Any]) -> None:
        self.file += [arrival.message.id for arrival in arrivals]
        self._place.wrote(arrivals)

    def _save(self) -> None:
        self._place.output = {"length": len(self.file)}
        self._place.save()


@pytest.mark.parametrize("users", [[USER], [USER, OTHER]], ids=["one", "two"])
@pytest.mark.parametrize("part", range(4))
def test_every_entry_is_in_the_file_once_in_every_schedule(
    part: int, users: list[uuid.UUID]
) -> None:
    for seed in range(part, SCHEDULES, 4):
        world = World(seed, users)
        for _ in range(STEPS):
            world.step()
        world.finish()
        committed = Counter(id for entries in world.bridge.committed.values() for id in entries)
        assert Counter(world.file) == committed, f"seed {seed}"


def a_merge(*users: uuid.UUID, **options: Any) -> RemoteMerge:
    return RemoteMerge(NAME, TailRequest(user_ids=set(users or (USER,)), **options))


def hear(merge: RemoteMerge, *frames: dict[str, Any], user: uuid.UUID = USER) -> list[Event]:
    decoded = [decode_frame(orjson.dumps(frame)) for frame in frames]
    return [event for frame in decoded for event in merge.heard(user, frame, NOW)]


def subscribed(user: uuid.UUID = USER, **fields: Any) -> dict[str, Any]:
    return {"type": "subscribed", "user_id": str(user), "cursor": "c0", **fields}


def an_entry(user: uuid.UUID = USER, cursor: str | None = "c1", **fields: Any) -> dict[str, Any]:
    new = entity(user, **fields)
    return {"type": "auditlog", "data": orjson.Fragment(wire(new)), "cursor": cursor}


CAUGHT_UP = {"type": "caught_up", "cursor": "c9"}


def sources(events: Sequence[Event]) -> list[str]:
    return [a.source for event in events if isinstance(event, Print) for a in event.arrivals]


def test_what_comes_is_history_then_live_and_after_a_break_recovered() -> None:
    merge = a_merge(last=5)
    events = hear(merge, subscribed(), an_entry(), CAUGHT_UP, an_entry())
    events += merge.closed(USER, LOST, may_log_in=False)
    events += hear(merge, subscribed(), an_entry(), an_entry(), CAUGHT_UP, an_entry())
    assert sources(events) == ["history", "live", "recovered", "recovered", "live"]
    told = [event for event in events if not isinstance(event, Print | Save)]
    name = f"auditlog:{USER} at {NAME}"
    reason = f"The bridge at {NAME} broke off the connection"
    assert told == [
        Connected(name, None),
        HistoryRead(0, False),
        Disconnected(reason, NOW),
        Connected(name, Gap(NOW, NOW)),
        HistoryRead(2, False),
    ]


def test_it_goes_on_from_the_last_cursor_and_begins_where_it_is_asked_to() -> None:
    merge = a_merge(since=SINCE, last=3)
    assert said(merge) == {"since": "2026-01-01T00:00:00.000000Z", "last": "3"}
    hear(merge, subscribed(), an_entry(cursor="c5"), an_entry(cursor=None))
    assert said(merge) == {"type": "resume", "cursor": "c5"}
    assert said(a_merge()) == {"type": "resume"}


def test_a_place_is_saved_once_every_user_has_a_cursor() -> None:
    merge = a_merge(USER, OTHER)
    assert not [e for e in hear(merge, subscribed(), an_entry()) if isinstance(e, Save)]
    [connected, save] = hear(merge, subscribed(OTHER), user=OTHER)
    assert isinstance(connected, Connected) and isinstance(save, Save)
    assert save.checkpoint.cursor is not None
    assert save.checkpoint.cursor.data == {"bridge": {str(USER): "c1", str(OTHER): "c0"}}
    again = RemoteMerge(NAME, TailRequest(user_ids={USER, OTHER}, resume=save.checkpoint))
    assert said(again)["cursor"] == "c1"


def test_a_break_of_several_users_is_told_once_and_its_end_when_all_are_there() -> None:
    merge = a_merge(USER, OTHER)
    hear(merge, subscribed(), CAUGHT_UP)
    hear(merge, subscribed(OTHER), CAUGHT_UP, user=OTHER)
    told = merge.closed(USER, LOST, may_log_in=False)
    assert [type(event) for event in told] == [Disconnected]
    assert merge.closed(OTHER, LOST, may_log_in=False) == []
    unreachable = ServerUnavailable("Cannot reach it.")
    assert merge.unreachable(unreachable) == [Notice("Cannot reach it.")]
    assert merge.unreachable(unreachable) == []
    assert not [e for e in hear(merge, subscribed()) if not isinstance(e, Save)]
    assert [type(e) for e in hear(merge, subscribed(OTHER), user=OTHER)] == [Connected, Save]
    assert hear(merge, {"type": "caught_up"}) == []
    assert [type(e) for e in hear(merge, {"type": "caught_up"}, user=OTHER)] == [HistoryRead]


def test_what_happens_to_the_servers_behind_the_bridge_is_told() -> None:
    merge = a_merge()
    hear(merge, subscribed(), CAUGHT_UP)
    [gone] = hear(merge, {"type": "status", "state": "redis_away", "since": "now"})
    assert isinstance(gone, Disconnected)
    events = hear(merge, an_entry(), {"type": "status", "state": "live"}, CAUGHT_UP)
    assert sources(events) == ["recovered"]
    told = [type(event) for event in events if not isinstance(event, Print | Save)]
    assert told == [Connected, HistoryRead]
    [away] = hear(merge, {"type": "status", "state": "database_away"})
    assert isinstance(away, HistoryAway)
    assert sources(hear(merge, an_entry())) == ["live"]
    assert hear(merge, {"type": "status", "state": "live"}) == [HistoryRead(0, True)]
    assert not hear(merge, {"type": "status", "state": "live"})


def test_that_all_has_come_may_be_told_before_the_servers_are_there_again() -> None:
    merge = a_merge()
    hear(merge, subscribed(), CAUGHT_UP, {"type": "status", "state": "redis_away"})
    events = hear(merge, an_entry(), CAUGHT_UP, {"type": "status", "state": "live"}, an_entry())
    assert sources(events) == ["recovered", "live"]
    told = [type(event) for event in events if not isinstance(event, Print | Save)]
    assert told == [Connected, HistoryRead]
    away = [{"type": "status", "state": "database_away"}, CAUGHT_UP]
    assert [type(event) for event in hear(merge, *away)] == [HistoryAway, Save]
    assert hear(merge, {"type": "status", "state": "live"}) == [HistoryRead(0, True)]


def test_that_something_may_come_again_is_told_on_one_line() -> None:
    [notice] = hear(a_merge(), {"type": "notice", "message": "entries may\n come \x1b twice " * 99})
    assert isinstance(notice, Notice)
    assert notice.text.startswith("entries may come \x1b twice entries") and len(notice.text) == 400


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (4401, LoginRefused, "refused the login (your token is old)"),
        (4403, LoginRefused, "does not permit that (your token is old)"),
        (4400, BridgeRefused, "does not understand the request (your token is old)"),
    ],
)
def test_what_only_a_person_can_mend_ends_it(code: int, kind: type[Exception], said: str) -> None:
    merge = a_merge()
    hear(merge, subscribed())
    with pytest.raises(kind) as caught:
        merge.closed(USER, BridgeClosed(code=code, reason="your\ntoken is old."), may_log_in=False)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 1012, 4408, 4429, 4999])
def test_after_anything_else_it_is_tried_again(code: int) -> None:
    merge = a_merge()
    hear(merge, subscribed())
    closed = BridgeClosed(code=code, since=NOW)
    assert [type(event) for event in merge.closed(USER, closed, may_log_in=False)] == [Disconnected]


def test_with_another_token_an_expired_one_is_no_end() -> None:
    merge = a_merge()
    hear(merge, subscribed())
    [gone] = merge.closed(USER, BridgeClosed(code=4401, since=NOW), may_log_in=True)
    assert isinstance(gone, Disconnected)


def test_a_bridge_that_closes_at_the_start_cannot_be_followed() -> None:
    with pytest.raises(ServerUnavailable, match="is restarted"):
        a_merge().closed(USER, BridgeClosed(code=1012), may_log_in=False)


@pytest.mark.parametrize("at_start", [True, False])
def test_a_cursor_that_is_refused_ends_it_with_a_way_out(at_start: bool) -> None:
    merge = a_merge()
    if not at_start:
        hear(merge, subscribed())
    problem = {"type": "error", "code": "cursor_refused", "message": "made with another key"}
    with pytest.raises(PlaceRefused, match=r"made with another key\).*--since") as caught:
        hear(merge, problem)
    assert caught.value.at_start is at_start


def test_what_a_bridge_says_before_it_closes_is_told_with_the_end() -> None:
    merge = a_merge()
    hear(merge, subscribed())
    assert hear(merge, {"type": "error", "code": "bad_request", "message": "bad filter"}) == []
    with pytest.raises(BridgeRefused, match="bad filter"):
        merge.closed(USER, BridgeClosed(code=4400, reason="bad"), may_log_in=False)


def test_a_pause_that_is_asked_for_is_kept_within_bounds() -> None:
    merge = a_merge()
    hear(merge, subscribed(), {"type": "reconnect", "after_ms": 1500})
    assert merge.pause(USER) == 1.5
    hear(merge, {"type": "reconnect", "after_ms": 1e12})
    assert merge.pause(USER) == LONGEST_PAUSE
    merge.opening(USER)
    assert merge.pause(USER) == 0


def messages(events: Sequence[Event]) -> list[Any]:
    return [a.message for event in events if isinstance(event, Print) for a in event.arrivals]


def test_an_entry_of_another_user_is_shown_as_what_it_is() -> None:
    [message] = messages(hear(a_merge(), subscribed(), an_entry(OTHER)))
    assert isinstance(message, Unreadable)
    assert message.reason == "an entry of another user"


def test_a_bridge_that_answers_for_another_user_is_none() -> None:
    with pytest.raises(BridgeRefused, match="another user"):
        hear(a_merge(), subscribed(OTHER))


def test_the_filters_are_applied_here_too() -> None:
    merge = a_merge(filters=Filters(activity_types=("LOGIN",)))
    frames = [an_entry(activity_type=name) for name in ("LOGIN", "LOGOUT")]
    shown = messages(hear(merge, subscribed(), *frames, {"type": "greeting"}))
    assert [message.activity_type for message in shown] == ["LOGIN"]


def test_an_entry_that_cannot_be_read_comes_once_too() -> None:
    line = {"id": str(uuid.uuid4()), "unreadable": "{}", "reason": "no time", "raw_base64": "e30="}
    frame = {"type": "auditlog", "data": line, "cursor": None}
    merge = a_merge()
    events = hear(merge, subscribed(), frame)
    events += merge.closed(USER, LOST, may_log_in=False)
    events += hear(merge, subscribed(), frame)
    [message] = messages(events)
    assert isinstance(message, UnreadableEntry)
    assert orjson.loads(message.to_json()) == line


def test_what_a_broken_bridge_repeats_is_dropped_and_no_memory_is_without_bound() -> None:
    merge = RemoteMerge(NAME, TailRequest(user_ids={USER}), keep=10)
    frame = an_entry()
    assert len(messages(hear(merge, subscribed(), frame, frame, frame))) == 1
    for _ in range(5):
        hear(merge, subscribed(), *(an_entry(cursor=None) for _ in range(7)))
        merge.closed(USER, LOST, may_log_in=False)
    assert merge.remembered == 10


def test_a_place_of_another_kind_is_begun_afresh() -> None:
    checkpoint = msgspec.structs.replace
    merge = a_merge()
    hear(merge, subscribed())
    place = merge.checkpoint()
    assert place is not None and place.cursor is not None
    strange = checkpoint(place, cursor=msgspec.structs.replace(place.cursor, data={"bridge": 5}))
    again = RemoteMerge(NAME, TailRequest(user_ids={USER}, resume=strange))
    assert said(again) == {"type": "resume"}


def test_entries_are_what_a_tail_prints() -> None:
    new = entity(USER, meta={"a": 1.5})
    frame = {"type": "auditlog", "data": orjson.Fragment(wire(new)), "cursor": "c"}
    [message] = messages(hear(a_merge(), subscribed(), frame))
    assert isinstance(message, Entry)
    assert orjson.loads(message.to_json())["meta"] == {"a": 1.5}
