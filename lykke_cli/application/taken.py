"""What of the entries that were handed out counts as taken: pure decisions, like the merge's.

A place may be moved by what was taken alone, and in the order in which it happened: each entry by
itself, and a checkpoint once all that was handed out before it was taken. So the place is at every
moment what it would be, had nothing happened after the latest entry that was taken.
"""

from collections import deque
from collections.abc import Iterator

import msgspec

from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import Arrival, Entry

Move = Arrival | Checkpoint
"""What a place is to note: that a message was taken, or that a checkpoint was reached."""


class _Waiting(msgspec.Struct, frozen=True):
    move: Move
    id: str | None
    """Of the entry that must be taken; None of what only waits for those before it."""
    number: int


class Taken:
    """Keeps what was handed out until it is taken. What a method returns is to be noted, in order.

    Its length is the number of entries that were handed out and not taken.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._numbers: dict[str, int] = {}  # of the entries that wait, by their ids
        self._handed_out = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def hand_out(self, entry: Entry, arrival: Arrival) -> None:
        """The application has it."""
        self._handed_out += 1
        self._numbers[entry.id] = self._handed_out
        self._waiting.append(_Waiting(arrival, entry.id, self._handed_out))

    def take(self, id: str | None = None) -> list[Move]:
        """This entry was taken, and every one before it; without an id all of them."""
        number = self._handed_out if id is None else self._numbers.get(id, 0)
        return list(self._taken_up_to(number))

    def passed(self, move: Move) -> list[Move]:
        """It needs nobody to take it, only all that was handed out before it to be taken."""
        if isinstance(move, Checkpoint) and self._waiting:
            if isinstance(self._waiting[-1].move, Checkpoint):
                self._waiting.pop()  # the later one says it all
        self._waiting.append(_Waiting(move, None, self._handed_out))
        return list(self._taken_up_to(0))

    def _taken_up_to(self, number: int) -> Iterator[Move]:
        while self._waiting and (self._waiting[0].id is None or self._waiting[0].number <= number):
            first = self._waiting.popleft()
            if first.id is not None and self._numbers[first.id] == first.number:
                del self._numbers[first.id]
            yield first.move
