"""Stretches of time in which something occurred."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

MOST_SPANS = 300
"""Of more, those that are nearest to each other become one."""
MOST_NEAR = 16
"""In so many is looked at once."""
NEAR = timedelta(minutes=10)
"""Stretches that are no further apart become one."""
Span = tuple[datetime, datetime]
"""The first moment and the last."""
Spans = tuple[Span, ...]


def joined(spans: Iterable[Span], most: int = MOST_SPANS) -> Spans:
    """They cover what `spans` cover, in order and apart from each other, and are few."""
    apart = _apart(sorted(spans), NEAR)
    if len(apart) > most:
        gaps = sorted(later[0] - earlier[1] for earlier, later in pairwise(apart))
        apart = _apart(apart, gaps[-most])
    return tuple(apart)


def latest(spans: Sequence[Span], length: timedelta, most: int = MOST_NEAR) -> Spans:
    """The last `most` of them, as far as they are no longer than `length` together."""
    kept = list[Span]()
    for low, high in reversed(spans[-most:]):
        length -= high - low
        if length < timedelta(0):
            break
        kept.insert(0, (low, high))
    return tuple(kept)


def _apart(spans: Iterable[Span], near: timedelta) -> list[Span]:
    apart = list[Span]()
    for low, high in spans:
        if apart and low - apart[-1][1] <= near:
            apart[-1] = (apart[-1][0], max(apart[-1][1], high))
        else:
            apart.append((low, high))
    return apart
