"""A reader that catches up, and is left in the middle."""

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.journal import Mark
from lykke_cli.application.merge import ReadKind
from lykke_cli.application.reader import Reader
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


def test_who_waits_for_a_later_mark_takes_none_of_a_portion() -> None:
    """They come one after another, and each try reads for the reader alone."""
    reader = Reader(None, None, None, None, 4)
    reader.mark = Mark(
        number=1,
        position=0,
        cursor=Cursor({}),
        pending={},
        floor=None,
        authoritative=True,
        since=1,
        covered_from=None,
    )
    portions, later = (msgspec.structs.replace(reader.mark, number=2, since=n) for n in (0, 1))
    assert reader.may_use(portions) and reader.may_use(later)
    assert reader.needs_later_mark() is ReadKind.RECENT
    assert not reader.may_use(reader.mark)
    assert reader.may_use(later) and not reader.may_use(portions)
    assert reader.needs_later_mark() is ReadKind.FULL
    assert reader.needs_later_mark() is None
