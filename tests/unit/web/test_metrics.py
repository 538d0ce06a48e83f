"""What a bridge counts, as Prometheus reads it."""

import re

import msgspec

from lykke_cli._version import __version__
from lykke_cli.application.hub_driver import HubStatistics
from lykke_cli.web.metrics import ROW, Metrics


def hub(**figures: float) -> HubStatistics:
    """What a hub tells of itself."""
    none = dict.fromkeys(HubStatistics.__struct_fields__, 0)
    return msgspec.convert(none | figures, HubStatistics)


def figures(metrics: Metrics) -> dict[str, float]:
    """Each by its name and worker, without the prefix: `{"websockets 0": 1.0}`."""
    text = metrics.exposition().decode()
    found = re.findall(r'^lykke_(\w+)\{worker="(\d)"\} (\S+)$', text, re.MULTILINE)
    return {f"{name} {worker}": float(value) for name, worker, value in found}


def test_sockets_and_what_they_do_are_counted() -> None:
    metrics = Metrics()
    for kind in ("websocket", "websocket", "events"):
        metrics.socket_opened(kind)
    metrics.sent(3)
    metrics.sent(4)
    metrics.published()
    metrics.closed_slow()
    metrics.socket_closed("websocket")
    found = figures(metrics)
    assert (found["websockets 0"], found["event_streams 0"]) == (1, 1)
    assert (found["sent_entries_total 0"], found["published_messages_total 0"]) == (7, 1)
    assert found["slow_closes_total 0"] == 1


def test_the_hub_is_asked_whenever_the_figures_are() -> None:
    metrics, told = Metrics(), [hub()]
    metrics.watch(lambda: told[-1])
    assert figures(metrics)["entries_total 0"] == 0
    told.append(hub(entries=9, recovered=2, reconnects=1, users=5, lag=0.25, waiting_reads=3))
    found = figures(metrics)
    assert found["entries_total 0"] == 9
    assert found["recovered_entries_total 0"] == 2
    assert found["redis_reconnects_total 0"] == 1
    assert (found["users 0"], found["lag_seconds 0"]) == (5, 0.25)
    assert found["waiting_database_reads 0"] == 3


def test_every_worker_answers_for_all() -> None:
    cells = [0.0] * 2 * ROW
    first, second = Metrics(cells, 0), Metrics(cells, 1)
    second.watch(lambda: hub(entries=7))
    first.socket_opened("websocket")
    second.socket_opened("websocket")
    second.refresh()
    for metrics in (first, second):
        found = figures(metrics)
        assert (found["websockets 0"], found["websockets 1"]) == (1, 1)
        assert (found["entries_total 0"], found["entries_total 1"]) == (0, 7)


def test_a_worker_in_the_place_of_one_that_died_counts_on_and_has_no_sockets_yet() -> None:
    cells = [0.0] * ROW
    died = Metrics(cells, 0)
    died.watch(lambda: hub(entries=7, users=4))
    died.socket_opened("events")
    died.sent(5)
    died.refresh()
    metrics = Metrics(cells, 0)
    metrics.watch(lambda: hub(entries=2))
    metrics.sent(1)
    found = figures(metrics)
    assert (found["entries_total 0"], found["sent_entries_total 0"]) == (9, 6)
    assert (found["users 0"], found["event_streams 0"]) == (0, 0)


def test_what_is_built_is_told() -> None:
    assert f'version="{__version__}"' in Metrics().exposition().decode()
