"""The file of `--to-file`: appended to so that a run killed at any moment can go on exactly.

The file is the truth, and a stored place only says up to where it was looked at:

* A place knows the file by its content (`written_entries.py`). What stands beyond the length that
  it remembers was written after it was saved: these ids are read back, so that they are not
  written again. Where no place fits, all ids are, from what was put aside too.
* Nothing is cut off by a remembered length. What is cut off is half a line that we wrote: after a
  write that failed just now, or at the end of the file when it is opened.
* The file is locked while it is used. Before every write it is made sure that its name still leads
  to it and that it has the length we left it with. Else somebody moved it away or truncated it, as
  logrotate does (`create`, `copytruncate`): then we go on in what is there now.
"""

import asyncio
import os
import stat
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from lykke_cli.application.errors import CursorBusy, OutputFailed
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import Entry, decode, decode_object
from lykke_cli.infrastructure.files.packing import finish_packing, pack, packed
from lykke_cli.infrastructure.files.private_file import try_lock
from lykke_cli.infrastructure.files.written_entries import (
    MARKED,
    WrittenIds,
    beside,
    entries,
    is_marked,
    mark_before,
    opened,
    size_of,
)

READ_SIZE = 1 << 20  # bytes
REMEMBERED = 8 << 20  # bytes written last, for a copy that was made just before them
MOST_BEYOND = 64 << 20  # bytes that one run may have written beyond its place
MOST_IDS = 50_000_000
"""How many ids are read back at most, in 16 bytes each."""
_HALF_ENTRY = b'{"id":"'


class _Known(NamedTuple):
    """What a place says of the file."""

    length: int
    mark: str
    file: tuple[int, int]
    """Device and inode: how a file is known that was still empty."""
    beside: frozenset[tuple[int, int]]
    """Inode and size of the files that were beside it while it was still empty."""


