"""The promise, against a model world: every committed entry is in its stream exactly once."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk
from lykke_cli.application.gateways.stream_log_protocol import Place
from lykke_cli.application.reconciling import MOST_BEGUN
from lykke_cli.application.relay import TAKE_OVER, Relay, Vigil
from tests.unit.application.relay_world import PARTITIONS, USERS, World, partition_of

SCHEDULES = 400  # of each kind
STEPS = 25

indexes = st.integers(0, 7)
ages = st.sampled_from(
    [timedelta(0)] * 4
    + [timedelta(seconds=5), timedelta(minutes=20), timedelta(days=30), timedelta(hours=-1)]
)


class Schedules(RuleBasedStateMachine):
    """Anything that can happen, in any order."""

    replica = slices = False
    world: World

    @initialize(begun=st.booleans(), before=st.integers(0, 4))
    def begin_world(self, begun: bool, before: int) -> None:
        self.world = World(replica=self.replica, slices=self.slices)
        for number in range(before):
            self.world.record(number, age=timedelta(days=number), commit=True)
        if begun:
            self.world.settle()

    @rule(index=indexes, age=ages, commit=st.booleans())
    def record(self, index: int, age: timedelta, commit: bool) -> None:
        self.world.record(index, age=age, commit=commit)

    @rule(index=indexes, savepoint=st.booleans(), age=ages, user=st.sampled_from(USERS))
    def write(self, index: int, savepoint: bool, age: timedelta, user: str) -> None:
        self.world.write(index, savepoint=savepoint, age=age, user=user)

    @rule(index=indexes)
    def commit(self, index: int) -> None:
        self.world.end(index)

    @rule(index=indexes)
    def roll_back(self, index: int) -> None:
        self.world.roll_back(index)

    @rule(count=st.integers(1, 3))
    def replicate(self, count: int) -> None:
        self.world.replicate(count)

    @rule(lost=st.integers(0, 3))
    def fail_over_the_database(self, lost: int) -> None:
        if not self.world.replica:
            self.world.lose(lost)

    @rule(lost=st.integers(0, 6))
    def fail_over_redis(self, lost: int) -> None:
        self.world.fail_over_redis(min(lost, len(self.world.past)))

    @rule(partition=st.integers(0, 2))
    def delete_a_stream(self, partition: int) -> None:
        self.world.delete(partition)

    @rule()
    def disconnect(self) -> None:
        self.world.disconnect()

    @rule()
    def start(self) -> None:
        if len(self.world.relays) < 3:
            self.world.start()

    @rule(index=indexes)
    def kill(self, index: int) -> None:
        self.world.kill(index)

    @rule(index=indexes, steps=st.integers(1, 40))
    def step(self, index: int, steps: int) -> None:
        self.world.step(index, steps)

    @rule(index=indexes)
    def look_at_everything(self, index: int) -> None:
        if self.world.relays:
            [*self.world.relays.values()][index % len(self.world.relays)].reads_all = True

    @rule(index=indexes)
    def break_a_read_off(self, index: int) -> None:
        if self.world.relays:
            [*self.world.relays.values()][index % len(self.world.relays)].reading_breaks = True

    @rule()
    def rewrite_the_table(self) -> None:
        self.world.rewrite()

    @rule()
    def read_what_was_found_slowly(self) -> None:
        self.world.is_slow = True

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        process = self.world.settle()
        committed = {row.entry.id for row in self.world.committed}
        assert committed - self.world.may_be_lost <= self.world.relayed.keys()
        if self.world.is_exact:
            assert max(self.world.relayed.values(), default=1) == 1
        assert process.relay.is_level


class SchedulesOnAReplica(Schedules):
    """The database that is read lags behind."""

    replica = True

    @rule()
    def promote(self) -> None:
        self.world.promote()

    @rule()
    def ask_another_standby(self) -> None:
        self.world.ask_another_standby()


class SchedulesInSlices(Schedules):
    """Everything is read in portions."""

    slices = True


class SchedulesInSlicesOnAReplica(SchedulesOnAReplica):
    slices = True


def place(number: int, *cursors: Cursor, is_released: bool = False) -> Place:
    return Place(cursors=cursors, relay="a", number=number, read_at=0.0, is_released=is_released)


def test_whoever_finds_no_relay_begins() -> None:
    assert Vigil().is_over({0: None, 1: place(5, is_released=True)}, 100.0)


def test_whoever_finds_a_relay_waits_until_it_stands_still() -> None:
    vigil = Vigil()
    assert not vigil.is_over({0: place(1), 1: None}, 100.0)
    assert not vigil.is_over({0: place(2), 1: None}, 100.0 + TAKE_OVER)
    assert not vigil.is_over({0: place(2), 1: place(1)}, 101.0 + TAKE_OVER)
    assert not vigil.is_over({0: place(2), 1: place(1)}, 100.0 + 2 * TAKE_OVER)
    assert vigil.is_over({0: place(2), 1: place(1)}, 101.0 + 2 * TAKE_OVER)


@pytest.mark.parametrize("first", range(5, 120, 6))
def test_kills_at_any_step_while_what_has_different_places_is_read(first: int) -> None:
    """Rare among the schedules: a relay dies in the middle of a join, and another one."""
    for second in range(5, 120, 6):
        world = World()
        for number in range(8):
            world.record(number, age=timedelta(0), commit=True)
        world.settle()
        world.relays.clear()
        world.delete(0)
        for steps in (first, second):
            world.start()
            for step in range(steps):
                world.step(0, 1)
                if step % 7 == 0:
                    world.record(step, age=timedelta(seconds=step % 3), commit=True)
            world.kill(0)
        world.settle()
        assert world.relayed.keys() == {row.entry.id for row in world.committed}
        assert max(world.relayed.values()) == 1


@pytest.mark.parametrize("first", range(6, 66, 6))
def test_a_stream_is_deleted_while_everything_is_read_in_portions(first: int) -> None:
    """Rare among the schedules: what is under way began before what another read has covered."""
    for second in range(1, 60, 6):
        world = World(slices=True)
        for number in range(8):
            world.record(number, age=timedelta(0), commit=True)
        world.settle()
        world.relays.clear()
        world.start()
        for deleted, steps in enumerate((first, second, 600)):
            for step in range(steps):
                world.step(0, 1)
                if step % 5 == 0 and step < 60:
                    world.record(step, age=timedelta(days=30), commit=True)
            world.delete(deleted)
        assert max(world.relayed.values()) == 1
        world.settle()
        assert world.relayed.keys() == {row.entry.id for row in world.committed}
        assert max(world.relayed.values()) == 1


FIRST, MIDDLE, END, OTHER = (Cursor({"n": n}) for n in range(4))


def in_the_middle_of_everything() -> Relay:
    """Of one line; its cursor is MIDDLE."""
    relay = Relay("a", partition_of)
    relay.found(dict.fromkeys(range(PARTITIONS), place(1, FIRST)))
    read(relay, ends_at(FIRST), recent_only=True)
    read(relay, ends_at(MIDDLE, goes_on=True), recent_only=False)
    return relay


def ends_at(cursor: Cursor, *, goes_on: bool = False, anew: bool = True) -> HistoryChunk:
    return HistoryChunk(
        rows=(), cursor=cursor, last=True, covered_from="9999", goes_on=goes_on, anew=anew
    )


def read(relay: Relay, chunk: HistoryChunk, *, recent_only: bool) -> None:
    assert relay.next_read(0.0, full=False).recent_only is recent_only
    relay.chunk(chunk)


def places(relay: Relay) -> dict[int, tuple[Cursor, ...]]:
    return {batch.partition: tuple(batch.place.cursors) for batch in relay.marks()}


def test_nothing_is_joined_to_what_was_read_after_it_began() -> None:
    relay = in_the_middle_of_everything()
    relay.found({1: None})
    read(relay, msgspec.structs.replace(ends_at(OTHER), authoritative=False), recent_only=False)
    read(relay, ends_at(MIDDLE), recent_only=True)
    read(relay, ends_at(END, anew=False), recent_only=False)
    assert places(relay) == {0: (END,), 1: (OTHER,), 2: (END,)}


def test_what_begins_anew_again_and_again_is_read_as_one() -> None:
    relay = in_the_middle_of_everything()
    for _ in range(MOST_BEGUN):
        read(relay, ends_at(MIDDLE), recent_only=True)
        read(relay, ends_at(MIDDLE, goes_on=True), recent_only=False)
    assert relay.next_read(0.0, full=False).portion
    assert not relay.next_read(0.0, full=False).portion
    relay.chunk(ends_at(END))
    asked = relay.next_read(0.0, full=True), relay.next_read(0.0, full=True)
    assert {ask.portion for ask in asked} == {True}


def test_what_comes_to_a_line_is_not_covered_by_what_began_before() -> None:
    relay = in_the_middle_of_everything()
    relay.found({1: None})
    read(relay, msgspec.structs.replace(ends_at(FIRST), authoritative=False), recent_only=False)
    relay.found({2: place(2, MIDDLE, OTHER)})
    read(relay, ends_at(MIDDLE), recent_only=True)
    read(relay, ends_at(END, anew=False), recent_only=False)
    assert places(relay) == {0: (END,), 1: (FIRST,), 2: (END, OTHER)}


limits = settings(
    max_examples=SCHEDULES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
TestSchedules = Schedules.TestCase
TestSchedules.settings = limits
TestSchedulesOnAReplica = SchedulesOnAReplica.TestCase
TestSchedulesOnAReplica.settings = limits
TestSchedulesInSlices = SchedulesInSlices.TestCase
TestSchedulesInSlices.settings = limits
TestSchedulesInSlicesOnAReplica = SchedulesInSlicesOnAReplica.TestCase
TestSchedulesInSlicesOnAReplica.settings = limits
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
