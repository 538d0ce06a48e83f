"""What comes on channels of other types than the audit log's, where they are followed beside it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from lykke_cli.application.batches import live_arrivals
from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.pubsub_protocol import Deliveries
from lykke_cli.application.live_only import LiveOnly
from lykke_cli.application.merge import Action


class Beside:
    """Drops what is repeated there; it has no history."""

    def __init__(self, filters: Filters) -> None:
        self._filters = replace(filters, any_message=True)
        self._merge = LiveOnly()

    def live(self, deliveries: Deliveries) -> list[Action]:
        """They arrived."""
        return self._merge.live(self._filters.select(live_arrivals(deliveries)))


def parts(deliveries: Deliveries) -> Iterator[tuple[bool, Deliveries]]:
    """The deliveries in order, those on the audit log's channels (then True) apart from others."""
    mark, start = f"{AUDIT_LOG}:".encode(), 0
    for is_log, part in groupby(deliveries.channels, lambda name: name.startswith(mark)):
        end = start + len(list(part))
        yield is_log, deliveries[start:end]
        start = end
