"""What `--to-file` wrote before: in the file, and in what was put aside beside it, packed or not.

A place knows the file by its content: a digest of the last bytes before the length it had. They
hold an id, so no other file has the same ones at the same offset, whatever its name or inode.
"""

import gzip
import hashlib
import os
import re
import secrets
import zlib
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from lykke_cli.application.batches import live_arrivals
from lykke_cli.application.errors import OutputFailed
from lykke_cli.application.gateways.pubsub_protocol import Deliveries
from lykke_cli.application.messages import BEFORE_ALL, Entry

MARKED = 4096  # bytes
LATEST = 50_000  # entries: by so many may a standby be behind what was written before
LONGEST_LINE = 64 << 20  # bytes; a longer one is no entry
_BLOCK = 1 << 20  # bytes
_OURS = re.compile(rb'\{"id":"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"')
_ANOTHER = re.compile(r".*\.(?:ndjson|jsonl|json|csv|log)(?:\.gz)?")  # a file in its own right
_TOGETHER = 500  # lines
_BUCKET, _REST = 2, 14  # bytes of an id's digest


class WrittenEntry(NamedTuple):
    id: str
    occurred_at: str


class WrittenIds:
    """A set of ids in sixteen bytes each: a file of many gigabytes has as many of them.

    The last LATEST entries that were added are kept whole.
    """

    def __init__(self) -> None:
        self._latest: deque[WrittenEntry] = deque(maxlen=LATEST)
        self._key = secrets.token_bytes(16)  # nobody can choose ids that fall together
        self._buckets: defaultdict[bytes, bytearray] = defaultdict(bytearray)
        self._number = 0

    def __len__(self) -> int:
        return self._number

    def __contains__(self, id: object) -> bool:
        bucket, rest = self._digest(str(id))
        return bucket in self._buckets and _has(self._buckets[bucket], rest)

    def latest(self) -> dict[str, str]:
        """The ids of the last entries, with their occurred_at."""
        return dict(self._latest)

    def add(self, entry: WrittenEntry) -> None:
        """Adding one twice does no harm."""
        self._latest.append(entry)
        bucket, rest = self._digest(entry.id)
        if not _has(self._buckets[bucket], rest):
            self._buckets[bucket] += rest
            self._number += 1

    def _digest(self, id: str) -> tuple[bytes, bytes]:
        digest = hashlib.blake2b(id.encode(), digest_size=_BUCKET + _REST, key=self._key).digest()
        return digest[:_BUCKET], digest[_BUCKET:]


def _has(bucket: bytearray, rest: bytes) -> bool:
    found = bucket.find(rest)
    while found % _REST and found >= 0:  # across the border between two
        found = bucket.find(rest, found + 1)
    return found >= 0


def beside(path: Path) -> Iterator[Path]:
    """Files that may have been `path` before: put aside by lykke, logrotate or a person."""
    with os.scandir(path.parent) as found:
        for entry in sorted(found, key=lambda entry: entry.name):
            rest = entry.name.removeprefix(path.name)
            if rest == entry.name or not rest.startswith((".", "-")) or rest.endswith(".part"):
                continue
            if not _ANOTHER.fullmatch(rest) and entry.is_file():
                yield Path(entry.path)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The lines of a file that may be packed; raises OutputFailed where they cannot be read."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            yield file  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputFailed(
            f"Cannot read back what was written in {path}: {reason}. Move it to another folder "
            "if it is not needed."
        ) from error


def mark_before(data: bytes) -> str:
    """What the last bytes before a place are known by."""
    return hashlib.sha256(data).hexdigest()


def is_marked(file: IO[bytes], length: int, mark: str) -> bool:
    """True when the bytes before `length` are those that `mark` stands for."""
    if length <= 0:
        return False
    start = max(0, length - MARKED)
    if file.seek(start) != start:
        return False
    data = file.read(length - start)
    return len(data) == length - start and mark_before(data) == mark


def entries(file: IO[bytes], offset: int = 0) -> Iterator[WrittenEntry | None]:
    """The entries from `offset` on, and None for each other line."""
    file.seek(offset)
    read = iter(lambda: file.readline(LONGEST_LINE), b"")
    while lines := [line.rstrip(b"\n") for line in islice(read, _TOGETHER)]:
        # Decoded as what comes live is: many together, if they are all in the promised form.
        messages = live_arrivals(Deliveries([b""] * len(lines), lines)).messages()
        for message, line in zip(messages, lines, strict=True):
            if isinstance(message, Entry):
                yield WrittenEntry(message.id, message.occurred_at)
            elif found := _OURS.match(line):  # what cannot be decoded, and was written all the same
                yield WrittenEntry(found[1].decode(), BEFORE_ALL)
            else:
                yield None


def size_of(path: Path) -> int:
    """The number of bytes, those of a packed file unpacked."""
    with opened(path) as file:
        return file.seek(0, os.SEEK_END) if path.suffix != ".gz" else _skip(file)


def _skip(file: IO[bytes]) -> int:
    size = 0
    while block := file.read(_BLOCK):
        size += len(block)
    return size
