"""What counts as taken, against a model that remembers everything."""

from collections.abc import Iterable
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import Arrival, Entry, UnreadableEntry
from lykke_cli.application.place import Place
from lykke_cli.application.taken import Move, Taken

AT = "2026-01-31T12:00:00.000000Z"


class Passed(NamedTuple):
    """A committed entry that nobody can take."""

    id: str


class World:
    """What happens to a following, and what of it the place may know."""

    def __init__(self) -> None:
        self.taken, self.place = Taken(), Place()
        self.handed_out: list[Entry | Passed] = []
        self.acknowledged = 0  # of those, from the first on
        self.checkpoints = [0]  # how many of those had been handed out before each
        self.place.reached(Checkpoint(Cursor({"covered": [], "number": 0}), {}, None))

    def note(self, moves: Iterable[Move]) -> None:
        for move in moves:
            if isinstance(move, Checkpoint):
                self.place.reached(move)
            else:
                self.place.wrote([move])

    def hand_out(self) -> None:
        arrival = Arrival(_entry(len(self.handed_out)), "live")
        assert isinstance(arrival.message, Entry)
        self.handed_out.append(arrival.message)
        self.taken.hand_out(arrival.message, arrival)

    def pass_over(self) -> None:
        id = _entry(len(self.handed_out)).id
        self.handed_out.append(Passed(id))
        message = UnreadableEntry(b"{}", "no time", id=id, user_id=id)
        self.note(self.taken.passed(Arrival(message, "history")))

    def save(self, covered: int) -> None:
        """A checkpoint covers so many of the entries, and names the others."""
        ids = [entry.id for entry in self.handed_out]
        cursor = Cursor({"covered": ids[:covered], "number": len(self.checkpoints)})
        self.checkpoints.append(len(ids))
        self.note(self.taken.passed(Checkpoint(cursor, dict.fromkeys(ids[covered:], AT), None)))

    def acknowledge(self, index: int | None) -> None:
        if index is None:
            self.note(self.taken.take())
            self.acknowledged = len(self.handed_out)
        elif self.handed_out:
            index %= len(self.handed_out)
            entry = self.handed_out[index]
            self.note(self.taken.take(entry.id))
            if isinstance(entry, Entry):
                self.acknowledged = max(self.acknowledged, index + 1)

    def check(self) -> None:
        count = self.acknowledged
        while count < len(self.handed_out) and isinstance(self.handed_out[count], Passed):
            count += 1
        known = self.place.current()
        assert known is not None and known.cursor is not None
        ids = {entry.id for entry in self.handed_out[:count]}
        assert {*known.cursor.data["covered"], *known.pending} == ids
        latest = max(n for n, before in enumerate(self.checkpoints) if before <= count)
        assert known.cursor.data["number"] == latest
        waiting = self.handed_out[self.acknowledged :]
        assert len(self.taken) == sum(isinstance(entry, Entry) for entry in waiting)


def _entry(number: int) -> Entry:
    return Entry(
        id=f"00000000-0000-0000-0000-{number:012x}",
        user_id="00000000-0000-0000-0000-000000000001",
        activity_type="A",
        occurred_at=AT,
    )


STEPS = st.one_of(
    st.tuples(st.just("hand_out")),
    st.tuples(st.just("pass_over")),
    st.tuples(st.just("save"), st.integers(0, 20)),
    st.tuples(st.just("acknowledge"), st.none() | st.integers(0, 20)),
)


@given(st.lists(STEPS, max_size=40))
def test_a_place_covers_what_was_taken_no_less_and_no_more(steps: list[tuple[object, ...]]) -> None:
    world = World()
    for name, *arguments in steps:
        getattr(world, str(name))(*arguments)
        world.check()


def test_what_is_handed_out_twice_is_taken_where_it_came_last() -> None:
    taken, arrival = Taken(), Arrival(_entry(1), "live")
    for entry in (_entry(1), _entry(2), _entry(1)):
        taken.hand_out(entry, arrival)
    assert len(taken.take(_entry(1).id)) == 3
    assert len(taken) == 0


def test_checkpoints_that_wait_for_the_same_entry_are_one() -> None:
    taken = Taken()
    taken.hand_out(_entry(1), Arrival(_entry(1), "live"))
    waiting = [Checkpoint(Cursor({"number": n}), {}, None) for n in range(9)]
    assert not any(taken.passed(checkpoint) for checkpoint in waiting)
    assert taken.take() == [Arrival(_entry(1), "live"), waiting[-1]]
