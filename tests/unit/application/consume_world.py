"""A model of a stream with a consumer group, of members that crash, and of all that gets lost.

The server does what Redis does for the commands that `GroupMember` asks for. What must hold is
checked as it happens, and at the end, when everybody was given the time to finish.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from lykke_cli.application.consuming import (
    RENEWALS,
    START,
    Claim,
    Found,
    GroupMember,
    Look,
    Recover,
    Renew,
    Settled,
    Step,
    StreamEntry,
)
from lykke_cli.application.stream_ids import StreamId

T = TypeVar("T")
order = StreamId.parse
STREAM = "auditlog:{00}"
CLAIM_AFTER = 60.0  # seconds, as all times here
MOST = 4  # deliveries
COUNT = 3  # entries that a command gives at most
NAMES = ("a", "b", "c")
MOST_CALM = 400  # rounds


class Lost(Exception):
    """The connection broke: what was asked may have been done."""


@dataclass
class Pending:
    owner: str
    since: float
    deliveries: int = 1


@dataclass
class Server:
    """One stream and one group."""

    now: float = 0.0
    stream: dict[str, bytes | None] = field(default_factory=dict)
    last: int = 0
    has_group: bool = True
    given_out: str = START
    pending: dict[str, Pending] = field(default_factory=dict)
    buried: set[bytes] = field(default_factory=set)
    streams: int = 0
    """How many there were before, one after the other."""
    losses: int = 0
    """How often the group was lost."""

    def add(self, payload: bytes | None) -> None:
        self.last += 1
        self.stream[f"{self.last}-{self.streams}"] = payload

    def trim(self, number: int) -> None:
        for id in list(self.stream)[:number]:
            del self.stream[id]

    def delete_stream(self) -> None:
        """What is written next has lower ids than what there was."""
        self.stream, self.last, self.has_group = {}, self.last // 2, False
        self.streams += 1

    def create_group(self, start: str) -> None:
        if not self.has_group:
            self.has_group, self.given_out, self.pending = True, start, {}
            self.losses += 1

    def read(self, name: str) -> Found:
        fresh = [id for id in self.stream if order(id) > order(self.given_out)][:COUNT]
        for id in fresh:
            self.pending[id] = Pending(name, self.now)
            self.given_out = id
        return self._found(fresh)

    def recover(self, name: str, after: str) -> Found:
        own = [id for id, one in self.pending.items() if one.owner == name]
        some = sorted((id for id in own if order(id) > order(after)), key=order)[:COUNT]
        return self._found([self._give(name, id) for id in some])

    def claim(self, name: str, start: str, idle: float) -> tuple[Found, str]:
        ids = sorted(
            (id for id in self.pending if order(id) >= order(start)),
            key=order,
        )
        some, then = ids[:COUNT], ids[COUNT] if len(ids) > COUNT else START
        old = [id for id in some if self.now - self.pending[id].since >= idle]
        return self._found([self._give(name, id) for id in old]), then

    def owned(self, name: str, idle: float) -> list[str]:
        """XPENDING with IDLE, of one consumer."""
        pending = self.pending.items()
        return [id for id, p in pending if p.owner == name and self.now - p.since >= idle]

    def renew(self, name: str, ids: list[str], idle: float) -> list[str]:
        """XCLAIM with JUSTID: of these it takes what is so old, whoever has it."""
        old = [i for i in ids if i in self.pending and self.now - self.pending[i].since >= idle]
        for id in old:
            self.pending[id] = Pending(name, self.now, self.pending[id].deliveries)
        return old

    def acknowledge(self, ids: Iterable[str]) -> None:
        for id in ids:
            self.pending.pop(id, None)

    def bury(self, entry: StreamEntry) -> None:
        self.buried.add(entry.payload)
        self.acknowledge([entry.id])

    def _give(self, name: str, id: str) -> str:
        self.pending[id] = Pending(name, self.now, self.pending[id].deliveries + 1)
        return id

    def _found(self, ids: list[str]) -> Found:
        there = [(id, self.stream[id], self.pending[id]) for id in ids if id in self.stream]
        return Found(
            [
                StreamEntry(STREAM, id, "", payload, one.deliveries)
                for id, payload, one in there
                if payload is not None
            ],
            [id for id, payload, _ in there if payload is None],
            [id for id in ids if id not in self.stream],
        )


class Actor:
    """A process that is a member of the group."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.server = world.server
        self.name = name
        self.member = world.make_member()
        self.working: list[StreamEntry] = []
        self.done: list[StreamEntry] = []
        self.kept: set[str] = set()
        """What it has, and nobody else has taken over."""
        self.frozen_until = 0.0

    def act(self) -> None:
        """Do everything that is due; a connection that breaks ends it for this time."""
        self.member.heed(self.server.now)
        try:
            self.require_group()
            for step in self.member.steps(self.server.now):
                self._carry_out(step)
            self._acknowledge()
            if self.member.may_read:
                found = self._ask(lambda: self._noted(self.server.read(self.name)))
                self._settle(self.member.read(STREAM, found, self.server.now))
        except Lost:
            self.member.lost(self.server.now)

    def take(self) -> None:
        for entry in self.member.give():
            self.world.check_given(self, entry)
            self.working.append(entry)

    def finish(self, entry: StreamEntry) -> None:
        """Its output has taken it."""
        self.working.remove(entry)
        self.world.taken.add(entry.payload)
        self.done.append(entry)

    def fail(self, entry: StreamEntry) -> None:
        self.working.remove(entry)
        self.kept.discard(entry.id)
        self.member.let_go([entry])

    def has(self, id: str) -> bool:
        return any(entry.id == id for entry in self.working + self.done)

    def require_group(self) -> None:
        """A group that is gone is made again."""
        if self.server.has_group:
            return
        is_there = self.member.floor(STREAM) in self.server.stream
        start = self.member.start_again(STREAM, is_there=is_there)
        self._ask(lambda: self.server.create_group(start))

    def _carry_out(self, step: Step) -> None:
        server = self.server
        match step:
            case Recover(_, after):
                found = self._ask(lambda: self._noted(server.recover(self.name, after)))
                self._settle(self.member.recovered(step, found, server.now))
            case Claim(_, start, idle):
                found, then = self._ask(lambda: self._claim(start, idle))
                self._settle(self.member.claimed(step, found, then, server.now))
            case Renew(_, idle):
                own = self._ask(lambda: self._own(idle))
                ids = self.member.held(STREAM, own)
                self._ask(lambda: self._note(server.renew(self.name, ids, idle)))
                self.member.renewed(step, server.now)
            case Look():
                given_out = self._ask(lambda: server.given_out)
                lowest = self._ask(lambda: min(server.pending, key=order, default=None))
                self.member.looked(step, given_out, lowest, server.now)

    def _own(self, idle: float) -> list[str]:
        return self.server.owned(self.name, idle)

    def _claim(self, start: str, idle: float) -> tuple[Found, str]:
        found, then = self.server.claim(self.name, start, idle)
        return self._noted(found), then

    def _settle(self, settled: Settled) -> None:
        self._ask(lambda: self.server.acknowledge(settled.acknowledge))
        for entry in settled.bury:
            self._ask(lambda: self.server.bury(entry))  # noqa: B023 - it is called at once

    def _acknowledge(self) -> None:
        self._ask(lambda: self.server.acknowledge([entry.id for entry in self.done]))
        self.member.acknowledged(self.done)
        for entry in self.done:
            self.kept.discard(entry.id)
        self.done = []

    def _noted(self, found: Found) -> Found:
        self._note([entry.id for entry in found.entries])
        return found

    def _note(self, ids: list[str]) -> None:
        for id in ids:
            self.world.check_kept(self, id)
            self.kept.add(id)

    def _ask(self, command: Callable[[], T]) -> T:
        """What the server answers, unless the command or the answer is lost."""
        if self.world.happens("lost command"):
            raise Lost
        answer = command()
        if self.world.happens("lost answer"):
            raise Lost
        return answer


