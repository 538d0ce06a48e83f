"""The file of `--to-file`: appended to so that a run killed at any moment can go on exactly.

What a stored place says of the file is its identity and length. Lines found beyond that length
were written after the place was saved: their ids are read back, so that they are not written
again. Only a last line without its end is cut off, and only beyond that length.
"""

import gzip
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lykke_cli.application.errors import OutputFailed
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import Entry, decode, decode_object

READ_SIZE = 1 << 20  # bytes


class EntryFile:
    """An NDJSON file that grows by whole lines.

    `rotate` is the size in bytes at which the file is put aside under a numbered name and begun
    anew, `compress` packs what was put aside. Raises OutputFailed.
    """

    def __init__(self, path: Path, *, rotate: int | None = None, compress: bool = False) -> None:
        self.path = path.absolute()
        self._rotate = rotate
        self._compress = compress
        self._length = 0
        self._fd = -1

    def open(self, state: dict[str, Any] | None) -> dict[str, str]:
        """Open for appending where `state` left off.

        Returns the ids, with their occurred_at, of entries written after that state was saved.
        """
        with _file_errors(self.path):
            written: dict[str, str] = {}
            known = int(state["length"]) if state else None
            put_aside = None
            if state is not None:
                put_aside = self._put_aside_as(state)
                if put_aside is not None:
                    written |= _entries_beyond(put_aside, int(state["length"]))
                    known = 0  # whatever stands in the new file came after that place
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            size = os.fstat(self._fd).st_size
            if known is None or known > size:
                known = size
            is_ours = put_aside is not None or (
                state is not None and os.fstat(self._fd).st_ino == state.get("file")
            )
            if not is_ours:
                self._refuse_foreign()
            self._length = self._end_of_lines(known, size, may_cut=is_ours)
            if self._length > known:
                written |= _entries_beyond(self.path, known)
            return written

    def write(self, lines: bytes) -> None:
        """Append whole lines."""
        view = memoryview(lines)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
            self._length += len(lines)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, self._length)  # no half line stays
            raise OutputFailed(
                f"Cannot write {self.path}: {error.strerror}. Every line in it is whole; free some "
                "space and run the same command again to go on exactly."
            ) from error

    @property
    def is_full(self) -> bool:
        """True when the file has reached the size at which it is rotated."""
        return self._rotate is not None and self._length >= self._rotate

    def rotate(self) -> Path:
        """Put the full file aside and begin a new one. Save the state before `pack`."""
        with _file_errors(self.path):
            os.fsync(self._fd)
            os.close(self._fd)
            aside = self._free_name()
            os.rename(self.path, aside)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._length = 0
            return aside

    def pack(self, aside: Path) -> None:
        """Compress what was put aside, if asked to."""
        if not self._compress:
            return
        with _file_errors(aside):
            unfinished = aside.with_name(aside.name + ".gz.part")
            with open(aside, "rb") as plain, open(unfinished, "xb") as packed:
                with gzip.GzipFile(aside.name, "wb", fileobj=packed, mtime=0) as archive:
                    shutil.copyfileobj(plain, archive, READ_SIZE)
                packed.flush()
                os.fsync(packed.fileno())
            os.rename(unfinished, aside.with_name(aside.name + ".gz"))
            aside.unlink()

    def state(self) -> dict[str, Any]:
        """What to store, once everything written is on the disk."""
        with _file_errors(self.path):
            os.fsync(self._fd)
            return {"length": self._length, "file": os.fstat(self._fd).st_ino}

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _refuse_foreign(self) -> None:
        """Raise OutputFailed where the file begins with something other than a JSON object."""
        first, end, _ = os.pread(self._fd, READ_SIZE, 0).partition(b"\n")
        is_object = first.startswith(b"{") and not (end and _is_no_object(first))
        if (first or end) and not is_object:
            raise OutputFailed(
                f"Cannot append to {self.path}: it holds something other than NDJSON. Give another "
                "name, or move it away."
            )

    def _end_of_lines(self, known: int, size: int, *, may_cut: bool) -> int:
        """Cut off our half line beyond `known`; end one that is not ours."""
        end = size
        while end > known:
            start = max(known, end - READ_SIZE)
            block = os.pread(self._fd, end - start, start)
            newline = block.rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            if not may_cut or os.pread(self._fd, 1, end) != b"{":
                os.write(self._fd, b"\n")
                return size + 1
            os.ftruncate(self._fd, end)
        if end and end == known and os.pread(self._fd, 1, end - 1) != b"\n":
            os.write(self._fd, b"\n")
            end += 1
        return end

    def _put_aside_as(self, state: dict[str, Any]) -> Path | None:
        """Where the file of `state` is, if it was put aside just before the end."""
        inode = state.get("file")
        with suppress(FileNotFoundError):
            if self.path.stat().st_ino == inode:
                return None
        for candidate in self.path.parent.glob(f"{_escaped(self.path.name)}.*"):
            if candidate.stat().st_ino == inode:
                return candidate
        return None

    def _free_name(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        number = 1
        while True:
            name = self.path.with_name(f"{self.path.name}.{stamp}-{number:03}")
            if not name.exists() and not name.with_name(name.name + ".gz").exists():
                return name
            number += 1


class _file_errors:
    """Turns an OSError into an OutputFailed that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise OutputFailed(f"Cannot use {self._path}: {error.strerror}") from error


def _entries_beyond(path: Path, offset: int) -> dict[str, str]:
    return {
        message.id: message.occurred_at
        for line in _lines(path, offset)
        if isinstance(message := decode(line), Entry)
    }


def _is_no_object(line: bytes) -> bool:
    return isinstance(decode_object(line), Unreadable)


def _lines(path: Path, offset: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(offset)
        yield from file


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
