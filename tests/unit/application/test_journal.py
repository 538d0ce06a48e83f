"""Readers of one user who take the same take the same objects: they are sent on once for all."""

import msgspec

from lykke_cli.application.merge import ReadKind
from tests.unit.application.hub_world import USERS, Client, HubWorld
from tests.unit.application.test_unsettled import NOW, following


def take_alike(world: HubWorld, one: Client, other: Client) -> bool:
    """Whether two clients, who have something to take, take the same objects."""
    assert one.reader is not None and other.reader is not None
    hub = world.hubs[0].hub
    portion, others = hub.take(one.reader)[0], hub.take(other.reader)[0]
    assert [line.id for line in portion.lines] == [line.id for line in others.lines] != []
    return portion is others


def test_a_checkpoint_that_was_given_stays_as_it_was() -> None:
    world = HubWorld(lines=50)
    client = world.come(USERS[0], 0, from_the_first=False)
    world.confirm(0)
    while world.hubs[0].asked:
        world.answer(0, 0)
    assert client.reader is not None
    given = [client.reader.checkpoint]
    as_given = [msgspec.json.encode(given)]
    for _ in range(3):
        world.write_and_commit(USERS[0], age=NOW, publish=True)
        world.deliver(0, 1)
        assert world.take(client)
        given.append(client.checkpoint)
        as_given.append(msgspec.json.encode(given))
    assert [msgspec.json.encode(given[: n + 1]) for n in range(4)] == as_given


def test_they_are_shared_from_the_beginning() -> None:
    world = HubWorld(lines=50)
    one, other = following(world), following(world)
    for _ in range(2):
        world.write_and_commit(USERS[0], age=NOW, publish=True)
        world.deliver(0, 1)
        assert take_alike(world, one, other)
    world.tick(0, ReadKind.RECENT)
    while world.hubs[0].asked:
        world.answer(0, 0)
    world.write_and_commit(USERS[0], age=NOW, publish=True)
    world.deliver(0, 1)
    assert take_alike(world, one, other)


def test_who_was_sent_something_elsewhere_shares_them_after_the_next_mark() -> None:
    world = HubWorld(lines=50)
    one = following(world)
    other = world.come(USERS[0], 1, from_the_first=False)
    world.work()
    world.write_and_commit(USERS[0], age=NOW, publish=False)
    world.tick(1, ReadKind.RECENT)
    world.work()
    world.leave(other)
    world.join(other, 0)
    world.work()
    world.write_and_commit(USERS[0], age=NOW, publish=True)
    world.deliver(0, 1)
    assert not take_alike(world, one, other)
    world.tick(0, ReadKind.RECENT)
    world.work()
    world.write_and_commit(USERS[0], age=NOW, publish=True)
    world.deliver(0, 1)
    assert take_alike(world, one, other)
