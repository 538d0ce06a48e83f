"""What a cursor holds comes back as it was, in few bytes; and whatever else comes is refused."""

import json
import zlib
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from lykke_cli.application.messages import format_time
from lykke_cli.infrastructure.database.compact_json import MOST_UNPACKED, pack, unpack

texts = st.text(max_size=12) | st.uuids().map(str)
texts |= st.datetimes(timezones=st.just(UTC)).map(format_time)
numbers = st.integers(-(2**63), 2**63 - 1)
rising = st.lists(st.integers(0, 2**63 - 1), max_size=9).map(sorted)
pairs = rising.map(lambda n: [list(pair) for pair in zip(n[::2], n[1::2], strict=False)])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False) | texts | rising | pairs,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(texts, values, max_size=5))
@example({"no": ["2026-02-31T00:00:00.000000Z", "AAAAAAAA-aaaa-aaaa-aaaa-aaaaaaaaaaaa", "\ud7ff"]})
@example({"no": [[0, 1, True], [3, 2, 1], [1, 2, 2**64 - 1], [[1, 2], [3, 4], [5]], [-1, 0, 1]]})
def test_it_comes_back_as_it_was(data: dict[str, Any]) -> None:
    again = unpack(pack(data))
    assert again == data
    assert json.dumps(again) == json.dumps(data)  # True is 1, but not the same


def test_a_thousand_runs_and_a_thousand_partitions_take_little() -> None:
    runs = [[n, n + 1] for n in range(5_000_000_000, 5_000_003_000, 3)]
    assert len(pack({"visible": runs})) < 100
    assert len(pack({"relations": list(range(16_384, 16_384 + 7_000, 7))})) < 100


@pytest.mark.parametrize(
    "data", [{"n": 2**64}, {"s": "\ud800"}, {"a": "x" * MOST_UNPACKED}, {"f": object()}]
)
def test_what_cannot_be_held_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        pack(data)


def deflated(message: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(message) + deflate.flush()


def nested(depth: int) -> bytes:
    return b"\x81\xa1a" + b"\x91" * depth + b"\xc0"


CODES = {
    "too short an id": Ext(1, b"short"),
    "a time after the calendar": Ext(2, b"\x7f" * 8),
    "half a number": Ext(3, b"\x80"),
    "a number without end": Ext(3, b"\xff" * 20 + b"\x01"),
    "half a pair": Ext(4, b"\x01"),
    "a code of nobody's": Ext(77, b""),
}


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xff\xff",
        deflated(b"\x80") + b"more",
        deflated(b"\x80")[:-1],
        deflated(b"\x91\x80"),
        deflated(b"\x80\x80"),
        deflated(b"\x81\xa1a"),
        deflated(b"\x81\xa1\xff\xc0"),
        deflated(nested(50_000)),
        deflated(b"\x81\xa1a\xc6\x00\x02\x00\x00" + bytes(2 * MOST_UNPACKED)),
        *(deflated(msgspec.msgpack.encode({"x": code})) for code in CODES.values()),
    ],
)
def test_anything_else_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(packed)


@given(st.binary(max_size=80), st.booleans())
def test_no_bytes_are_more_than_refused(data: bytes, is_deflated: bool) -> None:
    try:
        found = unpack(deflated(data) if is_deflated else data)
    except ValueError:
        return
    assert isinstance(found, dict)
