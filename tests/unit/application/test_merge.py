"""The promise, against a model world: every committed entry is printed exactly once."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from lykke_cli.application.merge import Merge, ReadKind
from tests.unit.application.merge_world import World

SCHEDULES = 1_000  # of each kind
STEPS = 16

indexes = st.integers(0, 7)
ages = st.sampled_from(
    [timedelta(0)] * 4
    + [timedelta(seconds=5), timedelta(minutes=20), timedelta(days=30), timedelta(hours=-1)]
)


class Schedules(RuleBasedStateMachine):
    """Anything that can happen, in any order; at the end everything must have been printed.

    The world itself fails when anything is printed twice, or before it is committed.
    """

    replica = slices = False
    world: World

    @initialize(
        keep=st.sampled_from([0, 0, 1, 3, 50]),
        hold=st.sampled_from([1, 3, 1000]),
        caught_up=st.booleans(),
        open_already=st.booleans(),
    )
    def start(self, keep: int, hold: int, caught_up: bool, open_already: bool) -> None:
        self.keep, self.hold = keep, hold
        self.world = World(Merge(keep=keep, hold=hold), replica=self.replica, slices=self.slices)
        if open_already:  # what is committed beside it stays in doubt
            self.world.begin()
        if caught_up:
            self.world.catch_up()

    @rule(index=indexes, savepoint=st.booleans(), age=ages)
    def write(self, index: int, savepoint: bool, age: timedelta) -> None:
        self.world.write(index, savepoint=savepoint, age=age)

    @rule()
    def begin(self) -> None:
        self.world.begin()

    @rule(index=indexes, publish=st.booleans())
    def commit(self, index: int, publish: bool) -> None:
        self.world.commit(index, publish=publish)

    @rule(age=ages, publish=st.booleans())
    def write_and_commit(self, age: timedelta, publish: bool) -> None:
        self.world.begin()
        self.world.write(len(self.world.open) - 1, savepoint=False, age=age)
        self.world.commit(len(self.world.open) - 1, publish=publish)

    @rule(index=indexes)
    def roll_back(self, index: int) -> None:
        self.world.roll_back(index)

    @rule(index=st.integers(0, 100), replayed=st.booleans())
    def publish_again_or_late(self, index: int, replayed: bool) -> None:
        self.world.publish_again(index, replayed=replayed)

    @rule(lost=st.integers(0, 3))
    def fail_over(self, lost: int) -> None:
        self.world.fail_over(lost)

    @rule(count=st.integers(1, 3))
    def replicate(self, count: int) -> None:
        self.world.replicate(count)

    @rule()
    def connect(self) -> None:
        self.world.connect()

    @rule()
    def disconnect(self) -> None:
        self.world.disconnect()

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        self.world.deliver(count)

    @rule()
    def deliver_junk(self) -> None:
        self.world.deliver_junk()

    @rule(kind=st.sampled_from(ReadKind))
    def tick(self, kind: ReadKind) -> None:
        self.world.tick(kind)

    @rule(kind=st.sampled_from(ReadKind))
    def reconcile(self, kind: ReadKind) -> None:
        self.world.tick(kind)
        for _ in range(5):
            self.world.answer()

    @rule(steps=st.integers(1, 4))
    def answer(self, steps: int) -> None:
        for _ in range(steps):
            self.world.answer()

    @rule()
    def go_on(self) -> None:
        self.world.go_on()
        self.world.answer()

    @rule()
    def rewrite(self) -> None:
        self.world.rewrite()

    @rule()
    def be_slow(self) -> None:
        self.world.is_slow = True

    @rule()
    def fail(self) -> None:
        self.world.fail()

    @rule(killed=st.booleans())
    def restart(self, killed: bool) -> None:
        self.world.restart(killed=killed, keep=self.keep, hold=self.hold)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.end_transactions()
        self.world.catch_up()
        # What did not fit is read from history; a replica may have it only after that read, and if
        # it occurred long ago the hourly read finds it.
        late = self.replica and self.hold != 1000
        self.world.tick(ReadKind.FULL if late else ReadKind.RECENT)  # tries again what failed
        self.world.catch_up()
        # Where there is no room to hold or remember it, what was committed by the first snapshot
        # counts as from before the start, and what a fail-over lost cannot be read either. Nor is
        # what is older than a place that is gone on from by time, as its reader was told.
        whole = self.hold == 1000 and self.keep == 50
        excused = set() if whole else self.world.at_start | self.world.lost
        excused = excused | self.world.may_be_lost
        delivered = self.world.delivered - self.world.before_start - excused
        assert delivered <= self.world.printed.keys()
        self.world.disconnect()
        self.world.catch_up()  # with no reads but those the merge asks for itself
        assert self.world.owed - excused <= self.world.printed.keys()
        self.world.tick(ReadKind.FULL)
        self.world.catch_up()
        assert self.world.merge.caught_up
        if not self.replica:
            assert self.world.merge.remembered <= self.keep


class SchedulesOnReplica(Schedules):
    """The same, where the database lags behind the broadcasts."""

    replica = True


class SchedulesInSlices(Schedules):
    """The same, where everything is read page by page, and may be rewritten meanwhile."""

    slices = True


class SchedulesInSlicesOnReplica(Schedules):
    replica = slices = True


def test_what_arrives_before_the_first_snapshot_is_printed_though_it_is_in_doubt() -> None:
    """Rare among the schedules, so shown on its own."""
    world = World(Merge())
    world.begin()  # stays open: whatever commits beside it is in doubt
    world.connect()
    world.write(0, savepoint=False, age=timedelta(0))
    world.begin()
    world.write(1, savepoint=False, age=timedelta(0))
    world.commit(1, publish=True)
    world.deliver(1)
    world.catch_up()
    assert len(world.printed) == 1
    world.end_transactions()
    world.tick(ReadKind.FULL)
    world.catch_up()
    assert world.printed.keys() == world.committed_ids


def commit_one(world: World, *, publish: bool) -> None:
    world.begin()
    world.write(len(world.open) - 1, savepoint=False, age=timedelta(0))
    world.commit(len(world.open) - 1, publish=publish)


def answer_all(world: World) -> None:
    while world.request is not None:
        world.answer()


def test_a_broadcast_that_comes_after_the_first_snapshot_is_printed_though_it_is_in_doubt() -> None:
    world = World(Merge(keep=0))
    world.begin()
    world.connect()
    commit_one(world, publish=True)
    world.answer()  # the snapshot shows it, as something from before the start
    world.end_transactions()
    world.tick(ReadKind.RECENT)
    world.answer()
    world.catch_up()  # delivers it
    world.tick(ReadKind.FULL)
    world.catch_up()
    assert len(world.printed) == 1


@pytest.mark.parametrize("merge", [Merge(hold=1), Merge(hold_bytes=3)])
def test_what_was_too_much_to_hold_is_read_from_history(merge: Merge) -> None:
    world = World(merge)
    world.catch_up()
    world.disconnect()
    world.answer()  # what the loss itself asks for
    commit_one(world, publish=False)
    world.connect()
    world.answer()  # the snapshot is taken, and the read not yet complete
    for _ in range(3):
        commit_one(world, publish=True)
    world.deliver(3)
    assert merge.remembered < 3  # they are not held
    world.catch_up()
    assert world.printed.keys() == world.committed_ids


def test_after_a_break_live_waits_for_what_is_near_and_not_for_everything() -> None:
    world = World(Merge())
    world.catch_up()
    world.disconnect()
    world.catch_up_history()
    for age in (timedelta(0), timedelta(days=30), timedelta(days=30)):
        world.begin()
        world.write(0, savepoint=False, age=age)
        world.commit(0, publish=False)
    *_, far = missed = [row.entry.id for row in world.committed]
    assert world.committed[-1].page == 0  # where nobody looks for it
    world.connect()
    commit_one(world, publish=True)
    world.deliver(1)
    live = world.committed[-1].entry.id
    assert not world.printed
    while world.merge.is_holding:
        world.answer()
    assert {*world.printed} == {*missed, live} - {far}
    assert [*world.printed][-1] == live
    world.catch_up_history()
    assert [*world.printed][-1] == far


@pytest.mark.parametrize("restarted", [False, True])
def test_portions_that_began_before_a_break_are_followed_by_others(restarted: bool) -> None:
    """They have passed the page on which something was written meanwhile."""
    world = World(Merge(), slices=True)
    world.catch_up()
    for _ in range(5):
        commit_one(world, publish=True)
    world.deliver(5)
    world.tick(ReadKind.FULL)
    answer_all(world)
    assert world.merge.goes_on
    if restarted:
        world.restart(killed=False, keep=50, hold=1000)
    else:
        world.disconnect()
        answer_all(world)  # what is near, of which the loss itself asks
    world.begin()
    world.write(0, savepoint=False, age=timedelta(days=30))
    assert world.open[0].rows[0].page == 0
    world.commit(0, publish=False)
    world.connect()
    world.catch_up_history()
    assert world.merge.caught_up
    assert world.printed.keys() == world.committed_ids


def test_portions_put_off_nothing_that_frees_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other they are read, and each is a read since which more was printed."""
    monkeypatch.setattr("lykke_cli.application.merge.UNCONFIRMED_IDS", 3)
    world = World(Merge(keep=0), slices=True)
    world.catch_up()
    for _ in range(20):
        commit_one(world, publish=True)
        world.deliver(1)
        world.tick(ReadKind.FULL)
        answer_all(world)
        assert world.merge.remembered <= 2 * 3 + 1


