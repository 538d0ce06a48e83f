"""What stands for the merge where there is no history."""

from collections.abc import Mapping, Sequence

from lykke_cli.application.batches import as_batch
from lykke_cli.application.merge import KEPT_IDS, Action, ReadKind, print_all
from lykke_cli.application.messages import Arrival, Entry
from lykke_cli.application.printed_ids import are_disjoint


class LiveOnly:
    """Drops repeated entries as far as memory goes, `keep` ids at most; gaps stay.

    Nothing is read, so nothing fails, is held back or in doubt.
    """

    is_failing = False

    def __init__(self, keep: int = KEPT_IDS) -> None:
        self._keep = keep
        self._latest: dict[str, str] = {}
        self._earlier: dict[str, str] = {}

    def live(self, arrivals: Sequence[Arrival]) -> list[Action]:
        """Messages arrived on the channel."""
        entries = as_batch(arrivals).times()
        if len(entries) == len(arrivals) > 0 and self._are_new(entries):
            self._note(entries)
            return print_all(arrivals)
        return print_all([arrival for arrival in arrivals if self._admits(arrival)])

    def subscribed(self) -> list[Action]:
        return []

    def disconnected(self) -> list[Action]:
        return []

    def tick(self, kind: ReadKind = ReadKind.RECENT) -> list[Action]:
        return []

    def _admits(self, arrival: Arrival) -> bool:
        entry = arrival.message
        if not isinstance(entry, Entry):
            return True
        entries = {entry.id: entry.occurred_at}
        if not self._are_new(entries):
            return False
        self._note(entries)
        return True

    def _are_new(self, entries: Mapping[str, str]) -> bool:
        return are_disjoint(entries.keys(), self._latest, self._earlier)

    def _note(self, entries: Mapping[str, str]) -> None:
        self._latest.update(entries)
        if len(self._latest) >= self._keep // 2:
            self._earlier, self._latest = self._latest, {}
