"""A reader that catches up, and is left in the middle."""

from tests.unit.application.hub_world import USERS, HubWorld
from tests.unit.application.test_unsettled import NOW, following


def test_a_read_that_is_broken_off_goes_on_and_still_knows_what_was_sent_before_it() -> None:
    world = HubWorld(lines=50)
    client = following(world)
    for number in range(4):
        world.write_and_commit(USERS[0], age=NOW, publish=number == 3)
    world.deliver(0, 1)
    assert world.take(client)
    world.leave(client)
    world.join(client, 1)
    world.confirm(1)
    for _ in range(2):  # the hub's beginning, and two of the four rows
        world.answer(1, -1)
    assert len(world.hubs[1].asked) == 1
    world.break_off(1, 0)
    assert not world.hubs[1].asked  # until it has taken them
    assert world.take(client)
    assert len(client.received) == 3
    world.work()  # fails when anything comes twice
    assert client.received.keys() == world.committed_ids
