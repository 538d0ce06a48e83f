"""What is kept is for its owner alone and stays where it is; what others wrote is left as it is."""

import os
import pwd
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from lykke_cli.application.errors import OutputFailed
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.files import recent
from lykke_cli.infrastructure.files.cursor_file import CursorFile, state_folder
from tests.builders import entity, insert
from tests.cli_process import call_lykke
from tests.servers import run_apart

USER = entity().user_id
STORE = {"user": str(USER)}

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes and links are those of POSIX")


@pytest.fixture(params=[0o000, 0o022, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def env(sqlite_url: str) -> dict[str, str]:
    run_apart(lambda: insert(sqlite_url, [entity(USER)]))
    return {"DATABASE_URL": sqlite_url}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_kept_is_private_whatever_the_umask(umask: int) -> None:
    with CursorFile(STORE) as store:
        store.save({"a": 1})
        recent.remember([USER], "tail", ["X"])
        assert store.load() == [{"a": 1}]
    lykke = recent.recent_path().parent
    kept = list(lykke.rglob("*"))
    assert {path.suffix for path in kept if path.is_file()} == {".json", ".lock"}
    assert {mode(path) for path in kept if path.is_file()} == {0o600}
    assert mode(lykke) == mode(state_folder()) == 0o700


def test_a_command_leaves_nothing_that_others_may_read(env: dict[str, str], tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        target = tmp_path / "out.ndjson"
        assert call_lykke("backfill", USER, "--to-file", target, env=env).status == 0
    finally:
        os.umask(before)
    assert mode(target) == 0o666  # what is asked for is as the umask says
    assert {mode(path) for path in state_folder().iterdir()} == {0o600}


@pytest.mark.parametrize("suffix", [".json", ".lock"])
def test_a_symbolic_link_out_of_the_state_folder_is_not_followed(
    suffix: str, tmp_path: Path
) -> None:
    with CursorFile(STORE) as store:
        store.save({})
    [path] = state_folder().glob("*.json")
    victim = tmp_path / "victim"
    victim.write_text("not ours")
    link = path.with_suffix(suffix)
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    with pytest.raises(OutputFailed, match="symbolic links"), CursorFile(STORE) as store:
        store.load()
        store.save({"a": 1})
    assert victim.read_text() == "not ours"


def test_a_symbolic_link_where_a_place_is_prepared_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("not ours")
    with CursorFile(STORE) as store:
        store.save({"a": 1})
        [path] = state_folder().glob("*.json")
        path.with_name(f".{path.name}.{os.getpid()}").symlink_to(victim)
        store.save({"a": 2})
        assert store.load() == [{"a": 2}]
    assert victim.read_text() == "not ours"
    assert not path.is_symlink()


def test_a_state_folder_that_is_a_link_is_not_used(env: dict[str, str], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    state_folder().parent.mkdir(parents=True)
    state_folder().symlink_to(elsewhere)
    result = call_lykke("backfill", USER, env=env)
    assert result.status == ExitCode.BAD_INPUT
    assert "symbolic link" in result.stderr
    assert list(elsewhere.iterdir()) == []


def test_the_list_of_recents_follows_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    recent.remember([USER], "tail", ["X"])
    recent.recent_path().rename(victim)
    before = victim.read_bytes()
    recent.recent_path().symlink_to(victim)
    assert recent.users() == {}
    recent.remember((), "", ["Y"])
    assert victim.read_bytes() == before
    assert recent.activity_types() == ["Y"]


@pytest.mark.parametrize(
    "content", [b"hello\n", b"[1]\n", b"{\n  'a': 1\n}\n", b"\n", b"\x00\x01", b"id,user_id\n"]
)
def test_to_file_leaves_a_file_of_another_kind_alone(
    content: bytes, env: dict[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "notes"
    target.write_bytes(content)
    result = call_lykke("backfill", USER, "--to-file", target, env=env)
    assert result.status == ExitCode.BAD_INPUT
    assert "something other than NDJSON" in result.stderr
    assert target.read_bytes() == content


def test_an_unknown_user_without_a_home_is_told_of_in_one_line(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_: object) -> NoReturn:
        raise KeyError

    for name in [name for name in os.environ if name == "HOME" or name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    result = call_lykke("backfill", USER, "--since", "1d", env=env)
    assert result.status == 0
    assert len(result.rows) == 1
    for arguments in ((), ("--to-file", tmp_path / "out.ndjson")):
        result = call_lykke("backfill", USER, *arguments, env=env)
        assert result.status == ExitCode.BAD_INPUT
        assert "set XDG_STATE_HOME" in result.stderr
        assert result.stderr.count("\n") == 1
    report = call_lykke("doctor", "-o", "json", env=env | {"REDIS_URL": "redis://127.0.0.1:1"})
    assert "set XDG_STATE_HOME" in report.stdout.decode()
    assert "bug" not in report.stderr


@pytest.mark.parametrize("form", ["svg", "png"])
def test_a_picture_replaces_only_a_picture_of_ours(
    form: str, env: dict[str, str], tmp_path: Path
) -> None:
    target = tmp_path / f"a.{form}"
    for foreign in (b"<svg/>\n", b"\x89PNG\r\n\x1a\n"):
        target.write_bytes(foreign)
        result = call_lykke("stats", USER, f"--{form}", target, env=env)
        assert result.status == ExitCode.BAD_INPUT
        assert "not of lykke's making" in result.stderr
        assert target.read_bytes() == foreign
    target.unlink()
    for _ in range(2):
        assert call_lykke("stats", USER, f"--{form}", target, env=env).status == 0
    if form == "png":
        assert_chunks(target.read_bytes()[8:])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".a")] == []


def assert_chunks(data: bytes) -> None:
    """Each chunk's length and checksum are right."""
    while data:
        length = struct.unpack(">I", data[:4])[0]
        body, check, data = (
            data[4 : 8 + length],
            data[8 + length : 12 + length],
            data[12 + length :],
        )
        assert zlib.crc32(body) == struct.unpack(">I", check)[0]
