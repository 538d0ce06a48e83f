"""Ids sort, and rise, as those of Redis do."""

import pytest

from lykke_cli.application.stream_ids import NO_ID, StreamId


def test_an_id_is_read_and_written() -> None:
    assert str(StreamId.parse(b"1526919030474-55")) == "1526919030474-55"
    assert StreamId.parse("7") == StreamId(7, 0)
    with pytest.raises(ValueError):
        StreamId.parse("x-1")


def test_ids_sort_by_time_and_number() -> None:
    assert NO_ID < StreamId(9, 5) < StreamId(10, 0) < StreamId(10, 1)


def test_the_next_id_is_greater_though_the_clock_goes_back() -> None:
    assert StreamId(10, 3).next(12) == StreamId(12, 0)
    assert StreamId(10, 3).next(10) == StreamId(10, 4)
    assert StreamId(10, 3).next(2) == StreamId(10, 4)
