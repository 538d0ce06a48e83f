"""A checkpoint as a text that outlives the process, and tells nobody but us what it says.

It is encrypted and authenticated (AES-256-GCM). A snapshot's numbers tell of a database's other
users, and a reader that could write cursors could make the database read anything again.

    version (1) | key (4) | user (4) | length (2) | nonce (12) | sealed | tag (16)    as base64url

Each user has a key of its own, derived from the secret by keyed BLAKE2b, and all users together
have one more. So a nonce made at random is used up by what one user is sent, and not by what all
of them are: 2^32 texts, at a hundred a second in over a year. `key` and `user` are derived too,
and tell a mistake apart from a forgery.
"""

import base64
import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec

from lykke_cli.application.errors import BadInput
from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import format_time, parse_wire_time
from lykke_cli.infrastructure.database.compact_json import microseconds, moment, pack, unpack
from lykke_cli.infrastructure.postgresql import cursor as postgresql
from lykke_cli.infrastructure.sqlite import cursor as sqlite

KEY_BYTES = 32
ID_BYTES = 16
LONGEST = 2048
"""Characters of a sealed cursor."""
VERSION = 1
_HEADER = struct.Struct(">B4s4sH")
_DAMAGED = "The cursor is damaged or forged."
_NONCE = 12
_TAG = 16
_OVERHEAD = _HEADER.size + _NONCE + _TAG
_MOST = LONGEST * 3 // 4 - _OVERHEAD
KEPT_CURSORS = 512
"""Of how many cursors it is kept what they are packed: those that were used last."""
KEPT_USERS = 8192
"""Likewise of how many users their keys."""
KEPT_SECONDS = 1024
"""Likewise of how many seconds what they are as a number."""
_TO_THE_SECOND = len("2026-01-31T12:00:00")
_BACKENDS = {"postgresql": postgresql, "sqlite": sqlite}


class CursorRefused(BadInput):
    """This is no cursor of ours."""


def random_key() -> bytes:
    """A key for one run: its cursors end with it."""
    return os.urandom(KEY_BYTES)


