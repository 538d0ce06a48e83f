"""A group takes every entry at least once, and one member at a time, whatever happens between."""

import pytest

from lykke_cli.application.consuming import (
    Claim,
    Found,
    GroupMember,
    Recover,
    Renew,
    Settled,
    StreamEntry,
)
from tests.unit.application.consume_world import (
    CLAIM_AFTER,
    STREAM,
    Actor,
    World,
    new_member,
)

CRASHES = {"crash": 0.05, "lost command": 0.03, "lost answer": 0.03, "fail": 0.03, "trim": 0.05}
WORLDS = {
    "calm": {},
    "crashes": CRASHES,
    "freezes": {**CRASHES, "freeze": 0.05},
    "groups lost": {**CRASHES, "freeze": 0.03, "destroy": 0.05},
    "streams lost": {**CRASHES, "delete": 0.05},
}
SEEDS = range(25)


@pytest.mark.parametrize("chances", WORLDS.values(), ids=WORLDS)
def test_every_entry_is_taken_and_by_one_member_at_a_time(chances: dict[str, float]) -> None:
    for seed in SEEDS:
        World(seed, chances).run()


class ClaimsAll(GroupMember):
    """It takes over what somebody still works on."""

    def steps(self, now):  # type: ignore[no-untyped-def]
        for step in super().steps(now):
            yield Claim(step.stream, step.start, 0.0) if isinstance(step, Claim) else step


class RenewsNothing(GroupMember):
    def held(self, stream, ids):  # type: ignore[no-untyped-def]
        return []


class GivesTwice(GroupMember):
    """It forgets what it holds."""

    def _take(self, stream, found, now):  # type: ignore[no-untyped-def]
        for entry in found.entries:
            self._shares[stream].held.pop(entry.id, None)
        return super()._take(stream, found, now)


class NeverBuries(GroupMember):
    def __init__(self, streams, **options):  # type: ignore[no-untyped-def]
        super().__init__(streams, **options | {"max_deliveries": 1_000_000})


class LeavesWhatWasTrimmed(GroupMember):
    def _take(self, stream, found, now):  # type: ignore[no-untyped-def]
        settled = super()._take(stream, found, now)
        return Settled(found.foreign, settled.bury, settled.trimmed)


class BeginsBehindThePending(GroupMember):
    def looked(self, step, given_out, pending, now):  # type: ignore[no-untyped-def]
        super().looked(step, given_out, None, now)


class BeginsBehindAnotherStream(GroupMember):
    def start_again(self, stream, *, is_there):  # type: ignore[no-untyped-def]
        return self.floor(stream)


class ClaimsNothing(GroupMember):
    def steps(self, now):  # type: ignore[no-untyped-def]
        return (step for step in super().steps(now) if not isinstance(step, Claim))


class AcknowledgesAtOnce(Actor):
    """Before its output has taken it."""

    def take(self) -> None:
        super().take()
        self.server.acknowledge([entry.id for entry in self.working])


class TakesBack(Actor):
    """It renews what it holds, whoever has it meanwhile."""

    def _own(self, idle: float) -> list[str]:
        return [entry.id for entry in self.working]


@pytest.mark.parametrize(
    ("breaks", "where"),
    [
        (ClaimsAll, "crashes"),
        (RenewsNothing, "calm"),
        (GivesTwice, "crashes"),
        (NeverBuries, "crashes"),
        (LeavesWhatWasTrimmed, "crashes"),
        (BeginsBehindThePending, "groups lost"),
        (BeginsBehindAnotherStream, "streams lost"),
        (ClaimsNothing, "crashes"),
        (AcknowledgesAtOnce, "crashes"),
        (TakesBack, "freezes"),
    ],
)
def test_the_model_notices_a_member_that_is_broken(
    breaks: type[GroupMember] | type[Actor], where: str
) -> None:
    with pytest.raises(AssertionError):
        for seed in range(100):
            if issubclass(breaks, Actor):
                World(seed, WORLDS[where], make_actor=breaks).run()
            else:
                World(seed, WORLDS[where], make_member=lambda: new_member(breaks)).run()


def entries(*numbers: int) -> list[StreamEntry]:
    return [StreamEntry(STREAM, f"{number}-0", "", b"{}") for number in numbers]


def test_no_more_of_what_is_pending_is_read_than_is_taken_and_it_is_renewed_meanwhile() -> None:
    member = new_member()
    [recover] = member.steps(0.0)
    assert isinstance(recover, Recover)
    member.recovered(recover, Found(entries(1, 2)), 0.0)
    assert list(member.steps(1.0)) == []
    [renew] = member.steps(CLAIM_AFTER / 2)
    assert isinstance(renew, Renew)
    member.renewed(renew, CLAIM_AFTER / 2)
    assert member.give() == entries(1, 2)
    assert list(member.steps(CLAIM_AFTER / 2)) == [Recover(STREAM, "2-0")]


def test_what_is_let_go_while_more_is_found_is_not_given_again_at_once() -> None:
    member = new_member()
    [recover] = member.steps(0.0)
    assert isinstance(recover, Recover)
    member.recovered(recover, Found(entries(1)), 0.0)
    member.let_go(member.give())
    member.recovered(recover, Found(), 0.0)
    member.lost(1.0)
    member.recovered(recover, Found(entries(1, 2)), 1.0)
    assert member.give() == entries(2)


def test_what_it_found_before_it_was_frozen_is_not_given_to_it_afterwards() -> None:
    member = new_member()
    [recover] = member.steps(0.0)
    assert isinstance(recover, Recover)
    member.recovered(recover, Found(entries(1)), 0.0)
    member.heed(2 * CLAIM_AFTER)  # another one has taken it over by now
    assert member.give() == []
    assert recover in member.steps(2 * CLAIM_AFTER)