class World:
    """Some members at once, for `rounds` of chances, each so likely as `chances` says."""

    def __init__(
        self,
        seed: int,
        chances: Mapping[str, float],
        make_member: Callable[[], GroupMember] | None = None,
        make_actor: "Callable[[World, str], Actor] | None" = None,
    ) -> None:
        self._random = random.Random(seed)
        self._chances = chances
        self.make_member = make_member or new_member
        self._make_actor = make_actor or Actor
        self.server = Server()
        self.taken: set[bytes] = set()
        self.given: Counter[tuple[int, str]] = Counter()
        self.actors = [self._make_actor(self, name) for name in NAMES]
        self._is_calm = False
        self._number = 0

    def happens(self, chance: str) -> bool:
        return not self._is_calm and self._random.random() < self._chances.get(chance, 0.0)

    def run(self, rounds: int = 120) -> None:
        for _ in range(rounds):
            self._round()
        self._is_calm = True
        for _ in range(MOST_CALM):  # everybody goes on, and nothing happens any more
            self._round()
            if self._is_over():
                break
        self._check_end()

    def _round(self) -> None:
        self.server.now += self._random.uniform(0, CLAIM_AFTER / RENEWALS / 2)
        if not self._is_calm:
            self._events()
        for index in self._random.sample(range(len(NAMES)), len(NAMES)):
            actor = self.actors[index]
            if self.happens("crash"):
                actor = self.actors[index] = self._make_actor(self, actor.name)
            if self.happens("freeze"):
                actor.frozen_until = self.server.now + self._random.uniform(1, 3) * CLAIM_AFTER
            if actor.frozen_until > self.server.now and not self._is_calm:
                continue
            actor.act()
            actor.take()
            for entry in list(actor.working):
                if self.happens("fail"):
                    actor.fail(entry)
                elif self._is_calm or self._random.random() < 0.15:
                    actor.finish(entry)

    def _events(self) -> None:
        for _ in range(self._random.randrange(4)):
            self._number += 1
            foreign = self._random.random() < 0.1
            self.server.add(None if foreign else b"%d" % self._number)
        if self.happens("trim"):
            self.server.trim(self._random.randrange(4))
        if self.happens("destroy"):
            self.server.has_group = False
        if self.happens("delete"):
            self.server.delete_stream()

    def _is_over(self) -> bool:
        server = self.server
        unread = any(order(id) > order(server.given_out) for id in server.stream)
        busy = any(actor.working or actor.done for actor in self.actors)
        return server.has_group and not (unread or busy or server.pending)

    def check_given(self, actor: Actor, entry: StreamEntry) -> None:
        if self.server.losses == 0:
            assert not actor.has(entry.id), "a member was given what it has"
        key = self.server.losses, entry.id
        self.given[key] += 1
        assert self.given[key] <= MOST, "given out too often"

    def check_kept(self, actor: Actor, id: str) -> None:
        """The server is about to note it as this member's: then no other one may keep it."""
        if self.server.losses:
            return
        for other in self.actors:
            if other is not actor and id in other.kept and other.has(id):
                assert other.member.is_overtaken(self.server.now), "taken from one who renews it"
                other.kept.discard(id)

    def _check_end(self) -> None:
        left = {payload for payload in self.server.stream.values() if payload is not None}
        assert left <= self.taken | self.server.buried, "never taken by the group"
        assert not self.server.pending, "pending for ever"


def new_member(kind: type[GroupMember] = GroupMember) -> GroupMember:
    return kind([STREAM], claim_after=CLAIM_AFTER, max_deliveries=MOST, batch=2)
