"""`lykke demo`: everything with nothing, and nothing left behind."""

import os
import re
import signal
import tempfile
from pathlib import Path

import pytest

from tests.cli_process import LykkeProcess, run_lykke
from tests.servers import wait_until


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A temporary folder of its own, to see what is left in it."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path, prefix="t"))
    return {"TMPDIR": str(folder)}


def demo_servers(folder: str) -> list[int]:
    """The processes that work in this demo's folder."""
    found = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if folder.encode() in status.read_bytes():
                found.append(int(status.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def assert_nothing_is_left(env: dict[str, str]) -> None:
    wait_until(lambda: not demo_servers(env["TMPDIR"]), "its processes end")
    wait_until(lambda: not list(Path(env["TMPDIR"]).glob("lykke-demo-*")), "its folder goes")


def test_it_ends_by_itself_with_everything_seen(env: dict[str, str]) -> None:
    result = run_lykke("demo", "--for", "3s", env=env)
    assert result.status == 0, result.stderr
    summary = re.search(r"of the tailed user (\d+) recorded, (\d+) seen", result.stderr)
    assert summary is not None
    assert summary[1] == summary[2] == str(len(result.rows))
    assert len({row["id"] for row in result.rows}) == len(result.rows)
    assert "outage: Redis is stopped" in result.stderr
    assert "connected again" in result.stderr
    assert_nothing_is_left(env)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_it_cleans_up_however_it_ends(env: dict[str, str], number: int, status: int) -> None:
    with LykkeProcess("demo", "--for", "1m", env=env) as demo:
        demo.line()
        assert demo_servers(env["TMPDIR"])
        result = demo.stop(number)
    assert result.status == status
    assert "Traceback" not in result.stderr
    assert_nothing_is_left(env)


def test_keep_serves_another_terminal(env: dict[str, str]) -> None:
    with LykkeProcess("demo", "--keep", env=env) as demo:
        demo.wait_for("then for example")
        exports = dict(re.findall(r"export (\w+)=(\S+)", demo.stderr))
        assert exports.keys() == {"REDIS_URL", "DATABASE_URL"}
        user = re.search(r"lykke tail (\S+)", demo.stderr)
        assert user is not None
        tailed = run_lykke("tail", user[1], "-n", 2, "--count", 3, env=exports)
        assert len(tailed.rows) == 3
        assert run_lykke("publish", user[1], "--require-subscribers", 1, env=exports).status == 0
        assert len(run_lykke("backfill", user[1], "--limit", 3, env=exports).rows) == 3
        assert run_lykke("record", user[1], "X", env=exports).status == 0
        assert demo.stop().status == 130
    assert_nothing_is_left(env)
