"""Sets of whole numbers that are kept as runs: a million that follow each other are one run."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import msgspec

FARTHEST = 2**62  # the databases' own numbers stay far below it


def position(data: Any) -> int:
    """A place in the order of commits, as it was stored; raises ValueError where it is none."""
    if not isinstance(data, int) or abs(data) > FARTHEST:
        raise ValueError(f"{data!r} is no position")
    return data


class Runs(msgspec.Struct, frozen=True):
    """An immutable set of integers."""

    bounds: tuple[int, ...] = ()
    """Where the set begins and where it ends, in turns: the first number of a run, and the first
    number after it. Strictly ascending, so that runs neither overlap nor touch."""

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "Runs":
        """The set of `numbers`, in any order."""
        return cls.between((number, number + 1) for number in numbers)

    @classmethod
    def between(cls, pairs: Iterable[tuple[int, int]]) -> "Runs":
        """All from the first number of a pair up to, and without, its second."""
        bounds: list[int] = []
        for begin, end in sorted(pairs):
            if bounds and begin <= bounds[-1]:
                bounds[-1] = max(bounds[-1], end)
            elif begin < end:
                bounds += begin, end
        return cls(tuple(bounds))

    def __contains__(self, number: int) -> bool:
        return bisect_right(self.bounds, number) % 2 == 1

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self.bounds) // 2

    def __or__(self, other: "Runs") -> "Runs":
        if not other or not self:
            return self or other
        return Runs.between(chain(self.pairs(), other.pairs()))

    def pairs(self) -> Iterator[tuple[int, int]]:
        """The first number of each run, and the first after it."""
        return zip(self.bounds[::2], self.bounds[1::2], strict=True)

    def includes(self, other: "Runs") -> bool:
        """True where every number of `other` is one of these."""
        for begin, end in other.pairs():
            index = bisect_right(self.bounds, begin)
            if index % 2 == 0 or self.bounds[index] < end:
                return False
        return True

    def below(self, end: int) -> "Runs":
        """Those that are less than `end`."""
        kept = self.bounds[: bisect_left(self.bounds, end)]
        return Runs((*kept, end)) if len(kept) % 2 else Runs(kept)

    def starting(self, begin: int) -> "Runs":
        """Those that are `begin` or more."""
        kept = self.bounds[bisect_right(self.bounds, begin) :]
        return Runs((begin, *kept)) if len(kept) % 2 else Runs(kept)

    def gaps(self, begin: int, end: int) -> "Runs":
        """What they leave out from `begin` up to, and without, `end`."""
        within = self.starting(begin).below(end).bounds
        return Runs.between(zip((begin, *within[1::2]), (*within[::2], end), strict=True))

    def dump(self) -> list[list[int]]:
        """The first and the last number of each run, as plain JSON."""
        return [[begin, end - 1] for begin, end in self.pairs()]

    @classmethod
    def load(cls, data: Iterable[Any]) -> "Runs":
        """The inverse of `dump`; raises ValueError or TypeError on anything else."""
        return cls.between((position(first), position(last) + 1) for first, last in data)


NONE: Final = Runs()
