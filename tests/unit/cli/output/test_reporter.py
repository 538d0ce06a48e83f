"""What a following command tells the person."""

import io
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len

from lykke_cli.application.batches import live_arrivals
from lykke_cli.application.gateways.pubsub_protocol import Deliveries, Gap
from lykke_cli.application.statuses import Connected, Disconnected
from lykke_cli.cli.output.reporter import MOST_GAPS, Reporter
from lykke_cli.cli.output.terminal import Terminal
from tests.builders import entity, wire


class Screen(io.BytesIO):
    def isatty(self) -> bool:
        return True


def a_reporter(*, with_history: bool = True) -> Reporter:
    terminal = Terminal(Screen(), Screen(), environ={}, columns=80)
    return Reporter(terminal, quiet=False, with_history=with_history, zone=UTC)


Drawn = Callable[[Reporter], str]


@pytest.fixture
def drawn(capsys: pytest.CaptureFixture[str]) -> Drawn:
    """Draws the status line, and gives what stands in it then."""

    def draw(reporter: Reporter) -> str:
        reporter.draw()
        return capsys.readouterr().err.rpartition("\r\x1b[2K")[2]

    return draw


def test_the_status_line_follows_what_happens(drawn: Drawn) -> None:
    user = uuid.uuid4()
    message = Deliveries([f"auditlog:{user}".encode()], [wire(entity(user))])
    reporter = a_reporter()
    assert drawn(reporter) == "○ connecting · 0 entries · 0 recovered"
    reporter.happened(Connected("auditlog:1", None))
    reporter.count(live_arrivals(message))
    assert " · 1 entry · 0 recovered · lag " in drawn(reporter)
    reporter.happened(Disconnected("gone", datetime.now(UTC) - timedelta(seconds=90)))
    assert "○ not connected for 1 min 30 s, trying again · 1 entry" in drawn(reporter)


def test_the_status_line_names_the_node_that_is_followed_where_it_fits(drawn: Drawn) -> None:
    reporter = a_reporter()
    reporter.happened(Connected("auditlog:1", None, "10.0.0.1:7000"))
    assert drawn(reporter).startswith("● at 10.0.0.1:7000 since ")
    reporter.happened(Connected("auditlog:1", None, f"{'h' * 60}:7000"))
    assert drawn(reporter).startswith("● since ")
    assert drawn(reporter).endswith(" · 0 entries · 0 recovered")


def test_the_status_line_tells_of_a_pause_and_of_what_is_sought(drawn: Drawn) -> None:
    reporter = a_reporter()
    reporter.happened(Connected("auditlog:1", None))
    reporter.sought, reporter.hint = "milk", "? keys"
    assert drawn(reporter).endswith("0 recovered · /milk · ? keys")
    reporter.hint = "x" * 80
    assert drawn(reporter).endswith(" · /milk")  # as it would not fit
    reporter.paused = "paused"
    assert drawn(reporter).startswith("paused · 0 entries")
    reporter.typed = "\x1b[31mmil"
    assert drawn(reporter) == r"/\x1b[31mmil"


def test_the_status_line_fits_where_what_is_sought_is_wide(drawn: Drawn) -> None:
    reporter = a_reporter()
    reporter.typed = "検索" * 30 + "-"
    assert drawn(reporter) == "索" + "検索" * 19 + "-"
    reporter.typed = None
    reporter.sought = "検索" * 30
    assert cell_len(drawn(reporter)) <= 79


def test_nothing_is_recovered_where_there_is_no_history(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reporter = a_reporter(with_history=False)
    reporter.happened(Connected("auditlog:1", None))
    reporter.draw()
    reporter.summary()
    assert "recovered" not in capsys.readouterr().err


def test_without_a_history_the_summary_tells_each_gap_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def told(gaps: int, *, with_history: bool) -> list[str]:
        reporter = a_reporter(with_history=with_history)
        reporter.happened(Connected("auditlog:1", None))
        for hour in range(gaps):
            start = datetime(2026, 11, 24, hour, tzinfo=UTC)
            gap = Gap(start, start + timedelta(minutes=1))
            reporter.happened(Connected("auditlog:1", gap))
        capsys.readouterr()
        reporter.summary()
        return capsys.readouterr().err.splitlines()

    first, second, _ = told(2, with_history=False)
    assert first.startswith("lykke: GAP from 00:00:00 to 00:01:00 UTC")
    assert second.startswith("lykke: GAP from 01:00:00 to 01:01:00 UTC")
    assert "1 earlier" in told(MOST_GAPS + 1, with_history=False)[0]
    assert not any("GAP" in line for line in told(2, with_history=True))
