"""`--to-file` as a file: what is ours goes on exactly, whatever somebody else does with it."""

import asyncio
import errno
import gzip
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lykke_cli.application.errors import CursorBusy, OutputFailed
from lykke_cli.application.messages import EMPTY_META, unreadable_entry
from lykke_cli.infrastructure.files import entry_file
from lykke_cli.infrastructure.files.entry_file import EntryFile
from lykke_cli.infrastructure.files.packing import pack
from lykke_cli.infrastructure.files.written_entries import WrittenEntry, WrittenIds, beside, entries
from tests.builders import entity, wire

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and inodes are those of POSIX")


def line() -> bytes:
    return wire(entity()) + b"\n"


def ids(data: bytes) -> list[str]:
    return [row.split(b'"')[3].decode() for row in data.splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.ndjson"


class Opener:
    """Opens files, as one run after another; closes them all at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[str] = []
        self._open: list[EntryFile] = []

    def __call__(self, **options: Any) -> EntryFile:
        file = EntryFile(self.path, **options)
        file.tell = self.told.append
        self._open.append(file)
        return file

    def left(self, *lines: bytes) -> dict[str, Any]:
        """What a run stores that has written these and ended."""
        file = self()
        file.open(None)
        file.write(b"".join(lines))
        state = file.state()
        file.close()
        self.told.clear()
        return state

    def close(self) -> None:
        for file in self._open:
            file.close()


@pytest.fixture
def run(path: Path) -> Iterator[Opener]:
    opener = Opener(path)
    yield opener
    opener.close()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_what_was_written_beyond_the_place_is_read_back(run: Opener, path: Path) -> None:
    old, new = line(), line()
    state = run.left(old)
    append(path, new)
    assert list(run().open(state)) == ids(new)


def test_only_half_a_line_of_ours_is_cut_off(run: Opener, path: Path) -> None:
    old, new = line(), line()
    state = run.left(old)
    append(path, new[:30])
    run().open(state)
    assert path.read_bytes() == old
    assert "half a line" in run.told[0]


def test_half_a_line_of_anybody_else_is_ended(run: Opener, path: Path) -> None:
    old = line()
    state = run.left(old)
    append(path, b"somebody else's")
    run().open(state)
    assert path.read_bytes() == old + b"somebody else's\n"


@pytest.mark.parametrize("half", [b'{"n": 1', b"x", b'{"identity": "'])
def test_without_a_place_half_a_line_that_is_no_entry_stays(
    half: bytes, run: Opener, path: Path
) -> None:
    old = line()
    path.write_bytes(old + half)
    run().open(None)
    assert path.read_bytes() == old + half + b"\n"


def test_a_file_of_the_same_length_with_other_content_is_not_taken_for_ours(
    run: Opener, path: Path
) -> None:
    state, other = run.left(line()), line()
    path.write_bytes(other)  # the same inode
    assert list(run().open(state)) == ids(other)
    assert "is not as the last run left it" in run.told[0]


@pytest.mark.parametrize("name", ["out.ndjson.1", "out.ndjson-20260101", "out.ndjson.x.gz"])
def test_a_file_that_was_moved_is_found_by_its_content(name: str, run: Opener, path: Path) -> None:
    old, beyond, new = line(), line(), line()
    state = run.left(old)
    append(path, beyond)
    shutil.copy(path, aside := path.with_name(name))  # a copy: another inode
    if aside.suffix == ".gz":
        aside.write_bytes(gzip.compress(old + beyond))
    path.write_bytes(new)
    assert list(run().open(state)) == ids(beyond + new)
    assert run.told == []


def test_without_a_place_every_id_is_read_back_from_what_was_put_aside_too(
    run: Opener, path: Path
) -> None:
    lines = [line() for _ in range(4)]
    path.write_bytes(lines[0])
    path.with_name("out.ndjson.1").write_bytes(b'{"no": "entry"}\n' + lines[1])
    path.with_name("out.ndjson.2.gz").write_bytes(gzip.compress(lines[2]))
    path.with_name("other.ndjson").write_bytes(lines[3])
    path.with_name("out.ndjson.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    file = run()
    assert file.open(None) == {}
    assert not file.is_compared
    written = asyncio.run(file.read_back())
    assert [id in written for id in ids(b"".join(lines))] == [True, True, True, False]
    assert [told for told in run.told if "out.ndjson.zst is not looked into" in told]


def test_a_file_with_more_ids_than_can_be_compared_is_refused(
    run: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_file, "MOST_IDS", 3)
    path.write_bytes(b"".join(line() for _ in range(5)))
    file = run()
    file.open(None)
    with pytest.raises(OutputFailed, match="give another name"):
        asyncio.run(file.read_back())


def test_a_comparison_that_was_not_finished_is_begun_again(run: Opener, path: Path) -> None:
    path.write_bytes(line())
    file = run()
    file.open(None)
    state = file.state()
    file.close()
    again = run()
    again.open(state)
    assert not again.is_compared
    again.is_compared = True  # all was compared
    state = again.state()
    again.close()
    last = run()
    last.open(state)
    assert last.is_compared


def test_a_million_ids_are_known_in_little_memory() -> None:
    known = WrittenIds()
    for number in range(2_000):
        entry = WrittenEntry(f"id-{number}", "")
        known.add(entry)
        known.add(entry)
    assert len(known) == 2_000
    assert all(f"id-{number}" in known for number in range(2_000))
    assert not any(f"other-{number}" in known for number in range(2_000))


def test_one_file_is_written_by_one_run_at_a_time(run: Opener, path: Path) -> None:
    first = run()
    first.open(None)
    with pytest.raises(CursorBusy, match="Another lykke is writing to"):
        run().open(None)
    path.rename(path.with_name("moved"))
    first.follow()  # the new file is locked as well
    with pytest.raises(CursorBusy):
        run().open(None)
    first.close()
    run().open(None)


def test_a_file_that_is_moved_away_is_gone_on_from_in_a_new_one(run: Opener, path: Path) -> None:
    one, two = line(), line()
    file = run()
    file.open(None)
    file.write(one)
    path.rename(aside := path.with_name("out.ndjson.1"))
    assert file.follow()
    file.write(two)
    assert not file.follow()
    assert (aside.read_bytes(), path.read_bytes()) == (one, two)
    assert [told.split(": ")[1] for told in run.told] == ["going on in a new one"]


def test_what_copytruncate_loses_is_written_again(run: Opener, path: Path) -> None:
    lines = [line() for _ in range(5)]
    file = run()
    file.open(None)
    file.write(b"".join(lines[:2]))
    copy = path.with_name("out.ndjson.1")
    copy.write_bytes(path.read_bytes() + lines[2][:20])  # it ends within a line
    file.write(lines[2])
    file.write(lines[3])
    os.truncate(path, 0)
    assert file.follow()
    file.write(lines[4])
    assert ids(path.read_bytes()) == ids(b"".join(lines[2:]))
    assert "truncated by somebody else" in run.told[0]
    assert not file.follow()
    assert len(run.told) == 1


@pytest.mark.parametrize("how", ["copytruncate", "create"])
@pytest.mark.parametrize("then", [0, 1])
def test_what_a_killed_run_wrote_first_is_known_though_the_file_was_rotated_since(
    run: Opener, path: Path, how: str, then: int
) -> None:
    """Its place was stored while the file was empty, so that no mark tells the copy."""
    old, *lines = [line() for _ in range(4)]
    older = path.with_name("out.ndjson.2")
    older.write_bytes(old)
    file = run()
    file.open(None)
    state = file.state()
    file.write(b"".join(lines[:2]))
    if how == "create":
        path.rename(path.with_name("out.ndjson.1"))
        file.follow()
    else:
        shutil.copy(path, path.with_name("out.ndjson.1"))
        os.truncate(path, 0)
        file.follow()
    file.write(b"".join(lines[2 : 2 + then]))
    file.close()
    found = run().open(state)
    assert sorted(found) == sorted(ids(b"".join(lines[: 2 + then])))


def test_a_line_written_just_after_a_truncation_is_there_once(run: Opener, path: Path) -> None:
    """The truncation may come between our look at the file and our write."""
    lines = [line() for _ in range(3)]
    file = run()
    file.open(None)
    file.write(lines[0])
    shutil.copy(path, path.with_name("out.ndjson.1"))
    file.write(lines[1])
    os.truncate(path, 0)
    file.write(lines[2])
    file.follow()
    assert sorted(ids(path.read_bytes())) == sorted(ids(lines[1] + lines[2]))


def test_a_truncation_without_a_copy_is_said(run: Opener, path: Path) -> None:
    file = run()
    file.open(None)
    file.write(line())
    os.truncate(path, 0)
    file.follow()
    file.write(new := line())
    assert path.read_bytes() == new
    assert "what it held is gone" in run.told[0]


def test_lines_of_somebody_else_are_left_as_they_are(run: Opener, path: Path) -> None:
    one, two = line(), line()
    file = run()
    file.open(None)
    file.write(one)
    append(path, b"not ours")
    assert not file.follow()
    file.write(two)
    assert path.read_bytes() == one + b"not ours\n" + two
    assert len(run.told) == 1


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on a write has room for ten bytes, the next for none."""

    def fill() -> None:
        write, room = os.write, [10]

        def limited(fd: int, data: Any) -> int:
            if not room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(fd, data[: room.pop()])

        monkeypatch.setattr(os, "write", limited)

    return fill


def test_a_full_disk_leaves_whole_lines(
    run: Opener, path: Path, full_disk: Callable[[], None]
) -> None:
    one = line()
    file = run()
    file.open(None)
    file.write(one)
    full_disk()
    with pytest.raises(OutputFailed, match="No space left"):
        file.write(line())
    assert path.read_bytes() == one


def test_a_full_disk_and_a_truncated_file_leave_no_nul_bytes(
    run: Opener, path: Path, full_disk: Callable[[], None]
) -> None:
    file = run()
    file.open(None)
    file.write(line() * 10)
    os.truncate(path, 0)
    full_disk()
    with pytest.raises(OutputFailed):
        file.write(line())
    assert b"\0" not in path.read_bytes()
    assert path.stat().st_size <= 10


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for target in (tmp_path, Path("/dev/null")):
        with pytest.raises(OutputFailed):
            EntryFile(target).open(None)


def put_aside(run: Opener, path: Path) -> tuple[Path, bytes]:
    file = run(rotate=1, compress=True)
    file.open(None)
    file.write(old := line())
    aside = file.rotate()
    file.close()
    return aside, old


def next_run(run: Opener) -> None:
    file = run(rotate=1, compress=True)
    file.open(None)
    file.finish_packing()
    file.close()


def assert_packed(aside: Path, content: bytes) -> None:
    assert not aside.exists()
    assert [p.name for p in aside.parent.glob("*.part")] == []
    assert gzip.decompress(aside.with_name(aside.name + ".gz").read_bytes()) == content


@pytest.mark.parametrize(
    "rest", [None, b"", gzip.compress(b"x" * 100)[:15]], ids=["none", "empty", "half"]
)
def test_packing_that_was_killed_before_its_end_is_begun_again(
    rest: bytes | None, run: Opener, path: Path
) -> None:
    aside, old = put_aside(run, path)
    if rest is not None:
        aside.with_name(aside.name + ".gz.part").write_bytes(rest)
    next_run(run)
    assert_packed(aside, old)


def test_packing_that_was_killed_before_the_plain_file_went_is_finished(
    run: Opener, path: Path
) -> None:
    aside, old = put_aside(run, path)
    pack(aside)
    aside.write_bytes(old)
    next_run(run)
    assert_packed(aside, old)


def test_a_packed_file_that_differs_from_the_plain_one_is_left(run: Opener, path: Path) -> None:
    aside, old = put_aside(run, path)
    other = gzip.compress(b"something else")
    aside.with_name(aside.name + ".gz").write_bytes(other)
    next_run(run)
    assert aside.read_bytes() == old
    assert aside.with_name(aside.name + ".gz").read_bytes() == other
    assert "differ" in run.told[0]


def test_what_is_packed_replaces_no_file(run: Opener, path: Path) -> None:
    aside, old = put_aside(run, path)
    foreign = aside.with_name(aside.name + ".gz.part")
    foreign.write_bytes(b"not ours")
    with pytest.raises(OSError, match="exists"):
        pack(aside)
    next_run(run)
    assert foreign.read_bytes() == b"not ours"
    assert aside.read_bytes() == old
    assert "is not packed" in run.told[0]


def test_a_row_that_cannot_be_shown_as_an_entry_counts_as_written_too(tmp_path: Path) -> None:
    """It is printed as unreadable with its id, and is in the file once like every other."""
    id = str(uuid.uuid4())
    row = unreadable_entry({"id": id, "user_id": id, "occurred_at": "infinity", "meta": EMPTY_META})
    nested = b'{"id":"%b","meta":' % id.encode() + b"[" * 5_000 + b"]" * 5_000 + b"}"
    for line in (row.to_json(), nested):
        (tmp_path / "log").write_bytes(line + b"\n")
        with (tmp_path / "log").open("rb") as file:
            assert [entry.id for entry in entries(file) if entry] == [id]


def test_a_file_in_its_own_right_is_not_taken_for_one_that_was_put_aside(tmp_path: Path) -> None:
    """Its entries were written for somebody else: they are missing here."""
    for name in ("log.everything.ndjson", "log.ndjson.gz", "log.json"):
        (tmp_path / name).write_bytes(b"{}\n")
    (tmp_path / "log.1").write_bytes(b"{}\n")
    assert [path.name for path in beside(tmp_path / "log")] == ["log.1"]


async def test_a_file_beside_that_cannot_be_looked_at_is_told_of(run: Opener, path: Path) -> None:
    loop = path.with_name(f"{path.name}.1")
    loop.symlink_to(loop)
    file = run(compress=True)
    file.open(None)
    with pytest.raises(OutputFailed, match=f"Cannot use {loop}: Too many levels of symbolic"):
        await file.read_back()
    with pytest.raises(OutputFailed, match=f"Cannot use {loop}: Too many levels of symbolic"):
        file.finish_packing()
