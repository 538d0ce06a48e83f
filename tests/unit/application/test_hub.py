"""The promise for many readers, against a model world: each is sent every entry exactly once."""

import random
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import msgspec
import pytest

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk
from lykke_cli.application.hub import Hub
from lykke_cli.application.hub_actions import Request, Wake
from lykke_cli.application.member import ALL_BYTES
from lykke_cli.application.merge import ReadKind
from lykke_cli.application.messages import unreadable_entry
from lykke_cli.application.unsettled import UNCOVERED
from tests.unit.application.hub_world import USERS, Client, HubWorld

T = TypeVar("T")
SCHEDULES = 1_000  # of each kind, the same ones every time
STEPS = 30
AGES = [timedelta(0)] * 4 + [
    timedelta(seconds=5),
    timedelta(minutes=20),
    timedelta(days=30),
    timedelta(hours=-1),
]


class Schedule:
    """Anything that can happen, in any order; at the end everybody must have been sent everything.

    The world itself fails when anything is sent twice, or before it is committed. The steps are
    drawn by `seed`, and told where one fails.
    """

    def __init__(self, seed: int, *, replica: bool, slices: bool = False) -> None:
        self.random = random.Random(seed)
        keep, lines, ids = self.pick([0, 3, 50]), self.pick([1, 2, 50, 50]), self.pick([2, 4, 64])
        all_bytes = self.pick([1_000, ALL_BYTES, ALL_BYTES])
        # Drawn apart: who follows every user, in half of the schedules.
        self.apart = random.Random(~seed)
        everybodys, self.are_all_followed = self.apart.choice([1, 16]), self.apart.random() < 0.5
        self.fails_over = self.apart.random() < 0.5
        uncovered = self.apart.choice([0, 3, UNCOVERED])
        self.goes_away = self.apart.random() < 0.5
        comes_in_bursts = random.Random(f"{seed}").random() < 0.5
        self.hubs, self.users = self.pick([1, 2]), USERS[: self.pick([1, 2, 3])]
        bounds = {"lines": lines, "everybodys": everybodys, "all_bytes": all_bytes}
        bounds |= {"keep": keep, "ids": ids, "uncovered": uncovered}
        self.world = HubWorld(**bounds, replica=replica, slices=slices)
        self.story = [f"{bounds}, replica={replica}, slices={slices}"]
        self.steps: dict[Callable[[], object], int] = {
            self.write: 2,
            self.begin: 1,
            self.commit: 2,
            self.write_and_commit: 4,
            self.roll_back: 1,
            self.publish_again: 2,
            self.replicate: 3 if replica else 0,
            self.lead_astray: 1 if replica else 0,
            self.move: 2 if replica else 0,
            self.disconnect: 1,
            self.reconnect: 1,
            self.confirm: 2,
            self.deliver: 3,
            self.deliver_junk: 1,
            self.deliver_as_another: 1,
            self.tick: 4,
            self.answer: 8,
            self.answer_last: 4,
            self.fail: 1,
            self.break_off: 1,
            self.die: 1,
            self.work: 1,
            self.come: 2,
            self.come_to_read: 3,
            self.join: 4,
            self.leave: 2,
            self.take: 5,
            self.lose: 1,
            self.fail_over: 1 if self.fails_over else 0,
            self.go_away: 2 if self.goes_away else 0,
            self.burst: 2 if comes_in_bursts else 0,
            self.go_on: 3 if slices else 0,
            self.rewrite: 1 if slices else 0,
            self.be_slow: 1 if slices else 0,
        }

    def run(self) -> None:
        try:
            if self.flip():
                self.world.come(self.followed(USERS[0]), 0, from_the_first=False)
                self.world.work()
                self.story.append("begun")
            steps = self.random.choices([*self.steps], [*self.steps.values()], k=STEPS)
            for step in steps:
                self.story.append(f"{step.__name__} -> {step()}")
            self.end()
        except Exception as error:
            error.add_note("\n".join(self.story))
            raise

    def end(self) -> None:
        world = self.world
        world.end_transactions()
        for number, client in enumerate(world.clients):
            world.join(client, number % 2)
        # The first tries again what failed, and where a journal is too short it takes another.
        for kind in (ReadKind.RECENT, ReadKind.FULL, ReadKind.RECENT):
            for index in range(2):
                world.tick(index, kind)
            world.work()
        for client in world.clients:
            assert world.owed(client) <= client.received.keys(), "passed over"

    # The application

    def write(self) -> object:
        index, savepoint, age, user = (
            self.index(),
            self.flip(),
            self.pick(AGES),
            self.pick(self.users),
        )
        self.world.write(index, savepoint=savepoint, age=age, user=user)
        return index, savepoint, age, user

    def begin(self) -> None:
        self.world.begin()

    def commit(self) -> object:
        index, publish = self.index(), self.flip()
        self.world.commit(index, publish=publish)
        return index, publish

    def write_and_commit(self) -> object:
        user, age, publish = self.pick(self.users), self.pick(AGES), self.flip()
        self.world.write_and_commit(user, age=age, publish=publish)
        return user, age, publish

    def roll_back(self) -> None:
        self.world.roll_back(self.index())

    def publish_again(self) -> object:
        index, replayed = self.random.randrange(100), self.flip()
        self.world.publish_again(index, replayed=replayed)
        return index, replayed

    def go_away(self) -> object:
        """The database is away for some entries that are broadcast."""
        hub, count = self.hub(), self.random.randint(1, 6)
        self.world.tick(hub, ReadKind.RECENT)
        while self.world.hubs[hub].asked:
            self.world.fail(hub, 0)
        for _ in range(count):
            self.world.write_and_commit(self.pick(self.users), age=timedelta(0), publish=True)
        self.world.confirm(hub)
        self.world.deliver(hub, 2 * count)
        for client in self.world.clients:
            if self.flip():
                self.world.take(client)
        return hub, count

    def burst(self) -> object:
        """Somebody comes while the hub reads, and then much, again and again."""
        hub, count, passes = self.hub(), self.random.randint(1, 6), self.random.randint(1, 3)
        told = self.come()
        self.world.confirm(hub)
        self.world.tick(hub, ReadKind.RECENT)
        for _ in range(self.random.randrange(12)):
            self.world.answer(hub, -1)
        for _ in range(passes):
            for _ in range(count):
                self.world.write_and_commit(self.pick(self.users), age=timedelta(0), publish=True)
            self.world.deliver(hub, 2 * count)
            for client in self.world.clients:
                if self.flip():
                    self.world.take(client)
            self.world.answer_pass(hub)
        return told, hub, count, passes

    def fail_over(self) -> object:
        lost = self.random.randrange(4)
        self.world.fail_over(lost)
        return lost

    def replicate(self) -> object:
        hub, count = self.hub(), self.random.randint(1, 3)
        self.world.replicate_to(hub, count)
        return hub, count

    def lead_astray(self) -> object:
        hub, commit = self.hub(), self.random.randrange(8)
        self.world.lead_astray(hub, commit)
        return hub, commit

    # The hubs

    def disconnect(self) -> None:
        self.world.disconnect(self.hub())

    def reconnect(self) -> None:
        self.world.reconnect(self.hub())

    def confirm(self) -> None:
        self.world.confirm(self.hub())

    def deliver(self) -> None:
        self.world.deliver(self.hub(), self.random.randint(1, 4))

    def deliver_junk(self) -> None:
        self.world.deliver_junk(self.hub(), self.pick(self.users))

    def deliver_as_another(self) -> None:
        if self.world.committed:
            entry = self.pick(self.world.committed).entry
            self.world.publish(entry, channel=self.pick(self.users))

    def tick(self) -> object:
        hub, kind = self.hub(), self.pick([*ReadKind])
        self.world.tick(hub, kind)
        return hub, kind

    def answer(self) -> object:
        hub, which = self.hub(), self.index()
        for _ in range(self.random.randint(1, 4)):
            self.world.answer(hub, which)
        return hub, which

    def answer_last(self) -> object:
        """What was asked last overtakes the others."""
        hub, steps = self.hub(), self.random.randint(1, 6)
        for _ in range(steps):
            self.world.answer(hub, -1)
        return hub, steps

    def fail(self) -> object:
        hub, which = self.hub(), self.index()
        self.world.fail(hub, which)
        return hub, which

    def break_off(self) -> object:
        hub, which = self.hub(), self.index()
        self.world.break_off(hub, which)
        return hub, which

    def die(self) -> object:
        hub = self.hub()
        self.world.die(hub)
        return hub

    def work(self) -> None:
        self.world.work()

    def go_on(self) -> object:
        hub = self.hub()
        self.world.go_on(hub)
        return hub

    def rewrite(self) -> None:
        self.world.rewrite()

    def be_slow(self) -> None:
        self.world.is_slow = True

    # The clients

    def come(self) -> object:
        user = self.followed(self.pick(self.users))
        hub, from_the_first = self.hub(), self.flip()
        if len(self.world.clients) < 6:
            self.world.come(user, hub, from_the_first=from_the_first)
        return user, hub, from_the_first

    def come_to_read(self) -> object:
        """While something else may be under way."""
        told = self.come()
        for hub in range(self.hubs):
            self.world.confirm(hub)
        return told, self.answer_last()

    def join(self) -> object:
        which, hub = self.index(), self.hub()
        if self.world.clients:
            self.world.join(self.world.clients[which % len(self.world.clients)], hub)
        return which, hub

    def leave(self) -> object:
        which = self.index()
        if self.world.clients:
            self.world.leave(self.world.clients[which % len(self.world.clients)])
        return which

    def move(self) -> object:
        """A client takes what there is at one hub, and goes on at another."""
        which, hub = self.index(), self.hub()
        if self.world.clients:
            client = self.world.clients[which % len(self.world.clients)]
            self.world.work()
            self.world.leave(client)
            self.world.join(client, hub)
            self.world.work()
        return which, hub

    def take(self, *, lost: bool = False) -> object:
        which = self.index()
        if self.world.clients:
            self.world.take(self.world.clients[which % len(self.world.clients)], lost=lost)
        return which

    def lose(self) -> object:
        return self.take(lost=True)

    def followed(self, user: str) -> str | None:
        return None if self.are_all_followed and self.apart.random() < 0.4 else user

    def hub(self) -> int:
        return self.random.randrange(self.hubs)

    def index(self) -> int:
        return self.random.randrange(8)

    def flip(self) -> bool:
        return self.random.random() < 0.5

    def pick(self, values: Sequence[T]) -> T:
        return self.random.choice(values)


