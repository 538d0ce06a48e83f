"""The ends of a hub's last passes, and what bears witness for them.

A cursor's history keeps some of the rows that were read with it: after a crash or a fail-over they
tell which commits were lost, and nothing is read again that lies before the last of them. A hub's
cursor has no witness among the rows that only a reader read. So whoever comes to a position gives
it those, for this mark and for all later ones.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk
from lykke_cli.application.journal import Mark
from lykke_cli.application.merge import Read, ReadKind, Verify

MARKS = 64
"""How many passes ago a reader may have left, to come back without the database."""
Vouched = Callable[[Cursor, Cursor], Cursor]
"""As `HistoryProtocol.vouched`."""


_WithCursor = TypeVar("_WithCursor", bound=Mark | Read | Verify)


class Marks:
    """Those of one hub, the oldest first."""

    def __init__(self, vouched: Vouched) -> None:
        self._marks: deque[Mark] = deque(maxlen=MARKS)
        self._vouched = vouched
        self._witness: Cursor | None = None
        self._anew = 0  # the pass with which everything began to be read
        self._last: tuple[Mark, Cursor, Mark] | None = None  # many readers have read together

    def __iter__(self) -> Iterator[Mark]:
        return iter(self._marks)

    @property
    def newest(self) -> Mark | None:
        return self._marks[-1] if self._marks else None

    @property
    def number(self) -> int:
        """Of the newest pass; 0 before there was one."""
        return self._marks[-1].number if self._marks else 0

    def set(
        self,
        number: int,
        position: int,
        kind: ReadKind,
        last: HistoryChunk,
        pending: Mapping[str | None, dict[str, str]],
        floor: str | None,
    ) -> None:
        """A pass of this kind has ended, with this chunk."""
        since, covered_from = number, last.covered_from
        if kind is ReadKind.FULL:
            self._anew = number if last.anew else self._anew
            since, covered_from = (0, covered_from) if last.goes_on else (self._anew, None)
        mark = Mark(
            number=number,
            position=position,
            cursor=last.cursor,
            pending=pending,
            floor=floor,
            authoritative=last.authoritative,
            since=since,
            covered_from=covered_from,
        )
        self._marks.append(self.witnessed(mark))

    def witnessed(self, one: _WithCursor) -> _WithCursor:
        """The same, with the rows that readers read, where its cursor is the hub's own."""
        if self._witness is None or one.cursor is None:
            return one
        return _with(one, self._vouched(one.cursor, self._witness))

    def witnessed_by(self, mark: Mark, read: Cursor | None) -> Mark:
        """The mark as it is for who has read up to `read` by itself.

        The very same one where it tells no less: so do those of all passes that are asked for from
        now on. That of one under way, or of one that has ended since, may tell less.
        """
        if read is None:
            return mark
        if self._last is not None and self._last[0] is mark and self._last[1] is read:
            return self._last[2]
        own = _with(mark, self._vouched(mark.cursor, read))
        if own is not mark:
            self._witness = read if self._witness is None else self._vouched(read, self._witness)
        self._last = mark, read, own
        return own


def _with(one: _WithCursor, cursor: Cursor) -> _WithCursor:
    return one if cursor is one.cursor else msgspec.structs.replace(one, cursor=cursor)