class SealedCursors:
    """Seals checkpoints, and opens them, with `keys` of 32 bytes each.

    The first seals, all of them open: so a key is replaced without a reader losing its place, by
    putting the new one before the old one for as long as the old cursors are to hold.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"keys of {KEY_BYTES} bytes each are needed, and one at least")
        self._keys = [_Key(key) for key in keys]
        self._packed: OrderedDict[int, _Packed] = OrderedDict()
        self._whole: dict[bytes, Cursor] = {}

    def seal(self, user_id: UUID | None, checkpoint: Checkpoint) -> str:
        """The checkpoint as at most 2 KiB of letters, digits, - and _, for this user alone.

        With None it is one of a reader of every user's entries, and for no other.

        What is too large for that goes with less (`abridgements` of the backends), and without
        the pending ids: what is read from it then says `exact=False`. Raises ValueError for a
        cursor of a history that is not ours and does not fit, or is not plain JSON.
        """
        pending = _pack_pending(checkpoint)
        for packed, is_exact in self._forms(checkpoint.cursor):
            content = _encode((packed, *(pending if is_exact else (*_NO_IDS, pending[-1]))))
            if len(content) <= _MOST:
                return self._keys[0].seal(_scope(user_id), content)
        raise ValueError("this checkpoint is too large to be sealed")

    def open(self, user_id: UUID | None, text: str) -> Checkpoint:
        """The checkpoint in a text that was sealed for this user.

        Raises CursorRefused, with a sentence that says what is wrong with the text.
        """
        content = self._content(user_id, text)
        try:
            packed, ids, bits, earliest, times, floor = _decode(content)
            pending = _unpack_pending(ids, bits, earliest, times)
            # The very one that was packed, where it is still here: what it is short of is there.
            cursor = None if packed is None else self._whole.get(packed) or _unpacked(packed)
            return Checkpoint(cursor, pending, None if floor is None else _time(floor))
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            raise CursorRefused(
                "The cursor was sealed with our key, and cannot be read by this version of lykke."
            ) from error

    def _content(self, user_id: UUID | None, text: str) -> bytes:
        data = _from_text(text)
        if not data or data[0] < VERSION:
            raise CursorRefused("This is no cursor.")
        if data[0] > VERSION:
            raise CursorRefused("The cursor was made by a later version of lykke, or is damaged.")
        if len(data) < _OVERHEAD:
            raise CursorRefused("The cursor is truncated.")
        _, key_name, user_name, length = _HEADER.unpack_from(data)
        if len(data) < _OVERHEAD + length:
            raise CursorRefused("The cursor is truncated.")
        if _to_text(data) != text:  # of the last character not all bits count
            raise CursorRefused(_DAMAGED)
        for key in self._keys:
            if key.name == key_name:
                return key.open(_scope(user_id), user_name, data)
        raise CursorRefused("The cursor was sealed with another key than ours, or is forged.")

    def _forms(self, cursor: Cursor | None) -> Iterable[tuple[bytes | None, bool]]:
        """The cursor in fewer and fewer bytes, and whether it is still as good."""
        if cursor is None:
            return [(None, True), (None, False)]
        # Many readers share one: it is told by its identity, and kept, so that it has it alone.
        packed = self._packed.get(id(cursor))
        if packed is None:
            packed = self._packed[id(cursor)] = _Packed(cursor, self._whole)
            if len(self._packed) > KEPT_CURSORS:
                self._packed.popitem(last=False)[1].forget()
        self._packed.move_to_end(id(cursor))
        return packed


class _Packed:
    """A cursor as it is packed, in ever fewer bytes, each of them once it is needed."""

    def __init__(self, cursor: Cursor, whole: dict[bytes, Cursor]) -> None:
        self._cursor = cursor  # keeps its identity from being given to another one
        self._whole = whole
        self._made: list[tuple[bytes, bool]] = []
        self._left = _pack_all(cursor)

    def __iter__(self) -> Iterator[tuple[bytes, bool]]:
        yield from self._made
        for packed, is_exact in self._left:
            if is_exact:
                self._whole[packed] = self._cursor
            self._made.append((packed, is_exact))
            yield packed, is_exact

    def forget(self) -> None:
        for packed, _ in self._made:
            if self._whole.get(packed) is self._cursor:
                del self._whole[packed]


def _pack_all(cursor: Cursor) -> Iterator[tuple[bytes, bool]]:
    backend = _BACKENDS.get(cursor.data.get("kind", ""))
    for form in [cursor] if backend is None else backend.abridgements(cursor):
        try:
            yield pack(form.data), not form.data.get("abridged")
        except ValueError:
            continue  # too large, even packed


@lru_cache(KEPT_CURSORS)
def _unpacked(packed: bytes) -> Cursor:
    """Raises ValueError; many readers may come back with the same one."""
    cursor = Cursor(unpack(packed))
    for kind, backend in _BACKENDS.items():
        if cursor.data.get("kind") == kind and backend.parse(cursor) is None:
            raise ValueError("not as this version writes it")
    return cursor


class _Key:
    """A secret, and what is derived from it. It is never shown."""

    def __init__(self, secret: bytes) -> None:
        def derive(size: int, purpose: bytes, data: bytes = b"") -> bytes:
            return blake2b(data, key=secret, digest_size=size, person=purpose).digest()

        self.name = derive(4, b"lykke key")
        self._of: Callable[[bytes], tuple[Any, bytes]] = lru_cache(KEPT_USERS)(
            lambda user: (_cipher(derive(32, b"lykke user", user)), derive(4, b"lykke mark", user))
        )

    def seal(self, user: bytes, content: bytes) -> str:
        cipher, user_name = self._of(user)
        header = _HEADER.pack(VERSION, self.name, user_name, len(content))
        nonce = os.urandom(_NONCE)
        sealed = cipher.encrypt(nonce, content, header + user)
        return _to_text(header + nonce + sealed)

    def open(self, user: bytes, user_name: bytes, data: bytes) -> bytes:
        """The content; `data` are as many bytes as a cursor has at least."""
        from cryptography.exceptions import InvalidTag

        cipher, own_name = self._of(user)
        if user_name != own_name:
            what = "another user's" if user else "a single user's"
            raise CursorRefused(f"The cursor is {what}, or forged.")
        header, nonce = data[: _HEADER.size], data[_HEADER.size :][:_NONCE]
        try:
            content: bytes = cipher.decrypt(nonce, data[_HEADER.size + _NONCE :], header + user)
        except InvalidTag:
            raise CursorRefused(_DAMAGED) from None
        return content


def _scope(user_id: UUID | None) -> bytes:
    """Whose entries a cursor is about; of every user's it is no user's id."""
    return b"" if user_id is None else user_id.bytes


def _cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _from_text(text: str) -> bytes:
    """The bytes that base64url stands for, of a text that was cut off those that are left."""
    if len(text) > LONGEST:
        raise CursorRefused(f"This is no cursor: it is longer than {LONGEST} characters.")
    whole = text[:-1] if len(text) % 4 == 1 else text
    try:
        return base64.b64decode(whole + "=" * (-len(whole) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise CursorRefused(
            "This is no cursor: it has other characters than those of one."
        ) from None


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_Pending = tuple[bytes, int, int, bytes, int | None]
"""Ids, how many bits a time has, the earliest one, each one's distance from it, and the floor."""
_NO_IDS = (b"", 0, 0, b"")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes | None, bytes, int, int, bytes, int | None]).decode