@pytest.mark.parametrize("slices", [False, True])
@pytest.mark.parametrize("replica", [False, True])
def test_every_reader_is_sent_every_entry_once(replica: bool, slices: bool) -> None:
    for seed in range(SCHEDULES):
        Schedule(seed, replica=replica, slices=slices).run()


def has_read_its_past(world: HubWorld) -> Client:
    """A client from the first on, whose hub has read for it, and it has taken nothing yet."""
    world.write_and_commit(USERS[0], age=timedelta(0), publish=False)
    client = world.come(USERS[0], 0, from_the_first=True)
    world.confirm(0)
    for _ in range(4):  # the hub's beginning, the reader's, a row, and the end
        world.answer(0, 0)
    return client


def test_a_checkpoint_covers_what_was_taken_and_no_more() -> None:
    world = HubWorld(lines=50)
    client = has_read_its_past(world)
    assert client.reader is not None
    while world.hubs[0].asked:
        world.answer(0, 0)
    begun = client.reader.checkpoint
    assert world.take(client)
    assert client.checkpoint != begun
    client.checkpoint = begun
    world.leave(client)
    client.received.clear()  # as if it had never come
    world.join(client, 0)
    world.work()
    assert client.received.keys() == world.committed_ids


def test_a_repetition_that_is_held_back_is_known_when_it_is_let_go() -> None:
    """Rare among the schedules, so shown on its own."""
    world = HubWorld(lines=50)
    client = has_read_its_past(world)
    world.disconnect(0)
    world.reconnect(0)
    world.answer(0, 1)
    world.publish_again(0, replayed=False)
    world.deliver(0, 1)
    world.answer(0, 0)  # for the reader, while the hub's own read goes on
    world.work()  # fails when anything is sent twice
    assert client.received.keys() == world.committed_ids


