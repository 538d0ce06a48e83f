"""What a few rows prove of a history that may have lost its end."""

import uuid

from hypothesis import example, given
from hypothesis import strategies as st

from lykke_cli.infrastructure.database.witnesses import Witness, Witnesses, prove

MOST_READ_AGAIN = 2  # times as much as was lost
gaps = st.lists(st.integers(1, 40), max_size=40)


def rows_from(position: int, gaps: list[int]) -> list[Witness]:
    rows = []
    for gap in gaps:
        position += gap
        rows.append((position, str(uuid.UUID(int=position))))
    return rows


@given(gaps, st.lists(gaps, max_size=4), st.integers(0, 2_000))
@example([1] * 6, [[1] * 19], 7)  # of the rows at the start, only the oldest was a witness
def test_what_was_there_at_the_start_is_proven_whatever_is_lost_after_it(
    at_start: list[int], reads: list[list[int]], left: int
) -> None:
    there = rows_from(0, at_start)
    witnesses = Witnesses.at_start(there)
    for read in reads:
        new = rows_from(there[-1][0] if there else 0, read)
        there += new
        witnesses = Witnesses.load(witnesses.joined_by(new).dump())
    start, newest = witnesses.start, there[-1][0] if there else 0
    kept = [row for row in there if row[0] <= max(start, left)]
    proven = prove("something happened", witnesses, kept)
    if proven is None:
        assert start == -1 and there
        return
    assert start <= proven.position <= newest
    assert proven.is_all == (kept == there)
    if kept:
        lost = newest - kept[-1][0]
        assert kept[-1][0] - proven.position <= MOST_READ_AGAIN * lost
    assert len(witnesses.rows) <= 2 * newest.bit_length() + 3
