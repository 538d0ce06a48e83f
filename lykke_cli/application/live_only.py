"""What stands for the merge where there is no history.

Where the server keeps what is published, as streams do, it goes on where another run ended. Each
entry is printed exactly once then, as far as it is kept:

* A stream is read in order, and a position covers what was handed out up to it. So whoever goes on
  from there is handed out everything after it, and nothing before.
* Pending in the checkpoint is what was printed and the position does not cover, as the run was
  killed, or ended in the middle of what came together. Each of these comes again, and is dropped.
* They are remembered until then, whatever else comes first, and by the next run too. Only where
  some of the streams was lost do they perhaps never come: then the next run does without them.
"""

from collections.abc import Mapping, Sequence

import msgspec

from lykke_cli.application.batches import as_batch
from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.gateways.pubsub_protocol import Position
from lykke_cli.application.merge import KEPT_IDS, Action, Checkpoint, ReadKind, Save, print_all
from lykke_cli.application.messages import Arrival, Entry
from lykke_cli.application.printed_ids import are_disjoint


def position_in(checkpoint: Checkpoint | None) -> Position | None:
    """Where it says that the streams were read up to; None where it does not."""
    if checkpoint is None or checkpoint.cursor is None:
        return None
    try:
        return msgspec.convert(checkpoint.cursor.data, Position)
    except msgspec.ValidationError:
        return None


class LiveOnly:
    """Drops repeated entries as far as memory goes, `keep` ids at most; gaps stay.

    Nothing is read, so nothing fails, is held back or in doubt. `resume` is where another run
    ended.
    """

    is_failing = False

    def __init__(self, keep: int = KEPT_IDS, *, resume: Checkpoint | None = None) -> None:
        self._keep = keep
        self._latest: dict[str, str] = {}
        self._earlier: dict[str, str] = {}
        self._pending: dict[str, str] = {}
        if resume is not None and resume.cursor is not None:  # without it nothing comes again
            self._pending = dict(resume.pending)
        self._is_whole = True

    def live(self, arrivals: Sequence[Arrival]) -> list[Action]:
        """Messages arrived on the channel."""
        entries = as_batch(arrivals).times()
        if len(entries) == len(arrivals) > 0 and self._are_new(entries):
            self._note(entries)
            return print_all(arrivals)
        return print_all([arrival for arrival in arrivals if self._admits(arrival)])

    def reached(self, position: Position | None) -> list[Action]:
        """What arrived up to here was printed; None where nothing is kept to go on with."""
        if position is None:
            return []
        pending = dict(self._pending) if self._is_whole else {}
        return [Save(Checkpoint(Cursor(msgspec.to_builtins(position)), pending, None))]

    def lost(self) -> None:
        """What is pending may have been among what is not kept any more."""
        self._is_whole = False

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
        is_pending = self._pending.pop(entry.id, None) is not None
        if not (is_pending or self._are_new(entries)):
            return False
        self._note(entries)
        return not is_pending

    def _are_new(self, entries: Mapping[str, str]) -> bool:
        return are_disjoint(entries.keys(), self._pending, self._latest, self._earlier)

    def _note(self, entries: Mapping[str, str]) -> None:
        self._latest.update(entries)
        if len(self._latest) >= self._keep // 2:
            self._earlier, self._latest = self._latest, {}