def test_a_late_broadcast_of_what_is_older_than_its_beginning_does_not_come_to_a_reader() -> None:
    """It was printed for another before this one came, and the database had it by then."""
    world = HubWorld(lines=50)
    world.write_and_commit(USERS[0], age=timedelta(0), publish=False)
    world.come(USERS[0], 0, from_the_first=False)
    world.work()
    world.publish_again(0, replayed=False)
    world.deliver(0, 1)
    late = world.come(USERS[0], 0, from_the_first=False)
    world.answer(0, 0)  # where it begins: at the newest mark
    world.fail(0, 0)
    world.tick(0, ReadKind.RECENT)
    world.work()  # fails when anything comes from before it began
    assert not late.received


def test_what_was_printed_for_all_users_before_one_had_a_reader_is_not_passed_over() -> None:
    """It stands in no journal of that user's, and the standby did not have it at the beginning."""
    world = HubWorld(lines=50, replica=True)
    world.come(None, 0, from_the_first=False)
    world.work()
    world.write_and_commit(USERS[0], age=timedelta(0), publish=True)
    world.deliver(0, 1)
    client = world.come(USERS[0], 0, from_the_first=False)
    world.confirm(0)
    world.answer(0, 0)  # where it begins
    world.replicate_to(0, 1)
    world.tick(0, ReadKind.FULL)
    while world.hubs[0].asked:
        world.answer(0, -1)
    world.work()
    assert client.received.keys() == world.committed_ids