def test_the_last_portion_settles_nothing_that_came_after_the_first() -> None:
    world = World(Merge(keep=0), slices=True)  # what is settled is forgotten
    world.catch_up()
    for _ in range(5):
        commit_one(world, publish=True)
    world.deliver(5)
    world.tick(ReadKind.FULL)
    world.answer()  # the snapshot is taken, and the first page looked at
    world.begin()
    world.write(0, savepoint=False, age=timedelta(days=30))
    assert world.open[0].rows[0].page == 0
    world.commit(0, publish=True)
    world.deliver(1)
    for _ in range(2):
        world.catch_up_history()  # the world fails when anything is printed twice
        world.tick(ReadKind.FULL)


def test_what_a_break_asked_for_is_asked_for_again_where_it_failed() -> None:
    world = World(Merge())
    world.catch_up()
    world.disconnect()
    world.catch_up_history()
    world.begin()
    world.write(0, savepoint=False, age=timedelta(days=30))
    world.commit(0, publish=False)
    world.connect()
    for _ in range(2):
        world.fail()
        world.tick(ReadKind.RECENT)
    world.catch_up_history()
    assert world.printed.keys() == world.committed_ids


def test_a_failed_read_forgets_nothing_that_was_printed() -> None:
    world = World(Merge())
    world.catch_up()
    commit_one(world, publish=True)
    world.deliver(1)
    world.tick(ReadKind.RECENT)
    world.fail()
    world.tick(ReadKind.FULL)
    world.catch_up()  # the world fails when anything is printed twice
    assert world.printed.keys() == world.committed_ids


