"""A user is followed for a while after the last reader has left: readers come back soon."""

import uuid

import pytest

from lykke_cli.application import member
from lykke_cli.application.merge import ReadKind
from tests.unit.application.hub_world import USERS, HubWorld
from tests.unit.application.test_unsettled import NOW, following


def test_who_comes_back_soon_needs_no_database() -> None:
    world = HubWorld(lines=50)
    client = following(world)
    world.write_and_commit(USERS[0], age=NOW, publish=True)
    world.deliver(0, 1)
    world.take(client)
    world.tick(0, ReadKind.RECENT)
    world.work()
    world.leave(client)
    world.write_and_commit(USERS[0], age=NOW, publish=True)
    world.deliver(0, 1)
    world.join(client, 0)
    assert not world.hubs[0].asked
    assert client.reader is not None and client.reader.begun is not None
    assert client.reader.begun.source == "memory"
    world.take(client)
    assert client.received.keys() == world.committed_ids


def test_what_one_reader_was_sent_from_elsewhere_is_the_floor_of_all() -> None:
    world = HubWorld(lines=50)
    world.write_and_commit(USERS[0], age=NOW, publish=False)
    first = following(world)
    world.take(first)
    second = world.come(USERS[0], 0, from_the_first=True)
    world.work()
    for client in (first, second):
        assert client.checkpoint is not None
        assert client.checkpoint.floor == world.committed[0].entry.occurred_at


def test_it_is_followed_no_longer_when_nobody_comes() -> None:
    world = HubWorld(lines=50)
    client = following(world)
    world.leave(client)
    for _ in range(member.LINGER):
        assert world.hubs[0].channels == {USERS[0]}
        world.tick(0, ReadKind.RECENT)
        world.work()
    assert not world.hubs[0].channels


def test_of_many_that_were_left_the_last_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member, "MOST_LINGERING", 2)
    world = HubWorld(lines=50)
    users = [str(uuid.UUID(int=number)) for number in range(4)]
    clients = [world.come(user, 0, from_the_first=False) for user in users]
    world.work()
    for client in clients:
        world.leave(client)
    assert world.hubs[0].channels == set(users[2:])


def test_all_journals_together_have_a_bound_and_who_falls_off_has_every_entry() -> None:
    world = HubWorld(lines=1_000, all_bytes=20_000)
    users = [str(uuid.UUID(int=number)) for number in range(5)]
    clients = [world.come(user, 0, from_the_first=False) for user in users]
    world.work()
    for _ in range(20):
        for user in users:
            world.write_and_commit(user, age=NOW, publish=True)
    world.deliver(0, 100)
    assert not any(world.take(client) for client in clients)
    world.work()
    for client in clients:
        assert len(client.received) == 20