def test_what_only_a_reader_has_read_bears_witness_after_a_fail_over() -> None:
    """The hub's cursor covers it, though nothing that the hub read itself lies beyond it."""
    world = HubWorld(lines=50)
    world.come(USERS[0], 0, from_the_first=False)
    world.work()
    world.write_and_commit(USERS[0], age=timedelta(0), publish=False)
    for _ in range(3):
        world.write_and_commit(USERS[1], age=timedelta(0), publish=False)
    world.tick(0, ReadKind.RECENT)
    world.work()
    client = world.come(USERS[1], 0, from_the_first=True)
    world.work()
    assert client.received.total() == 3
    world.fail_over(0)
    for kind in ReadKind:
        world.tick(0, kind)
        world.work()  # fails when anything comes twice
    assert not client.may_repeat


def test_readers_are_told_that_commits_were_lost_before_anything_comes_again() -> None:
    world = HubWorld(lines=50, keep=0)
    clients = [world.come(user, 0, from_the_first=True) for user in (USERS[0], USERS[1], None)]
    world.work()
    for _ in range(20):
        world.write_and_commit(USERS[0], age=timedelta(0), publish=False)
    world.tick(0, ReadKind.RECENT)
    world.work()
    world.fail_over(5)
    world.tick(0, ReadKind.RECENT)
    world.work()  # fails when anything comes twice that was not told of
    owner, other, of_all = clients
    assert owner.received.total() > 20 and of_all.received.total() > 20
    assert not other.received
    assert [client.notices for client in clients] == [1, 1, 1]


def test_while_all_users_together_have_too_much_those_of_one_have_it_live() -> None:
    """Nothing is read meanwhile."""
    world = HubWorld(lines=50, ids=4)
    clients = [world.come(user, 0, from_the_first=False) for user in (*USERS, None)]
    world.work()
    for user in USERS:
        for _ in range(2):
            world.write_and_commit(user, age=timedelta(0), publish=True)
    world.deliver(0, 6)
    for client in clients:
        world.take(client)
    assert [client.received.total() for client in clients] == [2, 2, 2, 0]
    while world.hubs[0].asked:
        world.answer(0, 0)
    world.take(clients[-1])
    assert clients[-1].received.total() == 6


def test_however_much_comes_during_each_read_those_of_all_users_have_it_after_the_next() -> None:
    world = HubWorld(lines=50, ids=2)
    clients = [world.come(user, 0, from_the_first=False) for user in (*USERS, None)]
    world.work()
    world.write_and_commit(USERS[0], age=timedelta(0), publish=False)
    asked = world.hubs[0].asked
    for _ in range(2):
        world.tick(0, ReadKind.FULL)
        [under_way] = asked
        world.answer(0, 0)
        for user in USERS:
            world.write_and_commit(user, age=timedelta(0), publish=True)
        world.deliver(0, len(USERS))
        while under_way in asked:
            world.answer(0, 0)
        for client in clients:
            world.take(client)
    assert clients[-1].received.total() == 4


def test_a_row_without_a_time_is_sent_to_its_user_however_deep_its_meta_is() -> None:
    deep = msgspec.Raw(b"[" * 2_000 + b"]" * 2_000)
    fields = {"id": "an id", "user_id": USERS[0], "occurred_at": "infinity", "meta": deep}
    row, user = unreadable_entry(fields), uuid.UUID(USERS[0])
    hub = Hub(vouched=lambda cursor, _: cursor)
    reader, _ = hub.join(user)
    actions = hub.confirmed([user])
    while asked := [action for action in actions if isinstance(action, Request)]:
        actions = hub.chunk(asked[0], HistoryChunk(rows=(), cursor=Cursor({}), last=True))
    hub.take(reader)
    [request] = hub.tick()
    assert isinstance(request, Request)
    assert Wake([reader]) in hub.chunk(request, HistoryChunk(rows=[row], cursor=Cursor({"n": 1})))
    assert [line.data for line in hub.take(reader)[0].lines] == [row.to_json()]


pytestmark = pytest.mark.long


def test_a_database_that_has_less_than_where_a_client_was_is_waited_for() -> None:
    """It goes on at another hub, which reads a replica that is further behind."""
    world = HubWorld(lines=50, replica=True)
    client = world.come(USERS[0], 0, from_the_first=True)
    world.come(USERS[0], 1, from_the_first=True)
    world.work()
    world.write_and_commit(USERS[0], age=timedelta(0), publish=False)
    world.replicate_to(0, 1)
    world.tick(0, ReadKind.RECENT)
    world.work()
    assert client.received.total() == 1
    world.leave(client)
    world.join(client, 1)
    world.work()
    assert client.reader and not world.hubs[1].hub.take(client.reader)[0].caught_up
    world.replicate_to(1, 1)
    world.tick(1, ReadKind.RECENT)
    world.work()  # fails when anything comes twice
    assert world.hubs[1].hub.take(client.reader)[0].caught_up
