"""What a bridge counts, in the form that Prometheus reads.

Any worker answers for all of them: each writes its figures into a row of one table in shared
memory, and the answer has every row, with the label `worker`. What a worker that died had counted
stays, and the one in its place counts on from there. (prometheus_client's own way, a file for each
process in a folder, cannot ask the hub for its figures when they are read.)
"""

import platform
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from lykke_cli._version import __version__
from lykke_cli.application.hub_driver import HubStatistics

CONTENT_TYPE = CONTENT_TYPE_LATEST
_HUB_COUNTERS = {
    "entries": "Audit log entries that came, live or from the database.",
    "recovered": "Entries among them that only the database told of.",
    "reconnects": "Times that the connection to Redis was made anew.",
}
_COUNTERS = _HUB_COUNTERS | {
    "sent": "Entries sent to clients.",
    "published": "Messages of clients that were published.",
    "slow_closes": "Connections closed because their client took nothing.",
}
_HUB_GAUGES = {
    "users": "Users that clients follow.",
    "lag": "Seconds for which something may have been missing; 0 while nothing may be.",
    "waiting_reads": "Reads that wait for one of the connections to the database.",
}
_GAUGES = _HUB_GAUGES | {
    "websocket": "WebSockets that are open.",
    "events": "Streams of Server-Sent Events that are open.",
}
_NAMES = {  # in Prometheus; those of counters end with _total there
    "entries": "lykke_entries",
    "recovered": "lykke_recovered_entries",
    "reconnects": "lykke_redis_reconnects",
    "sent": "lykke_sent_entries",
    "published": "lykke_published_messages",
    "slow_closes": "lykke_slow_closes",
    "users": "lykke_users",
    "lag": "lykke_lag_seconds",
    "waiting_reads": "lykke_waiting_database_reads",
    "websocket": "lykke_websockets",
    "events": "lykke_event_streams",
}
_CELL = {figure: cell for cell, figure in enumerate(_NAMES)}
ROW = len(_CELL)
"""Cells of the table for each worker."""


class Cells(Protocol):
    """The table: a list, or an array of doubles in shared memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> float: ...
    def __setitem__(self, index: int, value: float, /) -> None: ...


class Metrics(Collector):
    """The figures of one worker, which writes them, and of all others, which it reads.

    Without `cells` it is the only one.
    """

    def __init__(
        self, cells: Cells | None = None, worker: int = 0, *, is_shown: bool = True
    ) -> None:
        self.is_shown = is_shown
        """Whether the bridge tells them."""
        self._cells: Cells = [0.0] * ROW if cells is None else cells
        self._start = worker * ROW
        self._hub: Callable[[], HubStatistics] | None = None
        for gauge in _GAUGES:  # those of a worker that died in this place
            self._set(gauge, 0)
        self._before = {counter: self._get(counter) for counter in _HUB_COUNTERS}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def watch(self, hub: Callable[[], HubStatistics]) -> None:
        """Take the hub's figures from here."""
        self._hub = hub

    def socket_opened(self, kind: Literal["websocket", "events"]) -> None:
        """A client came."""
        self._add(kind, 1)

    def socket_closed(self, kind: Literal["websocket", "events"]) -> None:
        """A client went, whatever the reason."""
        self._add(kind, -1)

    def closed_slow(self) -> None:
        """A client is sent away because it takes nothing; `socket_closed` comes too."""
        self._add("slow_closes", 1)

    def sent(self, entries: int) -> None:
        """So many entries were handed to one client's connection."""
        self._add("sent", entries)

    def published(self) -> None:
        """A client's broadcast or acknowledgment was published."""
        self._add("published", 1)

    def refresh(self) -> None:
        """Write down the hub's figures, for the other workers to read."""
        if self._hub is None:
            return
        statistics = self._hub()
        for counter, before in self._before.items():
            self._set(counter, before + getattr(statistics, counter))
        for gauge in _HUB_GAUGES:
            self._set(gauge, getattr(statistics, gauge))

    def exposition(self) -> bytes:
        """All figures as text, of CONTENT_TYPE."""
        self.refresh()
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client: every figure of every worker."""
        about = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("lykke_build", "What runs here.", value=about)
        for figure, text in (_COUNTERS | _GAUGES).items():
            family = CounterMetricFamily if figure in _COUNTERS else GaugeMetricFamily
            metric = family(_NAMES[figure], text, labels=["worker"])
            for worker in range(len(self._cells) // ROW):
                metric.add_metric([str(worker)], self._cells[worker * ROW + _CELL[figure]])
            yield metric

    def _get(self, figure: str) -> float:
        return self._cells[self._start + _CELL[figure]]

    def _set(self, figure: str, value: float) -> None:
        self._cells[self._start + _CELL[figure]] = value

    def _add(self, figure: str, number: int) -> None:
        self._cells[self._start + _CELL[figure]] += number
