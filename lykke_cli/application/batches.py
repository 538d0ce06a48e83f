"""Messages on their way to the output, many at a time, and the decoder of many that come live.

What is done to many is done at once: the usual form of an entry is checked, noted, filtered and
printed in columns. A batch answers for itself; who asks need not know what it is made of.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import compress
from operator import attrgetter
from typing import Annotated, TypeVar, overload

import msgspec

from lykke_cli.application.gateways.pubsub_protocol import Deliveries, Delivery, Unreadable
from lykke_cli.application.messages import (
    EMPTY_META,
    NULL,
    Arrival,
    Entry,
    Message,
    UnreadableEntry,
    decode_marked,
    to_line,
)

_T = TypeVar("_T")
_ID_SHAPE = "00000000-0000-0000-0000-000000000000"
_HEX_TO_ZERO = bytes.maketrans(b"123456789abcdef", b"0" * 15)
_TIME_SHAPE = "0000-00-00T00:00:00.000000Z"
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_TO_THE_SECOND = len("2026-01-31T12:00:00")
_meta = attrgetter("meta")


class Batch(Sequence[Arrival]):
    """Arrivals; what is asked of them is answered one by one, unless their kind knows better."""

    def messages(self) -> Sequence[Message]:
        return [arrival.message for arrival in self]

    def payloads(self) -> list[bytes]:
        """Return each payload as it came from the channel, or from history as it is printed."""
        return [_payload(arrival) for arrival in self]

    def times(self) -> dict[str, str]:
        """Return when the entries among the arrivals occurred, by id."""
        messages = self.messages()
        return {m.id: m.occurred_at for m in messages if isinstance(m, Entry | UnreadableEntry)}

    def has_replayed(self) -> bool:
        """True when one of the arrivals is marked as replayed."""
        return any(arrival.replayed for arrival in self)

    def recovered(self) -> int:
        """How many of the arrivals came from history, as they had not come live."""
        return sum(arrival.source == "recovered" for arrival in self)

    def size(self) -> int:
        """How many bytes of theirs are held in memory, for the most part."""
        return sum(_size(arrival) for arrival in self)

    def events(self, event_of: Callable[[Message], _T]) -> Sequence[Entry | _T]:
        """What `event_of` makes of each message; of an entry it makes the entry."""
        return [event_of(message) for message in self.messages()]

    def where(self, wanted: Sequence[bool]) -> "Batch":
        """Return the arrivals at whose place `wanted` is true."""
        return MixedBatch(list(compress(self, wanted)))

    def lines(self) -> bytes:
        """Return what is printed for each arrival, on a line of its own."""
        return b"".join([to_line(message) + b"\n" for message in self.messages()])


class MixedBatch(Batch):
    """Arrivals of any kind, asked one by one."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self._arrivals = arrivals

    def __len__(self) -> int:
        return len(self._arrivals)

    @overload
    def __getitem__(self, index: int) -> Arrival: ...
    @overload
    def __getitem__(self, index: slice) -> "MixedBatch": ...
    def __getitem__(self, index: int | slice) -> "Arrival | MixedBatch":
        if isinstance(index, slice):
            return MixedBatch(self._arrivals[index])
        return self._arrivals[index]


class LiveBatch(Batch):
    """Live messages, each decoded when it is asked for."""

    def __init__(self, deliveries: Deliveries) -> None:
        self.deliveries = deliveries

    def __len__(self) -> int:
        return len(self.deliveries)

    @overload
    def __getitem__(self, index: int) -> Arrival: ...
    @overload
    def __getitem__(self, index: slice) -> "LiveBatch": ...
    def __getitem__(self, index: int | slice) -> "Arrival | LiveBatch":
        if isinstance(index, slice):
            return LiveBatch(self.deliveries[index])
        return _arrival(self.deliveries[index])

    def payloads(self) -> list[bytes]:
        return list(self.deliveries.payloads)

    def recovered(self) -> int:
        return 0

    def size(self) -> int:
        return sum(map(len, self.deliveries.payloads))