def _pack_pending(checkpoint: Checkpoint) -> _Pending:
    """The pending ids with their times, and the floor; raises ValueError where they are none."""
    pending, floor = checkpoint.pending, checkpoint.floor
    floor_at = None if floor is None else _microseconds(floor)
    if not pending:
        return *_NO_IDS, floor_at
    ids = bytes.fromhex("".join(pending).replace("-", ""))
    if len(ids) != ID_BYTES * len(pending):
        raise ValueError("an id of a pending entry is no UUID")
    times = [*map(_microseconds, pending.values())]
    earliest = min(times)
    bits = (max(times) - earliest).bit_length()
    joined = 0
    for at in times:
        joined = joined << bits | at - earliest
    return ids, bits, earliest, joined.to_bytes(_bytes(bits * len(times))), floor_at


def _unpack_pending(ids: bytes, bits: int, earliest: int, times: bytes) -> dict[str, str]:
    """The inverse; raises ValueError or OverflowError."""
    count = len(ids) // ID_BYTES
    if len(ids) != ID_BYTES * count or bits < 0 or len(times) != _bytes(bits * count):
        raise ValueError("the pending ids and their times do not fit each other")
    joined, pending = int.from_bytes(times), dict[str, str]()
    for number in range(count):
        distance = joined >> bits * (count - 1 - number) & (1 << bits) - 1
        id = UUID(bytes=ids[ID_BYTES * number :][:ID_BYTES])
        pending[str(id)] = _time(earliest + distance)
    return pending


def _bytes(bits: int) -> int:
    return (bits + 7) // 8


def _microseconds(at: str) -> int:
    """The inverse of `_time`; raises ValueError. A cursor has many, mostly of few seconds."""
    return _second(at[:_TO_THE_SECOND]) + int(at[_TO_THE_SECOND + 1 : -1])


@lru_cache(KEPT_SECONDS)
def _second(text: str) -> int:
    return microseconds(parse_wire_time(text))


def _time(microseconds: int) -> str:
    return format_time(moment(microseconds))