class EntryFile:
    """An NDJSON file that grows by whole lines.

    `rotate` is the size in bytes at which the file is put aside under a numbered name and begun
    anew, `compress` packs what was put aside. `tell` is called with a line for the person.
    Raises OutputFailed, and CursorBusy where another lykke writes to the file.
    """

    def __init__(self, path: Path, *, rotate: int | None = None, compress: bool = False) -> None:
        self.path = path.absolute()
        self.tell: Callable[[str], None] = lambda _: None
        self._rotate = rotate
        self._compress = compress
        self._length = 0
        self._fd = -1
        self._recent: deque[bytes] = deque()
        self._recent_length = 0
        self._told_of_others = False
        self.is_compared = True
        """False while the file holds entries that the place may not know: see `read_back`."""

    def open(self, state: dict[str, Any] | None) -> dict[str, str]:
        """Open for appending where `state` left off.

        Returns the ids, with their occurred_at, of entries written after that state was saved.
        Without a state, or with one that does not fit, `is_compared` may be False afterwards.
        """
        known = None if state is None else _known(state)
        self.is_compared = known is not None and bool(state and not state.get("compares"))
        with _file_errors(self.path):
            self._take()
            if known is None:
                self._length = self._end_last_line(None)
                return {}
            written: dict[str, str] = {}
            if self._is_here(known):
                self._length = self._end_last_line(known.length)
                for path in self._copies_since(known):
                    written |= self._entries_beyond(path, 0)
                return written | self._entries_beyond(self.path, known.length)
            if (aside := self._put_aside_as(known)) is not None:
                written |= self._entries_beyond(aside, known.length)
            elif known.length:
                self.tell(
                    f"{self.path} is not as the last run left it, and no file beside it is: going "
                    "on from the stored place. What that run wrote just before it was killed, if "
                    "it was, may come again"
                )
            self._length = self._end_last_line(None)
            return written | self._entries_beyond(self.path, 0)

    async def read_back(self) -> WrittenIds:
        """The ids of all entries in the file, and in what was put aside beside it."""
        self.is_compared = False
        with _file_errors(self.path):
            return await self._read_back()

    async def _read_back(self) -> WrittenIds:
        ids, sizes = WrittenIds(), [path.stat().st_size for path in self._all()]
        if sum(sizes) > MOST_BEYOND:
            self.tell(f"reading back what is in {self.path} ({sum(sizes) >> 20:,} MiB)")
        for path in self._all():
            with opened(path) as file:
                if path != self.path and file.read(1) != b"{":
                    self.tell(f"{path.name} is not looked into: it is no NDJSON, or packed")
                    continue
                for number, entry in enumerate(entries(file)):
                    if entry is not None:
                        ids.add(entry)
                    if number % 1000 == 0:
                        await asyncio.sleep(0)  # a signal is heard
                    if len(ids) > MOST_IDS:
                        raise OutputFailed(
                            f"{self.path} and what is beside it hold more than {MOST_IDS:,} "
                            "entries, too many to compare without a stored place: give another "
                            "name, or move them to another folder."
                        )
        return ids

    def write(self, lines: bytes) -> None:
        """Append whole lines."""
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._fd, memoryview(lines)[written:])
        except OSError as error:
            with suppress(OSError):
                self._take_back(lines[:written])
            raise OutputFailed(
                f"Cannot write {self.path}: {error.strerror}. Every line in it is whole; free some "
                "space and run the same command again to go on exactly."
            ) from error
        self._length += written
        self._remember(lines)

    def follow(self) -> bool:
        """Look where the file is now, before a write.

        True when it is another, or begins anew: its state must be saved before the next write.
        """
        with _file_errors(self.path):
            here = os.fstat(self._fd)
            with suppress(FileNotFoundError):
                if os.path.samestat(here, os.stat(self.path)):
                    return self._follow_length(here.st_size)
            os.fsync(self._fd)
            self._take()
            self._length = self._end_last_line(None)
            self.tell(f"{self.path} was moved away: going on in a new one")
            return True

    @property
    def is_full(self) -> bool:
        """True when the file has reached the size at which it is rotated."""
        return self._rotate is not None and self._length >= self._rotate

    def rotate(self) -> Path:
        """Put the full file aside and begin a new one. Save the state before `pack`."""
        with _file_errors(self.path):
            os.fsync(self._fd)
            aside = self._free_name()
            os.rename(self.path, aside)
            self._take()
            self._length = self._end_last_line(None)
            return aside

    def pack(self, aside: Path) -> None:
        """Compress what was put aside, if asked to."""
        if self._compress:
            with _file_errors(aside):
                pack(aside)

    def finish_packing(self) -> None:
        """Compress what an earlier run put aside, if asked to. Save the state before."""
        if self._compress:
            with _file_errors(self.path):
                finish_packing(self.path, self.tell)

    def state(self) -> dict[str, Any]:
        """What to store, once everything written is on the disk."""
        with _file_errors(self.path):
            self.follow()
            os.fsync(self._fd)
            here = os.fstat(self._fd)
            start = max(0, self._length - MARKED)
            return {
                "beside": [] if self._length else [_inode_and_size(p) for p in beside(self.path)],
                "length": self._length,
                "mark": mark_before(os.pread(self._fd, self._length - start, start)),
                "file": [here.st_dev, here.st_ino],
                "compares": not self.is_compared,
            }

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _all(self) -> list[Path]:
        return [*beside(self.path), self.path]

    def _take(self) -> None:
        """Open and lock what the path leads to, in place of what is open."""
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                here = os.fstat(fd)
                if not stat.S_ISREG(here.st_mode):
                    raise OutputFailed(f"Cannot append to {self.path}: it is no file.")
                if not try_lock(fd):
                    raise CursorBusy(
                        f"Another lykke is writing to {self.path}: end it first, or give another "
                        "name."
                    )
                self._refuse_foreign(fd)
                with suppress(FileNotFoundError):
                    if os.path.samestat(here, os.stat(self.path)):
                        break
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # it was moved away in between
        self.close()
        self._fd = fd
        self._recent.clear()
        self._recent_length = 0

    def _refuse_foreign(self, fd: int) -> None:
        """Raise OutputFailed where the file begins with something other than a JSON object."""
        first, end, _ = os.pread(fd, READ_SIZE, 0).partition(b"\n")
        is_ours = first.startswith(_HALF_ENTRY)  # whatever is within
        is_object = first.startswith(b"{") and (is_ours or not (end and _is_no_object(first)))
        if (first or end) and not is_object:
            raise OutputFailed(
                f"Cannot append to {self.path}: it holds something other than NDJSON. Give another "
                "name, or move it away."
            )

    def _is_here(self, known: _Known) -> bool:
        here = os.fstat(self._fd)
        if known.length == 0:
            return known.file == (here.st_dev, here.st_ino)
        with open(self.path, "rb") as file:
            return is_marked(file, known.length, known.mark)

    def _put_aside_as(self, known: _Known) -> Path | None:
        """Where the file is now that the place knows."""
        for path in beside(self.path):
            here = path.stat()
            if known.file == (here.st_dev, here.st_ino) and known.length == 0:
                return path
            with suppress(OutputFailed), opened(path) as file:  # one that is not ours may be broken
                if is_marked(file, known.length, known.mark):
                    return path
        return None

    def _copies_since(self, known: _Known) -> list[Path]:
        """What may hold what was written since, where nothing was in the file by then.

        Such a file has no mark, and copytruncate leaves it as empty as it was.
        """
        if known.length:
            return []
        return [path for path in beside(self.path) if _inode_and_size(path) not in known.beside]

    def _entries_beyond(self, path: Path, offset: int) -> dict[str, str]:
        """Few, or else they are left to `read_back`."""
        if path.suffix != ".gz" and path.stat().st_size - offset > MOST_BEYOND:
            self.is_compared = False
            return {}
        with opened(path) as file:
            return {entry.id: entry.occurred_at for entry in entries(file, offset) if entry}

    def _end_last_line(self, ours_from: int | None) -> int:
        """Cut off half a line of ours, end anybody else's; the length then.

        What stands from `ours_from` on we wrote; None when that is not known.
        """
        end = size = os.fstat(self._fd).st_size
        while end > 0:
            start = max(0, end - READ_SIZE)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end == size:
            return size
        half = os.pread(self._fd, len(_HALF_ENTRY), end)
        if ours_from is None:
            is_ours = end > 0 and _HALF_ENTRY.startswith(half) and self._begins_with_entry()
        else:
            is_ours = end >= ours_from and half.startswith(b"{")
        if not is_ours:
            os.write(self._fd, b"\n")
            return size + 1
        self.tell(f"half a line that a killed run left in {self.path} is cut off")
        os.ftruncate(self._fd, end)
        return end

    def _begins_with_entry(self) -> bool:
        first, _, _ = os.pread(self._fd, READ_SIZE, 0).partition(b"\n")
        return isinstance(decode(first), Entry)

    def _take_back(self, written: bytes) -> None:
        """Remove what was written of lines that found no room, if it is all that was added."""
        there = os.fstat(self._fd).st_size == self._length + len(written)
        if there and os.pread(self._fd, len(written), self._length) == written:
            os.ftruncate(self._fd, self._length)

    def _remember(self, lines: bytes) -> None:
        self._recent.append(lines)
        self._recent_length += len(lines)
        while self._recent_length > REMEMBERED and len(self._recent) > 1:
            self._recent_length -= len(self._recent.popleft())

    def _follow_length(self, size: int) -> bool:
        if size == self._length:
            return False
        if size < self._length:
            self._follow_truncation(size)
            return True
        self._length = self._end_last_line(None)
        if not self._told_of_others:
            self._told_of_others = True
            self.tell(f"somebody else writes to {self.path} too: their lines are left as they are")
        return False

    def _follow_truncation(self, size: int) -> None:
        """Go on in a file that was emptied, with what its copy lacks.

        `copytruncate` copies the file and then empties it: lines written in between are in neither.
        """
        last = b"".join(self._recent)  # what ended at the length that is gone
        begin = self._length - len(last)
        after = os.pread(self._fd, size, 0) if size <= len(last) else b""
        kept = size if last.endswith(after) else 0  # written since
        copied = self._copied(begin, last) if last else self._length
        lacking = b""
        if copied is None:
            end = "no copy of it is beside it: what it held is gone"
        else:
            lacking = last[max(copied - begin, 0) : len(last) - kept]
            end = "what its copy lacks is written again" if lacking else "nothing is lost"
        self._recent.clear()
        self._recent_length = 0
        self._length = self._end_last_line(None)
        self.tell(f"{self.path} was truncated by somebody else: going on in it; {end}")
        if lacking:
            self.write(lacking)

    def _copied(self, begin: int, last: bytes) -> int | None:
        """How far the newest copy of the file goes, in whole lines; `last` begins at `begin`."""
        newest_first = sorted(beside(self.path), key=lambda path: -path.stat().st_mtime)
        for path in newest_first:
            with suppress(OutputFailed):
                length = size_of(path) - begin
                with opened(path) as file:
                    start = max(0, length - MARKED)
                    file.seek(begin + start)
                    if 0 < length <= len(last) and file.read() == last[start:length]:
                        return begin + last.rfind(b"\n", 0, length) + 1
        return None

    def _free_name(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        number = 1
        while True:
            name = self.path.with_name(f"{self.path.name}.{stamp}-{number:03}")
            if not name.exists() and not packed(name).exists():
                return name
            number += 1


class _file_errors:
    """Turns an OSError into an OutputFailed that names the file, or another that it is about."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            path = os.fsdecode(error.filename) if error.filename else self._path
            raise OutputFailed(f"Cannot use {path}: {error.strerror}") from error


def _known(state: dict[str, Any]) -> _Known | None:
    """None when it is none of ours."""
    try:
        device, inode = state["file"]
        others = frozenset((int(number), int(size)) for number, size in state["beside"])
        return _Known(int(state["length"]), str(state["mark"]), (int(device), int(inode)), others)
    except (KeyError, TypeError, ValueError):
        return None


def _inode_and_size(path: Path) -> tuple[int, int]:
    here = path.stat()
    return here.st_ino, here.st_size


def _is_no_object(line: bytes) -> bool:
    return isinstance(decode_object(line), Unreadable)
