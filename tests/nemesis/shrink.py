"""A failing plan made shorter: delta debugging over its steps."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shrink(steps: Sequence[T], fails: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """A subsequence for which `fails` holds still, and of which no single part can be left out.

    `steps` itself is taken to fail. `fails` may end it early by saying False from some time on.
    """
    kept = tuple(steps)
    size = max(1, len(kept) // 2)
    while kept:
        start, shorter = 0, False
        while start < len(kept):
            without = kept[:start] + kept[start + size :]
            if fails(without):
                kept, shorter = without, True
            else:
                start += size
        if not shorter:
            if size == 1:
                break
            size = max(1, size // 2)
    return kept
