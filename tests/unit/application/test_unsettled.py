"""A checkpoint names few ids, whatever happens: a cursor made of it stays small."""

from datetime import timedelta

import pytest

from lykke_cli.application.merge import ReadKind
from lykke_cli.application.unsettled import IDS, UNCOVERED
from tests.unit.application.hub_world import USERS, Client, HubWorld

MOST = IDS - IDS // 4  # of what the newest mark does not cover
MANY = 3 * IDS
NOW = timedelta(0)
LONG_AGO = timedelta(days=30)


def following(world: HubWorld) -> Client:
    client = world.come(USERS[0], 0, from_the_first=False)
    world.work()
    return client


def names(client: Client) -> int:
    assert client.checkpoint is not None
    return len(client.checkpoint.pending)


@pytest.mark.parametrize("slices", [False, True])
@pytest.mark.parametrize("age", [NOW, LONG_AGO], ids=["recent", "older than a pass looks back"])
def test_live_entries_beyond_it_are_left_to_a_pass_that_is_brought_forward(
    age: timedelta, slices: bool
) -> None:
    world = HubWorld(lines=2 * MANY, slices=slices)
    client = following(world)
    for number in range(MANY):
        world.write_and_commit(USERS[0], age=NOW if number < MOST else age, publish=True)
    world.deliver(0, MANY)
    world.take(client)
    assert len(client.received) == names(client) == MOST
    world.work()  # without a tick
    assert client.received.keys() == world.committed_ids


def test_what_is_left_while_portions_are_read_comes_by_those_that_begin_anew() -> None:
    world = HubWorld(lines=2 * MANY, slices=True)
    for _ in range(MANY):
        world.write_and_commit(USERS[1], age=NOW, publish=False)
    client = following(world)
    world.carry_out(world.hubs[0], world.hubs[0].hub.read_on())
    for _ in range(3):  # pages of many; what is written on the first of them comes too late
        world.answer_pass(0)
        world.go_on(0)
    for _ in range(MANY):
        world.write_and_commit(USERS[0], age=LONG_AGO, publish=True)
    world.deliver(0, MANY)
    world.work()  # without a tick
    assert client.received.total() == MANY


@pytest.mark.parametrize("uncovered", [IDS, UNCOVERED])
def test_while_the_database_is_away_more_comes_live_and_no_checkpoint_names_it(
    uncovered: int,
) -> None:
    world = HubWorld(lines=2 * MANY, uncovered=uncovered)
    client = following(world)
    world.tick(0, ReadKind.RECENT)
    world.fail(0, 0)
    for _ in range(MANY):
        world.write_and_commit(USERS[0], age=NOW, publish=True)
    world.deliver(0, MANY)
    world.take(client)
    assert len(client.received) == len(client.uncovered) == min(MOST + uncovered, MANY)
    assert client.reader is not None and client.reader.checkpoint is None
    world.leave(client)  # it comes back with the checkpoint of before, and knows what it has
    world.join(client, 0)
    world.tick(0, ReadKind.RECENT)
    world.work()
    assert client.received.keys() == world.committed_ids
    assert names(client) == 0 and not client.again


def test_who_falls_behind_while_the_database_is_away_is_sent_nothing_twice() -> None:
    """It goes on from where it was, though that is no checkpoint."""
    world = HubWorld(lines=MANY)
    client = following(world)
    world.tick(0, ReadKind.RECENT)
    world.fail(0, 0)
    for _ in range(2):
        for _ in range(MANY + 1):
            world.write_and_commit(USERS[0], age=NOW, publish=True)
        world.take(client)
        world.deliver(0, MANY + 1)
    assert not client.uncovered
    world.tick(0, ReadKind.RECENT)
    world.work()  # fails when anything comes twice
    assert client.received.keys() == world.committed_ids


def test_what_a_pass_finds_is_taken_at_its_end_where_it_is_more() -> None:
    world = HubWorld(lines=2 * MANY)
    client = following(world)
    for _ in range(MANY):
        world.write_and_commit(USERS[0], age=NOW, publish=False)
    world.tick(0, ReadKind.RECENT)
    for _ in range(MOST):  # two rows each
        world.answer(0, 0)
    assert not world.take(client)
    world.work()
    assert client.received.keys() == world.committed_ids
    assert names(client) == 0


def test_who_comes_from_elsewhere_waits_for_a_mark_where_it_was_sent_more() -> None:
    world = HubWorld(lines=2 * MANY)
    following(world)
    client = world.come(USERS[0], 1, from_the_first=False)
    world.work()
    for _ in range(MANY):
        world.write_and_commit(USERS[0], age=NOW, publish=False)
    world.tick(1, ReadKind.RECENT)
    world.work()  # the other hub has read them, the first has not
    world.leave(client)
    world.join(client, 0)
    world.work()
    assert client.received.keys() == world.committed_ids
    assert names(client) == 0


def test_who_has_read_by_itself_during_a_pass_has_a_checkpoint_after_it_however_much_comes() -> (
    None
):
    """The pass was asked for before, and knows nothing of the rows that this reader bears."""
    world = HubWorld(lines=2 * MANY)
    world.come(USERS[1], 0, from_the_first=False)
    world.work()
    world.write_and_commit(USERS[0], age=NOW, publish=False)
    world.tick(0, ReadKind.RECENT)
    world.work()  # the hub's cursor covers it unread
    client = world.come(USERS[0], 0, from_the_first=True)
    world.confirm(0)
    world.answer(0, 0)  # some of what it missed
    world.tick(0, ReadKind.RECENT)
    while asked := [n for n, one in enumerate(world.hubs[0].asked) if one.request.reader]:
        world.answer(0, asked[0])
    for _ in range(2):
        for _ in range(MOST):
            world.write_and_commit(USERS[0], age=NOW, publish=True)
        world.deliver(0, MOST)
        for _ in range(4):  # what was read for it, and then the journal
            world.take(client)  # fails where it is sent any without a checkpoint
        world.answer_pass(0)
    assert client.received.keys() == world.committed_ids
    assert names(client) <= IDS


def test_there_is_room_again_after_a_pass_and_nobody_else_has_less_of_it() -> None:
    world = HubWorld(lines=2 * MANY)
    clients = [following(world), world.come(USERS[1], 0, from_the_first=False)]
    world.work()
    for user, number in ((USERS[0], MANY), (USERS[1], 1), (USERS[0], 1)):
        for _ in range(number):
            world.write_and_commit(user, age=NOW, publish=True)
    world.deliver(0, MANY + 2)
    for client in clients:
        world.take(client)
    assert [len(client.received) for client in clients] == [MOST, 1]
    world.work()
    world.write_and_commit(USERS[0], age=NOW, publish=True)
    world.deliver(0, 1)
    assert world.take(clients[0])


def test_what_a_replica_lacks_for_long_does_not_add_up_from_hub_to_hub() -> None:
    world = HubWorld(lines=2 * MANY, replica=True)
    client = following(world)
    for number, hub in ((MOST, 0), (IDS // 4, 1), (MOST, 0), (MOST, 1)):
        world.join(client, hub)
        world.work()
        for _ in range(number):
            world.write_and_commit(USERS[0], age=NOW, publish=True)
        world.deliver(hub, number)
        world.take(client)  # fails where its checkpoint names too much
        world.die(hub)
    assert MOST <= names(client) <= IDS
    world.end_transactions()
    world.join(client, 0)
    world.work()
    assert client.received.keys() == world.committed_ids
