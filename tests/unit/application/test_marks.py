"""The marks of a hub, and the rows of its readers that bear witness for them."""

from collections.abc import Sequence
from typing import Any

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk
from lykke_cli.application.journal import Mark
from lykke_cli.application.marks import MARKS, Marks
from lykke_cli.application.merge import Read, ReadKind


def cursor(*rows: int) -> Cursor:
    return Cursor({"rows": sorted(rows)})


def vouched(one: Cursor, by: Cursor) -> Cursor:
    """As a history has it: the newest decides."""
    mine, others = one.data["rows"], by.data["rows"]
    return one if max(others) <= max(mine) else cursor(*{*mine, *others})


def end_passes(marks: Marks, cursors: Sequence[Cursor], **fields: Any) -> None:
    for each in cursors:
        last = HistoryChunk(rows=(), cursor=each, last=True, **fields)
        marks.set(marks.number + 1, 0, ReadKind.RECENT, last, {}, None)


def newest(marks: Marks) -> Mark:
    assert marks.newest is not None
    return marks.newest


def test_so_many_are_kept() -> None:
    marks = Marks(vouched)
    assert (marks.newest, marks.number) == (None, 0)
    end_passes(marks, [cursor(1)] * (MARKS + 3))
    assert [mark.number for mark in marks] == list(range(4, MARKS + 4))
    assert marks.number == newest(marks).number == MARKS + 3


def test_who_has_read_beyond_the_witnesses_has_a_mark_of_its_own_and_later_ones_are_for_all() -> (
    None
):
    marks = Marks(vouched)
    end_passes(marks, [cursor(1, 5)])
    mark = newest(marks)
    assert marks.witnessed_by(mark, cursor(2, 5)) is mark
    assert marks.witnessed_by(mark, None) is mark
    own = marks.witnessed_by(mark, read := cursor(7))
    assert (own.cursor, own.number) == (cursor(1, 5, 7), 1)
    assert marks.witnessed_by(mark, read) is own, "those who have read together share it"
    assert newest(marks) is mark, "it is no one else's"
    assert marks.witnessed_by(mark, cursor(6)).cursor == cursor(1, 5, 6)
    asked = marks.witnessed(Read(ReadKind.RECENT, cursor(1, 5)))
    assert asked.cursor is not None and max(asked.cursor.data["rows"]) == 7
    assert marks.witnessed(Read(ReadKind.FULL, None)).cursor is None
    end_passes(marks, [cursor(1, 6), cursor(9)])
    assert [max(each.cursor.data["rows"]) for each in marks] == [5, 7, 9]
    assert all(marks.witnessed_by(each, read) is each for each in list(marks)[1:])
