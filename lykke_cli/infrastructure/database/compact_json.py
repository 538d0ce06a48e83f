"""Plain JSON in few bytes, for what a cursor holds: ids, times, and whole numbers that rise.

MessagePack, in which an id takes 16 bytes, a time 8, and of a list of rising numbers only the
differences are written; then DEFLATE, which knows the usual names beforehand. It comes back equal
to what it was. The format belongs to the version of what it is packed for: a change of anything
here is another version.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain
from operator import le, sub
from typing import Any
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

from lykke_cli.application.messages import format_time, parse_wire_time

MOST_UNPACKED = 64 << 10
"""Bytes of MessagePack; whatever is larger is neither packed nor unpacked."""
LARGE = 2**63
MOST_BITS = 63  # of a difference between two numbers, seven at a time
FEW = 3
"""A list of so many numbers is no longer as it is."""
_ID, _TIME, _RISING, _RUNS = range(1, 5)
_IS_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_IS_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII).fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RAW = -15  # DEFLATE without a header
_WHOLE = [
    1,
    "0001-01-01T00:00:00.000000Z",
    "9999-12-31T23:59:59.999999Z",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    [],
]
_WITNESSES = {"rows": [], "start": 1}
_SQLITE = {
    "kind": "sqlite",
    "file": "",
    "regions": [_WHOLE],
    "unreadable": _WHOLE,
    "unreadable_since": None,
    "witnesses": _WITNESSES,
}
_POSTGRESQL = {
    "kind": "postgresql",
    "at": "",
    "recent_from": "",
    "groups": [[[1], [_WHOLE]]],
    "witnesses": _WITNESSES,
    "origin": {"database": "", "timeline": 1, "lsn": 1, "server": "", "in_recovery": False},
}


def pack(data: dict[str, Any]) -> bytes:
    """Raises ValueError where it is too large, or not what MessagePack can hold."""
    try:
        message = msgspec.msgpack.encode(_shrunk(data))
    except (OverflowError, RecursionError, TypeError) as error:
        raise ValueError(f"This cannot be packed: {error}") from error
    if len(message) > MOST_UNPACKED:
        raise ValueError(f"{len(message)} bytes are too many")
    deflate = zlib.compressobj(wbits=_RAW, zdict=_usual())
    return deflate.compress(message) + deflate.flush()


def unpack(packed: bytes) -> dict[str, Any]:
    """The inverse of `pack`; raises ValueError on anything else."""
    inflate = zlib.decompressobj(_RAW, zdict=_usual())
    try:
        message = inflate.decompress(packed, MOST_UNPACKED)
        if not inflate.eof or inflate.unused_data:
            raise ValueError("the data do not end where they should")
        return _decode(message)
    except (zlib.error, msgspec.DecodeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error


def microseconds(moment: datetime) -> int:
    """From 1970 on."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds: int) -> datetime:
    """The inverse; raises OverflowError outside of the calendar."""
    return _EPOCH + timedelta(microseconds=microseconds)


@cache
def _usual() -> bytes:
    """What is in most cursors: what it is short for is found in here."""
    return b"".join(msgspec.msgpack.encode(_shrunk(each)) for each in (_SQLITE, _POSTGRESQL))


def _shrunk(value: Any) -> Any:
    if isinstance(value, str):
        return _short_text(value)
    if isinstance(value, dict):
        return {name: _shrunk(part) for name, part in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if len(value) >= FEW:
        if _rises(value):
            return Ext(_RISING, _differences(value))
        if all(isinstance(pair, list) and len(pair) == 2 for pair in value):
            bounds = list(chain.from_iterable(value))
            if _rises(bounds):
                return Ext(_RUNS, _differences(bounds))
    return [_shrunk(part) for part in value]


def _short_text(text: str) -> str | Ext:
    if len(text) == 36 and _IS_ID(text):
        return Ext(_ID, bytes.fromhex(text.replace("-", "")))
    if len(text) == 27 and _IS_TIME(text):
        try:
            number = microseconds(parse_wire_time(text))
        except ValueError:  # the 31st of February
            return text
        if format_time(moment(number)) == text:
            return Ext(_TIME, number.to_bytes(8, signed=True))
    return text


def _rises(numbers: Sequence[Any]) -> bool:
    if set(map(type, numbers)) != {int}:  # True is no number here
        return False
    return numbers[0] >= 0 and numbers[-1] < LARGE and all(map(le, numbers, numbers[1:]))


def _differences(numbers: Sequence[int]) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    written = bytearray()
    for left in map(sub, numbers, [0, *numbers]):
        while left > 127:
            written.append(left & 127 | 128)
            left >>= 7
        written.append(left)
    return bytes(written)


def _sums(written: Iterable[int]) -> Iterator[int]:
    total = difference = shift = 0
    for byte in written:
        difference |= (byte & 127) << shift
        shift += 7
        if shift > MOST_BITS:
            raise ValueError("a number is too large")
        if byte < 128:
            total += difference
            yield total
            difference = shift = 0
    if shift:
        raise ValueError("a number does not end")


def _grown(code: int, data: memoryview) -> Any:
    if code == _ID:
        return str(UUID(bytes=bytes(data)))
    if code == _TIME:
        return format_time(moment(int.from_bytes(data, signed=True)))
    if code not in (_RISING, _RUNS):
        raise ValueError(f"nothing has the code {code}")
    numbers = list(_sums(bytes(data)))  # an old msgspec gives signed numbers
    if code == _RISING:
        return numbers
    return [list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]


_decode = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=_grown).decode