def test_a_failed_read_is_tried_again_by_the_clock_not_by_what_comes_live() -> None:
    world = World(Merge())
    world.catch_up()
    world.tick(ReadKind.RECENT)
    world.fail()
    for _ in range(3):
        commit_one(world, publish=True)
    world.deliver(3)
    assert world.printed.keys() == world.committed_ids  # live goes on
    assert world.request is None
    world.tick(ReadKind.RECENT)
    assert world.request is not None


def test_while_the_database_is_away_no_more_than_so_many_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lykke_cli.application.merge.UNCONFIRMED_LIMIT", 5)
    world = World(Merge())
    world.catch_up()
    for _ in range(10):
        commit_one(world, publish=True)
        world.deliver(1)
        world.tick(ReadKind.RECENT)
        world.fail()
    assert world.merge.remembered == len(world.printed) == 5
    world.tick(ReadKind.RECENT)
    world.catch_up()
    assert world.printed.keys() == world.committed_ids


def test_transactions_that_were_visible_and_are_lost_cover_nothing_any_more() -> None:
    """Their ids are those of others after a fail-over. Rare among the schedules."""
    world = World(Merge())
    world.catch_up()
    commit_one(world, publish=False)
    world.begin()  # stays open: the next one is above the snapshot's xmin
    commit_one(world, publish=False)
    world.tick(ReadKind.FULL)
    world.catch_up()
    world.fail_over(lost=1)
    for _ in range(3):
        commit_one(world, publish=False)
    world.tick(ReadKind.RECENT)
    world.catch_up()
    assert world.owed <= world.printed.keys()


TestPrimary = Schedules.TestCase
TestPrimary.settings = settings(
    max_examples=SCHEDULES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestReplica = SchedulesOnReplica.TestCase
TestReplica.settings = TestPrimary.settings
TestSlices = SchedulesInSlices.TestCase
TestSlices.settings = TestPrimary.settings
TestSlicesOnReplica = SchedulesInSlicesOnReplica.TestCase
TestSlicesOnReplica.settings = TestPrimary.settings
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
