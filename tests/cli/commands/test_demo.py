"""`lykke demo`: everything with nothing, and nothing left behind."""

import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from lykke_cli.application import reconciling
from lykke_cli.infrastructure.embedded_servers import EmbeddedServers
from tests.cli_process import DEADLINE, LykkeProcess, call_lykke, command, environment, run_lykke
from tests.servers import wait_until


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A temporary folder of its own, to see what is left in it."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path, prefix="t"))
    return {"TMPDIR": str(folder)}


def demo_servers(folder: str) -> list[int]:
    """The processes that were started with this temporary folder."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TMPDIR={folder}".encode() in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def assert_nothing_is_left(env: dict[str, str]) -> None:
    wait_until(lambda: not demo_servers(env["TMPDIR"]), "its processes end")
    wait_until(lambda: not list(Path(env["TMPDIR"]).glob("lykke-demo-*")), "its folder goes")


def test_it_ends_by_itself_with_everything_seen(env: dict[str, str]) -> None:
    result = run_lykke("demo", "--for", "3s", env=env)
    assert result.status == 0, result.stderr
    summary = re.search(r"(\d+) of anna@example.com, (\d+) seen", result.stderr)
    assert summary is not None
    assert summary[1] == summary[2] == str(len(result.rows))
    assert len({row["id"] for row in result.rows}) == len(result.rows)
    assert "outage: Redis is stopped" in result.stderr
    assert "connected again" in result.stderr
    assert_nothing_is_left(env)


def test_an_outage_that_outlasts_it_is_seen_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though all that was recorded has been read from the database before that."""
    recover = EmbeddedServers.recover

    def recover_slowly(servers: EmbeddedServers) -> None:
        time.sleep(2)  # as on a slow machine
        recover(servers)

    monkeypatch.setattr(EmbeddedServers, "recover", recover_slowly)
    monkeypatch.setattr(reconciling, "AWAY_INTERVAL", 0.1)
    result = call_lykke("demo", "--for", "1s")
    assert result.status == 0, result.stderr
    assert "connected again" in result.stderr


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
        (signal.SIGKILL, -9),
    ],
)
def test_it_cleans_up_however_it_ends(env: dict[str, str], number: int, status: int) -> None:
    with LykkeProcess("demo", "--for", "1m", env=env) as demo:
        demo.line()
        assert demo_servers(env["TMPDIR"])
        result = demo.stop(number)
    assert result.status == status
    assert "Traceback" not in result.stderr
    assert_nothing_is_left(env)


def test_with_a_page_it_is_looked_at_in_a_browser_until_ctrl_c(env: dict[str, str]) -> None:
    with LykkeProcess("demo", "--web", env=env) as demo:
        demo.wait_for("the page is at http")
        found = re.search(r"at (http://\S+)/#token=(\S+)", demo.stderr)
        assert found is not None
        with urllib.request.urlopen(found[1], timeout=DEADLINE) as page:
            assert b"<title>lykke</title>" in page.read()
        asked = urllib.request.Request(f"{found[1]}/users")
        asked.add_header("Authorization", f"Bearer {found[2]}")
        with urllib.request.urlopen(asked, timeout=DEADLINE) as users:
            assert b"anna@example.com" in users.read()
        result = demo.stop()
    assert result.status == 130
    assert "Traceback" not in result.stderr
    assert_nothing_is_left(env)


def test_killed_while_it_starts_it_leaves_nothing(env: dict[str, str]) -> None:
    with LykkeProcess("demo", env=env) as demo:
        wait_until(lambda: bool(list(Path(env["TMPDIR"]).iterdir())), "its folder is there")
        demo.stop(signal.SIGKILL)
    assert_nothing_is_left(env)


def test_a_reader_that_has_enough_ends_it_at_once(env: dict[str, str]) -> None:
    with subprocess.Popen(
        command("demo", "--for", "1h"), env=environment(env), stdout=subprocess.PIPE
    ) as demo:
        assert demo.stdout is not None
        demo.stdout.readline()
        demo.stdout.close()
        assert demo.wait(DEADLINE) == 0
    assert_nothing_is_left(env)


def test_keep_serves_another_terminal(env: dict[str, str]) -> None:
    with LykkeProcess("demo", "--keep", env=env) as demo:
        lines = [demo.line().decode() for _ in range(2)]
        exports = dict(re.findall(r"export (\w+)=(\S+)", "".join(lines)))
        assert exports.keys() == {"REDIS_URL", "DATABASE_URL"}
        demo.wait_for("lykke tail")
        user = re.search(r"lykke tail (\S+)", demo.stderr)
        assert user is not None
        tailed = run_lykke("tail", user[1], "-n", 2, "--count", 3, env=exports)
        assert len(tailed.rows) == 3
        assert run_lykke("publish", user[1], "--require-subscribers", 0, env=exports).status == 0
        assert len(run_lykke("backfill", user[1], "--limit", 3, env=exports).rows) == 3
        assert run_lykke("record", user[1], "X", env=exports).status == 0
        month = run_lykke("backfill", user[1], "--since", "30d", env=exports).rows
        assert len({row["occurred_at"][:10] for row in month}) >= 28
        emails = {row["email"] for row in run_lykke("users", env=exports).rows}
        assert len(emails) == 10
        assert demo.stop().status == 130
        assert demo.stdout.decode() == "".join(lines)  # nothing scrolls the exports away
    assert_nothing_is_left(env)
