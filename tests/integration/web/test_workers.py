"""Workers and the process that keeps them, as real processes."""

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from lykke_cli.web.server import SHORT_DRAIN
from tests.cli_process import environment
from tests.programs import program

DEADLINE = 20.0  # seconds


class Kept:
    """A parent with two workers, line by line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.pids: dict[str, int] = {}
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:  # it ends with the last of them all
            self._lines.put(line.strip())
        self._lines.put("gone")

    def until(self, *wanted: str) -> list[str]:
        """Read on until each of these was said; returns what was said since."""
        said: list[str] = []
        while not {*wanted} <= {*said}:
            said.append(self._lines.get(timeout=DEADLINE))
            if said[-1].startswith("works"):
                _, place, pid = said[-1].split()
                self.pids[place] = int(pid)
                said.append(f"works {place}")
        return said

    def close(self) -> None:
        for pid in (self.process.pid, *self.pids.values()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)


@contextmanager
def keeping(kind: str = "work") -> Iterator[Kept]:
    with subprocess.Popen(
        [*program("keeps_workers"), kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        start_new_session=True,
    ) as process:
        kept = Kept(process)
        try:
            yield kept
        finally:
            kept.close()


def test_one_that_dies_is_followed_by_another_in_its_place() -> None:
    with keeping() as kept:
        kept.until("ready", "works 1")
        before = dict(kept.pids)
        os.kill(before["1"], signal.SIGKILL)
        said = kept.until("works 1")
        (told,) = (line for line in said if line.startswith("told"))
        assert told.startswith(f"told worker 1 (process {before['1']}): it ended with -9")
        assert kept.pids["1"] != before["1"] and kept.pids["0"] == before["0"]


def test_all_are_stopped_with_the_parent() -> None:
    with keeping() as kept:
        kept.until("ready")
        kept.process.send_signal(signal.SIGTERM)
        kept.process.send_signal(signal.SIGTERM)  # as a service manager may
        said = kept.until("gone")
        assert said.index("stopping 20.0") < said.index("stopped 0 20.0")
        assert {"stopped 0 20.0", "stopped 1 20.0", "ended"} <= {*said}
        assert kept.process.wait(DEADLINE) == 0


def test_ctrl_c_on_a_terminal_reaches_them_through_the_parent_alone() -> None:
    with keeping() as kept:
        kept.until("ready")
        os.killpg(kept.process.pid, signal.SIGINT)
        said = kept.until("gone")
        assert {f"stopped 0 {SHORT_DRAIN}", f"stopped 1 {SHORT_DRAIN}", "interrupted"} <= {*said}


def test_a_second_ctrl_c_ends_those_that_take_long() -> None:
    with keeping("hang") as kept:
        kept.until("ready")
        kept.process.send_signal(signal.SIGTERM)
        kept.until("stopped 0 20.0", "stopped 1 20.0")
        kept.process.send_signal(signal.SIGINT)
        assert "interrupted" in kept.until("gone")


def test_a_parent_that_is_killed_leaves_none_behind() -> None:
    with keeping() as kept:
        kept.until("ready", "works 1")
        kept.process.kill()
        assert {"stopped 0 None", "stopped 1 None"} <= {*kept.until("gone")}


def test_what_the_first_cannot_begin_for_is_raised_by_the_parent() -> None:
    with keeping("fail") as kept:
        said = kept.until("gone")
        assert said == ["raised It is not there. Start it.", "ended", "gone"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_they_begin_ends_them_too(number: int) -> None:
    with keeping() as kept:
        kept.until("works 0")
        os.killpg(kept.process.pid, number)  # the other worker is being made, and gets it too
        said = kept.until("gone")
        assert any(line.startswith("stopping") for line in said)
        assert "KeyboardInterrupt" not in said
        assert kept.process.wait(DEADLINE) == 0