class EntryBatch(LiveBatch):
    """Live entries, none of them replayed, as columns."""

    def __init__(self, entries: Sequence[Entry], deliveries: Deliveries) -> None:
        super().__init__(deliveries)
        self._entries = entries
        self._times: dict[str, str] | None = None

    @overload
    def __getitem__(self, index: int) -> Arrival: ...
    @overload
    def __getitem__(self, index: slice) -> "EntryBatch": ...
    def __getitem__(self, index: int | slice) -> "Arrival | EntryBatch":
        if isinstance(index, slice):
            return EntryBatch(self._entries[index], self.deliveries[index])
        delivery = self.deliveries[index]
        return Arrival(self._entries[index], "live", delivery.channel, delivery.payload)

    def messages(self) -> Sequence[Entry]:
        return self._entries

    def times(self) -> dict[str, str]:
        if self._times is None:
            self._times = {entry.id: entry.occurred_at for entry in self._entries}
        return self._times

    def has_replayed(self) -> bool:
        return False

    def events(self, event_of: Callable[[Message], _T]) -> Sequence[Entry | _T]:
        return self._entries

    def where(self, wanted: Sequence[bool]) -> "EntryBatch":
        if all(wanted):
            return self
        channels = list(compress(self.deliveries.channels, wanted))
        payloads = list(compress(self.deliveries.payloads, wanted))
        return EntryBatch(list(compress(self._entries, wanted)), Deliveries(channels, payloads))

    def lines(self) -> bytes:
        return _encoder.encode_lines(self._entries)


def as_batch(arrivals: Sequence[Arrival]) -> Batch:
    """Return the arrivals as a batch, which they may be already."""
    return arrivals if isinstance(arrivals, Batch) else MixedBatch(arrivals)


def live_arrivals(deliveries: Deliveries) -> Batch:
    """Decode the deliveries; never raises."""
    entries = _decode_together(deliveries.payloads)
    if entries is not None:
        return EntryBatch(entries, deliveries)
    return MixedBatch([_arrival(delivery) for delivery in deliveries])


def _arrival(delivery: Delivery) -> Arrival:
    message, replayed = decode_marked(delivery.payload)
    return Arrival(message, "live", delivery.channel, delivery.payload, replayed)


def _size(arrival: Arrival) -> int:
    if arrival.raw is not None:
        return len(arrival.raw)
    message = arrival.message
    return len(message.meta if isinstance(message, Entry) else message.raw)


def _payload(arrival: Arrival) -> bytes:
    if arrival.raw is not None:
        return arrival.raw
    message = arrival.message
    return message.raw if isinstance(message, Unreadable) else message.to_json()


_Refused = Annotated[str, msgspec.Meta(pattern="(?!)")]  # no text matches it


class _LiveEntry(Entry, frozen=True, kw_only=True, gc=False):
    """An entry in the promised form already, and not marked as replayed."""

    replayed: _Refused | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()
_decode_entry = msgspec.json.Decoder(_LiveEntry).decode


def _decode_together(payloads: Sequence[bytes]) -> list[_LiveEntry] | None:
    """Entries that are all in the promised form, as `decode` would, many times faster.

    None when any of them is not, or may not be.
    """
    together = b"".join(payloads)
    try:
        if not together.isascii():
            together.decode()
        entries = [_decode_entry(payload) for payload in payloads]
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return None
    ids = [entry.id for entry in entries]
    ids += {entry.user_id for entry in entries}
    ids += [entry.entity_id for entry in entries if entry.entity_id is not None]
    ordinary = (
        b"\n" not in together
        and b"\r" not in together
        and _are_canonical(ids)
        and _are_canonical_times([entry.occurred_at for entry in entries])
    )
    if not ordinary:
        return None
    return [_with_meta(entry) for entry in entries] if NULL in map(_meta, entries) else entries


def _with_meta(entry: _LiveEntry) -> _LiveEntry:
    return msgspec.structs.replace(entry, meta=EMPTY_META) if entry.meta == NULL else entry


def _are_canonical(ids: Sequence[str]) -> bool:
    """True when each is a UUID in lower case with dashes."""
    shapes = " ".join([_ID_SHAPE] * len(ids)).encode()
    return " ".join(ids).encode().translate(_HEX_TO_ZERO) == shapes


def _are_canonical_times(times: Sequence[str]) -> bool:
    """True when each is a time as `format_time` writes it."""
    shapes = " ".join([_TIME_SHAPE] * len(times)).encode()
    if " ".join(times).encode().translate(_DIGITS_TO_ZERO) != shapes:
        return False
    try:
        for second in {time[:_TO_THE_SECOND] for time in times}:
            datetime.fromisoformat(second)
    except ValueError:  # no day of the calendar, or no time of the day
        return False
    return True
